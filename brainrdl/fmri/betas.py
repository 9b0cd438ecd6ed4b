"""Patterns whose GLM was fitted elsewhere: GLMsingle, SPM, or any 4-D image with a table."""

import warnings
from pathlib import Path
from typing import Literal

import numpy as np
import xarray as xr

from brainrdl.fmri.events import Table, check_filled, read_labels, read_table
from brainrdl.fmri.images import Image, image_name, n_scans_of
from brainrdl.fmri.masks import grid_of, mask_voxels, read_voxels
from brainrdl.rdms.patterns import make_patterns

SHARED_NOISE = (
    "estimated over all runs at once (GLMsingle, NSD): noise ceilings, shrinkage or denoising chosen across runs "
    "tie the runs together, so that distances may not be unbiased; single trials of a run share noise, so folds are "
    "runs or sessions, never trials"
)


def read_betas(
    image: Image,
    table: Table,
    mask: Image,
    *,
    made_by: Literal["glmsingle", "nsd", "spm", "other"],
    name: str | None = None,
) -> xr.DataArray:
    """Read patterns that were estimated elsewhere.

    Parameters
    ----------
    image : path or image
        4-D, a volume per observation.
    table : path or DataFrame (observations,)
        Tab-separated; ``stimulus`` and ``run`` of each volume, in their order. A file's are text, as it is written.
    mask : path or image
        Mask of the region, as for `fit_patterns`.
    made_by : {"glmsingle", "nsd", "spm", "other"}
        Estimates of ``glmsingle`` and ``nsd`` are cross-validated over all runs, which the patterns and every RDM
        made of them say in ``attrs["warning"]``.
    name : str, optional
        Such as the region's.

    Returns
    -------
    DataArray (observation, voxel)
        Patterns, for `crossnobis`; for the noise see `repeats_precision`. Voxels with NaN or without variance are
        dropped: ``attrs["dropped_voxels"]`` of ``attrs["mask_voxels"]``.

    Raises
    ------
    FileNotFoundError, TypeError, ValueError
        If a file is missing or damaged, the table lacks a column or an entry or has another length, or no voxel is
        left.

    Warns
    -----
    UserWarning
        For ``glmsingle`` and ``nsd``.

    Examples
    --------
    >>> import nibabel, numpy as np, pandas as pd
    >>> betas, mask = (nibabel.Nifti1Image(a, np.eye(4)) for a in (np.random.rand(2, 1, 1, 4), np.ones((2, 1, 1))))
    >>> table = pd.DataFrame({"stimulus": ["face", "house"] * 2, "run": [1, 1, 2, 2]})
    >>> read_betas(betas, table, mask, made_by="spm").shape
    (4, 2)
    """
    if made_by not in ("glmsingle", "nsd", "spm", "other"):
        raise ValueError(f"unknown made_by {made_by!r}; known are glmsingle, nsd, spm, other")
    table_name = str(table) if isinstance(table, str | Path) else f"the table of {image_name(image)}"
    rows = read_table(table, table_name)
    missing = [column for column in ("stimulus", "run") if column not in rows]
    if missing:
        raise ValueError(f"{table_name} has no column {missing[0]!r}; expected stimulus and run of each volume")
    advice = "name stimulus and run of every volume, or take such volumes and rows out"
    stimuli = read_labels(rows, "stimulus", table_name, advice)
    check_filled(rows, "run", table_name, advice)
    n_volumes = n_scans_of(image, "a volume per observation, 4-D")
    if len(rows) != n_volumes:
        raise ValueError(f"{image_name(image)} has {n_volumes} volumes, its table {len(rows)} rows; expected as many")
    voxels = mask_voxels(mask, image)
    values = read_voxels(image, voxels)
    # a voxel without variance would divide by 0 in correlations, and has nothing to say in distances
    usable = np.isfinite(values).all(axis=0) & (np.ptp(np.nan_to_num(values), axis=0) > 0)
    if not usable.any():
        raise ValueError(f"every voxel of {image_name(image)} inside the mask has NaN or no variance")
    patterns = make_patterns(values[:, usable], stimuli, rows["run"].tolist(), name=name, voxels=voxels[usable])
    patterns.attrs.update(grid_of(image), mask_voxels=len(voxels), dropped_voxels=int((~usable).sum()))
    if made_by in ("glmsingle", "nsd"):
        # such betas are fitted with choices made over all runs, and runs are not independent then
        patterns.attrs["warning"] = f"betas {SHARED_NOISE}"
        warnings.warn(patterns.attrs["warning"], UserWarning, stacklevel=2)
    return patterns
