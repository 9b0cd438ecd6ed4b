"""The training of one student: an arm's terms beside the task loss, and what is done to it before."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import pandas as pd
import torch
from lightning_fabric import Fabric
from torch import nn

from brainrdl.data.batches import Batches
from brainrdl.data.images import LabelledImages
from brainrdl.studies.optimizers import OPTIMIZERS, MakeOptimizer, clipped
from brainrdl.studies.paper.recipe import Recipe
from brainrdl.teachers.network import NetworkTeacher
from brainrdl.terms.base import Term
from brainrdl.training.randomness import derive_seed
from brainrdl.training.streams import repeat
from brainrdl.training.trainer import Trainer

Setting = Mapping[str, float]
"""The knobs of one arm: ``learning_rate``, ``weight_decay``, ``learning_rate_factor``, ``alpha0``."""


@dataclass(frozen=True)
class Context:
    """The material of one training."""

    recipe: Recipe
    model: Callable[[], nn.Sequential]  # makes an untrained network
    training: LabelledImages
    validation: LabelledImages | None  # looked at after each epoch, None where all images are trained on
    unlabelled: LabelledImages | None  # nobody may see their labels: the teacher's terms run on the stimulus stream
    teacher: nn.Module | None
    batches: Batches
    fabric: Fabric
    seed: int  # those of initialisation, data order, dropout, pairs and heads are derived from it, each for itself
    checkpoint_every: int | str | None = None  # as in `Trainer.fit`

    @property
    def stream(self) -> str:
        """Stream on which a teacher's terms run."""
        return "task" if self.unlabelled is None else "stimuli"

    def ask(self, metric: str = "mse", layers: Iterable[str] = ()) -> NetworkTeacher:
        """Wrap the teacher, answering by `layers` in `metric`."""
        if self.teacher is None:
            raise ValueError("this arm needs a teacher")
        return NetworkTeacher(self.teacher, tuple(layers) or self.recipe.layers, metric)


Terms = Callable[[Context, Setting], list[Term]]
Prepare = Callable[[nn.Sequential, Context, Setting, Path], pd.DataFrame | None]
"""(student, context, setting, folder) → history of a stage of its own, whose epochs count, or None."""
Check = Callable[[Recipe, nn.Sequential], None]
"""(recipe, network) → None; ValueError for a recipe with which an arm would fail."""


@dataclass(frozen=True)
class Arm:
    """One row of the paper's tables, with the words that a page has for it: label, sentence and family."""

    name: str  # as in results.csv
    label: str
    about: str
    family: str  # "paper" (its arms, and variants of them) or "further"
    terms: Terms  # beside the task loss
    candidates: tuple[Setting, ...]  # to choose from on validation, the default first
    taught: bool = True  # by a teacher, which it needs
    prepare: Prepare | None = None  # the stage before the task
    check: Check | None = None  # of what would fail after hours of training
    network: str = "student"  # name of the study's network that is trained
    # the arm whose learning rate and weight decay it takes over and with which it is compared: the same network without
    # the arm's terms; None for such an arm itself
    baseline: str | None = "plain"
    takes_alphas: bool = False  # a user's α₀ take the place of its candidates

    def candidates_of(self, alphas: Sequence[float], tries: int) -> list[Setting]:
        """List the settings to try: the user's α₀, or the first of its own."""
        if self.takes_alphas and alphas:
            return [{"alpha0": alpha0} for alpha0 in alphas]
        return list(self.candidates[:tries])


def train(arm: Arm, context: Context, setting: Setting, folder: Path) -> tuple[nn.Module, pd.DataFrame]:
    """Train one student, resuming where an earlier attempt in `folder` was interrupted.

    Returns the student, in eval mode, and a history: one row per epoch of all stages, which share the recipe's epochs.
    """
    student = initialised(context.model, context.seed)
    networks = [network for network in (student, context.teacher) if network is not None]
    # on the CPU they stay: rows recorded there come out again bitwise
    with biases_left_out(*networks) if context.fabric.device.type == "cuda" else nullcontext():
        history = _fit(arm, student, context, setting, folder)
    return student.eval(), history


