"""Groups of stimuli along an RDM, and the room that their names take."""

from collections.abc import Hashable, Mapping, Sequence
from itertools import pairwise
from typing import Any, NamedTuple

from xarray import DataArray

from brainrdl.ids import spelling
from brainrdl.plots._style import quoted, text_width

Groups = str | Mapping[str, Hashable] | Sequence[Hashable]
"""A group per stimulus: a coordinate along it, a mapping from its id, or a list in the order of the RDM."""


class Stretch(NamedTuple):
    """Stimuli ``start`` to ``stop - 1`` are the group `name`."""

    name: str
    start: int
    stop: int


def stretches_of(groups: Groups | None, n: int, rdms: DataArray | None) -> list[Stretch]:
    """Find the groups of n stimuli, in their order; coordinates and ids are looked up in `rdms`, if there are any."""
    if groups is None:
        return []
    if isinstance(groups, str | Mapping):
        if rdms is None:
            raise ValueError(
                "a bare array has no stimulus ids or coordinates to look groups up by; give a list of groups "
                "in the order of its rows, or a labelled RDM"
            )
        ids = coord_along(rdms, "stimulus", "stimulus")
        found = (
            dict(zip(ids, coord_along(rdms, groups, "stimulus"), strict=True)) if isinstance(groups, str) else groups
        )
        lacking = [stimulus for stimulus in ids if stimulus not in found]
        if lacking:
            raise ValueError(
                f"groups has no entry for {len(lacking)} of {n} stimuli: {quoted(lacking)}"
                f"{spelling(lacking, found)}; name a group for each"
            )
        names = [str(found[stimulus]) for stimulus in ids]
    else:
        names = [str(name) for name in groups]
    if len(names) != n:
        raise ValueError(f"groups has {len(names)} entries, but the RDM has {n} stimuli; give one per stimulus")
    starts = [0, *(k for k in range(1, n) if names[k] != names[k - 1])]
    stretches = [Stretch(names[a], a, b) for a, b in pairwise([*starts, n])]
    seen: set[str] = set()
    for stretch in stretches:
        # lines that part groups, and names in their middle, suppose that each stands together
        if stretch.name in seen:
            raise ValueError(
                f"the stimuli of group {stretch.name!r} do not stand together (row {stretch.start} begins "
                "another stretch of it); order the RDM by group first, with select_stimuli"
            )
        seen.add(stretch.name)
    return stretches


def group_font(side: float) -> float:
    """Points of the group names beside an RDM `side` inches wide."""
    return 5.0 if side < 1.5 else 6.5


def names_width(stretches: list[Stretch], side: float) -> float:
    """Inches that the group names take beside an RDM `side` inches wide."""
    return 0.06 + max(text_width(s.name, group_font(side)) for s in stretches) if stretches else 0.0


def names_height(stretches: list[Stretch], side: float) -> float:
    """Inches that they take below it."""
    if names_turned(stretches, side):
        return names_width(stretches, side)
    return 0.06 + group_font(side) / 72 if stretches else 0.0


def names_turned(stretches: list[Stretch], side: float) -> bool:
    """True if group names are too long to stand side by side."""
    inches = side / stretches[-1].stop if stretches else 0.0
    return any(text_width(s.name, group_font(side)) > 0.95 * inches * (s.stop - s.start) for s in stretches)


def coord_along(rdms: DataArray, name: str, along: str) -> list[Any]:
    """The values of a coordinate along one dimension."""
    if name in rdms.coords and rdms[name].dims == (along,):
        return list(rdms[name].to_numpy().tolist())
    there = [coord for coord in rdms.coords if rdms[coord].dims == (along,)]
    raise ValueError(f"the RDMs have no coordinate {name!r} along {along!r}; there is {quoted(there) or 'none'}")
