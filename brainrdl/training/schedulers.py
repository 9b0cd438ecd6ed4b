"""How often a learning-rate scheduler steps: once an epoch or once an update, by what it says of itself."""

import warnings
from functools import partial
from typing import Any, Literal

from torch.optim.lr_scheduler import LRScheduler

Interval = Literal["epoch", "update"]


def interval_of(made: Any, epochs: int, updates: int) -> Interval:
    """Tell how often the scheduler steps that an optimizer function `made`, in so many epochs and updates in all.

    ``(optimiser, scheduler, "epoch" or "update")`` says so itself. Otherwise a scheduler whose course is as long as the
    training has updates steps once an update, any other once an epoch. ValueError where that cannot be its course.
    """
    if not isinstance(made, tuple) or len(made) < 2 or made[1] is None:
        return "epoch"
    name, total, course = type(made[1]).__name__, _total(made[1]), _course(made[1])
    if len(made) == 3:
        if made[2] not in ("epoch", "update"):
            raise ValueError(
                f"the optimizer function returned {made[2]!r} behind the scheduler; expected 'epoch' or 'update', "
                "which says how often it steps"
            )
        interval: Interval = "epoch" if made[2] == "epoch" else "update"
        if total is not None and total < (count := epochs if interval == "epoch" else updates):
            raise ValueError(
                f"{name} ends after {total} steps, and stepped once an {interval} it makes {count}; give it "
                f"total_steps={count}"
            )
        return interval
    if total is not None and total not in (epochs, updates):
        raise ValueError(
            f"{name} counts {total} steps, which are neither the training's {epochs} epochs nor its {updates} updates; "
            f"give it total_steps={updates} to step it once an update, or {epochs} for once an epoch"
        )
    if course == updates != epochs:
        return "update"
    if course is not None and epochs < course < updates:
        warnings.warn(
            f"{name} counts {course} steps and is stepped once an epoch, {epochs} times in this training of {updates} "
            "updates. If it counts updates, let the optimizer function return (optimiser, scheduler, 'update'); if "
            "epochs, (optimiser, scheduler, 'epoch')",
            stacklevel=4,
        )
    return "epoch"


def _total(scheduler: LRScheduler) -> int | None:
    """Steps behind which a scheduler can make no further one (`OneCycleLR`), or it or a part of it says."""
    parts = [_total(part) for part in getattr(scheduler, "_schedulers", ())]
    before = [0, *getattr(scheduler, "_milestones", [0] * len(parts))]
    totals = [start + total for start, total in zip(before, parts, strict=False) if total is not None]
    total = getattr(scheduler, "total_steps", None)
    return max([*totals, *([total] if isinstance(total, int) else [])], default=None)


def _course(scheduler: LRScheduler) -> int | None:
    """Steps that a scheduler says of itself to take, up to its end or (``StepLR``) to its first change."""
    if milestones := getattr(scheduler, "_milestones", None):  # one behind the other
        last = _course(scheduler._schedulers[-1])  # type: ignore[attr-defined]
        return int(milestones[-1] + (last or 0))
    parts = [_course(part) for part in getattr(scheduler, "_schedulers", ())]  # all at a time
    # the schedules of Hugging Face's transformers
    partials = [function for function in getattr(scheduler, "lr_lambdas", ()) if isinstance(function, partial)]
    parts += [function.keywords.get("num_training_steps") for function in partials]
    # of OneCycleLR, CosineAnnealingLR, LinearLR and PolynomialLR, CosineAnnealingWarmRestarts, CyclicLR, StepLR
    names = ("total_steps", "T_max", "total_iters", "T_0", "total_size", "step_size")
    parts += [getattr(scheduler, name, None) for name in names]
    if of_steps := getattr(scheduler, "milestones", None):  # MultiStepLR
        parts.append(min(of_steps))
    return max((int(part) for part in parts if isinstance(part, int | float)), default=None)
