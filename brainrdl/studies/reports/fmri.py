"""A readable page about RDMs made of fMRI: what they are, how sure they are, and what they were made of."""

import base64
import io
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np
import pandas as pd
import xarray as xr
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from matplotlib.figure import Figure

from brainrdl.files import atomic_path
from brainrdl.inference import noise_ceiling
from brainrdl.plots import plot_rdms, rdm_panel
from brainrdl.rdms.layout import check_rdms
from brainrdl.rdms.patterns import Array

_FONT = 8
_MAX_PANELS, _MAX_NAMES = 12, 20
_BLUE, _INK = "#0072B2", "0.25"


class Sources(Protocol):
    """What a report draws besides the RDMs: the first run's design, and tSNR by region."""

    @property
    def design(self) -> pd.DataFrame: ...
    @property
    def tsnr(self) -> dict[str, Array]: ...


class Table(NamedTuple):
    """A table of the page."""

    title: str
    head: Sequence[str]
    rows: Sequence[Sequence[str]]
    caption: str


def write_report(
    rdms: xr.DataArray,
    sources: Mapping[str, Sources],
    path: str | Path,
    *,
    title: str = "RDMs from fMRI",
    notes: Sequence[str] = (),
    tables: Sequence[Table] = (),
) -> Path:
    """Write a page that needs no other file.

    Parameters
    ----------
    rdms : DataArray (rdm, stimulus, stimulus_)
        What `rdms_from_bids` returned.
    sources : mapping of str
        By subject (and session), what `process` returned.
    path : path
        The HTML file.
    title : str
    notes : sequence of str
        Paragraphs for the beginning.
    tables : sequence of Table
        Further tables.

    Returns
    -------
    Path

    Examples
    --------
    >>> write_report(rdms, {"sub-01": result}, "rdms.html")  # doctest: +SKIP
    PosixPath('rdms.html')
    """
    rdms = check_rdms(rdms)
    facts = facts_of(rdms)
    first_unit, first = next(iter(sources.items()))
    figures = [
        (
            _rdms_figure(rdms),
            "RDM per subject and region: squared distance per voxel. Crossnobis distances are unbiased, so that values "
            "at or below zero mean no evidence of a difference."
            if rdms.attrs["metric"] == "crossnobis"
            else "RDM per subject and region. These distances are not cross-validated: noise biases them.",
        ),
        (
            _design_figure(first.design),
            f"Design matrix of the first run of {first_unit}; each column divided by its maximum.",
        ),
        (
            _tsnr_figure(
                {f"{unit}/{region}": values for unit, one in sources.items() for region, values in one.tsnr.items()}
            ),
            "Temporal signal-to-noise ratio over voxels: mean over scans, divided by the SD of the GLM's residuals. "
            "Box: quartiles; whiskers: 5th and 95th percentile.",
        ),
    ]
    reliabilities = {label: one["split_half"] for label, one in facts.items() if one.get("split_half")}
    if reliabilities:
        figures.insert(
            1,
            (
                _reliability_figure(reliabilities),
                "Reliability: mean correlation of the RDMs of two halves of the runs (filled, 95 % by a jackknife over "
                "runs), and what all runs together would have by Spearman–Brown (open; a lower bound for "
                "cross-validated distances).",
            ),
        )
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent), autoescape=True, undefined=StrictUndefined, trim_blocks=True
    )
    one = next(iter(facts.values()))
    page = environment.get_template("fmri.html.jinja").render(
        title=title,
        notes=list(notes),
        n_rdms=rdms.sizes["rdm"],
        n_stimuli=rdms.sizes["stimulus"],
        metric=rdms.attrs["metric"],
        stimuli=rdms["stimulus"].values.tolist(),
        figures=[(_uri(figure), round(100 * figure.get_figwidth()), caption) for figure, caption in figures],
        tables=[_summary(facts), *_ceilings(rdms), *tables, _settings(one)],
        warnings=_warnings(rdms, facts),
        inputs={label: part["inputs"] | part["mask"] for label, part in facts.items()},
        runs=one["runs"],
        versions=one["versions"],
    )
    path = Path(path)
    with atomic_path(path) as temporary:
        temporary.write_text(page, encoding="utf-8")
    return path


