"""What a command prints: names from files included, and nothing that a terminal would obey."""

import re
from typing import Any, TextIO, final

# C0 and C1 but line feed and tab, and what turns the direction of writing
_CONTROLS = "\x00-\x08\x0b-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069"
_IN_TEXT = re.compile(f"[{_CONTROLS}]")
# progress bars go back to the beginning of a line, and a line up
_IN_PROGRESS = re.compile(f"\x1b\\[A|(?P<odd>[{_CONTROLS}])")


def printable(text: str) -> str:
    r"""Write out characters that a terminal obeys, as Python does: ``\x1b[2J``."""
    return _IN_TEXT.sub(lambda found: repr(found[0])[1:-1], text)


def _printable_beside_progress(text: str) -> str:
    def shown(found: re.Match[str]) -> str:
        return found[0] if not found["odd"] or found["odd"] == "\r" else printable(found[0])

    return _IN_PROGRESS.sub(shown, text)


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
