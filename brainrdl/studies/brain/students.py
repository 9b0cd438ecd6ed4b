"""The fit of one student: the task goes on, and beside it a layer is trained toward a target's geometry."""

from dataclasses import dataclass, field
from functools import partial
from math import gcd, nan

import numpy as np
import pandas as pd
import torch
import xarray as xr
from lightning_fabric import Fabric
from torch import nn

from brainrdl.rdms.labelled import condense
from brainrdl.rdms.layers import layer_rdms
from brainrdl.studies.brain.configuration import Configuration, Fit
from brainrdl.studies.brain.course import followed
from brainrdl.studies.brain.inputs import Inputs
from brainrdl.teachers.measured import MeasuredTeacher
from brainrdl.terms.alpha import constant
from brainrdl.terms.losses import RDLoss
from brainrdl.terms.rdl import RDLTerm
from brainrdl.training.randomness import derive_seed
from brainrdl.training.streams import StimulusStream, repeat
from brainrdl.training.trainer import Trainer


@dataclass(frozen=True)
class Plan:
    """The settings of one fit of a student."""

    layer: str  # the layer that is trained toward the target
    alpha: float  # α of Eq. 5, constant
    updates: tuple[int, ...]  # after how many updates to look at it; the last is the length of the training
    seed: int  # of the order of task and stimulus batches


@dataclass(frozen=True, eq=False)
class Snapshot:
    """A student after some updates."""

    updates: int
    rdms: dict[str, np.ndarray]  # by layer: condensed RDM (n(n-1)/2,) of all stimuli, fitted or not
    task_error: float  # in percent, NaN where there is no task
    history: pd.DataFrame = field(default_factory=pd.DataFrame)  # its learning curve so far, see `FittedStudent`


@dataclass(frozen=True, eq=False)
class FittedStudent:
    """A student after its fit, in eval mode."""

    model: nn.Module
    snapshots: list[Snapshot]  # at the lengths asked for
    history: (
        pd.DataFrame
    )  # a row per length in question up to its own: update, task_loss, rdm_loss since the one before
    fitted_to: tuple[str, ...]  # the stimuli whose targets it has seen
    seconds: tuple[float, ...]  # of each stretch, and of the look behind it where there is one


def fit_student(
    student: nn.Module,
    target: xr.DataArray | None,
    plan: Plan,
    *,
    configuration: Configuration,
    inputs: Inputs,
    fabric: Fabric,
    on_test: bool = False,
) -> FittedStudent:
    """Train a student on the task and toward a target, in place.

    `target` are RDMs of the training stimuli alone; with None the task goes on without. The task error is of validation
    images, or test images (`on_test`). FloatingPointError if training diverged; ValueError with nothing to train on.
    """
    fit, task = configuration.fit, inputs.task
    if task is None and target is None:
        raise ValueError("there is neither a task nor a target: nothing to train on")
    for name, parameter in student.named_parameters():
        parameter.requires_grad_(not fit.unfrozen or name.startswith(fit.unfrozen))
    stretch = gcd(*plan.updates)  # the lengths asked for are whole numbers of it
    terms: list[RDLTerm] = []
    stream: StimulusStream | None = None
    fitted_to: tuple[str, ...] = ()
    if target is not None:
        shown = inputs.stimuli.select(target["stimulus"].values.tolist())
        fitted_to = shown.ids
        size, steps = fit.stimuli_per_update, stretch if task is None else None
        stream = StimulusStream(
            shown, batch_size=size, every=fit.every, norm=fit.norm, dropout=fit.dropout, steps=steps
        )
        terms = [brain_term(target, plan, fit)]
    # an epoch of the trainer is one stretch, after which the student is looked at
    loader = None if task is None else repeat(task.batches.training(task.training, fit.task_batch), stretch)
    sgd = partial(torch.optim.SGD, lr=fit.learning_rate, momentum=fit.momentum, weight_decay=fit.weight_decay)
    trainer = Trainer(student, terms, optimizer=sgd, fabric=fabric, threads=torch.get_num_threads())
    images = None if task is None else task.batches.evaluation(task.test if on_test else task.validation)
    snapshots: list[Snapshot] = []
    done = 0

    def look(model: nn.Module) -> dict[str, float]:
        nonlocal done
        done += stretch
        if done == plan.updates[len(snapshots)]:
            rdms = rdms_by_layer(model, inputs, fit)
            snapshots.append(Snapshot(done, rdms, nan if images is None else trainer.evaluate(images)["error"]))
        return {}

    epochs, seed = plan.updates[-1] // stretch, derive_seed(plan.seed, "fit")
    # the losses at all lengths that were in question, though a final fit is one epoch, whose order of batches stays
    read = gcd(stretch, *fit.updates)
    with followed(fabric) as course:
        history = trainer.fit(loader, epochs=epochs, stimuli=stream, validation=look, seed=seed, log_every=read)
    updates = list(range(read, plan.updates[-1] + 1, read))
    curve = pd.DataFrame({"update": updates})
    for name, column, every in (("task_loss", "task_loss", 1), ("rdm_loss", f"rdl/{plan.layer}", fit.every)):
        curve[name] = course.over_stretches(column, updates, in_epoch=stretch, every=every)
    if "rdl/pairs" in history:  # updates that compared nothing are in no mean, and cannot be counted in it
        curve["rdm_loss"] = nan
    return FittedStudent(student.eval(), snapshots, curve, fitted_to, tuple(history["seconds"]))


def rdms_by_layer(model: nn.Module, inputs: Inputs, fit: Fit) -> dict[str, np.ndarray]:
    """Compute the condensed RDM (n(n-1)/2,) of all stimuli in each layer that may be fitted."""
    return dict(zip(fit.layers, condense(layer_rdms(model, inputs.stimuli, fit.layers, fit.metric)), strict=True))


def brain_term(target: xr.DataArray, plan: Plan, fit: Fit) -> RDLTerm:
    """Make the term that trains a layer toward a target of one region; errors as `MeasuredTeacher` and `RDLTerm`."""
    teacher = MeasuredTeacher(target, subjects=fit.subjects if "subject" in target.coords else "mean")
    if len(teacher.names) != 1:
        raise ValueError(f"the target has the names {', '.join(teacher.names)}; a student is fitted to one region")
    loss = RDLoss(metric=fit.metric, compare=fit.compare)
    return RDLTerm(teacher, {plan.layer: teacher.names[0]}, loss=loss, alpha=constant(plan.alpha), stream="stimuli")
