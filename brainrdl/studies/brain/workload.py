"""The updates that a study takes, and, from one of each kind that is timed, the hours."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from statistics import median
from time import perf_counter

import numpy as np
import torch
from lightning_fabric import Fabric

from brainrdl.inference.splits import Split
from brainrdl.progress import without_bars
from brainrdl.studies.brain.arms import Arm, FittedArm, GivenRDM, Head, Mixture, Student, TaskOnly, arms_in
from brainrdl.studies.brain.configuration import Configuration
from brainrdl.studies.brain.inputs import Inputs
from brainrdl.studies.brain.outcomes import Outcome
from brainrdl.studies.brain.runs import file_name, place
from brainrdl.studies.brain.scores import score_scheme
from brainrdl.studies.brain.students import Plan, fit_student, rdms_by_layer
from brainrdl.studies.brain.targets import training_target
from brainrdl.studies.brain.task_networks import make_student, trained_here, updates_of_task
from brainrdl.studies.optimizers import linear_sgd
from brainrdl.studies.reports.words import count, duration
from brainrdl.training.streams import repeat
from brainrdl.training.trainer import Trainer

Folds = Mapping[tuple[str, str], Sequence[Split]]
"""(fitted study, scheme) → splits."""

_TIMED = 4  # updates, of which the first is slower


@dataclass(frozen=True)
class Workload:
    """Updates and fits that are to be made, and how often a network is looked at behind them."""

    task: int = 0  # updates of task networks
    task_only: int = 0  # updates that go on with the task alone
    choices: int = 0  # updates of fits in inner folds
    fits: int = 0  # updates of final fits, if the longest is chosen
    heads: int = 0  # heads to be fitted
    epochs: int = 0  # of task networks, each with a validation
    tries: int = 0  # looks at students in inner folds, or while the task goes on: RDMs of all stimuli, task error
    finals: int = 0  # looks at final fits

    @property
    def updates(self) -> int:
        """Updates of all training runs."""
        return self.task + self.task_only + self.choices + self.fits

    def weight(self, configuration: Configuration) -> int:
        """Count the updates as a bar does, to which a head is as much as the longest fit."""
        return self.updates + self.heads * max(configuration.fit.updates)


def workload(
    configuration: Configuration, inputs: Inputs, arms: Sequence[Arm], folds: Folds, folder: Path | None = None
) -> Workload:
    """Count what a study has to make, without what is done in its folder."""

    def there(name: str) -> bool:
        return folder is not None and (folder / name).exists()

    fit, seeds = configuration.fit, range(configuration.seeds)
    longest, trained = max(fit.updates), trained_here(configuration, inputs)
    networks = [seed for seed in seeds if trained and not there(f"networks/task-seed{seed}.safetensors")]
    choices = fits = heads = 0
    students = any(isinstance(arm, Student) for arm in arms)
    for (fitted, scheme), splits in folds.items():
        made = [arm for arm in arms_in(arms, scheme) if isinstance(arm, FittedArm)]
        chosen = any(isinstance(arm, Student) for arm in made)
        for split in splits:
            where = place(fitted, split)
            choices += chosen and not there(f"choices/{where}/rdl.json")
            for arm, seed in product(made, seeds):
                if not there(f"fits/{where}/{arm.name}-seed{seed}.npz"):
                    heads += isinstance(arm, Head)
                    fits += isinstance(arm, Student)
    # settings are chosen beside the first seed's network
    of_seeds = seeds if any(isinstance(arm, TaskOnly) for arm in arms) else range(int(students))
    names = [
        [
            f"fits/task_only/{file_name(layer)}-seed{seed}-updates{n}.npz"
            for layer, n in product(fit.layers, fit.updates)
        ]
        for seed in of_seeds
    ]
    task_only = 0 if inputs.task is None else sum(not all(map(there, of_seed)) for of_seed in names)
    tried = choices * configuration.schemes.inner * len(fit.alphas)
    return Workload(
        task=len(networks) * updates_of_task(configuration, inputs),
        task_only=task_only * longest,
        choices=tried * longest,
        fits=fits * longest,
        heads=heads,
        epochs=len(networks) * (trained[0].epochs if trained else 0),
        tries=(tried + task_only) * len(fit.updates),
        finals=fits,
    )


def estimate(configuration: Configuration, inputs: Inputs, arms: Sequence[Arm], folds: Folds, fabric: Fabric) -> str:
    """Say how long a study takes in one process, from updates that are timed; nothing is kept of them."""
    work = workload(configuration, inputs, arms, folds)
    # what is drawn here must not shift anything behind it
    devices = [fabric.device] if fabric.device.type == "cuda" else []
    with torch.random.fork_rng(devices=devices), without_bars():
        of_task, validation = _time_task(configuration, inputs, fabric)
        alone, _ = _time_fit(configuration, inputs, folds, fabric, fitted=False) if work.task_only else (0.0, 0.0)
        of_fit, look = _time_fit(configuration, inputs, folds, fabric) if work.fits else (0.0, 0.0)
        scoring = _time_scoring(configuration, inputs, arms, folds)
    parts = {
        f"task networks ({count(work.task, 'update')} of {of_task:.2g} s)": work.task * of_task
        + work.epochs * validation,
        f"the task alone ({count(work.task_only, 'update')} of {alone:.2g} s)": work.task_only * alone,
        f"hyperparameter selection in inner folds ({count(work.choices, 'update')} of {of_fit:.2g} s)": work.choices
        * of_fit
        + work.tries * look,
        f"final fits ({count(work.fits, 'update')} of {of_fit:.2g} s)": work.fits * of_fit + work.finals * look,
        "scoring": scoring,
    }
    told = "; ".join(f"{name} {duration(seconds)}" for name, seconds in parts.items() if seconds)
    left_out = f"{count(work.heads, 'head')} to be fitted, and figures" if work.heads else "figures"
    return (
        f"time: about {duration(sum(parts.values()))} in one process on this machine, from updates timed just now: "
        f"{told}. Counted with the most updates that may be selected, evaluations included; not counted: {left_out}"
    )


def _time_task(configuration: Configuration, inputs: Inputs, fabric: Fabric) -> tuple[float, float]:
    """Seconds of an update of a task network, and of its validation."""
    if (trained := trained_here(configuration, inputs)) is None:
        return 0.0, 0.0
    task, images = trained
    sgd = linear_sgd(_TIMED, learning_rate=task.learning_rate, weight_decay=task.weight_decay)
    trainer = Trainer(make_student(configuration, 0), optimizer=sgd, fabric=fabric)
    history = trainer.fit(repeat(images.batches.training(images.training, task.batch_size), 1), epochs=_TIMED)
    began = perf_counter()
    trainer.evaluate(images.batches.evaluation(images.validation))
    return median(history["seconds"].iloc[1:]), perf_counter() - began


def _time_fit(
    configuration: Configuration, inputs: Inputs, folds: Folds, fabric: Fabric, *, fitted: bool = True
) -> tuple[float, float]:
    """Seconds of an update of a student's fit (or of the task alone, as long), and of a look at the student."""
    (study, _), splits = next(iter(folds.items()))
    target = training_target(inputs.studies[study], splits[0]) if fitted else None
    fit, student = configuration.fit, make_student(configuration, 0)
    plan = Plan(fit.layers[0], fit.alphas[0], (1, _TIMED), 0)
    found = fit_student(student, target, plan, configuration=configuration, inputs=inputs, fabric=fabric)
    began = perf_counter()
    rdms_by_layer(found.model, inputs, fit)
    if inputs.task is not None:
        task = inputs.task
        Trainer(found.model, fabric=fabric).evaluate(task.batches.evaluation(task.validation))
    # without the first update and the looks behind it and the last
    return median(found.seconds[1:-1]), perf_counter() - began


def _time_scoring(configuration: Configuration, inputs: Inputs, arms: Sequence[Arm], folds: Folds) -> float:
    """Seconds of scoring all arms in all splits, from two splits of the first scheme and RDMs that are drawn."""
    rng = np.random.default_rng(0)
    n = len(inputs.stimuli)
    (fitted, scheme), splits = next(iter(folds.items()))
    drawn = {
        split: [
            Outcome(arm.name, seed, rng.random(n * (n - 1) // 2), split.training)
            for arm in arms_in(arms, scheme)
            for seed in range(1 if isinstance(arm, GivenRDM | Mixture) else configuration.seeds)
        ]
        for split in splits[:2]
    }
    began = perf_counter()
    score_scheme(drawn, configuration, inputs, fitted=fitted, scored=fitted)
    seconds = perf_counter() - began
    return seconds * sum(map(len, folds.values())) / len(drawn) * len(configuration.studies)
