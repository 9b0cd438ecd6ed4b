"""The first-level GLM, a run at a time, on the voxels of a mask."""

import warnings
from collections.abc import Hashable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
import xarray as xr
from nilearn.glm.first_level import run_glm

from brainrdl.fmri.design import GLM, check_estimable, design_matrix, rank, separate_designs, single_trials
from brainrdl.fmri.events import Table, read_confounds, read_events
from brainrdl.fmri.images import Image, check_same_space, check_t_r, image_name, n_scans_of
from brainrdl.fmri.masks import Voxels, grid_of, mask_voxels, read_voxels
from brainrdl.fmri.noise import Method, noise_precision
from brainrdl.fmri.sidecars import SliceTime, sidecar_beside, slice_time
from brainrdl.fmri.trial_types import check_impulses, check_spelling
from brainrdl.fmri.twins import mark, scan_digest
from brainrdl.progress import track
from brainrdl.rdms.patterns import Array


def fit_patterns(
    imgs: Sequence[Image],
    events: Sequence[Table],
    mask: Image,
    *,
    t_r: float,
    confounds: Sequence[Table | None] | None = None,
    glm: GLM | None = None,
    runs: Sequence[Hashable] | None = None,
) -> xr.Dataset:
    """Fit a GLM to each run, and return its patterns and residuals.

    Parameters
    ----------
    imgs : sequence of path or image (runs,)
        Images of the runs: 4-D, unsmoothed, on one grid; or surface images.
    events : sequence of path or DataFrame (runs,)
        Tables of ``onset`` and ``duration`` in seconds, ``trial_type``.
    mask : path or image
        Mask, 0 outside and one other value inside, on the images' grid. Of an atlas or a map of probabilities,
        `atlas_masks` and `threshold_mask` make one.
    t_r : float
        Seconds per scan; an image's header that states another is an error.
    confounds : sequence of path, DataFrame or None (runs,), optional
        Confounds, a row per scan. fMRIPrep's ``non_steady_state_outlier*`` columns take their scan, and a degree of
        freedom.
    glm : GLM, optional
        Model, `GLM()` by default.
    runs : sequence (runs,), optional
        Names of the runs; 1, 2, … by default.

    Returns
    -------
    Dataset
        ``patterns`` (observation, voxel), the amplitudes in the images' units, with coordinates ``stimulus``, ``run``
        and ``onset`` (seconds, the mean over a type's events) along ``observation``; ``residuals`` (scan, voxel),
        whitened in time, with coordinate ``scan_run``; ``dof`` (fold) = scans − rank of the design, with coordinate
        ``fold_run``; ``tsnr`` (voxel), the mean over runs of the mean over scans divided by the residuals' SD. (One
        Dataset cannot hold a coordinate ``run`` along several dimensions.) The coordinate ``voxel`` is the position in
        the flattened volume. Voxels with NaN or without variance in any run are dropped: ``attrs["dropped_voxels"]``
        of ``attrs["mask_voxels"]``. ``patterns`` keep the images' grid in their ``attrs``, for a searchlight; and
        which runs hold the same data, which cannot be cross-validated over. ``attrs["skipped_events"]``, the rows of
        events that were left out, and ``attrs["slice_time_ref"]``, by run, are there where they are not 0. For ``lss``
        residuals and dof are those of ``lsa``.

    Raises
    ------
    FileNotFoundError, TypeError, ValueError
        If a file is missing or damaged, or claims more than a quarter of memory (an image that you opened may), lengths
        disagree, the mask is empty, no mask of one region, or lies on another grid, events lie outside the run or are
        there twice, a trial type is spelled in two ways, or a stimulus' amplitude is not determined.

    Warns
    -----
    UserWarning
        Where events outlast the scans, some have no duration beside others that have one, or two trial types differ in
        case only.

    Examples
    --------
    >>> import nibabel, numpy as np, pandas as pd, brainrdl as rdl
    >>> scans = np.random.default_rng(0).normal(100, 1, (2, 2, 1, 60))
    >>> image, mask = (nibabel.Nifti1Image(data, np.eye(4)) for data in (scans, np.ones((2, 2, 1))))
    >>> image.header.set_zooms((1, 1, 1, 2))
    >>> events = pd.DataFrame({"onset": [0, 60], "duration": [20, 20], "trial_type": ["face", "house"]})
    >>> fit = rdl.fmri.fit_patterns([image], [events], mask, t_r=2.0)
    >>> dict(fit.sizes), fit["dof"].values
    ({'observation': 2, 'voxel': 4, 'scan': 60, 'fold': 1}, array([56]))
    """
    glm = glm or GLM()
    check_lists(imgs, events, confounds, runs)
    names = tuple(runs) if runs is not None else tuple(range(1, len(imgs) + 1))
    voxels = mask_voxels(mask, imgs[0])
    tables = list(confounds) if confounds is not None else [None] * len(imgs)
    designs, moments = [], []
    for image, event, table in zip(imgs, events, tables, strict=True):
        n_scans = n_scans_of(image)
        check_t_r(t_r, image, "t_r")
        checked = read_events(event, n_scans=n_scans, t_r=t_r, skip_empty=glm.skip_empty_events)
        stated = slice_time(sidecar_beside(image), [], t_r, is_raw=False)
        moments.append(stated if glm.slice_time_ref is None else SliceTime(glm.slice_time_ref, "slice_time_ref"))
        known = read_confounds(table, n_scans=n_scans)
        designs.append(RunDesign(checked, known, n_scans, t_r, moments[-1].reference))
    said = [moment.warning for moment in moments if moment.warning] + check_designs(designs, names)
    fit = fit_runs(imgs, designs, voxels, glm, names)
    for warning in dict.fromkeys(said):
        warnings.warn(warning, UserWarning, stacklevel=2)
    if any(moment.reference for moment in moments):
        fit.attrs["slice_time_ref"] = [moment.reference for moment in moments]
    if skipped := sum(design.events.attrs["skipped"] for design in designs):
        fit.attrs["skipped_events"] = skipped
    return fit


