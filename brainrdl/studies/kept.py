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

    `read` returns None where a result is not complete; `check` raises a ValueError where one has another identity
    (setting, split, seed). HeldError if another process holds the `lock`; FileNotFoundError if the result vanished.
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
    # the caller's, since only the caller knows which remedy there is
    if check is not None:
        check(found)
    return found
