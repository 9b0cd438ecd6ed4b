"""A finished command given again: answered by what it printed, where nothing that it rests on has changed.

What it rests on is kept beside what it made, in ``.answer.json``: its options, the files and folders that they name,
the folder of data sets, whatever else was opened meanwhile, the code, what is installed, and the results, each file by
size, times and inode. Where any differs, or was changed while the command ran, the command runs as ever, and compares
content.
"""

import argparse
import json
import os
import stat
import sys
import sysconfig
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import redirect_stderr, redirect_stdout, suppress
from dataclasses import dataclass, field
from functools import cache
from importlib.machinery import PathFinder
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
_VARIABLES = ("BRAINRDL_", "PYTHON")  # what the names of those that may change an answer begin with
_MACHINE = ("/proc", "/sys", "/dev")

Facts = dict[str, list[int]]


@dataclass(frozen=True)
class Rests:
    """What a command's answer rests on beside its options: its result, and texts that may name further files."""

    out: Path
    texts: object = field(default=None)
    is_file: bool = False
    """True if the result is a file, with those that are called like it; else a folder."""


def run(options: argparse.Namespace, arguments: Sequence[str]) -> int:
    """Run a command, or print again what it printed when it was finished and nothing has changed since."""
    find = getattr(options, "rests", None)
    rests: Rests | None = None if find is None else find(options)
    if rests is None:
        return _computed(options, arguments)
    record, start = _record(rests), time.time()
    path = [os.getcwd(), *sys.path]  # where a network of the user's is looked for
    asked = _asked(options, rests, arguments)
    try:
        named = _files(_named(options, rests), without=rests)
    except (OSError, _TooManyError):
        return _computed(options, arguments)
    kept = _read(record)
    # the results are looked at last, since a folder of results may hold much
    if kept is not None and kept.get("asked") == asked and kept.get("named") == named and _unchanged(kept, rests, path):
        print("finished before, and nothing that it rests on has changed; as it was printed then:")
        print(kept["printed"], end="")
        print(kept["warned"], end="", file=sys.stderr)
        return 0
    out, warned, opened = _Copied(sys.stdout), _Copied(sys.stderr), _opened()
    opened.forget()
    with redirect_stdout(cast(TextIO, out)), redirect_stderr(cast(TextIO, warned)):
        status = _computed(options, arguments)
    if status == 0 and len(out.text) <= _MOST_TEXT:
        from brainrdl.cli._terminal import without_progress

        with suppress(OSError, _TooManyError):  # what cannot be kept is made again
            modules = _users_modules([vars(options), rests.texts])
            code = _files([*_own_code(), *modules.values()])
            read = _files(opened.inputs(named | code), without=rests)
            times = [moment for facts in (*named.values(), *code.values(), *read.values()) for moment in facts[1:3]]
            unchanged = named == _files(_named(options, rests), without=rests)
            if rests.out.exists() and unchanged and max(times, default=0) < (start - _MARGIN) * 1e9:
                lines = [f"{line}\n" for line in without_progress(warned.text)]
                content = {"asked": asked, "named": named, "read": read, "code": code, "made": _files(_made(rests))}
                content["places"] = _places({name.partition(".")[0] for name in modules}, path)
                _write({**content, "printed": out.text, "warned": "".join(lines)}, record)
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


@final
class _Opened:
    """The files that any Python code of this process opened, those of a network of the user's among them."""

    def __init__(self) -> None:
        self._read: set[str] = set()
        self._written: set[str] = set()

    def __call__(self, event: str, arguments: tuple[Any, ...]) -> None:
        """Note a file that is opened, or looked for: ``sys.addaudithook``."""
        if event != "open" or not isinstance(arguments[0], str | bytes | os.PathLike):
            return
        with suppress(OSError, ValueError):
            writes = arguments[2] & (os.O_WRONLY | os.O_RDWR)
            (self._written if writes else self._read).add(os.path.abspath(os.fsdecode(arguments[0])))

    def forget(self) -> None:
        """Begin anew."""
        self._read.clear()
        self._written.clear()

    def inputs(self, known: Facts) -> list[str]:
        """Files that were read, but for those `known`, of Python and its packages, and made by the command itself."""
        passed = tuple(place + os.sep for place in (*_installed(), *_MACHINE))
        return sorted(
            path
            for path in self._read - self._written - set(known)
            if not (
                os.path.isdir(path)
                or os.path.basename(os.path.dirname(path)) == "__pycache__"
                or path.startswith(passed)
            )
        )


