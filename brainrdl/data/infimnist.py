"""InfiMNIST: deformed digits without end, each a function of its index (Loosli, Canu & Bottou 2007).

The indexing and the structure are the original program's. Its random fields and tangent vectors are data files that are
not published with their recipe, so the fields' smoothness and size are our own choice: see `Deformation`.
"""

import hashlib
import math
import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, SupportsIndex, final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import pad

from brainrdl.data.idx import read_idx
from brainrdl.data.images import LabelledImages, checksum, index_tensor

FIRST_INDEX = 70_000
"""The first generated image; below lie MNIST's own 10,000 test and 60,000 training images."""

_FIRST_SOURCE = 10_000
_CHUNK = 4_096
_SHIFTS = ((-1, 0), (1, 0), (0, -1), (0, 1), (-1, -1), (-1, 1), (1, -1), (1, 1), (0, 0))
_SHIFT_NAMES = "up, down, left, right, up-left, up-right, down-left, down-right, none"


@dataclass(frozen=True)
class Deformation:
    """Strength and smoothness of deformed images, which the original does not publish.

    Parameters
    ----------
    field_sd : float
        Standard deviation, in pixels, of the Gaussian that smooths the random fields.
    field_scale : float
        Standard deviation of the fields after smoothing: the displacement in pixels along each axis.
    tangent_sd : float
        Standard deviation, in pixels, of the Gaussian derivative that takes the tangents; at 0 the central difference.
    seed : int
        Seed of the random fields.
    n_fields : int
        Number of random fields, at least 2; the original has 1,522.
    shift : bool
        True shifts by one pixel afterwards, as in the original.

    Raises
    ------
    ValueError
        If a number is out of its range.

    Examples
    --------
    >>> from brainrdl.data import Deformation
    >>> Deformation(field_scale=0.5).n_fields
    1522
    """

    field_sd: float = 4.0
    field_scale: float = 1.0
    tangent_sd: float = 0.7
    seed: int = 0
    n_fields: int = 1_522
    shift: bool = True

    def __post_init__(self) -> None:
        """Check the ranges."""
        for name in ("field_sd", "field_scale", "tangent_sd"):
            value = getattr(self, name)
            if not 0 <= value < math.inf:
                raise ValueError(f"{name} is {value}, expected a number of pixels, 0 or more")
        if self.n_fields < 2:
            raise ValueError(f"n_fields is {self.n_fields}, expected at least 2: an image takes two different fields")
        if self.seed < 0:
            raise ValueError(f"seed is {self.seed}, expected 0 or more")


