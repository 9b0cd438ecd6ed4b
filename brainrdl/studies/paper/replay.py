"""One row of a ``results.json`` again, from scratch: ``brainrdl reproduce --replay``."""

import dataclasses
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from brainrdl.files.store import check_json, read_json, write_json
from brainrdl.identity import differences
from brainrdl.inference.trainings import binomial_standard_error
from brainrdl.studies.folder import claimed
from brainrdl.studies.paper.recipe import Recipe, recipe_from
from brainrdl.studies.paper.runs import StudyRuns
from brainrdl.studies.paper.score import write_results
from brainrdl.studies.paper.study import Request, Row, Study, check, frozen
from brainrdl.training.machine import open_fabric, use_threads

_ASKED = (
    *("labels", "limit_train", "limit_teacher", "train_size", "test_limit", "one_teacher", "tries", "alphas"),
    "precision",
)
_LINE = ("row", "arm", "seed", "teacher", "labels", "weights", "test_error", "device", "threads", "died")


@dataclass(frozen=True)
class Recorded:
    """A row as it was recorded."""

    row: Row
    recipe: Recipe
    asked: dict[str, Any]  # by fields of a Request: those that change a result
    choices: dict[str, list[Any]]  # tries by folder of an arm's tries
    data: dict[str, str]  # checksums
    weights: str  # SHA-256 of the trained network
    test_error: float  # in percent
    made_on: str  # device and threads
    threads: int  # with which it comes out again bitwise


def replay(study: Study, source: Path, row_name: str, request: Request, *, log: Callable[[str], None] = print) -> bool:
    """Repeat one row of a ``results.json``, `source`, from scratch; True if it came out again.

    Of the request only where the data are and where to work counts, the rest comes from the file. ValueError as
    `read_row`, or if the row was made from other data.
    """
    # to come out again: bitwise the same weights and test error, or a test error within 3 binomial standard errors
    recorded = read_row(source, row_name, study.name)
    use_threads(request.threads or recorded.threads)
    if request.out.exists() and any(request.out.iterdir()):
        raise ValueError(f"{request.out} is not empty; a row is repeated from scratch, so give another out=")
    request = dataclasses.replace(request, out=request.out.resolve(), **recorded.asked)
    splits = study.load(request)
    if splits.checksums != recorded.data:
        raise ValueError(
            f"{source} was made from other data: {'; '.join(differences(recorded.data, splits.checksums))}"
        )
    check(study, recorded.recipe, request, splits, [recorded.row])
    fabric = open_fabric(request.device, request.precision or study.precision)
    with claimed(request.out, frozen(study, recorded.recipe, request, splits, fabric)):
        # with the choices in place nothing is tried again, only trained
        for name, entries in recorded.choices.items():
            write_json(entries, request.out / "tries" / name / "choice.json")
        on_device = splits.on(fabric.device, request.test_limit)
        runs = StudyRuns(study, recorded.recipe, on_device, request, fabric, log=log)
        run = runs.run(recorded.row)
        now = float(write_results(runs, [recorded.row]).iloc[0]["test_error"])
    log(f"{row_name}: test error {recorded.test_error:.2f} % recorded, {now:.2f} % now")
    if run.record["weights"] == recorded.weights:
        same = abs(now - recorded.test_error) < 1e-9
        log("bitwise the same weights" + ("" if same else f", but another test error; {source} has been changed"))
        return same
    # another processor, or another number of threads: weights differ, and with them a few images
    error = binomial_standard_error(recorded.test_error, len(splits.test()))
    near = abs(now - recorded.test_error) <= 3 * error
    bound = f"{3 * error:.2f} points"
    verdict = f"agree within 3 binomial standard errors ({bound})" if near else f"differ by more than {bound}"
    log(f"other weights (recorded on {recorded.made_on}); test errors {verdict}")
    return near


def read_row(source: Path, name: str, study: str) -> Recorded:
    """Read a row of a study's ``results.json``.

    ValueError if the file is damaged, lacks a field, is of another study or has no such row, or the row's run diverged.
    """
    fields = ("study", "recipe", "request", "choices", "data", "rows")
    file = read_json(source, dict, fields, remedy="restore it, or name another one")
    if file["study"] != study:
        raise ValueError(f"{source} is of the {file['study']!r} study, not of {study!r}")
    asked = check_json(file["request"], dict, _ASKED, f"the request in {source}")
    rows = check_json(file["rows"], list, (), f"'rows' in {source}")
    by_name = {line["row"]: line for line in (check_json(line, dict, ("row",), f"a row in {source}") for line in rows)}
    if name not in by_name:
        raise ValueError(f"{source} has no row {name!r}; it has: {', '.join(by_name)}")
    line = check_json(by_name[name], dict, _LINE, f"the row {name!r} in {source}")
    if line["died"] or line["test_error"] is None:
        others = ", ".join(other for other, record in by_name.items() if not record.get("died"))
        raise ValueError(
            f"{name} diverged ({line['died']}), so {source} has no test error to reproduce; repeat one of: {others}"
        )
    choices = check_json(file["choices"], dict, (), f"'choices' in {source}")
    for choice in choices:  # they become names of folders
        if not re.fullmatch(r"[a-z0-9_-]+", choice):
            raise ValueError(f"{source} names a choice {choice!r}, which is not the name of an arm")
    try:
        recipe = recipe_from(check_json(file["recipe"], dict, (), "the recipe"))
    except ValueError as error:
        raise ValueError(f"{source}: {error}") from error
    return Recorded(
        row=Row(line["arm"], line["seed"], line["teacher"] or "", line["labels"]),
        recipe=recipe,
        asked={field: tuple(asked[field]) if isinstance(asked[field], list) else asked[field] for field in _ASKED},
        choices=choices,
        data=check_json(file["data"], dict, (), f"'data' in {source}"),
        weights=line["weights"],
        test_error=line["test_error"],
        made_on=f"{line['device']} with {line['threads']} threads",
        threads=line["threads"],
    )
