"""Plain arrays of distances, the commonest public form: .npy files, and variables of .mat, .npz, HDF5 and netCDF.

They say nothing of themselves but their shape: squares (n, n) or vectors of n(n-1)/2 pairs, one RDM or several. The
axes of several come before a square's own, as NumPy lays them out, or behind them, as MATLAB does, and are read with
the last one the fastest.
"""

import math
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from brainrdl.arguments import name_some
from brainrdl.exchange.parts import Coord, Parts, numbered
from brainrdl.files.budget import BudgetError, check_claim
from brainrdl.ids import nearest

_ROUNDING = 1e-6


def read_npy(path: Path, max_bytes: int | None = None) -> Parts:
    """Read the one array of an .npy file, without pickle and no more than the file holds."""
    array, claim, stored = None, 0, 0
    try:
        with path.open("rb") as file:
            version = np.lib.format.read_magic(file)
            read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
            shape, _, dtype = read(file)
            claim, stored = math.prod(shape) * dtype.itemsize, path.stat().st_size - file.tell()
            if not dtype.hasobject and claim <= stored:
                check_claim(claim, str(path), max_bytes, detail=f"(shape {shape})")
                file.seek(0)
                array = np.lib.format.read_array(file, allow_pickle=False)
    except BudgetError:
        raise
    except Exception as error:  # NumPy's parser of headers fails in any way
        raise ValueError(f"{path} is not an .npy file, or is cut off or damaged; fetch or write it again") from error
    if dtype.hasobject:
        raise ValueError(
            f"{path} is an array of Python objects, which only pickle can read, and pickle can run any code; save it "
            "again as numbers where you trust it"
        )
    if array is None:
        raise ValueError(
            f"{path} claims {claim} bytes (shape {shape}), more than the {stored} stored; it is cut off or damaged: "
            "fetch or write it again"
        )
    return from_array(array, str(path), path.stem)


def pick(variables: Mapping[str, Any], variable: str, place: str) -> Any:
    """Take a variable by its name; ``a.b`` is the field ``b`` of a single struct (or group) ``a``."""
    if variable in variables:
        return variables[variable]
    first, dot, rest = variable.partition(".")
    inner = variables.get(first) if dot else None
    if isinstance(inner, np.ndarray) and inner.dtype == object and inner.size == 1:  # MATLAB's single struct
        inner = inner.flat[0]
    if isinstance(inner, Mapping):
        return pick(inner, rest, f"{first!r} of {place}")
    raise UnknownVariableError(
        f"{place} has no variable {variable!r}; there are {name_some(variables, 10) or 'none'}"
        f"{nearest([variable], variables)}"
    )


class UnknownVariableError(ValueError):
    """The error of a file that has no such variable."""


def from_array(array: Any, place: str, name: str) -> Parts:
    """Lay a plain array out as RDMs, called `name` (and numbered) where the caller names none.

    A diagonal of NaN alone, a stimulus's distance to itself that nobody measured, becomes 0. ValueError, which begins
    with `place`, if it has no RDM's shape.
    """
    cells = array.reshape(-1).tolist() if isinstance(array, np.ndarray) and array.dtype == object else None
    if cells and all(isinstance(cell, np.ndarray) and cell.shape == cells[0].shape for cell in cells):
        array = np.stack(cells)  # a cell array of RDMs
    if not isinstance(array, np.ndarray) or array.dtype.kind not in "biuf":
        kind = f"an array of {array.dtype}" if isinstance(array, np.ndarray) else "text"
        kind = "a struct or cell array" if cells is not None else kind
        raise ValueError(f"{place} is {kind}; expected an array of real numbers, the distances")
    found = _laid_out(array)
    if found is None:
        raise ValueError(
            f"{place} has shape {array.shape}, in which there are no RDMs; expected (n, n), (rdms, n, n), (n, n, "
            "rdms), or vectors of n(n-1)/2 pairs: (pairs,), (rdms, pairs)"
        )
    values, axes = found
    coords: dict[str, Coord] = {}
    if len(axes) > 1:
        places = np.indices(axes).reshape(len(axes), -1)
        coords = {f"axis_{number}": (("rdm",), along) for number, along in enumerate(places)}
    if values.ndim == 3 and values.dtype.kind == "f":
        unmeasured = np.isnan(np.diagonal(values, axis1=1, axis2=2)).all(axis=1)
        values = np.where(unmeasured[:, None, None] & np.eye(values.shape[1], dtype=bool), 0.0, values)
    return Parts(values, default_names=numbered(name, len(values)), coords=coords)


def likely(variables: Mapping[str, Any]) -> list[str]:
    """Names of the plain arrays that look like RDMs: square, symmetric, 0 on the diagonal and not elsewhere."""
    return [name for name, value in variables.items() if _is_rdm(value)]


def possible(variables: Mapping[str, Any]) -> list[str]:
    """Names of the plain arrays that have the shape of RDMs of three stimuli or more."""
    return [
        name
        for name, value in variables.items()
        if isinstance(value, np.ndarray)
        and value.dtype.kind in "iuf"
        and (found := _laid_out(value)) is not None
        and found[0].shape[-1] >= 3
    ]


def shapes(variables: Mapping[str, Any], names: Iterable[str]) -> str:
    """Write out names and shapes for a message."""
    return ", ".join(f"{name!r} ({' × '.join(map(str, np.shape(variables[name])))})" for name in names)


def _laid_out(array: np.ndarray) -> tuple[np.ndarray, tuple[int, ...]] | None:
    """RDMs (rdms, n, n) or (rdms, pairs), and the lengths of the axes that became the first; None if there are none."""
    if array.ndim == 0:
        return None
    if array.ndim == 2 and 1 in array.shape:  # as MATLAB keeps a vector
        array = array.reshape(-1)
    if array.ndim == 1:
        return (array[None], (1,)) if _is_condensed(array.size) else None
    if array.ndim == 2 and array.shape[0] != array.shape[1]:
        if _is_condensed(array.shape[1]):
            return array, array.shape[:1]
        return (array.T, array.shape[1:]) if _is_condensed(array.shape[0]) else None
    first, last = array.shape[0] == array.shape[1], array.shape[-2] == array.shape[-1]
    if not array.size or not (first or last):
        return None
    behind = np.moveaxis(array, (0, 1), (-2, -1))
    if first and (not last or (not _is_symmetric(array) and _is_symmetric(behind))):
        array = behind
    return array.reshape(-1, *array.shape[-2:]), array.shape[:-2] or (1,)


def _is_condensed(size: int) -> bool:
    n = (1 + math.isqrt(1 + 8 * size)) // 2
    return size > 0 and n * (n - 1) // 2 == size


def _is_symmetric(squares: np.ndarray) -> bool:
    return bool(np.allclose(squares, squares.swapaxes(-1, -2), rtol=_ROUNDING, atol=0, equal_nan=True))


def _is_rdm(value: Any) -> bool:
    if not isinstance(value, np.ndarray) or value.dtype.kind not in "iuf" or value.ndim < 2:
        return False
    found = _laid_out(value)
    if found is None or found[0].ndim != 3 or found[0].shape[-1] < 3:
        return False
    squares = found[0]
    return (
        not np.nan_to_num(np.diagonal(squares, axis1=1, axis2=2)).any()
        and bool(np.nan_to_num(squares).any())
        and _is_symmetric(squares)
    )
