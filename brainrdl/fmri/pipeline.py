"""From a BIDS data set to labelled RDMs: the steps of this package in their order."""

import warnings
from collections.abc import Callable, Mapping, Sequence
from itertools import groupby
from pathlib import Path
from typing import Any, Literal, NamedTuple, SupportsIndex, cast

import numpy as np
import pandas as pd
import xarray as xr

from brainrdl.arguments import name_some
from brainrdl.files.store import to_json
from brainrdl.fmri.bids import Run, find_runs, warn_of_raw
from brainrdl.fmri.distances import crossnobis, pattern_rdm
from brainrdl.fmri.glm import fit_precision, fit_runs
from brainrdl.fmri.images import Image, checksums, image_name, open_image
from brainrdl.fmri.masks import Voxels, mask_voxels
from brainrdl.fmri.noise import Method, shrunk_covariance
from brainrdl.fmri.reliability import split_half
from brainrdl.fmri.run_designs import designs_of, provenance
from brainrdl.fmri.settings import Settings
from brainrdl.fmri.time_order import time_order
from brainrdl.fmri.twins import check_scans
from brainrdl.fmri.uncertainty import standard_errors
from brainrdl.ids import spelling
from brainrdl.progress import track
from brainrdl.rdms.combine import concat_rdms
from brainrdl.rdms.patterns import Array, Precision, run_means
from brainrdl.warned import warnings_given, warnings_in, with_warnings


class Unit(NamedTuple):
    """The runs that one cross-validation is over: of a subject, or of one of its sessions."""

    subject: str
    session: str
    runs: list[Run]

    @property
    def label(self) -> str:
        """Such as ``sub-01`` or ``sub-01/ses-1``."""
        return f"sub-{self.subject}" + (f"/ses-{self.session}" if self.session else "")


class UnitResult(NamedTuple):
    """The RDMs of a unit, and what a report draws besides."""

    rdms: xr.DataArray
    design: pd.DataFrame  # of the first run
    tsnr: dict[str, Array]  # by region


def rdms_from_bids(
    bids_dir: str | Path,
    task: str,
    masks: Mapping[str, Image],
    *,
    subjects: Sequence[str | SupportsIndex] | None = None,
    settings: Settings | None = None,
    log: Callable[[str], None] | None = None,
) -> xr.DataArray:
    """Make labelled RDMs of a BIDS data set.

    Parameters
    ----------
    bids_dir : path
        Data set with a ``derivatives`` folder of preprocessed images.
    task : str
        Task of the runs.
    masks : mapping of str to path or image
        Regions of interest, 0 outside and one value inside. ``{subject}`` in a path stands for the subject's label. Of
        atlases and maps of probabilities, ``label`` and ``threshold`` of `settings` say what is inside.
    subjects : sequence of str or int, optional
        Subjects to take, as in `find_runs`; all by default.
    settings : Settings, optional
        Choices along the way, `Settings()` by default.
    log : callable, optional
        Called with a line of progress per subject and run.

    Returns
    -------
    DataArray (rdm, stimulus, stimulus_)
        An RDM per subject, session and region, labelled ``sub-01/V1`` or ``sub-01/ses-1/V1``, with coordinates
        ``subject``, ``roi`` and, where there are any, ``session``; ``standard_error`` for crossnobis with three runs or
        more; provenance in ``attrs``.

    Raises
    ------
    FileNotFoundError, TypeError, ValueError
        If anything is missing, damaged or contradictory; if subjects have different stimuli; if two runs are one scan.

    Warns
    -----
    UserWarning
        Of what goes on but may not be meant, such as runs without confounds; ``warnings`` of the provenance keep it.

    Examples
    --------
    >>> from brainrdl.fmri import rdms_from_bids
    >>> rdms = rdms_from_bids(
    ...     "haxby_bids", "objectviewing", {"VT": "masks/sub-{subject}_VT.nii.gz"}
    ... )  # doctest: +SKIP
    """
    settings = settings or Settings()
    with warnings_given() as given:
        units = plan(bids_dir, task, subjects=subjects, settings=settings)
        check_masks(masks, settings)
        each = track(units, "RDMs of subjects", total=len(units))
        rdms = joined([process(unit, masks, settings, log).rdms for unit in each])
    return with_warnings(rdms, [text for text in given if text not in warnings_in(rdms)])