def _fit(arm: Arm, student: nn.Sequential, context: Context, setting: Setting, folder: Path) -> pd.DataFrame:
    """All stages of a training; the history of their epochs."""
    # a stage before the task takes its epochs from the same budget, so that all arms see as many images
    before = None if arm.prepare is None else arm.prepare(student, context, setting, folder)
    recipe = context.recipe
    epochs = recipe.epochs - (0 if before is None else len(before))
    terms, optimizer = arm.terms(context, setting), make_optimizer(recipe, setting, epochs)
    trainer = Trainer(
        student, terms, optimizer=optimizer, fabric=context.fabric, cuda_graphs=True, threads=torch.get_num_threads()
    )
    loader: Iterable[object] = context.batches.training(context.training, recipe.batch_size)
    unlabelled = None
    # with few labels an epoch is a number of updates, since a pass over so few images is no measure of training
    if context.unlabelled is not None:
        loader = repeat(loader, recipe.updates_per_epoch)
        unlabelled = context.batches.unlabelled(context.unlabelled, recipe.batch_size)
    history = trainer.fit(
        loader,
        epochs=epochs,
        stimuli=unlabelled if any(term.stream == "stimuli" for term in terms) else None,
        validation=None if context.validation is None else context.batches.evaluation(context.validation),
        checkpoint=folder / "checkpoint.pt",
        checkpoint_every=context.checkpoint_every,
        seed=derive_seed(context.seed, "training"),
    )
    if before is not None:
        history = pd.concat([before, history.assign(epoch=history["epoch"] + len(before))], ignore_index=True)
    return history


@contextmanager
def biases_left_out(*networks: nn.Module) -> Iterator[None]:
    """Train without the biases that have no effect, and put them back, as they were, at the end.

    Biases stay where one of that name is not 0 in any of the networks: a student may be about to take over its
    teacher's.
    """
    # batch normalisation subtracts the batch's mean, and with it a bias of the convolution before it: the bias's
    # gradient is 0 but for rounding. One that begins at 0, as the NiN's do, stays there, and then leaving it out is
    # exact in eval mode too. To add it and to sum up its gradient took .75 of the 3.4 ms that a profiler counted for
    # the kernels of a NiN's update (H200, bf16)
    found = [each for network in networks for each in _biases_before_norm(network)]
    kept = {name for name, _, bias in found if bias.any()}
    left_out = [(convolution, bias) for name, convolution, bias in found if name not in kept]
    for convolution, _ in left_out:
        convolution.bias = None
    try:
        yield
    finally:
        for convolution, bias in left_out:
            bias.data = bias.data.to(convolution.weight)  # the rest may have been moved
            convolution.bias = bias


def _biases_before_norm(network: nn.Module) -> Iterator[tuple[str, nn.Conv2d, nn.Parameter]]:
    for name, block in network.named_modules():
        if isinstance(block, nn.Sequential):
            for (child, convolution), (_, norm) in pairwise(block.named_children()):
                if isinstance(convolution, nn.Conv2d) and isinstance(norm, nn.BatchNorm2d):
                    bias = convolution.bias
                    if isinstance(bias, nn.Parameter):
                        yield f"{name}.{child}", convolution, bias


def initialised(model: Callable[[], nn.Sequential], seed: int) -> nn.Sequential:
    """Make an untrained network whose weights depend on the seed alone."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(derive_seed(seed, "initialisation"))
        return model()


def make_optimizer(recipe: Recipe, setting: Setting, epochs: int) -> MakeOptimizer:
    """Describe the optimiser of a stage of so many epochs, with an arm's setting in place of the recipe's."""
    make = OPTIMIZERS[recipe.optimizer](
        epochs,
        learning_rate=setting.get("learning_rate", recipe.learning_rate) * setting.get("learning_rate_factor", 1.0),
        momentum=recipe.momentum,
        weight_decay=setting.get("weight_decay", recipe.weight_decay),
        warmup=recipe.warmup or 0,
    )
    return make if recipe.clip is None else clipped(make, recipe.clip)
