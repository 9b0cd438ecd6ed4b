"""Scores on held-out stimuli: a panel per score, a row per arm, below the noise ceilings."""

from collections.abc import Mapping
from itertools import pairwise

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import MaxNLocator

from brainrdl.plots._style import FONT, INK, Style, check_columns, marker, quoted, style_axes, styles_of, text_width
from brainrdl.plots.names import as_written

_COLUMNS = ("arm", "score", "value", "low", "high", "ceiling_lower", "ceiling_upper")
_BAND = 0.14  # opacity, so that bands which overlap are both seen
_SHAPES = ("o", "s", "^", "D", "v", "P", "X")


@as_written
def score_dots(
    table: pd.DataFrame,
    *,
    scores: Mapping[str, str],
    arms: Mapping[str, str] | None = None,
    groups: Mapping[str, str] | None = None,
    series: str | None = None,
    label: str = "similarity",
) -> Figure:
    """Draw the scores of arms as dots with intervals, a panel per score.

    Parameters
    ----------
    table : DataFrame
        A row per arm and score (and series): columns ``arm, score, value, low, high, ceiling_lower, ceiling_upper``. A
        value of NaN is drawn as a dash at the left: the arm has no such score.
    scores : mapping of str to str
        Scores to draw, from the left, and the titles of their panels.
    arms : mapping of str to str, optional
        Names of arms to print; others keep theirs. They are listed from the top in order of first appearance.
    groups : mapping of str to str, optional
        Group of each arm; thin lines part neighbours of different groups.
    series : str, optional
        A column of `table`, such as the study that was scored: each of its values (at most seven) has a colour and a
        marker of its own, and is drawn in the same rows.
    label : str
        Label of the horizontal axes.

    Returns
    -------
    Figure
        Each row lies on its own noise ceiling, a band in its series' colour. Each panel has a horizontal scale of its
        own: a score is to be compared with its noise ceiling, not with another score.

    Raises
    ------
    ValueError
        If a column is missing, none of `scores` is there, or an arm has two rows of a score and series.

    Examples
    --------
    >>> line = {"arm": "RDL", "score": "raw", "value": 0.3, "low": 0.2, "high": 0.4}
    >>> table = pd.DataFrame([line | {"ceiling_lower": 0.5, "ceiling_upper": 0.6}])
    >>> [ax.get_title() for ax in score_dots(table, scores={"raw": "raw"}).axes]
    ['raw']
    """
    needed = [*_COLUMNS, *([series] if series else [])]
    check_columns(table, needed, "table")
    shown = [score for score in scores if (table["score"] == score).any()]
    if not shown:
        there = dict.fromkeys(table["score"])
        raise ValueError(f"table has none of the scores {quoted(scores)}; it has {quoted(there) or 'none'}")
    twice = table[table.duplicated(["arm", "score", *([series] if series else [])])]
    if len(twice):
        raise ValueError(
            f"table has more than one row for arm {twice['arm'].iloc[0]!r} and score {twice['score'].iloc[0]!r}; "
            "select the rows to draw, one each"
        )
    names = [str(arm) for arm in dict.fromkeys(table["arm"])]
    printed = [dict(arms or {}).get(arm, arm) for arm in names]
    kinds = [str(kind) for kind in dict.fromkeys(table[series])] if series else [""]
    styles = styles_of(kinds)
    beside = np.linspace(-0.17, 0.17, len(kinds)) if len(kinds) > 1 else np.zeros(1)

    widest = max(text_width(name, FONT - 0.5) for name in printed)
    figure = Figure(figsize=(0.5 + widest + 2.15 * len(shown), 1.05 + 0.215 * len(names)), layout="constrained")
    axes = figure.subplots(1, len(shown), sharey=True, squeeze=False)[0]
    for ax, score in zip(axes, shown, strict=True):
        for k, kind in enumerate(kinds):
            rows = table[(table["score"] == score) & ((table[series].astype(str) == kind) if series else True)]
            places = np.array([names.index(str(arm)) for arm in rows["arm"]], dtype=float)
            _draw_rows(ax, rows, places, styles[kind], _SHAPES[k], float(beside[k]))
        for k, (above, below) in enumerate(pairwise(names)):
            if groups and groups.get(above) != groups.get(below):
                ax.axhline(k + 0.5, color="0.75", linewidth=0.5, zorder=0.5)
        ax.axvline(0, color=INK, linewidth=0.6, zorder=0.6)
        ax.set_title(scores[score], fontsize=FONT)
        ax.set_xlabel(label, fontsize=FONT)
        ax.xaxis.set_major_locator(MaxNLocator(5))
        style_axes(ax)
        ax.tick_params(axis="y", length=0, labelsize=FONT - 0.5)
        ax.spines["left"].set_visible(False)
    axes[0].set_ylim(len(names) - 0.45, -0.55)
    axes[0].set_yticks(range(len(names)), printed)
    _draw_key(figure, kinds, styles)
    return figure


def _draw_rows(ax: Axes, rows: pd.DataFrame, places: np.ndarray, style: Style, shape: str, nudge: float) -> None:
    """Draw one score of the arms of one series."""
    open_marker = marker(style.color, shape, "full" if shape == "o" else "open") | {"markersize": 4.0}
    for place, (_, row) in zip(places, rows.iterrows(), strict=True):
        lower, upper = float(row["ceiling_lower"]), float(row["ceiling_upper"])
        if np.isfinite([lower, upper]).all():
            # each row its own: series, and scores on fewer pairs, have other ceilings
            ax.fill_betweenx([place - 0.5, place + 0.5], lower, upper, color=style.color, alpha=_BAND, linewidth=0)
            ax.vlines([lower, upper], place - 0.5, place + 0.5, color=style.color, alpha=0.5, linewidth=0.6)
        y = place + nudge
        if np.isnan(row["value"]):
            ax.text(0.01, y, "–", transform=ax.get_yaxis_transform(), va="center", fontsize=FONT, color=style.color)
            continue
        ax.hlines(y, row["low"], row["high"], color=style.color, linewidth=1.1, zorder=2)
        ax.plot(row["value"], y, zorder=3, **open_marker)


def _draw_key(figure: Figure, kinds: list[str], styles: Mapping[str, Style]) -> None:
    """Write the meaning of dots and bands above the panels."""
    handles: list[Line2D | Patch] = []
    texts = []
    for k, kind in enumerate(kinds):
        dot = marker(styles[kind].color, _SHAPES[k], "full" if k == 0 else "open")
        handles.append(Line2D([], [], linewidth=1.1, **(dot | {"markersize": 4.0})))
        texts.append(f"{kind}, 95 % interval" if kind else "score, 95 % interval")
        handles.append(Patch(color=styles[kind].color, alpha=_BAND, linewidth=0))
        texts.append("its noise ceiling" if kind else "noise ceiling")
    figure.legend(handles, texts, loc="outside upper center", ncols=2, fontsize=FONT - 1, frameon=False)
