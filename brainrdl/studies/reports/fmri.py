"""The report of RDMs made of fMRI: what they are, how sure they are, and what they were made of."""

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import pandas as pd
import xarray as xr
from matplotlib.figure import Figure

from brainrdl.inference.ceiling import noise_ceiling
from brainrdl.plots.names import as_written
from brainrdl.plots.rdms import plot_rdms, rdm_panel
from brainrdl.rdms.layout import check_rdms
from brainrdl.rdms.patterns import Array
from brainrdl.studies.reports.page import Page, Picture, Section, Table, present, write_page
from brainrdl.studies.reports.words import count, interval, number
from brainrdl.warned import warnings_in

_FONT = 8
_MAX_PANELS, _MAX_NAMES, _MAX_LISTED, _MAX_TRIALS = 12, 20, 40, 24
_WHERE_ASKED = ("skip_empty_events", "confound_columns", "label", "threshold", "max_bytes")  # settings of few
_BLUE, _INK = "#0072B2", "0.25"


class Sources(Protocol):
    """Parts of a report besides the RDMs: the first run's design, and tSNR by region."""

    @property
    def design(self) -> pd.DataFrame: ...
    @property
    def tsnr(self) -> dict[str, Array]: ...


def write_report(
    rdms: xr.DataArray,
    sources: Mapping[str, Sources],
    path: str | Path,
    *,
    title: str = "RDMs from fMRI",
    findings: Sequence[str] = (),
    tables: Sequence[Table] = (),
    about: Mapping[str, str] | None = None,
) -> Path:
    """Write a page about what `rdms_from_bids` returned; `sources` are what `process` did, by subject (and session).

    `findings` are sentences for the beginning, `tables` further ones for the section on reliability. `about` says what
    the RDMs do not hold: data set, task, command, date. The same RDMs and words make the same page on any day.
    """
    rdms = check_rdms(rdms)
    facts = facts_of(rdms)
    first = next(iter(facts.values()))
    names = [str(name) for name in rdms["stimulus"].values]
    listed = f": {', '.join(names)}" if len(names) <= _MAX_LISTED else ""
    page = Page(
        title=title,
        created=(about or {}).get("date", ""),
        headline="",
        summary=f"{count(rdms.sizes['rdm'], 'RDM')} of {len(names)} stimuli, metric {rdms.attrs['metric']}{listed}. "
        + _noise(first["settings"]),
        findings=tuple(findings),
        sections=present(
            [
                Section("rdms", "RDMs", (_rdms(rdms), _each(facts), *_ceilings(rdms))),
                Section("reliability", "Reliability and signal", (*_reliability(facts), _tsnr(sources), *tables)),
                Section("design", "Design and runs", (_design(sources), _runs(first))),
                Section("settings", "Settings", (_settings(first), *_about(rdms, first, about or {}))),
                Section("inputs", "Inputs", tuple(_inputs(facts))),
            ]
        ),
        notes=(),
        faults=tuple(_warnings(rdms, facts)),
    )
    return write_page(page, Path(path), "fmri.html.jinja", {"versions": first["versions"]})


def _noise(settings: Mapping[str, Any]) -> str:
    """Say of which residuals the noise was estimated, and why of these."""
    if not settings.get("noise"):
        return "Without noise normalisation: every voxel counts by its amplitude."
    model = str(settings["glm"].get("noise_model", "ar1"))
    if model == "ols":
        return (
            "The noise precision between voxels was estimated from residuals of ordinary least squares, which are not "
            "whitened in time: where scans are autocorrelated, they have fewer degrees of freedom than were counted."
        )
    return (
        "The noise precision between voxels was estimated from residuals that the GLM's "
        f"{model[:2].upper()}({model[2:]}) model whitens in time, since the amplitudes are estimated from data "
        "whitened alike: this is the noise that they have, and it is independent between scans, as its degrees of "
        "freedom suppose. Plain residuals (nilearn's attribute residuals) also hold the autocorrelated fluctuations, "
        "which count for less in the amplitudes: they overstate the noise, and distances come out smaller."
    )


