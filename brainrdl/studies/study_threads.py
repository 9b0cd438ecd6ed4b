"""CPU threads of a study: one number for all its training runs and processes, and the same when it is resumed."""

from collections.abc import Callable
from pathlib import Path

import torch

from brainrdl.studies.folder import calls_of
from brainrdl.threads import Threads, choose_threads, settled, usable_cores
from brainrdl.training.machine import use_threads


def set_threads(
    asked: int | None, device: torch.device, out: Path, *, processes: int = 1, log: Callable[[str], None]
) -> int:
    """Set and return the threads of each process: what was asked for or said, those of the study before, or measured.

    A choice is logged in one line.
    """
    found = settled(asked, processes=processes)
    if found is None and device.type != "cpu":  # as a GPU computes
        return use_threads(processes=processes)
    if found is None:
        before = [int(call["threads"]) for call in calls_of(out) if "threads" in call]
        if before and before[-1] <= usable_cores():
            found = Threads(before[-1], "as in the study that is resumed")
        else:
            found = choose_threads(processes=processes)
        log(str(found))
    return use_threads(found.number)
