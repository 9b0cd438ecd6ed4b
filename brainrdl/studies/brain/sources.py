"""Files that studies and cards name: measured RDMs, one region of them, categories."""

import csv
import os
from collections.abc import Sequence
from pathlib import Path

import xarray as xr

from brainrdl.arguments import name_some
from brainrdl.data.objects92 import RDMSet, load_objects92
from brainrdl.exchange import read_rdms

OBJECTS92 = "objects92"
"""What the 92 object images are called; ``objects92:SET`` is a set of their RDMs, see `load_objects92`."""

_COLUMNS = ("stimulus", "category")


def read_measured(name: str | os.PathLike[str], data_dir: str | os.PathLike[str] | None = None) -> xr.DataArray:
    """Read RDMs from a file, or a set of RDMs of the 92 object images by name (``objects92:human``).

    Raises
    ------
    FileNotFoundError, ValueError
        As `read_rdms` and `load_objects92`.
    """
    source, separator, which = str(name).partition(":")
    if separator and source == OBJECTS92:
        known: RDMSet = which  # type: ignore[assignment] # load_objects92 refuses others, and lists those there are
        return load_objects92(known, data_dir)
    if not Path(name).exists():
        raise FileNotFoundError(f"there is no file {name}; name a file of RDMs, or objects92:human")
    return read_rdms(name)


def of_region(rdms: xr.DataArray, roi: str | None, place: str | os.PathLike[str]) -> xr.DataArray:
    """The RDMs of one region; `place` is what to call them in an error.

    Raises
    ------
    ValueError
        If there is no such region, or several and none is named.
    """
    rois = [str(name) for name in rdms["roi"].values.tolist()] if "roi" in rdms.coords else []
    there = ", ".join(dict.fromkeys(rois))
    if roi is None:
        if len(set(rois)) > 1:
            raise ValueError(f"{place} holds several regions, {there}; name one: roi (on the command line --roi)")
        return rdms
    if not rois:
        raise ValueError(f"{place} names no regions, and {roi!r} is asked for; leave roi out")
    if roi not in rois:
        raise ValueError(f"{place} has no region {roi!r}; it has {there}")
    return rdms.isel(rdm=[number for number, name in enumerate(rois) if name == roi])


def read_categories(path: str | os.PathLike[str], ids: Sequence[str]) -> dict[str, str]:
    """Read the category of each stimulus from a table (.csv) with the columns ``stimulus`` and ``category``.

    Returns
    -------
    dict of str
        In the order of `ids`; others in the table are not looked at.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    ValueError
        If it is no such table, lacks a stimulus, or names one twice.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"categories: there is no file {path}; expected a table (.csv) of stimulus,category")
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.DictReader(file)
            columns, rows = list(reader.fieldnames or ()), list(reader)
    except (UnicodeDecodeError, csv.Error) as error:
        raise ValueError(f"{path} is no table of stimulus,category: {error}") from error
    if not set(_COLUMNS) <= set(columns):
        raise ValueError(f"{path} has the columns {', '.join(columns) or 'none'}; expected stimulus and category")
    of: dict[str, str] = {}
    for number, row in enumerate(rows, 2):
        stimulus, category = (row[column] for column in _COLUMNS)
        if not stimulus or not category:
            raise ValueError(f"{path}: line {number} lacks a stimulus or its category")
        if stimulus in of:
            raise ValueError(f"{path}: line {number} names {stimulus!r} a second time; keep one of them")
        of[stimulus] = category
    if lacking := [stimulus for stimulus in ids if stimulus not in of]:
        raise ValueError(f"{path} has no category for {len(lacking)} of {len(ids)} stimuli: {name_some(lacking)}")
    return {stimulus: of[stimulus] for stimulus in ids}
