"""The paper's MNIST study: a teacher trained on InfiMNIST, students trained on MNIST (section 3.1)."""

from collections.abc import Callable, Mapping

import torch
from torch import nn

from brainrdl.data.images import LabelledImages
from brainrdl.data.infimnist import InfiMNIST
from brainrdl.data.mnist import load_mnist, mnist_checksums, split_mnist
from brainrdl.models import mnist_cnn
from brainrdl.studies.paper.arms import paper_arms
from brainrdl.studies.paper.outlines import MNIST
from brainrdl.studies.paper.study import Partition, Request, Splits, Study, training_size

# the paper's "first 10,000 non-MNIST InfiMNIST examples" and "the next 120,000"
_VALIDATION, _TRAINING = 70_000, 80_000
_STUDENTS = 50_000  # the other 10,000 of MNIST's training images validate


def mnist_study() -> Study:
    """Table 1's network; the paper's teacher, and a clean one that shares no source image with validation."""
    return Study(
        name=MNIST.name,
        title="Representational distance learning on MNIST",
        recipe=MNIST.recipe,
        load=_load,
        networks=_networks,
        teachers=MNIST.teachers,
        teacher_size=MNIST.teacher_size,
        arms=paper_arms(),
    )


def _load(request: Request) -> Splits:
    train, test = load_mnist(request.data_dir, download=request.download)
    n_train = training_size(request.limit_train, len(train.classes), _STUDENTS)
    training, validation = split_mnist(train, n_train=n_train)

    def teacher(kind: str, size: int, labelled: LabelledImages) -> Partition:
        # a clean one's only sources are the student's own training images (or its labelled ones)
        source = InfiMNIST(train if kind == "paper" else labelled)
        images = source.generate(torch.arange(_TRAINING, _TRAINING + size))
        seen = source.generate(torch.arange(_VALIDATION, _TRAINING)) if kind == "paper" else validation
        return Partition(images, seen)

    return Splits(
        students=Partition(training, validation),
        test=lambda: test,
        teacher=teacher,
        checksums=mnist_checksums(request.data_dir),
        notes=InfiMNIST(training).describe(),
    )


def _networks(splits: Splits) -> Mapping[str, Callable[[], nn.Sequential]]:
    return dict.fromkeys(("student", "teacher"), lambda: mnist_cnn(len(splits.classes)))
