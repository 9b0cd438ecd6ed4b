"""MATLAB's version 7.3, which is HDF5: read into the variables that `brainrdl.exchange.matlab` describes.

Arrays are stored transposed. A cell or struct array is an array of references: one data set for a cell array, one
per field for a struct array; a single struct is a group with the fields themselves. Characters are UTF-16 numbers.
"""

from pathlib import Path
from typing import Any

import h5py
import numpy as np

from brainrdl.exchange.hdf5 import read_hdf5, text
from brainrdl.exchange.parts import unpadded
from brainrdl.files.budget import Tally

_DEEPEST = 20
_PER_CELL = 500  # bytes that a cell takes, however little is in it


def read_variables(path: Path, max_bytes: int | None = None) -> dict[str, Any]:
    """Read all variables, besides MATLAB's own (``#refs#`` and such)."""

    def read(file: h5py.File) -> dict[str, Any]:
        tally = Tally(str(path), max_bytes)
        return {name: _value(item, path, tally, 0) for name, item in file.items() if not name.startswith("#")}

    return read_hdf5(path, read, max_bytes)


def _value(item: h5py.Group | h5py.Dataset, path: Path, tally: Tally, depth: int) -> Any:
    if depth > _DEEPEST:
        raise ValueError(
            f"{path}: cells or structs lie more than {_DEEPEST} deep, or contain themselves; expected RDMs"
        )
    # counted as often as it is referred to: cells of cells multiply
    tally.add(_PER_CELL + (0 if isinstance(item, h5py.Group) else item.nbytes))
    if isinstance(item, h5py.Group):
        return _structs(item, path, tally, depth)
    kind = text(item.attrs.get("MATLAB_class", b""))
    if "MATLAB_empty" in item.attrs:
        return [] if kind == "char" else np.empty((0, 0))
    if _is_reference(item):
        return _followed(item, path, tally, depth)
    values = item[()]
    values = values.T if isinstance(values, np.ndarray) else np.asarray(values)
    if kind == "char":
        rows = [row.astype("<u2").tobytes().decode("utf-16-le") for row in np.atleast_2d(values)]
        return rows if len(rows) == 1 else unpadded(rows)
    return values


def _is_reference(item: h5py.Dataset) -> bool:
    # strings have the same NumPy type, of Python objects
    return bool(h5py.check_ref_dtype(item.dtype) is h5py.Reference)


def _followed(item: h5py.Dataset, path: Path, tally: Tally, depth: int) -> np.ndarray:
    references = item[()].T
    cells = np.empty(references.shape, dtype=object)
    for cell in np.ndindex(references.shape):
        if not references[cell]:
            raise ValueError(f"{path}: {item.name} holds an empty reference; the file is damaged")
        cells[cell] = _value(item.file[references[cell]], path, tally, depth + 1)
    return cells


def _structs(group: h5py.Group, path: Path, tally: Tally, depth: int) -> np.ndarray:
    """A struct array: fields that are all references of one shape, else a single struct."""
    fields = dict(group.items())
    is_array = bool(fields) and all(
        isinstance(field, h5py.Dataset) and _is_reference(field) and "MATLAB_class" not in field.attrs
        for field in fields.values()
    )
    if not is_array:
        single = np.empty((1, 1), dtype=object)
        single[0, 0] = {name: _value(field, path, tally, depth + 1) for name, field in fields.items()}
        return single
    columns = {name: _followed(field, path, tally, depth) for name, field in fields.items()}
    shapes = {column.shape for column in columns.values()}
    if len(shapes) > 1:
        raise ValueError(f"{path}: the fields of the struct array {group.name} differ in shape; the file is damaged")
    structs = np.empty(shapes.pop(), dtype=object)
    for cell in np.ndindex(structs.shape):
        structs[cell] = {name: column[cell] for name, column in columns.items()}
    return structs
