"""A study's networks on disk: those that students begin as, trained on the task alone, and those fitted to a brain."""

from collections.abc import Callable
from contextlib import AbstractContextManager
from functools import partial
from inspect import isfunction
from pathlib import Path
from typing import Any

import torch
import torchvision.models
from lightning_fabric import Fabric
from safetensors import SafetensorError
from torch import nn

from brainrdl import models
from brainrdl.files.store import check_json
from brainrdl.inference.splits import Split
from brainrdl.named_models import load_named_model
from brainrdl.studies.brain.configuration import Configuration, Task, configuration_hash
from brainrdl.studies.brain.inputs import Inputs, TaskImages
from brainrdl.studies.brain.outcomes import Outcome
from brainrdl.studies.kept import kept
from brainrdl.studies.optimizers import linear_sgd
from brainrdl.training.checkpoint import load_model, read_manifest, remove_checkpoint, save_model
from brainrdl.training.randomness import derive_seed
from brainrdl.training.trainer import Trainer

# a network that ends at chance has died, which depends on its initialisation: it is trained anew from another; its file
# says at which attempt it came about
_BYTES_PER_WEIGHT = 4
_ATTEMPTS = 3
_CHANCE = 0.98  # of the error of guessing: what comes no further has died, whatever its loss says


def make_student(configuration: Configuration, seed: int, attempt: int = 0, *, trained: bool = True) -> nn.Module:
    """Make the network of a seed before any training here; `trained`: with the weights that the study names."""
    student = configuration.student
    key = ("initialisation",) if attempt == 0 else ("initialisation", attempt)
    weights = student.weights if trained else None
    return load_named_model(student.model, weights, seed=derive_seed(seed, *key), untrained=True).model


def trained_here(configuration: Configuration, inputs: Inputs) -> tuple[Task, TaskImages] | None:
    """Task and images of the task networks that the study trains, None where it trains none."""
    if configuration.task is None or inputs.task is None or configuration.student.weights is not None:
        return None
    return configuration.task, inputs.task


def updates_of_task(configuration: Configuration, inputs: Inputs) -> int:
    """Count the updates of one task network, 0 where none is trained."""
    if (trained := trained_here(configuration, inputs)) is None:
        return 0
    task, images = trained
    return task.epochs * len(images.batches.training(images.training, task.batch_size))


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
    lock: AbstractContextManager[object] | None = None,
    log: Callable[[str], None] = print,
) -> nn.Module:
    """Train a network on the task, resume its training, or read it where it is done; in eval mode.

    ValueError if ``task-seed<n>.safetensors`` in the folder was trained in another way; FloatingPointError if all
    attempts end at chance.
    """
    task = configuration.task
    # weights that are given are taken as they are, and nothing is kept of them
    if task is None or images is None or configuration.student.weights is not None:
        return make_student(configuration, seed).eval()
    identity = {"task": task.model_dump(mode="json"), "student": configuration.student.model_dump(mode="json")}

    def read(path: Path) -> nn.Module:
        record = _record(path)
        if (record.get("identity"), record.get("seed")) != (identity, seed):
            raise ValueError(f"{path} was trained in another way than the configuration says; remove it, or restore it")
        # the network is made as it was at that attempt, then its weights are read
        attempt = int(record["attempt"])
        return load_model(path, lambda: make_student(configuration, seed, attempt)).eval()

    def write(trained: tuple[nn.Module, int, float], path: Path) -> None:
        network, attempt, error = trained
        save_model(network, path, {"identity": identity, "seed": seed, "attempt": attempt, "validation_error": error})
        for number in range(_ATTEMPTS):
            remove_checkpoint(_checkpoint(folder, seed, number))

    make = partial(_train, task, configuration, images, seed, folder, fabric, log)
    return kept(_path(folder, seed), make, write=write, read=read, lock=lock)


def _checkpoint(folder: Path, seed: int, attempt: int) -> Path:
    return folder / f"task-seed{seed}-attempt{attempt}.pt"


def _train(
    task: Task,
    configuration: Configuration,
    images: TaskImages,
    seed: int,
    folder: Path,
    fabric: Fabric,
    log: Callable[[str], None],
) -> tuple[nn.Module, int, float]:
    """Train the task network of a seed, up to three times; the network, its attempt and its validation error."""
    for attempt in range(_ATTEMPTS):
        name = f"task network, seed {seed}" + (f", attempt {attempt + 1}" if attempt else "")
        log(f"{name}: {task.epochs} epochs of {len(images.training)} images of {task.data}")
        # the first attempt's key names no attempt: seeds of networks trained before there were further ones stay
        key = ("task",) if attempt == 0 else ("task", attempt)
        network = make_student(configuration, seed, attempt)
        sgd = linear_sgd(task.epochs, learning_rate=task.learning_rate, weight_decay=task.weight_decay)
        history = Trainer(network, optimizer=sgd, fabric=fabric, threads=torch.get_num_threads()).fit(
            images.batches.training(images.training, task.batch_size),
            epochs=task.epochs,
            validation=images.batches.evaluation(images.validation),
            checkpoint=_checkpoint(folder, seed, attempt),
            seed=derive_seed(seed, *key),
        )
        error, seconds = float(history["validation_error"].iloc[-1]), float(history["seconds"].sum())
        log(f"{name}: validation error {error:.2f} % ({seconds:.0f} s)")
        if error < _CHANCE * 100 * (1 - 1 / len(images.training.classes)):
            return network, attempt, error
    raise FloatingPointError(
        f"the task network of seed {seed} ended at chance {_ATTEMPTS} times; lower task.learning_rate, or train longer"
    )


