"""The file of a study: everything that decides what is fitted, chosen and scored, fixed before anything is scored."""

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Literal, Self

from pydantic import BaseModel, Field, ValidationError, model_validator

from brainrdl.arguments import did_you_mean, name_some
from brainrdl.files.store import atomic_path, sha256
from brainrdl.known import METRICS
from brainrdl.studies.brain.measured import Measured as Measured, Part
from brainrdl.studies.brain.yaml_file import read_yaml

ARMS = (
    *("mixture", "monkey_it", "behaviour", "untrained", "start", "task_only", "frrsa", "gains"),
    *("low_rank", "readout", "rdl", "rdl_category", "rdl_within_shuffle", "rdl_global_shuffle", "rdl_early_visual"),
)
"""Names that a study's own controls may not have: those of the arms (`brainrdl.studies.brain.arms`)."""


class Task(Part):
    """The task that the network is trained for."""

    data: Literal["cifar10", "cifar100", "mnist", "digits"]
    limit: int | None = Field(default=None, ge=10)
    epochs: int = Field(default=10, ge=1)
    batch_size: int = Field(default=128, ge=2)
    learning_rate: float = Field(default=0.03, gt=0)
    weight_decay: float = Field(default=5e-4, ge=0)
    validation: int = Field(default=2000, ge=10)
    """Training images set aside, the last ones, to see what fitting does to the task while settings are chosen."""


class Student(Part):
    """The network that is fitted."""

    model: str = "brainrdl.models:cifar_cnn"
    weights: str | None = None
    """A file or a name of torchvision's weights; the network is not trained on the task then."""
    image_size: int | None = Field(default=32, ge=1, le=4096)
    """Height and width that stimuli are brought to; none: by the network's own transform."""


class Fit(Part):
    """Settings of the fits of students to the brain."""

    layers: tuple[str, ...] = Field(min_length=1)
    alphas: tuple[float, ...] = Field(default=(1.0, 3.0, 10.0), min_length=1)
    updates: tuple[int, ...] = Field(default=(25, 50, 100), min_length=1)
    """Lengths to choose from; all are read out of one training, which goes on to the longest."""
    task_batch: int = Field(default=64, ge=2)
    stimuli_per_update: int | None = Field(default=None, ge=3)
    every: int = Field(default=1, ge=1)
    norm: Literal["shared", "own", "eval"] = "eval"
    dropout: bool = False
    learning_rate: float = Field(default=0.01, gt=0)
    momentum: float = Field(default=0.9, ge=0, lt=1)
    weight_decay: float = Field(default=5e-4, ge=0)
    metric: str = "correlation"
    compare: Literal["corr", "cosine", "corr_cov", "cosine_cov", "soft-spearman"] = "corr"
    subjects: Literal["mean", "draw"] = "mean"
    unfrozen: tuple[str, ...] = ()
    """Beginnings of names of the parameters that are fitted; all if empty."""

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.metric not in METRICS:
            raise ValueError(f"metric is {self.metric!r}; known are: {', '.join(METRICS)}")
        if list(self.updates) != sorted(set(self.updates)) or self.updates[0] < 1:
            raise ValueError(f"updates must increase from 1 on, got {', '.join(map(str, self.updates))}")
        if min(self.alphas) <= 0:
            raise ValueError(f"alphas must be above 0, got {', '.join(map(str, self.alphas))}")
        for field in ("layers", "alphas", "unfrozen"):
            _once(getattr(self, field), field)
        return self


class Schemes(Part):
    """Numbers of splits of the stimuli."""

    stratified: int = Field(default=5, ge=2)
    leave_one_category_out: bool = True
    random: int = Field(default=20, ge=0)
    """Random splits, for the arms that cost little."""
    inner: int = Field(default=3, ge=2)
    """Folds of the training stimuli in which everything is chosen."""


class Primary(Part):
    """The one contrast that the study is for; every other score is secondary."""

    arm: str = "rdl"
    against: str = "task_only"
    fitted: str
    scored: str
    scheme: Literal["stratified", "leave_one_category_out"] = "stratified"
    # where none is stated, a study is known by what it was known by before there was such a field
    smallest_effect: float | None = Field(default=None, gt=0, exclude_if=lambda value: value is None)
    """The smallest raw gain of interest: "no gain" is said only where a bound lies below it."""


