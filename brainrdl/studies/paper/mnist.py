"""The paper's MNIST study: a teacher trained on InfiMNIST, students trained on MNIST (section 3.1)."""

from collections.abc import Callable, Mapping

import torch
from torch import nn

from brainrdl.data import InfiMNIST, LabelledImages, load_mnist, mnist_checksums, split_mnist
from brainrdl.models import mnist_cnn
from brainrdl.studies.paper.arms import paper_arms
from brainrdl.studies.paper.recipe import Recipe
from brainrdl.studies.paper.study import Partition, Request, Splits, Study, training_size
from brainrdl.studies.paper.training import Setting

# the paper's "first 10,000 non-MNIST InfiMNIST examples" and "the next 120,000"
_VALIDATION, _TRAINING = 70_000, 80_000
_STUDENTS = 50_000  # the other 10,000 of MNIST's training images validate
_RATES: tuple[Setting, ...] = (
    {},
    {"learning_rate": 0.1},
    {"weight_decay": 5e-4},
    {"learning_rate": 0.1, "weight_decay": 5e-4},
)


def mnist_study() -> Study:
    """Table 1's network; the paper's teacher, and a clean one that shares no source image with validation."""
    return Study(
        name="mnist",
        title="Representational distance learning on MNIST",
        recipe=Recipe(epochs=20, teacher_epochs=10),
        load=_load,
        networks=_networks,
        teachers=("paper", "clean"),
        teacher_size=120_000,
        arms=paper_arms(*_RATES),
    )


def _load(request: Request) -> Splits:
    train, test = load_mnist(request.data_dir, download=request.download)
    n_train = training_size(request.limit_train, len(train.classes), _STUDENTS)
    training, validation = split_mnist(train, n_train=n_train)

    def teacher(kind: str, size: int, labelled: LabelledImages) -> Partition:
        if kind == "paper":
            infinite = InfiMNIST(train)
            return Partition(
                infinite.generate(torch.arange(_TRAINING, _TRAINING + size)),
                infinite.generate(torch.arange(_VALIDATION, _TRAINING)),
            )
        # the student's own training images (or its labelled ones) are the only sources
        return Partition(InfiMNIST(labelled).generate(torch.arange(_TRAINING, _TRAINING + size)), validation)

    return Splits(
        students=Partition(training, validation),
        test=lambda: test,
        teacher=teacher,
        checksums=mnist_checksums(request.data_dir),
        notes=InfiMNIST(training).describe(),
    )


def _networks(splits: Splits) -> Mapping[str, Callable[[], nn.Sequential]]:
    def make() -> nn.Sequential:
        return mnist_cnn(len(splits.classes))

    return {"student": make, "teacher": make}
