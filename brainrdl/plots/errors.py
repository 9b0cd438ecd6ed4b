"""Test errors against the number of labels, as dots, and against what they buy."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patheffects import Normal, Stroke
from matplotlib.ticker import NullLocator

from brainrdl.inference.intervals import PERCENT
from brainrdl.inference.trainings import t_interval
from brainrdl.plots._style import (
    FONT,
    INK,
    check_columns,
    legend_beside,
    marker,
    quoted,
    scale_errors,
    style_axes,
    styles_of,
)
from brainrdl.plots.names import as_written
from brainrdl.plots.numbers import decimals

# where the weights of a line stand beside its points, so that those of neighbouring lines do not meet
_SIDES = ((1, 1), (1, -1), (-1, 1), (-1, -1))


@as_written
def label_curve(results: pd.DataFrame, *, level: float = 0.95, palette: Sequence[str] | None = None) -> Figure:
    """Draw test error against the number of labelled training images, one line per method.

    Parameters
    ----------
    results : DataFrame
        One row per training: columns ``arm`` (the method, at most 21), ``labels`` (count), ``test_error``
        (percent), ``seed``.
    level : float
        Coverage of Student's t interval over seeds.
    palette : sequence of str, optional
        Names of all methods of a set of figures, as in `error_curves`.

    Returns
    -------
    Figure
        Means joined by lines, with intervals and, faintly, the single seeds. Methods are moved apart sideways
        by a few percent, so that intervals do not hide each other. The error axis is logarithmic where the
        errors span a factor of five.

    Raises
    ------
    ValueError
        If a column is missing, empty or not finite, a count is not positive, a training occurs twice, or
        `palette` lacks an arm.

    Examples
    --------
    >>> results = pd.DataFrame(
    ...     {"arm": "RDL", "labels": [100, 100, 1000], "test_error": [9.0, 8.0, 4.0], "seed": [0, 1, 0]}
    ... )
    >>> label_curve(results).axes[0].get_xlabel()
    'labelled training images'
    """
    _check_results(results, ("arm", "labels", "seed"))
    if (results["labels"] <= 0).any():
        raise ValueError(
            f"labels must be positive counts, the axis being logarithmic, but one is "
            f"{results['labels'].min():g}; leave out the rows without labels"
        )
    arms = list(pd.unique(results["arm"]))
    counts = sorted(set(results["labels"]))
    figure = Figure(figsize=(5.8, 3.4), layout="constrained")
    ax = figure.subplots()
    for k, (arm, style) in enumerate(styles_of(arms, palette).items()):
        rows = results[results["arm"] == arm]
        # a factor, the axis being logarithmic: intervals beside each other, and within 16 % in all
        nudge = 10 ** (min(0.03, 0.16 / len(arms)) * (k - (len(arms) - 1) / 2))
        intervals = {n: t_interval(e, level=level, bounds=PERCENT) for n, e in rows.groupby("labels")["test_error"]}
        x = np.array(list(intervals), dtype=float) * nudge
        mean, low, high = np.array(list(intervals.values())).T
        ax.plot(rows["labels"] * nudge, rows["test_error"], **_seed_dots(style.color))
        ax.vlines(x, low, high, color=style.color, linewidth=1.0)
        ax.plot(x, mean, linestyle=style.dash, linewidth=1.2, label=str(arm), **marker(style.color, "o", style.fill))
    ax.set_xscale("log")
    ax.set_xticks(counts, [f"{n:,g}" for n in counts])
    ax.xaxis.set_minor_locator(NullLocator())
    ax.set_xlabel("labelled training images", fontsize=FONT)
    ax.set_ylabel("test error (%)", fontsize=FONT)
    style_axes(ax)
    scale_errors(ax, results["test_error"].to_numpy(float))
    legend_beside(figure)
    return figure


@as_written
def error_dots(results: pd.DataFrame, *, paper: Mapping[str, float] | None = None, level: float = 0.95) -> Figure:
    """Draw the test error of each method: mean, interval over seeds, and the single seeds.

    Parameters
    ----------
    results : DataFrame
        One row per training: columns ``arm`` (the method), ``test_error`` (percent), ``seed``. Methods are
        listed from the top in order of first appearance.
    paper : mapping from arm to float, optional
        Published test errors in percent, drawn as open diamonds.
    level : float
        Coverage of Student's t interval over seeds; a method with one or two seeds has none.

    Returns
    -------
    Figure
        The numbers drawn stand at the right: ``mean [low, high]``, or ``mean (seeds equal)`` without an interval.

    Raises
    ------
    ValueError
        If a column is missing, empty or not finite, a training occurs twice, or `paper` names an arm that
        `results` lacks.

    Examples
    --------
    >>> results = pd.DataFrame({"arm": ["plain", "plain", "RDL"], "test_error": [0.6, 0.7, 0.5]})
    >>> results["seed"] = [0, 1, 0]
    >>> figure = error_dots(results, paper={"plain": 0.63, "RDL": 0.49})
    """
    _check_results(results, ("arm", "seed"))
    arms = list(pd.unique(results["arm"]))
    strangers = [arm for arm in paper or {} if arm not in arms]
    if strangers:
        raise ValueError(f"paper names {quoted(strangers)}, but the arms in results are {quoted(arms)}")
    figure = Figure(figsize=(5.2, 0.75 + 0.3 * len(arms)), layout="constrained")
    ax = figure.subplots()
    color = "0.15"  # none of the methods' colours: each row bears its name
    published = marker("black", "D", "none") | {"markersize": 5.5, "linestyle": "none"}
    for row, arm in enumerate(arms):
        errors = results.loc[results["arm"] == arm, "test_error"].to_numpy(float)
        mean, low, high = t_interval(errors, level=level, bounds=PERCENT)
        ax.axhline(row, color="0.92", linewidth=0.6, zorder=0)
        ax.plot(errors, np.full(len(errors), row + 0.24), **_seed_dots(color))
        ax.hlines(row, low, high, color=color, linewidth=1.4)
        ax.plot(mean, row, **marker(color, "o"))
        if paper and arm in paper:
            ax.plot(paper[arm], row, **published)
        # one or two seeds have no interval
        spread = f" [{decimals(low)}, {decimals(high)}]" if np.isfinite(low) else ""
        if high - low < 1e-9:  # an interval without width would claim certainty
            spread = " (seeds equal)"
        ax.text(
            1.02, row, f"{decimals(mean)}{spread}", transform=ax.get_yaxis_transform(), va="center", fontsize=FONT - 1
        )
    ax.set_ylim(len(arms) - 0.4, -0.6)
    ax.set_yticks(range(len(arms)), [str(arm) for arm in arms])
    ax.set_xlabel("test error (%)", fontsize=FONT)
    style_axes(ax)
    ax.tick_params(axis="y", length=0)
    ax.spines["left"].set_visible(False)
    several = bool(results["arm"].duplicated().any())
    mean_name = f"mean, {100 * level:g} % interval" if several else "mean"
    key = {mean_name: {**marker(color, "o"), "linewidth": 1.4 if several else 0}, "one seed": _seed_dots(color)}
    if paper:
        key["paper"] = published
    handles = [Line2D([], [], **style) for style in key.values()]
    figure.legend(handles, list(key), loc="outside upper center", ncols=len(key), fontsize=FONT - 1, frameon=False)
    return figure


@as_written
def trade_off(
    tries: Mapping[str, pd.DataFrame], *, label: str = "score on inner held-out pairs", x: str = "task error (%)"
) -> Figure:
    """Draw the score that an RDM term buys against what it costs the task, as its weight α grows.

    Parameters
    ----------
    tries : mapping of str to DataFrame
        The tries of each line (at most 21), such as a layer: columns ``alpha0, task_error, value``, and, optionally,
        ``n_chosen``: how often this weight was selected, written beside its ring where it is above 0. Points are joined
        in the order of α, which stands beside them.
    label, x : str
        Labels of the vertical and of the horizontal axis.

    Returns
    -------
    Figure

    Raises
    ------
    ValueError
        If there is nothing to draw, a column is missing, or a weight occurs twice in a line.

    Examples
    --------
    >>> tries = pd.DataFrame({"alpha0": [0.0, 1.0], "task_error": [20.0, 22.0], "value": [0.30, 0.35]})
    >>> [text.get_text() for text in trade_off({"pool2": tries}).axes[0].texts]
    ['0', '1']
    """
    if not tries:
        raise ValueError("nothing to draw; give at least one line of tries")
    for name, line in tries.items():
        check_columns(line, ("alpha0", "task_error", "value"), f"tries[{name!r}]")
        if line["alpha0"].duplicated().any():
            raise ValueError(f"tries[{name!r}] has a weight twice; average its tries first")
    figure = Figure(figsize=(5.6, 3.3), layout="constrained")
    ax = figure.subplots()
    for k, (name, style) in enumerate(styles_of(list(tries)).items()):
        x_side, y_side = _SIDES[k % len(_SIDES)]
        aligned = {"ha": "left" if x_side > 0 else "right", "va": "bottom" if y_side > 0 else "top"}
        line = tries[name].sort_values("alpha0")
        dot = marker(style.color, "o", style.fill) | {"markersize": 3.6}
        ax.plot(line["task_error"], line["value"], linestyle=style.dash, linewidth=1.1, label=name, **dot)
        for _, point in line.iterrows():
            n_chosen = int(point.get("n_chosen", 0))
            place = (point["task_error"], point["value"])
            if n_chosen:
                ring = marker(INK, "o", "none") | {"markersize": 8.5}
                ax.plot(*place, linestyle="none", **ring)
            text = f"{point['alpha0']:g}" + (f" (selected {n_chosen}×)" if n_chosen else "")
            near = (4 * x_side, 3 * y_side)
            note = ax.annotate(text, place, near, textcoords="offset points", fontsize=FONT - 1.5, color=style.color)
            note.set(**aligned, path_effects=[Stroke(linewidth=2, foreground="white"), Normal()], zorder=3)
    ax.margins(0.1)
    ax.set_xlabel(x, fontsize=FONT)
    ax.set_ylabel(label, fontsize=FONT)
    style_axes(ax)
    legend_beside(figure)
    return figure


def _seed_dots(color: str) -> dict[str, Any]:
    dot = {"color": color, "marker": "o", "markersize": 2.5, "markeredgewidth": 0, "alpha": 0.45}
    return {**dot, "linestyle": "none", "zorder": 1}


def _check_results(results: pd.DataFrame, keys: Sequence[str]) -> None:
    check_columns(results, (*keys, "test_error"), "results")
    if results.empty:
        raise ValueError("results has no rows; give one per training")
    errors = results["test_error"].to_numpy(float)
    bad = np.flatnonzero(~np.isfinite(errors))
    if bad.size:
        raise ValueError(
            f"test_error is {errors[bad[0]]} for {_row(results, bad[0], keys)}; leave out the training runs that "
            "failed, and say so"
        )
    twice = np.flatnonzero(results.duplicated(list(keys)))
    if twice.size:
        raise ValueError(
            f"results has more than one row for {_row(results, twice[0], keys)}; select the rows to draw, "
            "one per training"
        )


def _row(results: pd.DataFrame, position: int, keys: Sequence[str]) -> str:
    return ", ".join(f"{key} {results[key].iloc[position]}" for key in keys)
