"""Patterns in BrainIO's form, presentation × neuroid (× time_bin), as RDMs.

The presentations of one stimulus (coordinate ``stimulus_id``, in older files ``image_id``) are averaged, then
`brainrdl.rdm` compares the mean patterns, for each time bin by itself.
"""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import xarray as xr

from brainrdl.arguments import name_some
from brainrdl.exchange.missing import MissingError
from brainrdl.exchange.parts import Coord, Given, Parts, as_labels
from brainrdl.ids import alike, difference
from brainrdl.known import METRICS

_ID_COORDS = ("stimulus_id", "image_id")
_DIMS = ("presentation", "neuroid", "time_bin")


def find_assembly(dataset: xr.Dataset) -> xr.DataArray | None:
    """The array of patterns in a file, where there is one."""
    found = [array for array in dataset.data_vars.values() if {"presentation", "neuroid"} <= set(array.dims)]
    return found[0] if len(found) == 1 else None


def read_parts(assembly: xr.DataArray, given: Given, path: Path) -> Parts:
    """Turn patterns into RDMs; ValueError without a metric for patterns, without ids, or if a value is not finite."""
    if given.metric not in METRICS:
        raise MissingError(
            f"{path} holds patterns, which a metric turns into RDMs; give metric=, one of {', '.join(METRICS)}"
        )
    extra = [str(dim) for dim in assembly.dims if dim not in _DIMS]
    if extra:
        raise ValueError(
            f"{path}: the patterns have a dimension {extra[0]!r}; expected presentation × neuroid (× time_bin)"
        )
    named = given.stimuli if isinstance(given.stimuli, str) and given.stimuli in assembly.coords else None
    there = [name for name in _ID_COORDS if name in assembly.coords]
    if named is None and len(there) > 1:
        (a, _), (b, _) = (pd.factorize(assembly[name].values) for name in there)
        if not np.array_equal(a, b):
            raise ValueError(
                f"{path}: {there[0]!r} and {there[1]!r} put different presentations together; choose one by stimuli=, "
                f"such as {there[0]!r}"
            )
    field = named or next(iter(there), None)
    if field is None:
        raise ValueError(
            f"{path}: presentations have no coordinate 'stimulus_id' (or 'image_id'), so stimuli are not known"
        )
    if "time_bin" not in assembly.dims:  # the patterns of one bin, which give one RDM
        assembly = assembly.expand_dims("time_bin")
    patterns = np.asarray(assembly.transpose("time_bin", "presentation", "neuroid").values, dtype=np.float64)
    ids = as_labels(assembly[field].values.tolist(), f"{path}: coordinate {field!r}")
    finite = np.asarray(np.isfinite(patterns).all(axis=(0, 2))).tolist()
    broken = [stimulus for stimulus, is_finite in zip(ids, finite, strict=True) if not is_finite]
    if broken:
        raise ValueError(
            f"{path}: patterns hold NaN or infinite values, for stimulus {name_some(list(dict.fromkeys(broken)))}; "
            "leave these presentations or neuroids out"
        )
    stimuli = list(dict.fromkeys(ids))
    if same := alike(stimuli):
        raise ValueError(
            f"{path}: coordinate {field!r} has {same[0]!a} and {same[1]!a}, which differ in {difference(*same)} alone, "
            "and whose presentations would be averaged apart; give each stimulus one spelling"
        )
    position = {stimulus: row for row, stimulus in enumerate(stimuli)}
    row = np.array([position[stimulus] for stimulus in ids])
    count = np.bincount(row)
    sums = np.zeros((len(patterns), len(stimuli), patterns.shape[2]))
    for total, pattern in zip(sums, patterns, strict=True):
        np.add.at(total, row, pattern)
    means = sums / count[:, None]
    # imported here: files that hold RDMs are read without torch
    import torch

    from brainrdl.rdms.distances import rdm

    values = np.stack([rdm(torch.from_numpy(mean), given.metric).numpy() for mean in means])
    coords: dict[str, Coord] = {}
    for name in ("time_bin_start", "time_bin_end"):
        if name in assembly.coords and assembly[name].dims == ("time_bin",):
            coords[name] = (("rdm",), assembly[name].values)
    made = json.dumps({"patterns": path.name, "neuroids": patterns.shape[2], "presentations": len(ids)})
    attrs = {"provenance": made}
    return Parts(values, "row-major", stimuli, fields={field: stimuli}, metric=given.metric, coords=coords, attrs=attrs)
