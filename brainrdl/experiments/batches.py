"""How a study's images become batches: normalised, and in training shuffled and augmented."""

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor

from brainrdl.data import LabelledImages, TensorLoader, to_float

_EVALUATED_AT_ONCE = 500


@dataclass(frozen=True)
class Batches:
    """What is done to images on their way to the networks; student and teacher get the very same batch.

    Attributes
    ----------
    normalise : callable
        (pixels (n, channels, height, width) uint8, the value of white) → float32 of that shape.
    augment : callable or None
        Applied to a normalised training batch; draws from torch's global generator.
    drop_last : bool
        Whether a last training batch that is not full is left out.
    """

    normalise: Callable[[Tensor, int], Tensor] = to_float
    augment: Callable[[Tensor], Tensor] | None = None
    drop_last: bool = False

    def tensor(self, images: LabelledImages) -> Tensor:
        """All images, as the networks see them: (n, channels, height, width) float32."""
        return self.normalise(images.images, images.top)

    def training(self, images: LabelledImages, batch_size: int) -> TensorLoader:
        """Batches of (image, label) in a new order each pass."""
        return TensorLoader(
            images,
            batch_size=batch_size,
            shuffle=True,
            drop_last=self.drop_last,
            normalise=self.normalise,
            augment=self.augment,
        )

    def unlabelled(self, images: LabelledImages, batch_size: int) -> TensorLoader:
        """Batches of (image, id) in a new order each pass, all full."""
        return TensorLoader(
            images,
            batch_size=batch_size,
            shuffle=True,
            drop_last=True,
            labelled=False,
            normalise=self.normalise,
            augment=self.augment,
        )

    def evaluation(self, images: LabelledImages) -> TensorLoader:
        """Batches of (image, label) in their order, as they are."""
        return TensorLoader(images, batch_size=_EVALUATED_AT_ONCE, normalise=self.normalise)
