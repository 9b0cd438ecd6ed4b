"""Batches of a study's images: normalised, and in training shuffled and augmented."""

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor

from brainrdl.data.images import LabelledImages, to_float
from brainrdl.data.loader import TensorLoader

_EVALUATED_AT_ONCE = 500


@dataclass(frozen=True)
class Batches:
    """The way of images to the networks; student and teacher get the very same batch."""

    normalise: Callable[[Tensor], Tensor] | None = None
    """Pixels (n, channels, height, width) uint8 → float32 of that shape; 0 to 1 if None."""
    augment: Callable[[Tensor], Tensor] | None = None
    """Applied to a normalised training batch; draws from torch's global generator."""
    drop_last: bool = False
    """True leaves out a last training batch that is not full."""

    def tensor(self, images: LabelledImages) -> Tensor:
        """All images, as the networks see them: (n, channels, height, width) float32."""
        return to_float(images.images, images.top) if self.normalise is None else self.normalise(images.images)

    def training(self, images: LabelledImages, batch_size: int) -> TensorLoader:
        """Batches of (image, label) in a new order each pass."""
        way = self._in_training(images)
        return TensorLoader(images, batch_size=batch_size, shuffle=True, drop_last=self.drop_last, transform=way)

    def unlabelled(self, images: LabelledImages, batch_size: int) -> TensorLoader:
        """Batches of (image, id) in a new order each pass, all full."""
        way = self._in_training(images)
        # a last batch of one image would have no pair for the teacher's terms
        return TensorLoader(images, batch_size=batch_size, shuffle=True, drop_last=True, labelled=False, transform=way)

    def evaluation(self, images: LabelledImages) -> TensorLoader:
        """Batches of (image, label) in their order, as they are."""
        return TensorLoader(images, batch_size=_EVALUATED_AT_ONCE, transform=self.normalise)

    def _in_training(self, images: LabelledImages) -> Callable[[Tensor], Tensor] | None:
        augment = self.augment
        if augment is None:
            return self.normalise
        normalise = self.normalise or (lambda pixels: to_float(pixels, images.top))
        return lambda pixels: augment(normalise(pixels))
