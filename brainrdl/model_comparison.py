"""The result of ``brainrdl compare``: models against subjects' RDMs, region by region, as tables and a figure."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, final

import numpy as np
import pandas as pd
import xarray as xr
from matplotlib.figure import Figure

from brainrdl.checkpoint import atomic_path
from brainrdl.combine import concat_rdms
from brainrdl.inference import ModelScores, fdr, holm, score_models
from brainrdl.labelled import check_rdms
from brainrdl.plots.scores import score_panel, similarity_matrix

LABELS = {
    "corr": "Pearson r",
    "spearman": "Spearman's ρ",
    "cosine": "cosine",
    "cosine_cov": "whitened cosine",
    "corr_cov": "whitened Pearson r",
    "rho-a": "ρ-a",
    "tau-a": "Kendall's τ-a",
    "tau-b": "Kendall's τ-b",
    "mse": "− mean squared difference",
}
"""What the comparisons are called in figures."""


@final
@dataclass(frozen=True)
class ModelComparison:
    """What `compare_models` returns.

    Attributes
    ----------
    method : str
        How RDMs were compared.
    scores : dict of ModelScores
        By region, the only one being ``""`` where the data name none.
    table : DataFrame
        A row per region and model: ``roi``, ``model``, the columns of `ModelScores.table`, ``p_fdr`` (Benjamini and
        Hochberg over all rows), ``ceiling_lower``, ``ceiling_upper``, ``over``, ``n_subjects``, ``n_stimuli``.
    contrasts : DataFrame
        A row per region and contrast, as `ModelScores.contrasts` gives them; ``p_holm`` is over all rows.
    notes : list of str
        What a reader has to know.
    """

    method: str
    scores: dict[str, ModelScores]
    table: pd.DataFrame
    contrasts: pd.DataFrame
    notes: list[str]

    def figure(self) -> Figure:
        """Bars with intervals below the ceiling, a panel per region; a matrix of models × regions beside several."""
        rois = list(self.scores)
        n_models = len(self.scores[rois[0]].table)
        matrix = len(rois) > 1
        panels = len(rois) + matrix
        width = (1.0 + 0.32 * n_models) * len(rois) + (2.2 + 0.45 * len(rois)) * matrix
        figure = Figure(figsize=(max(2.4, width), 3.6), layout="constrained")
        axes = figure.subplots(1, panels, squeeze=False)[0]
        for ax, roi in zip(axes, rois, strict=False):
            rows = self.table[self.table["roi"] == roi].set_index("model")
            score_panel(
                rows,
                ceiling=self.scores[roi].ceiling,
                contrasts=self.contrasts[self.contrasts["roi"] == roi],
                label=LABELS[self.method],
                title=roi or None,
                ax=ax,
            )
        if matrix:
            by_roi = [(roi, rows.set_index("model")) for roi, rows in self.table.groupby("roi", sort=False)]
            similarity_matrix(
                pd.DataFrame({roi: rows["score"] for roi, rows in by_roi}),
                significant=pd.DataFrame({roi: rows["p_fdr"] < 0.05 for roi, rows in by_roi}),
                label=LABELS[self.method],
                ax=axes[-1],
            )
        return figure

    def write(self, folder: Path) -> list[Path]:
        """Write ``scores.csv``, ``contrasts.csv`` (where there are any) and ``scores.png`` into a folder.

        Parameters
        ----------
        folder : Path
            Made if it does not exist; files of these names in it are replaced.

        Returns
        -------
        list of Path
            What was written.
        """
        folder.mkdir(parents=True, exist_ok=True)
        written = [folder / "scores.csv"]
        with atomic_path(written[0]) as temporary:
            self.table.to_csv(temporary, index=False)
        if len(self.contrasts):
            written.append(folder / "contrasts.csv")
            with atomic_path(written[-1]) as temporary:
                self.contrasts.to_csv(temporary, index=False)
        written.append(folder / "scores.png")
        with atomic_path(written[-1]) as temporary:
            self.figure().savefig(temporary, format="png", dpi=200)
        return written

    def __str__(self) -> str:
        """The table as the command line prints it."""
        shown = self.table.drop(columns=["percentile_low", "percentile_high", "se", "p"])
        if (shown["roi"] == "").all():
            shown = shown.drop(columns="roi")
        text = shown.to_string(index=False, float_format=lambda value: f"{value:.3f}")
        return "\n".join([text, *self.notes])


def compare_models(
    models: xr.DataArray | Sequence[xr.DataArray],
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
    models : DataArray (rdm, stimulus, stimulus_) or sequence of them
        Model RDMs; several arrays may have different metrics, but no two RDMs one label.
    data : DataArray (rdm, stimulus, stimulus_)
        Measured RDMs of the same stimuli, with a ``subject`` coordinate where there are several subjects, and ``roi``
        where there are several regions.
    method, over, n_resamples, seed
        As in `score_models`.
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
    >>> import numpy as np, brainrdl as rdl
    >>> from brainrdl.model_comparison import compare_models
    >>> rng = np.random.default_rng(0)
    >>> ids, names = [f"s{i}" for i in range(10)], [f"sub-{k}" for k in range(10)]
    >>> good = rdl.label_rdms(rng.random((1, 45)), ids, ["good"], "mse")
    >>> bad = rdl.label_rdms(rng.random((1, 45)), ids, ["bad"], "correlation")
    >>> values = rng.random((10, 45)) + good.values[:, *np.triu_indices(10, 1)]
    >>> brains = rdl.label_rdms(values, ids, names, "correlation", {"subject": names})
    >>> compare_models([good, bad], brains, n_resamples=50).table[["model", "score", "over"]].round(2)
      model  score  over
    0  good   0.75  both
    1   bad   0.18  both
    """
    pooled = _pooled(models, method)
    scores = {
        roi: score_models(pooled, part, method, over=over, n_resamples=n_resamples, seed=seed)
        for roi, part in _by_roi(check_rdms(data)).items()
    }
    tables, tests = [], []
    for roi, scored in scores.items():
        table = scored.table.reset_index()
        table.insert(0, "roi", roi)
        tables.append(
            table.assign(
                ceiling_lower=scored.ceiling.lower,
                ceiling_upper=scored.ceiling.upper,
                over=scored.over,
                n_subjects=scored.resamples.n_subjects,
                n_stimuli=scored.resamples.n_stimuli,
            )
        )
        tested = scored.contrasts(contrasts)
        tested.insert(0, "roi", roi)
        tests.append(tested)
    table, tested = pd.concat(tables, ignore_index=True), pd.concat(tests, ignore_index=True)
    table.insert(table.columns.tolist().index("p") + 1, "p_fdr", fdr(table["p"].to_numpy(dtype=float)))
    tested["p_holm"] = holm(tested["p"].to_numpy(dtype=float))
    notes = list(dict.fromkeys(scored.note for scored in scores.values() if scored.note))
    return ModelComparison(method, scores, table, tested, notes)


def _pooled(models: xr.DataArray | Sequence[xr.DataArray], method: str) -> xr.DataArray:
    """All models in one array, whatever their metrics: a comparison that ignores the scale needs no common one."""
    if isinstance(models, xr.DataArray):
        return models
    parts = [check_rdms(part) for part in models]
    if len({part.attrs["metric"] for part in parts}) > 1 and method == "mse":
        raise ValueError("mse compares units, so that the models must have one metric; take corr or cosine")
    bare = [
        xr.DataArray(
            part.values,
            dims=part.dims,
            coords={dim: part[dim].values for dim in part.dims},
            name=part.name,
            attrs={"metric": part.attrs["metric"] if method == "mse" else "undeclared"},
        )
        for part in parts
    ]
    return concat_rdms(bare)


def _by_roi(data: xr.DataArray) -> dict[str, xr.DataArray]:
    if "roi" not in data.coords or data["roi"].dims != ("rdm",):
        return {"": data}
    rois = data["roi"].values.astype(str)
    return {roi: data.isel(rdm=np.flatnonzero(rois == roi)) for roi in dict.fromkeys(rois.tolist())}