def plan(
    bids_dir: str | Path, task: str, *, subjects: Sequence[str | SupportsIndex] | None = None, settings: Settings
) -> list[Unit]:
    """Find the runs, and group them to what is cross-validated over; ValueError for one run, or one scan twice."""
    runs = find_runs(
        bids_dir, task, derivatives=settings.derivatives, space=settings.space, res=settings.res, subjects=subjects
    )
    check_scans(runs)
    apart = settings.sessions == "apart"
    units = [
        Unit(subject, session, list(members))
        for (subject, session), members in groupby(runs, lambda run: (run.subject, run.session if apart else ""))
    ]
    for unit in units:
        if len(unit.runs) < 2 and settings.metric == "crossnobis":
            way_out = "; sessions='pooled' makes folds of the runs of all sessions" if unit.session else ""
            raise ValueError(
                f"{unit.label} has one run only ({unit.runs[0].image}), so there is nothing to cross-validate over"
                f"{way_out}"
            )
    warn_of_raw(Path(bids_dir), task, runs, derivatives=settings.derivatives, all_subjects=subjects is None)
    return units


def process(
    unit: Unit, masks: Mapping[str, Image], settings: Settings, log: Callable[[str], None] | None = None
) -> UnitResult:
    """Make the RDMs of one subject or session; warnings are noted in their provenance."""
    with warnings_given() as given:
        result = _process(unit, masks, settings, log or (lambda _line: None))
    return result._replace(rdms=with_warnings(result.rdms, given))


def _process(unit: Unit, masks: Mapping[str, Image], settings: Settings, log: Callable[[str], None]) -> UnitResult:
    runs = unit.runs
    # opened once: the budget is asked of each header here, and nowhere else
    images = [open_image(run.image, settings.max_bytes) for run in runs]
    paths = {name: subject_mask(mask, unit.subject) for name, mask in masks.items()}
    in_masks = {name: region_voxels(name, path, images[0], settings) for name, path in paths.items()}
    inside = _inside_brains(runs, images, settings)
    regions = {name: voxels if inside is None else np.intersect1d(voxels, inside) for name, voxels in in_masks.items()}
    for name, voxels in regions.items():
        if not voxels.size:
            raise ValueError(f"mask {image_name(paths[name])} lies outside the brain masks of {unit.label}'s runs")
    designs, said = designs_of(runs, images, settings)
    # regions may overlap: each voxel is fitted once
    union: Voxels = np.unique(np.concatenate(list(regions.values())))
    for run, design in zip(runs, designs, strict=True):
        confounds = 0 if design.confounds is None else design.confounds.shape[1]
        log(f"{unit.label} {run.label}: {design.n_scans} scans, {len(design.events)} events, {confounds} confounds")
    fit = fit_runs(images, designs, union, settings.glm, [run.label for run in runs])
    for warning in said:
        warnings.warn(f"{unit.label}: {warning}", UserWarning, stacklevel=2)
    if settings.stimuli is not None:
        there = fit["stimulus"].values.tolist()
        unknown = [stimulus for stimulus in settings.stimuli if stimulus not in there]
        if unknown:
            raise ValueError(
                f"{unit.label} has no trial type {name_some(unknown)}; there are {name_some(sorted(set(there)))}"
            )
        order = [k for stimulus in settings.stimuli for k, name in enumerate(there) if name == stimulus]
        # after the fit, so that the others stay in the design
        fit = fit.isel(observation=order)
    common = provenance(runs, designs, fit["dof"].values, settings)
    rdms, tsnr = [], {}
    for name, voxels in regions.items():
        part = fit.sel(voxel=fit["voxel"].values[np.isin(fit["voxel"].values, voxels)])
        if not part.sizes["voxel"]:
            raise ValueError(f"every voxel of region {name!r} of {unit.label} has NaN or no variance in some run")
        label = f"{unit.label}/{name}"
        rdm, facts = _region(part, label, settings)
        facts["order"] = time_order(part, rdm, [design.events["trial_type"].tolist() for design in designs])
        n_mask, n_inside, n_used = len(in_masks[name]), len(voxels), part.sizes["voxel"]
        lost = {"outside_brain_mask": n_mask - n_inside, "no_variance_or_nan": n_inside - n_used}
        facts["voxels"] = {"mask": n_mask, **lost, "used": n_used}
        facts["mask"] = checksums([paths[name]], runs[0].root)
        facts["tsnr_median"] = round(float(np.median(part["tsnr"])), 3)
        coords = {"subject": ("rdm", [f"sub-{unit.subject}"]), "roi": ("rdm", [name])}
        if unit.session:
            coords["session"] = ("rdm", [f"ses-{unit.session}"])
        rdms.append(rdm.assign_coords(coords).assign_attrs(provenance=to_json({**common, "region": name, **facts})))
        tsnr[name] = part["tsnr"].values
        reliable = f", split-half r {facts['split_half']['r']:.2f}" if "split_half" in facts else ""
        log(f"{label}: {part.sizes['voxel']} voxels, {rdm.sizes['stimulus']} stimuli{reliable}")
    return UnitResult(concat_rdms(rdms), designs[0].matrix(designs[0].events, settings.glm), tsnr)


