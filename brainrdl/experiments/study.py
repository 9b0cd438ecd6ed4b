"""What makes a study: its data, its network and its recipe. And what a user asks of it."""

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import nn

from brainrdl.data import LabelledImages, stratified_split
from brainrdl.experiments.arms import Arm
from brainrdl.experiments.recipe import Recipe
from brainrdl.features import list_layers
from brainrdl.ids import did_you_mean
from brainrdl.randomness import derive_seed
from brainrdl.schedules import check_alpha

TEACHERS = ("paper", "clean", "labels")


@dataclass(frozen=True)
class Splits:
    """The data of a study.

    Attributes
    ----------
    training, validation : LabelledImages
        The student's own; everything is chosen on `validation`.
    test : callable
        Opens the test set; called only after all training is done.
    teacher : callable
        (kind, size, labelled images) → (training, validation) images of a teacher.
    checksums : dict of str
        File or set → checksum, for the manifest.
    notes : dict
        How derived images are made, for the manifest.
    """

    training: LabelledImages
    validation: LabelledImages
    test: Callable[[], LabelledImages]
    teacher: Callable[[str, int, LabelledImages], tuple[LabelledImages, LabelledImages]]
    checksums: dict[str, str]
    notes: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Study:
    """A reference case.

    Attributes
    ----------
    name, title : str
        The command's word for it, and the report's.
    recipe : Recipe
        How to train.
    load : callable
        (data folder or None, number of training images or None, download) → Splits.
    model : callable
        Splits → a function that makes an untrained network.
    teachers : tuple of str
        Kinds of teacher, those reported by default.
    teacher_size : int
        Images a teacher is trained on.
    arms : tuple of Arm
        ``plain`` and ``teacher`` among them.
    threads : int or None
        CPU threads, torch's default if None. A small network loses much where it has to wait for a second one
        that other work holds.
    """

    name: str
    title: str
    recipe: Recipe
    load: Callable[[Path | None, int | None, bool], Splits]
    model: Callable[[Splits], Callable[[], nn.Sequential]]
    teachers: tuple[str, ...]
    teacher_size: int
    arms: tuple[Arm, ...]
    threads: int | None = None

    def arm(self, name: str) -> Arm:
        """The arm of that name."""
        by_name = {arm.name: arm for arm in self.arms}
        if name not in by_name:
            hint = did_you_mean(name, by_name) or f"; arms are: {', '.join(by_name)}"
            raise ValueError(f"the {self.name} study has no arm {name!r}{hint}")
        return by_name[name]


@dataclass(frozen=True)
class Request:
    """What is asked of a study on the command line.

    Attributes
    ----------
    out : Path
        Where everything is left.
    data_dir : Path or None
        Folder with the data.
    seeds : int
        Seeds 0 … seeds − 1.
    arms : tuple of str
        Names of arms; all if empty.
    teachers : tuple of str
        Kinds of teacher; the study's default if empty.
    labels : tuple of int
        Numbers of labelled images, one set of runs each; all images labelled if empty.
    limit_train, limit_teacher : int or None
        Training images of students and of teachers.
    one_teacher : bool
        Whether the first seed's teacher serves all seeds.
    tries : int
        Settings tried per arm on validation.
    alphas : tuple of float
        α₀ to try for ``rdl`` and ``rdl_corr`` in place of their own.
    device : str
        ``auto``, ``cpu`` or ``cuda``.
    threads : int or None
        CPU threads, the study's default if None.
    download : bool
        Whether missing files may be downloaded.
    """

    out: Path
    data_dir: Path | None = None
    seeds: int = 1
    arms: tuple[str, ...] = ()
    teachers: tuple[str, ...] = ()
    labels: tuple[int, ...] = ()
    limit_train: int | None = None
    limit_teacher: int | None = None
    one_teacher: bool = False
    tries: int = 4
    alphas: tuple[float, ...] = ()
    device: str = "auto"
    threads: int | None = None
    download: bool = False


@dataclass(frozen=True)
class Row:
    """One run: an arm, a seed, a kind of teacher (or none) and a number of labels (or all)."""

    arm: str
    seed: int
    teacher: str = ""
    labels: int | None = None

    @property
    def name(self) -> str:
        """The run's name in every file, such as ``rdl-clean-labels1000-seed0``."""
        labels = "" if self.labels is None else f"labels{self.labels}"
        return "-".join(part for part in (self.arm, self.teacher, labels, f"seed{self.seed}") if part)