@final
class InfiMNIST:
    """Deform the source images by index, as the InfiMNIST program does.

    Image i is a deformation of source a = (i − 10,000) mod m and has its label; m is the number of sources,
    60,000 in the original. With k1 = (i·131071 mod 2³²) mod 1521, k2 = (k1 + 1 + 2i) mod 1522 and α = 1,
    negated if k1 + k2 is odd, every pixel is, in float32::

        x' = x + α (F[k1]·∂x/∂column − F[k2]·∂x/∂row),

    clamped to 0 … top and truncated to an integer; F are smooth random fields (Simard, Steinkraus & Platt
    2003) and the derivatives are tangent vectors (Simard et al. 2000), so that x' is, to first order, x
    displaced by F. Then the image is shifted by one pixel, with 0 moving in: k1 mod 9 says up, down, left,
    right, up-left, up-right, down-left, down-right or not at all. There is no random state: the same index
    gives bitwise the same image, alone or in any batch.

    Parameters
    ----------
    sources : LabelledImages
        The images to deform, of any size. All 60,000 training images of MNIST for the original's indexing; only the
        student's training images for a *clean* teacher, which then has seen no relative of any other image.
    deformation : Deformation
        Strength, smoothness and seed of the fields.

    Raises
    ------
    ValueError
        If there are no sources.

    Notes
    -----
    From the original: the indices, k1, k2, α, the shift, the form of x' and 1,522 fields. As that number is
    even, k1 + k2 is odd for every index and α always −1. Our own: the fields (independent, uniform noise
    under a Gaussian of `field_sd`, scaled to a standard deviation of `field_scale`), the derivatives
    (Gaussian, `tangent_sd`), and that nothing wraps around the edges in the shift.

    An id names the index, not sources or settings: images of two generators are not to be joined by id.

    The defaults of `Deformation` are made for 28 × 28 pixels. Truncation takes half a grey level from
    deformed pixels on average: nothing at 255 levels, .03 of white at 16.

    References
    ----------
    Loosli, Canu & Bottou (2007), "Training invariant support vector machines using selective sampling", in
    *Large Scale Kernel Machines*.

    Examples
    --------
    >>> from brainrdl.data import InfiMNIST, load_digits
    >>> training, validation, test = load_digits()
    >>> deformed = InfiMNIST(training).generate(range(70_000, 70_100))
    >>> deformed.ids[0], bool((deformed.labels == training.take(range(100)).labels).all())
    ('infimnist-00070000', True)
    """

    def __init__(self, sources: LabelledImages, *, deformation: Deformation | None = None) -> None:
        if not len(sources):
            raise ValueError("there are no source images; InfiMNIST deforms the images that it is given")
        self.sources = sources
        self.deformation = deformation if deformation is not None else Deformation()
        fields = _random_fields(sources.images.shape[-2:], self.deformation)
        self._fields = fields.to(sources.images.device)

    def generate(self, indices: Tensor | Sequence[int]) -> LabelledImages:
        """Generate the images of some indices.

        Parameters
        ----------
        indices : Tensor (k,) of int, or sequence of int
            Each at least 70,000, each once. The paper validates its teacher on ``range(70_000, 80_000)`` and
            trains it on ``range(80_000, 200_000)``.

        Returns
        -------
        LabelledImages
            On the sources' device, in the order asked for, with ids such as ``infimnist-00070000``.

        Raises
        ------
        TypeError, ValueError
            If an index is no integer, below 70,000, or occurs twice.
        """
        wanted = index_tensor(indices)
        if (wanted < FIRST_INDEX).any():
            raise ValueError(
                f"index {int(wanted.min())} is not generated: 0 to 9,999 are MNIST's test images and 10,000 "
                "to 69,999 its training images (load_mnist reads them); ask for 70,000 and above"
            )
        device = self.sources.images.device
        source = (wanted - _FIRST_SOURCE) % len(self.sources)
        images = torch.empty(len(wanted), *self.sources.images.shape[1:], dtype=torch.uint8, device=device)
        for start in range(0, len(wanted), _CHUNK):
            window = slice(start, start + _CHUNK)
            images[window] = self._deformed(wanted[window], source[window])
        return replace(self.sources, images=images, labels=self.sources.labels[source.to(device)], ids=_ids(wanted))

    def describe(self) -> dict[str, Any]:
        """State the settings and the facts that fix every image, for a manifest.

        Returns
        -------
        dict
            Of strings, numbers and lists only.
        """
        fields = self.deformation.n_fields
        return {
            "generator": "brainrdl InfiMNIST: indexing of Loosli, Canu & Bottou (2007), fields of our own",
            "deformation": asdict(self.deformation),
            "n_sources": len(self.sources),
            "image": list(self.sources.images.shape[1:]),
            "top": self.sources.top,
            "first_index": FIRST_INDEX,
            "source": f"(i - {_FIRST_SOURCE}) mod {len(self.sources)}",
            "k1": f"(i * 131071 mod 2**32) mod {fields - 1}",
            "k2": f"(k1 + 1 + 2 * i) mod {fields}",
            "alpha": "-1 if k1 + k2 is odd, else 1",
            "pixel": "clamp(x + alpha * (F[k1] * dx/dcolumn - F[k2] * dx/drow), 0, top), truncated",
            "shift": f"by one pixel, k1 mod 9: {_SHIFT_NAMES}" if self.deformation.shift else "none",
            "fields_sha256": hashlib.sha256(self._fields.cpu().numpy().tobytes()).hexdigest(),
            "sources_sha256": checksum(self.sources),
        }

    def _deformed(self, index: Tensor, source: Tensor) -> Tensor:
        k1, k2, alpha = _field_numbers(index, self.deformation.n_fields)
        device = self.sources.images.device
        original = self.sources.images[source.to(device)].to(torch.float32)
        along_columns, along_rows = _tangents(original, self.deformation.tangent_sd)
        # One operation at a time, none fused with the next: a pixel is rounded the same way in every batch.
        change = self._fields[k1.to(device)].unsqueeze(1) * along_columns
        change -= self._fields[k2.to(device)].unsqueeze(1) * along_rows
        change *= alpha.view(-1, 1, 1, 1).to(device)
        deformed = (original + change).clamp_(0, self.sources.top).to(torch.uint8)
        return _shifted(deformed, (k1 % len(_SHIFTS)).to(device)) if self.deformation.shift else deformed


