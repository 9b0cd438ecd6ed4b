"""RDMs as panels of colour: one, several, or a table of them."""

from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.image import AxesImage
from numpy.typing import ArrayLike, NDArray
from scipy.stats import rankdata
from xarray import DataArray

from brainrdl.plots._groups import (
    Groups,
    Stretch,
    coord_along,
    group_font,
    names_height,
    names_turned,
    names_width,
    stretches_of,
)
from brainrdl.plots._scale import Scale, scale_of
from brainrdl.plots._style import FONT, INK, quoted, text_width
from brainrdl.plots._thumbnails import Images, draw_strip, strip_shape, thumbnails_of
from brainrdl.rdms.condensed import to_squares, upper_triangles
from brainrdl.rdms.layout import check_rdms

MAX_IDS = 30
"""More stimuli than these are not named along a panel."""

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
        Lowest and highest value of the colour scale; by default of the values off the diagonal, from 0 on where
        zero means something (``crossnobis``, ``mse``, ``sqeuclidean``, ``euclidean``, ``mahalanobis``). Crossnobis
        distances and whatever else is negative have colours that part at zero, which is white, and reach as far on
        both sides.
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
    stretches = stretches_of(groups, len(square), rdm if isinstance(rdm, DataArray) else None)
    if label is None:
        label = measure_of(rdm) if isinstance(rdm, DataArray) else "dissimilarity"
    if ax is None:
        ax = Figure(figsize=(3.4, 2.9), layout="constrained").subplots()
    figure = ax.figure
    side = min(ax.bbox.width, ax.bbox.height) / figure.dpi
    metric = str(rdm.attrs.get("metric", "undeclared")) if isinstance(rdm, DataArray) else "undeclared"
    scale = scale_of(square, metric, limits)
    image = _draw(ax, square, scale, stretches, side, ("left", "bottom"))
    if title is not None:
        ax.set_title(title, fontsize=FONT)
    bar = figure.colorbar(image, ax=ax, shrink=0.8, aspect=18)
    bar.set_label(label, fontsize=FONT)
    scale.draw_ticks(bar, few=False)
    return ax


