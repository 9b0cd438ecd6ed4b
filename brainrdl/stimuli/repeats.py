"""The same thing under two ids, found by its content."""

from collections.abc import Collection, Iterable, Sequence

from torch import Tensor

from brainrdl.identity import digest

SAME_IMAGE = "same_image"
"""Key of an RDM's provenance: groups of stimuli that were one image to the network."""


def find_repeats(contents: Iterable[tuple[Tensor, str]]) -> list[tuple[str, ...]]:
    """Group the ids whose tensors are equal, in shape, type and every value; ids that are alone are left out."""
    ids: dict[str, list[str]] = {}
    for content, stimulus in contents:
        ids.setdefault(digest([("", content)]), []).append(stimulus)
    return [tuple(group) for group in ids.values() if len(group) > 1]


def across(
    repeats: Iterable[Sequence[str]], fitted: Collection[str], held_out: Collection[str]
) -> tuple[str, str] | None:
    """Find a stimulus that was fitted and one that is held out that are the same, if there are any."""
    for group in repeats:
        of_both = [[stimulus for stimulus in group if stimulus in side] for side in (set(fitted), set(held_out))]
        if all(of_both):
            return of_both[0][0], of_both[1][0]
    return None
