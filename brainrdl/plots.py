"""Figures: RDM panels, training curves, maps of RDMs, test errors as dots.

Every function returns a `matplotlib.figure.Figure` (or the axes that it drew on) and shows nothing: a
notebook displays what a cell returns, a script calls ``figure.savefig(path)``. pyplot and its global state
stay untouched.
"""

from collections.abc import Hashable, Iterable, Mapping, Sequence
from itertools import pairwise
from typing import Any, Literal, NamedTuple

import numpy as np
import pandas as pd
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.colorbar import Colorbar
from matplotlib.colors import Colormap, Normalize
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties
from matplotlib.image import AxesImage
from matplotlib.lines import Line2D
from matplotlib.textpath import TextPath
from matplotlib.ticker import (
    FuncFormatter,
    LogLocator,
    MaxNLocator,
    NullFormatter,
    NullLocator,
    SymmetricalLogLocator,
)
from mpl_toolkits.axes_grid1.anchored_artists import AnchoredSizeBar
from numpy.typing import ArrayLike, NDArray
from xarray import DataArray

from brainrdl.embedding import mds
from brainrdl.inference import t_interval
from brainrdl.labelled import check_rdms
from brainrdl.stimuli import name_some

Groups = str | Mapping[str, Hashable] | Sequence[Hashable]
"""A group per stimulus: a coordinate along it, a mapping from its id, or a list in the order of the RDM."""

_FONT = 8.0
"""Points; figures are drawn at the size at which they are printed."""

_INK = "0.25"

# Okabe and Ito's palette for all kinds of colour vision, without its yellow, which is lost on white.
_COLORS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
_DASHES: tuple[Any, ...] = ("solid", (0, (3.5, 1.5)), (0, (1, 1.2)))
_FILLS = ("full", "open", "left")
_MARKERS = ("o", "s", "^", "D", "v", "P", "X", "p", "<", ">")

_MEASURES = {
    "mse": "mean squared difference",
    "sqeuclidean": "squared Euclidean distance",
    "euclidean": "Euclidean distance",
    "correlation": "1 − Pearson r",
    "cosine": "1 − cosine",
    "mahalanobis": "Mahalanobis distance",
    "crossnobis": "crossnobis distance",
    "undeclared": "dissimilarity",
}
_ERRORS = {
    "task_error": "training images",
    "validation_error": "validation images",
    "test_error": "test images",
}


def rdm_panel(
    rdm: ArrayLike | DataArray,
    *,
    groups: Groups | None = None,
    title: str | None = None,
    label: str | None = None,
    limits: tuple[float, float] | None = None,
    ax: Axes | None = None,
) -> Axes:
    """Draw one RDM, with a colour bar.

    Parameters
    ----------
    rdm : array_like or DataArray, shape (stimuli, stimuli)
        Square. NaN (unmeasured) is grey.
    groups : str, mapping from stimulus id, or sequence of length stimuli, optional
        A group (class, category) per stimulus: the name of a coordinate along `stimulus`, by stimulus id, or
        in the order of the RDM. Thin lines part the groups, and their names stand along the edges where they
        fit. Stimuli of a group must stand together.
    title : str, optional
    label : str, optional
        Of the colour bar. By default the metric that `rdm` declares.
    limits : (float, float), optional
        Lowest and highest value of the colour scale; by default of the values off the diagonal. The diagonal,
        zero by definition, takes the colour of its end of the scale.
    ax : Axes, optional
        Where to draw; by default a figure of its own, found as ``ax.figure``.

    Returns
    -------
    Axes

    Raises
    ------
    ValueError
        If `rdm` is not square, or if `groups` does not name a group per stimulus, or scatters one.

    See Also
    --------
    plot_rdms : All RDMs of a labelled DataArray.

    Examples
    --------
    >>> ax = rdm_panel([[0, 1, 2], [1, 0, 2], [2, 2, 0]], groups=["cat", "cat", "dog"], title="V1")
    >>> ax.figure.savefig("v1.png")  # doctest: +SKIP
    """
    square = _square(rdm)
    stretches = _stretches(groups, len(square), rdm if isinstance(rdm, DataArray) else None)
    if label is None:
        label = _measure(rdm) if isinstance(rdm, DataArray) else "dissimilarity"
    if ax is None:
        ax = Figure(figsize=(3.4, 2.9), layout="constrained").subplots()
    figure = ax.figure
    side = min(ax.bbox.width, ax.bbox.height) / figure.dpi
    image = _draw(ax, square, limits or _limits(square), stretches, side, ("left", "bottom"))
    if title is not None:
        ax.set_title(title, fontsize=_FONT)
    bar = figure.colorbar(image, ax=ax, shrink=0.8, aspect=18)
    bar.set_label(label, fontsize=_FONT)
    _style_bar(bar)
    return ax