def save_fitted(
    model: nn.Module, path: Path, outcome: Outcome, *, configuration: Configuration, fitted: str, split: Split
) -> None:
    """Write a fitted network with its manifest, atomically.

    `outcome` is that of its fit to the study `fitted`, in which it has seen the split's training stimuli.
    """
    manifest = {
        **outcome.record,
        "student": configuration.student.model_dump(mode="json"),
        "configuration_hash": configuration_hash(configuration),
        "fitted_study": fitted,
        "scheme": split.scheme,
        "split": split.name,
        "held_out": list(split.held_out),
    }
    save_model(model, path, manifest)


def load_fitted(path: str | Path, *, factory: Callable[[], Any] | None = None) -> nn.Module:
    """Load a network that ``brainrdl fit`` fitted to a brain.

    Parameters
    ----------
    path : path
        File ``models/<study>/<scheme>/<split>/rdl-seed<n>.safetensors`` in the study's folder.
    factory : callable, optional
        Function without arguments that makes the network before any training, or the network and its transform: what
        the study's file names as ``student.model``. Needed unless that is one of `brainrdl.models` or a classifier of
        torchvision's: a file may not name code that is run.

    Returns
    -------
    nn.Module
        Network on the CPU, in eval mode.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    TypeError
        If `factory` is not a function that makes a module.
    ValueError
        If it is damaged, or no fitted network of a study; if it names code of others and no `factory` is given; if the
        network is of another architecture by now.

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
    try:
        manifest = read_manifest(path)
    except (SafetensorError, ValueError, TypeError, RecursionError) as error:
        raise ValueError(f"{path} is not a safetensors file, or is damaged: {error}") from error
    if "student" not in manifest or "fitted_to" not in manifest:
        raise ValueError(f"{path} holds no network that brainrdl fit fitted; load_model opens others")
    # its weights are in the file: those that the study began with are not needed
    return load_model(path, _own_factory(path, manifest["student"]) if factory is None else _network_of(factory))


def _own_factory(path: Path, student: Any) -> Callable[[], nn.Module]:
    """The function that makes a fitted network, where it is a network of this package or a classifier of torchvision's.

    Nothing else that a file names is imported or called.
    """
    name = student.get("model") if isinstance(student, dict) else None
    if not isinstance(name, str):
        raise ValueError(f"{path} does not say which network was fitted (student.model); give factory=")
    source, _, what = name.partition(":")
    own = None if what.startswith("_") or source != models.__name__ else vars(models).get(what)
    if isfunction(own) and own.__module__ == models.__name__:  # not what it imports
        return own
    if source == "torchvision" and what in torchvision.models.list_models(module=torchvision.models):
        _check_size(path, name, what)  # before it is made: the largest take gigabytes
        return lambda: load_named_model(name, untrained=True).model
    raise ValueError(
        f"{path} was fitted from {name!r}, and a file may not name code that is run: by name, only the networks of "
        "brainrdl.models and the classifiers of torchvision are made; if you trust that function, import it and give "
        "it as factory="
    )


def _check_size(path: Path, name: str, what: str) -> None:
    """Raise a ValueError for a network of torchvision's that has more weights than a file has room for."""
    known = torchvision.models.get_model_weights(what).DEFAULT.meta["num_params"]
    claimed = _BYTES_PER_WEIGHT * int(known)
    if claimed > path.stat().st_size:
        raise ValueError(
            f"{path} holds another architecture than {name}, whose weights take {claimed} bytes: the file has "
            f"{path.stat().st_size}"
        )


def _network_of(factory: Callable[[], Any]) -> Callable[[], Any]:
    """Let a function that returns a network and its transform, as a study's file may name it, return the network."""
    if isinstance(factory, nn.Module) or not callable(factory):
        return factory  # load_model says what is wrong with it

    def make() -> Any:
        made = factory()
        return made[0] if isinstance(made, tuple) and len(made) == 2 else made

    return make


def _record(path: Path) -> dict[str, Any]:
    try:
        record: dict[str, Any] = check_json(read_manifest(path), dict, ("identity", "seed", "attempt"), str(path))
    except (SafetensorError, ValueError) as error:
        raise ValueError(f"{path} is damaged ({error}); remove it to have the network trained again") from error
    return record


def _path(folder: Path, seed: int) -> Path:
    return folder / f"task-seed{seed}.safetensors"
