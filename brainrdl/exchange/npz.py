"""Arrays of .npz files, read without pickle and never more than the file can hold."""

import math
import sys
import zipfile
from collections.abc import Iterable
from pathlib import Path
from typing import IO, Any, final

import numpy as np

from brainrdl.files.budget import BudgetError, Tally

_LARGEST_EXPANSION = 1032  # of deflate
_MOST_MEMBERS = 5000
_PER_MEMBER = 1000  # bytes that a member takes, however little is in it


@final
class Npz:
    """The members of an .npz file; ValueError if it is not one, is cut off, or has two members of one name.

    All members together may not claim more than the budget, since a reader may ask for each. ``comment`` is the
    archive's.
    """

    def __init__(self, path: Path, max_bytes: int | None = None) -> None:
        self.path = path
        self.comment = b""
        self.objects: set[str] = set()
        self._headers: dict[str, zipfile.ZipInfo] = {}
        copies: list[str] = []
        try:
            with zipfile.ZipFile(path) as archive:
                self.comment = archive.comment
                tally = Tally(str(path), max_bytes)
                if len(archive.infolist()) > _MOST_MEMBERS:
                    raise _ClaimError(
                        f"{path} has {len(archive.infolist())} members, expected at most {_MOST_MEMBERS}; save the "
                        "arrays that are needed alone"
                    )
                for info in archive.infolist():
                    tally.add(info.file_size, place=f"{path}: {info.filename!r}")
                    tally.add(_PER_MEMBER)
                    name = info.filename.removesuffix(".npy")
                    if name in self._headers:
                        copies.append(name)
                    with archive.open(info) as file:
                        if _header(file)[1].hasobject:
                            self.objects.add(name)
                    self._headers[name] = info
        except BudgetError:
            raise
        except _ClaimError as error:
            raise ValueError(str(error)) from None
        except Exception as error:  # zipfile, and NumPy's parser of headers, fail in any way
            raise self._broken() from error
        if copies:
            raise ValueError(
                f"{path} has several members named {copies[0]!r}, of which one would hide the others; write it again "
                "with one"
            )

    @property
    def names(self) -> list[str]:
        """The members' names."""
        return list(self._headers)

    def __contains__(self, name: str) -> bool:
        """True if there is a member of that name."""
        return name in self._headers

    def __getitem__(self, name: str) -> np.ndarray:
        """Read a member; ValueError if it is pickled, damaged, or claims more than the file holds."""
        return self.read([name])[name]

    def read(self, names: Iterable[str]) -> dict[str, np.ndarray]:
        """Read several members, the archive's list of them once; ValueError as for one."""
        try:
            archive = zipfile.ZipFile(self.path)
        except Exception as error:
            raise self._broken() from error
        with archive:
            return {name: self._member(archive, name) for name in names}

    def _member(self, archive: zipfile.ZipFile, name: str) -> np.ndarray:
        if name in self.objects:
            raise ValueError(
                f"{self.path}: {name!r} is an array of Python objects, which only pickle can read, and pickle can run "
                "any code; save it again as numbers or strings where you trust it: np.savez(path, "
                f"{name}=np.asarray(old[{name!r}].tolist())) with old = np.load(..., allow_pickle=True)"
            )
        info = self._headers[name]
        try:
            with archive.open(info) as file:
                shape, dtype, header = _header(file)
                claimed, stored = math.prod(shape) * dtype.itemsize, info.file_size - header
                if claimed > stored or info.file_size > info.compress_size * _LARGEST_EXPANSION:
                    raise _ClaimError(
                        f"{self.path}: {name!r} claims {claimed} bytes (shape {shape}), more than the {stored} stored "
                        "for it; the file is damaged: write it again"
                    )
            # from its start again, now that the claim is known to be true
            with archive.open(info) as file:
                array: np.ndarray = np.lib.format.read_array(file, allow_pickle=False)
            _check_text(array)
        except _ClaimError as error:
            raise ValueError(str(error)) from None
        except Exception as error:
            raise self._broken() from error
        return array

    def _broken(self) -> ValueError:
        return ValueError(f"{self.path} is not an .npz file, or is cut off or damaged; fetch or write it again")


@final
class _ClaimError(Exception):
    pass


def _check_text(array: np.ndarray) -> None:
    """Raise a ValueError for numbers that stand for no character, of which NumPy makes no string."""
    if array.dtype.kind == "U" and array.nbytes:
        characters = np.ascontiguousarray(array).reshape(-1).view(array.dtype.byteorder + "u4")
        if (characters > sys.maxunicode).any():
            raise ValueError("a character beyond Unicode")


def _header(file: IO[bytes]) -> tuple[tuple[int, ...], np.dtype[Any], int]:
    version = np.lib.format.read_magic(file)
    read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    shape, _, dtype = read(file)
    return shape, dtype, file.tell()