def _about(rdms: xr.DataArray, fact: Mapping[str, Any], about: Mapping[str, str]) -> Iterator[Table]:
    subjects = dict.fromkeys(map(str, rdms["subject"].values)) if "subject" in rdms.coords else {}
    rows = [*about.items(), ("subjects", ", ".join(subjects))] if subjects else list(about.items())
    software = ", ".join(f"{name} {number}" for name, number in fact["versions"].items())
    yield Table("Data, command and software", ("", ""), [*rows, ("software", software)])


def facts_of(rdms: xr.DataArray) -> dict[str, dict[str, Any]]:
    """Read the provenance of each RDM, by label."""
    provenance = json.loads(rdms.attrs["provenance"])
    if "concatenated" not in provenance:
        return dict.fromkeys(rdms["rdm"].values.tolist(), provenance)
    return {label: part["provenance"] for part in provenance["concatenated"] for label in part["rdm"]}


def _rdms(rdms: xr.DataArray) -> Picture:
    caption = (
        "A representational dissimilarity matrix (RDM) per subject and region. Rows and columns are stimuli (trial "
        "types); colour shows how different the responses of the region's voxels are to two of them. "
    )
    if rdms.attrs["metric"] == "crossnobis":
        caption += (
            "Crossnobis distance: the squared distance between two patterns of amplitudes, in units of the noise, "
            "divided by the number of voxels and cross-validated between runs. It is unbiased, 0 on average where "
            "nothing differs, so that values at or below zero are no evidence of a difference."
        )
    else:
        caption += "These distances are not cross-validated, hence biased by noise."
    return Picture("rdm-panels", _rdms_figure(rdms), "A panel per subject and region.", caption, "png")


def _each(facts: Mapping[str, Mapping[str, Any]]) -> Table:
    rows = []
    for label, fact in facts.items():
        half = fact.get("split_half") or {}
        # a number for all runs, or one for each
        shrinkage = fact["shrinkage"]
        if isinstance(shrinkage, dict):
            shrinkage = float(np.mean(list(shrinkage.values())))
        rows.append(
            [
                label,
                str(len(fact["runs"])),
                f"{fact['voxels']['used']} of {fact['voxels']['mask']}",
                str(sum(run["dof"] for run in fact["runs"])),
                number(shrinkage, 3),
                number(fact["tsnr_median"], 0),
                number(half.get("r")),
                interval(*(half.get("interval_95") or (None, None))),
                number(half.get("spearman_brown_lower_bound")),
                number((fact.get("order") or {}).get("correlation")),
            ]
        )
    head = ("RDM", "runs", "voxels", "dof", "shrinkage λ", "tSNR", "split-half r", "95 %", "Spearman–Brown")
    return Table(
        "Each RDM",
        (*head, "r with time"),
        rows,
        "Voxels: used, of those in the mask (the others are outside the brain mask, NaN or constant). dof: "
        "scans − rank of the design, over runs. λ: weight of the shrinkage target in the noise covariance (mean over "
        "runs if per run). 95 %: by a jackknife over runs, which takes five. r with time: correlation of the distances "
        "with the mean temporal distance of the stimuli.",
    )


def _ceilings(rdms: xr.DataArray) -> Iterator[Table]:
    """Print noise ceilings of the regions that at least two subjects have, fully measured."""
    rows = []
    for region in dict.fromkeys(rdms["roi"].values.tolist()):
        # errors of single subjects say nothing of the mean over others
        part = rdms.isel(rdm=rdms["roi"].values == region).drop_vars(["standard_error"], errors="ignore")
        n_subjects = len(set(part["subject"].values.tolist()))
        # a pair that was not measured, or a single distance, leaves no correlation
        if n_subjects >= 2 and not np.isnan(part.values).any() and part.sizes["stimulus"] >= 3:
            lower, upper = noise_ceiling(part)
            rows.append([region, str(n_subjects), number(lower), number(upper)])
    if rows:
        yield Table(
            "Between subjects",
            ("region", "subjects", "noise ceiling, lower bound", "upper bound"),
            rows,
            "Noise ceiling (Pearson r): mean correlation of each subject's RDM with the mean RDM of the other subjects "
            "(lower bound) and of all subjects (upper bound), after z-scoring each RDM.",
        )


