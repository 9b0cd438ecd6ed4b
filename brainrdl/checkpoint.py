"""A run's state on disk, written atomically; and models as safetensors with their manifest."""

import json
import os
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_model as load_tensors
from safetensors.torch import save_model as save_tensors
from torch import nn


@contextmanager
def atomic_path(path: str | Path) -> Iterator[Path]:
    """Yield a temporary path beside `path` that replaces it only once it is complete on disk.

    Whoever reads `path` finds the old file or the new one, never a part of it, also after a kill or a power cut.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        yield temporary
        with temporary.open("rb") as file:
            os.fsync(file.fileno())
        os.replace(temporary, path)
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
    finally:
        temporary.unlink(missing_ok=True)


def save_checkpoint(state: Mapping[str, Any], path: str | Path) -> None:
    """Write a run's state: tensors, numbers, strings, lists and dicts only."""
    with atomic_path(path) as temporary:
        torch.save(_plain(dict(state)), temporary)


def load_checkpoint(path: str | Path, configuration: Mapping[str, Any]) -> dict[str, Any]:
    """Read a run's state and check that it belongs to this run.

    Parameters
    ----------
    path : path
        Where `save_checkpoint` put it. No code in the file is executed.
    configuration : dict
        The asking run's configuration; the state holds its own under ``"configuration"``.

    Returns
    -------
    dict
        The state, its tensors on the CPU.

    Raises
    ------
    ValueError
        If the file is no checkpoint, or its configuration differs; the differences are named.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch's thoughts on a file that is refused anyway
            state = torch.load(path, map_location="cpu", weights_only=True)
    except OSError:
        raise
    except Exception as error:  # a foreign file can make the reader fail in any way
        raise ValueError(
            f"{path} is not a checkpoint of this trainer, or is damaged ({type(error).__name__}); "
            "remove it to start over"
        ) from error
    if not isinstance(state, dict) or "configuration" not in state:
        raise ValueError(f"{path} is not a checkpoint of this trainer; name another path, or remove it to start over")
    differing = differences(state["configuration"], configuration)
    if differing:
        raise ValueError(
            f"{path} belongs to a run with another configuration: {'; '.join(differing[:5])}"
            f"{f' and {len(differing) - 5} more' if len(differing) > 5 else ''}. "
            "Restore the setting to go on with it, or name another path to start over"
        )
    return state


def _plain(value: Any) -> Any:
    """NumPy's numbers as Python's: a schedule computes them, and a file without code cannot hold them."""
    if isinstance(value, np.generic):
        return value.item()
    if type(value) is dict:
        return {key: _plain(part) for key, part in value.items()}
    return type(value)(map(_plain, value)) if type(value) in (list, tuple) else value


def differences(there: Any, here: Any, field: str = "") -> list[str]:
    """Name the fields in which two configurations differ, as ``field: this there, that here``."""
    if isinstance(there, Mapping) and isinstance(here, Mapping):
        keys = dict.fromkeys((*there, *here))
        return [
            line
            for key in keys
            for line in differences(there.get(key), here.get(key), f"{field}.{key}" if field else str(key))
        ]
    if isinstance(there, list) and isinstance(here, list) and len(there) == len(here):
        return [
            line for i, (a, b) in enumerate(zip(there, here, strict=True)) for line in differences(a, b, f"{field}.{i}")
        ]
    return [] if there == here else [f"{field} is {there!r} there and {here!r} here"]


def save_model(model: nn.Module, path: str | Path, manifest: Mapping[str, Any] | None = None) -> None:
    """Save a model's parameters and buffers as safetensors, its manifest inside.

    Parameters
    ----------
    model : nn.Module
        The model.
    path : path
        The file, written atomically.
    manifest : dict, optional
        JSON-able: what the model is, how it was made.

    Raises
    ------
    TypeError
        If the manifest is not JSON-able.

    Examples
    --------
    >>> import tempfile, torch, brainrdl as rdl
    >>> path = tempfile.mkdtemp() + "/model.safetensors"
    >>> rdl.save_model(torch.nn.Linear(2, 1), path, {"task": "none"})
    >>> rdl.load_model(path, lambda: torch.nn.Linear(2, 1))
    Linear(in_features=2, out_features=1, bias=True)
    """
    text = json.dumps(dict(manifest or {}), sort_keys=True)
    with atomic_path(path) as temporary:
        save_tensors(model, str(temporary), metadata={"manifest": text})


def load_model(path: str | Path, factory: Callable[[], nn.Module]) -> nn.Module:
    """Rebuild a saved model.

    Parameters
    ----------
    path : path
        Where `save_model` put it.
    factory : callable
        Makes a model of the same architecture.

    Returns
    -------
    nn.Module
        The model with the saved values, in eval mode.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    ValueError
        If the file is damaged, or holds another architecture.

    Examples
    --------
    See `save_model`.
    """
    if not Path(path).is_file():
        raise FileNotFoundError(f"no model at {path}; save_model writes one")
    model = factory()
    try:
        load_tensors(model, str(path))
    except SafetensorError as error:
        raise ValueError(f"{path} is not a safetensors file, or is damaged: {error}") from error
    except RuntimeError as error:
        raise ValueError(f"{path} holds another architecture than {type(model).__name__}: {error}") from error
    return model.eval()


def read_manifest(path: str | Path) -> dict[str, Any]:
    """Read the manifest that `save_model` put into a model's file."""
    with safe_open(str(path), framework="pt") as file:
        manifest: dict[str, Any] = json.loads((file.metadata() or {}).get("manifest", "{}"))
    return manifest


def fingerprint(model: nn.Module) -> str:
    """SHA-256 of a model's parameters and buffers, names and all."""
    digest = sha256()
    for name, value in sorted((*model.named_parameters(), *model.named_buffers()), key=lambda item: item[0]):
        digest.update(f"{name} {tuple(value.shape)} {value.dtype}".encode())
        digest.update(value.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()
