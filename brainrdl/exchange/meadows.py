"""Results of the Meadows platform's multiple arrangement task, as downloaded: .mat or JSON.

In a .mat file of one participant ``rdmutv`` is the upper triangle, row by row, and ``stimuli`` a char matrix; in
one of several, ``rdmutv_<participant>`` and ``stimuli_<participant>``, which may differ in order and in part. In the
JSON of one participant each entry of ``tasks`` of type ``multiarrange`` has ``stimuli`` and ``rdm``. No file says what
the distances are. We write the JSON, one task per RDM, and add ``brainrdl``, which readers of its ``tasks`` do not
look at.
"""

import json
import warnings
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from brainrdl.arguments import name_some
from brainrdl.exchange.document import Document, to_document
from brainrdl.exchange.parts import Coord, Parts
from brainrdl.exchange.seal import KEY, checksum, seal_of
from brainrdl.files.budget import BudgetError
from brainrdl.files.store import load_json
from brainrdl.ids import alike, difference
from brainrdl.rdms.triangles import to_squares, upper_triangles

_OURS = "brainrdl"
_TASK = "multiarrange"


def is_meadows(variables: Mapping[str, Any], variable: str | None = None) -> bool:
    """True if a .mat file's variables, or the one that is asked for, are Meadows'."""
    return any(name.startswith("rdmutv") and variable in (None, name) for name in variables)


def from_variables(variables: Mapping[str, Any], path: Path, variable: str | None = None) -> Parts:
    """Read the variables of a .mat file, or one person's, ``rdmutv_<participant>``."""
    vectors_of = [name for name in variables if name.startswith("rdmutv") and variable in (None, name)]
    people = [name.removeprefix("rdmutv").removeprefix("_") for name in vectors_of]
    vectors, ids = [], []
    for person in people:
        suffix = f"_{person}" if person else ""
        if f"stimuli{suffix}" not in variables:
            raise ValueError(f"{path} holds 'rdmutv{suffix}', but no 'stimuli{suffix}'; download it again from Meadows")
        vectors.append(np.asarray(variables[f"rdmutv{suffix}"]).reshape(-1))
        ids.append(_ids(variables[f"stimuli{suffix}"], path))
    values, stimuli = _joined(people, vectors, ids, path)
    named = [person.replace("_", "-") for person in people] if all(people) else None
    coords: dict[str, Coord] = {} if named is None else {"subject": (("rdm",), named)}
    return Parts(values, "row-major", stimuli, named, coords=coords, fields={"stimuli": stimuli})


def read_parts(path: Path, max_bytes: int | None = None) -> Parts:
    """Read a JSON file of one participant."""
    try:
        content = load_json(path, max_bytes)
    except BudgetError:
        raise
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path} is not JSON, or is cut off; fetch or write it again") from error
    tasks = content.get("tasks") if isinstance(content, dict) else None
    if not isinstance(tasks, list):
        raise ValueError(f"{path} has no list 'tasks', as Meadows' JSON of one participant does")
    vectors, ids, names = [], [], []
    for task in tasks:
        try:
            if task["task"].get("task_type") != _TASK:
                continue
            names.append(str(task["task"]["name"]))
            ids.append([str(stimulus["name"]) for stimulus in task["stimuli"]])
            vectors.append(_numbers(task["rdm"]))
        except OverflowError as error:
            raise ValueError(
                f"{path}: 'rdm' holds a number beyond the range of float64; write the file again"
            ) from error
        except (KeyError, TypeError, AttributeError) as error:
            raise ValueError(
                f"{path}: a task lacks 'task' with 'name', 'stimuli' with 'name' each, or 'rdm' as a list of numbers; "
                "download it again from Meadows"
            ) from error
    if not vectors:
        raise ValueError(f"{path} holds no task of type {_TASK!r}, the only one that has RDMs")
    values, stimuli = _joined(names, vectors, ids, path)
    if _OURS in content:
        ours = Document(str(content[_OURS]), f"{_OURS!r} in {path}")
        coords = ours.coords_of(names, f"{_OURS!r} in {path}")
        seal = seal_of(content, f"the key {KEY!r}")
        return Parts(
            values, "row-major", stimuli, names, metric=ours.metric, coords=coords, attrs=ours.attrs, seal=seal
        )
    return Parts(values, "row-major", stimuli, names, fields={"stimuli": stimuli})


