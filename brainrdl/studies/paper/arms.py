"""The arms of the paper's studies: terms beside the task loss, and stages before it."""

from collections import OrderedDict
from collections.abc import Iterable
from dataclasses import replace
from functools import partial
from pathlib import Path

import pandas as pd
import torch
from torch import nn

from brainrdl.studies.paper.recipe import Recipe
from brainrdl.studies.paper.training import Arm, Context, Setting, initialised, make_optimizer
from brainrdl.terms.alpha import (
    Alpha,
    Schedule,
    constant,
    cosine_decay,
    deep_supervision_decay,
    linear_decay,
    relative_alpha,
)
from brainrdl.terms.balance import balanced_alpha
from brainrdl.terms.base import Term
from brainrdl.terms.distillation import KD, Hint
from brainrdl.terms.losses import RDLoss
from brainrdl.terms.rdl import RDLTerm
from brainrdl.terms.relational import CKA, RKD, SP
from brainrdl.terms.supervision import DeepSupervision
from brainrdl.training.randomness import derive_seed
from brainrdl.training.streams import repeat
from brainrdl.training.trainer import Trainer

TEACHER = "teacher"
"""Name of the arm that trains the teachers themselves."""


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
    loss = RDLoss(metric=recipe.metric, compare="mse", gradient=recipe.gradient)
    if recipe.balanced:
        student = initialised(context.model, context.seed).to(context.fabric.device)
        first = context.training.take(range(min(recipe.batch_size, len(context.training))))
        batch = context.batches.tensor(first)
        term = RDLTerm(teacher.to(batch.device), layers, loss=loss)
        alpha0 = balanced_alpha(setting["alpha0"], term, student, batch, first.labels, seed=context.seed)
    elif recipe.relative:
        # the mean distances of a few hundred images are the mean distances
        images = context.training if context.unlabelled is None else context.unlabelled
        sample = context.batches.tensor(images.take(range(min(500, len(images)))))
        teacher.to(sample.device)
        alpha0 = relative_alpha(setting["alpha0"], teacher, sample, layers)
    alpha = _schedule(recipe, alpha0)
    return [RDLTerm(teacher, layers, loss=loss, n_pairs=recipe.n_pairs, alpha=alpha, stream=context.stream)]


def _rdl_corr(context: Context, setting: Setting) -> list[Term]:
    recipe = context.recipe
    loss = RDLoss(metric=recipe.corr_metric, compare="corr")
    layers = {layer: layer for layer in recipe.layers}
    # a correlation has no units, so that one α fits all layers: relative_alpha has no place here
    teacher, alpha = context.ask(recipe.corr_metric), _schedule(recipe, setting["alpha0"])
    return [RDLTerm(teacher, layers, loss=loss, n_pairs=recipe.corr_pairs, alpha=alpha, stream=context.stream)]


def _kd(context: Context, setting: Setting) -> list[Term]:
    # constant, as in Hinton et al.: recipes' schedules are those of terms between representations
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
    state = student.state_dict()
    copied = {
        name: value
        for name, value in context.teacher.state_dict().items()
        if name in state and state[name].shape == value.shape
    }
    # not strict: a readout to the student's classes has no weights to take over
    student.load_state_dict(copied, strict=False)


def _hint_stage(student: nn.Sequential, context: Context, setting: Setting, folder: Path) -> pd.DataFrame:
    """Stage 1 of hints: the student up to the hint layer learns to predict the teacher's, by a map then discarded."""
    recipe = context.recipe
    front = front_until(student, recipe.hint_layer)
    # the front alone is trained, so that the layers above it meet the task as they were made
    layers = {recipe.hint_layer: recipe.hint_layer}
    hint = Hint(context.ask(layers=layers), layers, alpha=constant(setting["alpha0"]))
    epochs = hint_epochs(recipe, recipe.epochs)
    optimizer = make_optimizer(recipe, setting, epochs)
    trainer = Trainer(
        front,
        [hint],
        task_loss=None,
        optimizer=optimizer,
        fabric=context.fabric,
        cuda_graphs=True,
        threads=torch.get_num_threads(),
    )
    loader: Iterable[object] = context.batches.training(context.training, recipe.batch_size)
    if context.unlabelled is not None:
        loader = repeat(loader, recipe.updates_per_epoch)
    return trainer.fit(
        loader,
        epochs=epochs,
        checkpoint=folder / "hint.pt",
        checkpoint_every=context.checkpoint_every,
        seed=derive_seed(context.seed, "hint stage"),
    )


def front_until(student: nn.Sequential, layer: str) -> nn.Sequential:
    """Take a network's children up to one of them: the same modules, so that training them trains the network itself.

    ValueError if the network has no such child; a layer within a child is none.
    """
    names = list(dict(student.named_children()))
    if layer not in names:
        raise ValueError(f"hint_layer must be a child of the student, one of {', '.join(names)}, got {layer!r}")
    until = names[: names.index(layer) + 1]
    return nn.Sequential(OrderedDict((name, getattr(student, name)) for name in until))


def hint_epochs(recipe: Recipe, epochs: int) -> int:
    """Count the epochs of a run that stage 1 of hints takes, one at least."""
    return max(1, round(recipe.hint_share * epochs))