def plot_rdms(rdms: DataArray, *, groups: Groups | None = None, scale: Literal["panel", "all"] = "panel") -> Figure:
    """Draw every RDM of a labelled DataArray, up to four in a row.

    Parameters
    ----------
    rdms : DataArray (rdm, stimulus, stimulus_)
        Labelled RDMs; each panel bears its label along `rdm`. NaN (unmeasured) is grey.
    groups : str, mapping from stimulus id, or sequence of length stimuli, optional
        As in `rdm_panel`.
    scale : {"panel", "all"}
        Whether each panel has its own colour scale, or all share one.

    Returns
    -------
    Figure

    Raises
    ------
    TypeError, ValueError
        As `brainrdl.labelled.check_rdms`; ValueError also if `scale` is unknown, or `groups` does not name a
        group per stimulus, or scatters one.

    Examples
    --------
    >>> from brainrdl.labelled import label_rdms
    >>> values = np.array([[0.2, 1.3, 1.1], [0.9, 1.0, 0.4]])
    >>> rdms = label_rdms(values, ["face", "body", "house"], ["V1", "IT"], "correlation")
    >>> [ax.get_title() for ax in plot_rdms(rdms, scale="all").axes[:2]]
    ['V1', 'IT']
    """
    rdms = check_rdms(rdms)
    _check_choice("scale", scale, ("panel", "all"))
    names = [str(name) for name in rdms["rdm"].to_numpy()]
    n_columns = min(4, len(names))
    n_rows = -(-len(names) // n_columns)
    grid = np.full((n_rows, n_columns), -1)
    grid.ravel()[: len(names)] = np.arange(len(names))
    return _panels(rdms, grid, groups, scale, titles=names)


def rdm_grid(
    rdms: DataArray,
    *,
    rows: str,
    columns: str,
    groups: Groups | None = None,
    scale: Literal["panel", "column", "all"] = "column",
) -> Figure:
    """Draw labelled RDMs in a table, such as models × layers.

    Parameters
    ----------
    rdms : DataArray (rdm, stimulus, stimulus_)
        Labelled RDMs. NaN (unmeasured) is grey.
    rows, columns : str
        Names of coordinates along `rdm`, such as ``"model"`` and ``"layer"``. Their values are laid out in
        order of first appearance; a combination that no RDM has stays empty.
    groups : str, mapping from stimulus id, or sequence of length stimuli, optional
        As in `rdm_panel`.
    scale : {"panel", "column", "all"}
        What shares a colour scale, whose limits are those of the values off the diagonal. Between layers the
        size of distances differs, hence by column.

    Returns
    -------
    Figure
        About 7 inches wide for six columns, an inch high per row. Its axes are the panels in row-major order,
        then the colour bars.

    Raises
    ------
    TypeError, ValueError
        As `brainrdl.labelled.check_rdms`; ValueError also if a coordinate is missing, two RDMs share a cell,
        `scale` is unknown, or `groups` does not name a group per stimulus, or scatters one.

    Examples
    --------
    >>> from brainrdl.labelled import label_rdms
    >>> rdms = label_rdms(
    ...     np.array([[0.2, 1.3, 1.1], [0.4, 1.1, 0.9], [0.1, 1.9, 1.7]]),
    ...     ["face", "body", "house"],
    ...     ["plain/pool", "RDL/pool", "RDL/fc"],
    ...     "euclidean",
    ...     {"model": ["plain", "RDL", "RDL"], "layer": ["pool", "pool", "fc"]},
    ... )
    >>> figure = rdm_grid(rdms, rows="model", columns="layer")
    """
    rdms = check_rdms(rdms)
    _check_choice("scale", scale, ("panel", "column", "all"))
    row_values, column_values = _coord(rdms, rows, "rdm"), _coord(rdms, columns, "rdm")
    row_names, column_names = list(dict.fromkeys(row_values)), list(dict.fromkeys(column_values))
    grid = np.full((len(row_names), len(column_names)), -1)
    for k, (row, column) in enumerate(zip(row_values, column_values, strict=True)):
        cell = row_names.index(row), column_names.index(column)
        if grid[cell] >= 0:
            both = [rdms["rdm"].to_numpy()[i] for i in (grid[cell], k)]
            raise ValueError(
                f"RDMs {_quoted(both)} both have {rows} {row!r} and {columns} {column!r}; select one of "
                "them, or average them first"
            )
        grid[cell] = k
    return _panels(
        rdms,
        grid,
        groups,
        scale,
        row_names=[str(name) for name in row_names],
        column_names=[str(name) for name in column_names],
    )


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
    styles = _styles(list(runs), palette)

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
        ax.set_title(_ERRORS.get(column, column), fontsize=_FONT)
        ax.set_xlabel("epoch", fontsize=_FONT)
        ax.xaxis.set_major_locator(MaxNLocator(integer=True))
        _style_axes(ax)
        _scale_errors(ax, np.concatenate([frame[column] for frames in runs.values() for frame in frames]))
    axes[0].set_ylabel("error (%)", fontsize=_FONT)
    order = sorted(runs, key=lambda name: -ends[name])
    handles = [Line2D([], [], color=styles[n].color, linestyle=styles[n].dash, linewidth=1.3) for n in order]
    figure.legend(handles, order, loc="outside right upper", fontsize=_FONT, frameon=False, handlelength=2.4)
    return figure


def mds_map(
    distances: ArrayLike,
    *,
    labels: Sequence[str],
    groups: Sequence[str | None],
    paths: Sequence[str] | None = None,
    palette: Sequence[str] | None = None,
    seed: int = 0,
) -> tuple[Figure, float]:
    """Draw RDMs as points in the plane, by metric scaling of the distances between them.

    Parameters
    ----------
    distances : array_like, shape (points, points)
        Distance between each two RDMs, such as 1 − Pearson r.
    labels : sequence of str, length points
        What each point is, such as its layer. A label that occurs once is written beside its point; one that
        several points share has a marker shape of its own, told in the legend.
    groups : sequence of str or None, length points
        Whose each point is, such as its model: a colour each, told in the legend. None is nobody's (the
        pixels, the class labels): grey. At most 21 groups.
    paths : sequence of str, optional
        Labels in the order in which a line runs through each group's points, such as ``["pixels", "pool1",
        "pool2", "fc", "softmax"]``. A label that a group lacks is nobody's point of that label, or skipped
        where there is none.
    palette : sequence of str, optional
        Names of all methods of a set of figures, at most 21. Each takes the style of its place there, so that
        figures which show different methods agree; by default, of its place in this figure.
    seed : int
        See `brainrdl.embedding.mds`.

    Returns
    -------
    figure : Figure
        With Kruskal's stress-1 below the map and a bar that shows its scale. Paths run from left to right.
    stress : float

    Raises
    ------
    ValueError
        If the lengths differ, a name in `paths` is no label, two points share label and group, there are more
        groups or shapes than can be told apart, `palette` lacks a group, or `distances` is refused by
        `brainrdl.embedding.mds`.

    Examples
    --------
    >>> figure, stress = mds_map(
    ...     [[0, 3, 4], [3, 0, 5], [4, 5, 0]],
    ...     labels=["pixels", "fc", "fc"],
    ...     groups=[None, "plain", "RDL"],
    ...     paths=["pixels", "fc"],
    ... )
    >>> round(stress, 6)
    0.0
    """
    points, stress = mds(distances, seed=seed)
    labels, groups = list(labels), list(groups)
    for what, given in (("labels", labels), ("groups", groups)):
        if len(given) != len(points):
            raise ValueError(f"{what} has {len(given)} entries for {len(points)} points; give one per point")
    at: dict[tuple[str | None, str], int] = {}
    for k, (group, label) in enumerate(zip(groups, labels, strict=True)):
        if (group, label) in at:
            raise ValueError(
                f"points {at[group, label]} and {k} both have label {label!r} and group {group!r}; "
                "give each point of a group a label of its own"
            )
        at[group, label] = k
    unknown = [name for name in paths or () if name not in labels]
    if unknown:
        raise ValueError(f"paths names {_quoted(unknown)}, but the labels are {_quoted(dict.fromkeys(labels))}")

    if paths:
        first, last = (points[[label == end for label in labels], 0].mean() for end in (paths[0], paths[-1]))
        points = points * (-1 if first > last else 1, 1)
    names = [name for name in dict.fromkeys(groups) if name is not None]
    styles = _styles(names, palette)
    shared = [label for label in dict.fromkeys(labels) if labels.count(label) > 1]
    if len(shared) > len(_MARKERS):
        raise ValueError(
            f"{len(shared)} labels are shared by several points, but only {len(_MARKERS)} marker shapes can "
            "be told apart; show fewer of them"
        )
    shapes = dict(zip(shared, _MARKERS, strict=False))

    wide, high = np.maximum(np.ptp(points, axis=0), 1e-9)
    entries = len(names) + len(shapes) + bool(names and shapes)
    height = max(2.6, 0.5 + 0.175 * entries, min(5.2, 0.6 + 4.6 * high / wide))
    figure = Figure(figsize=(6.6, height), layout="constrained")
    ax = figure.subplots()
    for name in names if paths else ():
        stops = [at.get((name, label), at.get((None, label), -1)) for label in paths or ()]
        route = points[[stop for stop in stops if stop >= 0]]
        style = styles[name]
        ax.plot(*route.T, color=style.color, linestyle=style.dash, linewidth=0.9, alpha=0.75, zorder=1)
    nobody = _Style("0.45", "solid", "full")
    for point, label, group in zip(points, labels, groups, strict=True):
        style = nobody if group is None else styles[group]
        ax.plot(
            *point,
            **_marker(style.color, shapes.get(label, "o"), style.fill),
            zorder=3 if group is None else 2,
        )
    ax.set_aspect("equal", adjustable="datalim")
    ax.margins(0.06)
    _write_beside(ax, points, [None if label in shapes else label for label in labels])
    ax.set(xticks=[], yticks=[])
    for side in ax.spines.values():
        side.set(color="0.8", linewidth=0.6)
    ax.set_xlabel(f"metric MDS, stress-1 = {stress:.3f}", fontsize=_FONT, color=_INK)
    _draw_scale_bar(ax, points)

    key: list[tuple[str, Any, dict[str, Any]]]
    key = [
        (name, styles[name].dash if paths else "none", _marker(styles[name].color, "o", styles[name].fill))
        for name in names
    ]
    key += [("", "none", {})] if names and shapes else []
    key += [(label, "none", _marker(nobody.color, shape)) for label, shape in shapes.items()]
    if key:
        handles = [Line2D([], [], linestyle=dash, linewidth=0.9, **marker) for _, dash, marker in key]
        texts = [text for text, _, _ in key]
        figure.legend(handles, texts, loc="outside right upper", fontsize=_FONT, frameon=False, handlelength=2.4)
    return figure, stress


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
    for k, (arm, style) in enumerate(_styles(arms, palette).items()):
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
            **_marker(style.color, "o", style.fill),
        )
    ax.set_xscale("log")
    ax.set_xticks(counts, [f"{n:,g}" for n in counts])
    ax.xaxis.set_minor_locator(NullLocator())
    ax.set_xlabel("labelled training images", fontsize=_FONT)
    ax.set_ylabel("test error (%)", fontsize=_FONT)
    _style_axes(ax)
    _scale_errors(ax, results["test_error"].to_numpy(float))
    figure.legend(loc="outside right upper", fontsize=_FONT, frameon=False, handlelength=2.4)
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
        At the right the numbers drawn, ``mean [low, high]``.

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
        raise ValueError(f"paper names {_quoted(strangers)}, but the arms in results are {_quoted(arms)}")
    figure = Figure(figsize=(5.2, 0.75 + 0.3 * len(arms)), layout="constrained")
    ax = figure.subplots()
    color = "0.15"  # none of the methods' colours: each row bears its name
    published = _marker("black", "D", "none") | {"markersize": 5.5, "linestyle": "none"}
    for row, arm in enumerate(arms):
        errors = results.loc[results["arm"] == arm, "test_error"].to_numpy(float)
        mean, low, high = t_interval(errors, level=level)
        ax.axhline(row, color="0.92", linewidth=0.6, zorder=0)
        ax.plot(errors, np.full(len(errors), row + 0.24), **_seed_dots(color))
        ax.hlines(row, low, high, color=color, linewidth=1.4)
        ax.plot(mean, row, **_marker(color, "o"))
        if paper and arm in paper:
            ax.plot(paper[arm], row, **published)
        spread = f" [{low:.2f}, {high:.2f}]" if np.isfinite(low) else ""
        ax.text(
            1.02,
            row,
            f"{mean:.2f}{spread}",
            transform=ax.get_yaxis_transform(),
            va="center",
            fontsize=_FONT - 1,
        )
    ax.set_ylim(len(arms) - 0.4, -0.6)
    ax.set_yticks(range(len(arms)), [str(arm) for arm in arms])
    ax.set_xlabel("test error (%)", fontsize=_FONT)
    _style_axes(ax)
    ax.tick_params(axis="y", length=0)
    ax.spines["left"].set_visible(False)
    several = bool(results["arm"].duplicated().any())
    key = {
        f"mean, {100 * level:g} % interval" if several else "mean": {
            **_marker(color, "o"),
            "linewidth": 1.4 if several else 0,
        },
        "one seed": _seed_dots(color),
    }
    if paper:
        key["paper"] = published
    handles = [Line2D([], [], **style) for style in key.values()]
    figure.legend(handles, list(key), loc="outside upper center", ncols=len(key), fontsize=_FONT - 1, frameon=False)
    return figure


