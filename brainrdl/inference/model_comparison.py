"""The result of ``brainrdl compare``: models against subjects' RDMs, region by region, as tables and a figure."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, final

import numpy as np
import pandas as pd
import xarray as xr
from matplotlib.figure import Figure

from brainrdl.files import atomic_path
from brainrdl.inference import ModelScores, fdr, holm, score_models
from brainrdl.plots._style import FONT, INK, shortened, text_width, wrapped
from brainrdl.plots.scores import SIGNIFICANT, align_scores, score_panel, similarity_matrix
from brainrdl.rdms.combine import concat_rdms
from brainrdl.rdms.layout import check_rdms

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

_MAX_JOINED = 5
"""Among more models, lines between all pairs would hide the scores."""

_OVER = {
    "stimuli": "stimuli, for these subjects",
    "subjects": "subjects, for these stimuli",
    "both": "subjects and stimuli",
}


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
    declared : bool
        Whether the contrasts were declared; otherwise they are all pairs of models.
    """

    method: str
    scores: dict[str, ModelScores]
    table: pd.DataFrame
    contrasts: pd.DataFrame
    notes: list[str]
    declared: bool = False

    def figure(self) -> Figure:
        """Bars with intervals below the ceiling, a panel per region; a matrix of models × regions beside several.

        Lines join models that differ, if their contrasts were declared or there are at most five models. A caption
        below says what everything is.
        """
        rois = list(self.scores)
        names = shortened([str(name) for name in self.scores[rois[0]].table.index])
        matrix = len(rois) > 1
        widths = [1.0 + 0.32 * len(names)] * len(rois) + [2.2 + 0.45 * len(rois)] * matrix
        width = max(4.5, sum(widths))
        caption = wrapped(self.caption(), 0.95 * width - 0.1, FONT - 1)
        foot = max(text_width(name, FONT - 1) for name in names) + 1.5 * (FONT - 1) / 72 * len(caption)
        figure = Figure(figsize=(width, 2.8 + foot), layout="constrained")
        axes = figure.subplots(1, len(widths), squeeze=False, width_ratios=widths)[0]
        for ax, roi in zip(axes, rois, strict=False):
            score_panel(
                self.table[self.table["roi"] == roi].set_index("model"),
                ceiling=self.scores[roi].ceiling,
                contrasts=self.contrasts[self.contrasts["roi"] == roi] if self._joined() else None,
                subjects=self.scores[roi].subjects,
                label=LABELS[self.method],
                title=roi or None,
                ax=ax,
            )
        align_scores(axes[: len(rois)])
        if matrix:
            by_roi = [(roi, rows.set_index("model")) for roi, rows in self.table.groupby("roi", sort=False)]
            similarity_matrix(
                pd.DataFrame({roi: rows["score"] for roi, rows in by_roi}),
                significant=pd.DataFrame({roi: rows["p_fdr"] < SIGNIFICANT for roi, rows in by_roi}),
                label=LABELS[self.method],
                ax=axes[-1],
            )
        figure.supxlabel("\n".join(caption), x=0.01, ha="left", fontsize=FONT - 1, color=INK)
        return figure

    def caption(self) -> str:
        """Say what the figure shows, of how many subjects and stimuli, and what a reader has to know.

        Returns
        -------
        str
            Sentences.
        """
        level = next(iter(self.scores.values())).level
        n_subjects, n_stimuli = (_span(self.table[column]) for column in ("n_subjects", "n_stimuli"))
        alone = (self.table["n_subjects"] == 1).all()
        over = "stimuli" if alone else " or ".join(dict.fromkeys(_OVER[one.over] for one in self.scores.values()))
        mean, of = ("", "the one measured RDM") if alone else ("mean ", f"those of {n_subjects} subjects (dots)")
        told = [
            f"Bars: {mean}{LABELS[self.method]} between a model's RDM and {of}, {n_stimuli} stimuli.",
            f"Whiskers: {100 * level:g} % t interval, standard error by the bootstrap over {over}.",
        ]
        if self.table["ceiling_lower"].notna().any():
            told.append("Grey: noise ceiling, from its lower to its upper bound.")
        told.append(f"*: above 0 (one-sided t, FDR .05 over {_count(len(self.table), 'score')}).")
        if len(self.contrasts):
            test = f"two-sided t, Holm .05 over {_count(len(self.contrasts), 'contrast')}"
            told.append(
                f"Lines join models that differ ({test})."
                if self._joined()
                else f"{self._n_different()} contrasts between models are significant ({test}): too many for lines."
            )
        return " ".join([*told, *(f"{note[:1].upper()}{note[1:].removesuffix('.')}." for note in self.notes)])

    def _joined(self) -> bool:
        return self.declared or max(len(one.table) for one in self.scores.values()) <= _MAX_JOINED

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
        written = [folder / name for name in ("scores.csv", "contrasts.csv", "scores.png")]
        with atomic_path(written[0]) as temporary:
            self.table.to_csv(temporary, index=False)
        with atomic_path(written[1]) as temporary:  # also without a row, lest those of an earlier run stay
            self.contrasts.to_csv(temporary, index=False)
        with atomic_path(written[2]) as temporary:
            self.figure().savefig(temporary, format="png", dpi=200)
        return written

    def _n_different(self) -> int:
        return int((self.contrasts["p_holm"] < SIGNIFICANT).sum())

    def __str__(self) -> str:
        """The table as the command line prints it, and what its p-values are."""
        shown = self.table.drop(columns=["percentile_low", "percentile_high", "se", "p"])
        if (shown["roi"] == "").all():
            shown = shown.drop(columns="roi")
        text = shown.to_string(
            index=False,
            na_rep="–",
            float_format=lambda value: f"{value:.3f}",
            formatters=dict.fromkeys(["p_fdr", "p_ceiling"], _p_value),
        )
        about = [
            f"p_fdr: of a score of zero or less, one-sided t with the bootstrap's standard error, FDR over "
            f"{_count(len(self.table), 'row')}"
        ]
        if self.table["p_ceiling"].notna().any():
            about.append("p_ceiling: of a score equal to the lower noise ceiling, two-sided t, not corrected")
        if len(self.contrasts):
            about.append(
                f"contrasts: {self._n_different()} of {len(self.contrasts)} significant (two-sided t, Holm .05)"
            )
        return "\n".join([text, *about, *self.notes])


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
    >>> from brainrdl.inference.model_comparison import compare_models
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
    return ModelComparison(method, scores, table, tested, notes, contrasts is not None)


def _p_value(p: float) -> str:
    if np.isnan(p):
        return "–"
    return "<.001" if p < 0.001 else f"{p:.3f}"


def _count(n: int, noun: str) -> str:
    return f"{n} {noun}{'' if n == 1 else 's'}"


def _span(counts: "pd.Series[int]") -> str:
    low, high = counts.min(), counts.max()
    return f"{low}" if low == high else f"{low}–{high}"


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
