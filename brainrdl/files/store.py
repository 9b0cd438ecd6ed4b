"""Files written whole or not at all, and read with the file's name in every complaint."""

import errno
import hashlib
import json
import os
import platform
import re
import shutil
import sys
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from brainrdl.files.budget import BudgetError, check_claim

if TYPE_CHECKING:
    from pandas import DataFrame  # not at run time: commands that write no table start without it


def path_of(given: Any, field: str) -> Path:
    """Return a caller's path, called `field` in errors; TypeError or ValueError for anything that cannot be one."""
    if not isinstance(given, str | os.PathLike):
        raise TypeError(f"{field} is a {type(given).__name__}; expected one path, a string or a pathlib.Path")
    if not os.fspath(given):
        raise ValueError(f"{field} is an empty string; expected a path")
    return Path(given)


@contextmanager
def atomic_path(path: str | Path) -> Iterator[Path]:
    """Yield a temporary path beside `path` that replaces it only once it is complete on disk.

    Whoever reads `path` finds the old file or the new one, never a part of it, also after a kill or a power cut.
    What killed writers have left in the folder goes first.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    _remove_left_behind(path)
    # beside it, as a file can be renamed within one file system only; with the process's number, as two may write
    temporary = path.with_name(f".{path.name}.{os.getpid()}-{_host()}.tmp")
    # one of this name is of a killed process with our number; removed, not written over: it may be a second name
    temporary.unlink(missing_ok=True)
    try:
        yield temporary
        _to_disk(temporary)
        os.replace(temporary, path)
        # the new name is on disk only once the folder is
        _to_disk(path.parent)
    except OSError as error:
        if error.errno is not None and error.filename is None:  # a full disk's names no file
            error.filename = str(path)
        raise
    finally:
        temporary.unlink(missing_ok=True)


def keep_beside(path: Path, older: Path) -> None:
    """Give the file at `path` a second name beside it, `older`, that stays with it when `path` is replaced."""
    # a link, not a rename: a process that is killed between the two would leave no file at `path`
    with atomic_path(older) as temporary:
        try:
            os.link(path, temporary)
        except OSError:  # a file system without links
            shutil.copyfile(path, temporary)


def _to_disk(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


_UNTOUCHED = 24 * 3600.0  # seconds, after which nobody is writing a file any more


def _remove_left_behind(path: Path) -> None:
    """Remove temporary files whose writers are gone: all in the folder of `path`, and of earlier versions its own."""
    ours = re.compile(r"\..+\.(\d+)-([0-9a-f]{8})\.tmp", re.DOTALL)
    earlier = re.compile(rf"\.{re.escape(path.name)}\.(\d+)()\.tmp")
    # a folder that cannot be listed, or a file that another process removes too: the write itself will tell
    with suppress(OSError), os.scandir(path.parent) as entries:
        for entry in entries:
            found = ours.fullmatch(entry.name) or earlier.fullmatch(entry.name)
            if found is not None and entry.is_file(follow_symlinks=False):
                host = found[2] or _host()
                here_and_gone = host == _host() and not _is_running(int(found[1]))
                if here_and_gone or time.time() - entry.stat(follow_symlinks=False).st_mtime > _UNTOUCHED:
                    Path(entry.path).unlink(missing_ok=True)


def _host() -> str:
    """This machine in a file's name: the processes of another one that shares the folder cannot be asked after."""
    return hashlib.sha256(platform.node().encode()).hexdigest()[:8]


def _is_running(process: int) -> bool:
    """Ask the system after a process; True where it cannot tell."""
    if sys.platform == "win32":  # where the question would end the process
        return True
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except (OSError, OverflowError):  # somebody else's; no number of a process
        return True
    return True


def write_table(table: "DataFrame", path: str | Path, *, index: bool = False) -> None:
    """Write a table as CSV atomically, with the same line ends on every system."""
    with atomic_path(path) as temporary:
        table.to_csv(temporary, index=index, lineterminator="\n")


