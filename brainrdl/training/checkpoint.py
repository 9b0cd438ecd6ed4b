"""A run's state on disk, written atomically; and models as safetensors with their manifest."""

import io
import json
import os
import warnings
from collections.abc import Callable, Mapping
from hashlib import sha256
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_model as load_tensors, save_model as save_tensors
from torch import nn

from brainrdl.files.store import atomic_path, keep_beside
from brainrdl.files.weights import check_safetensors, safetensors_metadata
from brainrdl.identity import differences

Compare = Callable[[Mapping[str, Any], Mapping[str, Any]], list[str]]
"""(configuration in a file, configuration of the run) → in what they differ, a line each."""


def save_checkpoint(state: Mapping[str, Any], path: str | Path) -> None:
    """Write a run's state: tensors, numbers, strings, lists and dicts only. A SHA-256 of the file stands at its end.

    The file that was at `path` stays, under the name of `previous_checkpoint`.
    """
    # by way of memory: torch reports a full disk as a RuntimeError about positions
    content = io.BytesIO()
    torch.save(_plain(dict(state)), content)
    with atomic_path(path) as temporary:
        temporary.write_bytes(content.getbuffer())
        _seal(temporary)
        if Path(path).exists():
            keep_beside(Path(path), previous_checkpoint(path))


def previous_checkpoint(path: str | Path) -> Path:
    """Name the checkpoint before the one at `path`."""
    return Path(f"{path}.previous")


def remove_checkpoint(path: str | Path) -> None:
    """Remove a checkpoint that has served, and the one before it."""
    previous_checkpoint(path).unlink(missing_ok=True)
    Path(path).unlink(missing_ok=True)


def has_checkpoint(path: str | Path) -> bool:
    """True where there is a checkpoint to read; ValueError where there is only the one before it."""
    previous = previous_checkpoint(path)
    if not Path(path).exists() and previous.exists():
        raise ValueError(
            f"there is no checkpoint {path}, but the one before it, {previous}; rename it to {Path(path).name} to go "
            "on from it, or remove it to start over"
        )
    return Path(path).exists()


def load_checkpoint(
    path: str | Path, configuration: Mapping[str, Any], compare: Compare = differences
) -> dict[str, Any]:
    """Read a run's state, tensors on the CPU, and check that it is whole and of this configuration.

    `compare` names in what the stored configuration and this one differ. No code in the file is run. IsADirectoryError
    for a folder, ValueError for what is damaged, which names the checkpoint before it where that is whole, or of
    another configuration.
    """
    if Path(path).is_dir():
        raise IsADirectoryError(f"{path} is a folder; name a file in it for the checkpoint")
    if Path(path).exists() and not Path(path).is_file():  # a pipe or a device would be waited for without end
        raise ValueError(f"{path} is neither a file nor a link to one; name another path for the checkpoint")
    try:
        state = _read(path)
    except _FaultError as fault:
        raise ValueError(f"{fault}; {_way_on(path, fault.remedy, configuration, compare)}") from fault.__cause__
    differing = compare(state["configuration"], configuration)
    if differing:
        raise ValueError(
            f"{path} belongs to a run with another configuration: {'; '.join(differing[:5])}"
            f"{f' and {len(differing) - 5} more' if len(differing) > 5 else ''}. "
            "Restore the setting to resume it, or name another path to start over"
        )
    return state


class _FaultError(Exception):
    """A file that is no checkpoint, or damaged; and the remedy where there is no other checkpoint."""

    def __init__(self, fault: str, remedy: str) -> None:
        super().__init__(fault)
        self.remedy = remedy


def _way_on(path: str | Path, remedy: str, configuration: Mapping[str, Any], compare: Compare) -> str:
    """Say what to do about a checkpoint that cannot be read: go on from the one before it, if that can be."""
    previous = previous_checkpoint(path)
    if not previous.is_file():
        return remedy
    try:
        state = _read(previous)
    except _FaultError:
        return f"so is the checkpoint before it, {previous}; put copies in their places, or remove both to start over"
    if compare(state["configuration"], configuration):
        return f"the checkpoint before it, {previous}, is of another configuration; remove both to start over"
    done, within = len(state["history"]), state.get("progress")
    epochs = f"{done} epoch{'' if done == 1 else 's'}"
    updates = f" and {within['updates']} of the next one's updates" if within else ""
    return (
        f"the checkpoint before it, {previous}, is whole and holds {epochs}{updates}; rename it to "
        f"{Path(path).name} to go on from there, or remove both to start over"
    )


def _read(path: str | Path) -> dict[str, Any]:
    """Read a checkpoint, whatever its configuration."""
    # the seal before the content: torch reads a damaged tensor without complaint
    sealed, whole = _read_seal(path)
    if sealed and not whole:
        raise _damaged(path)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch's thoughts on a file that is refused anyway
            state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # a foreign file can make the reader fail in any way
        if isinstance(error, OSError) and error.filename is not None:
            raise
        raise _FaultError(
            f"{path} is not a checkpoint of this trainer, or is damaged ({type(error).__name__})",
            "remove it to start over",
        ) from error
    if not isinstance(state, dict) or "configuration" not in state:
        raise _FaultError(
            f"{path} is not a checkpoint of this trainer", "name another path, or remove it to start over"
        )
    # last: a foreign file without a seal has had its own message above
    if not sealed:
        raise _damaged(path)
    return state


# torch writes a zip archive, whose last field is the length of a comment, 0. torch's reader looks at no checksum, so
# the comment becomes the SHA-256 of all that stands before that field.
_COMMENT = 64


