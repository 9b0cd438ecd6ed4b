"""The tables of a report as they are printed: cells of text."""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import pandas as pd

from brainrdl.studies.reports.methods import (
    ABOUT_ARMS,
    ABOUT_TEACHERS,
    ARM_NAMES,
    arm_name,
    kinds_of,
    method_name,
    teacher_name,
)
from brainrdl.studies.reports.paper_files import StudyFiles
from brainrdl.studies.reports.paper_tables import UNTRIED
from brainrdl.studies.reports.words import (
    as_text,
    capital,
    count,
    duration,
    flat,
    number,
    p_value,
    share,
    signed_number,
    with_interval,
)


@dataclass(frozen=True)
class Table:
    """A table as a report prints it.

    Attributes
    ----------
    caption : str
        What stands above it.
    head : tuple of str
        Names of the columns.
    rows : tuple of tuple of tuple of str
        A row is its cells, a cell is its lines.
    note : str
        What stands below it.
    folded : bool
        Whether it is shown only when it is asked for.
    kind : str
        Tells it from a picture.
    """

    caption: str
    head: tuple[str, ...]
    rows: tuple[tuple[tuple[str, ...], ...], ...]
    note: str = ""
    folded: bool = False
    kind: Literal["table"] = "table"


def errors(table: pd.DataFrame, caption: str, note: str = "", *, tested: bool = False) -> Table:
    """Print what `error_table` says, or `labels_table` of one number of labels.

    Parameters
    ----------
    table : DataFrame
        What it says.
    caption, note : str
        Above and below the table.
    tested : bool
        Whether it holds McNemar's tests against the baseline.

    Returns
    -------
    Table
        Without the columns of paired intervals, tests, validation and published errors where there are none. Where
        methods have different baselines, each difference names its own.

    Examples
    --------
    >>> import pandas as pd
    >>> from brainrdl.studies.reports.paper_printed import errors
    >>> line = {"method": "plain", "n_seeds": 1, "baseline": "", "test_error": 3.4}
    >>> line |= {"standard_error": 0.4, "validation_error": 3.5}
    >>> unknown = ["low", "high", "difference", "crossed_low", "crossed_high", "paired_low", "paired_high"]
    >>> errors(pd.DataFrame([line | dict.fromkeys(unknown, float("nan"))]), "Test errors").rows
    ((('plain',), ('1',), ('3.40',), ('',), ('0.40',), ('3.50',)),)
    """
    several = bool(set(table["baseline"]) - {"", "plain"})
    to = f"difference to {'the baseline' if several else 'plain'}, points"
    head = ["method", "seeds", "test error, %", to, "paired t over seeds", "McNemar p"]
    head += ["binomial SE", "validation error, %", "paper, %"]
    shown = dict.fromkeys(head, True) | {
        "paired t over seeds": bool(table["paired_low"].notna().any()),
        "McNemar p": tested,
        "validation error, %": bool(table["validation_error"].notna().any()),
        "paper, %": "paper" in table and bool(table["paper"].notna().any()),
    }
    rows = []
    for line in _records(table):
        untested = math.isnan(line.get("p", math.nan))
        cells = (
            (str(line["method"]),),
            (str(line["n_seeds"]),),
            with_interval(number(line["test_error"]), line["low"], line["high"], flat="all seeds equal"),
            (
                *with_interval(
                    signed_number(line["difference"]),
                    line["crossed_low"],
                    line["crossed_high"],
                    signed=True,
                    flat="the same images",
                ),
                *([f"to {arm_name(line['baseline'])}"] if several and line["baseline"] else []),
            ),
            with_interval("", line["paired_low"], line["paired_high"], signed=True, flat="the same in each"),
            ("",) if untested else (p_value(line["p"]), f"{line['b']:.0f} : {line['c']:.0f}"),
            (number(line["standard_error"]),),
            (number(line["validation_error"]),),
            (number(line.get("paper", math.nan)),),
        )
        rows.append(tuple(cell for cell, name in zip(cells, head, strict=True) if shown[name]))
    return Table(caption, tuple(name for name in head if shown[name]), tuple(rows), note)


def matrix(table: pd.DataFrame, runs: pd.DataFrame, caption: str) -> Table:
    """Print what `mcnemar_table` says: ours above the diagonal, the paper's below.

    Parameters
    ----------
    table : DataFrame
        What it says.
    runs : DataFrame
        The runs that it compares, one per method.
    caption : str
        Above the table.

    Returns
    -------
    Table
    """
    methods = [
        (method_name(arm, teacher), arm_name(arm)) for arm, teacher in zip(runs["arm"], runs["teacher"], strict=True)
    ]
    place = {name: k for k, (name, _) in enumerate(methods)}
    cells: list[list[tuple[str, ...]]] = [
        [("–",) if i == j else ("",) for j in range(len(methods))] for i in range(len(methods))
    ]
    for line in _records(table):
        i, j = place[line["first"]], place[line["second"]]
        arrow = {"": "", line["first"]: " ←", line["second"]: " ↑"}
        cells[i][j] = (
            p_value(line["p"]) + arrow[line["better"]],
            f"Holm {p_value(line['holm'])}",
            f"{line['b']} : {line['c']}",
        )
        if not math.isnan(line["paper_p"]):
            # below the diagonal rows and columns are swapped, and so are the arrows
            back = {"": "", line["first"]: " ↑", line["second"]: " ←"}
            cells[j][i] = (f"{line['paper_p']:.2f}".removeprefix("0") + back[line["paper_better"]],)
    rows = tuple(((name,), *cells[i]) for i, (_, name) in enumerate(methods))
    return Table(caption, ("", *(name for _, name in methods)), rows)


