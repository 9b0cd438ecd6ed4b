"""Batches from images that stay on their device as uint8."""

from collections.abc import Callable, Iterator
from typing import Any, final

import torch
from torch import Tensor

from brainrdl.data.images import LabelledImages, to_float


@final
class TensorLoader:
    """Serve a data set in batches, without worker processes.

    The pixels stay uint8 on the data's device and become float batch by batch. A shuffled pass draws its order when it
    begins (``iter(loader)``), by one `torch.randperm` from torch's global CPU generator, so that `torch.manual_seed`
    before a pass fixes it; an unshuffled one draws nothing. A `transform` that draws does so batch by batch.

    Parameters
    ----------
    data : LabelledImages
        Images, at least one.
    batch_size : int
        Images in a batch.
    shuffle : bool
        Draw a new order for every pass.
    drop_last : bool
        Leave out a last batch that is not full.
    labelled : bool
        False for a stream of stimuli: batches of (image, id).
    with_ids : bool
        Add the ids to labelled batches: (image, label, id).
    transform : callable, optional
        Map from the pixels to what the network sees: Tensor (b, channels, height, width) uint8 to float32, on the same
        device, such as ``lambda pixels: flip_half(normalize_contrast(pixels))``; `to_float`, 0 to 1, if absent.

    Yields
    ------
    tuple
        ``(image, label)``, ``(image, label, id)`` or ``(image, id)`` of Tensor (b, channels, height, width)
        float32, Tensor (b,) int64 and tuple of str (b,).

    Raises
    ------
    ValueError
        If there are no images, `batch_size` is below 1, or `drop_last` leaves no batch.

    Examples
    --------
    >>> from brainrdl.data import TensorLoader, load_digits
    >>> train, validation, test = load_digits()
    >>> loader = TensorLoader(test, batch_size=200, with_ids=True)
    >>> [(tuple(image.shape), len(ids)) for image, label, ids in loader]
    [((200, 1, 8, 8), 200), ((200, 1, 8, 8), 200), ((100, 1, 8, 8), 100)]
    """

    def __init__(
        self,
        data: LabelledImages,
        *,
        batch_size: int,
        shuffle: bool = False,
        drop_last: bool = False,
        labelled: bool = True,
        with_ids: bool = False,
        transform: Callable[[Tensor], Tensor] | None = None,
    ) -> None:
        if not len(data):
            raise ValueError("the data set holds no images; a loader needs at least one")
        if batch_size < 1:
            raise ValueError(f"batch_size is {batch_size}, expected at least 1")
        if drop_last and len(data) < batch_size:
            raise ValueError(
                f"drop_last leaves no batch: {len(data)} images do not fill one of {batch_size}; "
                "lower batch_size or keep the last batch"
            )
        self.data = data
        self.batch_size = batch_size
        self.shuffle = shuffle
        self.drop_last = drop_last
        self.labelled = labelled
        self.with_ids = with_ids
        self.transform = transform

    def __len__(self) -> int:
        """Count the batches of a pass."""
        full, rest = divmod(len(self.data), self.batch_size)
        return full + (rest > 0 and not self.drop_last)

    def __iter__(self) -> Iterator[tuple[Any, ...]]:
        """Begin a pass; a shuffled one draws its order here."""
        n = len(self.data)
        # Not inside the generator below, whose body waits for the first batch: by then another seed may be in place.
        order = torch.randperm(n) if self.shuffle else torch.arange(n)
        return self._batches(order)

    def _batches(self, order: Tensor) -> Iterator[tuple[Any, ...]]:
        data = self.data
        places = order.to(data.images.device)
        gives_ids = self.with_ids or not self.labelled
        for number in range(len(self)):
            window = slice(number * self.batch_size, (number + 1) * self.batch_size)
            rows = places[window]
            pixels = data.images[rows]
            image = to_float(pixels, data.top) if self.transform is None else self.transform(pixels)
            ids = tuple(data.ids[place] for place in order[window].tolist()) if gives_ids else ()
            if not self.labelled:
                yield image, ids
            elif self.with_ids:
                yield image, data.labels[rows], ids
            else:
                yield image, data.labels[rows]
