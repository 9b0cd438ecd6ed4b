"""Conditions that a batch shows by several exemplars: which image belongs to which row of the teacher's RDM."""

from collections.abc import Mapping, Sequence
from typing import Any, Literal, final, get_args

import torch
from torch import Tensor

from brainrdl.files.store import sha256
from brainrdl.identity import DIGEST
from brainrdl.rdms.condensed import to_square, upper_triangle
from brainrdl.teachers.base import NothingToCompare, RDMTeacher, rows_by_id
from brainrdl.teachers.network import NetworkTeacher

Between = Literal["means", "exemplars"]


@final
class ConditionTeacher(RDMTeacher):
    """A teacher of conditions, for a student that sees their exemplars: the images that a condition was measured with.

    Parameters
    ----------
    teacher : RDMTeacher
        Teacher that knows the conditions by their ids: a `MeasuredTeacher`, a `PatternTeacher` or one of your own.
    conditions : dict of str
        Exemplar id (that of the image) → condition id (that of the teacher).
    between : {"means", "exemplars"}
        Distances of the student that meet that of two conditions. ``means``: the distance between the conditions' mean
        patterns, each over the exemplars that are in the batch. ``exemplars``: that of every exemplar of the one from
        every exemplar of the other; no loss counts two exemplars of one condition, which were not measured apart.

    Raises
    ------
    TypeError
        If `teacher` is a network teacher, which answers images, or `conditions` is not a mapping of str to str.
    ValueError
        If `conditions` is empty or `between` unknown; when asked, for exemplars of none or fewer than two conditions.

    Notes
    -----
    One draw of pairs (``n_pairs``) is over conditions with ``means``, over exemplars with ``exemplars``. A condition
    weighs as much as another with ``means``, as many pairs as it has exemplars with ``exemplars``.

    Examples
    --------
    >>> import brainrdl as rdl
    >>> brain = rdl.MeasuredTeacher(rdl.label_rdms([[2.0]], ["face", "house"], ["IT"], "correlation"))
    >>> conditions = {"ann": "face", "bob": "face", "barn": "house"}
    >>> rdl.ConditionTeacher(brain, conditions)(None, ["ann", "barn", "bob"])["IT"]
    tensor([2.], dtype=torch.float64)
    >>> rdl.ConditionTeacher(brain, conditions, between="exemplars")(None, ["ann", "barn", "bob"])["IT"]
    tensor([2., nan, 2.], dtype=torch.float64)
    """

    def __init__(self, teacher: RDMTeacher, conditions: Mapping[str, str], *, between: Between = "means") -> None:
        super().__init__()
        if isinstance(teacher, NetworkTeacher):
            raise TypeError(
                "a NetworkTeacher answers images and knows no conditions; let the term ask it directly, which compares "
                "exemplar by exemplar"
            )
        if not isinstance(conditions, Mapping):
            raise TypeError(
                f"conditions is a {type(conditions).__name__}; expected a mapping: {{'exemplar id': 'condition id'}}"
            )
        for exemplar, condition in conditions.items():
            if not isinstance(exemplar, str) or not isinstance(condition, str):
                raise TypeError(f"conditions maps {exemplar!r} to {condition!r}; expected a string to a string")
        if not conditions:
            raise ValueError("conditions is empty; expected {'exemplar id': 'condition id'}")
        if between not in get_args(Between):
            raise ValueError(f"unknown between {between!r}; known are: {', '.join(get_args(Between))}")
        self.teacher = teacher
        self.between = between
        self._conditions = dict(conditions)
        self._ids = tuple(dict.fromkeys(conditions.values()))
        number = {condition: k for k, condition in enumerate(self._ids)}
        self._condition_of = {exemplar: number[condition] for exemplar, condition in conditions.items()}

    @property
    def names(self) -> tuple[str, ...]:
        """The names that the teacher answers by."""
        return self.teacher.names

    @property
    def metric(self) -> str:
        """The metric of the teacher's distances."""
        return self.teacher.metric

    @property
    def compare(self) -> str:
        """The comparison that the teacher asks for."""
        return self.teacher.compare

    def forward(self, images: Tensor | None, ids: Sequence[str] | None) -> dict[str, Tensor]:
        """Answer exemplars: condensed RDMs of their conditions in order of first occurrence, or of the exemplars."""
        conditions, groups = self._in_batch(ids)
        answers = self.teacher(None, conditions)  # not the images, which are exemplars
        if self.between == "means":
            return dict(answers)
        return {name: _between_exemplars(distances, groups) for name, distances in answers.items()}

    def weights(self, ids: Sequence[str] | None) -> dict[str, Tensor] | None:
        """The teacher's weights of the pairs, None where they are equal."""
        conditions, groups = self._in_batch(ids)
        weights = self.teacher.weights(conditions)
        if weights is None or self.between == "means":
            return weights
        return {name: _between_exemplars(weight, groups) for name, weight in weights.items()}

    def groups(self, ids: Sequence[str] | None) -> Tensor | None:
        """The condition of each exemplar, numbered as in the answer; None between exemplars."""
        return self._in_batch(ids)[1] if self.between == "means" else None

    def draw(self, generator: torch.Generator) -> None:
        """Draw what is random about the teacher."""
        self.teacher.draw(generator)

    def describe(self) -> dict[str, Any]:
        """Name what identifies the teacher: the teacher, the conditions and what is compared."""
        # sorted, as the same mapping in another order teaches the same
        lines = sorted(f"{exemplar}\0{condition}\0" for exemplar, condition in self._conditions.items())
        return {
            "name": type(self).__name__,
            "between": self.between,
            "conditions": DIGEST + sha256("".join(lines).encode()),
            "teacher": self.teacher.describe(),
        }

    def _in_batch(self, ids: Sequence[str] | None) -> tuple[list[str], Tensor]:
        """The batch's conditions in order of first occurrence, and the number among them of each exemplar's."""
        found = rows_by_id(ids, self._condition_of, teacher="ConditionTeacher", what="condition")
        order = {condition: k for k, condition in enumerate(dict.fromkeys(found))}
        if len(order) < 2:
            raise NothingToCompare(
                f"the {len(found)} stimuli of a batch are all exemplars of condition {self._ids[found[0]]!r}, which "
                "has no distances; show more stimuli per update"
            )
        return [self._ids[condition] for condition in order], torch.tensor([order[condition] for condition in found])


def _between_exemplars(distances: Tensor, groups: Tensor) -> Tensor:
    """Condensed (m(m-1)/2,) of conditions → condensed (n(n-1)/2,) of exemplars, NaN within a condition."""
    groups = groups.to(distances.device)
    square = to_square(distances).fill_diagonal_(torch.nan)
    return upper_triangle(square[groups[:, None], groups])
