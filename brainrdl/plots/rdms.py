"""RDMs as panels of colour: one, several, or a table of them."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Literal

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import ArrayLike, NDArray
from xarray import DataArray

from brainrdl.known import RANDOM_WEIGHTS
from brainrdl.plots._groups import Groups, coord_along, stretches_of
from brainrdl.plots._panels import MAX_IDS, Panels, draw_panels, draw_rdm
from brainrdl.plots._scale import scale_of
from brainrdl.plots._style import FONT, quoted
from brainrdl.plots._thumbnails import Images, thumbnails_of
from brainrdl.plots.names import as_written
from brainrdl.rdms.layout import check_rdms
from brainrdl.rdms.ranks import ranks_of
from brainrdl.rdms.triangles import to_squares, upper_triangles

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


@as_written
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
        Title above the panel.
    label : str, optional
        Label of the colour bar; by default the metric that `rdm` declares.
    limits : (float, float), optional
        Lowest and highest value of the colour scale; by default of the values off the diagonal, from 0 on where zero
        means something (``crossnobis``, ``mse``, ``sqeuclidean``, ``euclidean``, ``mahalanobis``). Crossnobis distances
        and whatever else is negative have colours that part at zero, which is white, and reach as far on both sides.
    ax : Axes, optional
        Axes to draw on; by default a figure of its own, found as ``ax.figure``.

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
    # the axes may be a caller's, of any size
    side = min(ax.bbox.width, ax.bbox.height) / figure.dpi
    metric = str(rdm.attrs.get("metric", "undeclared")) if isinstance(rdm, DataArray) else "undeclared"
    scale = scale_of(square, metric, limits)
    image = draw_rdm(ax, square, scale, stretches, side, ("left", "bottom"))
    if title is not None:
        ax.set_title(title, fontsize=FONT)
    bar = figure.colorbar(image, ax=ax, shrink=0.8, aspect=18)
    bar.set_label(label, fontsize=FONT)
    scale.draw_ticks(bar, few=False)
    return ax


@as_written
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
        Groups as in `rdm_panel`. ``"stimulus"`` labels each stimulus by its id, where that fits; so it is by default
        with up to 30 stimuli that have no images.
    scale : {"panel", "all"}
        Panels that share a colour scale: each has its own, or all have one; its limits are as in `rdm_panel`.
    rank : bool
        True shows the percentile of each pair among those of its RDM (ties share their mean) instead of its value, from
        0 to 100; the figure then says so.
    images : StimulusSet, or mapping from stimulus id to image, optional
        Pictures, drawn small along the left and lower edges, in staggered columns where there are many.

    Returns
    -------
    Figure

    Raises
    ------
    TypeError, ValueError
        As `brainrdl.rdms.check_rdms`; ValueError also if `scale` is unknown, or `groups` does not name a
        group per stimulus, or scatters one, or a stimulus has no image.

    Examples
    --------
    >>> from brainrdl.rdms import label_rdms
    >>> values = np.array([[0.2, 1.3, 1.1], [0.9, 1.0, 0.4]])
    >>> rdms = label_rdms(values, ["face", "body", "house"], ["V1", "IT"], "correlation")
    >>> [ax.get_title() for ax in plot_rdms(rdms, scale="all").axes[:2]]
    ['V1', 'IT']
    """
    rdms = check_rdms(rdms)
    _check_choice("scale", scale, ("panel", "all"))
    names = titles_of(rdms)
    n_columns = min(4, len(names))
    n_rows = -(-len(names) // n_columns)
    grid = np.full((n_rows, n_columns), -1)
    grid.ravel()[: len(names)] = np.arange(len(names))
    if groups is None and images is None and rdms.sizes["stimulus"] <= MAX_IDS:
        groups = "stimulus"  # pictures name stimuli better than their ids would
    pictures = () if images is None else thumbnails_of(images, rdms["stimulus"].to_numpy().tolist())
    measure = f"percentile of {measure_of(rdms)}" if rank else None
    panels = _panels(_percentiles(rdms) if rank else rdms, grid, groups, scale, measure)
    return draw_panels(replace(panels, titles=names, pictures=pictures))


@as_written
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
        Groups as in `rdm_panel`.
    scale : {"panel", "column", "all"}
        Panels that share a colour scale, whose limits are as in `rdm_panel`. Between layers the size of distances
        differs, hence by column.

    Returns
    -------
    Figure
        About 7 inches wide for six columns, an inch high per row. Its axes are the panels in row-major order,
        then the colour bars.

    Raises
    ------
    TypeError, ValueError
        As `brainrdl.rdms.check_rdms`; ValueError also if a coordinate is missing, two RDMs share a cell,
        `scale` is unknown, or `groups` does not name a group per stimulus, or scatters one.

    Examples
    --------
    >>> from brainrdl.rdms import label_rdms
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
    panels = _panels(rdms, grid, groups, scale)
    return draw_panels(replace(panels, row_names=list(map(str, row_names)), column_names=list(map(str, column_names))))


def _panels(
    rdms: DataArray, grid: NDArray[np.int_], groups: Groups | None, sharing: str, measure: str | None = None
) -> Panels:
    """Lay out labelled RDMs as `grid` says, of `measure` where they show percentiles in place of their own values."""
    note = {"panel": "one scale per panel", "column": "one scale per column", "all": "one scale"}[sharing]
    several = np.count_nonzero(grid >= 0) > 1
    return Panels(
        rdms.to_numpy(),
        grid,
        str(rdms.attrs["metric"]),
        (measure or measure_of(rdms)) + (f" ({note})" if several else ""),
        sharing,
        stretches_of(groups, rdms.sizes["stimulus"], rdms),
        (0.0, 100.0) if measure else None,
    )


def _percentiles(rdms: DataArray) -> DataArray:
    """Each measured pair's percentile among those of its RDM: 100 (rank − ½) / pairs."""
    values = upper_triangles(rdms.to_numpy())
    for row in values:
        measured = ~np.isnan(row)
        row[measured] = 100 * (ranks_of(row[measured]) - 0.5) / measured.sum()
    return rdms.copy(data=to_squares(values, rdms.shape[1]))


def _square(rdm: ArrayLike | DataArray) -> NDArray[np.float64]:
    square = np.asarray(rdm, dtype=np.float64)
    if square.ndim != 2 or square.shape[0] != square.shape[1] or square.shape[0] < 2:
        raise ValueError(
            f"an RDM to draw must be square, (stimuli, stimuli), with at least two stimuli, but its shape is "
            f"{square.shape}; to_square lays out a condensed one, and plot_rdms draws several"
        )
    return square


def titles_of(rdms: DataArray) -> list[str]:
    """The labels of RDMs, and ``(random weights)`` behind those of a network that has them by its name."""
    labels = [str(name) for name in rdms["rdm"].to_numpy()]
    models = rdms["model"].to_numpy().tolist() if "model" in rdms.coords and rdms["model"].dims == ("rdm",) else labels
    untrained = [str(model).endswith(f"({RANDOM_WEIGHTS})") for model in models]
    return [
        f"{label} ({RANDOM_WEIGHTS})" if random and not label.endswith(f"({RANDOM_WEIGHTS})") else label
        for label, random in zip(labels, untrained, strict=True)
    ]


def measure_of(rdms: DataArray) -> str:
    """The words of a figure for the dissimilarity that RDMs declare."""
    metric = str(rdms.attrs.get("metric", "undeclared"))
    return _MEASURES.get(metric, metric)


def _check_choice(what: str, value: str, known: Sequence[str]) -> None:
    if value not in known:
        raise ValueError(f"unknown {what} {value!r}; choose {quoted(known[:-1])} or {known[-1]!r}")
