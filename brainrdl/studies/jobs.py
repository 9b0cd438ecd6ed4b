"""Several processes that make the results of one study in parallel: each makes what no other is making.

There is no list of who does what. Every process walks through all tasks; one whose lock another process holds, or that
needs such a result first (a teacher, a task network, a choice), is left for later.
"""

import multiprocessing
import os
import sys
import threading
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from itertools import count
from multiprocessing.queues import SimpleQueue
from typing import Protocol, TypeVar

from brainrdl.progress import time_left
from brainrdl.studies.folder import HeldError
from brainrdl.warned import warnings_given

# of a process, so that they all fit into the pipe to the first one, which reads them at the end
_MOST_WARNINGS, _LONGEST_WARNING = 20, 2_000

_PAUSE = 0.2  # seconds until it is asked again whether a result of another process is done


class Task(Protocol):
    """A result to be made, known by its name."""

    @property
    def name(self) -> str:
        """The result's name."""


T = TypeVar("T", bound=Task)
T_contra = TypeVar("T_contra", bound=Task, contravariant=True)


class Maker(Protocol[T_contra]):
    """A study that makes and keeps its results."""

    def run(self, task: T_contra, /) -> object:
        """Make a result, or read it where it is done; HeldError where another process is making it."""


def make_all(
    runs: Maker[T],
    tasks: Sequence[T],
    *,
    done: Callable[[T], None] | None = None,
    log: Callable[[str], None] | None = None,
) -> None:
    """Make all results, or wait for those that other processes are making.

    `done` is called with each task whose result is there, `log` once if there is nothing left but to wait.
    """
    left = list(tasks)
    waited = False
    while left:
        held: list[T] = []
        for task in left:
            try:
                runs.run(task)
            except HeldError:
                held.append(task)
            else:
                if done is not None:
                    done(task)
        # as long as one more was made, there may be others that nobody holds
        if len(held) == len(left):
            if log is not None and not waited:
                log(f"waiting for what other processes are making, {held[0].name} or what it needs first")
                waited = True
            time.sleep(_PAUSE)
        left = held


@contextmanager
def beside(n: int, open_runs: Callable[[], Maker[T]], tasks: Sequence[T]) -> Iterator[None]:
    """Let `n` further processes make the results too, until the block ends.

    `open_runs` opens the study in the new process, so that whatever it refers to has to be picklable.
    """
    if not n:
        yield
        return
    if sys.platform == "win32":  # which lacks the locks that keep two processes from making one result
        raise ValueError("jobs needs file locks as Unix has them; leave it out")
    # not forked: a process that has used a GPU cannot be
    context = multiprocessing.get_context("spawn")
    warned = context.SimpleQueue()
    processes = [context.Process(target=_job, args=(open_runs, tuple(tasks), warned), daemon=True) for _ in range(n)]
    for process in processes:
        process.start()
    try:
        yield
    finally:
        for process in processes:
            process.terminate()
        for process in processes:
            process.join()
        # given here too, where they are noted
        texts = []
        while not warned.empty():
            texts.append(warned.get())
        for text in dict.fromkeys(texts):
            warnings.warn(text, stacklevel=4)


def make_beside(
    runs: Maker[T],
    open_runs: Callable[[], Maker[T]],
    tasks: Sequence[T],
    *,
    n: int,
    left: int,
    note: Callable[[], None],
    log: Callable[[str], None],
) -> None:
    """Make all results, of which some are `left`, with `n` further processes; a line and a note of the call after each.

    With further processes, the line gives the time left.
    """
    made, began = count(1), time.perf_counter()

    def done(task: T) -> None:
        number = next(made)
        now = number - (len(tasks) - left)  # those that were there before are read in no time
        rest = time_left(now, len(tasks) - number, time.perf_counter() - began)
        log(f"[{number}/{len(tasks)}] {task.name}{f', {rest}' if n and now > 0 and number < len(tasks) else ''}")
        note()

    with beside(n, open_runs, tasks):
        make_all(runs, tasks, done=done, log=log)


def _job(open_runs: Callable[[], Maker[T]], tasks: Sequence[T], warned: "SimpleQueue[str]") -> None:
    threading.Thread(target=_end_with_parent, daemon=True).start()
    left = count()

    def tell(text: str) -> None:
        if next(left) < _MOST_WARNINGS:
            warned.put(text[:_LONGEST_WARNING])

    with warnings_given(tell):
        make_all(open_runs(), tasks)


def _end_with_parent() -> None:
    """Not to work on unseen when the command is killed."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)
