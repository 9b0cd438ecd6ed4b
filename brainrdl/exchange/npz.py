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
                    raise BudgetError(
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
            self._check_claim(archive, name)
            # from its start again, now that the claim is known to be true
            with archive.open(info) as file:
                array: np.ndarray = np.lib.format.read_array(file, allow_pickle=False)
            _check_text(array)
        except BudgetError:
            raise
        except Exception as error:
            raise self._broken() from error
        return array

    def check_claims(self) -> None:
        """Raise a BudgetError for a member that claims more than is stored for it."""
        with zipfile.ZipFile(self.path) as archive:
            for name in self.names:
                if name not in self.objects:
                    self._check_claim(archive, name)

    def _check_claim(self, archive: zipfile.ZipFile, name: str) -> None:
        info = self._headers[name]
        with archive.open(info) as file:
            shape, dtype, header = _header(file)
        claimed, stored = math.prod(shape) * dtype.itemsize, info.file_size - header
        if claimed > stored or info.file_size > info.compress_size * _LARGEST_EXPANSION:
            raise BudgetError(
                f"{self.path}: {name!r} claims {claimed} bytes (shape {shape}), more than the {stored} stored for it; "
                "the file is damaged: write it again"
            )

    def _broken(self) -> ValueError:
        return ValueError(f"{self.path} is not an .npz file, or is cut off or damaged; fetch or write it again")


def load_arrays(path: Path) -> dict[str, np.ndarray]:
    """Read all arrays of an archive of ours by name, without pickle; BudgetError for more than one file may hold.

    What else NumPy's reader raises of a damaged file is the caller's to say.
    """
    try:
        Npz(path).check_claims()
    except BudgetError:
        raise
    except Exception:  # a damaged one, of which NumPy says more
        pass
    # of a damaged archive, np.load would leave the file open unless it is handed an open one
    with path.open("rb") as content:
        file = np.load(content, allow_pickle=False)
        if not isinstance(file, np.lib.npyio.NpzFile):
            raise ValueError("it is one array, and no archive")
        return {name: np.asarray(file[name]) for name in file.files}


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
