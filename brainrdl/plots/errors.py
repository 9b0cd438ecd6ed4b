"""Errors as curves against epochs or labels, and as dots."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import (
    FuncFormatter,
    LogLocator,
    MaxNLocator,
    NullFormatter,
    NullLocator,
    SymmetricalLogLocator,
)
from numpy.typing import NDArray

from brainrdl.inference import t_interval
from brainrdl.plots._style import FONT, INK, legend_beside, marker, quoted, style_axes, styles_of
from brainrdl.plots.numbers import decimals

_ERRORS = {
    "task_error": "training images",
    "validation_error": "validation images",
    "test_error": "test images",
}


def error_curves(
    histories: Mapping[str, pd.DataFrame | Sequence[pd.DataFrame]],
    *,
    columns: Sequence[str] = ("task_error", "validation_error"),
    palette: Sequence[str] | None = None,
) -> Figure:
    """Draw errors against epochs, one panel per column and one line per method.

    Parameters
    ----------
    histories : mapping from method to DataFrame or sequence of DataFrame
        Columns ``epoch`` and `columns` (errors in percent). Of several seeds, the mean is drawn over the
        epochs that all of them have, and each seed faintly. NaN (not evaluated) is passed over. At most 21
        methods.
    columns : sequence of str
        One panel each, with a vertical axis of its own: logarithmic where the panel's errors span a factor of
        five, and then linear from the smallest positive error down to zero, if zero occurs.
    palette : sequence of str, optional
        Names of all methods of a set of figures, at most 21. Each takes the style of its place there, so that
        figures which show different methods agree; by default, of its place in this figure.

    Returns
    -------
    Figure
        The legend lists the methods as the last panel's lines end, from the top.

    Raises
    ------
    ValueError
        If there is nothing to draw, a column is missing, an epoch occurs twice in a DataFrame, there are too
        many methods to tell apart, or `palette` lacks one.

    Examples
    --------
    >>> history = pd.DataFrame({"epoch": [1, 2], "task_error": [9.0, 4.0], "validation_error": [8.0, 5.0]})
    >>> figure = error_curves({"plain": [history, history], "RDL": history})
    >>> [ax.get_title() for ax in figure.axes]
    ['training images', 'validation images']
    """
    runs = {name: [h] if isinstance(h, pd.DataFrame) else list(h) for name, h in histories.items()}
    if not runs or not columns:
        raise ValueError("nothing to draw; give at least one method and one column")
    for name, frames in runs.items():
        if not frames:
            raise ValueError(f"histories[{name!r}] is an empty list; give one DataFrame per seed")
        for frame in frames:
            _check_columns(frame, ("epoch", *columns), f"histories[{name!r}]")
            twice = frame["epoch"][frame["epoch"].duplicated()]
            if len(twice):
                raise ValueError(
                    f"histories[{name!r}] holds epoch {twice.iloc[0]} more than once; give the history of "
                    "one training per DataFrame, and several seeds as a list"
                )
    styles = styles_of(list(runs), palette)

    figure = Figure(figsize=(1.5 + 2.6 * len(columns), 2.8), layout="constrained")
    axes = figure.subplots(1, len(columns), sharex=True, squeeze=False)[0]
    ends: dict[str, float] = {}
    for ax, column in zip(axes, columns, strict=True):
        for name, frames in runs.items():
            style = styles[name]
            if len(frames) > 1:
                for frame in frames:
                    run = frame[["epoch", column]].dropna()
                    ax.plot(run["epoch"], run[column], color=style.color, linewidth=0.5, alpha=0.3)
            seeds = pd.concat([frame.set_index("epoch")[column] for frame in frames], axis=1, join="inner")
            mean = seeds.mean(axis=1, skipna=False).dropna()
            dot = "." if len(mean) == 1 else None
            ax.plot(mean.index, mean, color=style.color, linestyle=style.dash, linewidth=1.3, marker=dot)
            ends[name] = float(mean.iloc[-1]) if len(mean) else 0.0
        ax.set_title(_ERRORS.get(column, column), fontsize=FONT)
        ax.set_xlabel("epoch", fontsize=FONT)
        ax.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
        style_axes(ax)
        _scale_errors(ax, np.concatenate([frame[column] for frames in runs.values() for frame in frames]))
    axes[0].set_ylabel("error (%)", fontsize=FONT)
    order = sorted(runs, key=lambda name: -ends[name])
    handles = [Line2D([], [], color=styles[n].color, linestyle=styles[n].dash, linewidth=1.3) for n in order]
    legend_beside(figure, handles, order)
    return figure


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
        Names of all methods of a set of figures, at most 21. Each takes the style of its place there, so that
        figures which show different methods agree; by default, of its place in this figure.

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
        nudge = 10 ** (min(0.03, 0.16 / len(arms)) * (k - (len(arms) - 1) / 2))
        intervals = {n: t_interval(e, level=level) for n, e in rows.groupby("labels")["test_error"]}
        x = np.array(list(intervals), dtype=float) * nudge
        mean, low, high = np.array(list(intervals.values())).T
        ax.plot(rows["labels"] * nudge, rows["test_error"], **_seed_dots(style.color))
        ax.vlines(x, low, high, color=style.color, linewidth=1.0)
        ax.plot(
            x,
            mean,
            linestyle=style.dash,
            linewidth=1.2,
            label=str(arm),
            **marker(style.color, "o", style.fill),
        )
    ax.set_xscale("log")
    ax.set_xticks(counts, [f"{n:,g}" for n in counts])
    ax.xaxis.set_minor_locator(NullLocator())
    ax.set_xlabel("labelled training images", fontsize=FONT)
    ax.set_ylabel("test error (%)", fontsize=FONT)
    style_axes(ax)
    _scale_errors(ax, results["test_error"].to_numpy(float))
    legend_beside(figure)
    return figure


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
        Coverage of Student's t interval over seeds; a method with one seed has none.

    Returns
    -------
    Figure
        At the right the numbers drawn, ``mean [low, high]``, or ``mean (seeds equal)`` where there is no interval.

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
        mean, low, high = t_interval(errors, level=level)
        ax.axhline(row, color="0.92", linewidth=0.6, zorder=0)
        ax.plot(errors, np.full(len(errors), row + 0.24), **_seed_dots(color))
        ax.hlines(row, low, high, color=color, linewidth=1.4)
        ax.plot(mean, row, **marker(color, "o"))
        if paper and arm in paper:
            ax.plot(paper[arm], row, **published)
        spread = f" [{decimals(low)}, {decimals(high)}]" if np.isfinite(low) else ""
        if high - low < 1e-9:  # an interval without width would claim certainty
            spread = " (seeds equal)"
        ax.text(
            1.02,
            row,
            f"{decimals(mean)}{spread}",
            transform=ax.get_yaxis_transform(),
            va="center",
            fontsize=FONT - 1,
        )
    ax.set_ylim(len(arms) - 0.4, -0.6)
    ax.set_yticks(range(len(arms)), [str(arm) for arm in arms])
    ax.set_xlabel("test error (%)", fontsize=FONT)
    style_axes(ax)
    ax.tick_params(axis="y", length=0)
    ax.spines["left"].set_visible(False)
    several = bool(results["arm"].duplicated().any())
    key = {
        f"mean, {100 * level:g} % interval" if several else "mean": {
            **marker(color, "o"),
            "linewidth": 1.4 if several else 0,
        },
        "one seed": _seed_dots(color),
    }
    if paper:
        key["paper"] = published
    handles = [Line2D([], [], **style) for style in key.values()]
    figure.legend(handles, list(key), loc="outside upper center", ncols=len(key), fontsize=FONT - 1, frameon=False)
    return figure


def _seed_dots(color: str) -> dict[str, Any]:
    return {
        "color": color,
        "marker": "o",
        "markersize": 2.5,
        "markeredgewidth": 0,
        "alpha": 0.45,
        "linestyle": "none",
        "zorder": 1,
    }


def _scale_errors(ax: Axes, errors: NDArray[np.float64]) -> None:
    errors = errors[np.isfinite(errors)]
    positive = errors[errors > 0]
    if positive.size == 0 or positive.max() < 5 * positive.min():
        return
    subs = (1.0, 2.0, 5.0) if positive.max() < 300 * positive.min() else (1.0,)
    if positive.size == errors.size:
        ax.set_yscale("log")
        ax.yaxis.set_major_locator(LogLocator(subs=subs))
    else:
        smallest = float(positive.min())
        ax.set_yscale("symlog", linthresh=smallest, linscale=0.3)
        ax.yaxis.set_major_locator(SymmetricalLogLocator(base=10, linthresh=smallest, subs=subs))
    ax.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    ax.yaxis.set_minor_formatter(NullFormatter())


def _check_results(results: pd.DataFrame, keys: Sequence[str]) -> None:
    _check_columns(results, (*keys, "test_error"), "results")
    if results.empty:
        raise ValueError("results has no rows; give one per training")
    errors = results["test_error"].to_numpy(float)
    bad = np.flatnonzero(~np.isfinite(errors))
    if bad.size:
        raise ValueError(
            f"test_error is {errors[bad[0]]} for {_row(results, bad[0], keys)}; leave out the trainings that "
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


def _check_columns(frame: pd.DataFrame, columns: Sequence[str], what: str) -> None:
    lacking = [column for column in columns if column not in frame]
    if lacking:
        raise ValueError(f"{what} lacks the column(s) {quoted(lacking)}; it has {quoted(frame) or 'none'}")


def trade_off(
    tries: Mapping[str, pd.DataFrame], *, label: str = "score on inner held-out pairs", x: str = "task error (%)"
) -> Figure:
    """Draw the score that an RDM term buys against what it costs the task, as its weight α grows.

    Parameters
    ----------
    tries : mapping of str to DataFrame
        A line each (at most 21), such as a layer: columns ``alpha0, task_error, value``, and, optionally, ``n_chosen``:
        how often this weight was chosen, told beside its ring where it is above 0. Points are joined in the order of
        α, which stands beside them.
    label, x : str
        Of the axes.

    Returns
    -------
    Figure

    Raises
    ------
    ValueError
        If there is nothing to draw, a column is missing, or a weight occurs twice in a line.

    Examples
    --------
    >>> import pandas as pd
    >>> tries = pd.DataFrame({"alpha0": [0.0, 1.0], "task_error": [20.0, 22.0], "value": [0.30, 0.35]})
    >>> [text.get_text() for text in trade_off({"pool2": tries}).axes[0].texts]
    ['0', '1']
    """
    if not tries:
        raise ValueError("nothing to draw; give at least one line of tries")
    for name, line in tries.items():
        lacking = [column for column in ("alpha0", "task_error", "value") if column not in line]
        if lacking:
            raise ValueError(f"tries[{name!r}] lacks the column(s) {quoted(lacking)}; it has {quoted(line) or 'none'}")
        if line["alpha0"].duplicated().any():
            raise ValueError(f"tries[{name!r}] has a weight twice; average its tries first")
    figure = Figure(figsize=(5.6, 3.3), layout="constrained")
    ax = figure.subplots()
    for name, style in styles_of(list(tries)).items():
        line = tries[name].sort_values("alpha0")
        dot = marker(style.color, "o", style.fill) | {"markersize": 3.6}
        ax.plot(line["task_error"], line["value"], linestyle=style.dash, linewidth=1.1, label=name, **dot)
        for _, point in line.iterrows():
            n_chosen = int(point.get("n_chosen", 0))
            place = (point["task_error"], point["value"])
            if n_chosen:
                ring = marker(INK, "o", "none") | {"markersize": 8.5}
                ax.plot(*place, linestyle="none", **ring)
            text = f"{point['alpha0']:g}" + (f" (chosen {n_chosen}×)" if n_chosen else "")
            ax.annotate(text, place, (4, 4), textcoords="offset points", fontsize=FONT - 1.5, color=style.color)
    ax.margins(0.1)
    ax.set_xlabel(x, fontsize=FONT)
    ax.set_ylabel(label, fontsize=FONT)
    style_axes(ax)
    legend_beside(figure)
    return figure


def learning_curves(
    runs: Mapping[str, Sequence[pd.DataFrame]],
    *,
    columns: Mapping[str, str],
    palette: Sequence[str] | None = None,
) -> Figure:
    """Draw quantities against updates: a panel per quantity, a line per arm.

    Parameters
    ----------
    runs : mapping of str to sequence of DataFrame
        Of each arm (at most 21) the histories of its trainings: column ``update`` and `columns`. NaN (not evaluated) is
        passed over. The line is the mean over trainings at the updates that all of them have; of at most twenty
        trainings, each is drawn faintly.
    columns : mapping of str to str
        Which quantities are drawn, from the left, and what their axes are called.
    palette : sequence of str, optional
        Names of all arms of a set of figures, so that one which several show looks the same in all.

    Returns
    -------
    Figure

    Raises
    ------
    ValueError
        If there is nothing to draw, a column is missing, or an update occurs twice in a training.

    Examples
    --------
    >>> import pandas as pd
    >>> history = pd.DataFrame({"update": [0, 100], "task_loss": [2.3, 0.9]})
    >>> learning_curves({"RDL": [history]}, columns={"task_loss": "task loss"}).axes[0].get_ylabel()
    'task loss'
    """
    if not columns or not any(runs.values()):
        raise ValueError("nothing to draw; give at least one training and one column")
    for arm, histories in runs.items():
        for history in histories:
            lacking = [column for column in ("update", *columns) if column not in history]
            if lacking:
                raise ValueError(f"runs[{arm!r}] lacks the column(s) {quoted(lacking)}; it has {quoted(history)}")
            if history["update"].duplicated().any():
                raise ValueError(f"runs[{arm!r}] has an update twice; give the history of one training per DataFrame")
    styles = styles_of(list(runs), palette)
    figure = Figure(figsize=(1.9 + 2.2 * len(columns), 2.6), layout="constrained")
    axes = figure.subplots(1, len(columns), sharex=True, squeeze=False)[0]
    for ax, (column, name) in zip(axes, columns.items(), strict=True):
        for arm, histories in runs.items():
            style = styles[arm]
            series = [history.set_index("update")[column].dropna() for history in histories]
            series = [one for one in series if len(one)]
            if not series:
                continue
            for one in series if 1 < len(series) <= 20 else []:
                ax.plot(one.index, one, color=style.color, linewidth=0.4, alpha=0.25)
            # trainings of several lengths share few updates: those that are known only at their ends are dots
            ends_only = all(len(one) == 1 for one in series)
            mean = pd.concat(series, axis=1, join="outer" if ends_only else "inner").mean(axis=1).sort_index()
            line = "none" if ends_only else style.dash
            ax.plot(
                mean.index, mean, color=style.color, linestyle=line, linewidth=1.3, marker="." if ends_only else None
            )
        ax.set_ylabel(name, fontsize=FONT)
        ax.set_xlabel("update", fontsize=FONT)
        ax.xaxis.set_major_locator(MaxNLocator(4, integer=True, min_n_ticks=1))
        style_axes(ax)
        ends = np.concatenate([history[column].dropna() for histories in runs.values() for history in histories])
        if ends.size and ends.min() > 0 and ends.max() > 20 * ends.min():
            ax.set_yscale("log")
    handles = [Line2D([], [], color=s.color, linestyle=s.dash, linewidth=1.3) for s in styles.values()]
    legend_beside(figure, handles, list(styles))
    return figure
