"""The arms of a study: which terms a student is trained with, and what is done to it before."""

from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping
from contextlib import nullcontext
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import pandas as pd
import torch
from lightning_fabric import Fabric
from torch import nn

from brainrdl.data import LabelledImages
from brainrdl.data.batches import Batches
from brainrdl.studies.optimizers import OPTIMIZERS, MakeOptimizer, clipped
from brainrdl.studies.paper.biases import biases_left_out
from brainrdl.studies.paper.recipe import Recipe
from brainrdl.teachers.network import NetworkTeacher
from brainrdl.terms.alpha import (
    Alpha,
    Schedule,
    constant,
    cosine_decay,
    deep_supervision_decay,
    linear_decay,
    relative_alpha,
)
from brainrdl.terms.base import Term
from brainrdl.terms.distillation import KD, Hint
from brainrdl.terms.losses import RDLoss
from brainrdl.terms.rdl import RDLTerm
from brainrdl.terms.relational import CKA, RKD, SP
from brainrdl.terms.supervision import DeepSupervision
from brainrdl.training.randomness import derive_seed
from brainrdl.training.streams import repeat
from brainrdl.training.trainer import Trainer

Setting = Mapping[str, float]
"""The knobs of one arm: ``learning_rate``, ``weight_decay``, ``learning_rate_factor``, ``alpha0``."""


@dataclass(frozen=True)
class Context:
    """What one training has to work with.

    Attributes
    ----------
    recipe : Recipe
        How to train.
    model : callable
        Makes an untrained network.
    training : LabelledImages
        Labelled images to train on.
    validation : LabelledImages or None
        Images to look at after each epoch; None where all images are trained on.
    unlabelled : LabelledImages or None
        Images whose labels nobody may see; with them the teacher's terms run on the stimulus stream.
    teacher : nn.Module or None
        The teacher network.
    batches : Batches
        How images become batches.
    fabric : Fabric
        Device and precision.
    seed : int
        Of initialisation, data order, dropout, pairs and heads, each derived from it for itself.
    """

    recipe: Recipe
    model: Callable[[], nn.Sequential]
    training: LabelledImages
    validation: LabelledImages | None
    unlabelled: LabelledImages | None
    teacher: nn.Module | None
    batches: Batches
    fabric: Fabric
    seed: int

    @property
    def stream(self) -> str:
        """Where a teacher's terms run."""
        return "task" if self.unlabelled is None else "stimuli"

    def ask(self, metric: str = "mse", layers: Iterable[str] = ()) -> NetworkTeacher:
        """The teacher, answering by `layers` in `metric`."""
        if self.teacher is None:
            raise ValueError("this arm needs a teacher")
        return NetworkTeacher(self.teacher, tuple(layers) or self.recipe.layers, metric)


Terms = Callable[[Context, Setting], list[Term]]
Prepare = Callable[[nn.Sequential, Context, Setting, Path], pd.DataFrame | None]


@dataclass(frozen=True)
class Arm:
    """One row of the paper's tables.

    Attributes
    ----------
    name : str
        As in ``results.csv``.
    terms : callable
        (context, setting) → terms beside the task loss.
    candidates : tuple of dict
        Settings to choose from on validation, the default first.
    taught : bool
        Whether it needs a teacher.
    prepare : callable or None
        What is done to the student before the task: (student, context, setting, folder) → history of a stage of
        its own, whose epochs count, or None.
    network : str
        Which of the study's networks is trained.
    baseline : str or None
        The arm whose learning rate and weight decay it takes over and with which it is compared: the same network
        without the arm's terms. None for such an arm itself.
    """

    name: str
    terms: Terms
    candidates: tuple[Setting, ...]
    taught: bool = True
    prepare: Prepare | None = None
    network: str = "student"
    baseline: str | None = "plain"


def train(arm: Arm, context: Context, setting: Setting, folder: Path) -> tuple[nn.Module, pd.DataFrame]:
    """Train one student, going on where an earlier attempt in `folder` was broken off.

    Parameters
    ----------
    arm : Arm
        What it is trained with.
    context : Context
        Data, teacher, recipe, seed.
    setting : dict
        The arm's knobs.
    folder : path
        For the checkpoints.

    Returns
    -------
    student : nn.Module
        Trained, in eval mode.
    history : DataFrame
        One row per epoch of all stages, which share the recipe's epochs.
    """
    student = initialised(context.model, context.seed)
    networks = [network for network in (student, context.teacher) if network is not None]
    # on the CPU they stay: rows recorded there come out again bitwise
    with biases_left_out(*networks) if context.fabric.device.type == "cuda" else nullcontext():
        history = _fit(arm, student, context, setting, folder)
    return student.eval(), history


