"""netCDF, this package's own form: a labelled RDM as xarray writes it, and assemblies of patterns.

A file of arrays along ``presentation`` and ``neuroid`` holds patterns (BrainIO's), see `brainrdl.exchange.assemblies`.
"""

from collections.abc import Hashable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from brainrdl.exchange.guarded import guarded
from brainrdl.exchange.hdf5 import opened
from brainrdl.exchange.missing import MissingError
from brainrdl.exchange.parts import Coord, Parts, as_labels
from brainrdl.exchange.plain import from_array, pick, possible, shapes
from brainrdl.exchange.seal import KEY, checksum, seal_of
from brainrdl.rdms.layout import DIMS

_CLASSIC = (b"CDF\x01", b"CDF\x02", b"CDF\x05")
_CLASSIC_PER_SECOND = 20_000_000  # bytes: its arrays are read as they lie
_CF = ("_FillValue", "missing_value", "scale_factor", "add_offset", "units", "calendar", "dtype", "coordinates")


def load_netcdf(path: Path, max_bytes: int | None = None) -> xr.Dataset:
    """Load a netCDF file of version 3 or 4, in a child process; ValueError where it is none, or is damaged."""
    import h5netcdf  # noqa: F401 - here, as each child would import it anew, and look for xarray's other readers

    xr.backends.list_engines()
    with path.open("rb") as file:
        is_classic = file.read(4) in _CLASSIC
    speed = {"bytes_per_second": _CLASSIC_PER_SECOND} if is_classic else {}
    return guarded(lambda: _load(path, max_bytes, is_classic), path, max_bytes, **speed)


def _load(path: Path, max_bytes: int | None, is_classic: bool) -> xr.Dataset:
    if not is_classic:
        with opened(path, max_bytes, netcdf=True):  # checks that all it claims lies in it
            pass
    try:
        with xr.open_dataset(path, engine="scipy" if is_classic else "h5netcdf") as dataset:
            return dataset.load()
    except (OSError, EOFError, RuntimeError, TypeError, ValueError, KeyError, IndexError, AttributeError) as error:
        raise ValueError(f"{path} is not a netCDF file, or is damaged; fetch or write it again") from error


def read_parts(dataset: xr.Dataset, path: Path) -> Parts:
    """Take a labelled RDM out of a file's content."""
    if "dissimilarity" not in dataset:
        arrays = {str(name): array.values for name, array in dataset.data_vars.items()}
        way = f"; choose a plain array by variable=, of {shapes(arrays, found)}" if (found := possible(arrays)) else ""
        message = (
            f"{path} holds no variable 'dissimilarity', and no patterns with dimensions presentation and neuroid; its "
            f"variables are {', '.join(map(repr, dataset.variables)) or '(none)'}{way}"
        )
        raise MissingError(message, ("metric",)) if way else ValueError(message)
    array = dataset["dissimilarity"]
    if array.dims != DIMS:
        raise ValueError(f"{path}: 'dissimilarity' has dimensions {array.dims}, expected {DIMS}")
    stimuli, partners, names = (
        as_labels(array[dim].values.tolist(), f"{path}: coordinate {dim!r}") if dim in array.coords else None
        for dim in ("stimulus", "stimulus_", "rdm")
    )
    if stimuli != partners:
        raise ValueError(f"{path}: coordinates 'stimulus' and 'stimulus_' differ; an RDM has one order for both axes")
    coords: dict[str, Coord] = {
        str(name): (tuple(map(str, coord.dims)), _decoded(coord.values, f"{path}: coordinate {str(name)!r}"))
        for name, coord in array.coords.items()
        if name not in DIMS
    }
    attrs = {str(name): value for name, value in array.attrs.items()}
    metric = attrs.pop("metric", None)
    seal = seal_of(dataset.attrs)
    return Parts(array.values, None, stimuli, names, metric=metric, coords=coords, attrs=attrs, seal=seal)


def read_variable(dataset: xr.Dataset, variable: str, path: Path) -> Parts:
    """Take a plain array of distances out of a file's content, with the ids that are its coordinates."""
    array = pick({str(name): array for name, array in dataset.data_vars.items()}, variable, str(path))
    if array.dims == DIMS:
        attrs = dataset.attrs if variable == "dissimilarity" else {}  # the seal is of that one
        return read_parts(array.to_dataset(name="dissimilarity").assign_attrs(attrs), path)
    parts = from_array(array.values, f"the variable {variable!r} of {path}", variable)
    labelled = {
        str(dim): as_labels(array[dim].values.tolist(), f"{path}: coordinate {str(dim)!r}")
        for dim in array.dims
        if dim in array.coords and array[dim].dtype.kind in "OUSTi"
    }
    if parts.is_condensed:
        return parts
    square = array.dims[-2:] if array.sizes[array.dims[-1]] == array.sizes[array.dims[-2]] else array.dims[:2]
    # whole numbers name subjects, but stimuli rather their place
    stimuli = [labelled[str(dim)] for dim in square if str(dim) in labelled and array[dim].dtype.kind != "i"]
    if len(stimuli) == 2 and stimuli[0] != stimuli[1]:
        raise ValueError(
            f"{path}: coordinates {square[0]!r} and {square[1]!r} of {variable!r} differ; an RDM has one order for "
            "both axes"
        )
    (axis, *more) = [str(dim) for dim in array.dims if dim not in square] or [""]
    if axis in labelled and not more:  # an axis of one kind, such as subject, whose labels name the RDMs
        coords: dict[str, Coord] = {} if axis == "rdm" else {axis: (("rdm",), labelled[axis])}
        parts = replace(parts, default_names=labelled[axis], coords=coords)
    return replace(parts, stimuli=stimuli[0] if stimuli else None)


def _decoded(values: np.ndarray, place: str) -> np.ndarray:
    """Byte strings as text; all else as it is."""
    is_bytes = values.ndim == 1 and all(isinstance(value, bytes) for value in values.tolist())
    return np.array(as_labels(values.tolist(), place), dtype=np.str_) if is_bytes and values.size else values


def write(rdms: xr.DataArray, path: Path, *, dtype: str = "float64") -> None:
    """Write a labelled RDM with everything that it carries, deflated; `dtype` is how the distances are stored."""
    reserved = [name for name in rdms.attrs if name in _CF]
    if reserved:
        raise ValueError(
            f"attribute {reserved[0]!r} has a meaning of its own in netCDF, which would change the values or be lost; "
            "rename it"
        )
    sealed = rdms.to_dataset().assign_attrs({KEY: checksum(rdms.astype(dtype, keep_attrs=True))})
    write_dataset(sealed, path, {rdms.name: {"zlib": True, "shuffle": True, "dtype": dtype}})


def write_dataset(dataset: xr.Dataset, path: Path, encoding: Mapping[Hashable, Any] | None = None) -> None:
    """Write a netCDF file, by way of memory: on a full disk the HDF5 library crashes."""
    path.write_bytes(dataset.to_netcdf(engine="h5netcdf", encoding=encoding))
