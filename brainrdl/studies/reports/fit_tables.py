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
from brainrdl.studies.reports.page import Table
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
    """Print all arms' scores of one setting: rows of ``summary.csv``, in the order in which arms are listed.

    Where all arms have one noise ceiling per score, it is the last row; else it stands in each cell.
    """
    scores = [score for score in SCORES if (summary["score"] == score).any()]
    with_task = bool(summary["task_error"].notna().any())
    # a ceiling depends on pairs and subjects, which arms may differ in
    ceilings = {score: _ceilings(summary[summary["score"] == score]) for score in scores}
    shared = all(len(found) == 1 for found in ceilings.values())
    rows: list[tuple[tuple[str, ...], ...]] = []
    for arm in dict.fromkeys(map(str, summary["arm"])):
        lines = summary[summary["arm"] == arm]
        by_score = {line["score"]: line for line in records(lines)}
        cells = [_score_cell(by_score[score], shared) if score in by_score else ("",) for score in scores]
        # heads and given RDMs have no task
        error = lines["task_error"].dropna()
        task = [(number(float(error.iloc[0])) if len(error) else "",)] if with_task else []
        rows.append(((fit_arm_name(arm),), *cells, *task))
    if shared:
        ends = [next(iter(ceilings[score])) or "none of a single subject" for score in scores]
        rows.append((("noise ceiling",), *((end,) for end in ends), *([("",)] if with_task else [])))
    head = ("arm", *(SCORES[score] for score in scores), *(["task error, %"] if with_task else []))
    return Table(caption, head, tuple(rows), note, folded)


def contrast_table(contrasts: pd.DataFrame, caption: str, note: str = "", *, folded: bool = False) -> Table:
    """Print the differences of one setting: rows of ``contrasts.csv``."""
    scores = [score for score in SCORES if (contrasts["score"] == score).any()]
    rows = []
    for (a, b), lines in contrasts.groupby(["a", "b"], sort=False):
        by_score = {line["score"]: line for line in records(lines)}
        cells = [_contrast_cell(by_score[score]) if score in by_score else ("",) for score in scores]
        rows.append(((f"{fit_arm_name(str(a))} − {fit_arm_name(str(b))}",), *cells))
    return Table(caption, ("difference", *(SCORES[score] for score in scores)), tuple(rows), note, folded)


def dropped_table(study: FitFiles) -> Iterator[Table]:
    """Print which controls were dropped, being constant on held-out pairs; nothing where none was."""
    dropped = study.manifest.get("dropped_controls", [])
    if dropped:
        rows = tuple(
            (
                (SCHEMES.get(str(entry["scheme"]), str(entry["scheme"])),),
                (str(entry["split"]),),
                (", ".join(fit_arm_name(str(name)) for name in entry["controls"]),),
            )
            for entry in dropped
        )
        yield Table(
            f"Controls that are constant on held-out pairs ({count(len(dropped), 'split')})",
            ("scheme", "split", "dropped from the partial score"),
            rows,
            folded=len(rows) > 6,
        )


def arm_table(study: FitFiles) -> Table:
    """Say what the arms are."""
    words = words_of(study.manifest, FIT_ARMS)
    rows = tuple(((fit_arm_name(arm),), (about_fit_arm(arm, words),)) for arm in order_fit_arms(study.summary["arm"]))
    return Table("Arms", ("arm", "what it is"), rows)


def manifest_table(study: FitFiles) -> Table:
    """Print the manifest, folded."""
    # shown as text, heading and table of their own
    apart = ("notes", "title", "dropped_controls", "arms")
    rows = [pair for pair in flat(study.manifest) if pair[0].split(".")[0] not in apart]
    return Table("Manifest", ("field", "value"), tuple(((field,), (value,)) for field, value in rows), folded=True)


def _score_cell(row: Mapping[str, Any], shared: bool) -> tuple[str, ...]:
    if math.isnan(row["value"]):
        return ("–",)
    # without width it would claim certainty
    spread = interval(row["low"], row["high"], digits=DIGITS)
    if not math.isnan(row["low"]) and has_no_width(row["low"], row["high"]):
        spread = "does not vary"
    lines = [number(row["value"], DIGITS), spread]
    if not shared:
        lines.append(f"ceiling {_ceiling(row)}" if _ceiling(row) else "")
    return tuple(line for line in lines if line)


def _contrast_cell(row: Mapping[str, Any]) -> tuple[str, ...]:
    if math.isnan(row["difference"]):
        return ("–",)
    lines = [signed_number(row["difference"], DIGITS), interval(row["low"], row["high"], signed=True, digits=DIGITS)]
    if not math.isnan(row["p"]):
        holm = "" if math.isnan(row["p_holm"]) else f", Holm {p_value(row['p_holm'])}"
        lines.append(f"p {p_value(row['p'])}{holm}")
    return tuple(line for line in lines if line)


def _ceilings(rows: pd.DataFrame) -> list[str]:
    return list(dict.fromkeys(_ceiling(row) for row in records(rows)))


def _ceiling(row: Mapping[str, Any]) -> str:
    return span_of(row["ceiling_lower"], row["ceiling_upper"], DIGITS)