class _Style(NamedTuple):
    """How a method looks in a figure that tells methods by colour."""

    color: str
    dash: Any
    fill: str


def _styles(names: Sequence[str], palette: Sequence[str] | None = None) -> dict[str, _Style]:
    """A style for each name, by its place in the palette (or else among the names)."""
    known = [_Style(color, dash, fill) for dash, fill in zip(_DASHES, _FILLS, strict=True) for color in _COLORS]
    places = list(names if palette is None else palette)
    lacking = [name for name in names if name not in places]
    if lacking:
        raise ValueError(f"palette lacks {_quoted(lacking)}; it has {_quoted(places) or 'none'}")
    if len(places) > len(known):
        raise ValueError(
            f"{len(places)} methods cannot be told apart by colour and dash; draw at most {len(known)} at a time"
        )
    return {name: known[places.index(name)] for name in names}


def _marker(color: str, shape: str, fill: str = "full") -> dict[str, Any]:
    return {
        "color": color,
        "marker": shape,
        "markersize": 4.5,
        "fillstyle": "full" if fill == "open" else fill,
        "markerfacecolor": "white" if fill == "open" else color,
        "markerfacecoloralt": "white",
        "markeredgewidth": 0.9,
    }


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


def _style_axes(ax: Axes) -> None:
    ax.spines[["top", "right"]].set_visible(False)
    ax.spines[:].set_linewidth(0.6)
    ax.tick_params(labelsize=_FONT - 1, width=0.6, length=2.5)


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


