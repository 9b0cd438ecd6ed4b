"""JSON files of a study, written atomically and read with the file's name in every complaint."""

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from brainrdl.checkpoint import atomic_path


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

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    ValueError
        If it is damaged, with the `remedy`, or holds something else.
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