def write(rdms: xr.DataArray, path: Path) -> None:
    """Write JSON with one task per RDM."""
    if np.isnan(rdms.values).any():
        raise ValueError(
            "Meadows' JSON cannot hold unmeasured pairs (NaN); write netCDF, or select stimuli without them"
        )
    stimuli = [{"name": stimulus} for stimulus in rdms["stimulus"].values.tolist()]
    vectors = upper_triangles(rdms.values).tolist()
    tasks = [
        {"task": {"task_type": _TASK, "name": name}, "stimuli": stimuli, "rdm": vector}
        for name, vector in zip(rdms["rdm"].values.tolist(), vectors, strict=True)
    ]
    content = {"tasks": tasks, _OURS: to_document(rdms), KEY: checksum(rdms)}
    path.write_text(json.dumps(content, allow_nan=False), encoding="utf-8")


def _ids(value: Any, path: Path) -> list[str]:
    """Names of stimuli: a char matrix, or a cell array of strings."""
    if isinstance(value, np.ndarray) and value.dtype == object:
        value = [cell[0] if isinstance(cell, list) and len(cell) == 1 else cell for cell in value.flat]
    if not isinstance(value, list) or not all(isinstance(name, str) for name in value):
        raise ValueError(f"{path}: 'stimuli' is neither a char matrix nor a cell array of strings")
    return [str(name) for name in value]


def _numbers(given: Any) -> np.ndarray:
    if not isinstance(given, list) or not all(type(value) in (int, float) for value in given):  # nor bool, an int too
        raise TypeError("no list of numbers")
    return np.array(given, dtype=np.float64)


def _joined(
    names: list[str], vectors: list[np.ndarray], ids: list[list[str]], path: Path
) -> tuple[np.ndarray, list[str]]:
    """RDMs (rdms, pairs), or (rdms, n, n), of all stimuli that anyone arranged, joined by their names, and these.

    In the order of the first RDM's, then of first occurrence; NaN for the pairs that somebody did not arrange.
    """
    for name, vector, own in zip(names, vectors, ids, strict=True):
        if len(names) > 1 and vector.size != len(own) * (len(own) - 1) // 2:  # one alone is checked as any vector is
            raise ValueError(
                f"{path}: RDM {name!r} has {vector.size} pairs and {len(own)} stimuli, which have "
                f"{len(own) * (len(own) - 1) // 2}; download it again from Meadows"
            )
    if all(own == ids[0] for own in ids):
        return np.stack(vectors), ids[0]
    for name, own in zip(names, ids, strict=True):
        if copies := [stimulus for stimulus, times in Counter(own).items() if times > 1]:
            raise ValueError(
                f"{path}: RDM {name!r} has these stimuli more than once: {name_some(copies)}, so that it cannot be "
                "joined to the others by them; keep it in a file of its own"
            )
    stimuli = list(dict.fromkeys(stimulus for own in ids for stimulus in own))
    if same := alike(stimuli, case=True):
        raise ValueError(
            f"{path}: its RDMs name stimuli {same[0]!r} and {same[1]!r}, which differ in {difference(*same)} alone; "
            "give them one spelling, or keep each RDM in a file of its own"
        )
    place = {stimulus: row for row, stimulus in enumerate(stimuli)}
    squares = np.full((len(vectors), len(stimuli), len(stimuli)), np.nan)
    squares[:, range(len(stimuli)), range(len(stimuli))] = 0
    for square, vector, own in zip(squares, vectors, ids, strict=True):
        rows = [place[stimulus] for stimulus in own]
        square[np.ix_(rows, rows)] = to_squares(vector[None], len(own))[0]
    if partial := [name for name, own in zip(names, ids, strict=True) if len(own) < len(stimuli)]:
        warnings.warn(
            f"{path}: of {len(stimuli)} stimuli, not all are in RDM {name_some(partial)}; pairs that were not arranged "
            "are NaN",
            stacklevel=5,
        )
    return squares, stimuli
