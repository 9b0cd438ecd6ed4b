"""netCDF, this package's own form: a labelled RDM as xarray writes it, and assemblies of patterns.

A file of arrays along ``presentation`` and ``neuroid`` holds patterns (BrainIO's), see `brainrdl.exchange.assemblies`.
"""

from pathlib import Path

import numpy as np
import xarray as xr

from brainrdl.exchange.guarded import guarded
from brainrdl.exchange.hdf5 import opened
from brainrdl.exchange.parts import Coord, Parts, as_labels
from brainrdl.exchange.seal import KEY, checksum, seal_of
from brainrdl.rdms.layout import DIMS

_CLASSIC = (b"CDF\x01", b"CDF\x02", b"CDF\x05")
_CF = ("_FillValue", "missing_value", "scale_factor", "add_offset", "units", "calendar", "dtype", "coordinates")


def load_netcdf(path: Path, max_bytes: int | None = None) -> xr.Dataset:
    """Load a netCDF file of version 3 or 4, in a child process; ValueError where it is none, or is damaged."""
    import h5netcdf  # noqa: F401 - here, as each child would import it anew, and look for xarray's other readers

    xr.backends.list_engines()
    return guarded(lambda: _load(path, max_bytes), path, max_bytes)


def _load(path: Path, max_bytes: int | None) -> xr.Dataset:
    with path.open("rb") as file:
        is_classic = file.read(4) in _CLASSIC
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
        raise ValueError(
            f"{path} holds no variable 'dissimilarity', and no patterns with dimensions presentation and neuroid; its "
            f"variables are {', '.join(map(repr, dataset.variables)) or '(none)'}"
        )
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
    sealed.to_netcdf(path, engine="h5netcdf", encoding={rdms.name: {"zlib": True, "shuffle": True, "dtype": dtype}})
