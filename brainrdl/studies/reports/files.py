"""The files of a study's folder, read for its report: what is missing or damaged is named, and what to do about it."""

import json
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar
from zipfile import BadZipFile

import numpy as np
import pandas as pd
import xarray as xr

from brainrdl.exchange.netcdf import load_netcdf
from brainrdl.exchange.npz import load_arrays
from brainrdl.exchange.seal import check_seal, seal_of
from brainrdl.files.store import load_json

_T = TypeVar("_T")
_DAMAGED = (ValueError, OSError, EOFError, BadZipFile, zlib.error)


def require(folder: Path, names: Sequence[str], study: str, command: str) -> None:
    """Raise a FileNotFoundError that names all `names` which a folder lacks, and the command that leaves them."""
    # all at once, so that one look at the folder settles it
    missing = [name for name in names if not (folder / name).is_file()]
    if missing:
        raise FileNotFoundError(
            f"{folder} lacks {', '.join(missing)}; a report is made from what a {study} leaves in its folder: name the "
            f"folder that {command} wrote into"
        )


def if_there(path: Path, read: Callable[[Path], _T]) -> _T | None:
    """Read a file that a study may do without."""
    return read(path) if path.is_file() else None


@contextmanager
def reading(path: Path, kind: str, *errors: type[Exception]) -> Iterator[None]:
    """Turn what a reader raises of a damaged file into a ValueError that names the file."""
    try:
        yield
    except errors as error:
        raise ValueError(f"{path} is not a {kind}, or is damaged: {error}") from error


def read_json(path: Path) -> Any:
    """Read a JSON file."""
    with reading(path, "JSON file", json.JSONDecodeError, UnicodeDecodeError, RecursionError):
        return load_json(path)


def read_table(path: Path, columns: Sequence[str], text: Sequence[str]) -> pd.DataFrame:
    """Read a CSV file that has at least `columns`; those named by `text` are text, which "007" would not stay else."""
    with reading(path, "CSV file", pd.errors.ParserError, pd.errors.EmptyDataError, UnicodeDecodeError):
        table = pd.read_csv(path, dtype=dict.fromkeys(text, str))
    lacking = [column for column in columns if column not in table]
    if lacking:
        raise ValueError(f"{path} lacks the columns {', '.join(lacking)}; it has {', '.join(table.columns)}")
    return table


def read_arrays(path: Path) -> dict[str, np.ndarray]:
    """Read a file of arrays, by name, without opening pickles; ValueError for more than one file may hold."""
    with reading(path, "file of arrays", *_DAMAGED):
        return load_arrays(path)


def read_array(path: Path) -> xr.DataArray:
    """Read a netCDF file with one labelled array, and compare the seal that RDMs have."""
    with reading(path, "netCDF file with one array", OSError, ValueError):
        dataset = load_netcdf(path)
        (array,) = dataset.data_vars.values()
        check_seal(array, seal_of(dataset.attrs))
        return array