def geometry(table: pd.DataFrame) -> Iterator[Table]:
    """Print what `geometry_table` says, for each number of labels and kind of teacher.

    Parameters
    ----------
    table : DataFrame
        What it says.

    Yields
    ------
    Table
        Folded where it is about few labels, and one about all labels stands beside it.
    """
    for _, part in table.groupby(["labels", "teacher"], dropna=False, sort=False):
        kind, labels = str(part["teacher"].iloc[0]), float(part["labels"].iloc[0])
        layers = list(dict.fromkeys(part["layer"]))
        rows = []
        for method, lines in part.groupby("method", sort=False):
            at = {line["layer"]: line for line in _records(lines)}
            rows.append(((str(method),), *(_geometry_cell(at.get(layer), str(method)) for layer in layers)))
        few = not math.isnan(labels)
        caption = capital(f"{teacher_name(kind)}{f', {labels:,.0f} labelled images' if few else ''}")
        fold = few and bool(table["labels"].isna().any())
        yield Table(caption, ("method", *layers), tuple(rows), folded=fold)


def tries(table: pd.DataFrame) -> Iterator[Table]:
    """Print what `tries_table` says.

    Parameters
    ----------
    table : DataFrame
        What it says.

    Yields
    ------
    Table
        What was chosen; then all candidates, folded.
    """
    with_labels = bool(table["labels"].notna().any())
    head = ["method", *(["labels"] if with_labels else []), "setting", "validation error, %", "validation loss"]

    def start(line: Mapping[str, Any]) -> list[tuple[str, ...]]:
        labels = ("all",) if math.isnan(line["labels"]) else (f"{line['labels']:,.0f}",)
        return [(str(line["method"]),), *([labels] if with_labels else []), (str(line["setting"]),)]

    def end(line: Mapping[str, Any]) -> list[tuple[str, ...]]:
        if line["note"]:
            return [(str(line["note"]),), ("",)]
        return [(number(line["validation_error"]),), (number(line["validation_loss"], 4),)]

    lines = _records(table)
    chosen = tuple(tuple(start(line) + end(line)) for line in lines if line["chosen"])
    if (table["note"] != UNTRIED).any():
        note = (
            "Chosen by validation error, then validation loss; the test set was not used. Each choice was made once "
            "and serves all seeds; where a kind of teacher is named, the choice was made with it and serves the "
            "others, too."
        )
        yield Table("What was chosen on validation", tuple(head), chosen, note)
    else:
        yield Table("What was taken without trying", tuple(head), chosen, "Nothing was chosen: no method had a rival.")
    yield Table(
        f"All {count(len(lines), 'candidate')}",
        (*head, "chosen", "time"),
        tuple(
            (*start(line), *end(line), ("✓" if line["chosen"] else "",), (duration(line["seconds"]),)) for line in lines
        ),
        folded=True,
    )


def settings(table: pd.DataFrame) -> Table:
    """Print what `settings_table` says.

    Parameters
    ----------
    table : DataFrame
        What it says.

    Returns
    -------
    Table
        Updates are told where students have few labels.
    """
    few = bool(table["labels"].notna().any())
    head = ["method", *(["labels"] if few else []), "learning rate", "weight decay", "α₀", "chosen among", "epochs"]
    rows = []
    for line in _records(table):
        labels = ("all",) if math.isnan(line["labels"]) else (f"{line['labels']:,.0f}",)
        origin = [f"as {arm_name(line['inherited_from'])}"] if line["inherited_from"] else []
        times = [f"× {line['factor']:g}"] if line["factor"] != 1 else []
        updates = ("",) if math.isnan(line["labels"]) else (f"{line['updates']:,}",)
        cells = [
            (str(line["method"]),),
            *([labels] if few else []),
            (f"{line['learning_rate']:g}", *(" ".join((*origin, *times)),) * bool(origin or times)),
            (f"{line['weight_decay']:g}", *origin),
            _alpha_cell(line),
            _chosen_cell(line),
            (
                f"{line['epochs']}",
                *([f"{line['hint_epochs']} of them for the hint"] if line["hint_epochs"] else []),
            ),
            *([updates] if few else []),
        ]
        rows.append(tuple(cells))
    note = (
        "Learning rate and weight decay at the start, of the first seed's run; “as” names the method whose choice it "
    )
    note += "took over. "
    if table["relative"].any():
        note += (
            "RDL's α₀ is relative: in each layer it is divided by the squared mean distance of the teacher's RDM, and "
            "what comes out in the first epoch is told below it. "
        )
    if (table["tried_epochs"] < table["epochs"]).any():
        note += "Candidates were trained for fewer epochs than the runs. "
    if few:
        note += "With few labels an epoch is a share of the updates, of which every run has the same number. "
    return Table("What each method was trained with", (*head, *(["updates"] if few else [])), tuple(rows), note.strip())


