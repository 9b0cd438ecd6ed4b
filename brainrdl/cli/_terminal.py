"""What a command prints: names from files included, and nothing that a terminal would obey."""

import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, TextIO, final

from brainrdl.terminal import printable as printable

_SHOWN = re.compile(r"\d+%\|.*\| \S+<\S+|(^|: )\d+ % in \d\d:\d\d")  # a bar, or its line in a log

# progress bars go back to the beginning of a line, and a line up
_PROGRESS = re.compile("(\r|\x1b\\[A)")


def _printable_beside_progress(text: str) -> str:
    return "".join(part if _PROGRESS.fullmatch(part) else printable(part) for part in _PROGRESS.split(text))


@final
class Printable:
    """A stream to which everything goes printable; with `progress`, what moves progress bars goes as it is."""

    def __init__(self, stream: TextIO, *, progress: bool = False) -> None:
        self._stream = stream
        self._printable = _printable_beside_progress if progress else printable

    def write(self, text: str) -> int:
        """Write a text."""
        self._stream.write(self._printable(text))
        return len(text)

    def __getattr__(self, name: str) -> Any:
        """The rest is the stream's own."""
        return getattr(self._stream, name)


@contextmanager
def above_bars() -> Iterator[None]:
    """Let what is written meanwhile stand above the bars of the terminal."""
    if "tqdm" not in sys.modules:  # where it was not imported there are none
        yield
        return
    from tqdm import tqdm

    with tqdm.external_write_mode(file=sys.stderr):
        yield


def wipe_bars() -> None:
    """Take away the bars that an error has left."""
    if "tqdm" in sys.modules:
        from tqdm import tqdm

        for bar in list(getattr(tqdm, "_instances", ())):
            bar.leave = False
            bar.close()


def without_progress(text: str) -> list[str]:
    """Lines that were written beside bars, and beside their lines in a log."""
    found = []
    for line in text.replace("\x1b[A", "").split("\n"):
        *before, last = [part for part in line.split("\r") if part] or [""]
        # what stands above a bar comes behind the blanks that wiped it
        said = before[-1].isspace() if before else "\r" not in line
        if said and last.strip() and not _SHOWN.search(last):
            found.append(last)
    return found
