"""The rule by which a gain is called brain-specific, category structure, or none."""

from dataclasses import dataclass
from typing import Literal

import pandas as pd

Kind = Literal["brain-specific", "category", "open", "none", "loss", "unknown"]

RIVALS = ("rdl_category", "rdl_within_shuffle")
"""Students that learned from categories only: what is brain-specific is above both."""

STRICT_SCORES = ("partial", "within_category")
"""Scores in which a gain is not one of categories alone."""


@dataclass(frozen=True)
class Verdict:
    """The words that a study may use of its primary contrast.

    ``kind`` is that of `judge`, ``words`` the headline, ``reasons`` say why it is no more than that (empty where it is
    all that there is to be had).
    """

    kind: Kind
    words: str
    reasons: tuple[str, ...] = ()


def judge(contrasts: pd.DataFrame, a: str = "rdl", b: str = "task_only") -> Verdict:
    """Judge the gain of one arm over another by its intervals, in three scores and beside the controls.

    `contrasts` are of one setting: columns ``a, b, score, difference, low, high``; either order of the arms will do.

    "Brain-specific" is said only if (1) the raw gain's interval lies above 0, and there is a score among *partial* and
    *within-category* in which (2) the gain's interval lies above 0 and (3) the differences to the student of the
    category target and to that of the within-category shuffle have intervals above 0.

    ``loss``: the raw interval lies below 0. ``none``: it includes 0. ``unknown``: there is none. ``open``: a raw gain,
    but too few contrasts were made to say of which kind. ``category``: a raw gain, and where categories are taken out
    it is gone, or students that learned from categories only are not shown to have less.
    """
    raw = interval_of(contrasts, a, b, "raw")
    if raw is None:
        return Verdict("unknown", "The gain is not known", ("the raw contrast has no interval",))
    low, high = raw
    if high < 0:
        return Verdict("loss", "A loss: fitting to the brain made the match worse")
    # not "low <= 0": a NaN must not pass as a gain
    if not low > 0:
        return Verdict("none", "No gain", ("the interval of the raw difference includes 0",))
    reasons, missing = [], False
    for score in STRICT_SCORES:
        shortfall, lacking = _shortfall(contrasts, a, b, score)
        # one strict score is enough, see above
        if not shortfall:
            return Verdict("brain-specific", "The gain is brain-specific")
        reasons.append(shortfall)
        missing |= lacking
    if missing:
        return Verdict("open", "A gain, and too little was compared to say of which kind", tuple(reasons))
    return Verdict("category", "The gain is category structure", tuple(reasons))


def interval_of(contrasts: pd.DataFrame, a: str, b: str, score: str) -> tuple[float, float] | None:
    """Find the interval of a difference, a − b, whichever way round it was made; None where it has none (NaN)."""
    in_score = contrasts[contrasts["score"] == score]
    for first, second, sign in ((a, b, 1), (b, a, -1)):
        found = in_score[(in_score["a"] == first) & (in_score["b"] == second)]
        if len(found):
            low, high = sorted((sign * float(found["low"].iloc[0]), sign * float(found["high"].iloc[0])))
            return None if low != low or high != high else (low, high)  # NaN
    return None


def _shortfall(contrasts: pd.DataFrame, a: str, b: str, score: str) -> tuple[str, bool]:
    """Say why a gain in this score is not brain-specific (empty: it is), and if that is for want of a contrast."""
    name = score.replace("_", "-")
    gain = interval_of(contrasts, a, b, score)
    if gain is None:
        return f"the {name} gain has no interval", True
    if not gain[0] > 0:
        return f"the interval of the {name} gain is not above 0", False
    against = {rival: interval_of(contrasts, a, rival, score) for rival in RIVALS}
    not_above = [rival for rival, found in against.items() if found is not None and not found[0] > 0]
    unmade = [rival for rival, found in against.items() if found is None]
    students = {"rdl_category": "category target", "rdl_within_shuffle": "within-category shuffle"}
    if not_above:
        named = " and of the ".join(students[rival] for rival in not_above)
        return f"in the {name} score it is not above the student{'s' * (len(not_above) > 1)} of the {named}", False
    if unmade:
        named = " and of the ".join(students[rival] for rival in unmade)
        return f"in the {name} score it was not held against the student{'s' * (len(unmade) > 1)} of the {named}", True
    return "", False
