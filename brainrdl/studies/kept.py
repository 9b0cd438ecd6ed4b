"""Results that are made once and read ever after: by the same command again, or by another process beside this one."""

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import TypeVar

Made = TypeVar("Made")
Read = TypeVar("Read")


def kept(
    path: Path,
    make: Callable[[], Made],
    *,
    write: Callable[[Made, Path], None],
    read: Callable[[Path], Read | None],
    check: Callable[[Read], None] | None = None,
    lock: AbstractContextManager[object] | None = None,
) -> Read:
    """Read the result that is kept at a path, or make it, write it and read it back.

    Parameters
    ----------
    path : Path
        File or folder of the result.
    make : callable
        Maker of the result, called only where there is none.
    write, read : callable
        (result, path) → None, and path → result; `read` returns None where the result is not complete.
    check : callable, optional
        Comparison of what was read with what is asked for: it raises a ValueError that names both where the result has
        another identity (setting, split, seed), since only the caller knows which remedy there is.
    lock : context manager, optional
        Lock that keeps other processes from making the same result, see `locked`; left out where there are none.

    Raises
    ------
    HeldError
        If another process holds the lock.
    FileNotFoundError
        If the result vanished while it was written.
    """

    def look() -> Read | None:
        return read(path) if path.exists() else None

    found = look()
    if found is None:
        with lock or nullcontext():
            # another process may have made it since
            found = None if lock is None else look()
            if found is None:
                write(make(), path)
                # read back, not handed on: a result must not depend on whether it was made just now or before
                found = look()
    if found is None:
        raise FileNotFoundError(f"{path} vanished while it was written")
    if check is not None:
        check(found)
    return found
