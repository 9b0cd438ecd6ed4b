"""Transforms of a batch of pixels before the network sees it."""

import torch
from torch import Tensor

_SMALLEST_SD = 1e-8


def normalize_contrast(images: Tensor) -> Tensor:
    """Normalise the contrast of each image over all its pixels and channels (global contrast normalisation).

    ``(x − mean) / max(sd, 1e-8)`` with the mean and the standard deviation (of the population: divided by the number
    of values) of the image's own values. An image of one colour in all channels becomes 0.

    Parameters
    ----------
    images : Tensor (n, channels, height, width), uint8
        Pixels; which value stands for white does not matter.

    Returns
    -------
    Tensor (n, channels, height, width), float32
        Each image with mean 0 and standard deviation 1.

    Raises
    ------
    ValueError
        If the images have another shape.

    References
    ----------
    McClure & Kriegeskorte (2016), section 3.2.

    Examples
    --------
    >>> import torch
    >>> from brainrdl.data import normalize_contrast
    >>> normalize_contrast(torch.tensor([[[[1, 3]], [[3, 1]]]], dtype=torch.uint8))
    tensor([[[[-1.,  1.]],
             [[ 1., -1.]]]])
    """
    _check(images)
    pixels = images.to(torch.float32)
    # of the integers themselves, whose sum is exact: scaled to 0 … 1 first, a grey image would leave rounding errors
    # of the size of the smallest standard deviation
    centred = pixels - pixels.mean(dim=(1, 2, 3), keepdim=True)
    sd = centred.square().mean(dim=(1, 2, 3), keepdim=True).sqrt()
    return centred / sd.clamp_min(_SMALLEST_SD)


def flip_half(images: Tensor) -> Tensor:
    """Mirror a random half of a batch left to right.

    Parameters
    ----------
    images : Tensor (n, channels, height, width)
        The batch. Exactly ⌊n/2⌋ of its images are mirrored; which, one `torch.randperm` from torch's global CPU
        generator says, on whatever device the images are.

    Returns
    -------
    Tensor (n, channels, height, width)
        A new tensor.

    Raises
    ------
    ValueError
        If the images have another shape.

    Examples
    --------
    >>> import torch
    >>> from brainrdl.data import flip_half
    >>> _ = torch.manual_seed(0)
    >>> flip_half(torch.tensor([[[[1, 2]]], [[[3, 4]]]])).flatten(1)
    tensor([[2, 1],
            [3, 4]])
    """
    _check(images)
    n = len(images)
    # not waiting: the host would stand still until the device has done all that it was given
    flipped = torch.randperm(n).to(images.device, non_blocking=True) < n // 2
    return torch.where(flipped[:, None, None, None], images.flip(-1), images)


def _check(images: Tensor) -> None:
    if images.ndim != 4:
        raise ValueError(f"images have shape {tuple(images.shape)}, expected (n, channels, height, width)")
