"""The folder of a study: one call at a time works in it, on one configuration, and leaves a note."""

import json
import sys
import time
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from brainrdl.files.locks import HeldError as HeldError, NoLocksError, locked_file
from brainrdl.files.store import check_json, read_json, write_json
from brainrdl.identity import differences
from brainrdl.training.compiled import PYTHON
from brainrdl.training.functions import other_functions

_LOCK = ".lock"
_CONFIGURATION = "study.json"
_CALLS = "calls.json"


@contextmanager
def claimed(
    folder: Path,
    configuration: dict[str, Any],
    *,
    functions: Mapping[str, Any] | None = None,
    grown: Callable[[dict[str, Any], dict[str, Any]], dict[str, Any]] | None = None,
) -> Iterator[None]:
    """Take a folder for a configuration, or resume in it if it is the same; nobody else gets in meanwhile.

    `grown` reads the noted configuration and the present one, and returns the noted one with what it may have gained:
    where that is the present one, it is noted instead. `functions` are facts of the user's code
    (`brainrdl.training.functions.facts_of`), which has to be the same too.
    ValueError if it holds something else, or another configuration; HeldError if another process works in it.
    """
    for place in (folder, *folder.parents):
        if place.exists() and not place.is_dir():
            raise ValueError(f"{place} is a file, and a study needs a folder; give another out=")
    path = folder / _CONFIGURATION
    # before the lock: nothing is written into a folder that is none of ours
    if not path.exists() and not (folder / _LOCK).exists() and folder.exists() and any(folder.iterdir()):
        raise ValueError(f"{folder} is not empty and holds no study; give another out=")
    with locked(folder):
        if path.exists():
            there = read_json(path, dict, remedy="restore it, or give another out=")
            noted_functions = there.pop("functions", None)
            present = json.loads(json.dumps(configuration))
            now = there if grown is None else grown(there, present)
            differing = differences(now, present)
            differing += _other_code(folder, noted_functions, functions or {})
            if differing:
                raise ValueError(
                    f"{folder} holds a study with another configuration: {'; '.join(differing)}. Ask for the same to "
                    "resume it, or give another out="
                )
            if now != there:
                write_json({**now, **({} if noted_functions is None else {"functions": noted_functions})}, path)
        # a lock may be all that an earlier call has left
        elif any(not other.name.startswith(".") for other in folder.iterdir()):
            raise ValueError(
                f"{folder} holds runs, but {_CONFIGURATION}, which says how they were made, is gone; restore it, or "
                "give another out="
            )
        else:
            facts = {"functions": {"python": PYTHON, "found": dict(functions)}} if functions else {}
            write_json({**configuration, **facts}, path)
        yield


def _other_code(folder: Path, noted_functions: Mapping[str, Any] | None, functions: Mapping[str, Any]) -> list[str]:
    """Name in what the user's code differs from that which a study was begun with; a warning where it cannot tell."""
    if noted_functions is None and not functions:
        return []
    if noted_functions is not None and noted_functions["python"] == PYTHON:
        return other_functions(noted_functions["found"], json.loads(json.dumps(functions)))
    why = (
        "by a version that noted no functions"
        if noted_functions is None
        else f"with {noted_functions['python']}, and this is {PYTHON}"
    )
    warnings.warn(
        f"{folder} was begun {why}: whether the code of its networks is the same cannot be told", stacklevel=5
    )
    return []


@contextmanager
def locked(folder: Path, *, required: bool = False) -> Iterator[None]:
    """Keep other processes out of a folder until this one is done with it, or dead.

    HeldError if another process holds the lock; OSError if there are no locks and they are `required`.
    """
    # the file that stays behind means nothing; Windows has no such locks, nor have some file systems
    folder.mkdir(parents=True, exist_ok=True)
    held = f"another process works in {folder}; wait until it is done, or give another out="
    with ExitStack() as stack:
        try:
            stack.enter_context(locked_file(folder / _LOCK, held))
        except NoLocksError as error:
            if required:
                raise OSError(
                    error.errno, f"{folder} is on a file system without locks, which jobs= needs; leave it out"
                ) from error
            if sys.platform != "win32":
                warnings.warn(
                    f"{folder} is on a file system without locks; let no second process work in it", stacklevel=3
                )
        yield


@contextmanager
def noted(folder: Path, call: dict[str, Any], given: Sequence[str] = ()) -> Iterator[Callable[[], None]]:
    """Append a call to the folder's notes, with its seconds up to its end and the warnings that were `given` by then.

    Yields a function that notes both so far: what is left of a call that is killed.
    """
    calls = [*calls_of(folder), {**call, "seconds": 0.0}]
    start = time.perf_counter()

    def note() -> None:
        calls[-1]["seconds"] = round(time.perf_counter() - start, 1)
        if given:
            calls[-1]["warnings"] = list(given)
        write_json(calls, folder / _CALLS)

    note()  # at once: a call that is killed at its beginning is noted too
    try:
        yield note
    finally:
        note()


def calls_of(folder: Path) -> list[dict[str, Any]]:
    """All calls noted in a folder, the first one first."""
    path = folder / _CALLS
    calls = read_json(path, list) if path.exists() else []
    return [check_json(call, dict, ("seconds",), f"a call in {path}") for call in calls]


def warnings_of(calls: Sequence[Mapping[str, Any]]) -> dict[str, list[str]]:
    """All warnings of some calls, as an entry of a manifest; nothing where there were none."""
    found = list(dict.fromkeys(str(text) for call in calls for text in call.get("warnings", ())))
    return {"warnings": found} if found else {}
