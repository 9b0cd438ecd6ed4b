"""The random generators that belong to a loader: those that each pass reseeds, and those that its data own."""

import warnings
from collections.abc import Iterator
from typing import Any

import torch

from brainrdl.arguments import name_some
from brainrdl.training.compiled import find
from brainrdl.training.randomness import GENERATORS, OutsideStates


def reseeded_generators(loader: Any) -> Iterator[torch.Generator]:
    """Find the generators of a loader, of its samplers and of what it repeats."""
    if isinstance(generator := getattr(loader, "generator", None), torch.Generator):
        yield generator
    for part in ("loader", "sampler", "batch_sampler"):
        if (inner := getattr(loader, part, None)) is not None:
            yield from reseeded_generators(inner)


def own_generators(loader: Any, what: str) -> dict[str, Any]:
    """Find the generators that a loader's data draw with, by place; not those that each pass reseeds."""
    reseeded = list(reseeded_generators(loader))
    found = find(loader, GENERATORS, what)
    return {place: one for place, one in found.items() if not any(one is other for other in reseeded)}


def _copied(loader: Any, what: str) -> tuple[dict[str, Any], int]:
    """Generators that a loader copies to its workers without seeding them there; number of workers."""
    while not hasattr(loader, "num_workers") and hasattr(loader, "loader"):  # what repeats another
        loader = loader.loader
    workers: int = getattr(loader, "num_workers", 0)
    if not workers or getattr(loader, "worker_init_fn", None) is not None:
        return {}, 0
    parts = {part: getattr(loader, part, None) for part in ("dataset", "collate_fn")}
    return find(parts, GENERATORS, what), workers


def watched(**loaders: Any) -> OutsideStates:
    """Random states outside torch that the loaders draw from; a warning names generators that workers copy."""
    found: dict[str, Any] = {}
    for name, loader in loaders.items():
        copied, workers = _copied(loader, name)
        if copied:
            same = "" if workers == 1 else f"the {workers} workers draw the same numbers, and "
            warnings.warn(
                f"the {name} loader's data draw with a generator of their own ({name_some(copied)}), of which each "
                f"worker process has a copy: {same}every epoch draws those of the first; draw with torch, which is "
                "seeded for each worker and epoch, or seed it in worker_init_fn= from torch.initial_seed()",
                stacklevel=4,
            )
        found |= own_generators(loader, name)
    return OutsideStates(found)
