"""What a study read, as checksums: a folder goes on with the very data that it began with."""

import json
from collections.abc import Mapping
from hashlib import sha256
from pathlib import Path
from typing import Any

import torch
import xarray as xr

from brainrdl.data import LabelledImages
from brainrdl.files import read_json
from brainrdl.identity import DIGEST, describe, digest
from brainrdl.studies.brain.configuration import Configuration
from brainrdl.studies.brain.inputs import Inputs
from brainrdl.studies.brain.task_networks import make_student


def checksums(configuration: Configuration, inputs: Inputs) -> dict[str, Any]:
    """SHA-256 of what is in the files that a study names, whatever their names, forms and order.

    Parameters
    ----------
    configuration : Configuration
    inputs : Inputs
        What was read.

    Returns
    -------
    dict
        ``stimuli`` (ids and images), ``categories``, ``studies`` by name, ``student`` (layers and values of the network
        before any training here: its weights, where some are given), and where they are there ``early_visual``,
        ``controls``, ``models`` and ``task``.

    Notes
    -----
    What is computed from these data is not in them, since its last digits may differ with the number of threads.
    """
    found: dict[str, Any] = {
        "stimuli": digest(
            (stimulus, image) for image, stimulus in map(inputs.images.__getitem__, range(len(inputs.images)))
        ),
        "categories": _of(inputs.categories),
        "studies": {name: _of_rdms(rdms) for name, rdms in inputs.studies.items()},
        "student": _of(describe(make_student(configuration, 0))),
    }
    for name in ("early_visual", "controls", "models"):
        if (rdms := getattr(inputs, name)) is not None:
            read = [place for place, label in enumerate(rdms["rdm"].values.tolist()) if label not in inputs.computed]
            found[name] = _of_rdms(rdms.isel(rdm=read))
    if (task := inputs.task) is not None:
        found["task"] = _of(*map(_of_images, (task.training, task.validation, task.test)))
    return found


def check_unchanged(folder: Path, configuration: Configuration, read: Mapping[str, Any]) -> None:
    """Refuse to go on with a study whose data are not those that it began with.

    Parameters
    ----------
    folder : path
        Of the study, which may not be there.
    configuration : Configuration
    read : dict
        What `checksums` finds now.

    Raises
    ------
    ValueError
        Names what changed.
    """
    path = folder / "study.json"
    if not path.exists():
        return
    began = read_json(path, dict, remedy="restore it, or name a new folder with --out").get("inputs", {})
    files = {
        "stimuli": configuration.stimuli,
        "categories": configuration.categories,
        "student": configuration.student.weights or configuration.student.model,
        "task": configuration.task and configuration.task.data,
        "early_visual": configuration.early_visual and configuration.early_visual.rdms,
        "controls": configuration.controls,
    }
    changed = [
        f"{name} ({files[name]})" if files.get(name) else name
        for name, found in read.items()
        if name != "studies" and name in began and began[name] != found
    ]
    for name, study in configuration.studies.items():
        if name in began.get("studies", {}) and began["studies"][name] != read["studies"][name]:
            changed.append(f"studies.{name} ({study.rdms})")
    if changed:
        raise ValueError(
            f"{folder} holds a study of other data, which have changed since it began: {', '.join(changed)}. Restore "
            "them to go on with it, or name a new folder with --out"
        )


def _of(*parts: Any) -> str:
    return DIGEST + sha256(json.dumps(parts, sort_keys=True, default=str).encode()).hexdigest()


def _of_rdms(rdms: xr.DataArray) -> str:
    """Values and labels along ``rdm``; the stimuli are the study's."""
    labels: Mapping[str, Any] = {
        str(name): coord.values.tolist() for name, coord in rdms.coords.items() if coord.dims == ("rdm",)
    }
    values = digest([("values", torch.from_numpy(rdms.values.copy()))])
    return _of(labels, str(rdms.attrs["metric"]), values)


def _of_images(images: LabelledImages) -> str:
    return digest([("images", images.images), ("labels", images.labels)])
