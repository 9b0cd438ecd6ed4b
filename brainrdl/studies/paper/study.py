"""A paper's study (data, networks, recipe, arms), and the request of a user: which runs of it."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from math import inf
from pathlib import Path
from typing import Any

import torch
from lightning_fabric import Fabric
from torch import nn

from brainrdl.arguments import did_you_mean
from brainrdl.data.batches import Batches
from brainrdl.data.images import LabelledImages, stratified_split
from brainrdl.features.recorder import list_layers
from brainrdl.studies.paper.arms import TEACHER
from brainrdl.studies.paper.outlines import check_arm, check_teacher, kinds_of_teacher
from brainrdl.studies.paper.recipe import Recipe
from brainrdl.studies.paper.training import Arm
from brainrdl.training.keeping import read_every
from brainrdl.training.machine import precision_of
from brainrdl.training.randomness import derive_seed


@dataclass(frozen=True)
class Partition:
    """Images to train a network on: those with which its settings are chosen, and those of the reported network."""

    training: LabelledImages
    validation: LabelledImages
    # where the reported network is trained on more, `validation` included, so that it has no validation error
    final: LabelledImages | None = None

    def to(self, device: torch.device) -> "Partition":
        """Copy all images to a device."""
        final = None if self.final is None else self.final.to(device)
        return Partition(self.training.to(device), self.validation.to(device), final)


@dataclass(frozen=True)
class Splits:
    """The data of a study."""

    students: Partition
    test: Callable[[], LabelledImages]  # opens the test set; called only after all training is done
    teacher: Callable[[str, int, LabelledImages], Partition]  # (kind, size, labelled images) → a teacher's images
    checksums: dict[str, str]  # by file or set, for the manifest
    notes: dict[str, Any] = field(default_factory=dict)  # how derived images are made, for the manifest
    # opens the teachers' own test set, where they have other classes than the students
    teacher_test: Callable[[], LabelledImages] | None = None

    @property
    def classes(self) -> tuple[str, ...]:
        """The students' classes."""
        return self.students.training.classes

    def on(self, device: torch.device, test_limit: int | None) -> "Splits":
        """Move the images to a device as they are opened, and leave out test images beyond the limit."""

        def opened(test: Callable[[], LabelledImages]) -> LabelledImages:
            whole = test()
            return whole.take(range(min(test_limit or len(whole), len(whole)))).to(device)

        of_teachers = None if self.teacher_test is None else partial(opened, self.teacher_test)
        return replace(
            self, students=self.students.to(device), test=partial(opened, self.test), teacher_test=of_teachers
        )


@dataclass(frozen=True)
class Study:
    """A reference case."""

    name: str  # the command's word for it
    title: str
    recipe: Recipe
    load: Callable[["Request"], Splits]
    # untrained networks by name, a function that makes one each: student, teacher and what further the arms name
    networks: Callable[[Splits], Mapping[str, Callable[[], nn.Sequential]]]
    teachers: tuple[str, ...]  # kinds of teacher that are reported by default
    teacher_size: int  # images that a teacher is trained on
    arms: tuple[Arm, ...]  # plain and teacher among them
    choice_teacher: str = "clean"  # the kind of all choices: one that has seen no relative of a validation image
    batches: Batches = field(default_factory=Batches)
    train_sizes: tuple[int, ...] = ()  # sizes of the whole training set that may be asked for, the default first
    few_labels: bool = True  # whether students with few labels, and teachers with no more, can be asked for
    teacher_dataset: str = ""  # data of the teachers where they are not the students'
    precision: str = "32-true"  # unless the request names another
    # a small network loses much where it has to wait for a second thread that other work holds
    threads: int | None = None

    @property
    def kinds(self) -> tuple[str, ...]:
        """The kinds of teacher that can be asked for."""
        return kinds_of_teacher(self.teachers, few_labels=self.few_labels)

    def arm(self, name: str) -> Arm:
        """The arm of that name."""
        by_name = {arm.name: arm for arm in self.arms}
        check_arm(name, by_name, self.name)
        return by_name[name]


