"""Subjects of RDMs whose file does not name them: S1, S2, … for a number of people, or names in the file's order."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from brainrdl.arguments import name_some

_NUMBERED = ("subject_index", "axis_")  # what readers call the axes of an array of RDMs that has no labels


def subjects_of(given: Sequence[str] | str | int, n_rdms: int, along: Mapping[str, Any]) -> list[str]:
    """Return the subject of each of `n_rdms` RDMs, whose coordinates are `along`.

    `given` is a number of people, their names (one per RDM, or one per place on an axis of the array that has just as
    many), or the coordinate that holds them. ValueError for another count, or where subjects are named already.
    """
    if "subject" in along:
        named = list(dict.fromkeys(map(str, np.asarray(along["subject"]).tolist())))
        raise ValueError(f"names its subjects already, {name_some(named)}; leave subjects out")
    if isinstance(given, str):
        if given not in along:
            there = f"there are {name_some(list(along))}" if along else "there are none"
            raise ValueError(f"has no coordinate {given!r} of its RDMs that could hold the subjects; {there}")
        return [str(name) for name in np.asarray(along[given]).tolist()]
    names = _names(given)
    if len(names) == n_rdms:
        regions = {str(name) for name in np.asarray(along.get("roi", [])).tolist()}
        if isinstance(given, int) and len(regions) > 1:  # as many RDMs are not as many people
            raise ValueError(
                f"holds RDMs of {len(regions)} regions, so that a number does not say whose each one is; give subjects "
                f"as {n_rdms} names, one for each RDM in the file's order"
            )
        return names
    places = {name: np.unique(np.asarray(values), return_inverse=True)[1] for name, values in along.items()}
    axes = [
        places[name] for name in along if name.startswith(_NUMBERED) and places[name].max(initial=-1) + 1 == len(names)
    ]
    if len(axes) == 1:
        return [names[place] for place in axes[0].tolist()]
    raise ValueError(
        f"holds {n_rdms} {'RDM' if n_rdms == 1 else 'RDMs'}, but subjects names {len(names)}; give one for each RDM, "
        "in the file's order"
    )


def _names(given: Sequence[str] | int) -> list[str]:
    if isinstance(given, bool) or (isinstance(given, int) and given < 1):
        raise ValueError(f"subjects is {given}; expected how many people there are, or their names")
    if isinstance(given, int):
        return [f"S{number}" for number in range(1, given + 1)]
    for place, name in enumerate(names := list(given)):
        if not isinstance(name, str) or not name.strip():
            raise ValueError(f"subjects[{place}] is {name!r}; expected a name")
    return names
