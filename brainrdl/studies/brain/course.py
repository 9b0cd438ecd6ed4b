"""The course of one fit: losses over stretches of updates, read off what its trainer logs, which changes nothing."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from math import nan
from typing import Any, final

from lightning_fabric import Fabric
from lightning_fabric.loggers.logger import Logger


@final
class Course(Logger):
    """The means that a trainer logs, each over its epoch so far, by the number of updates."""

    def __init__(self) -> None:
        self.means: dict[int, dict[str, float]] = {}

    @property
    def name(self) -> str:
        """Name of the logger."""
        return "course"

    @property
    def version(self) -> str:
        """Version of the logger."""
        return ""

    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        """Keep the means so far."""
        # the row of a whole epoch, which has its number, says the same again
        if step is not None and "epoch" not in metrics:
            self.means[step] = dict(metrics)

    def log_hyperparams(self, params: Any, *args: Any, **kwargs: Any) -> None:
        """Keep nothing: a plan says how a student is fitted."""

    def over_stretches(self, column: str, updates: Sequence[int], *, in_epoch: int, every: int = 1) -> list[float]:
        """Compute means since the number of updates before, or since the epoch's beginning; NaN where there are none.

        An epoch has `in_epoch` updates; of all updates, every `every`-th has a value in this column, the first one too.
        """
        found, before, sum_before = [], 0, 0.0
        for done in updates:
            start = (done - 1) // in_epoch * in_epoch
            if before <= start:
                before, sum_before = start, 0.0
            counted, earlier = (-(-n // every) + start // -every for n in (done, before))
            total = self.means.get(done, {}).get(column, nan) * counted
            found.append((total - sum_before) / (counted - earlier) if counted > earlier else nan)
            before, sum_before = done, total if counted else 0.0
        return found


@contextmanager
def followed(fabric: Fabric) -> Iterator[Course]:
    """Keep what a trainer with this fabric logs."""
    course = Course()
    fabric.loggers.append(course)
    try:
        yield course
    finally:
        fabric.loggers.remove(course)