def _fit(arm: Arm, student: nn.Sequential, context: Context, setting: Setting, folder: Path) -> pd.DataFrame:
    """All stages of a training; the history of their epochs."""
    before = None if arm.prepare is None else arm.prepare(student, context, setting, folder)
    recipe = context.recipe
    epochs = recipe.epochs - (0 if before is None else len(before))
    trainer = Trainer(
        student,
        arm.terms(context, setting),
        optimizer=_optimizer(recipe, setting, epochs),
        fabric=context.fabric,
        cuda_graphs=True,
    )
    loader: Iterable[object] = context.batches.training(context.training, recipe.batch_size)
    unlabelled = None
    if context.unlabelled is not None:
        loader = repeat(loader, recipe.updates_per_epoch)
        unlabelled = context.batches.unlabelled(context.unlabelled, recipe.batch_size)
    history = trainer.fit(
        loader,
        epochs=epochs,
        stimuli=unlabelled if any(term.stream == "stimuli" for term in trainer.terms) else None,
        validation=None if context.validation is None else context.batches.evaluation(context.validation),
        checkpoint=folder / "checkpoint.pt",
        seed=derive_seed(context.seed, "training"),
    )
    if before is not None:
        history = pd.concat([before, history.assign(epoch=history["epoch"] + len(before))], ignore_index=True)
    return history


def initialised(model: Callable[[], nn.Sequential], seed: int) -> nn.Sequential:
    """An untrained network whose weights depend on the seed alone."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(derive_seed(seed, "initialisation"))
        return model()


def paper_arms(*rates: Setting) -> tuple[Arm, ...]:
    """The arms of a study, ``plain`` first: the paper's, ours, and the methods compared with.

    Parameters
    ----------
    *rates : dict of float
        Learning rates and weight decays that ``plain`` and ``teacher`` choose from.

    Returns
    -------
    tuple of Arm
    """
    return (
        Arm("plain", _nothing, rates, taught=False, baseline=None),
        Arm("teacher", _nothing, rates, taught=False, network="teacher", baseline=None),
        Arm("finetuning", _nothing, _each("learning_rate_factor", 1.0, 0.3, 0.1, 3.0), prepare=_copy_teacher),
        Arm("deep_supervision", _deep_supervision, _each("alpha0", 1.0, 0.3, 3.0, 0.1), taught=False),
        Arm("hints", _nothing, _each("alpha0", 1.0, 3.0, 0.3, 10.0), prepare=_hint_stage),
        Arm("rdl", _rdl, _each("alpha0", 2.0, 1.0, 0.3, 4.0)),
        Arm("rdl_corr", _rdl_corr, _each("alpha0", 3.0, 1.0, 5.0, 0.3)),
        Arm("kd", _kd, _each("alpha0", 0.1, 0.3, 0.03, 1.0)),
        Arm("rkd", partial(_relational, RKD), _each("alpha0", 10.0, 3.0, 30.0, 1.0)),
        Arm("sp", partial(_relational, SP), _each("alpha0", 300.0, 100.0, 1000.0, 30.0)),
        Arm("cka", partial(_relational, CKA), _each("alpha0", 1.0, 0.3, 3.0, 10.0)),
    )


def _each(knob: str, *values: float) -> tuple[Setting, ...]:
    return tuple({knob: value} for value in values)


def _nothing(context: Context, setting: Setting) -> list[Term]:
    return []


def _deep_supervision(context: Context, setting: Setting) -> list[Term]:
    recipe = context.recipe
    decay = deep_supervision_decay if recipe.supervision_schedule == "paper" else linear_decay
    n_classes = len(context.training.classes)
    return [DeepSupervision(recipe.supervised_layers, n_classes, alpha=decay(setting["alpha0"]))]


def _rdl(context: Context, setting: Setting) -> list[Term]:
    recipe = context.recipe
    teacher = context.ask(recipe.metric)
    layers = {layer: layer for layer in recipe.layers}
    alpha0: Alpha = setting["alpha0"]
    if recipe.relative:
        # the mean distances of a few hundred images are the mean distances
        images = context.training if context.unlabelled is None else context.unlabelled
        sample = context.batches.tensor(images.take(range(min(500, len(images)))))
        teacher.to(sample.device)
        alpha0 = relative_alpha(setting["alpha0"], teacher, sample, layers)
    loss = RDLoss(metric=recipe.metric, compare="mse", gradient=recipe.gradient)
    alpha = _schedule(recipe, alpha0)
    return [RDLTerm(teacher, layers, loss=loss, n_pairs=recipe.n_pairs, alpha=alpha, stream=context.stream)]


def _rdl_corr(context: Context, setting: Setting) -> list[Term]:
    recipe = context.recipe
    loss = RDLoss(metric=recipe.corr_metric, compare="corr")
    layers = {layer: layer for layer in recipe.layers}
    teacher, alpha = context.ask(recipe.corr_metric), _schedule(recipe, setting["alpha0"])
    return [RDLTerm(teacher, layers, loss=loss, n_pairs=recipe.corr_pairs, alpha=alpha, stream=context.stream)]


def _kd(context: Context, setting: Setting) -> list[Term]:
    alpha = constant(setting["alpha0"])
    recipe = context.recipe
    return [KD(context.ask(), temperature=recipe.temperature, head=recipe.kd_head, alpha=alpha, stream=context.stream)]


def _relational(kind: type[RKD] | type[SP] | type[CKA], context: Context, setting: Setting) -> list[Term]:
    layers = {layer: layer for layer in context.recipe.layers}
    alpha = _schedule(context.recipe, setting["alpha0"])
    return [kind(context.ask(), layers, alpha=alpha, stream=context.stream)]


def _copy_teacher(student: nn.Sequential, context: Context, setting: Setting, folder: Path) -> None:
    """Fine-tuning: the student starts with the teacher's weights; a layer of another size starts with its own."""
    if context.teacher is None:
        raise ValueError("fine-tuning needs a teacher")
    own = student.state_dict()
    copied = {
        name: value
        for name, value in context.teacher.state_dict().items()
        if name in own and own[name].shape == value.shape
    }
    student.load_state_dict(copied, strict=False)