def _reliability(facts: Mapping[str, Mapping[str, Any]]) -> Iterator[Picture]:
    halves = {label: fact["split_half"] for label, fact in facts.items() if fact.get("split_half")}
    if halves:
        yield Picture(
            "split-halves",
            _reliability_figure(halves),
            "Split-half correlations, a row per RDM; the numbers are those of the table above.",
            "Reliability: mean correlation of the RDMs of two halves of the runs (filled, 95 % by a jackknife over "
            "runs), and the reliability of all runs together by the Spearman–Brown formula (open; a lower "
            "bound for cross-validated distances).",
            "png",
        )


def _tsnr(sources: Mapping[str, Sources]) -> Picture:
    tsnr = {f"{unit}/{region}": values for unit, part in sources.items() for region, values in part.tsnr.items()}
    return Picture(
        "tsnr",
        _tsnr_figure(tsnr),
        "Box plots, a row per subject and region.",
        "Temporal signal-to-noise ratio over voxels: mean over scans, divided by the SD of the GLM's residuals. "
        "Box: quartiles; whiskers: 5th and 95th percentile.",
        "png",
    )


def _design(sources: Mapping[str, Sources]) -> Picture:
    unit, part = next(iter(sources.items()))
    return Picture(
        "design-matrix",
        _design_figure(part.design),
        "Scans (rows) by regressors (columns).",
        f"Design matrix of the first run of {unit}; each column divided by its maximum.",
        "png",
    )


def _runs(fact: Mapping[str, Any]) -> Table:
    rows = [
        [
            str(run["run"]),
            str(run["scans"]),
            str(run["t_r"]),
            str(run["dof"]),
            run["drift_model"] or "none",
            ", ".join(run["confounds"]) or "none",
            ", ".join(run["trial_types"][:_MAX_TRIALS]) + " …" * (len(run["trial_types"]) > _MAX_TRIALS),
        ]
        for run in fact["runs"]
    ]
    head = ("run", "scans", "TR (s)", "dof", "drift", "confounds", "trial types, by onset")
    skipped = sum(run.get("skipped_events", 0) for run in fact["runs"])
    left_out = f" {count(skipped, 'event')} with an empty entry left out." if skipped else ""
    return Table("Runs", head, rows, f"Of the first subject or session.{left_out}")


def _settings(fact: Mapping[str, Any]) -> Table:
    settings = fact["settings"]
    glm = dict(settings["glm"])
    if "slice_time_ref" in glm:
        glm["slice_time_ref"] = _slice_times(glm["slice_time_ref"], fact["runs"])
    rows = [(f"glm.{key}", _setting(value)) for key, value in glm.items() if value or key not in _WHERE_ASKED]
    # None is a setting of the noise; elsewhere nothing was asked for
    rows += [
        (k, "not given" if value is None and k != "noise" else _setting(value))
        for k, value in settings.items()
        if k != "glm" and (value or k not in _WHERE_ASKED)
    ]
    return Table("As run", ("setting", "value"), rows)


def _slice_times(asked: float | None, runs: Sequence[Mapping[str, Any]]) -> Any:
    """The moment of a scan that its volumes show: as set, else as the sidecars of the runs say."""
    stated = {run["slice_time_ref"]: run["slice_time_from"] for run in runs if run.get("slice_time_ref")}
    if asked is not None or not stated:
        return asked or 0.0
    return "; ".join(f"{reference:.4g} ({source})" for reference, source in stated.items())