def _damaged(path: str | Path) -> _FaultError:
    return _FaultError(
        f"{path} is damaged: it is not what was written there (its SHA-256 differs)",
        "put a copy in its place, or remove it to start over",
    )


def _seal(path: Path) -> None:
    with path.open("r+b") as file:
        hashed = _sha256_of(file, path.stat().st_size - 2)
        file.seek(-2, os.SEEK_END)
        file.write(_COMMENT.to_bytes(2, "little") + hashed.encode())


def _read_seal(path: str | Path) -> tuple[bool, bool]:
    """Read the end of a file: is there a seal, and does it fit the rest?"""
    size = os.path.getsize(path) - 2 - _COMMENT
    if size < 0:
        return False, False
    with open(path, "rb") as file:
        hashed = _sha256_of(file, size)
        comment, written = file.read(2), file.read()
    return comment == _COMMENT.to_bytes(2, "little"), written == hashed.encode()


def _sha256_of(file: BinaryIO, size: int) -> str:
    """SHA-256 of the file's first `size` bytes, which are read."""
    hashed = sha256()
    while size > 0 and (part := file.read(min(size, 2**20))):
        hashed.update(part)
        size -= len(part)
    return hashed.hexdigest()


def _plain(value: Any) -> Any:
    """Turn NumPy's numbers into Python's: schedules compute them, and a file without code cannot hold them."""
    if isinstance(value, np.generic):
        return value.item()
    if type(value) is dict:
        return {key: _plain(part) for key, part in value.items()}
    return type(value)(map(_plain, value)) if type(value) in (list, tuple) else value


def save_model(model: nn.Module, path: str | Path, manifest: Mapping[str, Any] | None = None) -> None:
    """Save a model's parameters and buffers as safetensors, its manifest inside.

    Parameters
    ----------
    model : nn.Module
        Model to save.
    path : path
        File to write, atomically.
    manifest : dict, optional
        Facts to keep with it, JSON-able: the model's architecture, how it was trained.

    Raises
    ------
    TypeError
        If the manifest is not JSON-able.
    OSError
        If the file cannot be written.

    Examples
    --------
    >>> import tempfile, torch, brainrdl as rdl
    >>> path = tempfile.mkdtemp() + "/model.safetensors"
    >>> rdl.save_model(torch.nn.Linear(2, 1), path, {"task": "none"})
    >>> rdl.load_model(path, lambda: torch.nn.Linear(2, 1))
    Linear(in_features=2, out_features=1, bias=True)
    """
    text = json.dumps(dict(manifest or {}), sort_keys=True)
    metadata = safetensors_metadata(model.state_dict(), text)
    with atomic_path(path) as temporary:
        try:
            save_tensors(model, str(temporary), metadata=metadata)
        except SafetensorError as error:
            raise OSError(f"{path} could not be written: {error}; make room, or name another place") from error


def load_model(path: str | Path, factory: Callable[[], nn.Module]) -> nn.Module:
    """Rebuild a saved model.

    Parameters
    ----------
    path : path
        File that `save_model` wrote.
    factory : callable
        Function without arguments that makes a model of the same architecture.

    Returns
    -------
    nn.Module
        Model with the saved values, in eval mode.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    TypeError
        If `factory` is not a function that makes a module.
    ValueError
        If the file is damaged, or holds another architecture.

    Examples
    --------
    >>> import tempfile, torch, brainrdl as rdl
    >>> path = tempfile.mkdtemp() + "/model.safetensors"
    >>> rdl.save_model(torch.nn.Linear(2, 1), path)
    >>> rdl.load_model(path, lambda: torch.nn.Linear(2, 1)).training
    False
    """
    if not Path(path).is_file():
        raise FileNotFoundError(f"no model at {path}; save_model writes one")
    if isinstance(factory, nn.Module) or not callable(factory):
        raise TypeError(
            f"factory is a {type(factory).__name__}; expected a function that makes a module of the saved "
            "architecture, such as lambda: mnist_cnn()"
        )
    # before the file is read: a wrong factory is the likelier mistake, and reading may take long
    model = factory()
    if not isinstance(model, nn.Module):
        raise TypeError(f"factory returned a {type(model).__name__}; expected a module of the saved architecture")
    try:
        check_safetensors(path)
        load_tensors(model, str(path))
    except SafetensorError as error:
        raise ValueError(f"{path} is not a safetensors file, or is damaged: {error}") from error
    except RuntimeError as error:
        raise ValueError(f"{path} holds another architecture than {type(model).__name__}: {error}") from error
    return model.eval()


def read_manifest(path: str | Path) -> dict[str, Any]:
    """Read the manifest that `save_model` put into a model's file.

    Parameters
    ----------
    path : path
        File that `save_model` wrote.

    Returns
    -------
    dict
        Manifest; empty where the file has none.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    ValueError
        If the manifest is not the one that was written.

    Examples
    --------
    >>> import tempfile, torch
    >>> from brainrdl.training import read_manifest, save_model
    >>> path = tempfile.mkdtemp() + "/model.safetensors"
    >>> save_model(torch.nn.Linear(2, 1), path, {"task": "none"})
    >>> read_manifest(path)
    {'task': 'none'}
    """
    text = check_safetensors(path, tensors=False).get("manifest", "{}")
    try:
        return dict(json.loads(text))
    except (ValueError, TypeError, RecursionError) as error:  # another tool's
        raise ValueError(f"{path} has a manifest that is no JSON object ({error}); save the model anew") from error