def _panels(
    rdms: DataArray,
    grid: NDArray[np.int_],
    groups: Groups | None,
    scale: str,
    *,
    titles: Sequence[str] = (),
    row_names: Sequence[str] = (),
    column_names: Sequence[str] = (),
) -> Figure:
    """Draw RDM ``grid[i, j]`` in row i, column j (-1: none).

    Laid out in inches: of so many axes, none needs to be measured.
    """
    squares = rdms.to_numpy()
    stretches = _stretches(groups, squares.shape[1], rdms)
    n_rows, n_columns = grid.shape

    side = 1.0 if n_columns > 4 else 1.3
    beside, beneath = _names_width(stretches, side), _names_height(stretches, side)
    heads = max((_inches(name) for name in (*titles, *column_names)), default=0.0)
    across = max(side + (0.45 if scale == "panel" else 0.09), heads + 0.1)
    down = side + (0.25 if titles else 0.09)
    left = max(max((_inches(name) for name in row_names), default=0.0) + 0.12 + beside, (heads - side) / 2 + 0.05)
    top = 0.25
    bottom = beneath + (0.3 if scale == "panel" else 0.55)
    block = (n_columns - 1) * across + side
    width = left + block + max(0.45 if scale == "panel" else 0.1, (heads - side) / 2 + 0.05)
    height = top + (n_rows - 1) * down + side + bottom
    figure = Figure(figsize=(width, height))

    def add_axes(x: float, y: float, w: float, h: float) -> Axes:
        return figure.add_axes((x / width, y / height, w / width, h / height))

    def write(x: float, y: float, text: str, **alignment: Any) -> None:
        figure.text(x / width, y / height, text, fontsize=_FONT, **alignment)

    def sharing(i: int, j: int) -> tuple[int, int]:
        return {"panel": (i, j), "column": (0, j), "all": (0, 0)}[scale]

    cells = [(int(i), int(j)) for i, j in np.argwhere(grid >= 0)]
    members: dict[tuple[int, int], list[int]] = {}
    for i, j in cells:
        members.setdefault(sharing(i, j), []).append(int(grid[i, j]))
    limits = {key: _limits(squares[which]) for key, which in members.items()}

    images: dict[tuple[int, int], AxesImage] = {}
    for i, j in cells:
        ax = add_axes(left + j * across, height - top - i * down - side, side, side)
        last = i == n_rows - 1 or grid[i + 1, j] < 0
        edges = [edge for edge, here in (("left", j == 0), ("bottom", last)) if here]
        images[sharing(i, j)] = _draw(ax, squares[grid[i, j]], limits[sharing(i, j)], stretches, side, edges)
        if titles:
            ax.set_title(titles[grid[i, j]], fontsize=_FONT, pad=3)
    for i, name in enumerate(row_names):
        write(left - beside - 0.06, height - top - i * down - side / 2, name, ha="right", va="center")
    for j, name in enumerate(column_names):
        write(left + j * across + side / 2, height - top + 0.05, name, ha="center", va="bottom")

    for (i, j), image in images.items():
        if scale == "panel":
            x = left + j * across + side + 0.04
            bar_ax = add_axes(x, height - top - i * down - 0.85 * side, 0.06, 0.7 * side)
        elif scale == "column":
            bar_ax = add_axes(left + j * across + 0.1 * side, 0.4, 0.8 * side, 0.06)
        else:
            length = min(2.0, block)
            bar_ax = add_axes(left + (block - length) / 2, 0.4, length, 0.06)
        orientation: Literal["vertical", "horizontal"] = "vertical" if scale == "panel" else "horizontal"
        bar = figure.colorbar(image, cax=bar_ax, orientation=orientation, ticks=limits[i, j], format="%.3g")
        _style_bar(bar)
        if scale != "panel":
            low, high = bar.ax.get_xticklabels()
            low.set_horizontalalignment("left")
            high.set_horizontalalignment("right")
    note = {"panel": "one scale per panel", "column": "one scale per column", "all": "one scale"}[scale]
    write(left + block / 2, 0.06, f"{_measure(rdms)} ({note})", ha="center", va="bottom", color=_INK)
    return figure


