"""A process that is asked to end (SIGTERM, Ctrl-C): behind an update, once that is on disk."""

import os
import signal
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from types import FrameType
from typing import Any, TypeVar, final

Thing = TypeVar("Thing")

Handler = Any
"""A function (signal, frame), or `signal.SIG_DFL`."""


class Stopped(BaseException):
    """The training ends here, because the process was asked to end."""


@final
class StopRequest:
    """The signal by which the process was asked to end, if it was."""

    def __init__(self, handlers: Mapping[int, Handler]) -> None:
        self._handlers = handlers
        self._process = os.getpid()
        self._asked: tuple[int, FrameType | None] | None = None
        self._waits = False

    @property
    def asked(self) -> bool:
        """True once the process was asked to end."""
        return self._asked is not None

    def check(self) -> None:
        """End the training if the process was asked to end."""
        if self.asked:
            raise Stopped

    @contextmanager
    def waiting(self, wait: bool = True) -> Iterator[None]:
        """Only take note of a signal within, or (not `wait`) end the training at once."""
        before, self._waits = self._waits, wait
        try:
            if not wait:
                self.check()
            yield
        finally:
            self._waits = before

    def note(self, number: int, frame: FrameType | None) -> None:
        """Handle a signal: take note of it, and end the training at once where nothing is under way."""
        if os.getpid() != self._process:  # a forked child's, of which nobody takes note
            _act(self._handlers[number], number, frame)
            return
        # who presses Ctrl-C twice will not wait
        impatient = number == signal.SIGINT and self._asked is not None and self._asked[0] == number
        self._asked = number, frame
        if impatient or not self._waits:
            raise Stopped

    def hand_on(self) -> None:
        """Do what the process does when it is asked to end: the user's handler, then exit status 128 + signal."""
        if self._asked is None:
            return
        number, frame = self._asked
        handler = self._handlers[number]
        if callable(handler):
            handler(number, frame)  # Python's own of Ctrl-C raises KeyboardInterrupt
        raise SystemExit(128 + number)


@contextmanager
def stop_signals(active: bool) -> Iterator[StopRequest]:
    """Take note of SIGTERM and Ctrl-C within; the caller hands them on behind it.

    An error within does not swallow them: they are handed on at once.
    """
    handlers: dict[int, Handler] = {}
    # Python handles signals in its main thread alone
    if active and threading.current_thread() is threading.main_thread():
        found = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
        # what is ignored stays ignored (nohup); None was set by another language, and could not be put back
        handlers = {number: h for number, h in found.items() if h is not None and h != signal.SIG_IGN}
    stop = StopRequest(handlers)
    try:
        try:
            for number in handlers:
                signal.signal(number, stop.note)
            yield stop
        finally:
            for number, handler in handlers.items():
                signal.signal(number, handler)
    except Stopped:
        pass
    except BaseException:
        stop.hand_on()  # whatever went wrong: the process was asked to end all the same
        raise


def until_asked(things: Iterator[Thing], stop: StopRequest) -> Iterator[Thing]:
    """Give what `things` gives, and end where it fails once the process was asked to end."""
    # Ctrl-C ends a loader's workers too, and the loader then fails for want of them
    while True:
        try:
            yield next(things)
        except StopIteration:
            return
        except Exception:
            if not stop.asked:
                raise
            return


def _act(handler: Handler, number: int, frame: FrameType | None) -> None:
    if callable(handler):
        handler(number, frame)
    else:
        signal.signal(number, handler)
        os.kill(os.getpid(), number)
