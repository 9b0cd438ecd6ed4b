"""What is checked before a study trains anything: a mistake in its file should cost seconds, not the hours before."""

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn

from brainrdl.features import capture, list_layers
from brainrdl.fitting.configuration import STUDENTS, Configuration
from brainrdl.fitting.inputs import Inputs
from brainrdl.fitting.networks import make_student
from brainrdl.ids import did_you_mean
from brainrdl.measured import MeasuredTeacher
from brainrdl.splits import Split, inner_splits

_SHOWN = 2  # stimuli, so that a layer that mixes them is noticed


def rehearse(configuration: Configuration, inputs: Inputs, arms: tuple[str, ...], splits: Iterable[Split]) -> None:
    """Run the untrained student once, and make the inner folds of every split.

    Parameters
    ----------
    configuration : Configuration
    inputs : Inputs
    arms : tuple of str
        Those that will be run.
    splits : iterable of Split
        All of them.

    Raises
    ------
    ValueError
        If the student cannot be made, does not take the stimuli, has no such layers or parameters, or answers with
        fewer units than the task has classes; if the RDMs that are fitted are of several unnamed subjects; if a split
        leaves too little to choose by, or one category where a category target is to be fitted; if there are fewer task
        images than a batch has.
    FileNotFoundError
        If its weights are missing.
    """
    _check_student(make_student(configuration, 0), configuration, inputs)
    _check_task_batches(configuration, inputs)
    trained = [arm for arm in STUDENTS if arm in arms]
    if trained:
        _check_targets(configuration, inputs)
    for split in splits:
        _check_split(split, configuration, inputs, [] if split.scheme == "random" else trained)


def _check_student(student: nn.Module, configuration: Configuration, inputs: Inputs) -> None:
    name, fit, task = configuration.student.model, configuration.fit, inputs.task
    known = list_layers(student)
    for layer in fit.layers:
        if layer not in known:
            raise ValueError(f"fit.layers names {layer!r}, which {name} has not{did_you_mean(layer, known)}")
    parameters = [parameter for parameter, _ in student.named_parameters()]
    for beginning in fit.unfrozen:
        if not any(parameter.startswith(beginning) for parameter in parameters):
            near = did_you_mean(beginning, known)
            raise ValueError(f"fit.unfrozen names {beginning!r}, with which no parameter of {name} begins{near}")
    # with a task, stimuli are made grey or not as its images are
    like = "" if configuration.task is None else f" (made like the images of {configuration.task.data})"
    _answer(student, configuration, inputs.stimuli.batch(range(_SHOWN))[0], f"the stimuli{like}")
    if task is None or configuration.task is None:
        return
    images = task.batches.tensor(task.training.take(range(_SHOWN)))
    output = _answer(student, configuration, images, f"the images of {configuration.task.data}")
    classes = len(task.training.classes)
    if isinstance(output, Tensor) and (output.ndim != 2 or output.shape[1] < classes):
        raise ValueError(
            f"student.model {name} answers {len(images)} task images with numbers of shape {tuple(output.shape)}; "
            f"expected {(len(images), classes)}, one for each class of {configuration.task.data}"
        )


def _answer(student: nn.Module, configuration: Configuration, images: Tensor, what: str) -> Any:
    shape = " × ".join(map(str, images.shape[1:]))
    try:
        with torch.no_grad():
            return capture(student.eval(), configuration.fit.layers, images)[0]
    except (RuntimeError, TypeError, ValueError) as error:
        raise ValueError(
            f"student.model {configuration.student.model} cannot be run on {what}, {shape} (channels × height × "
            f"width): {error}"
        ) from error


def _check_task_batches(configuration: Configuration, inputs: Inputs) -> None:
    task, images = configuration.task, inputs.task
    if task is None or images is None:
        return
    for field, size in (("task.batch_size", task.batch_size), ("fit.task_batch", configuration.fit.task_batch)):
        if size > len(images.training):
            raise ValueError(f"{field} is {size}, but only {len(images.training)} task images are trained on; lower it")


def _check_targets(configuration: Configuration, inputs: Inputs) -> None:
    targets = [(configuration.studies[name].rdms, inputs.studies[name]) for name in configuration.fit_to]
    if configuration.early_visual is not None and inputs.early_visual is not None:
        targets.append((configuration.early_visual.rdms, inputs.early_visual))
    for place, rdms in targets:
        if rdms.sizes["rdm"] > 1 and "subject" not in rdms.coords:
            raise ValueError(
                f"{place} holds {rdms.sizes['rdm']} RDMs and does not say whose they are; label them with a coordinate "
                "subject (label_rdms(…, {'subject': […]})), or keep one"
            )
        try:
            teacher = MeasuredTeacher(rdms, subjects=configuration.fit.subjects if "subject" in rdms.coords else "mean")
        except ValueError as error:
            raise ValueError(f"{place}: {error}") from error
        if len(teacher.names) != 1:
            raise ValueError(f"{place} answers by {', '.join(teacher.names)}; a student is fitted to one region")


def _check_split(split: Split, configuration: Configuration, inputs: Inputs, trained: list[str]) -> None:
    categories = {stimulus: inputs.categories[stimulus] for stimulus in split.training}
    place = f"{split.scheme}, {split.name} held out"
    try:
        inner = inner_splits(split, categories, configuration.schemes.inner)
    except ValueError as error:
        raise ValueError(f"schemes.inner is {configuration.schemes.inner}, and with {place}: {error}") from error
    fewest = min(len(one.training) for one in inner)
    shown = configuration.fit.stimuli_per_update
    if trained and shown is not None and shown > fewest:
        raise ValueError(
            f"fit.stimuli_per_update is {shown}, but with {place} inner folds leave {fewest} to fit; lower it, or "
            "leave it out to show all"
        )
    if "rdl_category" in trained and len(set(categories.values())) == 1:
        raise ValueError(
            f"with {place} the training stimuli are of one category, so that a category target is constant; leave "
            "rdl_category out of arms, or set schemes.leave_one_category_out: false"
        )
