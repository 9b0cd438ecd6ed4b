"""IDX, the file format of MNIST: a typed header of sizes, then the values, big-endian; often gzipped.

The header is four bytes (0, 0, a type code, the number of dimensions) and one unsigned 32-bit size per dimension.
"""

import gzip
import math
import os
import struct
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, SupportsIndex

import numpy as np
from numpy.typing import NDArray

from brainrdl.files.budget import check_claim
from brainrdl.files.store import atomic_path

_TYPES = {0x08: ">u1", 0x09: ">i1", 0x0B: ">i2", 0x0C: ">i4", 0x0D: ">f4", 0x0E: ">f8"}
_GZIP_MAGIC = b"\x1f\x8b"
# Deflate cannot expand a file more than this: a header that claims more is refused before anything is read.
_LARGEST_EXPANSION = 1032
_CHUNK = 2**20


def read_idx(path: str | os.PathLike[str], *, max_bytes: SupportsIndex | None = None) -> NDArray[Any]:
    """Read an array from an IDX file.

    Parameters
    ----------
    path : path
        The file; its first bytes say whether it is gzipped, not its name.
    max_bytes : int, optional
        Memory that the values may take; a quarter of the machine's by default.

    Returns
    -------
    ndarray
        Values of the header's shape and type, in the machine's byte order.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    ValueError
        If the file is not IDX, its header claims more than it holds or than `max_bytes`, bytes follow the last value,
        or its compression is broken. Memory use is bound by what the file can hold, whatever its header claims.

    Examples
    --------
    >>> import numpy as np, tempfile
    >>> from pathlib import Path
    >>> from brainrdl.data import read_idx, write_idx
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     write_idx(np.array([5, 0, 4], dtype=np.uint8), Path(folder, "labels-idx1-ubyte.gz"))
    ...     read_idx(Path(folder, "labels-idx1-ubyte.gz"))
    array([5, 0, 4], dtype=uint8)
    """
    path = Path(path)
    with _opened(path) as (file, largest):
        shape, kind = _read_header(file, path)
        # before anything is allocated: a damaged header may claim any size
        expected = math.prod(shape) * kind.itemsize
        if expected > largest:
            raise ValueError(
                f"{path}: the header claims {expected} bytes (shape {shape}), more than the file can hold; "
                "it is damaged or not IDX: fetch it again"
            )
        # a sparse file holds terabytes of nothing, and a compressed one a thousand times its size
        check_claim(expected, str(path), max_bytes, detail=f"(shape {shape})")
        values = _read_at_most(file, expected + 1)
    if len(values) < expected:
        raise ValueError(
            f"{path}: the header claims {expected} bytes (shape {shape}), the file holds {len(values)}; "
            "it is cut off: fetch it again"
        )
    if len(values) > expected:
        raise ValueError(
            f"{path}: bytes follow the {expected} that the header announces (shape {shape}); "
            "it is damaged or not IDX: fetch it again"
        )
    try:
        return np.frombuffer(values, dtype=kind).astype(kind.newbyteorder("="), copy=False).reshape(shape)
    except ValueError as error:  # of more dimensions than NumPy has, or with a 0 beside sizes beyond its range
        raise ValueError(
            f"{path}: the header's shape {shape} is none of an array ({error}); it is damaged or not IDX: "
            "fetch it again"
        ) from error


def write_idx(array: NDArray[Any], path: str | os.PathLike[str]) -> None:
    r"""Write an array as an IDX file.

    Parameters
    ----------
    array : ndarray
        Array of a type that IDX knows: uint8, int8, int16, int32, float32 or float64; one dimension or more.
    path : path
        File to write; gzipped if the name ends in ``.gz`` (equal arrays give equal files).

    Raises
    ------
    ValueError
        For another type, no dimension, or a size that the format cannot state.

    Examples
    --------
    >>> import numpy as np, tempfile
    >>> from pathlib import Path
    >>> from brainrdl.data import write_idx
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     write_idx(np.array([5, 0, 4], dtype=np.uint8), Path(folder, "labels-idx1-ubyte"))
    ...     Path(folder, "labels-idx1-ubyte").read_bytes()
    b'\x00\x00\x08\x01\x00\x00\x00\x03\x05\x00\x04'
    """
    path = Path(path)
    codes = {np.dtype(kind): code for code, kind in _TYPES.items()}
    kind = array.dtype.newbyteorder(">")
    if kind not in codes:
        known = ", ".join(np.dtype(name).name for name in _TYPES.values())
        raise ValueError(f"{path}: IDX cannot hold {array.dtype}; convert the array to one of {known}")
    if not 1 <= array.ndim <= 255 or max(array.shape) >= 2**32:
        raise ValueError(f"{path}: IDX cannot hold shape {array.shape}; it takes 1 to 255 dimensions, each below 2³²")
    header = struct.pack(f">BBBB{array.ndim}I", 0, 0, codes[kind], array.ndim, *array.shape)
    content = header + array.astype(kind).tobytes()
    with atomic_path(path) as temporary:
        # without the time of writing, so that equal arrays give equal files
        temporary.write_bytes(gzip.compress(content, mtime=0) if path.suffix == ".gz" else content)


@contextmanager
def _opened(path: Path) -> Iterator[tuple[IO[bytes] | gzip.GzipFile, int]]:
    """Open a file, gzipped or not; count the bytes it can hold; make broken compression a ValueError."""
    size = path.stat().st_size
    with path.open("rb") as raw:
        zipped = raw.read(2) == _GZIP_MAGIC
        raw.seek(0)
        if not zipped:
            yield raw, size
            return
        try:
            with gzip.GzipFile(fileobj=raw) as file:
                yield file, size * _LARGEST_EXPANSION
        except (EOFError, gzip.BadGzipFile, zlib.error) as error:
            raise ValueError(f"{path}: the gzip data are cut off or damaged ({error}); fetch the file again") from error


def _read_header(file: IO[bytes] | gzip.GzipFile, path: Path) -> tuple[tuple[int, ...], np.dtype[Any]]:
    magic = file.read(4)
    if len(magic) < 4 or magic[:2] != b"\0\0" or magic[2] not in _TYPES or magic[3] == 0:
        raise ValueError(
            f"{path}: starts with the bytes {magic.hex(' ') or '(none)'}, expected an IDX header "
            "(00 00, a type code 08 to 0e, the number of dimensions); is it the right file?"
        )
    sizes = file.read(4 * magic[3])
    if len(sizes) < 4 * magic[3]:
        raise ValueError(f"{path}: the header ends within its {magic[3]} sizes; the file is cut off: fetch it again")
    return struct.unpack(f">{magic[3]}I", sizes), np.dtype(_TYPES[magic[2]])


def _read_at_most(file: IO[bytes] | gzip.GzipFile, limit: int) -> bytearray:
    """Read in steps, so that memory follows what there is and not what was claimed."""
    content = bytearray()
    while len(content) < limit and (chunk := file.read(min(_CHUNK, limit - len(content)))):
        content += chunk
    return content
