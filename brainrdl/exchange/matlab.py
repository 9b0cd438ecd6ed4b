"""MATLAB files: struct arrays of RDMs as the MATLAB RSA toolbox writes them.

One struct per RDM, fields ``RDM`` (square, or a vector), ``name`` and ``color``; an array of them may be ROI ×
subject × session, and is read in that order, the last index fastest. Other fields of one number or text become
coordinates. Versions 5 to 7 are read by SciPy, once `brainrdl.exchange.matlab5` has checked them, 7.3 (HDF5) by
`brainrdl.exchange.matlab73`; both give the same variables: a struct array is an object array of dictionaries, a
char matrix a list of strings.

We write version 5, and add a variable ``brainrdl`` with the labels that structs have no place for. It is matched
by name, so RDMs may be reordered and left out in MATLAB.
"""

import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from brainrdl.exchange.document import Document, to_document
from brainrdl.exchange.matlab5 import broken, readable_variables, stated_seal, write_seal
from brainrdl.exchange.matlab73 import read_variables as read_variables_73
from brainrdl.exchange.missing import PLAIN, MissingError
from brainrdl.exchange.parts import Coord, Parts, toolbox_coords, unpadded, with_texts
from brainrdl.exchange.plain import from_array, likely, pick, possible, shapes
from brainrdl.rdms.layout import DIMS

_OURS = "brainrdl"
_LARGEST = 2**31 - 1


def from_variables(variables: Mapping[str, Any], path: Path, variable: str | None = None) -> Parts:
    """Find the one struct array of RDMs, or plain array, among a file's variables; `variable` names another."""
    ours = Document(_text(variables[_OURS], path), f"the variable {_OURS!r} of {path}") if _OURS in variables else None
    variables = {name: _structs_of_cells(value) for name, value in variables.items() if name != _OURS}
    name = _the_one(variables, path) if variable is None else variable
    chosen = pick(variables, name, str(path))
    if not _is_struct_array(chosen):
        return with_texts(from_array(chosen, f"the variable {name!r} of {path}", name), variables)
    entries = list(chosen.flat)
    values = _stacked([np.asarray(entry["RDM"]) for entry in entries], path)
    names = [_text(entry["name"], path) for entry in entries] if all("name" in entry for entry in entries) else None
    if ours is not None:
        along = ours.coords_of(names or [], f"the variable {_OURS!r} of {path}")
        seal = stated_seal(path)
        return Parts(values, None, ours.stimuli, names, metric=ours.metric, coords=along, attrs=ours.attrs, seal=seal)
    coords = toolbox_coords(names) if names else {}
    fields = {"name": names} if names else {}
    return Parts(values, names=names, name_fields=fields, coords={**_scalar_fields(entries), **coords})


def _the_one(variables: Mapping[str, Any], path: Path) -> str:
    """The name of the variable that alone can be the RDMs: where several could be, it is asked for."""
    structs = [name for name, value in variables.items() if _is_struct_array(value)]
    # the variables of a netCDF file that bears another suffix are none of MATLAB's
    plain, shaped = ([], []) if {*DIMS} <= variables.keys() else (likely(variables), possible(variables))
    if len(structs) > 1 and not plain:
        raise ValueError(
            f"{path} holds several struct arrays with a field 'RDM': {', '.join(map(repr, structs))}; expected one: "
            f"in MATLAB, save('one.mat', '{structs[0]}') keeps a single variable"
        )
    if structs and plain:
        raise MissingError(
            f"{path} holds several variables that could be the RDMs: {', '.join(map(repr, structs))} (struct arrays "
            f"with a field 'RDM'), {shapes(variables, plain)}; choose one by variable=",
            PLAIN,
        )
    only = structs or (shaped if len(shaped) == 1 and (plain or len(variables) == 1) else [])
    if not only:
        known = ", ".join(map(repr, variables)) or "(none)"
        way = f"; choose a plain array by variable=, of {shapes(variables, shaped)}" if shaped else ""
        message = (
            f"{path} holds no struct array with a field 'RDM', as the RSA toolbox writes them; its variables are "
            f"{known}{way}"
        )
        raise MissingError(message, PLAIN) if shaped else ValueError(message)
    return only[0]


def _structs_of_cells(value: Any) -> Any:
    """A cell array of single structs as the struct array that they make."""
    if not isinstance(value, np.ndarray) or value.dtype != object or not value.size:
        return value
    cells = [cell.flat[0] if isinstance(cell, np.ndarray) and cell.size == 1 else None for cell in value.flat]
    if not all(isinstance(cell, dict) and "RDM" in cell for cell in cells):
        return value
    structs = np.empty(value.shape, dtype=object)
    structs.flat[:] = cells
    return structs


