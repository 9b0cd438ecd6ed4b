"""The figures of a paper's report; a method has the same colour in all of them, whichever methods a figure shows."""

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import pandas as pd
import xarray as xr
from matplotlib.figure import Figure

from brainrdl.plots.curves import error_curves
from brainrdl.plots.errors import error_dots, label_curve
from brainrdl.plots.mds import mds_map
from brainrdl.plots.rdms import rdm_grid, rdm_panel
from brainrdl.rdms.labelled import select_stimuli
from brainrdl.studies.reports.methods import PAPER_ARMS, ArmWords, arm_name, in_order, method_name

_PALETTE = tuple(
    arm_name(arm)
    for arm in (
        # the colours of brainrdl.plots: blue, vermilion, green, purple, orange, sky, black; then the same, dashed
        *("rdl", "rdl_corr", "finetuning", "deep_supervision", "hints", "teacher", "plain"),
        *("plain_readout", "finetuning_replaced", "cka", "kd", "rkd", "sp", "plain_narrow"),
    )
)
FIXED_LAYERS = ("pixels", "labels")
"""Layers that are the same whatever the network."""

_MODEL = re.compile(r"(?P<arm>\w+)(?: \((?P<teacher>\w+)\))?(?: (?P<labels>\d+) labels)?")


@dataclass(frozen=True)
class Shown:
    """The methods that a figure shows: `arms` in order, one kind of `teacher`, students with `labels` (None: all)."""

    arms: tuple[str, ...]
    teacher: str
    labels: int | None = None
    words: ArmWords = field(default_factory=lambda: PAPER_ARMS)

    def methods(self, frame: pd.DataFrame) -> pd.DataFrame:
        """Select the rows of these methods (columns ``arm, teacher, labels``), in the order of a report."""
        # NaN is not equal to itself, so that None needs a test of its own
        all_labels = frame["labels"].isna()
        if self.labels is None:
            fitting = all_labels
        else:  # teachers that saw all labels stand beside students that did not
            fitting = (frame["labels"] == self.labels) | (all_labels & (frame["arm"] == "teacher"))
        fitting &= frame["arm"].isin(self.arms) & frame["teacher"].isin(("", self.teacher))
        return in_order(frame[fitting], self.words)

    def models(self, names: Sequence[str]) -> list[str]:
        """Select these methods among names such as ``rdl (clean) 1000 labels``, in the order of a report."""
        # "pixels" and "labels" are names of layers, and match as arms that no figure shows
        parsed = [(name, *match.groups("")) for name in dict.fromkeys(names) if (match := _MODEL.fullmatch(name))]
        frame = pd.DataFrame(parsed, columns=["name", "arm", "teacher", "labels"], dtype=str)
        return self.methods(frame.assign(labels=pd.to_numeric(frame["labels"])))["name"].tolist()


def format_model(model: str, arms: ArmWords = PAPER_ARMS) -> str:
    """Name a network by its name in ``rdms.nc`` and ``mds.nc``: RDL (clean) with 1,000 labels."""
    match = _MODEL.fullmatch(model)
    if not match:
        return model
    labels = f" with {int(match['labels']):,} labels" if match["labels"] else ""
    return method_name(match["arm"], match["teacher"] or "", arms) + labels


def example_rdm(rdms: xr.DataArray, arms: ArmWords = PAPER_ARMS) -> Figure:
    """Figure 1: the RDM of a network's output (layer ``softmax``), images by class; plain's, or the first one's."""
    outputs = rdms.isel(rdm=np.flatnonzero(rdms["layer"].values == "softmax"))
    if not outputs.sizes["rdm"]:
        raise ValueError(
            f"no RDM is of layer 'softmax'; there are {', '.join(dict.fromkeys(map(str, rdms['layer'].values)))}"
        )
    models = [str(model) for model in outputs["model"].values]
    # a study of transfer may leave plain out
    name = "plain" if "plain" in models else models[0]
    ordered, classes = _by_class(outputs.isel(rdm=[models.index(name)]))
    figure = Figure(figsize=(4.6, 3.9), layout="constrained")
    rdm_panel(ordered.isel(rdm=0), groups=classes, title=f"{_title(name, arms)}, softmax", ax=figure.subplots())
    return figure


