"""The digits study: the paper's MNIST study in small, on data that ships with a dependency."""

from collections.abc import Callable, Mapping

import torch
from torch import nn

from brainrdl.data.digits import load_digits
from brainrdl.data.images import LabelledImages, checksum
from brainrdl.data.infimnist import Deformation, InfiMNIST
from brainrdl.models import mnist_cnn
from brainrdl.studies.paper.arms import paper_arms
from brainrdl.studies.paper.outlines import DIGITS
from brainrdl.studies.paper.study import Partition, Request, Splits, Study, training_size

_FIRST = 80_000


def digits_study() -> Study:
    """Table 1's network on scikit-learn's 8 × 8 digits; its teacher learns deformations of the training images."""
    return Study(
        name=DIGITS.name,
        title="Representational distance learning on scikit-learn's digits",
        recipe=DIGITS.recipe,
        load=_load,
        networks=_networks,
        teachers=DIGITS.teachers,
        teacher_size=DIGITS.teacher_size,
        arms=paper_arms(),
        threads=DIGITS.threads,
    )


def _load(request: Request) -> Splits:
    training, validation, test = load_digits()
    training = training.take(range(training_size(request.limit_train, len(training.classes), len(training))))
    # chosen on validation images: in 8 × 8 pixels a shift by one cuts strokes off (datasets/digits/README.md)
    deformation = Deformation(field_sd=2, field_scale=0.3, tangent_sd=0, shift=False)

    def teacher(kind: str, size: int, labelled: LabelledImages) -> Partition:
        images = InfiMNIST(labelled, deformation=deformation).generate(torch.arange(_FIRST, _FIRST + size))
        return Partition(images, validation)

    named = {"training": training, "validation": validation, "test": test}
    return Splits(
        students=Partition(training, validation),
        test=lambda: test,
        teacher=teacher,
        checksums={f"digits {name}": checksum(images) for name, images in named.items()},
        notes=InfiMNIST(training, deformation=deformation).describe(),
    )


def _networks(splits: Splits) -> Mapping[str, Callable[[], nn.Sequential]]:
    image_size = splits.students.training.images.shape[-1]
    return dict.fromkeys(("student", "teacher"), lambda: mnist_cnn(len(splits.classes), image_size=image_size))