def plot_rdms(
    rdms: DataArray,
    *,
    groups: Groups | None = None,
    scale: Literal["panel", "all"] = "panel",
    rank: bool = False,
    images: Images | None = None,
) -> Figure:
    """Draw every RDM of a labelled DataArray, up to four in a row.

    Parameters
    ----------
    rdms : DataArray (rdm, stimulus, stimulus_)
        Labelled RDMs; each panel bears its label along `rdm`. NaN (unmeasured) is grey.
    groups : str, mapping from stimulus id, or sequence of length stimuli, optional
        As in `rdm_panel`. ``"stimulus"`` labels each stimulus by its id, where that fits; so it is by default with up
        to 30 stimuli that have no images.
    scale : {"panel", "all"}
        Whether each panel has its own colour scale, or all share one; its limits are as in `rdm_panel`.
    rank : bool
        Whether colours show the percentile of each pair among those of its RDM (ties share their mean) instead of its
        value, from 0 to 100; the figure then says so.
    images : StimulusSet, or mapping from stimulus id to image, optional
        Drawn small along the left and lower edges, in staggered columns where there are many.

    Returns
    -------
    Figure

    Raises
    ------
    TypeError, ValueError
        As `brainrdl.rdms.layout.check_rdms`; ValueError also if `scale` is unknown, or `groups` does not name a
        group per stimulus, or scatters one, or a stimulus has no image.

    Examples
    --------
    >>> from brainrdl.rdms.labelled import label_rdms
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
    pictures = None if images is None else thumbnails_of(images, rdms["stimulus"].to_numpy().tolist())
    if groups is None and pictures is None and rdms.sizes["stimulus"] <= MAX_IDS:
        groups = "stimulus"
    if not rank:
        return _panels(rdms, grid, groups, scale, titles=names, pictures=pictures)
    measure = f"percentile of {measure_of(rdms)}"
    return _panels(_percentiles(rdms), grid, groups, scale, titles=names, pictures=pictures, measure=measure)


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
        What shares a colour scale, whose limits are as in `rdm_panel`. Between layers the size of distances
        differs, hence by column.

    Returns
    -------
    Figure
        About 7 inches wide for six columns, an inch high per row. Its axes are the panels in row-major order,
        then the colour bars.

    Raises
    ------
    TypeError, ValueError
        As `brainrdl.rdms.layout.check_rdms`; ValueError also if a coordinate is missing, two RDMs share a cell,
        `scale` is unknown, or `groups` does not name a group per stimulus, or scatters one.

    Examples
    --------
    >>> from brainrdl.rdms.labelled import label_rdms
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
    row_values, column_values = coord_along(rdms, rows, "rdm"), coord_along(rdms, columns, "rdm")
    row_names, column_names = list(dict.fromkeys(row_values)), list(dict.fromkeys(column_values))
    grid = np.full((len(row_names), len(column_names)), -1)
    for k, (row, column) in enumerate(zip(row_values, column_values, strict=True)):
        cell = row_names.index(row), column_names.index(column)
        if grid[cell] >= 0:
            both = [rdms["rdm"].to_numpy()[i] for i in (grid[cell], k)]
            raise ValueError(
                f"RDMs {quoted(both)} both have {rows} {row!r} and {columns} {column!r}; select one of "
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


def _panels(
    rdms: DataArray,
    grid: NDArray[np.int_],
    groups: Groups | None,
    scale: str,
    *,
    titles: Sequence[str] = (),
    row_names: Sequence[str] = (),
    column_names: Sequence[str] = (),
    pictures: Sequence[NDArray[np.float64]] | None = None,
    measure: str | None = None,
) -> Figure:
    """Draw RDM ``grid[i, j]`` in row i, column j (-1: none).

    Laid out in inches: of so many axes, none needs to be measured.
    """
    squares = rdms.to_numpy()
    stretches = stretches_of(groups, squares.shape[1], rdms)
    n_rows, n_columns = grid.shape

    def sharing(i: int, j: int) -> tuple[int, int]:
        return {"panel": (i, j), "column": (0, j), "all": (0, 0)}[scale]

    cells = [(int(i), int(j)) for i, j in np.argwhere(grid >= 0)]
    members: dict[tuple[int, int], list[int]] = {}
    for i, j in cells:
        members.setdefault(sharing(i, j), []).append(int(grid[i, j]))
    metric, limits = str(rdms.attrs["metric"]), (0.0, 100.0) if measure else None
    scales = {key: scale_of(squares[which], metric, limits) for key, which in members.items()}
    note = {"panel": "one scale per panel", "column": "one scale per column", "all": "one scale"}[scale]
    caption = (measure or measure_of(rdms)) + (f" ({note})" if len(cells) > 1 else "")

    side = 1.0 if n_columns > 4 else 1.3
    if titles and len(stretches) == squares.shape[1] <= MAX_IDS:
        side = max(side, 0.075 * len(stretches))  # each stimulus has a name, and a line of text for it
    told = max((text_width(label, FONT - 2) for one in scales.values() for label in one.labels), default=0.0)
    bar_room = max(0.3, 0.16 + told)
    strip = strip_shape(len(pictures), side)[1] + 0.04 if pictures else 0.0
    beside, beneath = names_width(stretches, side) + strip, names_height(stretches, side) + strip
    heads = max((text_width(name) for name in (*titles, *column_names)), default=0.0)
    across = max(side + (bar_room + 0.08 if scale == "panel" else 0.09), heads + 0.1)
    down = side + (0.25 if titles else 0.09)
    left = max(max((text_width(name) for name in row_names), default=0.0) + 0.12 + beside, (heads - side) / 2 + 0.05)
    top = 0.25
    bottom = beneath + (0.3 if scale == "panel" else 0.55)
    block = (n_columns - 1) * across + side
    right = max(bar_room + 0.05 if scale == "panel" else 0.1, (heads - side) / 2 + 0.05)
    beyond = (text_width(caption) - block) / 2 + 0.06  # of the caption, at either side of the panels
    left, right = max(left, beyond), max(right, beyond)
    width = left + block + right
    height = top + (n_rows - 1) * down + side + bottom
    figure = Figure(figsize=(width, height))

    def add_axes(x: float, y: float, w: float, h: float) -> Axes:
        return figure.add_axes((x / width, y / height, w / width, h / height))

    def write(x: float, y: float, text: str, **alignment: Any) -> None:
        figure.text(x / width, y / height, text, fontsize=FONT, **alignment)

    images: dict[tuple[int, int], AxesImage] = {}
    for i, j in cells:
        ax = add_axes(left + j * across, height - top - i * down - side, side, side)
        last = i == n_rows - 1 or grid[i + 1, j] < 0
        edges = [edge for edge, here in (("left", j == 0), ("bottom", last)) if here]
        images[sharing(i, j)] = _draw(ax, squares[grid[i, j]], scales[sharing(i, j)], stretches, side, edges)
        for edge in edges if pictures else ():
            draw_strip(ax, pictures or (), side, edge)
            ax.tick_params(axis="y" if edge == "left" else "x", pad=1.5 + 72 * strip)
        if titles:
            ax.set_title(titles[grid[i, j]], fontsize=FONT, pad=3)
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
        bar = figure.colorbar(image, cax=bar_ax, orientation=orientation)
        scales[i, j].draw_ticks(bar)
        ticks = bar.ax.get_xticklabels()
        if scale != "panel" and len(ticks) > 1:
            ticks[0].set_horizontalalignment("left")
            ticks[-1].set_horizontalalignment("right")
    write(left + block / 2, 0.06, caption, ha="center", va="bottom", color=INK)
    return figure


def _draw(
    ax: Axes,
    square: NDArray[np.float64],
    scale: Scale,
    stretches: list[Stretch],
    side: float,
    edges: Sequence[str],
) -> AxesImage:
    """Draw one RDM into an axes `side` inches wide, with group names along `edges`."""
    image = ax.imshow(square, cmap=scale.colormap, norm=scale.norm, interpolation="nearest")
    ax.set(xticks=[], yticks=[])
    for spine in ax.spines.values():
        spine.set(linewidth=0.5, color=INK)
    inches = side / len(square)
    # where every stimulus has a name of its own there is nothing to part
    for _, start, stop in stretches[1:] if len(stretches) < len(square) else ():
        thin = min(0.3 * side, 0.6, 72 * inches * (stop - start) / 8)
        for line in (ax.axhline, ax.axvline):
            line(start - 0.5, color=INK if scale.signed else "white", linewidth=thin, alpha=0.8)
    font = group_font(side)
    named = [s for s in stretches if (s.stop - s.start) * inches >= 0.8 * font / 72]
    centres, names = [(s.start + s.stop - 1) / 2 for s in named], [s.name for s in named]
    if "left" in edges:
        ax.set_yticks(centres, names)
    if "bottom" in edges:
        ax.set_xticks(centres, names, rotation=90 if names_turned(stretches, side) else 0)
    ax.tick_params(length=0, labelsize=font, pad=1.5)
    return image


def _percentiles(rdms: DataArray) -> DataArray:
    """Each measured pair's percentile among those of its RDM: 100 (rank − ½) / pairs."""
    values = upper_triangles(rdms.to_numpy())
    pairs = np.isfinite(values).sum(axis=1, keepdims=True)
    ranks = rankdata(values, axis=1, nan_policy="omit")
    return rdms.copy(data=to_squares(100 * (ranks - 0.5) / pairs, rdms.shape[1]))


def _square(rdm: ArrayLike | DataArray) -> NDArray[np.float64]:
    square = np.asarray(rdm, dtype=np.float64)
    if square.ndim != 2 or square.shape[0] != square.shape[1] or square.shape[0] < 2:
        raise ValueError(
            f"an RDM to draw must be square, (stimuli, stimuli), with at least two stimuli, but its shape is "
            f"{square.shape}; to_square lays out a condensed one, and plot_rdms draws several"
        )
    return square


def measure_of(rdms: DataArray) -> str:
    """What a figure calls the dissimilarity that RDMs declare."""
    metric = str(rdms.attrs.get("metric", "undeclared"))
    return _MEASURES.get(metric, metric)


def _check_choice(what: str, value: str, known: Sequence[str]) -> None:
    if value not in known:
        raise ValueError(f"unknown {what} {value!r}; choose {quoted(known[:-1])} or {known[-1]!r}")
