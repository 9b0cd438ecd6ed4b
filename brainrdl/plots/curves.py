"""The course of training: errors against epochs, and other quantities against updates."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from brainrdl.plots._style import FONT, Style, check_columns, legend_beside, scale_errors, style_axes, styles_of
from brainrdl.plots.names import as_written

_ERRORS = {"task_error": "training images", "validation_error": "validation images", "test_error": "test images"}
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
    histories: Mapping[str, pd.DataFrame | Sequence[pd.DataFrame]],
    *,
    columns: Sequence[str] = ("task_error", "validation_error"),
    palette: Sequence[str] | None = None,
) -> Figure:
    """Draw errors against epochs, one panel per column and one line per method.

    Parameters
    ----------
    histories : mapping from method to DataFrame or sequence of DataFrame
        Columns ``epoch`` and `columns` (errors in percent). Epochs counted from 0, as in the Trainer's history, are
        drawn from 1. Of several seeds, the mean is drawn over the epochs that all of them have, and each of at most
        twenty seeds faintly. NaN (not evaluated) is passed over. At most 21 methods.
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
            check_columns(frame, ("epoch", *columns), f"histories[{name!r}]")
            twice = frame["epoch"][frame["epoch"].duplicated()]
            if len(twice):
                raise ValueError(
                    f"histories[{name!r}] holds epoch {twice.iloc[0]} more than once; give the history of "
                    "one training per DataFrame, and several seeds as a list"
                )
    # the error in row 0 of the Trainer's history is that after the first epoch
    if any((frame["epoch"] == 0).any() for frames in runs.values() for frame in frames):
        runs = {name: [frame.assign(epoch=frame["epoch"] + 1) for frame in frames] for name, frames in runs.items()}
    styles = styles_of(list(runs), palette)
    figure, axes = _draw_course(runs, list(columns), styles, _EPOCHS)
    for ax, column in zip(axes, columns, strict=True):
        ax.set_title(_ERRORS.get(column, column), fontsize=FONT)
        scale_errors(ax, _values(runs, column))
    axes[0].set_ylabel("error (%)", fontsize=FONT)
    ends = {name: _mean(_series(frames, "epoch", columns[-1])) for name, frames in runs.items()}
    _write_legend(figure, styles, sorted(runs, key=lambda name: -ends[name].iloc[-1] if len(ends[name]) else 0.0))
    return figure


@as_written
def learning_curves(
    runs: Mapping[str, Sequence[pd.DataFrame]], *, columns: Mapping[str, str], palette: Sequence[str] | None = None
) -> Figure:
    """Draw quantities against updates: a panel per quantity, a line per arm.

    Parameters
    ----------
    runs : mapping of str to sequence of DataFrame
        Histories of the training runs of each arm (at most 21): column ``update`` and `columns`. NaN (not evaluated) is
        passed over. The line is the mean over training runs at the updates that all of them have; at most
        twenty runs are drawn as faint lines.
    columns : mapping of str to str
        Columns to draw, from the left, and the labels of their axes.
    palette : sequence of str, optional
        Names of all arms of a set of figures, as in `error_curves`.

    Returns
    -------
    Figure

    Raises
    ------
    ValueError
        If there is nothing to draw, a column is missing, or an update occurs twice in a training.

    Examples
    --------
    >>> history = pd.DataFrame({"update": [0, 100], "task_loss": [2.3, 0.9]})
    >>> learning_curves({"RDL": [history]}, columns={"task_loss": "task loss"}).axes[0].get_ylabel()
    'task loss'
    """
    if not columns or not any(runs.values()):
        raise ValueError("nothing to draw; give at least one training and one column")
    for arm, histories in runs.items():
        for history in histories:
            check_columns(history, ("update", *columns), f"runs[{arm!r}]")
            if history["update"].duplicated().any():
                raise ValueError(f"runs[{arm!r}] has an update twice; give the history of one training per DataFrame")
    styles = styles_of(list(runs), palette)
    figure, axes = _draw_course(runs, list(columns), styles, _UPDATES)
    for ax, (column, name) in zip(axes, columns.items(), strict=True):
        ax.set_ylabel(name, fontsize=FONT)
        values = _values(runs, column)
        # a loss that falls by less is read more easily on a linear axis; one that reaches 0 has no logarithm
        if values.size and values.min() > 0 and values.max() > 20 * values.min():
            ax.set_yscale("log")
    _write_legend(figure, styles, list(styles))
    return figure


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


def _write_legend(figure: Figure, styles: Mapping[str, Style], order: Sequence[str]) -> None:
    handles = [Line2D([], [], color=styles[n].color, linestyle=styles[n].dash, linewidth=1.3) for n in order]
    legend_beside(figure, handles, order)
