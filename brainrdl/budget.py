"""A budget of memory for what a file claims, asked of each header before anything is allocated.

A header of a few bytes can claim terabytes, and a compressed block can become a thousand times its size. Neither this
module nor what it imports loads NumPy or torch.
"""

import os
from pathlib import Path
from typing import SupportsIndex

from brainrdl.arguments import whole_number

_SHARE = 4
_ASSUMED = 8 * 2**30  # where the system does not tell its memory
_OF_THE_CONTAINER = Path("/sys/fs/cgroup/memory.max")


def allowed_bytes(max_bytes: SupportsIndex | None = None) -> int:
    """Bytes that the content of one file may take: the caller's number, or a quarter of this machine's memory."""
    return _memory() // _SHARE if max_bytes is None else whole_number(max_bytes, "max_bytes", at_least=1)


def check_claim(claimed: int, place: str, max_bytes: SupportsIndex | None = None, *, detail: str = "") -> int:
    """Return the bytes that a header claims; ValueError, which begins with `place`, if they are beyond the budget.

    `place` names the file, and what in it claims them; `detail`, such as ``(shape (3, 4))``, follows the number.
    """
    allowed = allowed_bytes(max_bytes)
    if claimed > allowed:
        given = "" if max_bytes is not None else ", a quarter of this machine's memory,"
        raise ValueError(
            f"{place} claims {claimed} bytes{f' {detail}' if detail else ''}, more than the {allowed}{given} that one "
            "file may take; if it is what you expect, give a larger max_bytes="
        )
    return claimed


def _memory() -> int:
    """Bytes of memory: the machine's, or what a container leaves of it."""
    try:
        memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):  # not on Windows
        memory = _ASSUMED
    try:
        return min(memory, int(_OF_THE_CONTAINER.read_text()))
    except (OSError, ValueError):  # no container, or "max"
        return memory
