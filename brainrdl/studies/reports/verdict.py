"""The rule by which a gain is called brain-specific, not shown to be more than category structure, or not shown."""

import math
from dataclasses import dataclass
from typing import Literal

import pandas as pd

from brainrdl.studies.reports.fit_files import FitFiles, in_setting
from brainrdl.studies.reports.settings import DIGITS
from brainrdl.studies.reports.words import capital, not_shown

Kind = Literal["brain-specific", "category", "open", "none", "loss", "unknown"]

RIVALS = {"rdl_category": "category RDM", "rdl_within_shuffle": "RDM shuffled within categories"}
"""Networks trained on categories only: what is brain-specific is above both."""

STRICT_SCORES = ("partial", "within_category")
"""Scores in which a gain is not one of categories alone."""


@dataclass(frozen=True)
class Verdict:
    """The words that a study may use of its primary contrast, and why it is no more than that, if more is to be had."""

    kind: Kind
    words: str
    reasons: tuple[str, ...] = ()


def verdict_of(study: FitFiles) -> Verdict:
    """Judge the primary contrast of a study."""
    return judge(in_setting(study.contrasts, study.primary), *study.pair, smallest=study.smallest_effect)


def verdict_sentence(study: FitFiles) -> str:
    """Say what came out: the verdict, and why it is no more than that."""
    found = verdict_of(study)
    return f"{found.words}{': ' * bool(found.reasons)}{'; '.join(found.reasons)}."


def judge(contrasts: pd.DataFrame, a: str = "rdl", b: str = "task_only", *, smallest: float | None = None) -> Verdict:
    """Judge the gain of one arm over another by its intervals, in three scores and beside the controls.

    `contrasts` are of one setting: columns ``a, b, score, difference, low, high``; either order of the arms will do.
    `smallest` is the smallest raw gain of interest, where one was stated beforehand.
    """
    # "brain-specific" only if (1) the raw gain's interval lies above 0, and there is a strict score in which (2) the
    # gain's interval and (3) those of the differences to both rivals lie above 0
    raw = _interval_of(contrasts, a, b, "raw")
    if raw is None:
        return Verdict("unknown", "The gain is not known", ("the raw contrast has no interval",))
    low, high = raw
    if high < 0:
        return Verdict("loss", "A loss: fitting to the brain lowered the score")
    # not "low <= 0": a NaN must not pass as a gain
    if not low > 0:
        words, why = not_shown(low, high, digits=DIGITS, smallest=smallest)
        return Verdict("none", capital(words), (f"in the raw score {why}",))
    reasons, missing = [], False
    for score in STRICT_SCORES:
        shortfall, lacking = _shortfall(contrasts, a, b, score)
        # one strict score is enough
        if not shortfall:
            return Verdict("brain-specific", "The gain is brain-specific")
        reasons.append(shortfall)
        missing |= lacking
    # too few contrasts were made to say of which kind
    if missing:
        return Verdict("open", "A gain, whose kind is not known for lack of contrasts", tuple(reasons))
    # where categories are taken out it is not shown, or students that learned from them alone may have as much
    return Verdict("category", "A gain, not shown to be more than category structure", tuple(reasons))


def difference_of(contrasts: pd.DataFrame, a: str, b: str, score: str) -> tuple[float, float, float] | None:
    """Find a difference, a − b, and its interval, whichever way round it was made; None where it was not."""
    in_score = contrasts[contrasts["score"] == score]
    for first, second, sign in ((a, b, 1), (b, a, -1)):
        found = in_score[(in_score["a"] == first) & (in_score["b"] == second)]
        if len(found):
            value, *ends = (sign * float(found[column].iloc[0]) for column in ("difference", "low", "high"))
            return value, min(ends), max(ends)
    return None


def _interval_of(contrasts: pd.DataFrame, a: str, b: str, score: str) -> tuple[float, float] | None:
    """Find the interval of a difference; None where it has none (NaN)."""
    _, low, high = difference_of(contrasts, a, b, score) or (math.nan,) * 3
    return None if math.isnan(low) or math.isnan(high) else (low, high)


def _shortfall(contrasts: pd.DataFrame, a: str, b: str, score: str) -> tuple[str, bool]:
    """Say why a gain in this score is not brain-specific (empty: it is), and if that is for want of a contrast."""
    name = score.replace("_", "-")
    gain = _interval_of(contrasts, a, b, score)
    if gain is None:
        return f"the {name} gain has no interval", True
    if not gain[0] > 0:
        return f"the interval of the {name} gain is not above 0", False
    against = {words: _interval_of(contrasts, a, rival, score) for rival, words in RIVALS.items()}
    not_above = [words for words, found in against.items() if found is not None and not found[0] > 0]
    unmade = [words for words, found in against.items() if found is None]
    for students, lack, is_missing in ((not_above, "above", False), (unmade, "compared with", True)):
        if students:
            plural = "s" * (len(students) > 1)
            verb, named = "was" if is_missing else "is", " and on the ".join(students)
            return f"in the {name} score it {verb} not {lack} the network{plural} trained on the {named}", is_missing
    return "", False
