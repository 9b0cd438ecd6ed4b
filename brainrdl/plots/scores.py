"""Models' scores: bars under a noise ceiling with marks of significance, and the matrix of layers × regions."""

from collections.abc import Sequence

import numpy as np
import pandas as pd
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from xarray import DataArray

from brainrdl.inference.ceiling import NoiseCeiling
from brainrdl.plots._style import FONT, INK, quoted, shortened, style_axes, text_width
from brainrdl.plots.names import as_written
from brainrdl.plots.numbers import format_fraction

SIGNIFICANT = 0.05
"""P-values below it bear marks."""

_BAR = "#56B4E9"


@as_written
def score_panel(
    table: pd.DataFrame,
    *,
    ceiling: NoiseCeiling | None = None,
    contrasts: pd.DataFrame | None = None,
    subjects: pd.DataFrame | None = None,
    label: str = "similarity",
    title: str | None = None,
    ax: Axes | None = None,
) -> Axes:
    """Draw models' scores as bars with intervals, below the noise ceiling.

    Parameters
    ----------
    table : DataFrame
        Index ``model``; columns ``score``, ``low``, ``high`` and ``p_fdr`` or ``p``, as `score_models` gives them. A
        score whose p is below .05 bears an asterisk, at its foot; one that is NaN says so in place of a bar.
    ceiling : NoiseCeiling, optional
        Drawn as a grey band.
    contrasts : DataFrame, optional
        Columns ``a``, ``b``, ``p_holm``: a line above the bars joins each two models whose p is below .05.
    subjects : DataFrame, optional
        Index ``model``, a column per subject, as `ModelScores.subjects`: drawn as dots where there are several.
    label : str
        Label of the score's axis.
    title : str, optional
        Title above the panel.
    ax : Axes, optional
        Axes to draw on; by default a figure of its own, found as ``ax.figure``.

    Returns
    -------
    Axes
        Its ticks end where scores and ceiling do; the lines stand above. Names longer than 28 characters are shortened
        in the middle.

    Raises
    ------
    ValueError
        If a column is missing, there is no model or no score but NaN, or a contrast names a model that the table lacks.

    References
    ----------
    Nili et al. (2014). A toolbox for representational similarity analysis. PLOS Computational Biology 10, e1003553.

    Examples
    --------
    >>> values = {"score": [0.3, 0.1], "low": [0.2, -0.1], "high": [0.4, 0.3], "p": [0.001, 0.2]}
    >>> table = pd.DataFrame(values, index=["a", "b"])
    >>> ax = score_panel(table, ceiling=NoiseCeiling(0.35, 0.5), label="Pearson r")
    >>> [text.get_text() for text in ax.get_xticklabels()]
    ['a', 'b']
    """
    tested = "p_fdr" if "p_fdr" in table else "p"
    missing = [name for name in ("score", "low", "high", tested) if name not in table]
    if missing:
        raise ValueError(f"table has no column {quoted(missing)}; score_models gives them")
    if table.empty:
        raise ValueError("table holds no model; give at least one")
    if table["score"].isna().all():
        raise ValueError("table holds no score but NaN, of which there is nothing to draw")
    names = [str(name) for name in table.index]
    joined = _lines(contrasts, names)  # before anything is drawn into a caller's axes
    shown = shortened(names)
    if ax is None:
        widest = max(text_width(name, FONT - 1) for name in shown)
        size = (1.2 + 0.42 * len(names), 2.4 + 0.7 * widest + 0.1 * len(joined))
        ax = Figure(figsize=size, layout="constrained").subplots()
    x = np.arange(len(names))
    if ceiling is not None and np.isfinite(ceiling).all():
        ax.axhspan(ceiling.lower, ceiling.upper, color="0.85", linewidth=0, zorder=0)
    ax.bar(x, table["score"], width=0.7, color=_BAR, zorder=1)
    ends = [0.0, *table[["score", "low", "high"]].to_numpy(dtype=float).ravel()]
    for place in np.flatnonzero(table["score"].isna()).tolist():  # no bar would look like a score of 0
        ax.text(place, 0, " not defined", rotation=90, ha="center", va="bottom", fontsize=FONT - 1, color=INK)
    if subjects is not None and subjects.shape[1] > 1:
        single = subjects.reindex(table.index).to_numpy(dtype=float)
        # side by side over their bar, in the same place over every bar
        beside = x[:, None] + np.linspace(-0.22, 0.22, single.shape[1])
        ax.plot(beside.ravel(), single.ravel(), "o", color="black", alpha=0.5, markersize=2.4, markeredgewidth=0)
        ends += single.ravel().tolist()
    ax.vlines(x, table["low"], table["high"], color=INK, linewidth=1.0, zorder=3)
    ax.axhline(0, color=INK, linewidth=0.6, zorder=2)
    ends = [float(value) for value in (*ends, *(ceiling or ())) if np.isfinite(value)]
    low, high = min(ends), max(ends)
    step = 0.05 * (high - low)
    for k, p in zip(x, table[tested], strict=True):
        if p < SIGNIFICANT:
            foot = ax.get_xaxis_transform()
            ax.annotate("*", (k, 0.04), xycoords=foot, ha="center", va="center", fontsize=FONT + 2, color=INK)
    for level, (a, b) in enumerate(joined, start=1):
        ax.plot([a, b], [high + level * step] * 2, color=INK, linewidth=0.8, solid_capstyle="butt")
    ax.set_xlim(-0.6, len(names) - 0.4)
    ax.set_xticks(x, shown, rotation=90 if max(map(len, shown)) > 3 else 0)
    ax.set_ylabel(label, fontsize=FONT)
    if title:
        ax.set_title(title, fontsize=FONT)
    style_axes(ax)
    _scale_scores(ax, (low, high), (low - 2 * step, high + (len(joined) + 1) * step))
    return ax