def _setting(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{name}: {part}" for name, part in value.items()) or "none"
    if isinstance(value, list):
        return ", ".join(map(str, value)) or "none"
    return "none" if value is None else f"{value:.6g}" if isinstance(value, float) else str(value)


def _inputs(facts: Mapping[str, Mapping[str, Any]]) -> Iterator[Table]:
    for label, fact in facts.items():
        files = fact["inputs"] | fact["mask"]
        yield Table(f"{label}: {len(files)} files, SHA-256", ("file", "SHA-256"), list(files.items()), folded=True)


def _warnings(rdms: xr.DataArray, facts: Mapping[str, Mapping[str, Any]]) -> list[str]:
    orders = {label: fact.get("order") or {} for label, fact in facts.items()}
    found = [f"{label}: {order['warning']}" for label, order in orders.items() if order.get("warning")]
    found += [str(rdms.attrs["warning"])] if "warning" in rdms.attrs else []
    return list(dict.fromkeys([*found, *warnings_in(rdms)]))


@as_written
def _rdms_figure(rdms: xr.DataArray) -> Figure:
    # a panel each would be too small to read names
    if rdms.sizes["rdm"] > _MAX_PANELS:
        return plot_rdms(rdms)
    columns = min(2, rdms.sizes["rdm"])
    rows = -(-rdms.sizes["rdm"] // columns)
    figure = Figure(figsize=(4.4 * columns, 3.7 * rows), layout="constrained")
    axes = np.ravel(figure.subplots(rows, columns, squeeze=False))
    # each stimulus is a group of its own, so that its name stands at the edge
    names = rdms["stimulus"].values.tolist() if rdms.sizes["stimulus"] <= _MAX_NAMES else None
    for ax, label in zip(axes, rdms["rdm"].values.tolist(), strict=False):
        rdm_panel(rdms.sel(rdm=label), groups=names, title=label, ax=ax)
    for ax in axes[rdms.sizes["rdm"] :]:
        ax.set_visible(False)
    return figure


@as_written
def _design_figure(design: pd.DataFrame) -> Figure:
    X = design.to_numpy()
    # a regressor of zeros, as of a condition that a run lacks, stays grey
    largest = np.abs(X).max(axis=0)
    figure = Figure(figsize=(max(3.2, 0.2 * X.shape[1] + 0.8), 3.6), layout="constrained")
    ax = figure.subplots()
    ax.imshow(
        X / np.where(largest > 0, largest, 1), aspect="auto", cmap="gray", interpolation="nearest", vmin=-1, vmax=1
    )
    # more names would overlap
    if X.shape[1] <= 60:
        ax.set_xticks(range(X.shape[1]), [str(name) for name in design.columns], rotation=90)
    ax.set_ylabel("scan", fontsize=_FONT)
    ax.tick_params(labelsize=_FONT - 1, length=2)
    return figure


@as_written
def _tsnr_figure(tsnr: Mapping[str, Array]) -> Figure:
    figure, ax = _rows_figure(list(tsnr))
    for row, values in enumerate(tsnr.values()):
        # the ends of the range would be single voxels
        low, q1, middle, q3, high = np.percentile(values, [5, 25, 50, 75, 95])
        ax.plot([low, high], [row, row], color=_BLUE, linewidth=0.8)
        ax.barh(row, q3 - q1, left=q1, height=0.5, color="white", edgecolor=_BLUE, linewidth=0.8)
        ax.plot([middle, middle], [row - 0.25, row + 0.25], color=_BLUE, linewidth=1.6)
    ax.set_xlabel("tSNR", fontsize=_FONT)
    ax.set_xlim(left=0)
    return figure


@as_written
def _reliability_figure(halves: Mapping[str, Mapping[str, Any]]) -> Figure:
    figure, ax = _rows_figure(list(halves))
    for row, half in enumerate(halves.values()):
        low, high = half["interval_95"]
        # fewer than five runs have no jackknife
        if low is not None:
            ax.plot([low, high], [row, row], color=_BLUE, linewidth=1.2)
        ax.plot(half["r"], row, "o", color=_BLUE, markersize=5)
        # unknown where the correlation is not positive
        if half["spearman_brown_lower_bound"] is not None:
            ax.plot(half["spearman_brown_lower_bound"], row, "o", color=_BLUE, markerfacecolor="white", markersize=5)
    ax.axvline(0, color=_INK, linewidth=0.6)
    ax.set_xlim(-1, 1)
    ax.set_xlabel("correlation", fontsize=_FONT)
    return figure


def _rows_figure(labels: Sequence[str]) -> tuple[Figure, Any]:
    figure = Figure(figsize=(5.0, 0.7 + 0.28 * len(labels)), layout="constrained")
    ax = figure.subplots()
    ax.set_yticks(range(len(labels)), labels)
    # the first row at the top
    ax.set_ylim(len(labels) - 0.4, -0.6)
    ax.tick_params(labelsize=_FONT - 1, length=2)
    ax.spines[["top", "right"]].set_visible(False)
    return figure, ax
