"""HDF5 files from anywhere: opened only if all that they claim lies in them.

An HDF5 file can point into other files (external and virtual data, external links), contain itself (a group
within itself), and claim arrays that it does not hold. All are refused before anything is read.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import h5py
import numpy as np

_DEEPEST = 20
_LARGEST_EXPANSION = 1032  # of deflate
_EMPTY_DIMENSION = b"This is a netCDF dimension but not a netCDF variable"


@contextmanager
def opened(path: Path) -> Iterator[h5py.File]:
    """Open an HDF5 file for reading, after the checks above; ValueError if it is damaged or fails one."""
    try:
        file = h5py.File(path, "r")
    except OSError as error:
        raise ValueError(f"{path} is not an HDF5 file, or is cut off; fetch or write it again") from error
    with file:
        try:
            _check(file, path)
            yield file
        except (OSError, RuntimeError, KeyError) as error:
            raise ValueError(
                f"{path}: its HDF5 data are damaged ({type(error).__name__}); fetch or write it again"
            ) from error


def _check(file: h5py.File, path: Path) -> None:
    seen = set()
    waiting: list[tuple[h5py.Group, tuple[int, ...]]] = [(file, (_address(file),))]
    while waiting:
        group, within = waiting.pop()
        if len(within) > _DEEPEST:
            raise ValueError(f"{path}: groups lie more than {_DEEPEST} deep, at {group.name}; expected a file of RDMs")
        for name in group:
            place = f"{group.name.rstrip('/')}/{name}"
            link = group.get(name, getlink=True)
            if isinstance(link, h5py.ExternalLink):
                raise ValueError(
                    f"{path}: {place} is a link into another file, {link.filename!r}, which is not followed; copy "
                    "the data themselves into the file"
                )
            item = group[name]
            if isinstance(item, h5py.Dataset):
                _check_dataset(item, path, place)
            elif isinstance(item, h5py.Group):
                address = _address(item)
                if address in within:
                    raise ValueError(f"{path}: the group {place} contains itself; expected a tree of groups")
                if address not in seen:  # a group may go by several names, and is checked once
                    seen.add(address)
                    waiting.append((item, (*within, address)))


def _check_dataset(data: h5py.Dataset, path: Path, place: str) -> None:
    layout = data.id.get_create_plist()
    if data.is_virtual or layout.get_external_count():
        raise ValueError(
            f"{path}: the values of {place} lie in other files, which are not opened; copy the data themselves into "
            "the file"
        )
    if data.shape is None or data.attrs.get("NAME", b"").startswith(_EMPTY_DIMENSION):
        return  # nothing claimed, or a netCDF dimension, whose values are never read
    stored = data.id.get_storage_size()
    largest = stored * (_LARGEST_EXPANSION if layout.get_nfilters() else 1)
    if data.nbytes > largest:
        raise ValueError(
            f"{path}: {place} claims {data.nbytes} bytes (shape {data.shape}), more than the {stored} stored for it "
            "can hold; the file is damaged: write it again"
        )


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
