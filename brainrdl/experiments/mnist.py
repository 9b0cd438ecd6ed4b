"""The paper's MNIST study: a teacher trained on InfiMNIST, students trained on MNIST (section 3.1)."""

from collections.abc import Callable
from pathlib import Path

import torch
from torch import nn

from brainrdl.data import InfiMNIST, LabelledImages, load_mnist, mnist_checksums, split_mnist
from brainrdl.experiments.arms import paper_arms
from brainrdl.experiments.recipe import Recipe
from brainrdl.experiments.study import Splits, Study, training_size
from brainrdl.models import mnist_cnn

# the paper's "first 10,000 non-MNIST InfiMNIST examples" and "the next 120,000"
_VALIDATION, _TRAINING = 70_000, 80_000
_STUDENTS = 50_000  # the other 10,000 of MNIST's training images validate


def mnist_study() -> Study:
    """Table 1's network; the paper's teacher, and a clean one that shares no source image with validation."""
    return Study(
        name="mnist",
        title="Representational distance learning on MNIST",
        recipe=Recipe(epochs=20, teacher_epochs=10),
        load=_load,
        model=_model,
        teachers=("paper", "clean"),
        teacher_size=120_000,
        arms=paper_arms(),
    )


def _load(data_dir: Path | None, limit: int | None, download: bool) -> Splits:
    train, test = load_mnist(data_dir, download=download)
    training, validation = split_mnist(train, n_train=training_size(limit, len(train.classes), _STUDENTS))

    def teacher(kind: str, size: int, labelled: LabelledImages) -> tuple[LabelledImages, LabelledImages]:
        if kind == "paper":
            infinite = InfiMNIST(train)
            return infinite.generate(torch.arange(_TRAINING, _TRAINING + size)), infinite.generate(
                torch.arange(_VALIDATION, _TRAINING)
            )
        # the student's own training images (or its labelled ones) are the only sources
        return InfiMNIST(labelled).generate(torch.arange(_TRAINING, _TRAINING + size)), validation

    return Splits(
        training=training,
        validation=validation,
        test=lambda: test,
        teacher=teacher,
        checksums=mnist_checksums(data_dir),
        notes=InfiMNIST(training).describe(),
    )


def _model(splits: Splits) -> Callable[[], nn.Sequential]:
    return lambda: mnist_cnn(len(splits.training.classes))
