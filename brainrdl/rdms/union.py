"""Labelled RDMs of other stimuli, laid out on those of all: NaN where an RDM has not measured a pair."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import xarray as xr

from brainrdl.ids import alike, difference
from brainrdl.rdms.layout import DIMS


def on_all_stimuli(parts: Sequence[xr.DataArray]) -> list[xr.DataArray]:
    """The same RDMs on the stimuli of all, NaN where unmeasured; those of the same stimuli are as they were."""
    ids = list(dict.fromkeys(stimulus for part in parts for stimulus in part["stimulus"].values.tolist()))
    if all(part.sizes["stimulus"] == len(ids) for part in parts):
        return list(parts)
    if same := alike(ids):
        raise ValueError(
            f"rdms have the stimuli {same[0]!a} and {same[1]!a}, which differ in {difference(*same)} alone; give each "
            "one spelling"
        )
    return [_spread(part, ids, number) for number, part in enumerate(parts)]


def _spread(part: xr.DataArray, ids: Sequence[str], number: int) -> xr.DataArray:
    n, rows = len(ids), [ids.index(stimulus) for stimulus in part["stimulus"].values.tolist()]

    def spread(values: np.ndarray) -> np.ndarray:
        spread = np.full((len(values), n, n), np.nan)
        spread[:, range(n), range(n)] = 0
        spread[np.ix_(range(len(values)), rows, rows)] = values
        return spread

    along: dict[Any, Any] = {}
    for name, coord in part.coords.items():
        if name == "standard_error":
            along[name] = (DIMS, spread(coord.values))
        elif coord.dims == ("rdm",):
            along[name] = ("rdm", coord.values)
        elif name not in DIMS:
            raise ValueError(
                f"rdms[{number}] has the coordinate {name!r} along its stimuli, which the other stimuli may not have; "
                f"leave it out of a union: rdms.drop_vars({name!r})"
            )
    coords = {**along, "stimulus": ids, "stimulus_": ids}
    return xr.DataArray(spread(part.values), coords, DIMS, part.name, part.attrs)
