"""Small pictures of the stimuli: along the edges of an RDM, or in place of points."""

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from matplotlib.axes import Axes
from numpy.typing import ArrayLike, NDArray

from brainrdl.ids import find_ids
from brainrdl.stimuli.stimulus_set import StimulusSet

Images = StimulusSet | Mapping[str, ArrayLike]
"""A picture per stimulus id: (height, width), (height, width, 3) or, as torch has them, (3, height, width)."""

_LEAST = 0.09  # inches; smaller pictures show nothing
_PIXELS = 64


def thumbnails_of(images: Images, ids: Sequence[str]) -> list[NDArray[np.float64]]:
    """Find the pictures of stimuli, in RGB between 0 and 1, at most 64 pixels high and wide.

    Pictures outside 0 … 1 (normalised ones, or 0 … 255) are stretched to it, all alike.
    """
    known = images.ids if isinstance(images, StimulusSet) else tuple(images)
    positions = find_ids(ids, known, "the images")
    found = [
        _rgb(images[index][0] if isinstance(images, StimulusSet) else images[known[index]], known[index])
        for index in positions
    ]
    # all alike, so that a dark picture stays darker than a bright one
    low, high = min(picture.min() for picture in found), max(picture.max() for picture in found)
    if low >= 0 and high <= 1:
        return found
    if low >= 0 and high <= 255:
        low, high = 0.0, 255.0
    return [(picture - low) / (high - low) for picture in found]


def strip_shape(n: int, side: float) -> tuple[int, float]:
    """Count the columns in which n pictures are staggered along an edge of `side` inches; and the inches they take."""
    columns = min(n, max(1, int(np.ceil(_LEAST * n / side))))
    return columns, columns * columns * side / n


def draw_strip(ax: Axes, pictures: Sequence[NDArray[np.float64]], side: float, edge: str) -> None:
    """Draw pictures along an RDM's left or bottom edge, each centred at its row or column."""
    n = len(pictures)
    columns, wide = strip_shape(n, side)
    share = wide / side
    if edge == "left":
        strip = ax.inset_axes((-share - 0.02, 0, share, 1))
        strip.set(xlim=(0, columns * columns), ylim=(n - 0.5, -0.5))
    else:
        strip = ax.inset_axes((0, -share - 0.02, 1, share))
        strip.set(xlim=(-0.5, n - 0.5), ylim=(columns * columns, 0))
    # imshow would narrow them to the picture drawn last
    limits = strip.get_xlim(), strip.get_ylim()
    for k, picture in enumerate(pictures):
        start = (columns - 1 - k % columns if edge == "left" else k % columns) * columns
        across, along = (start, start + columns), (k - columns / 2, k + columns / 2)
        left, right, low, high = (*across, *along) if edge == "left" else (*along, *across)
        strip.imshow(picture, extent=(left, right, high, low), aspect="auto")
    strip.set(xlim=limits[0], ylim=limits[1])
    strip.axis("off")


def _rgb(picture: ArrayLike | torch.Tensor, stimulus: str) -> NDArray[np.float64]:
    array = np.asarray(picture.detach().cpu() if isinstance(picture, torch.Tensor) else picture, dtype=np.float64)
    if array.ndim == 3 and array.shape[0] in (1, 3) and array.shape[2] not in (1, 3):
        array = array.transpose(1, 2, 0)
    if array.ndim == 2:
        array = array[..., None]
    if array.ndim != 3 or array.shape[2] not in (1, 3):
        raise ValueError(
            f"the image of stimulus {stimulus!r} has shape {array.shape}; expected (height, width), "
            "(height, width, 3) or (3, height, width)"
        )
    step = max(1, -(-max(array.shape[:2]) // _PIXELS))
    return np.broadcast_to(array[::step, ::step], (*array[::step, ::step].shape[:2], 3))
