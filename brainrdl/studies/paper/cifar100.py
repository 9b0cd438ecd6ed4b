"""The paper's second study: a teacher trained on CIFAR-10, students trained on CIFAR-100 (section 3.2)."""

from collections.abc import Callable, Mapping
from dataclasses import replace

import torch
from torch import nn

from brainrdl.data.batches import Batches
from brainrdl.data.cifar import cifar_checksums, load_cifar, split_cifar
from brainrdl.data.images import LabelledImages, interleaved_order
from brainrdl.data.transforms import flip_half, normalize_contrast
from brainrdl.models import nin
from brainrdl.studies.paper.arms import ARMS
from brainrdl.studies.paper.outlines import CIFAR100
from brainrdl.studies.paper.study import Partition, Request, Splits, Study
from brainrdl.studies.paper.training import Arm, Setting

_WITHOUT_VALIDATION = 40_000
_ORDER_SEED = 0
# the weight decay is not among them: it bears on how long a network's distances are, and a student with another than
# its teacher's may be trained toward the teacher's scale first of all
_RATES: tuple[Setting, ...] = ({}, {"learning_rate": 0.5}, {"learning_rate": 2.0}, {"learning_rate": 0.25})
_ON_READOUT = ("rdl", "rdl_corr", "rkd", "sp", "cka")


def cifar100_study() -> Study:
    """Table 4's network, a teacher of 10 classes, students of 100; choices on 40,000 images, training on all."""
    return Study(
        name=CIFAR100.name,
        title="Representational distance learning from CIFAR-10 to CIFAR-100",
        recipe=CIFAR100.recipe,
        load=_load,
        networks=_networks,
        teachers=CIFAR100.teachers,
        choice_teacher="cifar10",
        teacher_size=CIFAR100.teacher_size,
        arms=_arms(),
        batches=Batches(normalise=normalize_contrast, augment=flip_half, drop_last=True),
        train_sizes=CIFAR100.train_sizes,
        few_labels=CIFAR100.few_labels,
        teacher_dataset="cifar10",
        precision=CIFAR100.precision,
    )


def _arms() -> tuple[Arm, ...]:
    """Give what is trained toward the teacher a readout on top, and so its control too; list all arms."""
    by_name = {arm.name: arm if arm.baseline else replace(arm, candidates=_RATES) for arm in ARMS}
    by_name |= {name: replace(by_name[name], network="readout", baseline="plain_readout") for name in _ON_READOUT}
    # under a learning rate of 1 what MNIST bears is too much: deep supervision's features collapsed at 1
    for name, alphas in (
        ("deep_supervision", (0.1, 0.03, 0.3, 0.01)),
        ("rdl", (0.1, 0.3, 0.03, 1.0)),  # balanced
        ("rdl_corr", (1.0, 0.3, 3.0, 0.1)),
    ):
        by_name[name] = replace(by_name[name], candidates=tuple({"alpha0": alpha0} for alpha0 in alphas))
    factors: tuple[Setting, ...] = tuple({"learning_rate_factor": f} for f in (1, 0.3, 0.1, 0.03))
    by_name |= {name: replace(by_name[name], candidates=factors) for name in ("finetuning", "finetuning_replaced")}
    # the paper's: the teacher's ten units stay, and a readout to the student's classes stands on them
    by_name["finetuning"] = replace(by_name["finetuning"], network="teacher_readout")
    return tuple(by_name.values())


def _load(request: Request) -> Splits:
    train, test = load_cifar(100, request.data_dir, download=request.download)
    # the teachers' too, now: not after the hours that a missing file or a wrong limit of theirs would cost
    of_teachers, test_of_teachers = load_cifar(10, request.data_dir, download=request.download)
    teachers = _partition(of_teachers, request.limit_teacher)
    return Splits(
        students=_partition(train, request.limit_train, whole=request.train_size != _WITHOUT_VALIDATION),
        test=lambda: test,
        teacher=lambda kind, size, labelled: teachers,
        checksums=cifar_checksums(100, request.data_dir) | cifar_checksums(10, request.data_dir),
        teacher_test=lambda: test_of_teachers,
    )


def _partition(train: LabelledImages, limit: int | None, *, whole: bool = True) -> Partition:
    """Choices on 40,000/10,000 images; what is reported is trained on all 50,000, or the first `limit` of an order."""
    largest = len(train) if whole else _WITHOUT_VALIDATION
    if limit is not None and not len(train.classes) <= limit <= largest:
        raise ValueError(
            f"limit_train= and limit_teacher= must lie between the number of classes ({len(train.classes)}) and the "
            f"size of the training set ({largest:,}), got {limit}"
        )
    training, validation = split_cifar(train, n_train=min(limit or largest, _WITHOUT_VALIDATION))
    if not whole:
        return Partition(training, validation)
    order = interleaved_order(train.labels.cpu(), torch.Generator().manual_seed(_ORDER_SEED))
    return Partition(training, validation, train.take(order[:limit]))


def _networks(splits: Splits) -> Mapping[str, Callable[[], nn.Sequential]]:
    n_classes = len(splits.classes)
    return {
        "student": lambda: nin(n_classes),
        "readout": lambda: nin(n_classes, readout=n_classes),
        "teacher": lambda: nin(10),
        "teacher_readout": lambda: nin(10, readout=n_classes),
    }
