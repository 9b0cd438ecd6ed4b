"""The sentences of a fit's page that are made from its numbers."""

import pandas as pd

from brainrdl.known import METHODS
from brainrdl.studies.reports.fit_files import FitFiles, Setting, in_setting
from brainrdl.studies.reports.methods import SCHEMES, SCORES, START, TASK_ONLY, fit_arm_family, fit_arm_name
from brainrdl.studies.reports.settings import DIGITS
from brainrdl.studies.reports.verdict import RIVALS, difference_of
from brainrdl.studies.reports.words import capital, count, interval, number, records, signed_number, span_of


def summary(study: FitFiles) -> str:
    """Say what was compared."""
    setting, (a, b) = study.primary, study.pair
    rows = in_setting(study.summary, setting)
    # the arm itself may be missing in a study that was broken off; any row has the setting's counts
    row_of_a = rows[rows["arm"] == a].iloc[0] if (rows["arm"] == a).any() else rows.iloc[0]
    where = f"another study, {setting.scored_study}"
    where = "the same study" if setting.scored_study == setting.fitted_study else where
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
    scored = "in the same study" if same else f"in {setting.scored_study}"
    scheme = SCHEMES.get(setting.scheme, setting.scheme.replace("_", " "))
    return f"fitted to {setting.fitted_study}, scored {scored}, {scheme}, {METHODS.get(setting.method, setting.method)}"


def interval_unit(rows: pd.DataFrame) -> str:
    """Say over what the intervals of a setting generalise: rows of ``summary.csv`` (column ``over``)."""
    return (
        f"Brackets are 95 % intervals over {format_drawn(rows)}. Scores are averaged over seeds first, so the "
        "intervals are conditional on the fitted networks."
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
            sentences.append(f"{capital(name)}: not scored, since the study has no control RDMs.")
            continue
        if not gain:
            sentences.append(f"{capital(name)}: the contrast is not in contrasts.csv.")
            continue
        levels = [_value(scored, arm, score) for arm in (a, b)]
        text = f"{capital(name)}: {fit_arm_name(a)} {levels[0]}, {fit_arm_name(b)} {levels[1]}, difference {gain}"
        text += _ceiling(scored, a, score)
        found = [(words, _difference(contrasts, a, rival, score)) for rival, words in RIVALS.items()]
        over_start = _difference(contrasts, a, START, score) if b != START else ""
        text += f". {fit_arm_name(a)} minus the {fit_arm_name(START)} {over_start}" if over_start else ""
        beside = ", on the ".join(f"{words} {value}" for words, value in found if value)
        against = f"{fit_arm_name(a)} minus the network trained on the {beside}"
        sentences.append(f"{text}. {against if beside else 'No network was trained on a control RDM'}.")
    # the network that a user begins with first, then what further training does to it by itself
    of_arms = task_errors(study)
    if len(of_arms) > 1:
        errors = ", ".join(f"{number(error)} % {name}" for name, error in of_arms.items())
        sentences.append(f"Task error: {errors} (means over seeds and splits).")
    return [*sentences, *_rivals(scored, a)]


def task_errors(study: FitFiles) -> dict[str, float]:
    """Test errors in percent, as the primary setting has them: the start network, task only, the primary contrast."""
    scored = in_setting(study.summary, study.primary)
    errors = scored.dropna(subset="task_error").drop_duplicates("arm").set_index("arm")["task_error"]
    found = {
        fit_arm_name(arm): float(errors[arm])
        for arm in dict.fromkeys((START, TASK_ONLY, *reversed(study.pair)))
        if arm in errors
    }
    # in a study without a row of it, it is known by its heads, which leave what it answers as it is
    heads = [arm for arm in errors.index if fit_arm_family(str(arm)) == "heads"]
    if START not in errors and heads:
        return {f"{fit_arm_name(START)} (as scored with its heads)": float(errors[heads[0]]), **found}
    return found


def about_baselines(study: FitFiles) -> str:
    """Say in one line what the start network and task only are, and what heads are compared with without the former."""
    arms = set(in_setting(study.summary, study.primary)["arm"])
    further = "task only is that network trained further on the task alone, for as many updates as RDL"
    if START in arms:
        text = "The start network is the one from which all fits start and on which the heads are fitted"
        return f"{text}; {further}." if TASK_ONLY in arms else f"{text}."
    if TASK_ONLY not in arms:
        return ""
    heads = any(fit_arm_family(arm) == "heads" for arm in arms)
    text = f"{capital(further.replace('that network', 'the start network'))}."
    without = (
        " The study did not score the start network itself, on which its heads are fitted: the difference of a head "
        "from task only is its gain minus that of further training, not the gain of a head over no head."
    )
    return f"{text}{without}" if heads else text


def _rivals(scored: pd.DataFrame, a: str) -> list[str]:
    """Name the arms, not trained on control RDMs, that score above it."""
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
    """A difference with its interval; empty where it was not made."""
    value, *ends = difference_of(contrasts, a, b, score) or (None, None, None)
    return (
        f"{signed_number(value, DIGITS)} {interval(*ends, signed=True, digits=DIGITS)}".strip()
        if value is not None
        else ""
    )


def _value(scored: pd.DataFrame, arm: str, score: str) -> str:
    found = scored.loc[(scored["arm"] == arm) & (scored["score"] == score), "value"]
    return number(float(found.iloc[0]), DIGITS) or "not defined" if len(found) else "not scored"


def _ceiling(scored: pd.DataFrame, arm: str, score: str) -> str:
    found = scored[(scored["arm"] == arm) & (scored["score"] == score)]
    bounds = [span_of(row["ceiling_lower"], row["ceiling_upper"], DIGITS) for row in records(found)]
    return f"; noise ceiling {bounds[0]}" if bounds and bounds[0] else ""
