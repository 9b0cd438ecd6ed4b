"""HDF5 files from anywhere: opened only if all that they claim lies in them, and read in a process of its own.

An HDF5 file can point into other files (external and virtual data, external links), contain itself (a group
within itself), go by so many paths that no one ever walks them all, and claim arrays that it does not hold. All are
refused before anything is read.
"""

import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple, TypeVar, final

import h5py
import numpy as np

from brainrdl.exchange.guarded import guarded
from brainrdl.files.budget import Tally

T = TypeVar("T")

_DEEPEST = 20
_LARGEST_EXPANSION = 1032  # of deflate
_MOST_PATHS = 1000  # beyond those that each lead to something of their own
_MOST_VARIABLES = 2000  # of a netCDF file, each of which xarray takes a millisecond for
_PER_OBJECT = 500  # bytes that an object takes, however little is in it
_EMPTY_DIMENSION = b"This is a netCDF dimension but not a netCDF variable"


def read_hdf5(path: Path, read: Callable[[h5py.File], T], max_bytes: int | None) -> T:
    """Read an HDF5 file as `read` does, in a child process; ValueError if it is damaged or fails a check."""

    def opened_and_read() -> T:
        with opened(path, max_bytes) as file:
            return read(file)

    return guarded(opened_and_read, path, max_bytes)


@contextmanager
def opened(path: Path, max_bytes: int | None, *, netcdf: bool = False) -> Iterator[h5py.File]:
    """Open an HDF5 file for reading, after the checks above; ValueError if it is damaged or fails one.

    To be used within `guarded`. Of a netCDF file, dimensions without values may be longer than the file.
    """
    try:
        file = h5py.File(path, "r")
    except OSError as error:
        raise ValueError(f"{path} is not an HDF5 file, or is cut off; fetch or write it again") from error
    with file:
        try:
            _Check(path, Tally(str(path), max_bytes), netcdf).file(file)
            yield file
        except (OSError, RuntimeError, KeyError) as error:
            raise ValueError(
                f"{path}: its HDF5 data are damaged ({type(error).__name__}); fetch or write it again"
            ) from error


class _Below(NamedTuple):
    """What a group holds, by every path."""

    paths: int
    claimed: int
    depth: int