def rdm_figure(rdms: xr.DataArray, shown: Shown) -> Figure | None:
    """Figure 3: RDMs of every layer of every method shown, those of pixels and labels once; None without any method."""
    models = [str(model) for model in rdms["model"].values]
    layers = [str(layer) for layer in rdms["layer"].values]
    names = shown.models(models)
    if not names:
        return None
    pairs = list(zip(models, layers, strict=True))
    inside = [(name, layer) for name in names for layer in dict.fromkeys(layers) if layer not in FIXED_LAYERS]
    # pixels and labels are no network's; the first row is as good as any
    first, last = ([(names[0], layer)] * (layer in layers) for layer in FIXED_LAYERS)
    drawn = [*first, *(pair for pair in inside if pair in pairs), *last]
    order = [layers.index(layer) if layer in FIXED_LAYERS else pairs.index((name, layer)) for name, layer in drawn]
    ordered, classes = _by_class(rdms.isel(rdm=order))
    titled = ordered.assign_coords(model=("rdm", [_title(name, shown.words) for name, _ in drawn]))
    return rdm_grid(titled, rows="model", columns="layer", groups=classes, scale="column")


def map_figure(distances: xr.DataArray, shown: Shown) -> tuple[Figure, float] | None:
    """Figures 4 and 6: RDMs of all layers as points in the plane, and the map's stress; None with fewer than three.

    `distances` (point, point_) are those of ``mds.nc``.
    """
    models = [str(model) for model in distances["model"].values]
    layers = [str(layer) for layer in distances["layer"].values]
    names = shown.models(models)
    points = [layers.index(layer) for layer in FIXED_LAYERS if layer in layers]
    points += [k for name in names for k, model in enumerate(models) if model == name and layers[k] not in FIXED_LAYERS]
    # two points lie on any line
    if not names or len(points) < 3:
        return None
    order = [layer for layer in dict.fromkeys(layers) if layer in {layers[k] for k in points}]
    # pixels first and labels last, whatever the order of the points
    order.sort(key=lambda layer: {"pixels": -1, "labels": 1}.get(layer, 0))
    return mds_map(
        distances.values[np.ix_(points, points)],
        labels=[layers[k] for k in points],
        groups=[None if layers[k] in FIXED_LAYERS else _title(models[k], shown.words) for k in points],
        paths=order,
        palette=_palette(names, shown.words),
    )


def curve_figure(histories: pd.DataFrame, shown: Shown) -> Figure | None:
    """Figure 2: errors against epochs, on training and, if any, validation images; None without any of the methods."""
    rows = shown.methods(histories)
    if rows.empty:
        return None
    rows = rows.assign(epoch=rows["epoch"] + 1)  # errors after 1, 2, … epochs
    runs = {
        arm_name(str(arm), shown.words): [run for _, run in part.groupby("row", sort=False)]
        for arm, part in rows.groupby("arm", sort=False)
    }
    columns = [column for column in ("task_error", "validation_error") if rows[column].notna().any()]
    return error_curves(runs, columns=columns, palette=_palette(list(dict.fromkeys(rows["arm"])), shown.words))


def dots_figure(results: pd.DataFrame, published: dict[str, float], arms: ArmWords = PAPER_ARMS) -> Figure:
    """Draw the test errors of all methods, with the same number of labels, as dots; `published` by name of method."""
    ordered = in_order(results, arms)
    names = [method_name(str(a), str(t), arms) for a, t in zip(ordered["arm"], ordered["teacher"], strict=True)]
    return error_dots(ordered.assign(arm=names), paper=published or None)


def label_figure(results: pd.DataFrame, shown: Shown) -> Figure | None:
    """Draw the test error of the methods shown against the number of labelled images; None where there is none."""
    chosen = results["arm"].isin(shown.arms) & results["teacher"].isin(("", shown.teacher))
    runs = in_order(results[results["labels"].notna() & chosen], shown.words)
    if runs.empty:
        return None
    palette = _palette(list(dict.fromkeys(runs["arm"])), shown.words)
    return label_curve(runs.assign(arm=[arm_name(str(arm), shown.words) for arm in runs["arm"]]), palette=palette)


def _palette(names: Sequence[str], arms: ArmWords) -> list[str]:
    """All methods, those that no report knows last."""
    return list(dict.fromkeys([*_PALETTE, *(_title(name, arms) for name in names)]))


def _title(model: str, arms: ArmWords) -> str:
    """Name a network without its teacher, whom the figure's caption names."""
    match = _MODEL.fullmatch(model)
    return arm_name(match["arm"], arms) if match else model


def _by_class(rdms: xr.DataArray) -> tuple[xr.DataArray, list[str] | None]:
    """Order stimuli by class, as far as the RDMs name their classes."""
    provenance = json.loads(rdms.attrs.get("provenance", "{}"))
    classes = [str(name) for name in provenance.get("classes", ())]
    ids = [str(stimulus) for stimulus in rdms["stimulus"].values]
    if not classes:
        return rdms, None
    if len(classes) != len(ids):
        raise ValueError(f"the RDMs name {len(classes)} classes for {len(ids)} stimuli; expected one per stimulus")
    # classes stand in the order of their first image
    order = pd.factorize(np.array(classes))[0].argsort(kind="stable")
    return select_stimuli(rdms, [ids[k] for k in order]), [classes[k] for k in order]
