"""The course of training: errors against epochs, and other quantities against updates."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import NamedTuple, cast

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator
from pandas.api.types import is_numeric_dtype

from brainrdl.plots._style import FONT, Style, check_columns, legend_beside, scale_errors, style_axes, styles_of
from brainrdl.plots.names import as_written

_Some = pd.DataFrame | Sequence[pd.DataFrame]
Histories = _Some | Mapping[str, _Some]
"""Histories of one training or several, or of those of each arm."""

_ERRORS = {"task_error": "training images", "validation_error": "validation images", "test_error": "test images"}
_LABELS = {
    "task_loss": "task loss",
    "task_error": "error on training images (%)",
    "validation_loss": "loss on validation images",
    "validation_error": "error on validation images (%)",
}
_NO_LEGEND = 0.4  # inches beside the panels
_NO_METRIC = frozenset(("epoch", "update", "lr", "seconds", "seed", "split"))
_MOST_SEEN = 20  # of more training runs single lines would only darken the panel


class _Course(NamedTuple):
    """Look of a course: its horizontal axis, the figure's inches beside the panels, of a panel and in height, ticks."""

    along: str
    beside: float
    panel: float
    height: float
    ticks: int
    thin: float
    alpha: float


_EPOCHS = _Course("epoch", 1.5, 2.6, 2.8, ticks=10, thin=0.5, alpha=0.3)
_UPDATES = _Course("update", 1.9, 2.2, 2.6, ticks=4, thin=0.4, alpha=0.25)


