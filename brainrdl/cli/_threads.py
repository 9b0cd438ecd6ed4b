"""``--threads``: the CPU threads of whatever a command computes with."""

import argparse
import os
from collections.abc import Iterator
from contextlib import contextmanager


def check_threads(options: argparse.Namespace) -> None:
    """Raise a ValueError for fewer threads than one."""
    if (number := getattr(options, "threads", None)) is not None and number < 1:
        raise ValueError(f"--threads must be at least 1, got {number}")


@contextmanager
def using_threads(number: int | None) -> Iterator[None]:
    """Let a command compute on so many CPU threads, as under ``OMP_NUM_THREADS``."""
    if number is None:
        yield
        return
    # imported here: most commands are called without the option
    from threadpoolctl import threadpool_limits

    from brainrdl.threads import limited

    before = os.environ.get("OMP_NUM_THREADS")
    # also what is imported later, further processes, and the package's own choices, which leave what was said
    os.environ["OMP_NUM_THREADS"] = str(number)
    try:
        with threadpool_limits(number), limited(number):
            yield
    finally:
        os.environ.pop("OMP_NUM_THREADS") if before is None else os.environ.update(OMP_NUM_THREADS=before)
