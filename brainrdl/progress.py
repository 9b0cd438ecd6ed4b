"""Progress of what takes long: a bar with the time left in a terminal, plain lines elsewhere.

Nothing is shown where the environment variable TQDM_DISABLE is set.
"""

import os
import sys
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, Self, TypeVar, final

from tqdm import tqdm

from brainrdl.terminal import one_line, say

T = TypeVar("T")

_WITHIN: ContextVar[bool] = ContextVar("within", default=False)  # another bar

_PATIENCE = 3.0  # seconds of silence that nobody minds
_PATIENCE_WITHIN = 60.0  # of a step that stands in a log as a whole
_SHARE = 0.05  # of the time so far between two lines: a training of days fills no log
_COLUMNS, _ROWS = 80, 24  # where a terminal does not say how large it is
_LEAST_BAR = 10  # characters, of which hours take up to six
_FIXED = len("100%|| 00:00<00:00")
_FORMAT = "{desc}{percentage:3.0f}%|{bar}| {elapsed}<{remaining}{postfix}"


@final
class Bar:
    """What is done of a total, in any unit: a bar on stderr if that is a terminal, else a line now and then.

    `done` was there before; nothing is shown in the first seconds of the `delay`. Within another bar, lines come later.
    """

    def __init__(self, total: float, label: str = "", *, done: float = 0, delay: float = 0) -> None:
        self._label = one_line(label)
        self._first: list[str] = []
        self._values: list[str] = []
        self._total, self._done, self._before = total, done, done
        self._began = time.perf_counter()
        self._due = self._began + max(_PATIENCE, delay)
        self._visible = self._began + delay
        self._within = _WITHIN.get()
        # looked up now: a command puts streams of its own in place
        terminal, off = sys.stderr.isatty(), _is_off()
        self._lines = not terminal and not off
        self._bar: tqdm[Any] | None = None
        if terminal and not off:
            columns, rows = _size()
            # smoothing=0: the mean over all, since what comes between (a validation, a checkpoint) comes again;
            # leave=None: bars within others go when they are full
            self._bar = tqdm(
                total=total,
                initial=done,
                desc=f"{_cut(self._label, columns // 2)}: " if label else "",
                leave=None,
                ncols=columns,
                nrows=rows,
                smoothing=0,
                bar_format=_FORMAT,
                delay=delay,
            )
            self._write(refresh=True)

    def __enter__(self) -> Self:
        if self._within:
            self._due = max(self._due, self._began + _PATIENCE_WITHIN)
        _WITHIN.set(True)
        return self

    def __exit__(self, *error: object) -> None:
        _WITHIN.set(self._within)
        if self._bar is not None:
            self._bar.close()

    def advance(self, n: float = 1) -> None:
        """Count what was done; of more than the total, the total grows."""
        self._done += n
        self._total = max(self._total, self._done)
        if self._bar is not None:
            self._bar.total = self._total
            self._bar.update(n)
        elif self._lines and (now := time.perf_counter()) >= self._due:
            self._due = now + max(_PATIENCE, _SHARE * (now - self._began))
            say(self.line(now - self._began), error=True)

    def describe(self, label: str, values: Iterable[str] = ()) -> None:
        """Say what is being done, and values beside it, the most important first: those that fit are shown."""
        before, self._label, self._values = self._label, one_line(label), list(map(one_line, values))
        # values may come many times a second: they are shown when the bar moves
        self._write(refresh=self._label != before)

    def lead(self, values: Iterable[str]) -> None:
        """Show values before all others from now on."""
        self._first = list(map(one_line, values))
        self._write(refresh=True)

    def line(self, seconds: float) -> str:
        """What is shown in a log after so many seconds."""
        label = f"{self._label}: " if self._label else ""
        left = time_left(self._done - self._before, self._total - self._done, seconds)
        share = int(100 * self._done / self._total) if self._total else 100
        return ", ".join([f"{label}{share} % in {tqdm.format_interval(seconds)}", left, *self._first, *self._values])

    def _write(self, *, refresh: bool) -> None:
        if self._bar is None:
            return
        self._bar.ncols, self._bar.nrows = _size()
        room = self._bar.ncols - _FIXED - _LEAST_BAR
        label = _cut(self._label, room)
        values: list[str] = []
        for value in (*self._first, *self._values):
            if len(f"{label}: {', '.join([*values, value])}, ") > room:
                break
            values.append(value)
        self._bar.set_description_str(f"{label}: " if label else "", refresh=False)
        self._bar.set_postfix_str(", ".join(values), refresh=refresh and time.perf_counter() >= self._visible)


def track(items: Iterable[T], label: str, *, total: int, delay: float = 0) -> Iterator[T]:
    """Give one item after the other, and show how many of the total are done."""
    with Bar(total, label, delay=delay) as bar:
        for item in items:
            yield item
            bar.advance()


def time_left(done: float, left: float, seconds: float) -> str:
    """Say how long it takes to do what is left, if so much was done in so many seconds."""
    return f"about {tqdm.format_interval(left * seconds / done)} left" if done > 0 else "time left unknown"


def log(text: object) -> None:
    """Print a line on stdout, above the bars that are shown."""
    with tqdm.external_write_mode():
        say(text)


@contextmanager
def without_bars() -> Iterator[None]:
    """Show none, here and in processes that are started meanwhile."""
    before = os.environ.get("TQDM_DISABLE")
    os.environ["TQDM_DISABLE"] = "1"
    try:
        yield
    finally:
        if before is None:
            del os.environ["TQDM_DISABLE"]
        else:
            os.environ["TQDM_DISABLE"] = before


def _is_off() -> bool:
    return os.environ.get("TQDM_DISABLE", "").lower() not in ("", "0", "false")


def _size() -> tuple[int, int]:
    """Columns and rows of the terminal behind stderr that a bar may use."""
    # not left to tqdm, which shows nothing in a terminal that says it has no rows, as those of containers do
    try:
        columns, rows = os.get_terminal_size(sys.stderr.fileno())
    except (OSError, ValueError):
        columns = rows = 0
    # some terminals go on to the next line behind the last character of one
    return (columns or _COLUMNS) - 1, rows or _ROWS


def _cut(text: str, width: int) -> str:
    return text if len(text) <= width - 2 else text[: max(0, width - 3)] + "…"
