"""Several processes that make the runs of one study side by side: each makes what no other is making.

There is no list of who does what. Every process walks through all runs; one that another holds the lock of, or that
needs such a one first (a teacher, a trial), is left for later.
"""

import multiprocessing
import os
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from brainrdl.studies.folder import HeldError
from brainrdl.studies.paper.runs import Lab
from brainrdl.studies.paper.study import Row

_PAUSE = 0.2  # seconds until it is asked again whether a run of another process is done


def make_all(
    lab: Lab,
    rows: Sequence[Row],
    *,
    done: Callable[[Row], None] | None = None,
    log: Callable[[str], None] | None = None,
) -> None:
    """Make all runs, or wait for those that other processes are making.

    Parameters
    ----------
    lab : Lab
        Where they are made.
    rows : sequence of Row
        The runs.
    done : callable, optional
        Told of each run that is done.
    log : callable, optional
        Told once if there is nothing left but to wait.
    """
    left = list(rows)
    told = False
    while left:
        held: list[Row] = []
        for row in left:
            try:
                lab.run(row)
            except HeldError:
                held.append(row)
            else:
                if done is not None:
                    done(row)
        if len(held) == len(left):
            if log is not None and not told:
                log(f"waiting for what other processes are making, {held[0].name} or what it needs first")
                told = True
            time.sleep(_PAUSE)
        left = held


@contextmanager
def beside(n: int, make_lab: Callable[[], Lab], rows: Sequence[Row]) -> Iterator[None]:
    """Let further processes make the runs too, until the block ends.

    Parameters
    ----------
    n : int
        How many; 0 for none.
    make_lab : callable
        Makes the Lab in the new process: whatever it refers to has to be picklable.
    rows : sequence of Row
        The runs.

    Raises
    ------
    ValueError
        On Windows, which lacks the locks that keep two processes from making one run.
    """
    if not n:
        yield
        return
    if sys.platform == "win32":
        raise ValueError("--jobs needs file locks as Unix has them; leave it out")
    # not forked: a process that has used a GPU cannot be
    context = multiprocessing.get_context("spawn")
    processes = [context.Process(target=_job, args=(make_lab, tuple(rows)), daemon=True) for _ in range(n)]
    for process in processes:
        process.start()
    try:
        yield
    finally:
        for process in processes:
            process.terminate()
        for process in processes:
            process.join()


def _job(make_lab: Callable[[], Lab], rows: Sequence[Row]) -> None:
    threading.Thread(target=_end_with_parent, daemon=True).start()
    make_all(make_lab(), rows)


def _end_with_parent() -> None:
    """Not to work on unseen when the command is killed."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)
