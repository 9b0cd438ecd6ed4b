"""Means over an epoch's updates, column by column of the history."""

from collections.abc import Iterable, Mapping
from typing import final

import torch
from torch import Tensor


@final
class EpochMeans:
    """Means over an epoch's updates: sums on the device, in place as a recorded update adds too; counts on the host."""

    def __init__(self) -> None:
        self._sums: dict[str, Tensor] = {}
        self._counts: dict[str, int] = {}

    def add(self, values: Mapping[str, Tensor]) -> None:
        """Add an update's values (), by column."""
        for column, value in values.items():
            if column in self._sums:
                self._sums[column] += value
            else:
                # a copy, and wide: a term may give whole numbers first, or other types later
                self._sums[column] = value.to(torch.float64, copy=True)

    def count(self, columns: Iterable[str]) -> None:
        """Count an update in which these columns were added to."""
        # not in `add`: a recorded update adds whenever it is repeated, and runs no Python code
        for column in columns:
            self._counts[column] = self._counts.get(column, 0) + 1

    @property
    def columns(self) -> tuple[str, ...]:
        """All columns so far."""
        return tuple(self._sums)

    def means(self) -> dict[str, float]:
        """Read the means; the host waits for the device."""
        return {column: value.item() / self._counts[column] for column, value in self._sums.items()}
