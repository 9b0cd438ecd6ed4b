"""The tables of a fit's page: cells of text."""

import json
import math
from collections.abc import Iterator, Mapping
from typing import Any

import pandas as pd

from brainrdl.studies.reports.fit_files import FitFiles
from brainrdl.studies.reports.fit_findings import DIGITS
from brainrdl.studies.reports.fit_names import SCHEMES, SCORES, about_arm, arm_name, in_order
from brainrdl.studies.reports.paper_printed import Table
from brainrdl.studies.reports.words import as_text, count, flat, has_no_width, interval, number, p_value, signed_number

_MAX_TRIES = 400


def score_table(summary: pd.DataFrame, caption: str, note: str = "", *, folded: bool = False) -> Table:
    """Print all arms' scores of one setting.

    Parameters
    ----------
    summary : DataFrame
        Rows of ``summary.csv``, in the order in which arms are listed.
    caption, note : str
        Above and below the table.
    folded : bool
        Whether it is shown only when it is asked for.

    Returns
    -------
    Table
        Where all arms have one noise ceiling per score, it is the last row; else it stands in each cell.

    Examples
    --------
    >>> import pandas as pd
    >>> from brainrdl.studies.reports.fit_tables import score_table
    >>> line = {"arm": "rdl", "score": "raw", "value": 0.3, "low": 0.2, "high": 0.4, "task_error": 20.0}
    >>> score_table(pd.DataFrame([line | {"ceiling_lower": 0.5, "ceiling_upper": 0.6}]), "Scores").rows
    ((('RDL',), ('0.300', '[0.200,\xa00.400]'), ('20.00',)), (('noise ceiling',), ('0.500 to 0.600',), ('',)))
    """
    scores = [score for score in SCORES if (summary["score"] == score).any()]
    with_task = bool(summary["task_error"].notna().any())
    ceilings = {score: _ceilings(summary[summary["score"] == score]) for score in scores}
    shared = all(len(found) == 1 for found in ceilings.values())
    rows: list[tuple[tuple[str, ...], ...]] = []
    for arm in dict.fromkeys(map(str, summary["arm"])):
        lines = summary[summary["arm"] == arm]
        of = {line["score"]: line for line in _records(lines)}
        cells = [_score_cell(of[score], shared) if score in of else ("",) for score in scores]
        error = lines["task_error"].dropna()
        task = [(number(float(error.iloc[0])) if len(error) else "",)] if with_task else []
        rows.append(((arm_name(arm),), *cells, *task))
    if shared:
        ends = [next(iter(ceilings[score])) or "none of a single subject" for score in scores]
        rows.append((("noise ceiling",), *((end,) for end in ends), *([("",)] if with_task else [])))
    head = ("arm", *(SCORES[score] for score in scores), *(["task error, %"] if with_task else []))
    return Table(caption, head, tuple(rows), note, folded)


def contrast_table(contrasts: pd.DataFrame, caption: str, note: str = "", *, folded: bool = False) -> Table:
    """Print the differences of one setting.

    Parameters
    ----------
    contrasts : DataFrame
        Rows of ``contrasts.csv``.
    caption, note : str
        Above and below the table.
    folded : bool
        Whether it is shown only when it is asked for.

    Returns
    -------
    Table

    Examples
    --------
    >>> import pandas as pd
    >>> from brainrdl.studies.reports.fit_tables import contrast_table
    >>> line = {"a": "rdl", "b": "task_only", "score": "raw", "difference": 0.05, "low": 0.02, "high": 0.08}
    >>> contrast_table(pd.DataFrame([line | {"p": 0.002, "p_holm": 0.004}]), "Differences").rows
    ((('RDL − task only',), ('+0.050', '[+0.020,\xa0+0.080]', 'p .002, Holm .004')),)
    """
    scores = [score for score in SCORES if (contrasts["score"] == score).any()]
    rows = []
    for (a, b), lines in contrasts.groupby(["a", "b"], sort=False):
        of = {line["score"]: line for line in _records(lines)}
        cells = [_contrast_cell(of[score]) if score in of else ("",) for score in scores]
        rows.append(((f"{arm_name(str(a))} − {arm_name(str(b))}",), *cells))
    return Table(caption, ("difference", *(SCORES[score] for score in scores)), tuple(rows), note, folded)


