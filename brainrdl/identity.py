"""Identity: things described for a checkpoint or a manifest, JSON-able, and alike in another process."""

import re
from collections.abc import Iterable, Mapping
from functools import partial
from hashlib import sha256
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.optim.lr_scheduler import LRScheduler, MultiplicativeLR

DIGEST = "sha256:"
"""Beginning of a digest; two that differ say no more than that."""

_LONGEST = 200  # characters of a value in a message


def digest(tensors: Iterable[tuple[str, Tensor]]) -> str:
    """SHA-256 of named tensors: names, shapes, types and values, in whatever order they come."""
    hashed = sha256()
    for name, value in sorted(tensors, key=lambda item: item[0]):
        hashed.update(f"{name} {tuple(value.shape)} {value.dtype}".encode())
        hashed.update(value.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes())
    return DIGEST + hashed.hexdigest()


def describe(thing: Any) -> Any:
    """Name a function, a module or a callable object with its options.

    Functions go by their qualified name (two lambdas of one scope cannot be told apart), a `functools.partial` by
    that and its arguments, modules by their layers, plain attributes and values, other objects by their ``repr``.
    """
    if isinstance(thing, partial):
        keywords = {name: _option(value) for name, value in thing.keywords.items()}
        return {"function": describe(thing.func), "args": [_option(a) for a in thing.args], "keywords": keywords}
    if isinstance(thing, nn.Module):
        options = {name: value for name, value in vars(thing).items() if name[0] != "_" and name != "training"}
        state = thing.state_dict()
        values = {"values": digest(state.items())} if state else {}
        return {"name": type(thing).__name__, "layers": layers_of(thing)} | values | settings(options)
    if thing is None or hasattr(thing, "__qualname__"):
        return None if thing is None else thing.__qualname__
    return _without_address(repr(thing))


def layers_of(model: nn.Module) -> dict[str, str]:
    """Layer → its type and options, activations and dropout rates among them."""
    named = list(model.named_modules())
    return {
        name: _without_address(f"{type(module).__name__}({module.extra_repr()})") for name, module in named[1:] or named
    }


def describe_scheduler(scheduler: LRScheduler, epochs: int) -> dict[str, Any]:
    """Name a learning-rate scheduler with its settings; functions in it by their values in every epoch."""
    described = {"name": type(scheduler).__name__} | settings(scheduler.state_dict())
    if functions := getattr(scheduler, "lr_lambdas", None):
        called = range(int(isinstance(scheduler, MultiplicativeLR)), epochs)
        described["lr_lambdas"] = [[float(function(epoch)) for epoch in called] for function in functions]
    if parts := getattr(scheduler, "_schedulers", None):
        described["schedulers"] = [describe_scheduler(part, epochs) for part in parts]
    return described


def settings(state: Mapping[str, Any]) -> dict[str, Any]:
    """The numbers, names and switches among some settings."""
    found = {key: _simple(value) for key, value in state.items()}
    return {key: value for key, value in found.items() if value is not None}


def _simple(value: Any) -> Any:
    """A number, a name, a switch or a list of such; None for anything else."""
    if isinstance(value, np.generic) or (isinstance(value, Tensor) and value.numel() == 1):
        return value.item()
    if isinstance(value, list | tuple):
        parts = [_simple(part) for part in value]
        return None if any(part is None for part in parts) else parts
    return value if isinstance(value, int | float | str) else None


def _option(value: Any) -> Any:
    if isinstance(value, Tensor) and value.numel() > 1:
        return digest([("", value)])
    simple = _simple(value)
    return describe(value) if simple is None else simple


def _without_address(text: str) -> str:
    """A ``repr`` without the place in memory, which is another one in every process."""
    return re.sub(r" at 0x[0-9a-fA-F]+", "", text)


def differences(stored: Any, asked: Any, field: str = "") -> list[str]:
    """Name the fields in which two configurations differ, as ``field is this there and that here``."""
    if isinstance(stored, Mapping) and isinstance(asked, Mapping):
        parts = [(f"{field}.{k}" if field else str(k), stored.get(k), asked.get(k)) for k in {**stored, **asked}]
        return [line for name, a, b in parts for line in differences(a, b, name)]
    if isinstance(stored, list) and isinstance(asked, list) and len(stored) == len(asked):
        if _is_constant(stored) and _is_constant(asked):  # α of every epoch: said once
            return differences(stored[0], asked[0], field)
        pairs = enumerate(zip(stored, asked, strict=True))
        return [line for i, (a, b) in pairs for line in differences(a, b, f"{field}.{i}")]
    if stored == asked:
        return []
    # two digests say nothing to a reader
    if all(isinstance(side, str) and side.startswith(DIGEST) for side in (stored, asked)):
        owner, _, part = field.rpartition(".")
        return [f"{owner or 'it'} has other {part}"]
    return [f"{field} is {_in_short(stored)} there and {_in_short(asked)} here"]


def _is_constant(values: list[Any]) -> bool:
    return len(values) > 1 and isinstance(values[0], Mapping) and all(value == values[0] for value in values)


def _in_short(value: Any) -> str:
    """A value for a message; of things that have names, such as terms and teachers, these."""
    if isinstance(value, list) and value and all(isinstance(part, Mapping) and "name" in part for part in value):
        return f"[{', '.join(str(part['name']) for part in value)}]"
    text = repr(value)
    return text if len(text) <= _LONGEST else f"{text[: _LONGEST - 1]}…"
