"""Order in time: the share of it that an RDM may reflect."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import xarray as xr


def time_order(fit: xr.Dataset, rdm: xr.DataArray, sequences: Sequence[Sequence[str]]) -> dict[str, Any]:
    """Correlate one RDM's distances with the stimuli's mean distance in time; `sequences` are the runs' trial types.

    ``correlation`` is None where nothing varies; ``shared_by_runs`` if all runs have one order, and then ``warning``.
    """
    ids = rdm["stimulus"].values.tolist()
    runs = list(dict.fromkeys(fit["run"].values.tolist()))
    total, count = np.zeros((len(runs), len(ids))), np.zeros((len(runs), len(ids)))
    for run, stimulus, onset in zip(fit["run"].values, fit["stimulus"].values, fit["onset"].values, strict=True):
        place = runs.index(run), ids.index(stimulus)
        total[place] += onset
        count[place] += 1
    onsets = np.where(count > 0, total / np.maximum(count, 1), np.nan)
    i, j = np.triu_indices(len(ids), 1)
    # within runs: between them there is no distance in time that patterns could share
    apart = np.abs(onsets[:, i] - onsets[:, j])
    shared = (~np.isnan(apart)).sum(axis=0)
    mean = np.nansum(apart, axis=0) / np.maximum(shared, 1)
    distances = rdm.values[0][i, j]
    measured = (shared > 0) & ~np.isnan(distances)
    varied = measured.sum() > 2 and np.ptp(mean[measured]) > 0 and np.ptp(distances[measured]) > 0
    one_order = len({tuple(sequence) for sequence in sequences}) == 1 and len(sequences) > 1
    facts: dict[str, Any] = {
        "correlation": float(np.corrcoef(mean[measured], distances[measured])[0, 1]) if varied else None,
        "shared_by_runs": one_order,
    }
    if one_order:
        facts["warning"] = (
            "all runs have the stimuli in one order: drifts and carry-over repeat, and cross-validation over runs does "
            "not remove them"
        )
    return facts
