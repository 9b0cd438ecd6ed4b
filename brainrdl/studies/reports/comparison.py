"""A comparison of models as ``brainrdl compare`` gives it: text, files, and a figure with its caption."""

from pathlib import Path

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from brainrdl.files.store import atomic_path
from brainrdl.inference.model_comparison import ModelComparison
from brainrdl.known import METHODS, RANDOM_WEIGHTS
from brainrdl.plots._style import FONT, INK, shortened, text_width, wrapped
from brainrdl.plots.scores import SIGNIFICANT, align_scores, score_panel, similarity_matrix
from brainrdl.studies.reports.words import capital, count, number, p_value, span
from brainrdl.terminal import one_line

_MAX_JOINED = 5
"""Among more models, lines between all pairs would hide the scores."""

_UNKNOWN = "–"  # in a terminal an empty cell would shift those after it

_OVER = {
    "stimuli": "stimuli, for these subjects",
    "subjects": "subjects, for these stimuli",
    "both": "subjects and stimuli",
}


def comparison_figure(result: ModelComparison) -> Figure:
    """Draw bars with intervals below the ceiling, a panel per region; a matrix of models × regions beside several.

    Lines join models that differ, if their contrasts were declared or there are at most five models. A caption
    below says what everything is.
    """
    rois = list(result.scores)
    names = shortened([str(name) for name in result.scores[rois[0]].table.index])
    # one region beside itself would be a column that the bars show already
    matrix = len(rois) > 1
    widths = [1.0 + 0.32 * len(names)] * len(rois) + [2.2 + 0.45 * len(rois)] * matrix
    width = max(4.5, sum(widths))
    caption = wrapped(comparison_caption(result), 0.95 * width - 0.1, FONT - 1)
    # names stand upright below the bars, the caption below them
    foot = max(text_width(name, FONT - 1) for name in names) + 1.5 * (FONT - 1) / 72 * len(caption)
    figure = Figure(figsize=(width, 2.8 + foot), layout="constrained")
    axes = figure.subplots(1, len(widths), squeeze=False, width_ratios=widths)[0]
    drawn = []
    for ax, roi in zip(axes, rois, strict=False):
        if result.scores[roi].table["score"].isna().all():
            _no_score(ax, roi)
            continue
        drawn.append(ax)
        score_panel(
            result.table[result.table["roi"] == roi].set_index("model"),
            ceiling=result.scores[roi].ceiling,
            contrasts=result.contrasts[result.contrasts["roi"] == roi] if _are_joined(result) else None,
            subjects=result.scores[roi].subjects,
            label=METHODS[result.method],
            title=roi or None,
            ax=ax,
        )
    if drawn:
        align_scores(drawn)
    if matrix and not drawn:
        axes[-1].set_axis_off()
    elif matrix:
        by_roi = [(roi, rows.set_index("model")) for roi, rows in result.table.groupby("roi", sort=False)]
        similarity_matrix(
            pd.DataFrame({roi: rows["score"] for roi, rows in by_roi}),
            significant=pd.DataFrame({roi: rows["p_fdr"] < SIGNIFICANT for roi, rows in by_roi}),
            label=METHODS[result.method],
            ax=axes[-1],
        )
    figure.supxlabel("\n".join(caption), x=0.01, ha="left", fontsize=FONT - 1, color=INK)
    return figure


def _no_score(ax: Axes, roi: str) -> None:
    """Say in a region's panel that none of its scores is defined, as where no pair of models is measured there."""
    ax.set_axis_off()
    ax.text(0.5, 0.5, "no score is defined", ha="center", va="center", fontsize=FONT - 1, color=INK)
    ax.set_title(roi, fontsize=FONT)


def comparison_caption(result: ModelComparison) -> str:
    """Say what the figure shows, of how many subjects and stimuli, and what a reader has to know."""
    level = next(iter(result.scores.values())).level
    n_subjects, n_stimuli = (span(result.table[column]) for column in ("n_subjects", "n_stimuli"))
    # of one RDM there is no mean, and no other subjects to speak of
    alone = (result.table["n_subjects"] == 1).all()
    over = "stimuli" if alone else " or ".join(dict.fromkeys(_OVER[scores.over] for scores in result.scores.values()))
    mean, measured = ("", "the one measured RDM") if alone else ("mean ", f"those of {n_subjects} subjects (dots)")
    parts = [
        *([f"{_untrained(result)}."] if result.untrained else []),
        f"Bars: {mean}{METHODS[result.method]} between a model's RDM and {measured}, {n_stimuli} stimuli.",
        f"Whiskers: {100 * level:g} % t interval, standard error by the bootstrap over {over}.",
    ]
    if result.table["ceiling_lower"].notna().any():
        parts.append("Grey: noise ceiling, from its lower to its upper bound.")
    parts.append(f"*: above 0 (one-sided t, FDR .05 over {count(len(result.table), 'score')}).")
    if len(result.contrasts):
        test = f"two-sided t, Holm .05 over {count(len(result.contrasts), 'contrast')}"
        parts.append(
            f"Lines join models that differ ({test})."
            if _are_joined(result)
            else f"{_n_different(result)} contrasts between models are significant ({test}): too many for lines."
        )
    return " ".join([*parts, *(f"{capital(note).removesuffix('.')}." for note in result.notes)])


def _are_joined(result: ModelComparison) -> bool:
    return result.declared or max(len(scores.table) for scores in result.scores.values()) <= _MAX_JOINED


def write_comparison(result: ModelComparison, folder: Path) -> list[Path]:
    """Write ``scores.csv``, ``contrasts.csv`` and ``scores.png`` into a folder; files of these names are replaced."""
    folder.mkdir(parents=True, exist_ok=True)
    written = [folder / name for name in ("scores.csv", "contrasts.csv", "scores.png")]
    with atomic_path(written[0]) as temporary:
        result.table.to_csv(temporary, index=False)
    with atomic_path(written[1]) as temporary:  # also without a row, lest those of an earlier run stay
        result.contrasts.to_csv(temporary, index=False)
    with atomic_path(written[2]) as temporary:
        comparison_figure(result).savefig(temporary, format="png", dpi=200)
    return written


def _n_different(result: ModelComparison) -> int:
    return int((result.contrasts["p_holm"] < SIGNIFICANT).sum())


def comparison_text(result: ModelComparison) -> str:
    """Print the table for the command line, and say what its p-values are."""
    shown = result.table.drop(columns=["percentile_low", "percentile_high", "se", "p"])
    if (shown["roi"] == "").all():
        shown = shown.drop(columns="roi")
    text = shown.to_string(
        index=False,
        na_rep=_UNKNOWN,
        float_format=lambda value: number(value, 3),
        formatters=dict.fromkeys(["p_fdr", "p_ceiling"], lambda p: p_value(p) or _UNKNOWN),
    )
    about = [
        f"p_fdr: score above 0, one-sided t with the bootstrap's standard error, FDR over "
        f"{count(len(result.table), 'row')}"
    ]
    if result.table["p_ceiling"].notna().any():
        about.append("p_ceiling: score different from the noise ceiling's lower bound, two-sided t, uncorrected")
    if len(result.contrasts):
        about.append(
            f"contrasts: {_n_different(result)} of {len(result.contrasts)} significant (two-sided t, Holm .05)"
        )
    first = [one_line(_untrained(result))] if result.untrained else []
    return "\n".join([*first, text, *about, *map(one_line, result.notes)])


def _untrained(result: ModelComparison) -> str:
    return f"{capital(RANDOM_WEIGHTS)}: {', '.join(result.untrained)}"