def joined(parts: Sequence[xr.DataArray]) -> xr.DataArray:
    """Concatenate the units' RDMs; a ValueError names the first two whose stimuli differ."""
    first = parts[0]
    ids = set(first["stimulus"].values.tolist())
    for part in parts[1:]:
        others = set(part["stimulus"].values.tolist())
        if ids != others:
            names = [str(rdms["rdm"].values[0]).rpartition("/")[0] for rdms in (first, part)]
            faults = [f"{names[1]} lacks {name_some(sorted(ids - others))}"] * bool(ids - others)
            faults += [f"{names[0]} lacks {name_some(sorted(others - ids))}"] * bool(others - ids)
            raise ValueError(
                f"{names[0]} and {names[1]} have different stimuli: {' and '.join(faults)}"
                f"{spelling(sorted(ids - others), sorted(others - ids))}; name the common ones (stimuli=), or make "
                "RDMs of either alone"
            )
    return concat_rdms(parts)


def check_masks(masks: Mapping[str, Image], settings: Settings) -> None:
    """Raise unless there is a region, every name can be part of a label, and the settings name no other."""
    if not isinstance(masks, Mapping):
        raise TypeError(f"masks is a {type(masks).__name__}; expected {{name: mask}}")
    if not masks:
        raise ValueError("masks is empty; expected at least one region of interest, {name: mask}")
    for name in masks:
        if not name or "/" in name:
            raise ValueError(f"a region is named {name!r}; expected a name without '/', such as 'V1'")
    settings.check_regions(masks)


def region_voxels(name: str, mask: Image, image: Image, settings: Settings) -> Voxels:
    """Find the voxels of a region; FileNotFoundError naming it if its mask is not there."""
    try:
        opened = open_image(mask, settings.max_bytes)
    except FileNotFoundError as error:
        raise FileNotFoundError(f"the mask of region {name!r} is missing: {error}") from error
    scans = open_image(image, settings.max_bytes)
    return mask_voxels(opened, scans, resample=settings.resample, inside=settings.inside(name))


def subject_mask(mask: Image, subject: str) -> Image:
    """Put the subject into the path of a mask."""
    return Path(str(mask).replace("{subject}", subject)) if isinstance(mask, str | Path) else mask


def _inside_brains(runs: Sequence[Run], images: Sequence[Image], settings: Settings) -> Voxels | None:
    inside: Voxels | None = None
    for run, image in zip(runs, images, strict=True):
        if run.brain_mask is not None:
            voxels = mask_voxels(open_image(run.brain_mask, settings.max_bytes), image)
            inside = voxels if inside is None else np.intersect1d(inside, voxels)
    return inside


def _region(part: xr.Dataset, label: str, settings: Settings) -> tuple[xr.DataArray, dict[str, Any]]:
    patterns = part["patterns"].rename(label)
    facts: dict[str, Any] = {"shrinkage": None}
    precision: Precision = None
    if settings.noise is not None:
        precision = fit_precision(part, method=settings.noise, per_run=settings.per_run)
        facts["shrinkage"] = _shrinkage(part, settings.noise, per_run=settings.per_run)
    if settings.metric != "crossnobis":
        # Settings refuses a precision per run here
        weights = None if settings.metric == "euclidean" else cast(Array | None, precision)
        return pattern_rdm(patterns, settings.metric, weights), facts
    rdm = crossnobis(patterns, precision, allow_missing=settings.allow_missing)
    n_runs = part.sizes["fold"]
    if n_runs >= 3:
        method: Literal["analytic", "jackknife"] = "analytic" if run_means(patterns).balanced else "jackknife"
        errors = standard_errors(patterns, precision, method=method, allow_missing=settings.allow_missing)
        rdm = rdm.assign_coords(standard_error=(rdm.dims, errors.values))
        facts["standard_error"] = method
    if n_runs >= 4 and rdm.sizes["stimulus"] >= 3:
        reliability = split_half(patterns, precision)
        facts["split_half"] = {
            "r": reliability.r,
            "interval_95": list(reliability.interval),
            "spearman_brown_lower_bound": reliability.spearman_brown,
            "splits": reliability.n_splits,
        }
    return rdm, facts


def _shrinkage(part: xr.Dataset, method: Method, *, per_run: bool) -> Any:
    if not per_run:
        return round(shrunk_covariance(part["residuals"], part["dof"], method=method).shrinkage, 6)
    residuals, runs = part["residuals"].values, part["scan_run"].values
    return {
        str(run): round(shrunk_covariance(residuals[runs == run], int(dof), method=method).shrinkage, 6)
        for run, dof in zip(part["fold_run"].values, part["dof"].values, strict=True)
    }
