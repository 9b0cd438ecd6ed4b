"""The sentences of a fit's page that are made from its numbers."""

import pandas as pd

from brainrdl.rdms.similarities import METHODS
from brainrdl.studies.reports.fit_files import FitFiles, Setting, in_setting
from brainrdl.studies.reports.methods import SCHEMES, SCORES, fit_arm_name
from brainrdl.studies.reports.settings import DIGITS
from brainrdl.studies.reports.verdict import RIVALS, Verdict, judge
from brainrdl.studies.reports.words import capital, count, interval, number, signed_number, span_of

_CONTROLS = {"rdl_category": "category target", "rdl_within_shuffle": "within-category shuffle"}


def verdict_of(study: FitFiles) -> Verdict:
    """Judge the primary contrast of a study."""
    return judge(in_setting(study.contrasts, study.primary), *study.pair)


def verdict_sentence(study: FitFiles) -> str:
    """Say what came out: the verdict, and why it is no more than that."""
    found = verdict_of(study)
    why = f": {'; '.join(found.reasons)}" if found.reasons else ""
    return f"{found.words}{why}."


def summary(study: FitFiles) -> str:
    """Say what was compared."""
    setting, (a, b) = study.primary, study.pair
    rows = in_setting(study.summary, setting)
    # the arm itself may be missing in a study that was broken off; any row has the setting's counts
    row_of_a = rows[rows["arm"] == a].iloc[0] if (rows["arm"] == a).any() else rows.iloc[0]
    same = setting.scored_study == setting.fitted_study
    where = "the same study" if same else f"another study, {setting.scored_study}"
    people = count(int(row_of_a["n_subjects"]), "subject")
    return (
        f"The primary contrast, fixed before anything was scored: {fit_arm_name(a)} minus {fit_arm_name(b)}, fitted to "
        f"{setting.fitted_study}, scored on held-out stimuli in {where} ({people}), "
        f"{SCHEMES.get(setting.scheme, setting.scheme)} ({row_of_a['n_folds']:.0f}), "
        f"{METHODS.get(setting.method, setting.method)}, {count(int(row_of_a['n_seeds']), 'seed')}. "
        f"{interval_unit(rows)}"
    )


def format_setting(setting: Setting) -> str:
    """Name a setting: fitted to first, scored in second, random splits, Pearson r."""
    same = setting.scored_study == setting.fitted_study
    return ", ".join(
        [
            f"fitted to {setting.fitted_study}",
            "scored in the same study" if same else f"scored in {setting.scored_study}",
            SCHEMES.get(setting.scheme, setting.scheme.replace("_", " ")),
            METHODS.get(setting.method, setting.method),
        ]
    )


def interval_unit(rows: pd.DataFrame) -> str:
    """Say what the intervals of a setting speak of: rows of ``summary.csv`` (column ``over``)."""
    return (
        f"Brackets are 95 % intervals over {format_drawn(rows)}. Seeds are averaged inside, so that the intervals are "
        "conditional on the fitted networks."
    )


def format_drawn(rows: pd.DataFrame) -> str:
    """Say what was drawn with replacement for the intervals of a setting: rows of ``summary.csv`` (column ``over``)."""
    units = {
        "stimuli": "stimuli, drawn with replacement within each split; they say nothing about other subjects",
        "subjects": "subjects, drawn with replacement; they say nothing about other stimuli",
        "both": "stimuli and subjects, both drawn with replacement",
    }
    return " or ".join(units.get(str(over), str(over)) for over in dict.fromkeys(rows["over"]))


def findings(study: FitFiles) -> list[str]:
    """Say the primary contrast in all scores beside its controls, whatever its sign, and what it cost the task."""
    a, b = study.pair
    contrasts, scored = in_setting(study.contrasts, study.primary), in_setting(study.summary, study.primary)
    sentences = []
    for score, name in SCORES.items():
        gain = _difference(contrasts, a, b, score)
        # without controls there is nothing to take out: that is said, and not "not in contrasts.csv"
        if score == "partial" and not (scored["score"] == score).any():
            sentences.append(f"{capital(name)}: not scored, since the study names no control RDMs.")
            continue
        if not gain:
            sentences.append(f"{capital(name)}: the contrast is not in contrasts.csv.")
            continue
        levels = [_value(scored, arm, score) for arm in (a, b)]
        text = f"{capital(name)}: {fit_arm_name(a)} {levels[0]}, {fit_arm_name(b)} {levels[1]}, difference {gain}"
        text += _ceiling(scored, a, score)
        beside = [
            f"{_CONTROLS[rival]} {found}" for rival in RIVALS if (found := _difference(contrasts, a, rival, score))
        ]
        text += (
            f". {fit_arm_name(a)} minus the student of the {', of the '.join(beside)}."
            if beside
            else ". No student of a control target was fitted."
        )
        sentences.append(text)
    # b first, as the network is before it is fitted
    errors = {arm: scored.loc[scored["arm"] == arm, "task_error"].dropna() for arm in (b, a)}
    if all(len(found) for found in errors.values()):
        before, after = (float(found.iloc[0]) for found in errors.values())
        sentences.append(
            f"The task: {number(before)} % errors of {fit_arm_name(b)}, {number(after)} % of {fit_arm_name(a)} "
            f"(means over seeds and splits)."
        )
    return [*sentences, *_rivals(scored, a)]


def _rivals(scored: pd.DataFrame, a: str) -> list[str]:
    """Name the arms, no students of control targets, that score above it."""
    raw = scored[(scored["score"] == "raw") & scored["value"].notna()].set_index("arm")["value"]
    if a not in raw:
        return []
    # students of control targets are compared in the sentences before
    above = raw[(raw > raw[a]) & ~raw.index.isin([a, *RIVALS])].sort_values(ascending=False)
    if above.empty:
        return [f"No other row has a higher raw score than {fit_arm_name(a)}."]
    named = ", ".join(f"{fit_arm_name(str(arm))} {number(value, DIGITS)}" for arm, value in above.items())
    return [f"Raw scores above that of {fit_arm_name(a)} ({number(raw[a], DIGITS)}): {named}."]


def _difference(contrasts: pd.DataFrame, a: str, b: str, score: str) -> str:
    """A difference with its interval, whichever way round it was made; empty where it was not."""
    in_score = contrasts[contrasts["score"] == score]
    # a contrast may have been declared the other way round
    for first, second, sign in ((a, b, 1), (b, a, -1)):
        found = in_score[(in_score["a"] == first) & (in_score["b"] == second)]
        if len(found):
            value, *ends = (sign * float(found[column].iloc[0]) for column in ("difference", "low", "high"))
            return (
                f"{signed_number(value, DIGITS)} {interval(min(ends), max(ends), signed=True, digits=DIGITS)}".strip()
            )
    return ""


def _value(scored: pd.DataFrame, arm: str, score: str) -> str:
    found = scored.loc[(scored["arm"] == arm) & (scored["score"] == score), "value"]
    return number(float(found.iloc[0]), DIGITS) or "not defined" if len(found) else "not scored"


def _ceiling(scored: pd.DataFrame, arm: str, score: str) -> str:
    found = scored[(scored["arm"] == arm) & (scored["score"] == score)]
    if found.empty or found[["ceiling_lower", "ceiling_upper"]].isna().any(axis=None):
        return ""
    lower, upper = (float(found[column].iloc[0]) for column in ("ceiling_lower", "ceiling_upper"))
    return f"; noise ceiling {span_of(lower, upper, DIGITS)}"