def align_scores(axes: Sequence[Axes]) -> None:
    """Give the panels of `score_panel` one vertical scale, labelled at the first.

    Parameters
    ----------
    axes : sequence of Axes
        Panels of `score_panel`, side by side.

    Examples
    --------
    >>> table = pd.DataFrame({"score": [0.3], "low": [0.2], "high": [0.4], "p": [0.01]}, ["a"])
    >>> axes = [score_panel(factor * table) for factor in (1, 2)]
    >>> align_scores(axes)
    >>> axes[0].get_ylim() == axes[1].get_ylim()
    True
    """
    bounds = np.array([ax.spines["left"].get_bounds() for ax in axes])
    limits = np.array([ax.get_ylim() for ax in axes])
    for k, ax in enumerate(axes):
        _scale_scores(
            ax, (bounds[:, 0].min(), bounds[:, 1].max()), (float(limits[:, 0].min()), float(limits[:, 1].max()))
        )
        if k:
            ax.set_ylabel("")
            ax.tick_params(labelleft=False)


@as_written
def similarity_matrix(
    similarities: DataArray | pd.DataFrame,
    *,
    significant: pd.DataFrame | None = None,
    label: str | None = None,
    title: str | None = None,
    limits: tuple[float, float] | None = None,
    ax: Axes | None = None,
) -> Axes:
    """Draw similarities as a matrix with its numbers, such as layers × regions.

    Parameters
    ----------
    similarities : DataArray (rdm_a, rdm_b) or DataFrame
        Similarities as `compare_rdms` gives them; rows are drawn from the top. NaN is grey.
    significant : DataFrame, optional
        Table of the same rows and columns, True where an asterisk is put behind the number.
    label : str, optional
        Label of the colour bar; by default the array's name.
    title, ax
        Title and axes, as in `score_panel`.
    limits : (float, float), optional
        Ends of the colours; by default zero (or the lowest, if below) to the highest.

    Returns
    -------
    Axes

    Raises
    ------
    ValueError
        If there is nothing to draw, or nothing but NaN, or `significant` has other rows or columns.

    Examples
    --------
    >>> table = pd.DataFrame([[0.1, 0.3], [0.2, 0.5]], ["conv1", "fc"], ["EVC", "IT"])
    >>> ax = similarity_matrix(table, label="Pearson r")
    >>> [text.get_text() for text in ax.texts]
    ['.10', '.30', '.20', '.50']
    """
    if isinstance(similarities, DataArray):
        label = str(similarities.name) if label is None else label
        rows, columns = (similarities[dim].values.tolist() for dim in similarities.dims)
        table = pd.DataFrame(similarities.values, rows, columns)
    else:
        table = similarities
    if table.empty:
        raise ValueError("there is nothing to draw; give at least one row and one column")
    if significant is not None and not (
        significant.index.equals(table.index) and significant.columns.equals(table.columns)
    ):
        raise ValueError("significant has other rows or columns than the similarities; label it like them")
    values = table.to_numpy(dtype=float)
    if np.isnan(values).all():
        raise ValueError("no similarity is defined: all are NaN, of which there is nothing to draw")
    row_names, column_names = (shortened([str(name) for name in axis]) for axis in (table.index, table.columns))
    if ax is None:
        wide = max(text_width(name, FONT - 1) for name in row_names)
        high = max(text_width(name, FONT - 1) for name in column_names)
        size = (1.3 + wide + 0.45 * len(column_names), 0.5 + high + 0.22 * len(row_names))
        ax = Figure(figsize=size, layout="constrained").subplots()
    low, top = limits or (min(0.0, float(np.nanmin(values))), float(np.nanmax(values)))
    image = ax.imshow(values, vmin=low, vmax=top, cmap=colormaps["viridis"].with_extremes(bad="0.8"), aspect="auto")
    for (k, m), value in np.ndenumerate(values):
        if np.isnan(value):
            continue
        mark = "*" if significant is not None and bool(significant.to_numpy()[k, m]) else ""
        # viridis ends in yellow, on which white is lost
        shade = (value - low) / (top - low) if top > low else 1.0
        color = "black" if shade > 0.6 else "white"
        ax.text(m, k, format_fraction(value) + mark, ha="center", va="center", fontsize=FONT - 1, color=color)
    ax.set_xticks(np.arange(len(column_names)), column_names, rotation=90)
    ax.set_yticks(np.arange(len(row_names)), row_names)
    ax.tick_params(labelsize=FONT - 1, width=0.6, length=2.0)
    ax.spines[:].set_visible(False)
    if title:
        ax.set_title(title, fontsize=FONT)
    bar = ax.figure.colorbar(image, ax=ax, shrink=0.8, aspect=18)
    bar.set_label(label or "similarity", fontsize=FONT)
    bar.ax.tick_params(labelsize=FONT - 1, width=0.6, length=2.0)
    bar.outline.set_visible(False)
    return ax


