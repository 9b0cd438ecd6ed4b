"""No update on values that are not finite."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from math import inf
from typing import Any, final

import torch
from torch import Tensor, nn

from brainrdl.arguments import name_some
from brainrdl.terms.base import Batch


@dataclass(frozen=True)
class Value:
    """One part of the loss: its column in the history, its value and its α."""

    column: str
    value: Tensor
    alpha: float


@dataclass(frozen=True)
class _Update:
    """An update whose flags have not been read."""

    values: Sequence[Value]
    trained: tuple[str, ...]
    finite: Tensor  # one flag per value, then one per trained parameter
    place: str


@final
class FiniteGuard:
    """Step the optimiser only where every loss and every gradient is finite, and name the one that was not.

    `every` is the number of updates between two read-outs; `gradients` are not looked at where a gradient scaler does.
    """

    # On the CPU the flags are read before each step. On an accelerator the host would have to wait for them; there the
    # update is left out (by a fused optimiser) or undone on the device where a flag says so.

    def __init__(
        self, optimizer: Any, parameters: Mapping[str, nn.Parameter], *, every: int, gradients: bool = True
    ) -> None:
        self._optimizer = optimizer
        self._inner = getattr(optimizer, "optimizer", optimizer)  # without Fabric's wrapper
        self._leaves_out = (
            gradients
            # its own, not that of an optimiser within
            and vars(self._inner).get("_step_supports_amp_scaling", False)
            and all(group.get("fused") for group in self._inner.param_groups)
        )
        self._parameters = dict(parameters)
        self._every = every
        self._gradients = gradients
        self._seen: list[_Update] = []
        self._good: Tensor | None = None

    def step(self, values: Sequence[Value], place: str) -> None:
        """Apply an update if it is finite; FloatingPointError if it, or one since the last read, was not."""
        if not values:  # every term left the batch out
            return
        finite = self.flags(values)
        # applied before it is known to be finite, since `apply` does nothing otherwise; on the CPU known first
        if self._every > 1:
            self.apply(finite)
        self.note([Value(v.column, v.value.detach(), v.alpha) for v in values], finite, place)
        if self._every == 1:
            self._optimizer.step()

    def flags(self, values: Sequence[Value]) -> Tensor:
        """Flag each value, then each gradient at hand, as finite or not (values + gradients,)."""
        finite = torch.stack([torch.isfinite(v.value.detach()) for v in values])
        if self._gradients and (gradients := [p.grad for p in self._trained().values() if p.grad is not None]):
            finite = torch.cat((finite, _finite(gradients)))
        return finite

    def note(self, values: Sequence[Value], finite: Tensor, place: str) -> None:
        """Remember an update's flags, and read those remembered where it is time; errors as of `step`."""
        self._seen.append(_Update(values, tuple(self._trained()), finite, place))
        if len(self._seen) >= self._every:
            self.check()

    def apply(self, finite: Tensor) -> None:
        """Apply the update on the device, unless something in it or before it was not finite."""
        # once not finite, never good again: until the host reads, later updates must not build on this one; in place,
        # so that a recorded update reads it too
        if self._good is None:
            self._good = finite.all()
        else:
            self._good &= finite.all()
        if self._leaves_out:
            # the attribute by which torch's gradient scaler makes it leave an update out where this is 1
            self._inner.found_inf = (~self._good).float()
            try:
                self._optimizer.step()
            finally:
                del self._inner.found_inf
        else:
            # parameters alone: momenta may be spoilt, and training stops at the next read
            before = [parameter.detach().clone() for parameter in self._parameters.values()]
            self._optimizer.step()
            with torch.no_grad():
                for parameter, old in zip(self._parameters.values(), before, strict=True):
                    parameter.copy_(torch.where(self._good, parameter, old))

    def _trained(self) -> dict[str, nn.Parameter]:
        """Name → parameter that this update reaches."""
        return {name: p for name, p in self._parameters.items() if p.grad is not None and p.numel()}

    def check(self) -> None:
        """Read the flags; raise for the first update that was not applied."""
        seen, self._seen = self._seen, []
        if not seen or bool(torch.stack([update.finite.all() for update in seen]).all()):
            return
        update = next(update for update in seen if not update.finite.all())
        bad = next((v for v in update.values if not torch.isfinite(v.value)), None)
        if bad is not None:
            what = f"{bad.column} is {bad.value.item()}"
        else:
            flags = update.finite[len(update.values) :].tolist()
            names = [name for name, fine in zip(update.trained, flags, strict=True) if not fine]
            what = f"the gradient of {name_some(names)} is not finite"
        losses = ", ".join(f"{v.column} = {v.value.item():.4g}" for v in update.values)
        raise FloatingPointError(
            f"{what} in {update.place}: {losses}. That update was not applied, and training stopped. Lower the "
            "learning rate or α, or look for images or targets with values that are not finite"
        )


@final
class FiniteWeights:
    """Parameters and buffers that are to stay finite: those that are at the beginning."""

    # an update with a finite gradient can lead out of what float32 holds, and no loss is computed behind the last one

    def __init__(self, named: Mapping[str, Tensor]) -> None:
        numbers = {name: value.detach() for name, value in named.items() if value.is_floating_point() and value.numel()}
        finite = _finite(list(numbers.values())).tolist() if numbers else []
        # others are meant (a mask of -inf)
        self._values = {name: value for (name, value), fine in zip(numbers.items(), finite, strict=True) if fine}

    def check(self, place: str) -> None:
        """Look at them behind an update; FloatingPointError, which names them, if some are not finite."""
        if not self._values:
            return
        finite = _finite(list(self._values.values()))
        if bool(finite.all()):
            return
        names = [name for name, fine in zip(self._values, finite.tolist(), strict=True) if not fine]
        raise FloatingPointError(
            f"{name_some(names)} {'is' if len(names) == 1 else 'are'} not finite after {place}, whose loss and "
            "gradient were. No checkpoint was written of it, and training stopped. Lower the learning rate or α"
        )


@contextmanager
def naming_images(task: Batch | None, stimuli: Batch | None) -> Iterator[None]:
    """Add to a FloatingPointError which images of an update's batches are not finite, if some are."""
    try:
        yield
    except FloatingPointError as error:
        found = []
        for stream, batch in (("task", task), ("stimulus", stimuli)):
            if batch is not None and batch.images.numel():
                bad = ~torch.isfinite(batch.images).flatten(1).all(dim=1)
                names = [batch.ids[k] if batch.ids else f"position {k}" for k in bad.nonzero().flatten().tolist()]
                found += [f"in the {stream} batch the images of {name_some(names)} are not finite"] if names else []
        raise FloatingPointError("; ".join([str(error), *found])) from error.__cause__


def updates_between_reads(device: torch.device, log_every: int) -> int:
    """Number of updates between two reads of the flags."""
    # on the CPU they are at hand, elsewhere reading them makes the host wait
    return 1 if device.type == "cpu" else log_every


def _finite(gradients: list[Tensor]) -> Tensor:
    """Flag gradients whose values are all finite (P,)."""
    dense = [g.detach()._values() if g.is_sparse else g.detach() for g in gradients]
    # the largest absolute value is finite if all are, and one call finds it for all gradients
    if any(g.device.type != "cpu" for g in dense):
        return torch.isfinite(torch.stack([n.float() for n in torch._foreach_norm(dense, inf)]))
    # on the CPU the root of the sum of squares is much faster; where it is infinite, the squares may have overflowed
    finite = torch.isfinite(torch.stack([n.float() for n in torch._foreach_norm(dense)]))
    return finite if finite.all() else torch.stack([torch.isfinite(g).all() for g in dense])
