"""A finished command given again: answered by what it printed, where nothing that it rests on has changed.

What it rests on is kept beside what it made, in ``.answer.json``: its options, the files and folders that they name,
the folder of data sets, the code and the results, each file by size, times and inode. Where any differs, or was changed
while the command ran, the command runs as ever, and compares content.
"""

import argparse
import json
import os
import stat
import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import redirect_stderr, redirect_stdout, suppress
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, TextIO, cast, final

import brainrdl
from brainrdl.cli._threads import using_threads

_PACKAGES = ("torch", "torchvision", "lightning-fabric", "numpy", "scipy", "xarray", "pandas", "scikit-learn")
_SCANS = ("nilearn", "nibabel")
_MOST_FILES = 50_000
_MOST_TEXT = 1_000_000  # characters
_MARGIN = 2.0  # seconds: some file systems keep no finer times

Facts = dict[str, list[int]]


@dataclass(frozen=True)
class Rests:
    """What a command's answer rests on beside its options: its result, and texts that may name further files."""

    out: Path
    texts: object = field(default=None)


def run(options: argparse.Namespace, arguments: Sequence[str]) -> int:
    """Run a command, or print again what it printed when it was finished and nothing has changed since."""
    find = getattr(options, "rests", None)
    rests: Rests | None = None if find is None else find(options)
    if rests is None:
        return _computed(options, arguments)
    record, start = _record(rests.out), time.time()
    asked = _asked(options, rests, arguments)
    try:
        named = _files(_named(options, rests), without=rests.out)
    except (OSError, _TooManyError):
        return _computed(options, arguments)
    kept = _read(record)
    # the results are looked at last, since a folder of results may hold much
    if kept is not None and kept.get("asked") == asked and kept.get("named") == named and _unchanged(kept, rests.out):
        print("finished before, and nothing that it rests on has changed; as it was printed then:")
        print(kept["printed"], end="")
        print(kept["warned"], end="", file=sys.stderr)
        return 0
    out, warned = _Copied(sys.stdout), _Copied(sys.stderr)
    with redirect_stdout(cast(TextIO, out)), redirect_stderr(cast(TextIO, warned)):
        status = _computed(options, arguments)
    if status == 0 and len(out.text) <= _MOST_TEXT:
        from brainrdl.cli._terminal import without_progress

        with suppress(OSError, _TooManyError):  # what cannot be kept is made again
            code = _files(_code())
            touched = max((moment for facts in (*named.values(), *code.values()) for moment in facts[1:3]), default=0)
            unchanged = named == _files(_named(options, rests), without=rests.out)
            if rests.out.exists() and unchanged and touched < (start - _MARGIN) * 1e9:
                lines = [f"{line}\n" for line in without_progress(warned.text)]
                content = {"asked": asked, "named": named, "code": code, "made": _files(_made(rests.out))}
                _write({**content, "printed": out.text, "warned": "".join(lines)}, _record(rests.out))
    return status


def _computed(options: argparse.Namespace, arguments: Sequence[str]) -> int:
    with using_threads(getattr(options, "threads", None)):
        return int(options.run(options, arguments))


@final
class _Copied:
    """A stream, and all that was written to it."""

    def __init__(self, stream: TextIO) -> None:
        self._stream, self.text = stream, ""

    def write(self, text: str) -> int:
        """Write a text."""
        if len(self.text) <= _MOST_TEXT:
            self.text += text
        return self._stream.write(text)

    def __getattr__(self, name: str) -> Any:
        """The rest is the stream's own."""
        return getattr(self._stream, name)


class _TooManyError(Exception):
    """More files than are looked at in an instant."""


def _record(out: Path) -> Path:
    return out / ".answer.json" if not out.suffix or out.is_dir() else out.with_name(f".{out.name}.answer.json")


