"""Outlines of the paper's studies: what can be asked of each, known before anything that computes is loaded."""

from collections.abc import Collection
from dataclasses import dataclass

from brainrdl.arguments import did_you_mean
from brainrdl.studies.paper.recipe import Recipe

_ARMS = ("plain", "teacher", "finetuning", "deep_supervision", "hints", "rdl", "rdl_corr", "kd", "rkd", "sp", "cka")


@dataclass(frozen=True)
class Outline:
    """A study without its data and networks; see `brainrdl.studies.paper.study.Study`."""

    name: str
    about: str  # beside the command's word for it
    recipe: Recipe
    teachers: tuple[str, ...]
    teacher_size: int
    arms: tuple[str, ...] = _ARMS  # by name
    train_sizes: tuple[int, ...] = ()
    few_labels: bool = True
    downloads: bool = True  # the study has files that --download fetches
    precision: str = "32-true"
    threads: int | None = None

    @property
    def kinds(self) -> tuple[str, ...]:
        """The kinds of teacher that can be asked for."""
        return kinds_of_teacher(self.teachers, few_labels=self.few_labels)


def kinds_of_teacher(teachers: tuple[str, ...], *, few_labels: bool) -> tuple[str, ...]:
    """The kinds of teacher that can be asked for: where labels can be few, one that has no more than its students."""
    return (*teachers, "labels") if few_labels else teachers


def check_arm(name: str, known: Collection[str], study: str) -> None:
    """Raise a ValueError that lists a study's arms, or those most like it, unless it has one of that name."""
    if name not in known:
        hint = did_you_mean(name, known) or f"; arms are: {', '.join(known)}"
        raise ValueError(f"the {study} study has no arm {name!r}{hint}")


def check_teacher(kind: str, known: Collection[str], study: str) -> None:
    """Raise a ValueError that lists a study's kinds of teacher, unless it has one of that name."""
    if kind not in known:
        raise ValueError(f"the {study} study has no teacher {kind!r}; it has: {', '.join(known)}")


DIGITS = Outline(
    name="digits",
    about="scikit-learn's digits: minutes, no download",
    recipe=Recipe(epochs=15, teacher_epochs=10, choice_epochs=10),
    teachers=("clean",),
    teacher_size=4_000,
    downloads=False,
    threads=1,
)

MNIST = Outline(
    name="mnist",
    about="the paper's MNIST study",
    recipe=Recipe(epochs=20, teacher_epochs=10),
    teachers=("paper", "clean"),
    teacher_size=120_000,
)

CIFAR100 = Outline(
    name="cifar100",
    about="the paper's CIFAR study: teacher on CIFAR-10, students on CIFAR-100",
    recipe=Recipe(
        epochs=300,
        teacher_epochs=300,
        choice_epochs=20,
        batch_size=128,
        optimizer="halving_sgd",
        learning_rate=1.0,
        momentum=0.9,
        weight_decay=5e-4,
        # a trained teacher's distances are short (after 32 epochs, in pool1 and pool2, about 1/148 and 1/359 of an
        # untrained student's), and without clipping RDL's first updates ended in NaN at every α₀ from .01 to .3,
        # with a teacher of 100 epochs; the task's own gradient is shorter than this in the first 25 updates, .5
        clip=1.0,
        layers=("pool1", "pool2", "pool3"),
        n_pairs=406,
        balanced=True,
        supervised_layers=("pool1", "pool2"),
        hint_layer="pool2",
        kd_head="pool3",
    ),
    teachers=("cifar10",),
    teacher_size=50_000,
    arms=("plain", "plain_readout", "plain_narrow", *_ARMS[1:3], "finetuning_replaced", *_ARMS[3:]),
    train_sizes=(50_000, 40_000),
    few_labels=False,
    precision="auto",
)
