"""What an RDM was made of, in words that a file can hold."""

import hashlib
import json
from collections.abc import Iterable, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from brainrdl.fmri.images import Image, image_name

_BLOCK = 1 << 20


def checksums(files: Iterable[Image], root: str | Path | None = None) -> dict[str, str]:
    """SHA-256 of each file, by its name below `root` (its bare name elsewhere); ``in memory`` for what is no file.

    Examples
    --------
    >>> import tempfile
    >>> path = Path(tempfile.mkdtemp(), "a.txt")
    >>> _ = path.write_text("a")
    >>> checksums([path], path.parent)['a.txt'][:8]
    'ca978112'
    """
    found = {}
    for file in files:
        if isinstance(file, str | Path):
            digest = hashlib.sha256()
            with Path(file).open("rb") as stream:
                while block := stream.read(_BLOCK):
                    digest.update(block)
            path = Path(file)
            inside = root is not None and path.resolve().is_relative_to(Path(root).resolve())
            name = path.resolve().relative_to(Path(root).resolve()) if root is not None and inside else path.name
            found[str(name)] = digest.hexdigest()
        else:
            found[image_name(file)] = "in memory"
    return found


def versions() -> dict[str, str]:
    """Versions of the packages that computed."""
    return {name: version(name) for name in ("brainrdl", "nilearn", "nibabel", "numpy", "scipy", "torch")}


def to_json(facts: Any) -> str:
    """Spell facts as JSON; NaN becomes null, which JSON has."""
    return json.dumps(_plain(facts), ensure_ascii=False)


def time_order(fit: xr.Dataset, rdm: xr.DataArray, sequences: Sequence[Sequence[str]]) -> dict[str, Any]:
    """Say how far the RDM may reflect the order of stimuli in time.

    Parameters
    ----------
    fit : Dataset
        With ``onset``, ``stimulus`` and ``run`` along ``observation``.
    rdm : DataArray (rdm, stimulus, stimulus_)
        One RDM.
    sequences : sequence of sequence of str
        The trial types of each run, in their order.

    Returns
    -------
    dict
        ``correlation`` of the distances with the stimuli's mean distance in time, null where there is none;
        ``shared_by_runs``: whether all runs have one order; and then ``warning``.
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


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {str(key): _plain(part) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(part) for part in value]
    if isinstance(value, Path):
        return str(value)
    if isinstance(value, np.generic):
        value = value.item()
    return None if isinstance(value, float) and not np.isfinite(value) else value