def write_json(value: Any, path: Path) -> None:
    """Write a JSON file atomically."""
    with atomic_path(path) as temporary:
        temporary.write_text(json.dumps(value, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def read_json(
    path: Path,
    kind: type,
    fields: Iterable[str] = (),
    *,
    remedy: str = "restore it, or remove it to have it made again",
) -> Any:
    """Read a JSON file that holds a `kind`, with `fields` if that is a dict.

    FileNotFoundError if there is no such file; ValueError if it is damaged, with the `remedy`, or another file.
    """
    if not path.is_file():
        raise FileNotFoundError(f"there is no file {path}")
    try:
        value = load_json(path)
    except BudgetError:
        raise
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path} is damaged ({error}); {remedy}") from error
    return check_json(value, kind, fields, str(path))


def load_json(path: Path, max_bytes: int | None = None, *, encoding: str = "utf-8") -> Any:
    """Parse a JSON file; BudgetError if its objects would take more memory than one file may.

    OSError for a pipe or a device, which would be waited for; ValueError and RecursionError of what is no JSON.
    """
    if path.exists() and not path.is_file():
        raise OSError(errno.EINVAL, "neither a file nor a link to one", str(path))
    check_claim(path.stat().st_size, f"{path}: its JSON", max_bytes)
    content = path.read_bytes()
    # a number or a text of a few letters becomes an object of tens of bytes, an empty list of two letters one of 64
    parts = {b",": 40, b'"': 30, b"[": 80, b"{": 80}
    claimed = len(content) + sum(content.count(mark) * size for mark, size in parts.items())
    check_claim(claimed, f"{path}: its JSON, as objects,", max_bytes)
    return json.loads(content.decode(encoding))


def check_json(value: Any, kind: type, fields: Iterable[str], place: str) -> Any:
    """Hand on what was read at a `place`; ValueError unless it is a `kind`, with `fields` if that is a dict."""
    if not isinstance(value, kind):
        raise ValueError(f"{place} holds a {type(value).__name__}, expected a {kind.__name__}; it is another file")
    missing = set(fields).difference(value) if isinstance(value, dict) else set()
    if missing:
        raise ValueError(f"{place} lacks {', '.join(map(repr, sorted(missing)))}; it is damaged, or of another version")
    return value


def versions(packages: Iterable[str]) -> dict[str, str]:
    """Versions of installed packages, in the order given."""
    return {package: version(package) for package in packages}


def to_json(facts: Any) -> str:
    """Write facts as a line of JSON; NaN becomes null, which JSON has."""
    return json.dumps(_plain(facts), ensure_ascii=False)


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {str(key): _plain(part) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(part) for part in value]
    if isinstance(value, Path):
        return str(value)
    if isinstance(value, np.generic):
        value = value.item()
    return None if isinstance(value, float) and not np.isfinite(value) else value


def check_place(path: Path, *, folder: bool = False) -> None:
    """Raise a ValueError where no file (or folder) can be at `path`, as far as can be known without writing."""
    if folder and path.exists() and not path.is_dir():
        raise ValueError(f"{path} is a file; expected a folder, or a new name for one")
    if not folder and path.is_dir():
        raise ValueError(f"{path} is a folder; expected the path of a file in it")
    above = next((parent for parent in path.parents if parent.exists()), None)
    if above is not None and not above.is_dir():
        raise ValueError(f"{path} lies below {above}, which is a file; expected a folder")


def sha256(*parts: bytes) -> str:
    """Hash bytes, one part behind the other; hexadecimal."""
    digest = hashlib.sha256()
    for part in parts:
        digest.update(part)
    return digest.hexdigest()


def file_sha256(path: str | Path) -> str:
    """Hash a file's content, read piece by piece; hexadecimal."""
    with Path(path).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def file_md5(path: Path) -> str:
    """The MD5 by which data sets are published: it tells damage, and guards against nothing."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()
