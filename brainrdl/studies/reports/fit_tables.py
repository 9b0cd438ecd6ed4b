"""The tables of a fit's page: cells of text."""

import math
from collections.abc import Iterator, Mapping
from typing import Any

import pandas as pd

from brainrdl.studies.reports.fit_files import FitFiles
from brainrdl.studies.reports.methods import (
    FIT_ARMS,
    SCHEMES,
    SCORES,
    about_fit_arm,
    fit_arm_name,
    order_fit_arms,
    words_of,
)
from brainrdl.studies.reports.page import Cell, Table
from brainrdl.studies.reports.settings import DIGITS
from brainrdl.studies.reports.words import (
    count,
    flat,
    has_no_width,
    interval,
    number,
    p_value,
    records,
    signed_number,
    span_of,
)


def score_table(summary: pd.DataFrame, caption: str, note: str = "", *, folded: bool = False) -> Table:
    """Print all arms' scores of one setting, rows of ``summary.csv``, in the order in which arms are listed.

    Where all arms have one noise ceiling per score, it is the last row; else it stands in each cell.
    """
    scores = [score for score in SCORES if (summary["score"] == score).any()]
    # a ceiling depends on pairs and subjects, which arms may differ in
    ceilings = {score: {_ceiling(row) for row in records(summary[summary["score"] == score])} for score in scores}
    shared = all(len(found) == 1 for found in ceilings.values())
    rows: list[dict[str, Cell]] = []
    for arm, lines in summary.groupby("arm", sort=False):
        by_score = {line["score"]: _score_cell(line, shared) for line in records(lines)}
        # heads and given RDMs have no task
        error = next(iter(lines["task_error"].dropna()), None)
        cells = {SCORES[score]: by_score.get(score, "") for score in scores}
        rows.append({"arm": fit_arm_name(str(arm)), **cells, "task error, %": number(error)})
    if shared:
        ends = {SCORES[score]: next(iter(found)) or "none of a single subject" for score, found in ceilings.items()}
        rows.append({"arm": "noise ceiling", **ends, "task error, %": ""})
    return Table.of(caption, rows, note, optional=["task error, %"], folded=folded)


def contrast_table(contrasts: pd.DataFrame, caption: str, note: str = "") -> Table:
    """Print the differences of one setting: rows of ``contrasts.csv``."""
    scores = [score for score in SCORES if (contrasts["score"] == score).any()]
    rows = []
    for (a, b), lines in contrasts.groupby(["a", "b"], sort=False):
        by_score = {line["score"]: _contrast_cell(line) for line in records(lines)}
        rows.append(
            [f"{fit_arm_name(str(a))} − {fit_arm_name(str(b))}", *(by_score.get(score, "") for score in scores)]
        )
    return Table(caption, ("difference", *(SCORES[score] for score in scores)), rows, note)


def dropped_table(study: FitFiles) -> Iterator[Table]:
    """Print which controls were dropped, being constant on held-out pairs; nothing where none was."""
    rows = [
        (
            SCHEMES.get(str(entry["scheme"]), str(entry["scheme"])),
            str(entry["split"]),
            ", ".join(fit_arm_name(str(name)) for name in entry["controls"]),
        )
        for entry in study.manifest.get("dropped_controls", [])
    ]
    if rows:
        caption = f"Controls that are constant on held-out pairs ({count(len(rows), 'split')})"
        head = ("scheme", "split", "dropped from the partial score")
        yield Table(caption, head, rows, folded=len(rows) > 6)


def arm_table(study: FitFiles) -> Table:
    """Say what the arms are."""
    words = words_of(study.manifest, FIT_ARMS)
    rows = [(fit_arm_name(arm), about_fit_arm(arm, words)) for arm in order_fit_arms(study.summary["arm"])]
    return Table("Arms", ("arm", "what it is"), rows)


def manifest_table(study: FitFiles) -> Table:
    """Print the manifest, folded."""
    # shown as text, heading and table of their own
    apart = ("notes", "title", "dropped_controls", "arms")
    rows = [pair for pair in flat(study.manifest) if pair[0].split(".")[0] not in apart]
    return Table("Manifest", ("field", "value"), rows, _precision(study), folded=True)


def _precision(study: FitFiles) -> str:
    """Say in which precision networks were trained, and why `brainrdl reproduce` may have another."""
    precision = study.manifest.get("precision")
    if precision is None:
        return ""
    trained = {"32-true": "float32", "bf16-mixed": "bf16"}.get(str(precision), str(precision))
    return (
        f"Networks were trained in {trained}, distances, heads and scores computed in full precision. brainrdl fit "
        "uses bf16 for speed if the processor supports it, since all networks that it compares are trained in the "
        "same way; brainrdl reproduce uses float32 for digits and MNIST, whose errors are compared with published ones."
    )


def _score_cell(row: Mapping[str, Any], shared: bool) -> Cell:
    if math.isnan(row["value"]):
        return "–"
    # without width it would claim certainty
    spread = interval(row["low"], row["high"], digits=DIGITS)
    if not math.isnan(row["low"]) and has_no_width(row["low"], row["high"]):
        spread = "does not vary"
    ceiling = "" if shared or not _ceiling(row) else f"ceiling {_ceiling(row)}"
    return tuple(line for line in (number(row["value"], DIGITS), spread, ceiling) if line)


def _contrast_cell(row: Mapping[str, Any]) -> Cell:
    if math.isnan(row["difference"]):
        return "–"
    lines = [signed_number(row["difference"], DIGITS), interval(row["low"], row["high"], signed=True, digits=DIGITS)]
    if not math.isnan(row["p"]):
        holm = "" if math.isnan(row["p_holm"]) else f", Holm {p_value(row['p_holm'])}"
        lines.append(f"p {p_value(row['p'])}{holm}")
    return tuple(line for line in lines if line)


def _ceiling(row: Mapping[str, Any]) -> str:
    return span_of(row["ceiling_lower"], row["ceiling_upper"], DIGITS)
