"""The sentences of a fit's page that are made from its numbers."""

import pandas as pd

from brainrdl.studies.reports.fit_files import FitFiles, at
from brainrdl.studies.reports.fit_names import METHODS, SCHEMES, SCORES, arm_name
from brainrdl.studies.reports.verdict import RIVALS, Verdict, judge
from brainrdl.studies.reports.words import capital, count, interval, number, signed_number

_CONTROLS = {"rdl_category": "category target", "rdl_within_shuffle": "within-category shuffle"}

DIGITS = 3
"""Decimals of scores."""


def verdict_of(study: FitFiles) -> Verdict:
    """Judge the primary contrast of a study.

    Parameters
    ----------
    study : FitFiles
        The study.

    Returns
    -------
    Verdict
    """
    return judge(at(study.contrasts, study.primary), *study.pair)


def verdict_sentence(study: FitFiles) -> str:
    """Say what came out: the verdict, and why it is no more than that.

    Parameters
    ----------
    study : FitFiles
        The study.

    Returns
    -------
    str
    """
    found = verdict_of(study)
    why = f": {'; '.join(found.reasons)}" if found.reasons else ""
    return f"{found.words}{why}."


def summary(study: FitFiles) -> str:
    """Say what was compared.

    Parameters
    ----------
    study : FitFiles
        The study.

    Returns
    -------
    str
    """
    setting, (a, b) = study.primary, study.pair
    here = at(study.summary, setting)
    of_a = here[here["arm"] == a].iloc[0] if (here["arm"] == a).any() else here.iloc[0]
    same = setting.scored_study == setting.fitted_study
    where = "the same study" if same else f"another study, {setting.scored_study}"
    people = count(int(of_a["n_subjects"]), "subject")
    return (
        f"The primary contrast, fixed before anything was scored: {arm_name(a)} minus {arm_name(b)}, fitted to "
        f"{setting.fitted_study}, scored on held-out stimuli in {where} ({people}), "
        f"{SCHEMES.get(setting.scheme, setting.scheme)} ({of_a['n_folds']:.0f}), "
        f"{METHODS.get(setting.method, setting.method)}, {count(int(of_a['n_seeds']), 'seed')}. "
        f"{interval_unit(here)}"
    )


def interval_unit(rows: pd.DataFrame) -> str:
    """Say what the intervals of a setting speak of.

    Parameters
    ----------
    rows : DataFrame
        Of ``summary.csv``: column ``over``.

    Returns
    -------
    str

    Examples
    --------
    >>> import pandas as pd
    >>> from brainrdl.studies.reports.fit_findings import interval_unit
    >>> interval_unit(pd.DataFrame({"over": ["stimuli"]}))[:76]
    'Brackets are 95 % intervals over stimuli, drawn with replacement within each'
    """
    return (
        f"Brackets are 95 % intervals over {format_drawn(rows)}. Seeds are averaged inside, so that the intervals are "
        "conditional on the fitted networks."
    )


def format_drawn(rows: pd.DataFrame) -> str:
    """Say what was drawn with replacement for the intervals of a setting.

    Parameters
    ----------
    rows : DataFrame
        Of ``summary.csv``: column ``over``.

    Returns
    -------
    str

    Examples
    --------
    >>> import pandas as pd
    >>> from brainrdl.studies.reports.fit_findings import spell_drawn
    >>> spell_drawn(pd.DataFrame({"over": ["both"]}))
    'stimuli and subjects, both drawn with replacement'
    """
    units = {
        "stimuli": "stimuli, drawn with replacement within each split; they say nothing about other subjects",
        "subjects": "subjects, drawn with replacement; they say nothing about other stimuli",
        "both": "stimuli and subjects, both drawn with replacement",
    }
    return " or ".join(units.get(str(over), str(over)) for over in dict.fromkeys(rows["over"]))


def findings(study: FitFiles) -> list[str]:
    """Say the primary contrast in all scores beside its controls, whatever its sign, and what it cost the task.

    Parameters
    ----------
    study : FitFiles
        The study.

    Returns
    -------
    list of str
    """
    a, b = study.pair
    contrasts, here = at(study.contrasts, study.primary), at(study.summary, study.primary)
    told = []
    for score, name in SCORES.items():
        gain = _difference(contrasts, a, b, score)
        if score == "partial" and not (here["score"] == score).any():
            told.append(f"{capital(name)}: not scored, since the study names no control RDMs.")
            continue
        if not gain:
            told.append(f"{capital(name)}: the contrast is not in contrasts.csv.")
            continue
        levels = [_value(here, arm, score) for arm in (a, b)]
        text = f"{capital(name)}: {arm_name(a)} {levels[0]}, {arm_name(b)} {levels[1]}, difference {gain}"
        text += _ceiling(here, a, score)
        beside = [
            f"{_CONTROLS[rival]} {found}" for rival in RIVALS if (found := _difference(contrasts, a, rival, score))
        ]
        text += (
            f". {arm_name(a)} minus the student of the {', of the '.join(beside)}."
            if beside
            else ". No student of a control target was fitted."
        )
        told.append(text)
    errors = {arm: here.loc[here["arm"] == arm, "task_error"].dropna() for arm in (b, a)}
    if all(len(found) for found in errors.values()):
        before, after = (float(found.iloc[0]) for found in errors.values())
        told.append(
            f"The task: {number(before)} % errors of {arm_name(b)}, {number(after)} % of {arm_name(a)} "
            f"(means over seeds and splits)."
        )
    return [*told, *_rivals(here, a)]


def _rivals(here: pd.DataFrame, a: str) -> list[str]:
    """Which arms that are not fitted students score above it."""
    raw = here[(here["score"] == "raw") & here["value"].notna()].set_index("arm")["value"]
    if a not in raw:
        return []
    above = raw[(raw > raw[a]) & ~raw.index.isin([a, *RIVALS])].sort_values(ascending=False)
    if above.empty:
        return [f"No other row has a higher raw score than {arm_name(a)}."]
    named = ", ".join(f"{arm_name(str(arm))} {number(value, DIGITS)}" for arm, value in above.items())
    return [f"Raw scores above that of {arm_name(a)} ({number(raw[a], DIGITS)}): {named}."]


def _difference(contrasts: pd.DataFrame, a: str, b: str, score: str) -> str:
    """A difference with its interval, whichever way round it was made; empty where it was not."""
    of_score = contrasts[contrasts["score"] == score]
    for first, second, sign in ((a, b, 1), (b, a, -1)):
        found = of_score[(of_score["a"] == first) & (of_score["b"] == second)]
        if len(found):
            value, *ends = (sign * float(found[column].iloc[0]) for column in ("difference", "low", "high"))
            return (
                f"{signed_number(value, DIGITS)} {interval(min(ends), max(ends), signed=True, digits=DIGITS)}".strip()
            )
    return ""


def _value(here: pd.DataFrame, arm: str, score: str) -> str:
    found = here.loc[(here["arm"] == arm) & (here["score"] == score), "value"]
    return number(float(found.iloc[0]), DIGITS) or "not defined" if len(found) else "not scored"


def _ceiling(here: pd.DataFrame, arm: str, score: str) -> str:
    found = here[(here["arm"] == arm) & (here["score"] == score)]
    if found.empty or found[["ceiling_lower", "ceiling_upper"]].isna().any(axis=None):
        return ""
    lower, upper = (float(found[column].iloc[0]) for column in ("ceiling_lower", "ceiling_upper"))
    return f"; noise ceiling {number(lower, DIGITS)} to {number(upper, DIGITS)}"
