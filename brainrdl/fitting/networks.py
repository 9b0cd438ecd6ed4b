"""The networks that students begin as: trained on the task alone, one per seed."""

import json
from collections.abc import Callable
from pathlib import Path

from lightning.fabric import Fabric
from torch import nn

from brainrdl.checkpoint import load_model, read_manifest, save_model
from brainrdl.experiments.optimizers import linear_sgd
from brainrdl.fitting.configuration import Configuration
from brainrdl.fitting.inputs import TaskImages
from brainrdl.named_models import load_named_model
from brainrdl.randomness import derive_seed
from brainrdl.trainer import Trainer


def make_student(configuration: Configuration, seed: int) -> nn.Module:
    """Make the untrained network of a seed (or, with given weights, the network as it was trained elsewhere)."""
    student = configuration.student
    return load_named_model(student.model, student.weights, seed=derive_seed(seed, "initialisation")).model


def task_network(
    configuration: Configuration,
    images: TaskImages | None,
    seed: int,
    folder: Path,
    fabric: Fabric,
    *,
    say: Callable[[str], None] = print,
) -> nn.Module:
    """Train a network on the task, go on with it, or read it where it is done.

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
    say : callable
        Told what is going on.

    Returns
    -------
    nn.Module
        In eval mode.

    Raises
    ------
    ValueError
        If the network cannot answer for all classes.
    """
    task = configuration.task
    if task is None or images is None or configuration.student.weights is not None:
        return make_student(configuration, seed).eval()

    def make() -> nn.Module:
        return make_student(configuration, seed)

    path = folder / f"task-seed{seed}.safetensors"
    identity = {"task": task.model_dump(mode="json"), "student": configuration.student.model_dump(mode="json")}
    if path.exists():
        if json.loads(json.dumps(read_manifest(path).get("identity"))) != identity:
            raise ValueError(f"{path} was trained in another way than the configuration says; remove it, or restore it")
        return load_model(path, make).eval()
    student = make()
    say(f"task network, seed {seed}: {task.epochs} epochs of {len(images.training)} images of {task.data}")
    optimizer = linear_sgd(task.epochs, learning_rate=task.learning_rate, weight_decay=task.weight_decay)
    trainer = Trainer(student, optimizer=optimizer, fabric=fabric)
    checkpoint = folder / f"task-seed{seed}.pt"
    history = trainer.fit(
        images.batches.training(images.training, task.batch_size),
        epochs=task.epochs,
        validation=images.batches.evaluation(images.validation),
        checkpoint=checkpoint,
        seed=derive_seed(seed, "task"),
    )
    seconds = float(history["seconds"].sum())
    record = {
        "identity": identity,
        "seed": seed,
        "validation_error": float(history["validation_error"].iloc[-1]),
        "seconds": round(seconds, 1),
    }
    save_model(student, path, record)
    checkpoint.unlink(missing_ok=True)
    say(f"task network, seed {seed}: validation error {record['validation_error']:.2f} % ({seconds:.0f} s)")
    return load_model(path, make).eval()