class RunDesign(NamedTuple):
    """The parts of the design of one run; events and confounds as `read_events` and `read_confounds` return."""

    events: pd.DataFrame
    confounds: pd.DataFrame | None
    n_scans: int
    t_r: float
    slice_time_ref: float  # the moment of a scan that its volume shows, 0 to 1

    def matrix(self, events: pd.DataFrame, glm: GLM) -> pd.DataFrame:
        """The design (scans, regressors) of these events, or of others of the run."""
        glm = replace(glm, slice_time_ref=self.slice_time_ref)
        return design_matrix(events, self.n_scans, self.t_r, self.confounds, glm)


def check_designs(designs: Sequence[RunDesign], runs: Sequence[Hashable]) -> list[str]:
    """Return warnings of what the runs' events say together; ValueError if one trial type seems to have two names."""
    events = [design.events for design in designs]
    return [*check_spelling(events, runs), *check_impulses(events, [design.t_r for design in designs])]


def fit_runs(
    imgs: Sequence[Image], designs: Sequence[RunDesign], voxels: Voxels, glm: GLM, runs: Sequence[Hashable]
) -> xr.Dataset:
    """Fit a GLM to each run in given voxels; see `fit_patterns`."""
    for image, run in zip(imgs, runs, strict=True):
        check_same_space(image, imgs[0], f"the image of run {run},", "bring all runs into one space")
    fits, scans = [], []
    usable = np.ones(len(voxels), dtype=bool)
    each = zip(imgs, designs, runs, strict=True)
    for image, design, run in track(each, "GLMs of runs", total=len(imgs), delay=1):
        Y = read_voxels(image, voxels)
        if len(Y) != design.n_scans:
            raise ValueError(f"{image_name(image)} has {len(Y)} scans, expected {design.n_scans}")
        finite = np.isfinite(Y).all(axis=0)
        varies = np.ptp(np.where(finite, Y, 0.0), axis=0) > 0
        usable &= finite & varies
        scans.append(scan_digest(Y))
        fits.append(_fit_run(np.where(finite & varies, Y, np.arange(len(Y))[:, None] % 2), design, glm, run))
    if not usable.any():
        raise ValueError(f"every voxel of the mask has NaN or no variance in some run; {len(voxels)} voxels are lost")
    betas = np.concatenate([fit.betas for fit in fits])[:, usable]
    return xr.Dataset(
        {
            "patterns": (("observation", "voxel"), betas, {**grid_of(imgs[0]), **mark(scans, runs)}),
            "residuals": (("scan", "voxel"), np.concatenate([fit.residuals for fit in fits])[:, usable]),
            "dof": ("fold", [fit.dof for fit in fits]),
            "tsnr": ("voxel", np.mean([fit.tsnr for fit in fits], axis=0)[usable]),
        },
        coords={
            "stimulus": ("observation", [name for fit in fits for name in fit.stimuli]),
            "run": ("observation", [run for fit, run in zip(fits, runs, strict=True) for _ in fit.stimuli]),
            "onset": ("observation", np.concatenate([fit.onsets for fit in fits])),
            "scan_run": ("scan", np.repeat(list(runs), [len(fit.residuals) for fit in fits])),
            "fold_run": ("fold", list(runs)),
            "voxel": voxels[usable],
        },
        attrs={"mask_voxels": len(voxels), "dropped_voxels": int((~usable).sum())},
    )