def choice_tables(study: FitFiles) -> Iterator[Table]:
    """Print what was chosen in inner folds, and all tries.

    Parameters
    ----------
    study : FitFiles
        The study.

    Yields
    ------
    Table
        What was chosen in the primary setting; then, folded, what was in the others; then all tries of all settings.
    """
    if study.choices is None or study.choices.empty:
        return
    tries = study.choices.assign(told=[_format_cell(line) for line in _records(study.choices)])
    by = ["fitted_study", "scheme", "split", "arm", "layer", "told"]
    # inner splits averaged: a choice is one of settings, not of splits
    means = tries.groupby(by, sort=False).agg(
        value=("value", lambda values: values.mean(skipna=False)),
        task_error=("task_error", "mean"),
        chosen=("chosen", "any"),
    )
    means = means.reset_index()
    primary = study.primary
    for (fitted, scheme), part in means[means["chosen"]].groupby(["fitted_study", "scheme"], sort=False):
        here = (fitted, scheme) == (primary.fitted_study, primary.scheme)
        name = SCHEMES.get(str(scheme), str(scheme))
        note = (
            "Chosen by the mean score on the held-out stimuli of inner folds, which hold training stimuli of the outer "
            "split alone. The controls of RDL take over what was chosen for RDL."
        )
        yield _choice_table(part, f"Chosen when fitted to {fitted}, {name}", note if here else "", folded=not here)
    counted = means.groupby(["fitted_study", "scheme", "arm", "layer", "told"], sort=False).agg(
        value=("value", "mean"), task_error=("task_error", "mean"), chosen=("chosen", "sum"), n=("split", "nunique")
    )
    lines = _records(counted.reset_index())
    cells = tuple(
        (
            (arm_name(line["arm"]),),
            (f"{line['fitted_study']}, {SCHEMES.get(line['scheme'], line['scheme'])}",),
            (line["layer"],),
            (line["told"],),
            (number(line["value"], DIGITS),),
            (number(line["task_error"]),),
            (f"{line['chosen']} of {line['n']}",),
        )
        for line in lines[:_MAX_TRIES]
    )
    head = ("arm", "fitted to", "layer", "setting", "inner score", "task error, %", "chosen, splits")
    more = len(lines) > _MAX_TRIES
    note = "Means over inner and outer splits; an empty score is of a setting whose training died."
    note += f" The first {_MAX_TRIES} of them; all are in choices.csv." if more else ""
    yield Table(f"All {count(len(lines), 'setting')} that were tried", head, cells, note, folded=True)


def dropped_table(study: FitFiles) -> Iterator[Table]:
    """Print which controls were dropped, being constant on held-out pairs.

    Parameters
    ----------
    study : FitFiles
        The study.

    Yields
    ------
    Table
        None where none was.
    """
    dropped = study.manifest.get("dropped_controls", [])
    if dropped:
        rows = tuple(
            (
                (SCHEMES.get(str(one["scheme"]), str(one["scheme"])),),
                (str(one["split"]),),
                (", ".join(arm_name(str(name)) for name in one["controls"]),),
            )
            for one in dropped
        )
        yield Table(
            f"Controls that are constant on held-out pairs ({count(len(dropped), 'split')})",
            ("scheme", "split", "dropped from the partial score"),
            rows,
            folded=len(rows) > 6,
        )


def arm_table(study: FitFiles) -> Table:
    """Say what the arms are.

    Parameters
    ----------
    study : FitFiles
        The study.

    Returns
    -------
    Table
    """
    arms = in_order(study.summary["arm"])
    return Table("Arms", ("arm", "what it is"), tuple(((arm_name(arm),), (about_arm(arm),)) for arm in arms))


def manifest_table(study: FitFiles) -> Table:
    """Print the manifest.

    Parameters
    ----------
    study : FitFiles
        The study.

    Returns
    -------
    Table
    """
    apart = ("notes", "title", "dropped_controls")
    told = [pair for pair in flat(study.manifest) if pair[0].split(".")[0] not in apart]
    return Table("Manifest", ("field", "value"), tuple(((field,), (value,)) for field, value in told), folded=True)


def _choice_table(part: pd.DataFrame, caption: str, note: str, *, folded: bool) -> Table:
    rows = tuple(
        (
            (arm_name(line["arm"]),),
            (line["split"],),
            (line["layer"],),
            (line["told"],),
            (number(line["value"], DIGITS),),
            (number(line["task_error"]),),
        )
        for line in _records(part)
    )
    return Table(
        caption, ("arm", "split", "layer", "setting", "inner score", "task error, %"), rows, note, folded=folded
    )


def _format_cell(line: dict[str, Any]) -> str:
    """What was tried, in one line."""
    lengths = ("updates",) if line["arm"] == "frrsa" else ("updates", "steps")  # in closed form, without steps
    parts = [f"{as_text(line[key])} {key}" for key in lengths if _is(line[key])]
    if _is(line["alpha0"]):
        parts.insert(0, f"α {line['alpha0']:g}")
    if isinstance(line["setting"], str) and line["setting"]:
        try:
            setting = dict(flat(json.loads(line["setting"])))
        except ValueError:
            setting = {"": line["setting"]}
        parts = [f"{key} {value}".strip() for key, value in setting.items()] + parts
    return ", ".join(parts)


def _is(value: Any) -> bool:
    return not (isinstance(value, float) and math.isnan(value))


def _score_cell(row: Mapping[str, Any], shared: bool) -> tuple[str, ...]:
    if math.isnan(row["value"]):
        return ("–",)
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
    return list(dict.fromkeys(_ceiling(row) for row in _records(rows)))


def _ceiling(row: Mapping[str, Any]) -> str:
    if math.isnan(row["ceiling_lower"]):
        return ""
    return f"{number(row['ceiling_lower'], DIGITS)} to {number(row['ceiling_upper'], DIGITS)}"


def _records(table: pd.DataFrame) -> list[dict[str, Any]]:
    return [{str(key): value for key, value in line.items()} for line in table.to_dict("records")]