def read_infimnist_idx(
    images_path: str | os.PathLike[str],
    labels_path: str | os.PathLike[str],
    *,
    first_index: int,
    max_bytes: SupportsIndex | None = None,
) -> LabelledImages:
    """Read consecutive images that the original InfiMNIST program wrote.

    Parameters
    ----------
    images_path, labels_path : path
        The program's IDX files of patterns and labels, gzipped or not.
    first_index : int
        The index of the first image, at least 70,000: the first number given to the program.
    max_bytes : int, optional
        Memory that the images may take, as in `read_idx`.

    Returns
    -------
    LabelledImages
        (n, 1, 28, 28) or whatever size the file has, with ids such as ``infimnist-00080000``.

    Raises
    ------
    FileNotFoundError, ValueError
        If a file is missing, not IDX or damaged, the two do not belong together, or `first_index` is below 70,000.

    Examples
    --------
    >>> import numpy as np, tempfile
    >>> from pathlib import Path
    >>> from brainrdl.data import read_infimnist_idx, write_idx
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     patterns, labels = Path(folder, "pat"), Path(folder, "lab")
    ...     write_idx(np.zeros((2, 28, 28), dtype=np.uint8), patterns)
    ...     write_idx(np.array([5, 0], dtype=np.uint8), labels)
    ...     read_infimnist_idx(patterns, labels, first_index=80_000).ids
    ('infimnist-00080000', 'infimnist-00080001')
    """
    if first_index < FIRST_INDEX:
        raise ValueError(
            f"first_index is {first_index}, expected {FIRST_INDEX} or more: the images below are MNIST's own "
            "and load_mnist reads them"
        )
    images, labels = (read_idx(path, max_bytes=max_bytes) for path in (images_path, labels_path))
    if images.ndim != 3 or images.dtype != np.uint8:
        raise ValueError(
            f"{os.fspath(images_path)}: holds {images.dtype} of shape {images.shape}, expected uint8 (n, "
            "height, width); are images and labels in the right order?"
        )
    if labels.shape != images.shape[:1] or labels.dtype != np.uint8:
        raise ValueError(
            f"{os.fspath(labels_path)}: holds {labels.dtype} of shape {labels.shape}, expected uint8 "
            f"({len(images)},): one label for each image; give the labels that were written with the images"
        )
    return LabelledImages(
        images=torch.from_numpy(images).unsqueeze(1),
        labels=torch.from_numpy(labels).to(torch.int64),
        ids=_ids(torch.arange(first_index, first_index + len(images))),
        classes=tuple(str(digit) for digit in range(10)),
    )


def _ids(indices: Tensor) -> tuple[str, ...]:
    return tuple(f"infimnist-{index:08d}" for index in indices.tolist())


def _field_numbers(index: Tensor, n_fields: int) -> tuple[Tensor, Tensor, Tensor]:
    """Compute the two fields and the sign of each index; the product wraps at 32 bits, as in the original."""
    k1 = (index % 2**32) * 131_071 % 2**32 % (n_fields - 1)
    k2 = (k1 + 1 + 2 * (index % n_fields)) % n_fields
    return k1, k2, 1 - 2 * ((k1 + k2) % 2)


