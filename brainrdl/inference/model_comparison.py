"""Models against subjects' RDMs, region by region, with ceilings, intervals and corrected tests."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, final

import numpy as np
import pandas as pd
import xarray as xr

from brainrdl.inference.models import ModelScores, score_models
from brainrdl.inference.multiplicity import fdr, holm
from brainrdl.known import RANDOM_WEIGHTS
from brainrdl.rdms.combine import concat_rdms
from brainrdl.rdms.labels import checked_parts
from brainrdl.rdms.layout import check_rdms


@final
@dataclass(frozen=True)
class ModelComparison:
    """Scores and tests of models in all regions, as `compare_models` returns them.

    Attributes
    ----------
    method : str
        Comparison of RDMs.
    scores : dict of ModelScores
        Scores by region, the only one being ``""`` where the data name none.
    table : DataFrame
        A row per region and model: ``roi``, ``model``, the columns of `ModelScores.table`, ``p_fdr`` (Benjamini and
        Hochberg over all rows), ``ceiling_lower``, ``ceiling_upper``, ``over``, ``n_subjects``, ``n_stimuli``.
    contrasts : DataFrame
        A row per region and contrast, as `ModelScores.contrasts` gives them; ``p_holm`` is over all rows.
    notes : list of str
        Cautions for whoever reads them.
    declared : bool
        True if the contrasts were declared; otherwise they are all pairs of models.
    untrained : tuple of str
        Models whose network has random weights, by the coordinate ``model`` of their RDMs.
    """

    method: str
    scores: dict[str, ModelScores]
    table: pd.DataFrame
    contrasts: pd.DataFrame
    notes: list[str]
    declared: bool = False
    untrained: tuple[str, ...] = ()


def compare_models(
    models: xr.DataArray | Sequence[xr.DataArray] | Mapping[str, xr.DataArray],
    data: xr.DataArray,
    method: str = "corr",
    *,
    over: Literal["auto", "stimuli", "subjects", "both"] = "auto",
    contrasts: Sequence[tuple[str, str]] | None = None,
    n_resamples: int = 1000,
    seed: int = 0,
) -> ModelComparison:
    """Score model RDMs against measured ones, region by region, with ceilings, intervals and corrected tests.

    Parameters
    ----------
    models : DataArray (rdm, stimulus, stimulus_), sequence or mapping of them
        Model RDMs; several arrays may have different metrics. Labels that arrays share are told apart as in
        `concat_rdms`, by the coordinate ``model`` or by the keys of a mapping.
    data : DataArray (rdm, stimulus, stimulus_)
        Measured RDMs of the same stimuli, with a ``subject`` coordinate where there are several subjects, and ``roi``
        where there are several regions.
    method, over, n_resamples, seed
        Comparison, factor to generalise over, number and seed of the draws, as in `score_models`.
    contrasts : sequence of (str, str), optional
        Models to test against each other, in every region; all pairs if absent.

    Returns
    -------
    ModelComparison

    Raises
    ------
    TypeError, ValueError
        As `score_models`.

    Examples
    --------
    >>> from brainrdl.inference import compare_models
    >>> from brainrdl.rdms import label_rdms
    >>> rng = np.random.default_rng(0)
    >>> ids, names = [f"s{i}" for i in range(10)], [f"sub-{k}" for k in range(10)]
    >>> good = label_rdms(rng.random((1, 45)), ids, ["good"], "mse")
    >>> bad = label_rdms(rng.random((1, 45)), ids, ["bad"], "correlation")
    >>> values = rng.random((10, 45)) + good.values[:, *np.triu_indices(10, 1)]
    >>> brains = label_rdms(values, ids, names, "correlation", {"subject": names})
    >>> compare_models([good, bad], brains, n_resamples=50).table[["model", "score", "over"]].round(2)
      model  score  over
    0  good   0.75  both
    1   bad   0.18  both
    """
    parts = models if isinstance(models, xr.DataArray) else checked_parts(models)
    pooled = _pooled(parts, method)
    scores = {
        roi: score_models(pooled, part, method, over=over, n_resamples=n_resamples, seed=seed)
        for roi, part in _by_roi(check_rdms(data)).items()
    }
    tables, tests = [], []
    for roi, scored in scores.items():
        table = scored.table.reset_index()
        table.insert(0, "roi", roi)
        table["ceiling_lower"], table["ceiling_upper"] = scored.ceiling
        table["over"] = scored.over
        table["n_subjects"], table["n_stimuli"] = scored.resamples.n_subjects, scored.resamples.n_stimuli
        tables.append(table)
        tested = scored.contrasts(contrasts)
        tested.insert(0, "roi", roi)
        tests.append(tested)
    # corrected over all regions at once: within each alone, more regions would mean more false findings
    table, tested = pd.concat(tables, ignore_index=True), pd.concat(tests, ignore_index=True)
    table.insert(table.columns.tolist().index("p") + 1, "p_fdr", fdr(table["p"].to_numpy(dtype=float)))
    tested["p_holm"] = holm(tested["p"].to_numpy(dtype=float))
    notes = list(dict.fromkeys(scored.note for scored in scores.values() if scored.note))
    return ModelComparison(method, scores, table, tested, notes, contrasts is not None, _untrained(parts))


def _pooled(models: xr.DataArray | Sequence[xr.DataArray], method: str) -> xr.DataArray:
    """Put all models into one array, whatever their metrics: a comparison without a scale needs no common one."""
    if isinstance(models, xr.DataArray):
        return models
    if len({part.attrs["metric"] for part in models}) > 1 and method == "mse":
        raise ValueError("mse compares units, so that the models must have one metric; take corr or cosine")
    # arrays of different coordinates and attributes do not concatenate
    bare = []
    for part in models:
        labels = {dim: part[dim].values for dim in part.dims}
        metric = part.attrs["metric"] if method == "mse" else "undeclared"
        bare.append(xr.DataArray(part.values, labels, part.dims, part.name, {"metric": metric}))
    return concat_rdms(bare)


def _untrained(models: xr.DataArray | Sequence[xr.DataArray]) -> tuple[str, ...]:
    """Find the RDMs of networks with random weights, by their names."""
    found = []
    for part in [models] if isinstance(models, xr.DataArray) else models:
        if "model" in part.coords and part["model"].dims == ("rdm",):
            named = zip(part["rdm"].values.tolist(), part["model"].values.tolist(), strict=True)
            found += [str(label) for label, model in named if str(model).endswith(f"({RANDOM_WEIGHTS})")]
    return tuple(found)


def _by_roi(data: xr.DataArray) -> dict[str, xr.DataArray]:
    if "roi" not in data.coords or data["roi"].dims != ("rdm",):
        return {"": data}
    rois = data["roi"].values.astype(str)
    return {roi: data.isel(rdm=np.flatnonzero(rois == roi)) for roi in dict.fromkeys(rois.tolist())}