def _draw(
    ax: Axes,
    square: NDArray[np.float64],
    limits: tuple[float, float],
    stretches: list["_Stretch"],
    side: float,
    edges: Sequence[str],
) -> AxesImage:
    """Draw one RDM into an axes `side` inches wide, with group names along `edges`."""
    image = ax.imshow(square, cmap=_colormap(), norm=Normalize(*limits), interpolation="nearest")
    ax.set(xticks=[], yticks=[])
    for spine in ax.spines.values():
        spine.set(linewidth=0.5, color=_INK)
    inches = side / len(square)
    for _, start, stop in stretches[1:]:
        thin = min(0.3 * side, 0.6, 72 * inches * (stop - start) / 8)
        for line in (ax.axhline, ax.axvline):
            line(start - 0.5, color="white", linewidth=thin, alpha=0.8)
    font = _group_font(side)
    named = [s for s in stretches if (s.stop - s.start) * inches >= 0.8 * font / 72]
    centres, names = [(s.start + s.stop - 1) / 2 for s in named], [s.name for s in named]
    if "left" in edges:
        ax.set_yticks(centres, names)
    if "bottom" in edges:
        ax.set_xticks(centres, names, rotation=90 if _turned(stretches, side) else 0)
    ax.tick_params(length=0, labelsize=font, pad=1.5)
    return image


