"""MATLAB files of version 5 to 7: checked to be what they claim before SciPy reads them.

SciPy's reader trusts the sizes in such a file; where they are wrong it may read memory that is not the file's, or
crash. So the file is walked once: every element lies within the one that holds it, and every array has as many
values as its dimensions say. Variables of other classes (objects, function handles, sparse matrices) are left unread.
"""

import math
import struct
import zlib
from collections.abc import Iterator
from pathlib import Path

import xarray as xr

from brainrdl.exchange.seal import Seal, seal_in_text, seal_text
from brainrdl.files.budget import BudgetError, Tally

_HEADER, _TEXT = 128, 116
_MAGIC = b"MATLAB 5.0 MAT-file "
_DEEPEST = 20  # the toolbox nests two deep; a file made to do harm may nest until the stack is full
_PER_ELEMENT = 500  # bytes that an element takes once it is an object, however little is in it
_MATRIX, _COMPRESSED = 14, 15
_INT8, _INT32, _UINT32, _UTF8 = 1, 5, 6, 16
_SIZES = {1: 1, 2: 1, 3: 2, 4: 2, 5: 4, 6: 4, 7: 4, 9: 8, 12: 8, 13: 8}
_TEXT_SIZES = {1: 1, 2: 1, 4: 2, 16: 1, 17: 2, 18: 4}
_CELL, _STRUCT, _CHAR, _NUMBERS = 1, 2, 4, range(6, 16)
_IS_COMPLEX = 0x0800

Element = tuple[int, memoryview]


def readable_variables(path: Path, max_bytes: int | None = None) -> list[str]:
    """Check a file, and name the variables that SciPy can read; ValueError if it is not of version 5–7, or damaged."""
    tally = Tally(str(path), max_bytes)
    tally.add(path.stat().st_size)
    content = memoryview(path.read_bytes())
    mark = bytes(content[126:128])
    if mark not in (b"IM", b"MI"):
        raise broken(path)
    order = "<" if mark == b"IM" else ">"
    names, offset = [], _HEADER
    try:
        while offset < len(content):
            whole = offset + 8 <= len(content)  # a tag of 8 bytes, of which a cut may leave fewer
            kind, claimed = struct.unpack_from(order + "II", content, offset) if whole else (0, 8)
            if offset + 8 + claimed > len(content):
                raise _CutOffError(
                    f"{path}: a variable claims {claimed} bytes, the file holds "
                    f"{max(len(content) - offset - 8, 0)} more; it is cut off: fetch or write it again"
                )
            data = content[offset + 8 : offset + 8 + claimed]
            if kind == _COMPRESSED:
                (kind, data), *more = _elements(memoryview(_inflated(data, tally)), order, tally)
                if more:
                    raise ValueError("several variables in one")
            if kind != _MATRIX:
                raise ValueError(f"a variable of type {kind}")
            name, is_readable = _check_matrix(data, order, 0, tally)
            names += [name] if is_readable else []
            offset += 8 + claimed
    except (_CutOffError, BudgetError):
        raise
    except (ValueError, struct.error, zlib.error, IndexError) as error:
        raise broken(path) from error
    return names


def stated_seal(path: Path) -> Seal | None:
    """Find the seal in the text that a file begins with, which MATLAB and SciPy write anew."""
    with path.open("rb") as file:
        return seal_in_text(file.read(_TEXT), "the text at its start, by saving the variables anew")


def write_seal(rdms: xr.DataArray, path: Path) -> None:
    """Write the seal of RDMs into the text that a file begins with."""
    with path.open("r+b") as file:
        file.write((_MAGIC + seal_text(rdms)).ljust(_TEXT))


def broken(path: Path) -> ValueError:
    """Say that a file cannot be read as MATLAB's."""
    return ValueError(f"{path} is not a MATLAB file of version 5 to 7.3, or is damaged; fetch or write it again")


class _CutOffError(ValueError):
    pass


def _inflated(data: memoryview, tally: Tally) -> bytes:
    stream = zlib.decompressobj()
    most = tally.left // 2  # it is unpacked here, and once more by SciPy
    inflated = stream.decompress(data, most + 1)
    tally.add(2 * len(inflated))
    if not stream.eof:
        raise ValueError("a compressed variable without an end")
    return inflated


def _elements(data: memoryview, order: str, tally: Tally) -> Iterator[Element]:
    """The elements one after the other: type and content."""
    offset = 0
    while offset < len(data):
        (first,) = struct.unpack_from(order + "I", data, offset)
        if first >> 16:  # up to four bytes within the tag
            kind, size, start, step = first & 0xFFFF, first >> 16, offset + 4, 8
            if size > 4:
                raise ValueError("a short element of more than four bytes")
        else:
            (size,) = struct.unpack_from(order + "I", data, offset + 4)
            kind, start, step = first, offset + 8, 8 + -(-size // 8) * 8
        if start + size > len(data):
            raise ValueError("an element that ends after what holds it")
        tally.add(_PER_ELEMENT)
        yield kind, data[start : start + size]
        offset += step


def _check_matrix(data: memoryview, order: str, depth: int, tally: Tally) -> tuple[str, bool]:
    """Check an array, and return its name and whether SciPy can read it."""
    if not len(data):
        return "", True  # an empty field or cell
    if depth > _DEEPEST:
        raise ValueError("arrays within arrays without an end")
    parts = list(_elements(data, order, tally))
    flags = struct.unpack(order + "II", _of(parts[0], _UINT32))[0]
    kind = flags & 0xFF
    if kind not in (_CELL, _STRUCT, _CHAR, *_NUMBERS):
        return "", False
    dims = struct.unpack(f"{order}{len(_of(parts[1], _INT32)) // 4}i", parts[1][1])
    name = bytes(_of(parts[2], _INT8)).decode("latin-1")
    if len(dims) < 2 or min(dims) < 0:
        raise ValueError(f"dimensions {dims}")
    count, rest = math.prod(dims), parts[3:]
    if kind in _NUMBERS:
        _check_numbers(rest, count, 2 if flags & _IS_COMPLEX else 1)
    elif kind == _CHAR:
        _check_text(rest, count)
    else:
        if kind == _STRUCT:
            (length,) = struct.unpack(order + "i", _of(rest[0], _INT32))
            names = _of(rest[1], _INT8)
            if length < 1 or len(names) % length:
                raise ValueError("names of fields that do not fill their place")
            count, rest = count * (len(names) // length), rest[2:]
        if len(rest) != count:
            raise ValueError(f"{len(rest)} cells or fields where {count} are claimed")
        for part in rest:
            if not _check_matrix(_of(part, _MATRIX), order, depth + 1, tally)[1]:
                return name, False
    return name, True


def _check_numbers(parts: list[Element], count: int, n_parts: int) -> None:
    if len(parts) != n_parts or any(len(data) != count * _SIZES.get(kind, -1) for kind, data in parts):
        raise ValueError(f"numbers that are not the {count} claimed")


def _check_text(parts: list[Element], count: int) -> None:
    if len(parts) > 1 or (count and not parts):
        raise ValueError("text in several parts")
    for kind, data in parts:
        length = len(bytes(data).decode()) if kind == _UTF8 else len(data) / _TEXT_SIZES.get(kind, -1)
        if length != count:
            raise ValueError(f"text that is not the {count} characters claimed")


def _of(element: Element, kind: int) -> memoryview:
    if element[0] != kind:
        raise ValueError(f"an element of type {element[0]} where {kind} belongs")
    return element[1]
