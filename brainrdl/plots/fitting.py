"""What fitting a network to RDMs does: the task against the brain, and the course of training."""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from brainrdl.plots._style import FONT, INK, legend_beside, marker, quoted, style_axes, styles_of


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