def _scale_scores(ax: Axes, bounds: tuple[float, float], limits: tuple[float, float]) -> None:
    """End ticks and their line at `bounds`; marks stand beyond them."""
    low, high = bounds
    slack = 1e-9 * (high - low)  # a tick at an end, but for rounding, is drawn
    ax.set_yticks([tick for tick in MaxNLocator(6).tick_values(low, high) if low - slack <= tick <= high + slack])
    ax.spines["left"].set_bounds(low, high)
    ax.set_ylim(*limits)


def _lines(contrasts: pd.DataFrame | None, names: Sequence[str]) -> list[tuple[int, int]]:
    """Places of the models that differ, the shortest distances first, so that their lines lie lowest."""
    if contrasts is None:
        return []
    unknown = [name for name in pd.unique(contrasts[["a", "b"]].to_numpy().ravel()) if name not in names]
    if unknown:
        raise ValueError(f"contrasts name {quoted(unknown)}, which the table lacks; it has {quoted(names)}")
    differ = contrasts[contrasts["p_holm"] < SIGNIFICANT]
    places = [sorted((names.index(a), names.index(b))) for a, b in zip(differ["a"], differ["b"], strict=True)]
    return sorted(((a, b) for a, b in places), key=lambda ends: (ends[1] - ends[0], ends))
