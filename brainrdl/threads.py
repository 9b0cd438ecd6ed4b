"""CPU threads that compute: as many as were asked for, else one for little work and what pays for much.

Threads of one operation wait for each other at its end. Where other processes hold the cores, each wait lasts until
the last thread has had its turn, and small operations take ten times as long with two threads as with one; where the
cores are free, small operations gain next to nothing. So little work takes one thread, whatever the machine does at the
moment: the number changes the rounding of sums, and the same script should give the same digits. For much work free
cores are worth having, and it is measured, once in a process and without the caller's network, whether they are free.
"""

import os
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from functools import lru_cache
from typing import NamedTuple

import torch

from brainrdl.arguments import whole_number

LITTLE = 1e8
"""Multiply-adds of an update, or of one pass over stimuli, below which one thread computes."""

_VARIABLES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS")
_WORTH = 1.25  # how many times as fast further threads must be
_SECONDS, _SIDE = 0.2, 384  # of each measurement; of the matrices, of which a product takes a few milliseconds


class Threads(NamedTuple):
    """A number of CPU threads, and why it was chosen."""

    number: int
    why: str

    def __str__(self) -> str:
        """The line to print: ``1 CPU thread: …``."""
        return f"{self.number} CPU thread{'' if self.number == 1 else 's'}: {self.why}"


def settled(asked: int | None = None, *, processes: int = 1) -> Threads | None:
    """Give the CPU threads of one of several `processes` where somebody said them, or there is nothing to choose.

    What was asked for counts, then OMP_NUM_THREADS and ``torch.set_num_threads``, of which processes get equal shares.
    """
    if asked is not None:
        asked = whole_number(asked, "threads", at_least=None)
        if asked < 1:
            raise ValueError(f"threads must be at least 1, got {asked}")
        return Threads(asked, "as asked for")
    share = max(1, torch.get_num_threads() // processes)
    if (said := said_by()) is not None:
        return Threads(share, f"as {said} says")
    return Threads(1, "there is one core for each process") if share == 1 else None


def choose_threads(asked: int | None = None, *, work: float | None = None, processes: int = 1) -> Threads:
    """Choose as `settled`, or else by the `work` of multiply-adds at a time (None: much)."""
    if (said := settled(asked, processes=processes)) is not None:
        return said
    share = torch.get_num_threads() // processes
    if work is not None and work < LITTLE:
        return Threads(1, f"{work / 1e6:.2g} million multiply-adds at a time are too few to share")
    ratio = gain_of(share)
    if ratio < _WORTH:
        return Threads(1, f"{share} threads were measured to be {ratio:.2g} times as fast as one")
    return Threads(share, f"measured to be {ratio:.2g} times as fast as one")


def said_by() -> str | None:
    """Name what set torch's number of threads, if anything did: a variable of the environment, or a call."""
    for variable in _VARIABLES:
        if os.environ.get(variable):
            return variable
    # torch takes every core, or one of the two that a core counts as
    cores = usable_cores()
    return None if torch.get_num_threads() in (cores, cores // 2) else "torch.set_num_threads"


def usable_cores() -> int:
    """Count the cores that this process may run on."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@lru_cache  # once in a process, so that what is done twice in it comes out alike
def gain_of(threads: int) -> float:
    """Measure how many times as fast as one thread several multiply matrices, here and now: half a second."""
    matrix = torch.ones(_SIDE, _SIDE)
    rates = []
    for number in (1, threads):
        with limited(number):
            matrix @ matrix  # starts the threads
            start, done = time.perf_counter(), 0
            while (passed := time.perf_counter() - start) < _SECONDS:
                # what follows a product is small, as in a network
                (matrix @ matrix).relu_()
                done += 1
            rates.append(done / passed)
    return rates[1] / rates[0]


@contextmanager
def limited(number: int | None) -> Iterator[None]:
    """Let torch compute on so many CPU threads until the block ends; on as many as before if None."""
    before = torch.get_num_threads()
    if number is not None and number != before:
        torch.set_num_threads(number)
    try:
        yield
    finally:
        if torch.get_num_threads() != before:
            torch.set_num_threads(before)


def one_unless_said() -> AbstractContextManager[None]:
    """Let torch compute on one thread, where nothing says otherwise: for many small operations."""
    return limited(1 if settled() is None else None)
