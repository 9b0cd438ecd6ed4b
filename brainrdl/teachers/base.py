"""RDM teachers: whatever can answer how far apart stimuli are."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from brainrdl.identity import digest
from brainrdl.ids import nearest
from brainrdl.known import METRICS

# zero means something in these: a cosine between two such RDMs does too
_RATIO_SCALE = ("crossnobis", "mse", "sqeuclidean", "euclidean", "mahalanobis")


class NothingToCompare(ValueError):  # noqa: N818 - a batch is at fault, not a program
    """A batch that has nothing to compare: too few stimuli, or none of their pairs was measured.

    A teacher or a term raises it for one batch. `Trainer` leaves that batch out of the term's mean and counts it; where
    no batch of a pass has anything to compare, it raises the error before the first update.

    Examples
    --------
    >>> import brainrdl as rdl
    >>> teacher = rdl.ConditionTeacher(
    ...     rdl.MeasuredTeacher(rdl.label_rdms([[2.0]], ["face", "house"], ["IT"], "correlation")),
    ...     {"ann": "face", "bob": "face", "barn": "house"},
    ... )
    >>> try:
    ...     teacher(None, ["ann", "bob"])
    ... except rdl.teachers.NothingToCompare:
    ...     "one condition, no distances"
    'one condition, no distances'
    """


class RDMTeacher(nn.Module, ABC):
    """Anything that answers stimuli with target RDMs. Subclass it to teach with something new.

    A subclass gives `names`, `metric` and ``forward(images, ids)``; the rest has defaults.

    Examples
    --------
    >>> import torch, brainrdl as rdl
    >>> class IdLength(rdl.RDMTeacher):
    ...     names, metric = ("length",), "undeclared"
    ...     def forward(self, images, ids):
    ...         return {"length": rdl.rdm(torch.tensor([[float(len(i))] for i in ids]))}
    >>> IdLength()(None, ["a", "bbb", "ddddd"])["length"]
    tensor([ 4., 16.,  4.], dtype=torch.float64)
    """

    @property
    @abstractmethod
    def names(self) -> tuple[str, ...]:
        """The names it can answer by: layers, regions, RDM labels."""

    @property
    @abstractmethod
    def metric(self) -> str:
        """The metric of its distances."""

    @abstractmethod
    def forward(self, images: Tensor | None, ids: Sequence[str] | None) -> dict[str, Tensor]:
        """Answer a batch.

        Parameters
        ----------
        images : Tensor (n, ...) or None
            The very batch that the student sees.
        ids : sequence of str or None
            Stimulus ids of the batch, None where the stream has none.

        Returns
        -------
        dict of Tensor (n(n-1)/2,)
            Name → condensed RDM in the batch's order; NaN where a pair was not measured.
        """

    @property
    def compare(self) -> str:
        """The comparison to train with by default: ``cosine`` where zero distance means something, else ``corr``."""
        return "cosine" if self.metric in _RATIO_SCALE else "corr"

    def weights(self, ids: Sequence[str] | None) -> dict[str, Tensor] | None:
        """Weights of the pairs of a batch: name → condensed (n(n-1)/2,), or None for equal ones."""
        return None

    def groups(self, ids: Sequence[str] | None) -> Tensor | None:
        """Say which stimuli of a batch are measured together, so that the student's patterns are averaged over them.

        Returns
        -------
        Tensor (n,) or None
            Row of the answer, 0 … m − 1, to which each stimulus belongs; None where each is a row of its own.
        """
        return None

    def draw(self, generator: torch.Generator) -> None:
        """Draw what is random about the teacher; called once before every update."""

    def describe(self) -> dict[str, Any]:
        """Name what identifies the teacher, so that a run is not resumed under another one; JSON-able."""
        return {
            "name": type(self).__name__,
            "metric": self.metric,
            "parameters": digest((*self.named_parameters(), *self.named_buffers())),
        }

    def observe(self, images: Tensor | None, ids: Sequence[str] | None, names: Sequence[str]) -> dict[str, Tensor]:
        """Make one pass over a batch: what `distances` is computed from, here the RDMs themselves."""
        answer = self(images, ids)
        missing = [name for name in names if name not in answer]
        if missing:
            raise ValueError(
                f"{type(self).__name__} returned {list(answer)}, but {missing[0]!r} was asked for; "
                "forward must return every name in names"
            )
        return {name: answer[name] for name in names}

    def distances(self, observed: Tensor) -> Tensor:
        """The condensed RDM of what `observe` returned under one name."""
        return observed


def rows_by_id(ids: Sequence[str] | None, rows: Mapping[str, int], *, teacher: str, what: str) -> list[int]:
    """Find the rows of a batch's stimuli, which may come twice; `teacher`, and `what` it has, are for errors."""
    if ids is None:
        raise ValueError(
            f"a {teacher} finds its rows by stimulus id, and this batch has no ids; let the loader yield "
            "(image, label, id), or give the stimuli as a StimulusSet"
        )
    if isinstance(ids, str):
        raise TypeError(f"ids is one string, {ids!r}; expected a sequence of strings: [{ids!r}]")
    if not len(ids):
        raise ValueError(f"ids is empty; a {teacher} needs the ids of at least 2 stimuli")
    missing = [str(stimulus) for stimulus in ids if stimulus not in rows]
    if missing:
        raise ValueError(
            f"no {what} for {len(missing)} of {len(ids)} stimuli, the first {missing[0]!r}; leave them out of the "
            f"stimuli (StimulusSet.select){nearest(missing, rows)}"
        )
    return [rows[stimulus] for stimulus in ids]


def student_metric(metric: str) -> str:
    """The metric of a student whose teacher's metric this is; ValueError if it has no counterpart."""
    if metric in METRICS:
        return metric
    if metric == "crossnobis":  # squared distances over the number of voxels, as ``mse`` is over that of units
        return "mse"
    raise ValueError(
        f"no student metric follows from the teacher's metric {metric!r}; declare one: loss=RDLoss(metric=…), "
        f"one of {', '.join(METRICS)}"
    )