def _hint_stage(student: nn.Sequential, context: Context, setting: Setting, folder: Path) -> pd.DataFrame:
    """Stage 1 of hints: the student up to the hint layer learns to predict the teacher's, by a map then discarded."""
    recipe = context.recipe
    front = front_until(student, recipe.hint_layer)
    hint = Hint(
        context.ask(layers=[recipe.hint_layer]),
        {recipe.hint_layer: recipe.hint_layer},
        alpha=constant(setting["alpha0"]),
    )
    epochs = hint_epochs(recipe, recipe.epochs)
    trainer = Trainer(
        front,
        [hint],
        task_loss=None,
        optimizer=_optimizer(recipe, setting, epochs),
        fabric=context.fabric,
        cuda_graphs=True,
    )
    loader: Iterable[object] = context.batches.training(context.training, recipe.batch_size)
    if context.unlabelled is not None:
        loader = repeat(loader, recipe.updates_per_epoch)
    return trainer.fit(
        loader, epochs=epochs, checkpoint=folder / "hint.pt", seed=derive_seed(context.seed, "hint stage")
    )


def front_until(student: nn.Sequential, layer: str) -> nn.Sequential:
    """A network's children up to one of them: the same modules, so that training them trains the network itself.

    Raises
    ------
    ValueError
        If the network has no such child; a layer within a child is none.
    """
    names = list(dict(student.named_children()))
    if layer not in names:
        raise ValueError(f"hint_layer must be a child of the student, one of {', '.join(names)}, got {layer!r}")
    until = names[: names.index(layer) + 1]
    return nn.Sequential(OrderedDict((name, getattr(student, name)) for name in until))


def hint_epochs(recipe: Recipe, epochs: int) -> int:
    """How many of a run's epochs stage 1 of hints takes, one at least."""
    return max(1, round(recipe.hint_share * epochs))


def _schedule(recipe: Recipe, alpha0: Alpha) -> Schedule:
    return {"linear": linear_decay, "constant": constant, "cosine": cosine_decay}[recipe.schedule](alpha0)


def _optimizer(recipe: Recipe, setting: Setting, epochs: int) -> MakeOptimizer:
    make = OPTIMIZERS[recipe.optimizer](
        epochs,
        learning_rate=setting.get("learning_rate", recipe.learning_rate) * setting.get("learning_rate_factor", 1.0),
        momentum=recipe.momentum,
        weight_decay=setting.get("weight_decay", recipe.weight_decay),
        warmup=recipe.warmup or 0,
    )
    return make if recipe.clip is None else clipped(make, recipe.clip)