class _Stretch(NamedTuple):
    """Stimuli ``start`` to ``stop - 1`` are the group `name`."""

    name: str
    start: int
    stop: int


def _stretches(groups: Groups | None, n: int, rdms: DataArray | None) -> list[_Stretch]:
    if groups is None:
        return []
    if isinstance(groups, str | Mapping):
        if rdms is None:
            raise ValueError(
                "a bare array has no stimulus ids or coordinates to look groups up by; give a list of groups "
                "in the order of its rows, or a labelled RDM"
            )
        ids = _coord(rdms, "stimulus", "stimulus")
        found = dict(zip(ids, _coord(rdms, groups, "stimulus"), strict=True)) if isinstance(groups, str) else groups
        lacking = [stimulus for stimulus in ids if stimulus not in found]
        if lacking:
            raise ValueError(
                f"groups has no entry for {len(lacking)} of {n} stimuli: {_quoted(lacking)}; name a group for each"
            )
        names = [str(found[stimulus]) for stimulus in ids]
    else:
        names = [str(name) for name in groups]
    if len(names) != n:
        raise ValueError(f"groups has {len(names)} entries, but the RDM has {n} stimuli; give one per stimulus")
    starts = [0, *(k for k in range(1, n) if names[k] != names[k - 1])]
    stretches = [_Stretch(names[a], a, b) for a, b in pairwise([*starts, n])]
    seen: set[str] = set()
    for stretch in stretches:
        if stretch.name in seen:
            raise ValueError(
                f"the stimuli of group {stretch.name!r} do not stand together (row {stretch.start} begins "
                "another stretch of it); order the RDM by group first, with select_stimuli"
            )
        seen.add(stretch.name)
    return stretches


