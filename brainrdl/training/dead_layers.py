"""Layers that answer alike to everything: said before the first update, and in the first ones."""

from collections.abc import Mapping, Sequence
from typing import final

from torch import Tensor

from brainrdl.features.answers import warn_dead

_WATCHED = 10  # on an accelerator the host waits for each


@final
class DeadLayers:
    """Watch for the student's layers that die in the first updates; each is said once."""

    def __init__(self) -> None:
        self._left = _WATCHED
        self._said: set[str] = set()

    @property
    def watching(self) -> bool:
        """Is this one of the first updates?"""
        return self._left > 0

    def unsaid(self, columns: Sequence[str]) -> list[str]:
        """The columns that were not asked for before."""
        fresh = [column for column in columns if column not in self._said]
        self._said.update(fresh)
        return fresh

    def look(self, features: Mapping[str, Tensor], images: Tensor, when: str = "in one of the first updates") -> None:
        """Look at the layers (n, ...) of an update."""
        self._left -= 1
        alive = {layer: value for layer, value in features.items() if layer not in self._said}
        self._said.update(warn_dead(alive, images, "the student", when))