def plan(study: Study, request: Request) -> list[Row]:
    """List the runs that a request asks for, in the order in which they are made.

    Raises
    ------
    ValueError
        For unknown arms or teachers, a ``labels`` teacher without numbers of labels, or numbers below 1.
    """
    kinds = request.teachers or study.teachers
    for kind in kinds:
        if kind not in TEACHERS or (kind == "paper" and "paper" not in study.teachers):
            known = [k for k in TEACHERS if k != "paper" or "paper" in study.teachers]
            raise ValueError(f"the {study.name} study has no teacher {kind!r}; it has: {', '.join(known)}")
    if "labels" in kinds and not request.labels:
        raise ValueError("the 'labels' teacher is trained on the labelled images alone: say how many with --labels")
    for name, value in (("seeds", request.seeds), ("tries", request.tries)):
        if value < 1:
            raise ValueError(f"--{name} must be at least 1, got {value}")
    arms = [study.arm(name) for name in request.arms] or list(study.arms)
    rows = [
        # a teacher that saw all labels is the same whatever the number of its students' labels
        Row(arm.name, seed, kind, None if arm.name == "teacher" and kind != "labels" else labels)
        for labels in request.labels or (None,)
        for arm in arms
        for kind in (kinds if arm.taught or arm.name == "teacher" else ("",))
        for seed in range(1 if arm.name == "teacher" and request.one_teacher else request.seeds)
    ]
    return list(dict.fromkeys(rows))


def check(study: Study, recipe: Recipe, request: Request, splits: Splits, rows: Sequence[Row]) -> None:
    """Refuse what would fail only after hours of training.

    Raises
    ------
    ValueError
        For layers that the network has not, numbers of labels or images that leave no batch to train on, too few
        epochs, α₀ that are no weights, more tries than settings.
    """
    names = list_layers(study.model(splits)())
    for name, layers in (
        ("layers", recipe.layers),
        ("supervised_layers", recipe.supervised_layers),
        ("hint_layer", (recipe.hint_layer,)),
    ):
        for layer in layers:
            if layer not in names:
                raise ValueError(f"{name} names {layer!r}, which the network has not{did_you_mean(layer, names)}")
    for alpha0 in request.alphas:
        check_alpha(alpha0)
    arms = {row.arm for row in rows}
    shortest = min(recipe.epochs, recipe.choice_epochs or recipe.epochs)
    if shortest < 2 and "hints" in arms:
        raise ValueError(
            f"hints take two stages, and so at least 2 epochs, got {shortest}; ask for more, or leave it out"
        )
    for arm in (study.arm(name) for name in ("plain", "teacher", *sorted(arms))):
        own = request.alphas if arm.name in ("rdl", "rdl_corr") else ()
        if not own and request.tries > len(arm.candidates):
            raise ValueError(
                f"--tries is {request.tries}, but there are {len(arm.candidates)} settings to try for "
                f"{arm.name!r}; ask for at most that many"
            )
    sizes = [len(splits.training)]
    for n in request.labels:
        labelled, rest = labelled_subset(splits.training, n)
        sizes += [len(labelled), len(rest) - len(rest) % recipe.batch_size]
    for size in sizes:
        if size < len(splits.training.classes) or size % recipe.batch_size == 1:
            raise ValueError(
                f"{size} training images in batches of {recipe.batch_size} leave a batch without distances, or less "
                "than an image a class; change --limit-train, --labels or --set batch_size=…"
            )


def labelled_subset(training: LabelledImages, n: int) -> tuple[LabelledImages, LabelledImages]:
    """Split training images into n labelled ones, balanced over classes, and the rest.

    The same n images for every seed and arm, so that no teacher has seen a label that its student lacks.

    Raises
    ------
    ValueError
        If fewer than one image a class would be labelled, or none were left.
    """
    if not len(training.classes) <= n < len(training):
        raise ValueError(
            f"--labels must lie between the number of classes ({len(training.classes)}) and the number of training "
            f"images less one ({len(training) - 1}), got {n}"
        )
    generator = torch.Generator().manual_seed(derive_seed(0, "labelled images"))
    labelled, rest = stratified_split(training.labels.cpu(), [n, len(training) - n], generator)
    return training.take(labelled), training.take(rest)


def frozen(study: Study, recipe: Recipe, request: Request, splits: Splits) -> dict[str, Any]:
    """What may not change between two invocations with one output folder."""
    return {
        "study": study.name,
        "recipe": {key: list(value) if isinstance(value, tuple) else value for key, value in asdict(recipe).items()},
        "train_size": len(splits.training),
        "teacher_size": request.limit_teacher or study.teacher_size,
        "one_teacher": request.one_teacher,
        "tries": request.tries,
        "alphas": list(request.alphas),
        "data": splits.checksums,
    }
