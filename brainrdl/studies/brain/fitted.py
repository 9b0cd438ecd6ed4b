"""The networks that a study fitted to its brains, each in a file of its own with what it is."""

from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError
from torch import nn

from brainrdl.inference.splits import Split
from brainrdl.named_models import load_named_model
from brainrdl.studies.brain.configuration import Configuration, Student, configuration_hash
from brainrdl.studies.brain.outcomes import Outcome
from brainrdl.training.checkpoint import load_model, read_manifest, save_model


def save_fitted(
    model: nn.Module, path: Path, outcome: Outcome, *, configuration: Configuration, fitted: str, split: Split
) -> None:
    """Write a fitted network and its manifest, atomically.

    Parameters
    ----------
    model : nn.Module
    path : path
        A ``.safetensors`` file.
    outcome : Outcome
        What came of the fit.
    configuration : Configuration
        The study.
    fitted : str
        The study whose RDMs were fitted.
    split : Split
        Its training stimuli are those that the network was fitted to.
    """
    manifest: dict[str, Any] = {
        "student": configuration.student.model_dump(mode="json"),
        "configuration_hash": configuration_hash(configuration),
        "arm": outcome.arm,
        "seed": outcome.seed,
        "layer": outcome.layer,
        "setting": dict(outcome.setting),
        "task_error": None if np.isnan(outcome.task_error) else outcome.task_error,
        "fitted_study": fitted,
        "scheme": split.scheme,
        "split": split.name,
        "fitted_to": list(outcome.fitted_to),
        "held_out": list(split.held_out),
    }
    save_model(model, path, manifest)


def load_fitted(path: str | Path) -> nn.Module:
    """Load a network that ``brainrdl fit`` fitted to a brain.

    Parameters
    ----------
    path : path
        ``models/<study>/<scheme>/<split>/rdl-seed<n>.safetensors`` in the study's folder.

    Returns
    -------
    nn.Module
        On the CPU, in eval mode, made by what the study's file names as ``student.model``.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    ValueError
        If it is damaged, or no fitted network of a study; if its ``student.model`` is not to be found, or makes another
        architecture by now.

    Notes
    -----
    It wants images as the study showed them: ``load_inputs(configuration).stimuli`` are those, in the size and
    normalisation of the task's images. `read_manifest` tells the layer that was fitted, the setting that was chosen,
    and which stimuli were fitted (``fitted_to``) and held out: only pairs of the latter say how well it predicts.

    Examples
    --------
    >>> import brainrdl as rdl
    >>> from brainrdl.studies import load_fitted, load_inputs, read_configuration
    >>> model = load_fitted("runs/my_study/models/mine/stratified/fold-1/rdl-seed0.safetensors")  # doctest: +SKIP
    >>> stimuli = load_inputs(read_configuration("my_study.yaml")).stimuli  # doctest: +SKIP
    >>> rdms = rdl.layer_rdms(model, stimuli, ["pool2"], "correlation")  # doctest: +SKIP
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(
            f"there is no file {path}; brainrdl fit leaves "
            "models/<study>/<scheme>/<split>/rdl-seed<n>.safetensors in its folder"
        )
    manifest = _manifest(path)
    if "student" not in manifest or "fitted_to" not in manifest:
        raise ValueError(f"{path} holds no network that brainrdl fit fitted; load_model opens others")
    name = Student(**manifest["student"]).model
    return load_model(path, lambda: load_named_model(name).model)


def _manifest(path: Path) -> dict[str, Any]:
    try:
        return read_manifest(path)
    except (SafetensorError, ValueError) as error:
        raise ValueError(f"{path} is not a safetensors file, or is damaged: {error}") from error