def _random_fields(size: torch.Size, deformation: Deformation) -> Tensor:
    """Draw (n_fields, height, width) smooth fields: uniform noise under a Gaussian.

    The noise extends beyond the image: a field is as strong at its border as in the middle.
    """
    height, width = size
    radius = math.ceil(3 * deformation.field_sd)
    kernel = [_gaussian(offset, deformation.field_sd) for offset in range(-radius, radius + 1)]
    # Uniform noise on −1 … 1 has the variance 1/3; the filter multiplies it by its sum of squares, per axis.
    scale = deformation.field_scale * math.sqrt(3) / sum(weight**2 for weight in kernel)
    # raw output and sums in a fixed order, not a distribution and a matrix product, so that neither a library's next
    # version nor the number of threads changes a bit
    stream = np.random.PCG64(deformation.seed)
    canvas = (height + 2 * radius, width + 2 * radius)
    fields = np.empty((deformation.n_fields, height, width), dtype=np.float32)
    for field in fields:
        noise = _uniform(stream, canvas)
        field[:] = scale * _smoothed(_smoothed(noise, kernel).T, kernel).T
    return torch.from_numpy(fields)


def _uniform(stream: np.random.PCG64, shape: tuple[int, int]) -> NDArray[np.float64]:
    """Draw numbers on −1 … 1 from the top 53 bits of each output."""
    bits = np.asarray(stream.random_raw(math.prod(shape))) >> np.uint64(11)
    return (bits.astype(np.float64) * 2.0**-52 - 1).reshape(shape)


def _smoothed(noise: NDArray[np.float64], kernel: list[float]) -> NDArray[np.float64]:
    """Correlate along rows, where the kernel fits."""
    height = len(noise) - len(kernel) + 1
    total = np.zeros((height, noise.shape[1]))
    for offset, weight in enumerate(kernel):
        total += weight * noise[offset : offset + height]
    return total


def _tangents(images: Tensor, sd: float) -> tuple[Tensor, Tensor]:
    """Differentiate (n, channels, height, width) along columns and along rows; beyond the border lies 0."""
    radius = max(1, math.ceil(3 * sd))
    offsets = range(-radius, radius + 1)
    smooth = _normalised([_gaussian(offset, sd) for offset in offsets], [1] * len(offsets))
    # Relative to the weight at ±1, which stays finite as sd goes to 0: the central difference. The slope of a
    # ramp is kept.
    slope = _normalised([offset * _gaussian(math.sqrt(max(offset**2 - 1, 0)), sd) for offset in offsets], offsets)
    columns, rows = -1, -2
    return (
        _filtered(_filtered(images, smooth, rows), slope, columns),
        _filtered(_filtered(images, smooth, columns), slope, rows),
    )


def _gaussian(offset: float, sd: float) -> float:
    z = offset / sd if sd else math.inf * offset if offset else 0.0
    return math.exp(-z * z / 2)


def _normalised(weights: list[float], by: Sequence[int]) -> list[float]:
    total = sum(weight * factor for weight, factor in zip(weights, by, strict=True))
    return [weight / total for weight in weights]


def _filtered(images: Tensor, weights: list[float], dim: int) -> Tensor:
    """Correlate along one dimension, as a sum in fixed order: a convolution's order depends on the batch."""
    radius = len(weights) // 2
    padded = pad(images, [radius, radius] if dim == -1 else [0, 0, radius, radius])
    total = torch.zeros_like(images)
    for offset, weight in enumerate(weights):
        if weight:
            total += padded.narrow(dim, offset, images.shape[dim]) * weight
    return total


def _shifted(images: Tensor, shift: Tensor) -> Tensor:
    """Move every image by one pixel in its direction; 0 moves in."""
    height, width = images.shape[-2:]
    padded = pad(images, [1, 1, 1, 1])
    moved = torch.empty_like(images)
    for number, (down, right) in enumerate(_SHIFTS):
        chosen = shift == number
        moved[chosen] = padded[chosen, :, 1 - down : 1 - down + height, 1 - right : 1 - right + width]
    return moved
