"""The recipe of a study: all that can be set and that changes a result."""

import dataclasses
import types
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from math import ceil
from typing import Any, get_args, get_origin, get_type_hints

from brainrdl.arguments import did_you_mean
from brainrdl.known import GRADIENTS, OPTIMIZERS, check_metric

_LATER = {"warmup", "clip", "balanced"}  # fields that recorded recipes may lack; their default is what was done then
_KNOWN: Mapping[str, Collection[str]] = {
    "gradient": GRADIENTS,
    "optimizer": OPTIMIZERS,
    "schedule": ("linear", "constant", "cosine"),
    "supervision_schedule": ("paper", "linear"),
}


@dataclass(frozen=True)
class Recipe:
    """Settings of the training of students and teachers."""

    epochs: int = 20
    teacher_epochs: int = 20
    # of a validation trial, where it is to be shorter; with few labels its updates shrink with it
    choice_epochs: int | None = None
    updates: int = 2_000  # of a run with few labels, where an epoch is a share of them
    batch_size: int = 100  # images per update, of the task and of the unlabelled stream alike
    optimizer: str = "linear_sgd"  # of brainrdl.studies.optimizers
    learning_rate: float = 0.05  # in the first epoch
    momentum: float = 0.9
    weight_decay: float = 0.0
    # epochs at the beginning of each training in which the learning rate rises in equal steps to where it would have
    # been; fewer than the epochs of any training, while a hint's stage may end within them
    warmup: int | None = None
    clip: float | None = None  # length to which longer gradients, of all parameters together, are cut before an update
    layers: tuple[str, ...] = ("pool1", "pool2", "fc")  # those that RDL and its kin compare
    metric: str = "mse"  # RDL's distance,
    gradient: str = "auto"  # gradient
    n_pairs: int | None = 500  # and pairs per update (None: all)
    relative: bool = True  # α₀ is divided by the teacher's squared mean distance in each layer
    balanced: bool = False  # instead: times the task's loss over the layer's, both of an untrained student
    schedule: str = "linear"  # α over the epochs of rdl, rdl_corr, rkd, sp and cka
    corr_metric: str = "euclidean"  # the distance that rdl_corr correlates
    corr_pairs: int | None = None  # and its pairs per update (None: all)
    supervised_layers: tuple[str, ...] = ("pool1", "pool2")  # with classifiers of their own in deep supervision
    supervision_schedule: str = "paper"  # their α: the paper's, gone after three epochs, or linear
    hint_layer: str = "pool2"  # the student's and the teacher's
    hint_share: float = 0.2  # of the epochs that the hint's stage takes
    temperature: float = 4.0  # of knowledge distillation
    # layer on which a linear head of its own predicts a teacher of other classes (None: the output does)
    kd_head: str | None = None

    @property
    def updates_per_epoch(self) -> int:
        """An epoch's share of the updates with few labels, a started one counted whole."""
        return ceil(self.updates / self.epochs)

    def __post_init__(self) -> None:
        for name in ("epochs", "teacher_epochs", "updates", "batch_size"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")
        if self.batch_size < 2:
            raise ValueError(f"batch_size must be at least 2, for distances, got {self.batch_size}")
        for name in ("choice_epochs", "n_pairs", "corr_pairs"):
            if (value := getattr(self, name)) is not None and value < 1:
                raise ValueError(f"{name} must be at least 1 or none, got {value}")
        if not 0 < self.learning_rate < float("inf"):
            raise ValueError(f"learning_rate must be above 0, got {self.learning_rate}")
        if self.warmup is not None:
            shortest = min(self.epochs, self.teacher_epochs, self.choice_epochs or self.epochs)
            if not 1 <= self.warmup < shortest:
                raise ValueError(
                    f"warmup must be none, or at least 1 and below the epochs of the shortest training ({shortest}), "
                    f"got {self.warmup}"
                )
        if self.clip is not None and not 0 < self.clip < float("inf"):
            raise ValueError(f"clip must be none or a finite number above 0, got {self.clip}")
        if not 0 < self.hint_share < 1:
            raise ValueError(f"hint_share must lie between 0 and 1, got {self.hint_share}")
        for name in ("metric", "corr_metric"):
            check_metric(getattr(self, name))
        for name, known in _KNOWN.items():
            if (value := getattr(self, name)) not in known:
                raise ValueError(f"unknown {name} {value!r}; known are: {', '.join(known)}")
        if not 0 < self.temperature < float("inf"):
            raise ValueError(f"temperature must be a finite number above 0, got {self.temperature}")
        if not 0 <= self.momentum < 1 or not 0 <= self.weight_decay < float("inf"):
            raise ValueError(
                f"momentum must lie in 0 … 1 and weight_decay be at least 0, got {self.momentum} and "
                f"{self.weight_decay}"
            )
        if not self.layers or not self.supervised_layers:
            raise ValueError("layers and supervised_layers must name at least one layer each")
        for name in ("layers", "supervised_layers"):
            layers = getattr(self, name)
            if twice := [layer for place, layer in enumerate(layers) if layer in layers[:place]]:
                raise ValueError(f"{name} names {twice[0]!r} more than once")


def override(recipe: Recipe, settings: Sequence[str]) -> Recipe:
    """Change fields of a recipe by ``FIELD=VALUE`` each; lists are separated by commas, ``none`` is None.

    ValueError for an unknown field (with near matches) or a value that is not of its type.
    """
    hints = get_type_hints(Recipe)
    changes: dict[str, Any] = {}
    for setting in settings:
        field, separator, text = setting.partition("=")
        if field in hints and not separator:
            raise ValueError(f"set takes FIELD=VALUE, got {setting!r} without a value")
        if field not in hints:
            hint = did_you_mean(field, hints) or f"; fields are: {', '.join(hints)}"
            raise ValueError(f"set takes FIELD=VALUE with a field of the recipe, got {setting!r}{hint}")
        changes[field] = _parse(field, text, hints[field])
    return dataclasses.replace(recipe, **changes)


def recipe_from(fields: Mapping[str, Any]) -> Recipe:
    """Rebuild a recipe from JSON; ValueError if a field is unknown, missing or of another type.

    Files from before there was a warm-up, clipping or balance do not name them.
    """
    expected = {field.name for field in dataclasses.fields(Recipe)}
    differing = (set(fields) ^ expected) - (_LATER - set(fields))
    if differing:
        raise ValueError(f"the recipe's fields differ in {', '.join(sorted(differing))}; another version?")
    values: dict[str, Any] = {key: tuple(value) if isinstance(value, list) else value for key, value in fields.items()}
    try:
        return Recipe(**values)
    except TypeError as error:
        raise ValueError(f"the recipe holds a value of another type: {error}") from error


def format_overrides(recipe: Recipe) -> list[str]:
    """Format all fields of a recipe as `override` takes them: ``epochs=20``, ``choice_epochs=none``, …"""
    return [f"{field.name}={_format_value(getattr(recipe, field.name))}" for field in dataclasses.fields(recipe)]


def _format_value(value: Any) -> str:
    if isinstance(value, tuple):
        return ",".join(value)
    return str(value).lower() if value is None or isinstance(value, bool) else str(value)


def _parse(field: str, text: str, kind: Any) -> Any:
    if get_origin(kind) is types.UnionType:
        if text.lower() == "none":
            return None
        kind = next(part for part in get_args(kind) if part is not type(None))
    if get_origin(kind) is tuple:
        return tuple(part for part in text.split(",") if part)
    if kind is bool:
        if text.lower() not in ("true", "false"):
            raise ValueError(f"{field} is true or false, got {text!r}")
        return text.lower() == "true"
    try:
        return kind(text)
    except ValueError:
        raise ValueError(f"{field} is of type {kind.__name__}, got {text!r}") from None
