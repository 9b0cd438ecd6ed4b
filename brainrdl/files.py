"""Files written whole or not at all, and read with the file's name in every complaint."""

import hashlib
import json
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from pandas import DataFrame  # not at run time: commands that write no table start without it


@contextmanager
def atomic_path(path: str | Path) -> Iterator[Path]:
    """Yield a temporary path beside `path` that replaces it only once it is complete on disk.

    Whoever reads `path` finds the old file or the new one, never a part of it, also after a kill or a power cut.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    # beside it, as a file can be renamed within one file system only; with the process's number, as two may write
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        yield temporary
        with temporary.open("rb") as file:
            os.fsync(file.fileno())
        os.replace(temporary, path)
        # the new name is on disk only once the folder is
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
    except OSError as error:
        if error.errno is not None and error.filename is None:  # a full disk's names no file
            error.filename = str(path)
        raise
    finally:
        temporary.unlink(missing_ok=True)


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
        value = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{path} is damaged ({error}); {remedy}") from error
    return check_json(value, kind, fields, str(path))


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
