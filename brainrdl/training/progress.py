"""An epoch under way: how far it is, and the sums of which its row of the history is made."""

import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from math import nan
from typing import Any, final

import torch
from torch import Tensor


@final
class EpochMeans:
    """Means over an epoch's updates: sums on the device, in place as a recorded update adds too; counts on the host."""

    def __init__(self) -> None:
        self._sums: dict[str, Tensor] = {}
        self._counts: dict[str, int] = {}
        self._pairs: dict[str, Tensor] = {}  # compared, updates in which any were, all updates (3,)

    def add(self, values: Mapping[str, Tensor], pairs: Mapping[str, Tensor] | None = None) -> None:
        """Add an update's values (), by column; not those of a column that compares no `pairs` ()."""
        pairs = pairs or {}
        for column, value in values.items():
            _add(self._sums, column, torch.where(pairs[column] > 0, value, 0.0) if column in pairs else value)
        for column, number in pairs.items():
            _add(self._pairs, column, torch.stack((number, number > 0, torch.ones_like(number))))

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
        """Read the means, NaN where nothing was compared; the host waits for the device."""
        compared = {column: numbers[1].item() for column, numbers in self._pairs.items()}
        counts = {column: compared.get(column, self._counts[column]) for column in self._sums}
        return {
            column: value.item() / counts[column] if counts[column] else nan for column, value in self._sums.items()
        }

    def pairs_left(self) -> dict[str, float]:
        """Pairs compared, in the layer with the fewest: ``<term>/pairs``, where a term left an update out."""
        numbers = {column: value.tolist() for column, value in self._pairs.items()}
        left_out = {column.split("/", 1)[0] for column, (_, compared, all_) in numbers.items() if compared < all_}
        return {
            f"{term}/pairs": min(value[0] for column, value in numbers.items() if column.split("/", 1)[0] == term)
            for term in sorted(left_out)
        }

    def uncompared(self) -> list[str]:
        """The columns in which no update compared anything."""
        return [column for column, numbers in self._pairs.items() if numbers[1].item() == 0]

    def state_dict(self) -> dict[str, Any]:
        """Sums and counts, for a checkpoint."""
        return {"sums": dict(self._sums), "counts": dict(self._counts), "pairs": dict(self._pairs)}

    def load_state_dict(self, state: Mapping[str, Any], device: torch.device) -> None:
        """Take the sums and counts of a checkpoint."""
        self._sums = {column: value.to(device) for column, value in state["sums"].items()}
        self._counts = dict(state["counts"])
        self._pairs = {column: value.to(device) for column, value in state["pairs"].items()}


def _add(sums: dict[str, Tensor], column: str, value: Tensor) -> None:
    if column in sums:
        sums[column] += value
    else:
        # a copy, and wide: a term may give whole numbers first, or other types later
        sums[column] = value.to(torch.float64, copy=True)


@final
@dataclass
class Progress:
    """An epoch that is under way."""

    lr: float  # at the epoch's beginning
    updates: int = 0  # of the epoch that are done
    means: EpochMeans = field(default_factory=EpochMeans)
    alphas: dict[str, float] = field(default_factory=dict)  # the last ones, by column
    began: float = field(default_factory=time.perf_counter)

    @property
    def seconds(self) -> float:
        """Seconds spent on the epoch, before an interruption and behind it."""
        return time.perf_counter() - self.began

    def state_dict(self) -> dict[str, Any]:
        """Everything, for a checkpoint."""
        means = self.means.state_dict()
        kept = {"lr": self.lr, "updates": self.updates, "alphas": dict(self.alphas), "seconds": self.seconds}
        return {**kept, "means": means}


def restored(state: Mapping[str, Any], device: torch.device) -> Progress:
    """Make the progress that a checkpoint holds."""
    means = EpochMeans()
    means.load_state_dict(state["means"], device)
    began = time.perf_counter() - state["seconds"]
    return Progress(state["lr"], state["updates"], means, dict(state["alphas"]), began)


def losses_in_short(means: Mapping[str, float], alphas: Mapping[str, float]) -> list[str]:
    """Losses and α, for a bar that shows as many as fit."""
    losses = [f"{column} {value:.3g}" for column, value in means.items()]
    return [*losses, *(f"α({column}) {alpha:.2g}" for column, alpha in alphas.items())]


def validation_in_short(row: Mapping[str, float]) -> list[str]:
    """Scores on validation data of an epoch's row, for a bar that shows as many as fit; no loss beside an error."""
    scores = {column.removeprefix("validation_"): row[column] for column in row if column.startswith("validation_")}
    if "error" in scores:
        scores.pop("loss", None)
    return [f"val. {name} {value:.3g}{' %' if name == 'error' else ''}" for name, value in scores.items()]