class Configuration(Part):
    """A study of students fitted to measured RDMs: everything that decides what is fitted, chosen and scored.

    Read one with `read_configuration`; ``brainrdl fit --init`` writes one with comments on every field.

    Attributes
    ----------
    name, title : str
        Name (letters, digits, hyphens) and title of the study.
    seeds : int
        Number of networks per arm that trains any.
    stimuli : str
        Folder of images, or ``objects92``.
    follow_links : bool
        Permission to read what links lead to outside of that folder.
    categories : str, optional
        Table (.csv) of ``stimulus,category``; the 92 object images know theirs.
    studies : dict of Measured
        Measured RDMs by name: a file (or ``objects92:human``, ``objects92:second-study``) and its region.
    fit_to : tuple of str
        Names of the studies that students are fitted to.
    early_visual : Measured, optional
        Target of the control ``rdl_early_visual``.
    controls : dict of str, or "objects92"
        Files by name, each with one control RDM, or the five controls of the 92 object images, which are taken for
        these images where nothing is said; for others that is none.
    task : Task, optional
        Images and length of the training on the task.
    student : Student
        Network that is fitted, its weights, and the size of its images.
    fit : Fit
        Settings of the fits, and those that are chosen from.
    schemes : Schemes
        Numbers of splits of the stimuli.
    arms : tuple of str
        Arms to run, all that the data allow if empty.
    method : {"corr", "cosine"}
        Comparison of RDMs in choices and scores.
    primary : Primary
        The one contrast that the study is for.
    resamples : int
        Number of resamples behind the intervals.

    Examples
    --------
    >>> from brainrdl.studies import read_configuration
    >>> read_configuration("examples/human_it.yaml").seeds  # doctest: +SKIP
    3
    """

    name: str = Field(pattern=r"^[A-Za-z0-9_\-]+$")
    title: str
    seeds: int = Field(default=3, ge=1, le=1000)
    stimuli: str
    # a permission, which decides nothing of the result, and so is no part of what a study is known by
    follow_links: bool = Field(default=False, exclude=True)
    categories: str | None = None
    studies: dict[str, Measured] = Field(min_length=1)
    fit_to: tuple[str, ...] = Field(min_length=1)
    early_visual: Measured | None = None
    controls: dict[str, str] | Literal["objects92"] = "objects92"
    task: Task | None = None
    student: Student = Student()
    fit: Fit
    schemes: Schemes = Schemes()
    arms: tuple[str, ...] = ()
    method: Literal["corr", "cosine"] = "corr"
    primary: Primary
    resamples: int = Field(default=1000, ge=100, le=1_000_000)

    @model_validator(mode="before")
    @classmethod
    def _no_controls(cls, content: Any) -> Any:
        """Take absent controls for none, where the stimuli have none of their own."""
        if isinstance(content, dict) and content.get("controls") is None:
            rest = {name: value for name, value in content.items() if name != "controls"}
            return rest if content.get("stimuli") == "objects92" else {**rest, "controls": {}}
        return content

    @model_validator(mode="after")
    def _check(self) -> Self:
        _once(self.fit_to, "fit_to")
        _once(self.arms, "arms")
        controls: list[str] = [] if isinstance(self.controls, str) else list(self.controls)
        for what, entries in (("studies", list(self.studies)), ("controls", controls)):
            if "" in entries:
                raise ValueError(f"{what} has an entry without a name; name it")
        if taken := [name for name in controls if name in ARMS]:
            raise ValueError(f"controls names {name_some(taken)}, as an arm of the study is called; name it otherwise")
        # pydantic checks fields one by one; what they name of each other is checked here
        named = [("fit_to", name) for name in self.fit_to]
        named += [("primary.fitted", self.primary.fitted), ("primary.scored", self.primary.scored)]
        for field, name in named:
            if name not in self.studies:
                known = f"{', '.join(self.studies)}{did_you_mean(name, self.studies)}"
                raise ValueError(f"{field} names {name!r}, which is none of the studies {known}")
        if self.primary.fitted not in self.fit_to:
            raise ValueError(f"primary.fitted is {self.primary.fitted!r}, which fit_to lacks; add it there")
        if self.primary.arm == self.primary.against:
            raise ValueError(f"primary.arm and primary.against are both {self.primary.arm!r}; name two arms")
        if self.primary.scheme == "leave_one_category_out" and not self.schemes.leave_one_category_out:
            raise ValueError(
                "primary.scheme is leave_one_category_out, which schemes switches off; set "
                "schemes.leave_one_category_out: true"
            )
        if missing := list(self._missing()):
            raise ValueError("; ".join(missing))
        return self

    def _missing(self) -> Iterator[str]:
        """All that is missing, before any data is read: it would show when the first network is made."""
        if self.stimuli != "objects92" and self.categories is None:
            yield "categories is missing: a table (.csv) of stimulus,category, which the splits follow"
        if self.stimuli != "objects92" and self.controls == "objects92":
            yield "controls are those of the 92 object images, and stimuli are others; name files, or {}"
        if self.task is None and self.student.weights is None:
            yield "there is neither a task to train on nor student.weights, nothing to start from: give one of the two"
        if self.task is not None and self.student.weights is None and self.student.image_size is None:
            yield "student.image_size is missing: a network that is trained here has no transform of its own"