def _check_hints(recipe: Recipe, network: nn.Sequential) -> None:
    front_until(network, recipe.hint_layer)
    for epochs in (recipe.epochs, min(recipe.epochs, recipe.choice_epochs or recipe.epochs)):
        if (stage := hint_epochs(recipe, epochs)) >= epochs:
            raise ValueError(
                f"stage 1 of hints takes {stage} of {epochs} epochs (hint_share {recipe.hint_share:g}) and leaves none "
                "for stage 2; ask for more epochs, lower hint_share, or leave hints out of arms="
            )


def _schedule(recipe: Recipe, alpha0: Alpha) -> Schedule:
    return {"linear": linear_decay, "constant": constant, "cosine": cosine_decay}[recipe.schedule](alpha0)


def _each(knob: str, *values: float) -> tuple[Setting, ...]:
    return tuple({knob: value} for value in values)


# what is compared with nothing chooses learning rate and weight decay; the rest takes them over
_RATES: tuple[Setting, ...] = (
    {},
    {"learning_rate": 0.1},
    {"weight_decay": 5e-4},
    {"learning_rate": 0.1, "weight_decay": 5e-4},
)
_PLAIN = Arm(
    "plain", "plain", "The network trained on the task alone.", "paper", _nothing, _RATES, taught=False, baseline=None
)
_FINETUNING = Arm(
    "finetuning",
    "fine-tuning",
    "Starts with the teacher's weights, then trained as plain.",
    "paper",
    _nothing,
    _each("learning_rate_factor", 1.0, 0.3, 0.1, 3.0),
    prepare=_copy_teacher,
)

ARMS: tuple[Arm, ...] = (
    _PLAIN,
    replace(
        _PLAIN,
        name="plain_readout",
        label="plain with readout",
        about="The same with RDL's additional linear readout: RDL's paired control.",
        network="readout",
    ),
    # the fine-tuned network without the teacher's weights: what its ten last units cost by themselves
    replace(
        _PLAIN,
        name="plain_narrow",
        label="plain, ten last units",
        about="The fine-tuned network trained from random weights: the teacher's few last units and a readout on them. "
        "Shows what these few units cost, apart from where the weights come from.",
        network="teacher_readout",
    ),
    replace(_PLAIN, name=TEACHER, label="teacher", about="The teacher itself.", network="teacher"),
    _FINETUNING,
    replace(
        _FINETUNING,
        name="finetuning_replaced",
        label="fine-tuning, new last layer",
        about="The same, with a new last layer of one unit per class.",
    ),
    Arm(
        "deep_supervision",
        "deep supervision",
        "The losses of linear classifiers on intermediate layers are added to the task loss.",
        "paper",
        _deep_supervision,
        _each("alpha0", 1.0, 0.3, 3.0, 0.1),
        taught=False,
    ),
    Arm(
        "hints",
        "hints",
        "First trained to predict an intermediate layer of the teacher linearly, then on the task.",
        "paper",
        _nothing,
        _each("alpha0", 1.0, 3.0, 0.3, 10.0),
        prepare=_hint_stage,
        check=_check_hints,
    ),
    Arm(
        "rdl",
        "RDL",
        "Representational distance learning: the mean squared difference of student's and teacher's RDMs is "
        "added to the loss, layer by layer.",
        "paper",
        _rdl,
        _each("alpha0", 2.0, 1.0, 0.3, 4.0),
        takes_alphas=True,
    ),
    Arm(
        "rdl_corr",
        "scale-free RDL",
        "1 − Pearson r in place of RDL's squared difference, between RDMs of Euclidean distances over all pairs, α "
        "alike in every layer, unless the recipe says otherwise: only the geometry counts, not its scale.",
        "further",
        _rdl_corr,
        _each("alpha0", 3.0, 1.0, 5.0, 0.3),
        takes_alphas=True,
    ),
    Arm(
        "kd",
        "KD",
        "Knowledge distillation: the teacher's softened outputs.",
        "further",
        _kd,
        _each("alpha0", 0.1, 0.3, 0.03, 1.0),
    ),
    Arm(
        "rkd",
        "RKD",
        "Relational knowledge distillation: distances in units of their mean.",
        "further",
        partial(_relational, RKD),
        _each("alpha0", 10.0, 3.0, 30.0, 1.0),
    ),
    Arm(
        "sp",
        "SP",
        "Similarity-preserving distillation: normalised inner products within a batch.",
        "further",
        partial(_relational, SP),
        _each("alpha0", 300.0, 100.0, 1000.0, 30.0),
    ),
    Arm(
        "cka",
        "CKA",
        "Centred kernel alignment between student and teacher.",
        "further",
        partial(_relational, CKA),
        _each("alpha0", 1.0, 0.3, 3.0, 10.0),
    ),
)
"""All arms, in the order in which pages list them, with the settings that the paper's MNIST study tries."""


def paper_arms() -> tuple[Arm, ...]:
    """List the arms of a study whose students have the teacher's classes, ``plain`` first."""
    for_other_classes = ("plain_readout", "plain_narrow", "finetuning_replaced")
    return tuple(arm for arm in ARMS if arm.name not in for_other_classes)
