"""The networks that students begin as: trained on the task alone, one per seed."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from lightning_fabric import Fabric
from safetensors import SafetensorError
from torch import nn

from brainrdl.files import check_json
from brainrdl.named_models import load_named_model
from brainrdl.studies.brain.configuration import Configuration
from brainrdl.studies.brain.inputs import TaskImages
from brainrdl.studies.optimizers import linear_sgd
from brainrdl.training.checkpoint import load_model, read_manifest, save_model
from brainrdl.training.randomness import derive_seed
from brainrdl.training.trainer import Trainer

_ATTEMPTS = 3
_CHANCE = 0.98  # of the error of guessing: what comes no further has died, whatever its loss says


def make_student(configuration: Configuration, seed: int, attempt: int = 0, *, trained: bool = True) -> nn.Module:
    """Make the network of a seed before any training here; `trained`: with the weights that the study names."""
    student = configuration.student
    key = ("initialisation",) if attempt == 0 else ("initialisation", attempt)
    weights = student.weights if trained else None
    return load_named_model(student.model, weights, seed=derive_seed(seed, *key)).model


def attempt_of(configuration: Configuration, seed: int, folder: Path) -> int:
    """The attempt at which the task network of a seed, which has to be there, was trained; see `task_network`."""
    if configuration.task is None or configuration.student.weights is not None:
        return 0
    return int(_record(_path(folder, seed))["attempt"])


def task_network(
    configuration: Configuration,
    images: TaskImages | None,
    seed: int,
    folder: Path,
    fabric: Fabric,
    *,
    log: Callable[[str], None] = print,
) -> nn.Module:
    """Train a network on the task, go on with it, or read it where it is done.

    A network that ends at chance has died, which depends on its initialisation: it is trained anew from another, up to
    three times. The file says at which attempt it came about.

    Parameters
    ----------
    configuration : Configuration
        The study.
    images : TaskImages or None
        Of the task.
    seed : int
    folder : path
        Where ``task-seed<n>.safetensors`` is kept.
    fabric : Fabric
        Device and precision.
    log : callable
        Told what is going on.

    Returns
    -------
    nn.Module
        In eval mode.

    Raises
    ------
    ValueError
        If the file there was trained in another way.
    FloatingPointError
        If all attempts end at chance.
    """
    task = configuration.task
    if task is None or images is None or configuration.student.weights is not None:
        return make_student(configuration, seed).eval()
    path = _path(folder, seed)
    identity = {"task": task.model_dump(mode="json"), "student": configuration.student.model_dump(mode="json")}
    if path.exists():
        record = _record(path)
        if (record.get("identity"), record.get("seed")) != (identity, seed):
            raise ValueError(f"{path} was trained in another way than the configuration says; remove it, or restore it")
        attempt = int(record["attempt"])
        return load_model(path, lambda: make_student(configuration, seed, attempt)).eval()
    for attempt in range(_ATTEMPTS):
        name = f"task network, seed {seed}" + (f", attempt {attempt + 1}" if attempt else "")
        log(f"{name}: {task.epochs} epochs of {len(images.training)} images of {task.data}")
        key = ("task",) if attempt == 0 else ("task", attempt)
        student = make_student(configuration, seed, attempt)
        checkpoint = folder / f"task-seed{seed}-attempt{attempt}.pt"
        history = Trainer(
            student,
            optimizer=linear_sgd(task.epochs, learning_rate=task.learning_rate, weight_decay=task.weight_decay),
            fabric=fabric,
        ).fit(
            images.batches.training(images.training, task.batch_size),
            epochs=task.epochs,
            validation=images.batches.evaluation(images.validation),
            checkpoint=checkpoint,
            seed=derive_seed(seed, *key),
        )
        error, seconds = float(history["validation_error"].iloc[-1]), float(history["seconds"].sum())
        log(f"{name}: validation error {error:.2f} % ({seconds:.0f} s)")
        if error < _CHANCE * 100 * (1 - 1 / len(images.training.classes)):
            record = {"identity": identity, "seed": seed, "attempt": attempt, "validation_error": error}
            save_model(student, path, record)
            for leftover in folder.glob(f"task-seed{seed}-attempt*.pt"):
                leftover.unlink()
            return task_network(configuration, images, seed, folder, fabric, log=log)  # read back
    raise FloatingPointError(
        f"the task network of seed {seed} ended at chance {_ATTEMPTS} times; lower task.learning_rate, or train longer"
    )


def _record(path: Path) -> dict[str, Any]:
    try:
        record: dict[str, Any] = check_json(read_manifest(path), dict, ("identity", "seed", "attempt"), str(path))
    except (SafetensorError, ValueError) as error:
        raise ValueError(f"{path} is damaged ({error}); remove it to have the network trained again") from error
    return record


def _path(folder: Path, seed: int) -> Path:
    return folder / f"task-seed{seed}.safetensors"
