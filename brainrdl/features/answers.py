"""Check that a network's answers are patterns of stimuli: one for each, the same whatever else is in the batch."""

import warnings
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from brainrdl.features.recorder import Recorder, kept_modes

DEPENDS = (
    "it depends on the other stimuli or on chance, as BatchNorm without running statistics does, or dropout that is on "
    "in eval mode"
)
"""Why a layer answers the same stimulus otherwise."""

BEFORE = "before the first update"

_SHOWN = 8
_OF_ONE = 1e-2  # by which a sum of probabilities in half precision may miss it


@torch.no_grad()
def check_answers(
    model: nn.Module,
    layers: Iterable[str],
    images: Tensor,
    who: str = "",
    *,
    select: Mapping[str, Any] | None = None,
    output: bool = False,
) -> None:
    """Show a few of the images (n, ...) in two batches; ValueError unless each has one pattern, the same in both.

    `output`: the model's output is looked at too. The model runs in eval mode; its modes, buffers and hooks, the random
    states and the images stay as they are.
    """
    names = tuple(layers)
    n = len(images)
    if n == 0 or not (names or output):
        return
    shown = min(n, _SHOWN)
    # of another size than the first batch, in which no image stays in its place
    again = list(range(shown - 1, shown // 2 - 1, -1)) if n > 2 else [n - 1] * (n + 1)
    with _left_as_it_is(model), Recorder(model, names, select=select, flatten=False) as recorder:

        def answers(batch: Tensor) -> dict[str, Tensor]:
            answered = model(batch)
            features = recorder.features() if names else {}
            return features | ({"": answered} if output and isinstance(answered, Tensor) else {})

        try:
            first, second = answers(images[:shown].clone()), answers(images[again])
        except Exception:  # a network made for batches of one size; any other reason comes up again
            shown, again = n, list(range(n - 1, -1, -1))
            first, second = answers(images.clone()), answers(images[again])
    for name, answer in first.items():
        what = (f"{who}'s " if who else "") + (f"layer {name!r}" if name else "output")
        check_first_axis(answer, shown, what)
        check_first_axis(second[name], len(again), what)
        off = difference(answer[again], second[name], _coarsest(model, answer), images.device)
        if off is not None:
            raise ValueError(
                f"{what} responds to the same image differently in another batch, by {off:.2g} of its largest "
                f"response: {DEPENDS}; distances need responses that do not"
            )


def check_first_axis(answer: Tensor, n: int, what: str) -> None:
    """Raise a ValueError unless the first dimension of an answer is that of n stimuli."""
    if answer.ndim == 0 or len(answer) != n:
        raise ValueError(
            f"{what} responds to {n} stimuli with shape {tuple(answer.shape)}; its first dimension must be the "
            "stimuli: name a layer whose output has them first, or put a layer behind it that moves them there"
        )


def difference(answer: Tensor, again: Tensor, dtype: torch.dtype, device: torch.device) -> float | None:
    """The largest difference of two answers over the largest answer, None where rounding in `dtype` explains it."""
    if not dtype.is_floating_point or not answer.numel():  # rounding may change a whole number by one
        return None
    a, b = (value.detach().cpu().double() for value in (answer, again))
    off = float((a - b).abs().max() / a.abs().max().clamp_min(torch.finfo(torch.float64).tiny))
    # other batch sizes sum in another order, on a GPU with TF32's ten bits
    rounding = torch.finfo(dtype).eps if device.type == "cpu" else 2.0**-10
    return off if off > max(1e-3, 16 * rounding, 16 * torch.finfo(dtype).eps) else None


def is_constant(patterns: Tensor) -> Tensor:
    """Are all patterns (n, ...) the same but for rounding: a Tensor () of bool."""
    values = patterns.detach()
    spread, size = (values - values[:1]).abs().max(), values.abs().max()
    return spread.double() <= 16 * torch.finfo(values.dtype).eps * size.double()


def alike(patterns: Tensor) -> bool:
    """`is_constant` of several patterns (n, ...) of real numbers; waits for the device."""
    several = patterns.ndim > 0 and len(patterns) > 1 and patterns.numel() > 0
    return several and patterns.is_floating_point() and bool(is_constant(patterns))


def are_probabilities(output: Any) -> bool:
    """Tell if an output (n, classes) is of probabilities: none negative, and each row's sum 1."""
    if not isinstance(output, Tensor) or output.ndim != 2 or output.shape[1] < 2 or not output.is_floating_point():
        return False
    sums = output.detach().double().sum(dim=1)
    return bool((output >= 0).all()) and bool(((sums - 1).abs() <= _OF_ONE).all())


def warn_dead(features: Mapping[str, Tensor], images: Tensor, who: str, when: str) -> list[str]:
    """Warn of layers that answer alike to images that are not alike; their names."""
    dead = [layer for layer, value in features.items() if isinstance(value, Tensor) and alike(value)]
    if not dead or alike(images):
        return []
    for layer in dead:
        value = features[layer]
        what = f"{who}'s {'output' if layer == 'output' else f'layer {layer!r}'}"
        warnings.warn(
            f"{what} responds identically to all {len(value)} stimuli of a batch, {when} "
            f"({'all patterns are the same' if value.any() else 'every output is 0'}): it has no geometry, and passes "
            "no gradient back that could give it one; look at its weights and biases, the layers before it and the "
            "scale of the images, or lower the learning rate",
            stacklevel=3,
        )
    return dead


def _coarsest(model: nn.Module, answer: Tensor) -> torch.dtype:
    """Type, among those that an answer went through, that rounds most."""
    if not answer.is_floating_point():
        return answer.dtype
    types = {answer.dtype, *(p.dtype for p in model.parameters() if p.is_floating_point())}
    kind = answer.device.type
    if torch.is_autocast_enabled(kind):
        types.add(torch.get_autocast_dtype(kind))
    return max(types, key=lambda dtype: torch.finfo(dtype).eps)


@contextmanager
def _left_as_it_is(model: nn.Module) -> Iterator[None]:
    """Run a model in eval mode without anything noticing: buffers are copies, others' hooks do not fire."""
    modules = [module for module in model.modules() if not isinstance(module, torch.jit.ScriptModule)]
    buffers = [dict(module._buffers) for module in modules]
    hooks = [(module._forward_pre_hooks, module._forward_hooks) for module in modules]
    devices = range(torch.cuda.device_count())
    with kept_modes(model), torch.random.fork_rng(devices=devices):
        model.eval()
        for module in modules:
            module._buffers.update({name: None if b is None else b.clone() for name, b in module._buffers.items()})
            module._forward_pre_hooks = _part_of_the_model(module._forward_pre_hooks)
            module._forward_hooks = _part_of_the_model(module._forward_hooks)
        try:
            yield
        finally:
            for module, kept, (before, behind) in zip(modules, buffers, hooks, strict=True):
                module._buffers.update(kept)
                module._forward_pre_hooks, module._forward_hooks = before, behind


def _part_of_the_model(hooks: Mapping[int, Callable[..., Any]]) -> "OrderedDict[int, Callable[..., Any]]":
    """The hooks of torch itself, by which weight normalisation and pruning compute weights."""
    own = ((key, hook) for key, hook in hooks.items() if str(_home(hook)).startswith("torch."))
    return OrderedDict(own)


def _home(hook: Any) -> Any:
    return getattr(hook, "__module__", None) or type(hook).__module__