def _group_font(side: float) -> float:
    return 5.0 if side < 1.5 else 6.5


def _names_width(stretches: list[_Stretch], side: float) -> float:
    """Inches that the group names take beside an RDM `side` inches wide."""
    return 0.06 + max(_inches(s.name, _group_font(side)) for s in stretches) if stretches else 0.0


def _names_height(stretches: list[_Stretch], side: float) -> float:
    """Inches that they take below it."""
    if _turned(stretches, side):
        return _names_width(stretches, side)
    return 0.06 + _group_font(side) / 72 if stretches else 0.0


def _turned(stretches: list[_Stretch], side: float) -> bool:
    """Whether group names are too long to stand side by side."""
    inches = side / stretches[-1].stop if stretches else 0.0
    return any(_inches(s.name, _group_font(side)) > 0.95 * inches * (s.stop - s.start) for s in stretches)


def _inches(text: str, size: float = _FONT) -> float:
    return TextPath((0, 0), text, size=size).get_extents().width / 72 if text.strip() else 0.0


def _limits(squares: NDArray[np.float64]) -> tuple[float, float]:
    """Range of the finite values off the diagonal, never empty."""
    off = squares[..., ~np.eye(squares.shape[-1], dtype=bool)]
    off = off[np.isfinite(off)]
    low, high = (float(off.min()), float(off.max())) if off.size else (0.0, 1.0)
    return (low, high) if high > low else (low, low + (abs(low) or 1.0))


def _colormap() -> Colormap:
    return colormaps["viridis"].with_extremes(bad="0.8")


def _style_bar(bar: Colorbar) -> None:
    bar.outline.set_linewidth(0.4)
    bar.ax.tick_params(labelsize=_FONT - 2, length=1.5, width=0.4, pad=1.5)


