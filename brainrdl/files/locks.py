"""Locks between processes: the system's own, which end with the process that holds them, however it ends."""

import errno
import os
import sys
import weakref
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import IO, Any

if sys.platform != "win32":
    import fcntl


class HeldError(BlockingIOError):
    """Another process holds a lock."""


class NoLocksError(OSError):
    """The system, or the file system, has no locks."""


@contextmanager
def locked_file(path: Path, held: str, *, remove: bool = False) -> Iterator[None]:
    """Hold the lock of a file, made where it is not there, and `remove` the file behind it.

    HeldError, which says `held`, if another process or thread holds it; NoLocksError where there are no locks;
    OSError if the file cannot be made.
    """
    if sys.platform == "win32":
        raise NoLocksError(errno.ENOSYS, "Windows has no such locks")
    file = _locked(path, held)
    # a forked child (a loader's worker) would hold the lock too, and may outlive this process by seconds
    os.register_at_fork(after_in_child=_closing(file))
    try:
        yield
    finally:
        if remove:  # while it is locked: whoever waits for it sees that it is another file by then
            path.unlink(missing_ok=True)
        # not by closing it alone: a child that is just being forked may have it open
        fcntl.flock(file, fcntl.LOCK_UN)
        file.close()


def _locked(path: Path, held: str) -> IO[str]:
    """Open and lock a file that still has its name once it is locked."""
    while True:
        with ExitStack() as stack:
            # appended to, not written: another process may hold it
            file = stack.enter_context(open(path, "a", opener=_opened))
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise HeldError(held) from None
            except OSError as error:
                if error.errno in (errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOSYS):
                    raise NoLocksError(error.errno, os.strerror(error.errno), str(path)) from error
                raise
            # its last holder may have removed it in between, and then another process may lock one of its name
            if path.exists() and os.path.samestat(os.fstat(file.fileno()), path.stat()):
                stack.pop_all()
                return file


def _opened(path: str, flags: int) -> int:
    # no link, which may lead to any file, and no pipe, whose other end would be waited for
    return os.open(path, flags | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0), 0o666)


def _closing(file: IO[str]) -> Any:
    """Function that closes a file, and keeps it from nobody."""
    reference = weakref.ref(file)

    def close() -> None:
        if (there := reference()) is not None:
            there.close()

    return close
