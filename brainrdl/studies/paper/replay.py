"""One row of a ``results.json``, with all that repeating it needs."""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from brainrdl.files import check_json, read_json
from brainrdl.studies.paper.recipe import Recipe, recipe_from
from brainrdl.studies.paper.study import Row

_ASKED = (
    *("labels", "limit_train", "limit_teacher", "train_size", "test_limit", "one_teacher", "tries", "alphas"),
    "precision",
)
_LINE = ("row", "arm", "seed", "teacher", "labels", "weights", "test_error", "device", "threads", "died")


@dataclass(frozen=True)
class Recorded:
    """A row as it was recorded.

    Attributes
    ----------
    row : Row
        The run.
    recipe : Recipe
        The study's.
    asked : dict
        What was asked for, by fields of a Request: those that change a result.
    choices : dict of list
        The settings tried, by folder of an arm's tries.
    data : dict of str
        Checksums.
    weights : str
        The trained network's SHA-256.
    test_error : float
        In percent.
    made_on : str
        Device and threads.
    """

    row: Row
    recipe: Recipe
    asked: dict[str, Any]
    choices: dict[str, list[Any]]
    data: dict[str, str]
    weights: str
    test_error: float
    made_on: str


def read_row(source: Path, name: str, study: str) -> Recorded:
    """Read a row of a study's ``results.json``.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    ValueError
        If the file is damaged, lacks a field, is of another study or has no such row, or if the row's run died.
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
        others = ", ".join(other for other, one in by_name.items() if not one.get("died"))
        raise ValueError(
            f"{name} died in training ({line['died']}), so {source} has no test error of it to come out again; repeat "
            f"one of: {others}"
        )
    choices = check_json(file["choices"], dict, (), f"'choices' in {source}")
    for choice in choices:
        if not re.fullmatch(r"[a-z0-9_-]+", choice):
            raise ValueError(f"{source} names a choice {choice!r}, which is no name of an arm")
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
    )
