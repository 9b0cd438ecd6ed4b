"""When a run's state is written: behind each epoch, and within one where the user or a signal asks for it."""

import operator
import re
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import final

from brainrdl.files.locks import HeldError, NoLocksError, locked_file
from brainrdl.training.stopping import StopRequest

Rows = list[dict[str, float]]
"""The history so far, a row per epoch."""


@dataclass(frozen=True)
class Every:
    """A number of updates, or of seconds, between two checkpoints."""

    updates: int | None = None
    seconds: float | None = None


def read_every(asked: int | str | None, checkpoint: str | Path | None) -> Every:
    """Read ``checkpoint_every``: a number of updates, or minutes as in ``"10 min"``; ValueError for anything else."""
    if asked is None:
        return Every()
    if checkpoint is None:
        raise ValueError(
            f"checkpoint_every={asked!r} says how often a checkpoint is written within an epoch, and there is none; "
            "give checkpoint=, or leave it out"
        )
    found = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*(min|minutes?|updates?|)\s*", asked) if isinstance(asked, str) else None
    try:
        if found is not None and found[2].startswith("min"):
            if (minutes := float(found[1])) > 0:
                return Every(seconds=60 * minutes)
        elif not isinstance(asked, bool):
            updates = int(found[1]) if found is not None else operator.index(asked)  # type: ignore[arg-type]
            if updates >= 1:
                return Every(updates)
    except (TypeError, ValueError):  # no number, or no whole one
        pass
    raise ValueError(
        f"checkpoint_every must be a number of updates, at least 1, or of minutes, such as '10 min', got {asked!r}"
    )


@final
class Keeper:
    """Write a run's state when it is due, and end the run behind it where the process is asked to end."""

    def __init__(self, save: Callable[[Path, Rows], None], path: Path | None, every: Every, stop: StopRequest) -> None:
        self.stop = stop
        self.rows: Rows = []
        self._save = save
        self._path = path
        self._every = every
        self._updates, self._written = 0, time.monotonic()

    def due(self) -> bool:
        """Count an update; is the run's state to be written behind it?"""
        self._updates += 1
        every = self._every
        return self._path is not None and (
            self.stop.asked
            or (every.updates is not None and self._updates >= every.updates)
            or (every.seconds is not None and time.monotonic() - self._written >= every.seconds)
        )

    def write(self) -> None:
        """Write the run's state, if anywhere; Stopped if the process was asked to end."""
        if self._path is not None:
            self._save(self._path, self.rows)
        self._updates, self._written = 0, time.monotonic()
        self.stop.check()


@contextmanager
def alone(checkpoint: Path | None) -> Iterator[None]:
    """Keep every other training from a checkpoint until the block ends, or the process; HeldError if one is there."""
    with ExitStack() as stack:
        if checkpoint is not None:
            held = (
                f"another training writes the checkpoint {checkpoint} at this moment; wait until it is done, or name "
                "another path"
            )
            try:
                checkpoint.parent.mkdir(parents=True, exist_ok=True)
                lock = locked_file(checkpoint.with_name(f".{checkpoint.name}.lock"), held, remove=True)
                stack.enter_context(lock)
            except HeldError:
                raise
            except NoLocksError:
                if sys.platform != "win32":
                    warnings.warn(
                        f"{checkpoint.parent} is on a file system without locks; let no second training write "
                        f"{checkpoint.name} there",
                        stacklevel=4,
                    )
            except OSError:
                pass  # no file can be made there: `check_writable` says so, and a finished run's is only read
        yield