@as_written
def error_curves(
    histories: Histories,
    *,
    columns: Sequence[str] = ("task_error", "validation_error"),
    palette: Sequence[str] | None = None,
) -> Figure:
    """Draw errors against epochs, one panel per column and one line per method.

    Parameters
    ----------
    histories : mapping from method to DataFrame or sequence of DataFrame, or one or several DataFrames
        Columns ``epoch`` and `columns` (errors in percent), as `Trainer.fit` returns them; epochs counted from 0,
        as there, are drawn from 1. Of several seeds, the mean is drawn over the epochs that all of them have, and each
        of at most twenty seeds faintly. NaN (not evaluated) is passed over. At most 21 methods; without names there is
        one, and no legend.
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
    TypeError
        If a history is no DataFrame.
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
    runs, unnamed = _by_name(histories, "histories"), not isinstance(histories, Mapping)
    if not runs or not columns:
        raise ValueError("nothing to draw; give at least one method and one column")
    for name, frames in runs.items():
        what = "histories" if unnamed else f"histories[{name!r}]"
        if not frames:
            raise ValueError(f"{what} is an empty list; give one DataFrame per seed")
        for frame in frames:
            check_columns(frame, ("epoch", *columns), what)
            twice = frame["epoch"][frame["epoch"].duplicated()]
            if len(twice):
                raise ValueError(
                    f"{what} holds epoch {twice.iloc[0]} more than once; give the history of "
                    "one training per DataFrame, and several seeds as a list"
                )
    styles = styles_of(list(runs), palette)
    runs = _counted_from_one(runs)
    figure, axes = _draw_course(
        runs, list(columns), styles, _EPOCHS._replace(beside=_NO_LEGEND) if unnamed else _EPOCHS
    )
    for ax, column in zip(axes, columns, strict=True):
        ax.set_title(_ERRORS.get(column, column), fontsize=FONT)
        scale_errors(ax, _values(runs, column))
    axes[0].set_ylabel("error (%)", fontsize=FONT)
    if unnamed:
        return figure
    ends = {name: _mean(_series(frames, "epoch", columns[-1])) for name, frames in runs.items()}
    _write_legend(figure, styles, sorted(runs, key=lambda name: -ends[name].iloc[-1] if len(ends[name]) else 0.0))
    return figure


@as_written
def learning_curves(
    runs: Histories,
    *,
    columns: Mapping[str, str] | Sequence[str] | None = None,
    palette: Sequence[str] | None = None,
) -> Figure:
    """Draw quantities against epochs or updates: a panel per quantity, a line per arm.

    Parameters
    ----------
    runs : mapping of str to DataFrame or sequence of DataFrame, or one or several DataFrames
        Histories of the training runs of each arm (at most 21), as `Trainer.fit` returns them, or with a column
        ``update``, along which they are drawn then. NaN (not evaluated) is passed over. The line is the mean over
        training runs at the epochs or updates that all of them have; at most twenty runs are drawn as faint lines.
        Epochs counted from 0, as in a `Trainer`'s history, are drawn from 1. Without names there is one arm, and no
        legend.
    columns : mapping of str to str, or sequence of str, optional
        Columns to draw, from the left, and the labels of their axes. Absent: all losses, errors and scores of a
        `Trainer`'s histories, also those that not all arms have.
    palette : sequence of str, optional
        Names of all arms of a set of figures, as in `error_curves`.

    Returns
    -------
    Figure

    Raises
    ------
    TypeError
        If a history is no DataFrame.
    ValueError
        If there is nothing to draw, a column is missing, or an epoch or update occurs twice in a training.

    Examples
    --------
    >>> import torch, brainrdl as rdl
    >>> loader = [(torch.randn(8, 4), torch.randint(2, (8,)))]
    >>> history = rdl.Trainer(torch.nn.Linear(4, 2)).fit(loader, epochs=2)
    >>> [ax.get_ylabel() for ax in learning_curves(history).axes]
    ['task loss', 'error on training images (%)']
    >>> history = pd.DataFrame({"update": [0, 100], "task_loss": [2.3, 0.9]})
    >>> learning_curves({"RDL": [history]}, columns={"task_loss": "task loss"}).axes[0].get_xlabel()
    'update'
    """
    arms, unnamed = _by_name(runs, "runs"), not isinstance(runs, Mapping)
    every = [history for histories in arms.values() for history in histories]
    of_epochs = bool(every) and all("epoch" in history and "update" not in history for history in every)
    course = _EPOCHS if of_epochs else _UPDATES
    if columns is None:
        found = dict.fromkeys(str(column) for history in every for column in history)
        columns = [column for column in found if _is_measured(column, every)]
        # NaN where an arm lacks one
        arms = {arm: [h.reindex(columns=[*h, *(c for c in columns if c not in h)]) for h in arms[arm]] for arm in arms}
    labels = columns if isinstance(columns, Mapping) else {column: _LABELS.get(column, column) for column in columns}
    if not labels or not every:
        raise ValueError("nothing to draw; give at least one training and one column")
    for arm, histories in arms.items():
        what = "runs" if unnamed else f"runs[{arm!r}]"
        for history in histories:
            check_columns(history, (course.along, *labels), what)
            if history[course.along].duplicated().any():
                twice = f"an {course.along} twice"
                raise ValueError(f"{what} has {twice}; give the history of one training per DataFrame")
    styles = styles_of(list(arms), palette)
    if unnamed:
        course = course._replace(beside=_NO_LEGEND)
    counted = _counted_from_one(arms) if of_epochs else arms
    figure, axes = _draw_course(counted, list(labels), styles, course)
    # each panel has a label of its own, which is not to touch the panel before it
    cast(ConstrainedLayoutEngine, figure.get_layout_engine()).set(w_pad=0.09)
    for ax, (column, name) in zip(axes, labels.items(), strict=True):
        ax.set_ylabel(name, fontsize=FONT)
        values = _values(arms, column)
        # a loss that falls by less is read more easily on a linear axis; one that reaches 0 has no logarithm
        if values.size and values.min() > 0 and values.max() > 20 * values.min():
            ax.set_yscale("log")
    if not unnamed:
        ends = {n for n in arms if all(_ends_only(_series(arms[n], course.along, column)) for column in labels)}
        _write_legend(figure, styles, list(styles), dots=ends)
    return figure


def _by_name(runs: Histories, argument: str) -> dict[str, list[pd.DataFrame]]:
    named = runs if isinstance(runs, Mapping) else {"": runs}
    found = {}
    for name, given in named.items():
        histories = [given] if isinstance(given, pd.DataFrame) else list(given) if isinstance(given, Iterable) else None
        other = [given] if histories is None else [part for part in histories if not isinstance(part, pd.DataFrame)]
        if histories is None or other:
            where = f" for {name!r}" if isinstance(runs, Mapping) else ""
            raise TypeError(
                f"{argument} must be DataFrames, as Trainer.fit returns them, or lists of these, got a "
                f"{type(other[0]).__name__}{where}; pandas.DataFrame(rows) makes one of a dict for each epoch, with "
                "columns such as 'epoch' and 'task_loss'"
            )
        found[name] = histories
    return found


def _is_measured(column: str, histories: Sequence[pd.DataFrame]) -> bool:
    """True for a loss, an error or a score of histories, of which there is a number."""
    if column in _NO_METRIC or column.startswith("alpha/") or column.endswith("/pairs"):
        return False
    values = [history[column] for history in histories if column in history]
    return all(is_numeric_dtype(part) for part in values) and any(part.notna().any() for part in values)


def _counted_from_one(runs: Mapping[str, list[pd.DataFrame]]) -> dict[str, list[pd.DataFrame]]:
    """Histories with epochs counted from one, where some are counted from 0, as those of `Trainer.fit` are."""
    if not any((history["epoch"] == 0).any() for histories in runs.values() for history in histories):
        return dict(runs)
    # the error in the row of epoch 0 is that after the first epoch
    return {name: [h.assign(epoch=h["epoch"] + 1) for h in histories] for name, histories in runs.items()}


def _draw_course(
    runs: Mapping[str, Sequence[pd.DataFrame]], columns: Sequence[str], styles: Mapping[str, Style], course: _Course
) -> tuple[Figure, list[Axes]]:
    """Draw a panel per column: for each name the mean of its training runs and, faintly, the runs."""
    figure = Figure(figsize=(course.beside + course.panel * len(columns), course.height), layout="constrained")
    axes = list(figure.subplots(1, len(columns), sharex=True, squeeze=False)[0])
    for ax, column in zip(axes, columns, strict=True):
        for name, histories in runs.items():
            series = _series(histories, course.along, column)
            if series:
                _draw_mean(ax, series, styles[name], course)
        ax.set_xlabel(course.along, fontsize=FONT)
        ax.xaxis.set_major_locator(MaxNLocator(course.ticks, integer=True, min_n_ticks=1))
        style_axes(ax)
    return figure, axes


def _draw_mean(ax: Axes, series: Sequence[pd.Series], style: Style, course: _Course) -> None:
    for training in series if 1 < len(series) <= _MOST_SEEN else ():
        ax.plot(training.index, training, color=style.color, linewidth=course.thin, alpha=course.alpha)
    mean = _mean(series)
    # a line through the ends of trainings of several lengths would look like the course of one
    line = "none" if _ends_only(series) else style.dash
    dot = "." if line == "none" or len(mean) == 1 else None
    ax.plot(mean.index, mean, color=style.color, linestyle=line, linewidth=1.3, marker=dot)


def _series(histories: Sequence[pd.DataFrame], along: str, column: str) -> list[pd.Series]:
    """A column of each training that has values of it, without those that were not evaluated."""
    series = [history.set_index(along)[column].dropna() for history in histories]
    return [training for training in series if len(training)]


def _mean(series: Sequence[pd.Series]) -> pd.Series:
    """The mean over training runs where all have a value: elsewhere it would jump as runs end."""
    if not series:
        return pd.Series(dtype=float)
    # trainings of several lengths that are known only at their ends share no update
    return pd.concat(series, axis=1, join="outer" if _ends_only(series) else "inner").mean(axis=1).sort_index()


def _ends_only(series: Sequence[pd.Series]) -> bool:
    return all(len(training) == 1 for training in series)


def _values(runs: Mapping[str, Sequence[pd.DataFrame]], column: str) -> np.ndarray:
    return np.concatenate([history[column].dropna() for histories in runs.values() for history in histories])


def _write_legend(
    figure: Figure, styles: Mapping[str, Style], order: Sequence[str], dots: Collection[str] = ()
) -> None:
    """Name the lines, and those of which only `dots` are drawn."""
    looks = {n: {"linestyle": "none", "marker": "."} if n in dots else {"linestyle": styles[n].dash} for n in order}
    handles = [Line2D([], [], color=styles[n].color, linewidth=1.3, **looks[n]) for n in order]
    legend_beside(figure, handles, order)
