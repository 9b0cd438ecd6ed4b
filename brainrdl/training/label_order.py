"""Whether a task's images come class by class, as those of a folder do that nobody shuffles."""

import warnings
from typing import final

from torch import Tensor

# fewer batches or images may be in order by chance, or be all there are
_BATCHES = 3
_IMAGES = 512


@final
class LabelOrder:
    """The order of the labels in a stream's first pass, until it is known whether they are sorted."""

    def __init__(self) -> None:
        self._known = False
        self._batches = self._images = 0
        self._first = self._last = 0

    def note(self, labels: Tensor | None, *, stacklevel: int) -> None:
        """Look at the next batch's labels (n,); warn once many images came class by class."""
        if self._known:
            return
        if labels is None or labels.ndim != 1 or labels.is_floating_point() or not len(labels):
            self._known = True
            return
        labels = labels.detach().cpu()
        if not self._batches:
            self._first = self._last = int(labels[0])
        if int(labels[0]) < self._last or bool((labels[1:] < labels[:-1]).any()):
            self._known = True
            return
        self._batches, self._images, self._last = self._batches + 1, self._images + len(labels), int(labels[-1])
        if self._images >= _IMAGES:
            self.end(stacklevel=stacklevel + 1)

    def end(self, *, stacklevel: int) -> None:
        """Warn if all labels so far are in order, and of several classes: of one alone, no order can be told."""
        if self._known or self._batches < _BATCHES or self._first == self._last:
            return
        self._known = True
        warnings.warn(
            f"the labels of the first {self._images} task images are in order, from {self._first} to {self._last}: "
            "each batch shows few classes, and distances between the others are not compared; shuffle=True in the "
            "DataLoader mixes them",
            stacklevel=stacklevel,
        )
