"""Maps by multidimensional scaling: the stimuli of each RDM, or the RDMs themselves."""

from pathlib import Path
from typing import Literal

import numpy as np
from matplotlib.figure import Figure
from matplotlib.offsetbox import AnnotationBbox, OffsetImage
from xarray import DataArray

from brainrdl.embedding import mds
from brainrdl.plots._groups import Groups, stretches_of
from brainrdl.plots._style import FONT, INK, legend_beside, marker, styles_of
from brainrdl.plots._thumbnails import Images, thumbnails_of
from brainrdl.plots.mds import mds_map, write_beside
from brainrdl.plots.rdms import MAX_IDS, measure_of, plot_rdms
from brainrdl.rdms.labelled import condense
from brainrdl.rdms.layout import check_rdms


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
        Drawn in place of the stimuli's points. Up to 30 stimuli without images are named.
    groups : str, mapping from stimulus id, or sequence of length stimuli, optional
        As in `plot_rdms`: a colour each.
    seed : int
        See `brainrdl.embedding.mds`.

    Returns
    -------
    Figure
        Kruskal's stress-1 below each panel. Panels' axes are in the order of the RDMs and of one size.

    Raises
    ------
    TypeError, ValueError
        As `brainrdl.rdms.layout.check_rdms`; ValueError also for an unknown `of`, a stimulus without image, pairs that
        were not measured, or negative values.

    Examples
    --------
    >>> import numpy as np, brainrdl as rdl
    >>> rdms = rdl.label_rdms(np.array([[0.2, 1.3, 1.1]]), ["face", "body", "house"], ["IT"], "correlation")
    >>> [ax.get_title() for ax in rdl.plot_mds(rdms).axes]
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
        constant = [name for name, row in zip(names, values, strict=True) if row.min() == row.max()]
        if constant:
            raise ValueError(f"RDM {constant[0]!r} is constant, and correlates with none; leave it out")
        distances = np.clip(1 - np.corrcoef(values), 0, None)
        np.fill_diagonal(distances, 0.0)
        measure = f"1 − Pearson r between RDMs of {measure_of(rdms)}"
        return mds_map(distances, labels=names, groups=[None] * len(names), measure=measure, seed=seed)[0]

    ids = [str(stimulus) for stimulus in rdms["stimulus"].values]
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
            ax.plot(
                *points[stretch.start : stretch.stop].T,
                linestyle="none",
                label=stretch.name,
                **marker(styles[stretch.name].color, "o", styles[stretch.name].fill),
            )
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
        ax.set_xlabel(f"metric MDS, stress-1 = {stress:.3f}", fontsize=FONT - 1, color=INK)
    if stretches:
        handles, labels = axes[0].get_legend_handles_labels()
        legend_beside(figure, handles, labels)
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
    """Draw labelled RDMs into a file: what ``brainrdl plot`` does.

    Parameters
    ----------
    rdms : DataArray (rdm, stimulus, stimulus_)
        Labelled RDMs.
    path : path
        Its suffix is the format: ``.png``, ``.pdf``, ``.svg``.
    kind : {"rdms", "mds", "rdm-mds"}
        Panels of colour; a map of the stimuli of each RDM; a map of the RDMs.
    images, groups, scale, rank
        As in `plot_rdms` and `plot_mds`, where they apply.

    Raises
    ------
    ValueError
        For an unknown kind or suffix, or as `plot_rdms` and `plot_mds`.
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
    figure.savefig(path, dpi=200)