@dataclass(frozen=True)
class Request:
    """The request of a user; an empty tuple or None leaves a field to the study."""

    out: Path  # output folder
    data_dir: Path | None = None
    seeds: int = 1  # seeds 0 … seeds − 1
    arms: tuple[str, ...] = ()
    teachers: tuple[str, ...] = ()  # kinds of teacher
    labels: tuple[int, ...] = ()  # numbers of labelled images, one set of runs each; all images labelled if empty
    limit_train: int | None = None  # training images of students
    limit_teacher: int | None = None  # and of teachers
    train_size: int | None = None  # of the whole training set, before it is limited
    test_limit: int | None = None  # test images that are scored, the first ones
    one_teacher: bool = False  # the first seed's teacher serves all seeds
    tries: int = 4  # settings tried per arm on validation
    alphas: tuple[float, ...] = ()  # α₀ to try for rdl and rdl_corr in place of their own
    device: str = "auto"
    precision: str | None = None
    threads: int | None = None  # CPU threads of each process
    jobs: int = 1  # processes that make runs side by side
    checkpoint_every: int | str | None = None  # updates or minutes, as in `Trainer.fit`; each epoch if None
    download: bool = False  # missing files may be downloaded
    unscored: bool = False  # the test set stays closed: nothing is scored, and there is no report yet


@dataclass(frozen=True)
class Row:
    """One run: an arm, a seed, a kind of teacher (or none) and a number of labels (or all)."""

    arm: str
    seed: int
    teacher: str = ""
    labels: int | None = None

    @property
    def of_teacher(self) -> bool:
        """True for a run that trains a teacher."""
        return self.arm == TEACHER

    @property
    def name(self) -> str:
        """The run's name in every file, such as ``rdl-clean-labels1000-seed0``."""
        labels = "" if self.labels is None else f"labels{self.labels}"
        return "-".join(part for part in (self.arm, self.teacher, labels, f"seed{self.seed}") if part)


def plan(study: Study, request: Request) -> list[Row]:
    """List the runs that a request asks for, in the order in which they are made.

    ValueError for unknown arms or teachers, a ``labels`` teacher without numbers of labels, or numbers below 1.
    """
    kinds = request.teachers or study.teachers
    for kind in kinds:
        check_teacher(kind, study.kinds, study.name)
    if "labels" in kinds and not request.labels:
        raise ValueError("the 'labels' teacher is trained on the labelled images alone: say how many, labels=")
    for name, value in (("seeds", request.seeds), ("tries", request.tries), ("jobs", request.jobs)):
        if value < 1:
            raise ValueError(f"{name} must be at least 1, got {value}")
    arms = [study.arm(name) for name in request.arms] or list(study.arms)
    rows = [
        # a teacher that saw all labels is the same whatever the number of its students' labels
        Row(arm.name, seed, kind, None if arm.name == TEACHER and kind != "labels" else labels)
        for labels in request.labels or (None,)
        for arm in arms
        for kind in (kinds if arm.taught or arm.name == TEACHER else ("",))
        for seed in range(1 if arm.name == TEACHER and request.one_teacher else request.seeds)
    ]
    return list(dict.fromkeys(rows))


