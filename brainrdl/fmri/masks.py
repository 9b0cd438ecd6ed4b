"""Regions of interest: which voxels of the images, unsmoothed."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import nibabel
import numpy as np
from numpy.typing import NDArray

from brainrdl.arguments import whole_number
from brainrdl.fmri.images import Image, check_same_space, image_name, is_surface, open_image, read_volumes
from brainrdl.rdms.patterns import Array

Voxels = NDArray[np.int64]
"""Positions in the flattened volume (C order), or vertices of the surface, ascending."""


class Inside(NamedTuple):
    """Which values of a mask are inside: one `label` of an atlas, or those above a `threshold`; else all but 0."""

    label: int | None = None
    threshold: float | None = None


def mask_voxels(mask: Image, image: Image, *, resample: bool = False, inside: Inside | None = None) -> Voxels:
    """Find the voxels of a mask: ascending positions (voxels,) in `image`, flattened.

    A mask is 0 outside and one other value inside; of an atlas or a map of probabilities, `inside` says which part is
    meant. ValueError for other values, an empty mask, or another grid, which `resample` mends by nearest neighbour.
    """
    opened, data_image = open_image(mask), open_image(image)
    name = image_name(mask)
    if is_surface(opened) != is_surface(data_image):
        raise ValueError(
            f"mask {name} and {image_name(image)} are not both volumes or both surfaces; give masks of the images' kind"
        )
    if is_surface(opened):
        values = _surface_values(opened)
        if len(values) != data_image.shape[0]:
            raise ValueError(f"the surface mask has {len(values)} vertices, the images {data_image.shape[0]}")
    else:
        if resample:
            opened = _resampled(opened, data_image)
        check_same_space(opened, image, "mask", "bring it into the images' space, or ask for it with resample=True")
        values = read_volumes(opened, exact=True)
        if values.ndim == 4 and values.shape[3] == 1:
            values = values[..., 0]
        if values.ndim != 3:
            raise ValueError(f"mask {name} has shape {values.shape}; expected 3-D")
    if not np.isfinite(values).all():
        raise ValueError(f"mask {name} holds values that are not finite; set them to 0")
    chosen = _chosen(values, inside or Inside(), name)
    voxels = np.flatnonzero(chosen)
    if not voxels.size:
        raise ValueError(f"mask {name} is empty; no voxel is above 0")
    return voxels


def _chosen(values: Array, inside: Inside, name: str) -> NDArray[np.bool_]:
    """True inside; ValueError where the values leave open what is inside."""
    if inside.label is not None:
        of_label = _bears(values, whole_number(inside.label, "label"))
        if not of_label.any():
            raise ValueError(f"no voxel of {name} bears the label {inside.label}; its labels are {_listed(values)}")
        return of_label
    if inside.threshold is not None:
        if isinstance(inside.threshold, bool) or not isinstance(inside.threshold, int | float | np.number):
            raise TypeError(f"threshold is {inside.threshold!r}; expected a number")
        above: NDArray[np.bool_] = values > inside.threshold
        if not above.any():
            raise ValueError(f"no voxel of {name} is above {inside.threshold:g}; its largest value is {values.max():g}")
        return above
    if (values < 0).any():
        raise ValueError(f"mask {name} holds values below 0, such as {values.min():g}; expected 0 outside, more inside")
    chosen: NDArray[np.bool_] = values != 0
    held = values[chosen]
    if held.size and (held != held[0]).any():
        if np.array_equal(held, np.round(held)):
            raise ValueError(
                f"mask {name} holds the labels {_listed(values)}, so it is an atlas of several regions, and no mask of "
                "one; say which is meant (label=), or cut it out (fmri.atlas_masks)"
            )
        raise ValueError(
            f"mask {name} holds values between {held.min():g} and {held.max():g}, as a map of probabilities does; a "
            "mask is 0 outside and one value inside, so say above which value a voxel is inside (threshold=), or make "
            "a mask (fmri.threshold_mask)"
        )
    return chosen


def _bears(values: Array, label: int) -> NDArray[np.bool_]:
    """True where a voxel bears a label; one that went through floating point may be off by rounding."""
    off = 0.0 if values.dtype.kind in "iub" else 1e-3
    bears: NDArray[np.bool_] = (values == label) | (np.abs(values.astype(np.float64) - label) < off)
    return bears


def _listed(values: Array) -> str:
    labels = np.unique(values[values != 0])
    more = f" and {len(labels) - 5} more" if len(labels) > 5 else ""
    return ", ".join(f"{label:g}" for label in labels[:5]) + more if labels.size else "none"


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
    TypeError, ValueError
        If a label is no whole number, or does not occur.

    Examples
    --------
    >>> atlas = nibabel.Nifti1Image(np.array([[[1, 2]]], dtype=np.uint8), np.eye(4))
    >>> [region.get_fdata().tolist() for region in atlas_masks(atlas, {"V1": 1}).values()]
    [[[[1.0, 0.0]]]]
    """
    # exact, as float32 does not hold every large label
    data, opened = read_volumes(atlas, exact=True), open_image(atlas)
    masks = {}
    for name, label in labels.items():
        inside = _bears(data, whole_number(label, f"the label of region {name!r}"))
        if not inside.any():
            raise ValueError(f"region {name!r}: no voxel of {image_name(atlas)} bears the label {label}")
        masks[name] = nibabel.Nifti1Image(inside.astype(np.uint8), opened.affine)
    return masks


def threshold_mask(image: Image, threshold: float) -> Any:
    """Make a mask of the voxels above a value, such as those of a map of probabilities.

    Parameters
    ----------
    image : path or image
        3-D.
    threshold : float
        Value above which a voxel is inside, in the image's unit.

    Returns
    -------
    image

    Raises
    ------
    TypeError, ValueError
        If the threshold is no number, the image holds NaN, or no voxel is above.

    Examples
    --------
    >>> image = nibabel.Nifti1Image(np.array([[[0.1, 0.9]]], dtype=np.float32), np.eye(4))
    >>> threshold_mask(image, 0.5).get_fdata().tolist()
    [[[0.0, 1.0]]]
    """
    opened = open_image(image)
    inside = np.zeros(opened.shape[:3], dtype=np.uint8)
    inside.flat[mask_voxels(opened, opened, inside=Inside(threshold=threshold))] = 1
    return nibabel.Nifti1Image(inside, opened.affine)


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
