"""Labelled images with ids, kept as whole uint8 tensors."""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor


@dataclass(frozen=True, eq=False)
class LabelledImages:
    """Images, their labels and their stimulus ids, in one order.

    Parameters
    ----------
    images : Tensor (n, channels, height, width), uint8
        The pixels, from 0 to `top`.
    labels : Tensor (n,), int64
        Positions in `classes`, on the images' device.
    ids : tuple of str (n,)
        Stimulus ids, each once.
    classes : tuple of str
        The names of the classes.
    top : int
        The value that stands for white, 1 to 255.

    Raises
    ------
    TypeError, ValueError
        If dtypes are others, shapes or lengths disagree, an id or a class name occurs twice, a label names no class, a
        pixel is above `top`, or images and labels lie on two devices.

    Examples
    --------
    >>> import torch
    >>> from brainrdl.data import LabelledImages
    >>> pixels = torch.zeros(2, 1, 28, 28, dtype=torch.uint8)
    >>> data = LabelledImages(pixels, torch.tensor([1, 0]), ids=("one", "nought"), classes=("0", "1"))
    >>> len(data), data.take([1]).ids
    (2, ('nought',))
    """

    images: Tensor
    labels: Tensor
    ids: tuple[str, ...]
    classes: tuple[str, ...]
    top: int = 255

    def __post_init__(self) -> None:
        """Check that the fields belong together."""
        if self.images.dtype != torch.uint8:
            raise TypeError(
                f"images are {_name(self.images.dtype)}, expected uint8; keep pixels as 0 to top and let "
                "to_float scale them"
            )
        if self.labels.dtype != torch.int64:
            raise TypeError(
                f"labels are {_name(self.labels.dtype)}, expected int64; convert them by labels.to(torch.int64)"
            )
        if self.images.ndim != 4:
            raise ValueError(
                f"images have shape {tuple(self.images.shape)}, expected (n, channels, height, width); "
                "a single grey channel is images.unsqueeze(1)"
            )
        n = len(self.images)
        if self.labels.shape != (n,):
            raise ValueError(f"labels have shape {tuple(self.labels.shape)}, expected ({n},): one label for each image")
        if len(self.ids) != n:
            raise ValueError(f"there are {len(self.ids)} ids for {n} images; give one id for each image")
        if len(set(self.ids)) != n:
            raise ValueError(
                f"id {_first_repeated(self.ids)!r} occurs more than once; ids join images with RDM rows, "
                "so give each image its own"
            )
        if len(set(self.classes)) != len(self.classes):
            raise ValueError(f"class {_first_repeated(self.classes)!r} occurs more than once; name each class once")
        if self.images.device != self.labels.device:
            raise ValueError(
                f"images are on {self.images.device}, labels on {self.labels.device}; "
                "build the data on one device and move it with .to(device)"
            )
        if not 1 <= self.top <= 255:
            raise ValueError(f"top is {self.top}, expected 1 to 255: the pixel value that stands for white")
        self._check_values()

    def _check_values(self) -> None:
        if not len(self):
            return
        outside = (self.labels < 0) | (self.labels >= len(self.classes))
        if outside.any():
            row = int(outside.nonzero()[0])
            raise ValueError(
                f"image {self.ids[row]!r} has label {int(self.labels[row])}, expected 0 to "
                f"{len(self.classes) - 1} ({len(self.classes)} classes); correct the label or add the class"
            )
        if self.top < 255 and (brightest := int(self.images.max())) > self.top:
            raise ValueError(
                f"the brightest pixel is {brightest}, above top={self.top}; give the value that stands for white"
            )

    def __len__(self) -> int:
        """Count the images."""
        return len(self.images)

    def take(self, indices: Tensor | Sequence[int]) -> "LabelledImages":
        """Select images, in the order asked for.

        Parameters
        ----------
        indices : Tensor (k,) of int, or sequence of int
            Positions, 0 to n − 1, each once.

        Returns
        -------
        LabelledImages
            The k images; classes and top stay.

        Raises
        ------
        TypeError, ValueError
            If the positions are not integers (``mask.nonzero().flatten()`` makes them of a mask) in one dimension, or
            one occurs twice.
        IndexError
            If a position lies outside 0 to n − 1.
        """
        chosen = index_tensor(indices)
        outside = (chosen < 0) | (chosen >= len(self))
        if outside.any():
            raise IndexError(
                f"position {int(chosen[outside][0])} is outside 0 to {len(self) - 1}; there are {len(self)} images"
            )
        on_device = chosen.to(self.images.device)
        ids = tuple(self.ids[row] for row in chosen.tolist())
        return replace(self, images=self.images[on_device], labels=self.labels[on_device], ids=ids)

    def to(self, device: torch.device | str) -> "LabelledImages":
        """Copy images and labels to a device.

        Parameters
        ----------
        device : torch.device or str
            Such as ``"cuda"``.

        Returns
        -------
        LabelledImages
        """
        return replace(self, images=self.images.to(device), labels=self.labels.to(device))


def to_float(images: Tensor, top: int = 255) -> Tensor:
    """Scale pixels to 0 to 1.

    Parameters
    ----------
    images : Tensor (...), uint8
        Pixels from 0 to `top`.
    top : int
        The value that becomes 1.

    Returns
    -------
    Tensor (...), float32
        ``images / top``.

    Examples
    --------
    >>> import torch
    >>> from brainrdl.data import to_float
    >>> to_float(torch.tensor([0, 4, 16], dtype=torch.uint8), top=16)
    tensor([0.0000, 0.2500, 1.0000])
    """
    return images.to(torch.float32) / top