def _is_struct_array(value: Any) -> bool:
    return (
        isinstance(value, np.ndarray)
        and value.dtype == object
        and value.size > 0
        and all(isinstance(entry, dict) and "RDM" in entry for entry in value.flat)
    )


def read_variables(path: Path, max_bytes: int | None = None) -> dict[str, Any]:
    """Read all variables of a .mat file: arrays, lists of strings (char matrices), object arrays of dictionaries."""
    with path.open("rb") as file:
        start = file.read(10)
    if start.startswith(b"MATLAB 7.3") or start[:4] == b"\x89HDF":
        return read_variables_73(path, max_bytes)
    from scipy.io import loadmat  # here and below: it takes longer to load than a file of another format to read
    from scipy.io.matlab import MatReadWarning

    names = readable_variables(path, max_bytes)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", MatReadWarning)
            variables = loadmat(path, variable_names=names, chars_as_strings=True, mat_dtype=False)
    except Exception as error:  # what SciPy stumbles over in a damaged file can be anything
        raise broken(path) from error
    return {name: _plain(value) for name, value in variables.items() if not name.startswith("__")}


def _plain(value: Any) -> Any:
    """SciPy's arrays as dictionaries and strings."""
    if not isinstance(value, np.ndarray):
        return value
    if value.dtype.names:
        structs = np.empty(value.shape, dtype=object)
        for cell in np.ndindex(value.shape):
            structs[cell] = {name: _plain(value[cell][name]) for name in value.dtype.names}
        return structs
    if value.dtype.kind == "U":
        texts = value.reshape(-1).tolist()
        return texts if len(texts) == 1 else unpadded(texts)
    if value.dtype == object:
        cells = np.empty(value.shape, dtype=object)
        for cell in np.ndindex(value.shape):
            cells[cell] = _plain(value[cell])
        return cells
    return value


def _text(value: Any, path: Path) -> str:
    if isinstance(value, np.ndarray) and value.dtype == object and value.size == 1:  # a cell of one string
        value = value.flat[0]
    if isinstance(value, list) and len(value) <= 1:
        return str(value[0]) if value else ""
    raise ValueError(f"{path}: a struct's field 'name' is {value!r}; expected a row of characters")


def _stacked(values: list[np.ndarray], path: Path) -> np.ndarray:
    """Squares (rdms, n, n), or vectors (rdms, pairs) whichever way they lie."""
    flat = [value.reshape(-1) if value.ndim == 2 and 1 in value.shape else value for value in values]
    shapes = {value.shape for value in flat}
    if len(shapes) > 1:
        first, second = sorted(shapes)[:2]
        raise ValueError(
            f"{path}: its RDMs differ in shape, {first} and {second}; keep those of one set of stimuli per file"
        )
    return np.stack(flat)


def _scalar_fields(entries: list[dict[str, Any]]) -> dict[str, Coord]:
    """Fields besides the toolbox's own that hold one number or one text in every struct."""
    coords: dict[str, Coord] = {}
    for name in entries[0]:
        column = [entry.get(name) for entry in entries]
        if name in ("RDM", "name", "color"):
            continue
        if all(isinstance(value, list) and len(value) == 1 for value in column):
            coords[name] = (("rdm",), [value[0] for value in column if value])
        elif all(isinstance(value, np.ndarray) and value.dtype.kind in "biuf" and value.size == 1 for value in column):
            coords[name] = (("rdm",), np.array([value.item() for value in column if value is not None]))
    return coords


def write(rdms: xr.DataArray, path: Path) -> None:
    """Write a struct array ``RDMs`` (1, rdms) with square matrices."""
    if rdms.values[0].nbytes > _LARGEST:
        raise ValueError(
            f"a MATLAB file of version 5 cannot hold RDMs of {rdms.sizes['stimulus']} stimuli; write netCDF"
        )
    structs = np.empty((1, rdms.sizes["rdm"]), dtype=[("RDM", object), ("name", object), ("color", object)])
    for row, name in enumerate(rdms["rdm"].values.tolist()):
        structs[0, row] = (rdms.values[row], name, np.zeros((1, 3)))
    from scipy.io import savemat

    savemat(path, {"RDMs": structs, _OURS: to_document(rdms)}, appendmat=False)
    write_seal(rdms, path)