def check(study: Study, recipe: Recipe, request: Request, splits: Splits, rows: Sequence[Row]) -> None:
    """Refuse with a ValueError what would fail only after hours of training."""
    read_every(request.checkpoint_every, request.out)
    networks = study.networks(splits)
    for network in {study.arm(row.arm).network: None for row in rows} | {study.arm(TEACHER).network: None}:
        names = list_layers(networks[network]())
        for name in ("layers", "supervised_layers", "hint_layer", "kd_head"):
            asked = getattr(recipe, name) or ()
            for layer in (asked,) if isinstance(asked, str) else asked:
                if layer not in names:
                    raise ValueError(f"{name} names {layer!r}, which the network has not{did_you_mean(layer, names)}")
    for alpha0 in request.alphas:
        if not 0 <= alpha0 < inf:
            raise ValueError(f"alphas must be finite numbers of at least 0, got {alpha0:g}")
    arms = {row.arm for row in rows}
    for arm in study.arms:
        if arm.name in arms and arm.check is not None:
            arm.check(recipe, networks[arm.network]())
    # an arm takes over what is chosen for its baseline, and a teacher is needed by whatever is taught
    chosen_first = {baseline for name in arms if (baseline := study.arm(name).baseline)}
    for arm in (arm for arm in study.arms if arm.name in {TEACHER, *arms, *chosen_first}):
        given = arm.takes_alphas and request.alphas
        if not given and request.tries > len(arm.candidates):
            raise ValueError(
                f"tries is {request.tries}, but there are {len(arm.candidates)} settings to try for "
                f"{arm.name!r}; ask for at most that many"
            )
    if request.train_size is not None and request.train_size not in study.train_sizes:
        raise ValueError(
            f"train_size must be one of {', '.join(map(str, study.train_sizes))}, got {request.train_size}"
        )
    # a batch of one image has no distances, and an update without unlabelled images none of a teacher's
    n, batch = len(splits.students.training), recipe.batch_size
    for size, option in ((n, "limit_train"), *((labelled, "labels") for labelled in request.labels)):
        if size % batch == 1 and not study.batches.drop_last:
            raise ValueError(
                f"{size} images in batches of {batch} leave a last batch of one, without distances; change {option}= "
                "or the recipe's batch_size"
            )
    for labelled in request.labels:
        _, rest = labelled_subset(splits.students.training, labelled)
        if len(rest) < batch:
            raise ValueError(
                f"labels is {labelled}, and leaves {len(rest)} of {n} training images without a label, less than a "
                f"batch of {batch}; ask for fewer, raise limit_train=, or change the recipe's batch_size"
            )


def training_size(limit: int | None, n_classes: int, n_images: int) -> int:
    """Count the training images of a study that a limit leaves, all without one; at least one a class."""
    if limit is not None and not n_classes <= limit <= n_images:
        raise ValueError(
            f"limit_train must lie between the number of classes ({n_classes}) and the number of training images "
            f"({n_images}), got {limit}"
        )
    return n_images if limit is None else limit


def labelled_subset(training: LabelledImages, n: int) -> tuple[LabelledImages, LabelledImages]:
    """Split training images into n labelled ones, balanced over classes, and the rest.

    ValueError if fewer than one image a class would be labelled, or none were left.
    """
    if not len(training.classes) <= n < len(training):
        raise ValueError(
            f"labels must lie between the number of classes ({len(training.classes)}) and the number of training "
            f"images less one ({len(training) - 1}), got {n}"
        )
    # the same images for every seed and arm, so that no teacher has seen a label that its student lacks
    generator = torch.Generator().manual_seed(derive_seed(0, "labelled images"))
    labelled, rest = stratified_split(training.labels.cpu(), [n, len(training) - n], generator)
    return training.take(labelled), training.take(rest)


def frozen(study: Study, recipe: Recipe, request: Request, splits: Splits, fabric: Fabric) -> dict[str, Any]:
    """Describe what may not change between two calls with one output folder."""
    return {
        "study": study.name,
        "recipe": {key: list(value) if isinstance(value, tuple) else value for key, value in asdict(recipe).items()},
        "train_size": len(splits.students.final or splits.students.training),
        "test_limit": request.test_limit,
        # as the device decided, not "auto": a study resumed elsewhere must not mix precisions
        "precision": precision_of(fabric),
        "teacher_size": request.limit_teacher or study.teacher_size,
        "one_teacher": request.one_teacher,
        "tries": request.tries,
        "alphas": list(request.alphas),
        "data": splits.checksums,
    }
