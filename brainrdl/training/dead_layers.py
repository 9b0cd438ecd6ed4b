"""Layers that respond identically to everything: said before the first update, in the first ones, at an epoch's end."""

from collections.abc import Mapping, Sequence
from typing import final

from torch import Tensor

from brainrdl.features.answers import warn_dead

_WATCHED = 10  # on an accelerator the host waits for each


@final
class DeadLayers:
    """Watch for the student's layers that die in the first updates or later in an epoch; each is said once."""

    def __init__(self) -> None:
        self._left = _WATCHED
        self._last: int | None = None  # the epoch whose last update is looked at
        self._said: set[str] = set()
        self._whole: set[int] = set()  # sizes of the streams' first batches

    @property
    def first(self) -> bool:
        """Is this one of the first updates?"""
        return self._left > 0

    @property
    def watching(self) -> bool:
        """Is this one of the first updates, or one of an epoch's last?"""
        return self.first or self._last is not None

    def watch_last(self, epoch: int, last: bool) -> None:
        """Look at the next update, too, if it is one of the `last` two of an epoch."""
        # of two, since the last batch may be incomplete; a recorded update runs no Python code, and is not looked at
        self._last = epoch if last else None

    def unsaid(self, columns: Sequence[str]) -> list[str]:
        """The columns that were not asked for before."""
        fresh = [column for column in columns if column not in self._said]
        self._said.update(fresh)
        return fresh

    def look(self, features: Mapping[str, Tensor], images: Tensor, when: str | None = None) -> None:
        """Look at the layers (n, ...) of an update."""
        first, self._left = self.first, self._left - 1
        if when is not None:
            self._whole.add(len(images))
        elif first or self._last is None:
            when = "in one of the first updates"
        elif len(images) in self._whole:  # to two or three stimuli a small layer may well respond identically
            when = f"at the end of epoch {self._last + 1}"
        else:
            return
        alive = {layer: value for layer, value in features.items() if layer not in self._said}
        self._said.update(warn_dead(alive, images, "the student", when))
