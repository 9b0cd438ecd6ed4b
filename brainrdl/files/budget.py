"""A budget of memory for what a file claims, asked of each header before anything is allocated.

A header of a few bytes can claim terabytes, and a compressed block can become a thousand times its size. Neither this
module nor what it imports loads NumPy or torch.
"""

import os
from pathlib import Path
from typing import SupportsIndex, final

from brainrdl.arguments import whole_number

_SHARE = 4
_ASSUMED = 8 * 2**30  # where the system does not tell its memory
_OF_THE_CONTAINER = Path("/sys/fs/cgroup/memory.max")


@final
class BudgetError(ValueError):
    """A file claims more than it may take."""


def allowed_bytes(max_bytes: SupportsIndex | None = None) -> int:
    """Bytes that the content of one file may take: the caller's number, or a quarter of this machine's memory."""
    return _memory() // _SHARE if max_bytes is None else whole_number(max_bytes, "max_bytes", at_least=1)


def check_claim(claimed: int, place: str, max_bytes: SupportsIndex | None = None, *, detail: str = "") -> int:
    """Return the bytes that a header claims; BudgetError, which begins with `place`, if they are beyond the budget.

    `place` names the file, and what in it claims them; `detail`, such as ``(shape (3, 4))``, follows the number.
    """
    allowed = allowed_bytes(max_bytes)
    if claimed > allowed:
        given = "" if max_bytes is not None else ", a quarter of this machine's memory,"
        raise BudgetError(
            f"{place} claims {claimed} bytes{f' {detail}' if detail else ''}, more than the {allowed}{given} that one "
            "file may take; if it is what you expect, give a larger max_bytes="
        )
    return claimed


@final
class Tally:
    """What the parts of one file claim together: a thousand arrays may each be small enough."""

    def __init__(self, place: str, max_bytes: SupportsIndex | None = None) -> None:
        self.place, self.max_bytes, self.claimed = place, max_bytes, 0
        self._allowed = allowed_bytes(max_bytes)

    def add(self, claimed: int, *, place: str | None = None, detail: str = "") -> None:
        """Count what a part claims; BudgetError if that makes too much, of the part where it is too large by itself."""
        self.claimed += claimed
        if self.claimed > self._allowed:
            by_itself = place is not None and claimed > self._allowed
            if by_itself:
                check_claim(claimed, str(place), self.max_bytes, detail=detail)
            check_claim(self.claimed, f"{self.place}: its content", self.max_bytes)

    @property
    def left(self) -> int:
        """Bytes that may still be claimed."""
        return self._allowed - self.claimed


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