def key(networks: pd.DataFrame) -> Iterator[Table]:
    """Say what the methods and the kinds of teacher are.

    Parameters
    ----------
    networks : DataFrame
        A study's runs.

    Yields
    ------
    Table
        The methods; then the teachers, where there are any.

    Examples
    --------
    >>> import pandas as pd
    >>> from brainrdl.studies.reports.paper_printed import key
    >>> [table.rows for table in key(pd.DataFrame({"arm": ["plain"], "teacher": [""]}))]
    [((('plain',), ('The network trained on the task alone.',)),)]
    """
    arms = [arm for arm in ARM_NAMES if (networks["arm"] == arm).any()]
    yield Table("Methods", ("method", "what it is"), tuple(((arm_name(a),), (ABOUT_ARMS[a],)) for a in arms))
    kinds = [kind for kind in kinds_of(networks) if kind in ABOUT_TEACHERS]
    if kinds:
        yield Table("Teachers", ("teacher", "what it is"), tuple(((k,), (ABOUT_TEACHERS[k],)) for k in kinds))


def manifest(study: StudyFiles) -> Iterator[Table]:
    """Print the manifest, and all runs.

    Parameters
    ----------
    study : StudyFiles
        The study.

    Yields
    ------
    Table
        The calls of the command, where they are told; manifest and runs, folded.
    """
    if study.calls:
        columns = list(dict.fromkeys(str(column) for call in study.calls for column in call))
        yield Table(
            "Calls of the command",
            ("", *("time" if _is_time(column) else column.replace("_", " ") for column in columns)),
            tuple(
                ((str(k + 1),), *((_format_cell(call.get(c), c),) for c in columns))
                for k, call in enumerate(study.calls)
            ),
        )
    apart = ("notes", "classes", "title", "calls")
    told = [(field, value) for field, value in flat(study.manifest) if field.split(".")[0] not in apart]
    classes = ", ".join(str(name) for name in study.manifest.get("classes", ()))
    rows = [*told, *([("classes", classes)] if classes else [])]
    yield Table("Manifest", ("field", "value"), tuple(((k,), (v,)) for k, v in rows), folded=True)
    columns = ["row", "train_size", "labels", "teacher_size", "teacher_seed", "alpha0", "epochs", "updates"]
    columns += ["validation_error", "test_error", "device", "precision"]
    yield Table(
        f"All {count(len(study.results), 'run')}",
        (*(column.replace("_", " ").replace("alpha0", "α₀") for column in columns), "time"),
        tuple(
            (*((as_text(line[column]),) for column in columns), (duration(line["seconds"]),))
            for line in _records(study.results)
        ),
        folded=True,
    )


def _alpha_cell(line: Mapping[str, Any]) -> tuple[str, ...]:
    if math.isnan(line["alpha0"]):
        return ("",)
    alphas = line["alphas"] if line["relative"] else {}
    return (
        f"{line['alpha0']:g}{', relative' if line['relative'] else ''}",
        *(f"{layer} {alpha:.3g}" for layer, alpha in alphas.items()),
    )


def _chosen_cell(line: Mapping[str, Any]) -> tuple[str, ...]:
    if not line["n_tried"]:
        return ("not tried",)
    told = [count(line["n_tried"], "candidate")]
    if line["tried_teacher"]:
        told.append(f"with {teacher_name(line['tried_teacher'])}")
    if not math.isnan(line["tried_labels"]):
        told.append(f"at {line['tried_labels']:,.0f} labels")
    return (*told, f"{count(int(line['tried_epochs']), 'epoch')} each")


def _format_cell(value: Any, column: str) -> str:
    """A field of a call; durations in the unit that suits them."""
    if value is None:
        return ""
    if isinstance(value, float | int) and _is_time(column):
        return duration(float(value))
    return as_text(value) if not isinstance(value, list | dict) else ", ".join(text for _, text in flat(value))


def _is_time(column: str) -> bool:
    return "seconds" in column or "duration" in column


def _geometry_cell(line: Mapping[str, Any] | None, method: str) -> tuple[str, ...]:
    if line is None:
        return ("",)
    told = [f"{line['e_aux']:#.3g}" + (" ▼" if line["below"] else "")]
    if method != arm_name("plain") and not math.isnan(line["ratio"]):
        told.append(f"{share(line['ratio'])}, {line['n_below']} of {count(line['n_shared'], 'seed')}")
    return (*told, f"r {number(line['correlation'])}")


def _records(table: pd.DataFrame) -> list[dict[str, Any]]:
    return [{str(key): value for key, value in line.items()} for line in table.to_dict("records")]
