"""Patterns whose GLM was fitted elsewhere: GLMsingle, SPM, or any 4-D image with a table."""

import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import nibabel
import numpy as np
import pandas as pd
import xarray as xr

from brainrdl.fmri.events import Table, check_filled, read_labels, read_table
from brainrdl.fmri.images import Image, check_same_space, image_name, is_surface, n_scans_of, open_image, read_volumes
from brainrdl.fmri.masks import grid_of, mask_voxels, read_voxels
from brainrdl.fmri.trial_types import check_spelling
from brainrdl.fmri.twins import scan_digest
from brainrdl.rdms.patterns import Array, make_patterns

SHARED_NOISE = (
    "estimated over all runs at once (GLMsingle, NSD): noise ceilings, shrinkage or denoising chosen across runs "
    "tie the runs together, so that distances may not be unbiased; single trials of a run share noise, so folds are "
    "runs or sessions, never trials"
)


def read_betas(
    image: Image | Sequence[Image],
    table: Table,
    mask: Image,
    *,
    made_by: Literal["glmsingle", "nsd", "spm", "other"],
    name: str | None = None,
) -> xr.DataArray:
    """Read patterns that were estimated elsewhere.

    Parameters
    ----------
    image : path or image, or sequence of them
        4-D, a volume per observation; or a list of 3-D images, as SPM leaves them, in the order of the table's rows.
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
        If a file is missing, damaged or named twice, the table lacks a column or an entry or has another length, two
        runs share a volume, a stimulus is spelled in two ways, or no voxel is left.

    Warns
    -----
    UserWarning
        For ``glmsingle`` and ``nsd``; for stimuli that differ in case only.

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
    images = list(image) if isinstance(image, Sequence) and not isinstance(image, str) else [image]
    images_name = image_name(images[0]) if len(images) == 1 else f"a list of {len(images)} images"
    table_name = str(table) if isinstance(table, str | Path) else f"the table of {images_name}"
    rows = read_table(table, table_name)
    missing = [column for column in ("stimulus", "run") if column not in rows]
    if missing:
        raise ValueError(f"{table_name} has no column {missing[0]!r}; expected stimulus and run of each volume")
    advice = "name stimulus and run of every volume, or take such volumes and rows out"
    stimuli = read_labels(rows, "stimulus", table_name, advice)
    check_filled(rows, "run", table_name, advice)
    opened = _opened(images)
    n_volumes = sum(n_scans_of(part, "a volume per observation, 4-D") for part in opened)
    if len(rows) != n_volumes:
        raise ValueError(f"{images_name} has {n_volumes} volumes, its table {len(rows)} rows; expected as many")
    voxels = mask_voxels(mask, opened[0])
    values = np.concatenate([read_voxels(part, voxels) for part in opened])
    # a voxel without variance would divide by 0 in correlations, and has nothing to say in distances
    usable = np.isfinite(values).all(axis=0) & (np.ptp(np.nan_to_num(values), axis=0) > 0)
    if not usable.any():
        raise ValueError(f"every voxel of {images_name} inside the mask has NaN or no variance")
    runs = dict.fromkeys(rows["run"].tolist())
    spelled = [
        pd.DataFrame({"trial_type": np.array(stimuli, dtype=object)[(rows["run"] == run).values]}) for run in runs
    ]
    for warning in check_spelling(spelled, list(runs)):
        warnings.warn(warning, UserWarning, stacklevel=2)
    _check_distinct(values[:, usable], rows["run"].tolist(), images_name)
    patterns = make_patterns(values[:, usable], stimuli, rows["run"].tolist(), name=name, voxels=voxels[usable])
    patterns.attrs.update(grid_of(opened[0]), mask_voxels=len(voxels), dropped_voxels=int((~usable).sum()))
    if made_by in ("glmsingle", "nsd"):
        # such betas are fitted with choices made over all runs, and runs are not independent then
        patterns.attrs["warning"] = f"betas {SHARED_NOISE}"
        warnings.warn(patterns.attrs["warning"], UserWarning, stacklevel=2)
    return patterns


def _check_distinct(values: Array, runs: Sequence[Any], name: str) -> None:
    """Raise a ValueError if a volume is there twice, in two runs, whose noise would not be independent."""
    seen: dict[str, int] = {}
    for row, run in enumerate(runs):
        twin = seen.setdefault(scan_digest(values[row]), row)
        if runs[twin] != run and np.ptp(values[row]) > 0:
            raise ValueError(
                f"{name}: volumes {twin + 1} and {row + 1}, of runs {runs[twin]!r} and {run!r}, are the same to the "
                "last digit, so that their noise is not independent; give each run its own data"
            )


def _opened(images: Sequence[Image]) -> list[Any]:
    """Open the images, on one grid; of several, those of one volume become 4-D, as one would be."""
    if not images:
        raise ValueError("image is an empty list; expected an image per observation, or one 4-D image")
    names = [str(image) for image in images if isinstance(image, str | Path)]
    twice = [name for name in dict.fromkeys(names) if names.count(name) > 1]
    if twice:
        raise ValueError(f"image names {twice[0]} more than once, so that its noise would be in several observations")
    opened = [open_image(image) for image in images]
    if len(opened) == 1:
        return opened
    for image in opened[1:]:
        check_same_space(image, opened[0], "the image", "bring all images into one space")
    return [image if is_surface(image) or len(image.shape) != 3 else _with_one_volume(image) for image in opened]


def _with_one_volume(image: Any) -> Any:
    values = read_volumes(image)
    return nibabel.Nifti1Image(values[..., None], image.affine, dtype=values.dtype)