@cache
def _opened() -> _Opened:
    """The one hook of this process: a hook cannot be taken away."""
    opened = _Opened()
    sys.addaudithook(opened)
    return opened


class _TooManyError(Exception):
    """More files than are looked at in an instant."""


def _record(rests: Rests) -> Path:
    out = rests.out
    return out.with_name(f".{out.name}.answer.json") if rests.is_file else out / ".answer.json"


def _asked(options: argparse.Namespace, rests: Rests, arguments: Sequence[str]) -> dict[str, Any]:
    """What the command was asked, and where: whatever may change its answer and is no file."""
    values = {name: value for name, value in vars(options).items() if not callable(value)}
    asked = {"command": arguments[0], "options": values, "texts": rests.texts}
    variables = {name: value for name, value in os.environ.items() if name.startswith(_VARIABLES)}
    where = {"folder": os.getcwd(), "variables": variables, "python": [sys.version, sys.prefix, brainrdl.__file__]}
    packages = {name: _version(name) for name in (*_PACKAGES, *_SCANS)}
    # a folder of packages has another time after each that is installed, updated or removed
    installed = {place: os.stat(place).st_mtime_ns for place in _installed() if os.path.exists(place)}
    content = {**asked, **where, "packages": packages, "installed": installed}
    found: dict[str, Any] = json.loads(json.dumps(content, default=str))
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


def _installed() -> set[str]:
    """Folders of Python's own modules and of installed packages."""
    paths = sysconfig.get_paths()
    return {paths[name] for name in ("stdlib", "platstdlib", "purelib", "platlib")}


def _own_code() -> Iterator[Path]:
    """The package's own files, templates among them."""
    for path in Path(brainrdl.__file__).parent.rglob("*"):
        if path.suffix != ".pyc" and path.is_file():
            yield path


def _users_modules(texts: object) -> dict[str, Path]:
    """Files of modules that are neither Python's nor installed, or that `texts` name: the user's networks."""
    named = {text.partition(":")[0].partition(".")[0] for text in _texts(texts) if ":" in text} - {"torchvision"}
    passed = tuple(place + os.sep for place in _installed())
    found = {}
    for name, module in list(sys.modules.items()):
        top, file = name.partition(".")[0], getattr(module, "__file__", None)
        if top in ("brainrdl", "__main__", "__mp_main__") or not (file and os.path.exists(file)):
            continue
        if top in named or not file.startswith(passed):
            found[name] = Path(file)
    return found


def _places(names: Iterable[str], path: list[str]) -> dict[str, list[str]]:
    """Where each module would be found on a `path`: another may have come before it."""
    found = {name: PathFinder.find_spec(name, path) for name in sorted(names)}
    return {
        name: [] if spec is None else [str(spec.origin), *map(str, spec.submodule_search_locations or ())]
        for name, spec in found.items()
    }


def _made(rests: Rests) -> Iterator[Path]:
    """The results: what is in a folder, or a file with those that are called like it."""
    out = rests.out
    if rests.is_file:
        yield from (path for path in out.parent.iterdir() if path.name.startswith(f"{out.stem}."))
    else:
        yield out


def _unchanged(kept: dict[str, Any], rests: Rests, path: list[str]) -> bool:
    with suppress(OSError, _TooManyError, KeyError, TypeError):
        return bool(
            kept["read"] == _files(kept["read"], without=rests)
            and kept["code"] == _files(kept["code"])
            and kept["places"] == _places(kept["places"], path)
            and kept["made"] == _files(_made(rests))
        )
    return False


def _files(places: Iterable[str | Path], *, without: Rests | None = None) -> Facts:
    """Size, times and inode of files, and of all that is in folders, by path; `without` a command's own results."""
    facts: Facts = {}
    left = [os.path.abspath(place) for place in places]
    own = None if without is None else os.path.abspath(without.out)
    # as a path without its suffix, followed by another
    beside = None if own is None else f"{os.path.splitext(own)[0]}." if cast(Rests, without).is_file else own + os.sep
    while left:
        place = left.pop()
        if place in facts or place == own or (beside is not None and place.startswith(beside)):
            continue
        if len(facts) >= _MOST_FILES:
            raise _TooManyError
        if not os.path.lexists(place):
            facts[place] = []  # looked for in vain
            continue
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
