"""Maps: the stimuli of an RDM, or RDMs, as points in the plane, by metric scaling of the distances between them."""

from collections.abc import Sequence
from io import BytesIO
from pathlib import Path
from typing import Any, Literal

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties
from matplotlib.lines import Line2D
from matplotlib.offsetbox import AnnotationBbox, OffsetImage
from mpl_toolkits.axes_grid1.anchored_artists import AnchoredSizeBar
from numpy.typing import ArrayLike, NDArray
from xarray import DataArray

from brainrdl.plots._groups import Groups, stretches_of
from brainrdl.plots._panels import MAX_IDS
from brainrdl.plots._style import FONT, INK, Style, legend_beside, marker, quoted, styles_of, text_width
from brainrdl.plots._thumbnails import Images, thumbnails_of
from brainrdl.plots.embedding import mds
from brainrdl.plots.names import as_written, well_formed
from brainrdl.plots.numbers import decimals
from brainrdl.plots.rdms import measure_of, plot_rdms
from brainrdl.rdms.labelled import condense
from brainrdl.rdms.layout import check_rdms
from brainrdl.rdms.rounding import is_constant

_MARKERS = ("o", "s", "^", "D", "v", "P", "X", "p", "<", ">")


@as_written
def plot_mds(
    rdms: DataArray,
    *,
    of: Literal["stimuli", "rdms"] = "stimuli",
    images: Images | None = None,
    groups: Groups | None = None,
    seed: int = 0,
) -> Figure:
    """Draw the stimuli of each RDM, or the RDMs, as points whose distances are those given.

    Parameters
    ----------
    rdms : DataArray (rdm, stimulus, stimulus_)
        Labelled RDMs without NaN or negative values.
    of : {"stimuli", "rdms"}
        ``stimuli``: a panel for each RDM, its dissimilarities taken as distances. ``rdms``: one map, a point for each
        RDM; between RDMs the distance is 1 − Pearson r over the pairs.
    images : StimulusSet, or mapping from stimulus id to image, optional
        Pictures, drawn in place of the stimuli's points. Up to 30 stimuli without images are named.
    groups : str, mapping from stimulus id, or sequence of length stimuli, optional
        Groups as in `plot_rdms`: a colour each.
    seed : int
        Seed of the start, see `brainrdl.plots.mds`.

    Returns
    -------
    Figure
        Kruskal's stress-1 below each panel. Panels' axes are in the order of the RDMs and of one size.

    Raises
    ------
    TypeError, ValueError
        As `brainrdl.rdms.check_rdms`; ValueError also for an unknown `of`, a stimulus without image, pairs that
        were not measured, negative values, or an RDM that is constant.

    Examples
    --------
    >>> from brainrdl.plots import plot_mds
    >>> from brainrdl.rdms import label_rdms
    >>> rdms = label_rdms(np.array([[0.2, 1.3, 1.1]]), ["face", "body", "house"], ["IT"], "correlation")
    >>> [ax.get_title() for ax in plot_mds(rdms).axes]
    ['IT']
    """
    rdms = check_rdms(rdms)
    if of not in ("stimuli", "rdms"):
        raise ValueError(f"unknown of {of!r}; choose 'stimuli' or 'rdms'")
    values, names = condense(rdms), [str(name) for name in rdms["rdm"].values]
    for name, row in zip(names, values, strict=True):
        if np.isnan(row).any():
            raise ValueError(
                f"RDM {name!r} has {int(np.isnan(row).sum())} pairs that were not measured; a map needs all: select "
                "the stimuli whose pairs are complete"
            )
    if of == "rdms":
        if len(names) < 2 or values.shape[1] < 2:
            raise ValueError(f"a map of RDMs needs at least 2 of at least 3 stimuli, got {len(names)}")
        constant = [name for name, row in zip(names, values, strict=True) if is_constant(row)]
        if constant:
            raise ValueError(f"RDM {constant[0]!r} is constant, and correlates with none; leave it out")
        # rounding leaves distances just below 0, and of an RDM to itself just off 0
        distances = np.clip(1 - np.corrcoef(values), 0, None)
        np.fill_diagonal(distances, 0.0)
        measure = f"1 − Pearson r between RDMs of {measure_of(rdms)}"
        return mds_map(distances, labels=names, groups=[None] * len(names), measure=measure, seed=seed)[0]

    ids = [str(stimulus) for stimulus in rdms["stimulus"].values]
    for name, row in zip(names, values, strict=True):
        # three stimuli may be equally far apart in the plane
        if is_constant(row) and (len(ids) > 3 or not row.any()):
            raise ValueError(
                f"RDM {name!r} is constant (every distance is {row[0]:.6g}), so that no map tells its stimuli apart; "
                "leave it out"
            )
    pictures = None if images is None else thumbnails_of(images, ids)
    stretches = stretches_of(groups, len(ids), rdms)
    styles = styles_of([stretch.name for stretch in stretches])
    columns = 2 if len(names) == 4 else min(3, len(names))
    rows = -(-len(names) // columns)
    figure = Figure(figsize=(2.6 * columns + 0.2, 2.8 * rows), layout="constrained")
    axes = figure.subplots(rows, columns, squeeze=False).ravel()
    for ax in axes[len(names) :]:
        ax.remove()
    for ax, name, square in zip(axes, names, rdms.values, strict=False):
        points, stress = mds(square, seed=seed)
        for stretch in stretches:
            dot = marker(styles[stretch.name].color, "o", styles[stretch.name].fill)
            ax.plot(*points[stretch.start : stretch.stop].T, linestyle="none", label=stretch.name, **dot)
        if not stretches:
            ax.plot(*points.T, linestyle="none", **marker(INK, "o"))
        for k, picture in enumerate(pictures or ()):
            border = next((styles[s.name].color for s in stretches if s.start <= k < s.stop), INK)
            inches = 0.25 if len(ids) <= 30 else 0.16
            box = OffsetImage(picture, zoom=72 * inches / max(picture.shape[:2]))
            frame = {"edgecolor": border, "linewidth": 0.8}
            picture_box = ax.add_artist(AnnotationBbox(box, points[k], pad=0.0, bboxprops=frame))
            picture_box.set_in_layout(False)  # panels stay of one size, whatever stands at their edges
        if pictures is None and len(ids) <= MAX_IDS:
            write_beside(ax, points, ids, size=FONT - 2, inches=2.0)
        ax.set_aspect("equal", adjustable="datalim")
        ax.margins(0.1)
        ax.set(xticks=[], yticks=[])
        for side in ax.spines.values():
            side.set(color="0.8", linewidth=0.6)
        ax.set_title(name, fontsize=FONT)
        ax.set_xlabel(f"metric MDS, stress-1 = {decimals(stress, 3)}", fontsize=FONT - 1, color=INK)
    if stretches:
        # not as Matplotlib collects them, which leaves out names that begin with an underscore
        legend_beside(figure, axes[0].lines[: len(stretches)], [stretch.name for stretch in stretches])
    return figure


def save_plot(
    rdms: DataArray,
    path: str | Path,
    *,
    kind: Literal["rdms", "mds", "rdm-mds"] = "rdms",
    images: Images | None = None,
    groups: Groups | None = None,
    scale: Literal["panel", "all"] = "panel",
    rank: bool = False,
) -> None:
    """Draw labelled RDMs into a file, as ``brainrdl plot`` does.

    Parameters
    ----------
    rdms : DataArray (rdm, stimulus, stimulus_)
        Labelled RDMs.
    path : path
        File to write; its suffix is the format: ``.png``, ``.pdf``, ``.svg``.
    kind : {"rdms", "mds", "rdm-mds"}
        Panels of colour; a map of the stimuli of each RDM; a map of the RDMs.
    images, groups, scale, rank
        As in `plot_rdms` and `plot_mds`, where they apply.

    Raises
    ------
    ValueError
        For an unknown kind or suffix, or as `plot_rdms` and `plot_mds`.

    Examples
    --------
    >>> import tempfile, numpy as np
    >>> from brainrdl.plots import save_plot
    >>> from brainrdl.rdms import label_rdms
    >>> rdms = label_rdms(np.array([[0.2, 1.3, 1.1]]), ["face", "body", "house"], ["IT"], "correlation")
    >>> save_plot(rdms, tempfile.mkdtemp() + "/it.png", kind="mds")
    """
    known = ("rdms", "mds", "rdm-mds")
    if kind not in known:
        raise ValueError(f"unknown kind {kind!r}; choose {', '.join(map(repr, known))}")
    suffixes = (".png", ".pdf", ".svg")
    if Path(path).suffix.lower() not in suffixes:
        raise ValueError(f"{path} does not end as a picture does; expected {', '.join(suffixes)}")
    if kind == "rdms":
        figure = plot_rdms(rdms, groups=groups, scale=scale, rank=rank, images=images)
    else:
        figure = plot_mds(rdms, of="stimuli" if kind == "mds" else "rdms", images=images, groups=groups)
    content = BytesIO()
    kind_of_file = Path(path).suffix.lower().removeprefix(".")
    figure.savefig(content, format=kind_of_file, dpi=200)
    Path(path).write_bytes(well_formed(content.getvalue()) if kind_of_file == "svg" else content.getvalue())


@as_written
def mds_map(
    distances: ArrayLike,
    *,
    labels: Sequence[str],
    groups: Sequence[str | None],
    paths: Sequence[str] | None = None,
    palette: Sequence[str] | None = None,
    measure: str | None = None,
    seed: int = 0,
) -> tuple[Figure, float]:
    """Draw RDMs as points in the plane, by metric scaling of the distances between them.

    Parameters
    ----------
    distances : array_like, shape (points, points)
        Distance between each two RDMs, such as 1 − Pearson r.
    labels : sequence of str, length points
        Kind of each point, such as its layer. A label that occurs once is written beside its point; one that
        several points share has a marker shape of its own, which the legend explains.
    groups : sequence of str or None, length points
        Owner of each point, such as its model: a colour each, named in the legend. None is nobody's (the
        pixels, the class labels): grey. At most 21 groups.
    paths : sequence of str, optional
        Labels in the order in which a line runs through each group's points, such as ``["pixels", "pool1", "pool2",
        "fc", "softmax"]``. A label that a group lacks is nobody's point of that label, or skipped where there is none.
    palette : sequence of str, optional
        Names of all methods of a set of figures, as in `error_curves`.
    measure : str, optional
        Name of the distances, written below the map.
    seed : int
        Seed of the start, see `brainrdl.plots.mds`.

    Returns
    -------
    figure : Figure
        With Kruskal's stress-1 below the map and a bar that shows its scale. Paths run from left to right.
    stress : float
        Kruskal's stress-1.

    Raises
    ------
    ValueError
        If the lengths differ, a name in `paths` is no label, two points share label and group, there are more groups or
        shapes than can be told apart, `palette` lacks a group, or `distances` is refused by `brainrdl.plots.mds`.

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
    index_of = _indices(labels, groups, len(points))
    unknown = [name for name in paths or () if name not in labels]
    if unknown:
        raise ValueError(f"paths names {quoted(unknown)}, but the labels are {quoted(dict.fromkeys(labels))}")

    if paths:
        first, last = (points[[label == end for label in labels], 0].mean() for end in (paths[0], paths[-1]))
        # scaling leaves the orientation open
        points = points * (-1 if first > last else 1, 1)
    names = [name for name in dict.fromkeys(groups) if name is not None]
    styles = styles_of(names, palette)
    shared = [label for label in dict.fromkeys(labels) if labels.count(label) > 1]
    if len(shared) > len(_MARKERS):
        raise ValueError(
            f"{len(shared)} labels are shared by several points, but only {len(_MARKERS)} marker shapes can "
            "be told apart; show fewer of them"
        )
    shapes = dict(zip(shared, _MARKERS, strict=False))

    wide, high = np.maximum(np.ptp(points, axis=0), 1e-9)
    entries = len(names) + len(shapes) + bool(names and shapes)
    # as high as the legend needs, or as the map is beside its width, within what a page bears
    height = max(2.6, 0.5 + 0.175 * entries, min(5.2, 0.6 + 4.6 * high / wide))
    figure = Figure(figsize=(6.6, height), layout="constrained")
    ax = figure.subplots()
    for name in names if paths else ():
        stops = [index_of.get((name, label), index_of.get((None, label), -1)) for label in paths or ()]
        route = points[[stop for stop in stops if stop >= 0]]
        style = styles[name]
        ax.plot(*route.T, color=style.color, linestyle=style.dash, linewidth=0.9, alpha=0.75, zorder=1)
    nobody = Style("0.45", "solid", "full")
    for point, label, group in zip(points, labels, groups, strict=True):
        style = nobody if group is None else styles[group]
        ax.plot(*point, **marker(style.color, shapes.get(label, "o"), style.fill), zorder=3 if group is None else 2)
    ax.set_aspect("equal", adjustable="datalim")
    ax.margins(0.06)
    # a label of several points stands in the legend, with their shape
    write_beside(ax, points, [None if label in shapes else label for label in labels])
    ax.set(xticks=[], yticks=[])
    for side in ax.spines.values():
        side.set(color="0.8", linewidth=0.6)
    distance_name = f"{measure}; " if measure else ""
    ax.set_xlabel(f"{distance_name}metric MDS, stress-1 = {decimals(stress, 3)}", fontsize=FONT, color=INK)
    _draw_scale_bar(ax, points)

    key: list[tuple[str, Any, dict[str, Any]]]
    key = [
        (name, styles[name].dash if paths else "none", marker(styles[name].color, "o", styles[name].fill))
        for name in names
    ]
    key += [("", "none", {})] if names and shapes else []
    key += [(label, "none", marker(nobody.color, shape)) for label, shape in shapes.items()]
    if key:
        handles = [Line2D([], [], linestyle=dash, linewidth=0.9, **marker) for _, dash, marker in key]
        texts = [text for text, _, _ in key]
        legend_beside(figure, handles, texts)
    return figure, stress


def _indices(labels: list[str], groups: list[str | None], n_points: int) -> dict[tuple[str | None, str], int]:
    """Number the points by their group and label; ValueError where two share both."""
    for what, given in (("labels", labels), ("groups", groups)):
        if len(given) != n_points:
            raise ValueError(f"{what} has {len(given)} entries for {n_points} points; give one per point")
    index_of: dict[tuple[str | None, str], int] = {}
    for k, (group, label) in enumerate(zip(groups, labels, strict=True)):
        if (group, label) in index_of:
            raise ValueError(
                f"points {index_of[group, label]} and {k} both have label {label!r} and group {group!r}; "
                "give each point of a group a label of its own"
            )
        index_of[group, label] = k
    return index_of


def write_beside(
    ax: Axes, points: NDArray[np.float64], names: Sequence[str | None], *, size: float = FONT - 1, inches: float = 3.6
) -> None:
    """Write names beside their points, where they cover least of points and names, outwards if equal.

    The map is about so many `inches` wide; the names do not count when the axes are laid out.
    """
    scale = 72 * inches / (np.ptp(points, axis=0).max() or 1.0)
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
        w, h = 72 * text_width(name, size), size
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
        text = ax.annotate(name, point, xytext=offset, textcoords="offset points", ha=ha, va=va, fontsize=size)
        text.set_in_layout(False)


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
            color=INK,
            pad=0,
            borderpad=0.4,
            sep=2,
            bbox_to_anchor=(0, 0),
            bbox_transform=ax.transAxes,
            fontproperties=FontProperties(size=FONT - 1),
        )
    )