@final
class _Check:
    """The checks of one file, group by group; a group that goes by several names is walked once, counted each time."""

    def __init__(self, path: Path, tally: Tally, netcdf: bool) -> None:
        self.path, self.tally, self.netcdf = path, tally, netcdf
        self.size = path.stat().st_size
        self.objects = 0
        self.below: dict[int, _Below] = {}

    def file(self, file: h5py.File) -> None:
        whole = self.group(file, (_address(file),))
        if whole.paths > self.objects + _MOST_PATHS:
            raise ValueError(
                f"{self.path}: {whole.paths} paths lead to its {self.objects} groups and data sets; expected a tree of "
                "groups, so copy them into one"
            )
        self.tally.add(whole.claimed)

    def count(self) -> None:
        """Count a group or data set; ValueError for more than a netCDF file of RDMs has."""
        self.objects += 1
        if self.netcdf and self.objects > _MOST_VARIABLES:
            raise ValueError(
                f"{self.path} holds more than {_MOST_VARIABLES} variables, which no file of RDMs does; save the RDMs "
                "alone"
            )

    def group(self, group: h5py.Group, within: tuple[int, ...]) -> _Below:
        paths, claimed, depth = 0, self.attributes(group), 0
        for name in group:
            place = f"{group.name.rstrip('/')}/{name}"
            link = group.get(name, getlink=True)
            if isinstance(link, h5py.ExternalLink):
                raise ValueError(
                    f"{self.path}: {place} is a link into another file, {link.filename!r}, which is not followed; copy "
                    "the data themselves into the file"
                )
            item = group[name]
            paths, claimed = paths + 1, claimed + _PER_OBJECT
            if isinstance(item, h5py.Dataset):
                self.count()
                claimed += self.dataset(item, place) + self.attributes(item)
            elif isinstance(item, h5py.Group):
                found = self.group_below(item, place, within)
                paths, claimed = paths + found.paths, claimed + found.claimed
                depth = max(depth, found.depth + 1)
        if len(within) + depth > _DEEPEST:
            raise self._too_deep(group.name)
        return _Below(paths, claimed, depth)

    def group_below(self, group: h5py.Group, place: str, within: tuple[int, ...]) -> _Below:
        address = _address(group)
        if address in within:
            raise ValueError(f"{self.path}: the group {place} contains itself; expected a tree of groups")
        if address not in self.below:
            if len(within) >= _DEEPEST:
                raise self._too_deep(place)
            self.count()
            self.below[address] = self.group(group, (*within, address))
        return self.below[address]

    def _too_deep(self, place: str) -> ValueError:
        return ValueError(f"{self.path}: groups lie more than {_DEEPEST} deep, at {place}; expected a file of RDMs")

    def dataset(self, data: h5py.Dataset, place: str) -> int:
        """Check a data set, and return the bytes that reading it takes."""
        layout = data.id.get_create_plist()
        if data.is_virtual or layout.get_external_count():
            raise ValueError(
                f"{self.path}: the values of {place} lie in other files, which are not opened; copy the data "
                "themselves into the file"
            )
        if data.shape is None or (self.netcdf and data.attrs.get("NAME", b"").startswith(_EMPTY_DIMENSION)):
            return 0  # nothing claimed, or a netCDF dimension, whose values are never read
        stored = data.id.get_storage_size()
        largest = stored * (_LARGEST_EXPANSION if layout.get_nfilters() else 1)
        if data.nbytes > largest:
            raise ValueError(
                f"{self.path}: {place} claims {data.nbytes} bytes (shape {data.shape}), more than the {stored} stored "
                "for it can hold; the file is damaged: write it again"
            )
        # a chunk is unpacked whole, however little of it is asked for
        chunk = math.prod(data.chunks) * data.dtype.itemsize if data.chunks else 0
        claimed = int(max(data.nbytes, chunk))
        if claimed > self.tally.left:
            self.tally.add(claimed, place=f"{self.path}: {place}", detail=f"(shape {data.shape})")
        return claimed

    def attributes(self, item: h5py.Group | h5py.Dataset) -> int:
        """Check an object's attributes, which are stored as they are, and return the bytes that they take."""
        claimed = 0
        for name in item.attrs:
            attribute = item.attrs.get_id(name)
            size = math.prod(attribute.shape or ()) * attribute.dtype.itemsize
            if size > self.size:
                raise ValueError(
                    f"{self.path}: the attribute {name!r} of {item.name} claims {size} bytes, more than the "
                    f"{self.size} of the file; it is damaged: write it again"
                )
            claimed += size
        return claimed


def _address(group: h5py.Group) -> int:
    return int(h5py.h5o.get_info(group.id).addr)


def text(value: object) -> str:
    """Decode a string as HDF5 gives it, bytes or str."""
    return value.decode() if isinstance(value, bytes) else str(value)


def write_group(group: h5py.Group, content: Mapping[str, Any]) -> None:
    """Write a nested dictionary the way rsatoolbox does: strings as attributes, arrays as data sets."""
    for name, value in content.items():
        if "/" in name or name == ".":
            raise ValueError(f"HDF5 cannot hold the name {name!r}, in which a slash means a group; rename it")
        if isinstance(value, Mapping):
            write_group(group.create_group(name), value)
        elif isinstance(value, str):
            group.attrs[name] = value
        elif isinstance(value, np.ndarray) and value.dtype.kind == "U":
            strings = value.tolist()
            if all(string.isascii() for string in strings):
                group[name] = value.astype("S")
            else:
                # rsatoolbox decodes data sets as ASCII, attributes as UTF-8
                group.attrs.create(name, strings, dtype=h5py.string_dtype())
        else:
            group[name] = value


def read_group(group: h5py.Group) -> dict[str, Any]:
    """Read a group, its data sets and its attributes into one nested dictionary."""
    content: dict[str, Any] = {}
    for name, item in group.items():
        if isinstance(item, h5py.Group):
            content[name] = read_group(item)
        elif isinstance(item, h5py.Dataset):
            content[name] = None if item.shape is None else np.asarray(item[()])
    for name in group.attrs:
        value = group.attrs[name]
        content[name] = None if isinstance(value, h5py.Empty) else value
    return content
