"""A frozen copy of a network, and the input that it was trained on as its first normalisation remembers it."""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _NormBase

from brainrdl.features.networks import copy_of, refuse_lazy

_FACTOR = 4.0  # images of another kind differ by less, those that were not normalised (or twice) by more


def frozen_copy(model: nn.Module) -> nn.Module:
    """Copy a network deeply, in eval mode and without gradients; TypeError or ValueError where that cannot be."""
    if not isinstance(model, nn.Module):
        raise TypeError(f"model is a {type(model).__name__}; expected a torch.nn.Module, whose layers have names")
    refuse_lazy(model, "the teacher")
    try:
        copied = copy_of(model)
    except Exception as error:
        raise ValueError(
            f"the teacher holds a deep copy of its network, and this {type(model).__name__} cannot be copied "
            f"({type(error).__name__}: {str(error).strip().splitlines()[0]}); delete what it keeps beside its weights, "
            "or make the network anew and load its state_dict"
        ) from error
    # not copied.requires_grad_, which TorchScript lacks; its copies hang on a graph too
    for value in copied.parameters():
        value.detach_().requires_grad_(False)
    return copied.eval()


def unlike_training(model: nn.Module, images: Tensor) -> str | None:
    """Say by how much a network's input is scaled otherwise than in training, None unless wildly.

    Compares what reaches the first layer with running statistics, on these images, with the statistics.
    """
    first: list[tuple[str, nn.Module, Tensor]] = []

    def note(name: str, module: nn.Module, given: Any) -> None:
        if not first and given and isinstance(given[0], Tensor):
            first.append((name, module, given[0].detach()))

    handles = [
        module.register_forward_pre_hook(lambda module, given, name=name: note(name, module, given))
        for name, module in model.named_modules()
        if _has_statistics(module)
    ]
    try:
        if handles:
            with torch.no_grad():
                model(images)
    finally:
        for handle in handles:
            handle.remove()
    if not first:
        return None
    name, module, given = first[0]
    values = given.double().transpose(0, 1).flatten(1)  # (channels, stimuli and positions)
    mean, var = module.running_mean, module.running_var
    assert isinstance(mean, Tensor) and isinstance(var, Tensor)  # noqa: S101, PT018 - `_has_statistics`
    known = var > 0
    if values.shape[0] != len(var) or values.shape[1] < 2 or not known.any():
        return None
    sd, spread = values.std(dim=1)[known], var[known].double().sqrt()
    ratio = float((sd / spread).median())
    shift = float(((values.mean(dim=1)[known] - mean[known].double()).abs() / spread).median())
    if 1 / _FACTOR <= ratio <= _FACTOR and shift <= _FACTOR:
        return None
    return (
        f"layer {name!r} of the teacher normalises by statistics of its training, and gets values whose standard "
        f"deviation is {ratio:.2g} times theirs and whose mean is {shift:.2g} of their standard deviations off: the "
        "teacher seems to see images on another scale than it was trained on; give preprocess= the normalisation that "
        "it was trained with"
    )


def _has_statistics(module: nn.Module) -> bool:
    if not isinstance(module, _NormBase) or module.running_mean is None or module.training:
        return False
    seen = module.num_batches_tracked  # none: the statistics are those it was made with
    return seen is not None and bool(seen > 0)