def _asked(options: argparse.Namespace, rests: Rests, arguments: Sequence[str]) -> dict[str, Any]:
    """What the command was asked, and where: whatever may change its answer and is no file."""
    values = {name: value for name, value in vars(options).items() if not callable(value)}
    where = [os.getcwd(), *(os.environ.get(name, "") for name in ("BRAINRDL_DATA", "PYTHONPATH"))]
    asked = {"command": arguments[0], "options": values, "texts": rests.texts, "where": where}
    packages = {name: _version(name) for name in (*_PACKAGES, *_SCANS)}
    found: dict[str, Any] = json.loads(json.dumps({**asked, "packages": packages}, default=str))
    return found


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return ""


def _named(options: argparse.Namespace, rests: Rests) -> Iterator[Path]:
    """Files and folders that options and texts name, and the folder of data sets."""
    if hasattr(options, "data_dir"):
        folder = options.data_dir or os.environ.get("BRAINRDL_DATA")
        yield from [] if folder is None else [Path(folder)]
    for text in _texts([{**vars(options), "out": None}, rests.texts]):
        # NAME=MASK, and a mask for each subject
        for name in filter(None, (text, text.partition("=")[2])):
            before, is_pattern, _ = name.partition("{subject}")
            path = Path(os.path.dirname(before) if is_pattern else name)
            with suppress(OSError, ValueError):  # of a text that can be no file's name
                if path.exists():
                    if path.resolve() in (Path.cwd(), *Path.cwd().parents):  # all that may lie there is too much
                        raise _TooManyError
                    yield path


def _texts(value: object) -> Iterator[str]:
    if isinstance(value, str | os.PathLike):
        yield os.fspath(value)
    elif isinstance(value, dict):
        yield from _texts(list(value.values()))
    elif isinstance(value, list | tuple):
        for part in value:
            yield from _texts(part)


def _code() -> Iterator[Path]:
    """The package's own files, and those of modules that are neither Python's nor installed: the user's networks."""
    yield from Path(brainrdl.__file__).parent.rglob("*.py")
    for module in list(sys.modules.values()):
        file = getattr(module, "__file__", None)
        if (
            file
            and os.path.exists(file)
            and not any(Path(file).is_relative_to(place) for place in (sys.prefix, sys.base_prefix))
        ):
            yield Path(file)


def _made(out: Path) -> Iterator[Path]:
    """The results: what is in a folder, or a file with those that are called like it."""
    if out.is_dir():
        yield out
    else:
        yield from (path for path in out.parent.iterdir() if path.name.startswith(f"{out.stem}."))


def _unchanged(kept: dict[str, Any], out: Path) -> bool:
    with suppress(OSError, _TooManyError):
        return bool(kept.get("made") == _files(_made(out)) and kept.get("code") == _files(map(Path, kept["code"])))
    return False


def _files(places: Iterable[Path], *, without: Path | None = None) -> Facts:
    """Size, times and inode of files, and of all that is in folders, by path; `without` a command's own results."""
    facts: Facts = {}
    left = [os.path.abspath(place) for place in places]
    own = None if without is None else os.path.abspath(without)
    # as a path without its suffix, followed by another
    beside = None if own is None else f"{os.path.splitext(own)[0]}."
    while left:
        place = left.pop()
        if place in facts or place == own or (beside is not None and place.startswith(beside)):
            continue
        if len(facts) >= _MOST_FILES:
            raise _TooManyError
        found = os.stat(place) if os.path.exists(place) else os.lstat(place)  # a link that leads nowhere, by itself
        if stat.S_ISDIR(found.st_mode):
            facts[place] = [found.st_ino]  # and by what is in it, but for locks and records, which come and go
            left += [entry.path for entry in os.scandir(place) if not _is_passing(entry.name)]
        else:
            facts[place] = [found.st_size, found.st_mtime_ns, found.st_ctime_ns, found.st_ino]
    return facts


def _is_passing(name: str) -> bool:
    return name in (".lock", ".locks") or (name.startswith(".") and name.endswith("answer.json"))


def _read(record: Path) -> dict[str, Any] | None:
    try:
        kept = json.loads(record.read_text("utf-8"))
        return kept if isinstance(kept, dict) and isinstance(kept["printed"] + kept["warned"], str) else None
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return None


def _write(content: dict[str, Any], record: Path) -> None:
    from brainrdl.files.store import write_json

    write_json(content, record)