def fit_precision(
    fit: xr.Dataset, *, method: Method = "shrinkage_diag", per_run: bool = False
) -> Array | dict[Hashable, Array]:
    """Estimate the noise's precision from a fit's residuals and degrees of freedom.

    Parameters
    ----------
    fit : Dataset
        Patterns and residuals, as `fit_patterns` returned them.
    method : str
        Method of `noise_precision`.
    per_run : bool
        One precision for each run, or one of all runs' residuals, pooled.

    Returns
    -------
    ndarray (voxels, voxels), or {run: ndarray (voxels, voxels)}

    Raises
    ------
    ValueError
        As `noise_precision`.

    Examples
    --------
    >>> residuals = np.random.default_rng(0).normal(size=(40, 3))
    >>> fit = xr.Dataset(
    ...     {"residuals": (("scan", "voxel"), residuals), "dof": ("fold", [15, 15])},
    ...     coords={"scan_run": ("scan", np.repeat([1, 2], 20)), "fold_run": ("fold", [1, 2])},
    ... )
    >>> fit_precision(fit).shape, list(fit_precision(fit, per_run=True))
    ((3, 3), [1, 2])
    """
    if not per_run:
        return noise_precision(fit["residuals"], fit["dof"], method=method)
    return {
        run: noise_precision(fit["residuals"].values[fit["scan_run"].values == run], int(dof), method=method)
        for run, dof in zip(fit["fold_run"].values.tolist(), fit["dof"].values, strict=True)
    }


def check_lists(
    imgs: Sequence[Image],
    events: Sequence[Table],
    confounds: Sequence[Table | None] | None,
    runs: Sequence[Hashable] | None,
) -> None:
    """Raise unless there is one of each per run."""
    if isinstance(imgs, str | Path) or hasattr(imgs, "shape"):
        raise TypeError(f"imgs is a single {type(imgs).__name__}; expected a list, one per run")
    for field, values in {"events": events, "confounds": confounds, "runs": runs}.items():
        if values is None:
            continue
        if isinstance(values, str | Path | pd.DataFrame):
            raise TypeError(f"{field} is a single {type(values).__name__}; expected a list, one per run")
        if len(values) != len(imgs):
            raise ValueError(f"there are {len(imgs)} images, but {len(values)} {field}; expected one per run")
    if not len(imgs):
        raise ValueError("imgs is empty; expected an image per run")
    if runs is not None and len(set(runs)) < len(runs):
        raise ValueError(f"runs must be unique, got {list(runs)}")


class _RunFit(NamedTuple):
    betas: Array  # (observations, voxels)
    residuals: Array  # (scans, voxels), whitened
    dof: int
    tsnr: Array  # (voxels,)
    stimuli: list[str]
    onsets: Array


def _fit_run(Y: Array, given: RunDesign, glm: GLM, run: Hashable) -> _RunFit:
    one_per_type = glm.trials == "condition"
    events = given.events if one_per_type else single_trials(given.events)
    design = given.matrix(events, glm)
    names = list(dict.fromkeys(events["trial_type"]))
    dof = given.n_scans - rank(design.to_numpy())
    if dof < 1:
        raise ValueError(
            f"run {run} has {given.n_scans} scans for a design of rank {given.n_scans - dof}, which leaves no degree "
            "of freedom; use fewer confounds or regressors"
        )
    betas, residuals, raw = _solve(Y, design, glm)
    if glm.trials == "lss":
        rows = []
        for name, separate in separate_designs(given.events):
            matrix = given.matrix(separate, glm)
            check_estimable(matrix, [name], run)
            rows.append(_solve(Y, matrix, glm)[0][matrix.columns.get_loc(name)])
        amplitudes = np.array(rows)
    else:
        check_estimable(design, names, run)
        amplitudes = betas[design.columns.get_indexer(pd.Index(names))]
    with np.errstate(divide="ignore", invalid="ignore"):
        tsnr = Y.mean(axis=0) / np.sqrt(np.square(raw).sum(axis=0) / dof)
    stimuli = names if one_per_type else given.events["trial_type"].tolist()
    onsets = events.groupby("trial_type", sort=False)["onset"].mean()[names].to_numpy()
    return _RunFit(amplitudes, residuals, dof, tsnr, stimuli, onsets)


def _solve(Y: Array, design: pd.DataFrame, glm: GLM) -> tuple[Array, Array, Array]:
    """Amplitudes (regressors, voxels), and residuals (scans, voxels), whitened in time and not."""
    X = design.to_numpy()
    labels, results = run_glm(Y, X, noise_model=glm.noise_model, random_state=0)  # AR(2) and higher cluster voxels
    betas = np.empty((X.shape[1], Y.shape[1]))
    whitened = np.empty_like(Y)
    for label, result in results.items():
        columns = labels == label
        betas[:, columns] = result.theta
        whitened[:, columns] = result.whitened_residuals
    return betas, whitened, Y - X @ betas