def facts_of(rdms: xr.DataArray) -> dict[str, dict[str, Any]]:
    """Read the provenance of each RDM, by label."""
    provenance = json.loads(rdms.attrs["provenance"])
    if "concatenated" not in provenance:
        return dict.fromkeys(rdms["rdm"].values.tolist(), provenance)
    return {label: part["provenance"] for part in provenance["concatenated"] for label in part["rdm"]}


def _summary(facts: Mapping[str, Mapping[str, Any]]) -> Table:
    rows = []
    for label, one in facts.items():
        half = one.get("split_half") or {}
        voxels = one["voxels"]
        shrinkage = one["shrinkage"]
        if isinstance(shrinkage, dict):
            shrinkage = float(np.mean(list(shrinkage.values())))
        rows.append(
            [
                label,
                str(len(one["runs"])),
                f"{voxels['used']} of {voxels['mask']}",
                str(sum(run["dof"] for run in one["runs"])),
                _number(shrinkage, 3),
                _number(one["tsnr_median"], 0),
                _number(half.get("r")),
                _interval(half.get("interval_95")),
                _number(half.get("spearman_brown_lower_bound")),
                _number((one.get("order") or {}).get("correlation")),
            ]
        )
    head = [
        "RDM",
        "runs",
        "voxels",
        "dof",
        "shrinkage λ",
        "tSNR",
        "split-half r",
        "95 %",
        "Spearman–Brown",
        "r with time",
    ]
    return Table(
        "Each RDM",
        head,
        rows,
        "Voxels: used, of those in the mask (the others lie outside a brain mask, have NaN or no variance). dof: "
        "scans − rank of the design, over runs. λ: share of the shrinkage target in the noise covariance (mean over "
        "runs if per run). r with time: correlation of the distances with the stimuli's mean distance in time.",
    )


def _ceilings(rdms: xr.DataArray) -> list[Table]:
    """Noise ceilings of the regions that at least two subjects have, fully measured."""
    rows = []
    for region in dict.fromkeys(rdms["roi"].values.tolist()):
        part = rdms.isel(rdm=rdms["roi"].values == region).drop_vars(["standard_error"], errors="ignore")
        n_subjects = len(set(part["subject"].values.tolist()))
        if n_subjects >= 2 and not np.isnan(part.values).any() and part.sizes["stimulus"] >= 3:
            lower, upper = noise_ceiling(part)
            rows.append([region, str(n_subjects), _number(lower), _number(upper)])
    if not rows:
        return []
    return [
        Table(
            "Between subjects",
            ["region", "subjects", "lower ceiling", "upper ceiling"],
            rows,
            "Noise ceiling by Pearson r: mean correlation of a subject's RDM with the mean of the others (lower) and "
            "of all (upper), each RDM z-scored first.",
        )
    ]


def _settings(one: Mapping[str, Any]) -> Table:
    settings = one["settings"]
    rows = [[f"glm.{key}", _plain(value)] for key, value in settings["glm"].items()]
    rows += [[key, _plain(value)] for key, value in settings.items() if key != "glm"]
    return Table("Settings", ["setting", "value"], rows, "As run.")


def _warnings(rdms: xr.DataArray, facts: Mapping[str, Mapping[str, Any]]) -> list[str]:
    found = [
        f"{label}: {one['order']['warning']}" for label, one in facts.items() if (one.get("order") or {}).get("warning")
    ]
    if "warning" in rdms.attrs:
        found.append(str(rdms.attrs["warning"]))
    return found


