"""Trial types of several runs beside each other: one name spelled in two ways, impulses beside blocks."""

import unicodedata
from collections.abc import Hashable, Sequence

import pandas as pd

from brainrdl.arguments import name_some

_STEPS = 50  # of a scan, in which nilearn samples the response: a shorter event is an impulse, of no duration


def check_spelling(events: Sequence[pd.DataFrame], runs: Sequence[Hashable]) -> list[str]:
    """Return warnings of names that differ in case only; ValueError where they seem to be one name.

    They do where they look alike, or where a run has one of them without the other.
    """
    spelled: dict[str, dict[str, set[int]]] = {}
    for number, table in enumerate(events):
        for name in table["trial_type"].unique():
            spelled.setdefault(_plain(name), {}).setdefault(name, set()).add(number)
    found = []
    for names in spelled.values():
        if len(names) == 1:
            continue
        one, other, *_ = names
        look = len({unicodedata.normalize("NFKC", " ".join(name.split())) for name in names}) < len(names)
        apart = names[one] ^ names[other]
        if look or apart:
            where = "" if look else f" (run {runs[min(apart)]} has only one of them)"
            raise ValueError(
                f"the trial types {one!r} and {other!r} differ in {'characters that look alike' if look else 'case'} "
                f"only{where}; spell one stimulus alike in all runs, and name two apart"
            )
        *first, last = names
        words = {2: "two"}.get(len(names), str(len(names)))
        found.append(
            f"the trial types {', '.join(map(repr, first))} and {last!r} differ in case only, and are {words} stimuli; "
            "spell them alike if they are one"
        )
    return found


def check_impulses(events: Sequence[pd.DataFrame], t_rs: Sequence[float]) -> list[str]:
    """Return a warning where some events have no duration, and others have one: amplitudes are on other scales then."""
    impulses: dict[str, None] = {}
    blocks: dict[str, None] = {}
    for table, t_r in zip(events, t_rs, strict=True):
        short = table["duration"] < t_r / _STEPS / 2
        impulses |= dict.fromkeys(table["trial_type"][short])
        blocks |= dict.fromkeys(table["trial_type"][~short])
    if not impulses or not blocks:
        return []
    return [
        f"events of {name_some(list(impulses))} have duration 0, and those of {name_some(list(blocks))} have one: the "
        "former are impulses, whose amplitudes are on another scale, so that distances between the two are distances "
        "of scales; give all events their duration, or all 0"
    ]


def _plain(name: str) -> str:
    return unicodedata.normalize("NFKC", " ".join(name.split())).casefold()