def _square(rdm: ArrayLike | DataArray) -> NDArray[np.float64]:
    square = np.asarray(rdm, dtype=np.float64)
    if square.ndim != 2 or square.shape[0] != square.shape[1] or square.shape[0] < 2:
        raise ValueError(
            f"an RDM to draw must be square, (stimuli, stimuli), with at least two stimuli, but its shape is "
            f"{square.shape}; to_square lays out a condensed one, and plot_rdms draws several"
        )
    return square


def _coord(rdms: DataArray, name: str, along: str) -> list[Any]:
    if name in rdms.coords and rdms[name].dims == (along,):
        return list(rdms[name].to_numpy().tolist())
    there = [coord for coord in rdms.coords if rdms[coord].dims == (along,)]
    raise ValueError(f"the RDMs have no coordinate {name!r} along {along!r}; there is {_quoted(there) or 'none'}")


def _measure(rdms: DataArray) -> str:
    metric = str(rdms.attrs.get("metric", "undeclared"))
    return _MEASURES.get(metric, metric)


def _write_beside(ax: Axes, points: NDArray[np.float64], names: Sequence[str | None]) -> None:
    """Write names beside their points, where they cover least of points and names, outwards if equal."""
    size = _FONT - 1
    map_inches = 3.6
    scale = 72 * map_inches / (np.ptp(points, axis=0).max() or 1.0)
    taken = [(x - 3, y - 3, x + 3, y + 3) for x, y in scale * points]

    def covered(box: tuple[float, float, float, float]) -> float:
        sides = [
            (min(box[2], other[2]) - max(box[0], other[0]), min(box[3], other[3]) - max(box[1], other[1]))
            for other in taken
        ]
        return float(sum(w * h for w, h in sides if w > 0 and h > 0))

    for point, name in zip(points, names, strict=True):
        if name is None:
            continue
        x, y = scale * point
        w, h = 72 * _inches(name, size), size
        beside = [(("left", "center"), (x + 5, y - h / 2)), (("right", "center"), (x - 5 - w, y - h / 2))]
        places = {
            **dict(beside if point[0] >= 0 else beside[::-1]),
            ("center", "bottom"): (x - w / 2, y + 5),
            ("center", "top"): (x - w / 2, y - 5 - h),
        }
        boxes = {place: (left, low, left + w, low + h) for place, (left, low) in places.items()}
        ha, va = min(boxes, key=lambda place: covered(boxes[place]))
        left, low, right, top = boxes[ha, va]
        taken.append((left, low, right, top))
        ax.update_datalim([(left / scale, low / scale), (right / scale, top / scale)])
        offset = ({"left": 5, "right": -5}.get(ha, 0), {"bottom": 5, "top": -5}.get(va, 0))
        ax.annotate(name, point, xytext=offset, textcoords="offset points", ha=ha, va=va, fontsize=size)


def _draw_scale_bar(ax: Axes, points: NDArray[np.float64]) -> None:
    """Draw a bar of a round length, about a sixth of the map, below its left corner."""
    about = np.ptp(points, axis=0).max() / 6
    if about == 0:
        return
    power = 10.0 ** np.floor(np.log10(about))
    length = power * max(step for step in (1, 2, 5) if step * power <= about)
    ax.add_artist(
        AnchoredSizeBar(
            ax.transData,
            length,
            f"distance {length:g}",
            "upper left",
            frameon=False,
            color=_INK,
            pad=0,
            borderpad=0.4,
            sep=2,
            bbox_to_anchor=(0, 0),
            bbox_transform=ax.transAxes,
            fontproperties=FontProperties(size=_FONT - 1),
        )
    )


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
        raise ValueError(f"{what} lacks the column(s) {_quoted(lacking)}; it has {_quoted(frame) or 'none'}")


def _check_choice(what: str, value: str, known: Sequence[str]) -> None:
    if value not in known:
        raise ValueError(f"unknown {what} {value!r}; choose {_quoted(known[:-1])} or {known[-1]!r}")


def _quoted(names: Iterable[Hashable]) -> str:
    return name_some([str(name) for name in names], 10)
