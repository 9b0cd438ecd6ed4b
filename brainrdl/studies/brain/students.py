"""Fitting one student: the task goes on, and beside it a layer is pulled toward a target's geometry."""

from collections.abc import Iterable
from dataclasses import dataclass
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
    """How a student is fitted.

    Attributes
    ----------
    layer : str
        The layer that is pulled.
    alpha : float
        α of Eq. 5, constant.
    updates : tuple of int
        After how many updates to look at it; the last is the length of the training.
    seed : int
        Of the order of task and stimulus batches.
    """

    layer: str
    alpha: float
    updates: tuple[int, ...]
    seed: int


@dataclass(frozen=True, eq=False)
class Snapshot:
    """A student after some updates.

    Attributes
    ----------
    updates : int
    rdms : dict of ndarray (n(n-1)/2,)
        Layer → condensed RDM of all stimuli, fitted or not.
    task_error : float
        In percent, NaN where there is no task.
    """

    updates: int
    rdms: dict[str, np.ndarray]
    task_error: float


@dataclass(frozen=True, eq=False)
class FittedStudent:
    """What `fit_student` returns.

    Attributes
    ----------
    model : nn.Module
        The student, in eval mode.
    snapshots : list of Snapshot
        At the lengths asked for.
    history : DataFrame
        A row per stretch of updates: ``update, task_loss, rdm_loss``.
    fitted_to : tuple of str
        The stimuli whose targets it has seen.
    """

    model: nn.Module
    snapshots: list[Snapshot]
    history: pd.DataFrame
    fitted_to: tuple[str, ...]


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

    Parameters
    ----------
    student : nn.Module
        Where it begins.
    target : DataArray (rdm, stimulus, stimulus_) or None
        RDMs of the stimuli that it may see, the training stimuli alone; None: the task goes on without them.
    plan : Plan
    configuration, inputs, fabric
        The study, its data, and where it runs.
    on_test : bool
        Whether the task error is that of the test images; otherwise of the validation images.

    Returns
    -------
    FittedStudent

    Raises
    ------
    FloatingPointError
        If the training died.
    ValueError
        If there is neither task nor target, or the target holds several regions.
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
        stream = StimulusStream(
            shown,
            batch_size=fit.stimuli_per_update,
            every=fit.every,
            norm=fit.norm,
            dropout=fit.dropout,
            steps=stretch if task is None else None,
        )
        terms = [brain_term(target, plan, fit)]
    loader = None if task is None else repeat(task.batches.training(task.training, fit.task_batch), stretch)
    trainer = Trainer(student, terms, optimizer=lambda parameters: _optimizer(parameters, fit), fabric=fabric)
    images = None if task is None else task.batches.evaluation(task.test if on_test else task.validation)
    snapshots: list[Snapshot] = []
    done = 0

    def look(model: nn.Module) -> dict[str, float]:
        nonlocal done
        done += stretch
        if done == plan.updates[len(snapshots)]:
            rdms = condense(layer_rdms(model, inputs.stimuli, fit.layers, fit.metric))
            error = nan if images is None else trainer.evaluate(images)["error"]
            snapshots.append(Snapshot(done, dict(zip(fit.layers, rdms, strict=True)), error))
        return {}

    history = trainer.fit(
        loader,
        epochs=plan.updates[-1] // stretch,
        stimuli=stream,
        validation=look,
        seed=derive_seed(plan.seed, "fit"),
    )
    curve = pd.DataFrame({"update": stretch * (history["epoch"] + 1)})
    curve["task_loss"] = history.get("task_loss", nan)
    curve["rdm_loss"] = history.get(f"rdl/{plan.layer}", nan)
    return FittedStudent(student.eval(), snapshots, curve, fitted_to)


def brain_term(target: xr.DataArray, plan: Plan, fit: Fit) -> RDLTerm:
    """The pull of a layer toward a target.

    Raises
    ------
    ValueError
        If the target holds several regions, or as `MeasuredTeacher` and `RDLTerm`.
    """
    teacher = MeasuredTeacher(target, subjects=fit.subjects if "subject" in target.coords else "mean")
    if len(teacher.names) != 1:
        raise ValueError(f"the target answers by {', '.join(teacher.names)}; a student is fitted to one region")
    loss = RDLoss(metric=fit.metric, compare=fit.compare)
    return RDLTerm(teacher, {plan.layer: teacher.names[0]}, loss=loss, alpha=constant(plan.alpha), stream="stimuli")


def _optimizer(parameters: Iterable[nn.Parameter], fit: Fit) -> torch.optim.Optimizer:
    return torch.optim.SGD(list(parameters), lr=fit.learning_rate, momentum=fit.momentum, weight_decay=fit.weight_decay)
