"""Regions of interest: which voxels of the images, unsmoothed."""

from collections.abc import Mapping
from typing import Any

import nibabel
import numpy as np
from numpy.typing import NDArray

from brainrdl.fmri.images import Image, check_same_space, image_name, is_surface, open_image, read_volumes
from brainrdl.rdms.patterns import Array

Voxels = NDArray[np.int64]
"""Positions in the flattened volume (C order), or vertices of the surface, ascending."""


def mask_voxels(mask: Image, image: Image, *, resample: bool = False) -> Voxels:
    """Find the voxels of a mask (above 0 inside, 0 outside): ascending positions (voxels,) in `image`, flattened.

    ValueError for values below 0, an empty mask, or another grid, which `resample` mends by nearest neighbour.
    """
    opened, data_image = open_image(mask), open_image(image)
    if is_surface(opened) != is_surface(data_image):
        raise ValueError(
            f"mask {image_name(mask)} and {image_name(image)} are not both volumes or both surfaces; give masks of the "
            "images' kind"
        )
    if is_surface(opened):
        inside = _surface_values(opened)
        if len(inside) != data_image.shape[0]:
            raise ValueError(f"the surface mask has {len(inside)} vertices, the images {data_image.shape[0]}")
    else:
        if resample:
            opened = _resampled(opened, data_image)
            mask = opened
        check_same_space(mask, image, "mask", "bring it into the images' space, or ask for it with resample=True")
        inside = read_volumes(mask)
        if inside.ndim == 4 and inside.shape[3] == 1:
            inside = inside[..., 0]
        if inside.ndim != 3:
            raise ValueError(f"mask {image_name(mask)} has shape {inside.shape}; expected 3-D")
    if not np.isfinite(inside).all():
        raise ValueError(f"mask {image_name(mask)} holds values that are not finite; set them to 0")
    if (inside < 0).any():
        raise ValueError(
            f"mask {image_name(mask)} holds values below 0, such as {inside.min():g}; expected 0 outside, more inside"
        )
    voxels = np.flatnonzero(inside)
    if not voxels.size:
        raise ValueError(f"mask {image_name(mask)} is empty; no voxel is above 0")
    return voxels


def grid_of(image: Image) -> dict[str, list[float]]:
    """The attributes that keep the grid of patterns' voxels (see `check_grid`); none of a surface."""
    opened = open_image(image)
    if is_surface(opened):
        return {}
    return {
        "grid_shape": [int(side) for side in opened.shape[:3]],
        "grid_affine": np.asarray(opened.affine, dtype=np.float64).ravel().tolist(),
    }


def check_grid(attrs: Mapping[Any, Any], mask: Image) -> None:
    """Raise a ValueError if patterns, by their attributes (`grid_of`), lie on another grid than a mask."""
    # patterns of a surface, or made elsewhere, do not say where they lie
    if "grid_shape" not in attrs:
        return
    opened = open_image(mask)
    shape, affine = tuple(map(int, attrs["grid_shape"])), np.reshape(attrs["grid_affine"], (4, 4))
    if shape != tuple(opened.shape[:3]) or not np.allclose(affine, opened.affine, atol=1e-2, rtol=0):
        same = "the same shape, but another affine" if shape == tuple(opened.shape[:3]) else f"{opened.shape[:3]}"
        raise ValueError(
            f"the patterns lie on a grid of shape {shape}, but mask {image_name(mask)} has {same}; give the mask in "
            "which they were fitted, or another of its grid"
        )


def atlas_masks(atlas: Image, labels: Mapping[str, int]) -> dict[str, Any]:
    """Cut regions out of a label atlas.

    Parameters
    ----------
    atlas : path or image
        3-D, an integer label per voxel.
    labels : mapping of str to int
        The label of each region wanted.

    Returns
    -------
    dict of str to image
        A mask per region.

    Raises
    ------
    ValueError
        If a label does not occur.

    Examples
    --------
    >>> atlas = nibabel.Nifti1Image(np.array([[[1, 2]]], dtype=np.uint8), np.eye(4))
    >>> [region.get_fdata().tolist() for region in atlas_masks(atlas, {"V1": 1}).values()]
    [[[[1.0, 0.0]]]]
    """
    data, opened = read_volumes(atlas), open_image(atlas)
    masks = {}
    for name, label in labels.items():
        inside = data == label
        if not inside.any():
            raise ValueError(f"region {name!r}: no voxel of {image_name(atlas)} bears the label {label}")
        masks[name] = nibabel.Nifti1Image(inside.astype(np.uint8), opened.affine)
    return masks


def read_voxels(image: Image, voxels: Voxels) -> Array:
    """Read (scans, voxels) of an image in float64."""
    opened = open_image(image)
    if is_surface(opened):
        return np.asarray(_surface_values(opened)[voxels].T, dtype=np.float64)
    data = read_volumes(image)
    # contiguous, so that sums over scans and voxels are rounded alike whatever the image's order in memory
    flat = data.reshape(-1, data.shape[-1])
    return np.ascontiguousarray(flat[voxels].T, dtype=np.float64)


def _surface_values(image: Any) -> Array:
    """Read (vertices,) or (vertices, scans) of a surface image, hemispheres below each other."""
    values: Array = np.concatenate([np.asarray(part) for part in image.data.parts.values()])
    return values[:, 0] if values.ndim == 2 and values.shape[1] == 1 else values


def _resampled(mask: Any, image: Any) -> Any:
    from nilearn.image import resample_img

    grid = {"target_affine": image.affine, "target_shape": image.shape[:3]}
    return resample_img(mask, **grid, interpolation="nearest", force_resample=True, copy_header=True)
