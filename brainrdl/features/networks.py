"""Networks as they are given: refused where they cannot be recorded or trained, trained in the modes that were set."""

from collections.abc import Iterable, Iterator, Mapping
from copy import deepcopy
from itertools import chain
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from brainrdl.arguments import name_some
from brainrdl.identity import digest
from brainrdl.known import RANDOM_WEIGHTS

_MARK = "_random_weights"


def refuse_compiled(model: nn.Module) -> None:
    """Raise a ValueError for a model whose layers, or some of them, are compiled: hooks would never fire."""
    for name, module in model.named_modules():
        if isinstance(module, torch._dynamo.OptimizedModule) or module._compiled_call_impl is not None:
            where = f"its layer {name!r}" if name else "the model"
            raise ValueError(
                f"{where} is already compiled, and hooks added now would never fire; record first, compile afterwards "
                "(brainrdl.Recorder(model, …), then torch.compile(model))"
            )


def refuse_scripted(model: nn.Module, layers: Iterable[tuple[str, nn.Module]]) -> None:
    """Raise a ValueError for a layer that is, or is part of, a TorchScript module: those take no hooks."""
    scripted = {id(inner) for m in model.modules() if isinstance(m, torch.jit.ScriptModule) for inner in m.modules()}
    for name, layer in layers:
        if id(model) in scripted or id(layer) in scripted:
            raise ValueError(
                f"layer {name!r} is TorchScript, which takes no hooks, so that its responses cannot be recorded; take "
                "the Python module that was scripted or traced, or name a layer outside it"
            )


def refuse_lazy(model: nn.Module, who: str) -> None:
    """Raise a ValueError for parameters that get their shape, and random values, from the first batch."""
    lazy = [name for name, value in chain(model.named_parameters(), model.named_buffers()) if is_lazy(value)]
    if lazy:
        raise ValueError(
            f"{who} has parameters without a shape yet: {name_some(lazy)}; they are drawn at random when it first "
            "runs: call it on a batch of images once, or load its weights"
        )


def train_as_set(model: nn.Module) -> None:
    """Put a network into training mode, except the modules that are in eval mode while others are not."""
    modules, held = dict(model.named_modules()), held_in_eval(model)
    model.train()
    for name in held:
        modules[name].training = False


def held_in_eval(model: nn.Module) -> list[str]:
    """Names of the modules in eval mode while others are not; none where the whole was put into it, to be used."""
    named = list(model.named_modules())
    held = [name for name, module in named if not module.training]
    return held if len(held) < len(named) else []


def copy_of(model: nn.Module) -> nn.Module:
    """Copy a network deeply, whatever answers or computed weights its modules keep."""
    # those hang on a graph, of which torch copies no part
    kept = {id(value): value.detach().clone() for value in _tensors(model) if not value.is_leaf}
    return deepcopy(model, kept)


def _tensors(model: nn.Module) -> Iterator[Tensor]:
    """The tensors that modules hold as plain attributes, in lists, tuples and dicts too."""
    waiting: list[Any] = [
        value
        for module in model.modules()
        if not isinstance(module, torch.jit.ScriptModule)
        for value in vars(module).values()
    ]
    seen: set[int] = set()
    while waiting:
        value = waiting.pop()
        if id(value) in seen:
            continue
        seen.add(id(value))
        if isinstance(value, Tensor):
            yield value
        elif isinstance(value, Mapping):
            waiting.extend(value.values())
        elif isinstance(value, list | tuple | set):
            waiting.extend(value)


def mark_random(model: nn.Module) -> None:
    """Note on a network that its weights, as they are now, are random."""
    setattr(model, _MARK, weights_digest(model))


def is_random(model: nn.Module, digest_now: str | None = None) -> bool:
    """True where a network is marked, and its weights are still those; False says nothing of others."""
    marked = getattr(model, _MARK, None)
    # training or loading leaves the mark where it is
    return marked is not None and marked == (digest_now or weights_digest(model))


def weights_digest(model: nn.Module) -> str:
    """SHA-256 of a network's parameters and buffers."""
    return digest((*model.named_parameters(), *model.named_buffers()))


def with_weights(name: str, *, random: bool) -> str:
    """Name a network, and say if its weights are random."""
    return f"{name} ({RANDOM_WEIGHTS})" if random else name