def checksum(data: LabelledImages) -> str:
    """Compute a SHA-256 of a data set, for manifests.

    Parameters
    ----------
    data : LabelledImages
        On any device.

    Returns
    -------
    str (64,)
        Hexadecimal digest over shape, top, classes, ids, pixels and labels; it changes with the order of the images.

    Examples
    --------
    >>> from brainrdl.data import checksum, load_digits
    >>> train, validation, test = load_digits()
    >>> checksum(test)[:12]
    '70e51c118860'
    """
    header = {"shape": list(data.images.shape), "top": data.top, "classes": data.classes, "ids": data.ids}
    digest = hashlib.sha256(json.dumps(header).encode())
    digest.update(data.images.cpu().numpy().tobytes())
    digest.update(data.labels.cpu().numpy().astype("<i8").tobytes())
    return digest.hexdigest()


def stratified_split(labels: Tensor, sizes: Sequence[int], generator: torch.Generator) -> list[Tensor]:
    """Draw disjoint random parts that keep the share of every class.

    Parameters
    ----------
    labels : Tensor (n,), int64
        Class of each image.
    sizes : sequence of int (p,)
        Number of images in each part; what they leave over belongs to no part.
    generator : torch.Generator
        A generator on the CPU: the same state draws the same parts.

    Returns
    -------
    list of Tensor (sizes[k],), int64
        Positions of each part, shuffled, on the CPU. The first part holds of each class its exact share
        rounded up or down (largest remainder, the lower class first where remainders tie); each later part
        does so with respect to what the earlier ones left.

    Raises
    ------
    ValueError
        If a size is negative or the sizes add up to more than n.

    Examples
    --------
    >>> import torch
    >>> from brainrdl.data import stratified_split
    >>> labels = torch.tensor([0, 1, 0, 1, 0, 1, 0, 1])
    >>> first, second = stratified_split(labels, [4, 2], torch.Generator().manual_seed(0))
    >>> labels[first].sort().values, labels[second].sort().values
    (tensor([0, 0, 1, 1]), tensor([0, 1]))
    """
    if any(size < 0 for size in sizes):
        raise ValueError(f"sizes are {list(sizes)}; a part cannot have fewer than 0 images")
    if sum(sizes) > len(labels):
        raise ValueError(
            f"sizes {list(sizes)} add up to {sum(sizes)}, but there are {len(labels)} images; ask for fewer"
        )
    labels = labels.cpu()
    shuffled = torch.randperm(len(labels), generator=generator)
    left = [shuffled[labels[shuffled] == label] for label in sorted(set(labels.tolist()))]
    parts = []
    for size in sizes:
        shares = _shares([len(members) for members in left], size)
        part = torch.cat([members[:share] for members, share in zip(left, shares, strict=True)] or [shuffled])
        parts.append(part[torch.randperm(len(part), generator=generator)])
        left = [members[share:] for members, share in zip(left, shares, strict=True)]
    return parts


def interleaved_order(labels: Tensor, generator: torch.Generator) -> Tensor:
    """Order images (n,) by their labels (n,): at random within classes, each class spread evenly over the whole length.

    Every beginning of the positions holds the share of each class that all hold, to within an image or so.
    """
    shuffled = torch.randperm(len(labels), generator=generator)
    place = torch.empty(len(labels), dtype=torch.float64)
    for label in set(labels.tolist()):
        members = shuffled[labels[shuffled] == label]
        place[members] = (torch.arange(len(members), dtype=torch.float64) + 0.5) / len(members)
    return place.argsort(stable=True)


def first_of_order(train: LabelledImages, n_train: int, most: int, name: str) -> tuple[LabelledImages, LabelledImages]:
    """Split the training images of the set `name`: the first `n_train` of a fixed `interleaved_order` of `most` images.

    The others, 10,000 of them, are for validation, in the files' order.
    """
    whole = most + 10_000
    if len(train) != whole:
        raise ValueError(
            f"got {len(train)} images, expected {name}'s {whole:,} training images; pass the first part of "
            f"load_{name.lower()}()"
        )
    if not 1 <= n_train <= most:
        raise ValueError(f"n_train is {n_train}, expected 1 to {most:,}: the last 10,000 images are for validation")
    order = interleaved_order(train.labels[:most].cpu(), torch.Generator().manual_seed(0))
    return train.take(order[:n_train]), train.take(range(most, whole))


def index_tensor(indices: Tensor | Sequence[int]) -> Tensor:
    """Turn positions or indices (k,) into an int64 tensor on the CPU; TypeError unless they are integers (no mask)."""
    given = indices if isinstance(indices, Tensor) else torch.as_tensor(np.asarray(indices))
    if given.ndim != 1:
        raise ValueError(f"indices have shape {tuple(given.shape)}, expected (k,): a list of integers")
    if not len(given):
        return torch.empty(0, dtype=torch.int64)
    if given.dtype == torch.bool or given.is_floating_point() or given.is_complex():
        raise TypeError(
            f"indices are {_name(given.dtype)}, expected integers; a mask becomes indices by mask.nonzero().flatten()"
        )
    return given.to("cpu", torch.int64)


def _shares(available: list[int], size: int) -> list[int]:
    """Split `size` over classes in proportion to what is available: largest remainder, in exact integers."""
    total = sum(available)
    if not total:
        return [0] * len(available)
    shares = [size * count // total for count in available]
    # size ≤ total, so a share with a remainder lies below its count: rounding up never asks for too many.
    by_remainder = sorted(range(len(available)), key=lambda label: -(size * available[label] % total))
    for label in by_remainder[: size - sum(shares)]:
        shares[label] += 1
    return shares


def _first_repeated(names: tuple[str, ...]) -> str:
    seen: set[str] = set()
    return next(name for name in names if name in seen or seen.add(name))  # type: ignore[func-returns-value]


def _name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")
