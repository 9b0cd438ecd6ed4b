"""The configuration of a run: a checkpoint is resumed only where it agrees, or has fewer epochs."""

import json
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any

import torch

from brainrdl.identity import describe, describe_scheduler, differences, digest, layers_of, settings
from brainrdl.teachers.base import RDMTeacher
from brainrdl.terms.alpha import alpha_of, schedule_name
from brainrdl.terms.base import Term
from brainrdl.training.machine import precision_of

if TYPE_CHECKING:
    from brainrdl.training.run import TrainingRun  # which calls this


def describe_run(run: "TrainingRun", optimizer: torch.optim.Optimizer, epochs: int | None = None) -> dict[str, Any]:
    """Configuration that must agree for a checkpoint to be this run's, over its first `epochs` or all; JSON-able."""
    n = run.epochs if epochs is None else epochs
    terms = []
    for name, term in run.terms.items():
        # by its values: a schedule is a function, of which two cannot be told apart
        terms.append({"name": name} | term.describe() | {"alpha": _alphas(term, n, run.epochs)})
    configuration = {
        "student": {name: list(value.shape) for name, value in run.setup.student.state_dict().items()},
        "layers": layers_of(run.setup.student),
        "trained": [n for n, p in run.setup.student.named_parameters() if p.requires_grad],
        "task_loss": describe(run.setup.task_loss),
        "optimizer": {"name": type(optimizer).__name__, "groups": [settings(g) for g in optimizer.param_groups]},
        "scheduler": _described_scheduler(run, n),
        "epochs": n,
        "updates_per_epoch": run.steps,
        "stimuli_every": run.every,
        "stimuli_per_update": run.stimuli_per_update,
        "stimuli_norm": None if run.stimuli is None else run.norm,
        "stimuli_dropout": None if run.stimuli is None else run.dropout,
        "seed": run.seed,
        "precision": precision_of(run.fabric),
        "terms": terms,
        "teachers": describe_teachers(run.teachers),
    }
    # by way of JSON: tuples become lists here, as they are where the checkpoint is read back
    return dict(json.loads(json.dumps(configuration)))


def other_configuration(
    run: "TrainingRun",
    described: Callable[[int], Mapping[str, Any]],
    stored: Mapping[str, Any],
    asked: Mapping[str, Any],
) -> list[str]:
    """Name in what a checkpoint's configuration differs from the run's; that it has fewer epochs is no difference.

    `described` is `describe_run` of so many epochs. A longer training run is resumed where its first epochs are those
    of the checkpoint: where no schedule depends on the number of epochs.
    """
    there, here = stored.get("epochs"), asked["epochs"]
    if not isinstance(there, int) or there == here:
        return differences(stored, asked)
    if there > here:
        return [f"epochs is {there} there and {here} here, and a training run can be made longer, but not shorter"]
    lines, terms = [], []
    # terms that are too few or too many are named by `differences`
    for term, known in zip(run.terms.values(), stored["terms"], strict=False):
        as_there, as_here = (_alphas(term, there, total) for total in (there, here))
        terms.append(known)
        # by the checkpoint's own number the same values, by the run's others
        if known["alpha"] == as_there != as_here:
            epoch = next(epoch for epoch in range(there) if as_there[epoch] != as_here[epoch])
            layer = next(layer for layer in as_here[epoch] if as_there[epoch][layer] != as_here[epoch][layer])
            lines.append(
                f"epochs is {there} there and {here} here, and the alpha of the {known['name']} term, "
                f"{schedule_name(term.alpha)}, depends on the number of epochs ({as_there[epoch][layer]:.4g} there and "
                f"{as_here[epoch][layer]:.4g} here for layer {layer!r} in epoch {epoch + 1})"
            )
            terms[-1] = known | {"alpha": as_here}
    others = differences({**stored, "terms": [*terms, *stored["terms"][len(terms) :]]}, described(there))
    of_rate = [line for line in others if line.startswith("scheduler")]
    if of_rate and run.scheduler is not None and stored.get("scheduler") is not None:
        lines.append(
            f"epochs is {there} there and {here} here, and the learning-rate scheduler, "
            f"{type(run.scheduler).__name__}, is another one, as is one that depends on the number of epochs "
            f"({', '.join(of_rate)})"
        )
        others = [line for line in others if line not in of_rate]
    return [*lines, *others]


def _alphas(term: Term, epochs: int, total: int) -> list[dict[str, float]]:
    """α of each layer in each of the first `epochs` of so many."""
    layers = term.layers or ("output",)
    return [{layer: alpha_of(term.alpha, layer, epoch, total) for layer in layers} for epoch in range(epochs)]


def describe_teachers(teachers: Iterable[RDMTeacher]) -> list[dict[str, Any]]:
    """Name what identifies each teacher, as it is now."""
    return list(json.loads(json.dumps([teacher.describe() for teacher in teachers])))


def _described_scheduler(run: "TrainingRun", epochs: int) -> dict[str, Any] | None:
    if run.scheduler is None:
        return None
    if run.interval == "epoch":
        return describe_scheduler(run.scheduler, epochs)
    described = describe_scheduler(run.scheduler, epochs * run.steps) | {"interval": run.interval}
    if "lr_lambdas" in described:  # a value for every update would fill pages
        described["lr_lambdas"] = digest([("", torch.tensor(described["lr_lambdas"], dtype=torch.float64))])
    return described