def read_configuration(path: str | Path) -> Configuration:
    """Read and check a study's file.

    Parameters
    ----------
    path : path
        YAML file.

    Returns
    -------
    Configuration
        All fields, those that the file leaves out at their defaults.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    ValueError
        If it is not YAML, or a field is unknown, missing or has another value than it may; all are named.

    Examples
    --------
    >>> from brainrdl.studies import read_configuration
    >>> read_configuration("examples/human_it.yaml").primary.arm  # doctest: +SKIP
    'rdl'
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(
            f"there is no file {path}; write_example writes one to begin with, and so does brainrdl fit when init is "
            "asked for"
        )
    content = read_yaml(path)
    if not isinstance(content, dict):
        raise ValueError(f"{path} holds a {type(content).__name__}, expected fields like name: and studies:")
    return checked(content, str(path))


def checked(content: dict[str, Any], place: str = "the configuration") -> Configuration:
    """Check a configuration's fields.

    Parameters
    ----------
    content : dict
        Fields and values, as the YAML file of a study holds them.
    place : str
        Name of the configuration in an error.

    Returns
    -------
    Configuration
        All fields, those that are left out at their defaults.

    Raises
    ------
    ValueError
        If a field is unknown, missing or has another value than it may; all are named.

    Examples
    --------
    >>> from brainrdl.studies import checked
    >>> checked({"titel": "a"})
    Traceback (most recent call last):
    ValueError: the configuration: name is missing; title is missing; ...
    """
    try:
        return Configuration.model_validate(content)
    except ValidationError as error:
        faults = error.errors()
        found = [_fault(fault["loc"], fault["type"], fault["msg"], fault["input"]) for fault in faults[:_MOST_FAULTS]]
        more = [f"and {len(faults) - _MOST_FAULTS} more"] if len(faults) > _MOST_FAULTS else []
        raise ValueError(f"{place}: {'; '.join([*filter(None, found), *more])}") from None


def write_example(path: str | Path) -> None:
    """Write a commented example to begin with.

    Parameters
    ----------
    path : path
        YAML file that is written.

    Raises
    ------
    FileExistsError
        If there is such a file.

    Examples
    --------
    >>> from brainrdl.studies import write_example
    >>> write_example("my_study.yaml")  # doctest: +SKIP
    """
    path = Path(path)
    if path.exists():
        raise FileExistsError(f"there is a file {path} already; name another, or remove it")
    example = Path(__file__).with_name("example.yaml").read_text(encoding="utf-8")
    with atomic_path(path) as temporary:
        temporary.write_text(example, encoding="utf-8")


def configuration_hash(configuration: Configuration) -> str:
    """Compute the SHA-256 of everything the file says, whatever its comments and the order of its fields."""
    return sha256(json.dumps(configuration.model_dump(mode="json"), sort_keys=True).encode())


def _once(values: Sequence[Any], field: str) -> None:
    if twice := [value for value in dict.fromkeys(values) if values.count(value) > 1]:
        raise ValueError(f"{field} names {name_some(twice)} more than once")


_FIELDS = "fields, like name: value"
_EXPECTED = {"tuple_type": "a list, like [a, b]", "dict_type": _FIELDS, "model_type": _FIELDS}
_CONTROLS = "controls: expected objects92, or files of RDMs by name, like {pixels: pixels.nc}"


_MOST_FAULTS = 20
_LONGEST = 200


def _cut(text: str) -> str:
    """Shorten what a file may hold to what a reader wants."""
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]} … ({len(text)} characters)"


def _fault(where: Sequence[str | int], kind: str, message: str, got: Any) -> str:
    """Format one fault; empty where another says the same."""
    shown, where = _cut(repr(got)), tuple(_cut(part) if isinstance(part, str) else part for part in where)
    if where and where[0] == "controls" and len(where) > 1:  # of either of two forms
        if kind == "literal_error":
            return ""
        return f"{_CONTROLS}, got {shown}" if len(where) == 2 else f"controls.{where[2]}: expected a file, got {shown}"
    field = ".".join(map(str, where))
    if kind == "extra_forbidden":
        part = _part_at(where[:-1])
        hint = did_you_mean(str(where[-1]), part.model_fields) or f"; known are: {', '.join(part.model_fields)}"
        return f"there is no field {field}{hint}"
    if kind == "missing":
        return f"{field} is missing"
    if kind == "too_short":  # an entry that is no good is a fault of its own
        return "" if got else f"{field} is empty; expected at least one entry"
    if where[-1:] == ("[key]",):
        return f"{'.'.join(map(str, where[:-2]))}: expected names, got {shown}; put quotes around it"
    if kind in _EXPECTED:
        return f"{field}: expected {_EXPECTED[kind]}, got {shown}"
    # pydantic's words, less its grammar: the field's name stands before them
    message = message.removeprefix("Value error, ").removeprefix("Input ").removeprefix("String ").rstrip(".")
    if kind == "value_error":
        return f"{field}: {message}" if field else message
    return f"{field} {message}, got {shown}"


def _part_at(where: Sequence[str | int]) -> type[BaseModel]:
    parts: dict[str, type[BaseModel]] = {"studies": Measured, "early_visual": Measured, "task": Task}
    parts |= {"student": Student, "fit": Fit, "schemes": Schemes, "primary": Primary}
    return parts.get(str(where[0]), Configuration) if where else Configuration