def _rdms_figure(rdms: xr.DataArray) -> Figure:
    if rdms.sizes["rdm"] > _MAX_PANELS:
        return plot_rdms(rdms)
    columns = min(2, rdms.sizes["rdm"])
    rows = -(-rdms.sizes["rdm"] // columns)
    figure = Figure(figsize=(4.4 * columns, 3.7 * rows), layout="constrained")
    axes = np.ravel(figure.subplots(rows, columns, squeeze=False))
    # each stimulus a group of its own, so that its name stands at the edge
    names = rdms["stimulus"].values.tolist() if rdms.sizes["stimulus"] <= _MAX_NAMES else None
    for ax, label in zip(axes, rdms["rdm"].values.tolist(), strict=False):
        rdm_panel(rdms.sel(rdm=label), groups=names, title=label, ax=ax)
    for ax in axes[rdms.sizes["rdm"] :]:
        ax.set_visible(False)
    return figure


def _design_figure(design: pd.DataFrame) -> Figure:
    X = design.to_numpy()
    largest = np.abs(X).max(axis=0)
    figure = Figure(figsize=(max(3.2, 0.2 * X.shape[1] + 0.8), 3.6), layout="constrained")
    ax = figure.subplots()
    ax.imshow(
        X / np.where(largest > 0, largest, 1), aspect="auto", cmap="gray", interpolation="nearest", vmin=-1, vmax=1
    )
    if X.shape[1] <= 60:
        ax.set_xticks(range(X.shape[1]), [str(name) for name in design.columns], rotation=90)
    ax.set_ylabel("scan", fontsize=_FONT)
    ax.tick_params(labelsize=_FONT - 1, length=2)
    return figure


def _tsnr_figure(tsnr: Mapping[str, Array]) -> Figure:
    figure, ax = _rows_figure(list(tsnr))
    for row, values in enumerate(tsnr.values()):
        low, q1, middle, q3, high = np.percentile(values, [5, 25, 50, 75, 95])
        ax.plot([low, high], [row, row], color=_BLUE, linewidth=0.8)
        ax.barh(row, q3 - q1, left=q1, height=0.5, color="white", edgecolor=_BLUE, linewidth=0.8)
        ax.plot([middle, middle], [row - 0.25, row + 0.25], color=_BLUE, linewidth=1.6)
    ax.set_xlabel("tSNR", fontsize=_FONT)
    ax.set_xlim(left=0)
    return figure


def _reliability_figure(reliabilities: Mapping[str, Mapping[str, Any]]) -> Figure:
    figure, ax = _rows_figure(list(reliabilities))
    for row, one in enumerate(reliabilities.values()):
        low, high = one["interval_95"]
        if low is not None:
            ax.plot([low, high], [row, row], color=_BLUE, linewidth=1.2)
        ax.plot(one["r"], row, "o", color=_BLUE, markersize=5)
        if one["spearman_brown_lower_bound"] is not None:
            ax.plot(one["spearman_brown_lower_bound"], row, "o", color=_BLUE, markerfacecolor="white", markersize=5)
    ax.axvline(0, color=_INK, linewidth=0.6)
    ax.set_xlim(-1, 1)
    ax.set_xlabel("correlation", fontsize=_FONT)
    return figure


def _rows_figure(labels: Sequence[str]) -> tuple[Figure, Any]:
    figure = Figure(figsize=(5.0, 0.7 + 0.28 * len(labels)), layout="constrained")
    ax = figure.subplots()
    ax.set_yticks(range(len(labels)), labels)
    ax.set_ylim(len(labels) - 0.4, -0.6)
    ax.tick_params(labelsize=_FONT - 1, length=2)
    ax.spines[["top", "right"]].set_visible(False)
    return figure, ax


def _uri(figure: Figure) -> str:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=200)
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode()


def _number(value: float | None, digits: int = 2) -> str:
    return "–" if value is None else f"{value:.{digits}f}".replace("-", "−")


def _interval(bounds: Sequence[float | None] | None) -> str:
    if not bounds or bounds[0] is None:
        return "–"
    return f"{_number(bounds[0])} to {_number(bounds[1])}"


def _plain(value: Any) -> str:
    if isinstance(value, list):
        return ", ".join(map(str, value)) or "none"
    return "none" if value is None else f"{value:.6g}" if isinstance(value, float) else str(value)
