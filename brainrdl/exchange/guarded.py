"""Reading in a process of its own, which may neither loop without end nor fill the memory.

The C library behind HDF5 trusts a file: one with a few altered bytes can make it loop for ever, ask for all memory or
crash. What a file can do to its reader is therefore done to a copy of this process, with limits in proportion to the
file, and what it read is handed back.
"""

import faulthandler
import os
import pickle
import signal
import warnings
from collections.abc import Callable
from io import BufferedWriter
from pathlib import Path
from typing import Any, TypeVar

from brainrdl.files.budget import allowed_bytes

T = TypeVar("T")

_BYTES_PER_SECOND = 100_000  # of the file: the slowest honest ones, of many small groups, need a tenth of the time
_PATIENCE = 60  # seconds that may pass for each that is computed
_COPIES, _SLACK = 2, 2**28  # of what is read, while it is decoded; and for the library itself
_RESULT, _MEMORY, _FAULT = "result", "memory", "fault"


def guarded(
    read: Callable[[], T], path: Path, max_bytes: int | None, *, bytes_per_second: int = _BYTES_PER_SECOND
) -> T:
    """Read a file in a child process: its result, its ValueErrors, its warnings.

    ValueError too where the child computes for longer than the file's size explains, needs more memory than the budget
    allows, or crashes. Where there is no `os.fork` (Windows) the file is read here.
    """
    if not hasattr(os, "fork"):
        return read()
    seconds = round(1 + path.stat().st_size / bytes_per_second, 1)
    incoming, outgoing = os.pipe()
    with warnings.catch_warnings():
        # of a fork beside threads: the child takes none of their locks, as it reads this one file and ends
        warnings.simplefilter("ignore", DeprecationWarning)
        child = os.fork()
    if not child:
        _read_in_child(read, incoming, outgoing, seconds, allowed_bytes(max_bytes))
    os.close(outgoing)
    answer: tuple[str, Any, list[Any]] | None = None
    try:
        with os.fdopen(incoming, "rb") as pipe:
            answer = pickle.load(pipe)
    except (EOFError, pickle.UnpicklingError):  # it ended in the middle
        pass
    except BaseException:  # this process was interrupted
        os.kill(child, signal.SIGKILL)
        raise
    finally:
        status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    if answer is None:
        raise _ended(path, status, seconds)
    kind, content, warned = answer
    for message, category in warned:
        warnings.warn(message, category, stacklevel=4)
    if kind == _MEMORY:
        raise ValueError(
            f"{path}: reading it takes more memory than the {allowed_bytes(max_bytes)} bytes that one file may take "
            "allow; it is damaged, or give a larger max_bytes="
        )
    if kind == _FAULT:
        raise ValueError(f"{path} cannot be read ({content}); it is damaged: fetch or write it again")
    if kind != _RESULT:
        raise (TypeError if kind == "TypeError" else ValueError)(content)
    result: T = content
    return result


def _read_in_child(read: Callable[[], Any], incoming: int, outgoing: int, seconds: float, allowed: int) -> None:
    """Read, write the answer and end: at once, so that nothing of the parent's is written or closed twice."""
    try:
        os.close(incoming)
        _limit(seconds, _COPIES * allowed + _SLACK)
        with os.fdopen(outgoing, "wb") as pipe:
            _answer(read, pipe)
        os._exit(0)
    finally:
        os._exit(1)


def _answer(read: Callable[[], Any], pipe: BufferedWriter) -> None:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            kind, content = _RESULT, read()
        except MemoryError:
            kind, content = _MEMORY, None
        except (TypeError, ValueError) as error:
            kind, content = "TypeError" if isinstance(error, TypeError) else "ValueError", str(error)
        except Exception as error:  # what a library stumbles over in a damaged file can be anything
            kind, content = _FAULT, type(error).__name__
    pickle.dump((kind, content, [(str(each.message), each.category) for each in caught]), pipe, protocol=5)


def _limit(seconds: float, more_bytes: int) -> None:
    import resource  # not on Windows

    faulthandler.disable()  # a crash is said by the parent
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    for number in (signal.SIGPROF, signal.SIGALRM):
        signal.signal(number, signal.SIG_DFL)  # which ends the process, in the middle of C too
    signal.setitimer(signal.ITIMER_PROF, seconds)  # of computing
    signal.setitimer(signal.ITIMER_REAL, _PATIENCE * seconds)  # for a child that waits, for a disk or for ever
    try:
        pages = int(Path("/proc/self/statm").read_text().split()[0])
    except (OSError, ValueError):  # not Linux: time alone is limited
        return
    most, allowed = pages * resource.getpagesize() + more_bytes, resource.getrlimit(resource.RLIMIT_AS)[1]
    if allowed == resource.RLIM_INFINITY or most < allowed:
        resource.setrlimit(resource.RLIMIT_AS, (most, most))


def _ended(path: Path, status: int, seconds: float) -> ValueError:
    again = "it is damaged, or was made to do harm: fetch or write it again"
    if status in (-signal.SIGPROF, -signal.SIGALRM):
        return ValueError(
            f"{path}: reading it took more than {seconds:g} s of computing, which a file of {path.stat().st_size} "
            f"bytes does not need; {again}"
        )
    how = signal.Signals(-status).name if status < 0 else f"with status {status}"
    return ValueError(f"{path}: the library that reads it crashed ({how}); {again}")
