"""The configuration of a run: a checkpoint is resumed only where it agrees."""

import json
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import torch

from brainrdl.identity import describe, describe_scheduler, digest, layers_of, settings
from brainrdl.teachers.base import RDMTeacher
from brainrdl.terms.alpha import alpha_of
from brainrdl.training.machine import precision_of

if TYPE_CHECKING:
    from brainrdl.training.run import TrainingRun  # which calls this


def describe_run(run: "TrainingRun", optimizer: torch.optim.Optimizer) -> dict[str, Any]:
    """Configuration that must agree for a checkpoint to be this run's; JSON-able."""
    terms = []
    for name, term in run.terms.items():
        layers, n = term.layers or ("output",), run.epochs
        # by its values: a schedule is a function, of which two cannot be told apart
        alpha = [{layer: alpha_of(term.alpha, layer, epoch, n) for layer in layers} for epoch in range(n)]
        terms.append({"name": name} | term.describe() | {"alpha": alpha})
    configuration = {
        "student": {name: list(value.shape) for name, value in run.setup.student.state_dict().items()},
        "layers": layers_of(run.setup.student),
        "trained": [n for n, p in run.setup.student.named_parameters() if p.requires_grad],
        "task_loss": describe(run.setup.task_loss),
        "optimizer": {"name": type(optimizer).__name__, "groups": [settings(g) for g in optimizer.param_groups]},
        "scheduler": _described_scheduler(run),
        "epochs": run.epochs,
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


def describe_teachers(teachers: Iterable[RDMTeacher]) -> list[dict[str, Any]]:
    """Name what identifies each teacher, as it is now."""
    return list(json.loads(json.dumps([teacher.describe() for teacher in teachers])))


def _described_scheduler(run: "TrainingRun") -> dict[str, Any] | None:
    if run.scheduler is None:
        return None
    if run.interval == "epoch":
        return describe_scheduler(run.scheduler, run.epochs)
    described = describe_scheduler(run.scheduler, run.epochs * run.steps) | {"interval": run.interval}
    if "lr_lambdas" in described:  # a value for every update would fill pages
        described["lr_lambdas"] = digest([("", torch.tensor(described["lr_lambdas"], dtype=torch.float64))])
    return described
