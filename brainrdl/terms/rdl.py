"""Representational distance learning as a term of the loss; Eqs. 2 and 4 are computed in `brainrdl.terms.losses`."""

from collections.abc import Mapping
from functools import partial
from typing import Any, final

import torch
from torch import Tensor, nn

from brainrdl.arguments import did_you_mean, whole_number
from brainrdl.rdms.differentiable import FEWEST_PAIRS, compared
from brainrdl.rdms.distances import group_means
from brainrdl.teachers.base import NothingToCompare, RDMTeacher, student_metric
from brainrdl.terms.alpha import Alpha, Schedule
from brainrdl.terms.base import Batch, Term, check_targets
from brainrdl.terms.losses import RDLoss, compared_rdms


@final
class RDLTerm(Term):
    """Representational distance learning: a teacher's RDMs as targets for the student's layers.

    Parameters
    ----------
    teacher : RDMTeacher
        Teacher: a network, measured RDMs, or a `ConditionTeacher` for conditions shown by several exemplars.
    layers : dict of str
        Student layer → teacher name.
    loss : RDLoss, optional
        Metric, comparison and gradient; what it leaves open follows from the teacher: a network's raw ``mse``, a
        measured RDM's ``cosine`` or ``corr`` by its metric.
    n_pairs : int, optional
        Number of random pairs per update (the paper: 500 of a batch of 100), shared by all layers; all if absent.
    alpha : float, dict of float or schedule
        α of Eq. 5.
    stream : {"task", "stimuli"}
        Stream on whose batches the term is computed.

    Raises
    ------
    TypeError
        If `layers` is not a mapping.
    ValueError
        For an unknown teacher name (with near matches), and for raw ``mse`` between differing metrics. Before a
        training, for too few pairs: a cosine needs two, a correlation three.

    Notes
    -----
    What a teacher asks for, unless `loss` says otherwise:

    =================================================================  ==================  ===========
    teacher's metric                                                   student's metric    comparison
    =================================================================  ==================  ===========
    a network's, whichever                                             the same            ``mse``
    measured: ``mse``, ``sqeuclidean``, ``euclidean``                  the same            ``cosine``
    measured: ``crossnobis``                                           ``mse``             ``cosine``
    measured: ``mahalanobis``                                          has to be declared  ``cosine``
    measured: ``correlation``, ``cosine``                              the same            ``corr``
    measured: ``undeclared``, any other                                has to be declared  ``corr``
    =================================================================  ==================  ===========

    Measured RDMs have arbitrary units, so that raw ``mse`` would fit their scale. ``cosine`` ignores it and keeps the
    zero, where that means something; ``corr`` ignores both. A metric is declared by ``loss=RDLoss(metric=…)``.

    References
    ----------
    McClure & Kriegeskorte (2016), Eqs. 2 to 5.

    Examples
    --------
    >>> import torch, brainrdl as rdl
    >>> teacher = rdl.NetworkTeacher(torch.nn.Sequential(torch.nn.Linear(4, 3)), ["0"])
    >>> rdl.RDLTerm(teacher, {"fc": "0"}, n_pairs=500, alpha=rdl.linear_decay(1.0)).layers
    ('fc',)
    """

    name = "rdl"
    fewest = 2

    def __init__(
        self,
        teacher: RDMTeacher,
        layers: Mapping[str, str],
        *,
        loss: RDLoss | None = None,
        n_pairs: int | None = None,
        alpha: Alpha | Schedule = 1.0,
        stream: str = "task",
    ) -> None:
        check_targets(layers)
        super().__init__(tuple(layers), alpha=alpha, stream=stream)
        loss = loss or RDLoss()
        _check_teacher(teacher)
        for name in layers.values():
            if name not in teacher.names:
                near = did_you_mean(name, teacher.names)
                raise ValueError(f"the teacher has no {name!r}, its names are: {', '.join(teacher.names)}{near}")
        if n_pairs is not None and loss.n_pairs not in (None, n_pairs):
            raise ValueError(f"n_pairs is {n_pairs} here and {loss.n_pairs} in the loss; give it once")
        self.teacher = teacher
        self.targets = dict(layers)
        self.n_pairs = loss.n_pairs if n_pairs is None else n_pairs
        if self.n_pairs is not None:
            self.n_pairs = whole_number(self.n_pairs, "n_pairs", at_least=None)
        if self.n_pairs is not None and self.n_pairs < 1:
            raise ValueError(f"n_pairs must be at least 1, got {self.n_pairs}")
        self.metric = loss.metric or student_metric(teacher.metric)
        self.compare = loss.compare or teacher.compare
        self.gradient = loss.gradient
        if self.gradient == "per-stimulus" and self.compare != "mse":
            raise ValueError(
                f"gradient='per-stimulus' is Eq. 4 and exists for compare='mse' only, not {self.compare!r}"
            )
        if self.compare == "mse" and self.metric != teacher.metric:
            raise ValueError(
                f"raw mse between RDMs of different metrics ({self.metric!r} here, {teacher.metric!r} from the "
                "teacher) fits units, not geometry; use one metric, or loss=RDLoss(compare='cosine') or 'corr'"
            )

    def setup(self, features: Mapping[str, Tensor], batch: Batch, generator: torch.Generator) -> None:
        """Ask the teacher once, so that it knows what the updates ask for; `NothingToCompare` if it says nothing."""
        if self.n_pairs is not None and self.n_pairs < FEWEST_PAIRS[self.compare]:
            raise ValueError(
                f"n_pairs={self.n_pairs} leaves {self.compare} nothing to compare: it needs "
                f"{FEWEST_PAIRS[self.compare]} pairs at least, and many more to tell "
                "stimuli apart; raise n_pairs, or leave it out to compare all"
            )
        observed, weights, _ = self._asked(batch)
        for layer, name in self.targets.items():
            target = self.teacher.distances(observed[name])
            measured = ~target.isnan()
            w = measured.double() if weights is None else torch.where(measured, weights[name].double(), 0.0)
            # in the precision of training: what it cannot tell apart is alike
            target = torch.where(measured, target, 0.0).to(torch.promote_types(features[layer].dtype, torch.float32))
            if (why := _why_nothing(target, self.compare, w)) is not None:
                raise NothingToCompare(
                    f"{name!r} has nothing to teach layer {layer!r} in a batch of {len(batch)} stimuli: "
                    f"{why}; show more stimuli per update, or other ones"
                )

    def __call__(self, features: Mapping[str, Tensor], batch: Batch, generator: torch.Generator) -> dict[str, Tensor]:
        """E_aux of each layer (Eq. 2 over the pairs drawn), or 1 − similarity."""
        observed, weights, groups = self._asked(batch)
        n = len(batch) if groups is None else int(groups.max()) + 1
        pairs = None if self.n_pairs is None else batch.pairs(self.n_pairs, n)
        values = {
            layer: compared_rdms(
                features[layer] if groups is None else group_means(features[layer], groups),
                self.teacher.distances(observed[name]).to(features[layer].device),
                metric=self.metric,
                compare=self.compare,
                pairs=pairs,
                weights=None if weights is None else weights[name].to(features[layer].device),
                gradient=self.gradient,
                on_pairs=partial(self._note, batch, layer),
            ).loss
            for layer, name in self.targets.items()
        }
        return batch.told(self, values)

    def _note(self, batch: Batch, layer: str, pairs: Tensor) -> None:
        """Note the number of pairs that a value compares; too few are none, as their value is always the same."""
        batch.note(self, layer, torch.where(pairs >= FEWEST_PAIRS[self.compare], pairs, 0))

    def _asked(self, batch: Batch) -> tuple[dict[str, Tensor], dict[str, Tensor] | None, Tensor | None]:
        """The teacher's observations, weights and groups of a batch."""
        if len(batch) < 2:
            raise NothingToCompare(
                "a batch of 1 stimulus has no distances; choose another batch size, or drop the incomplete last batch"
            )
        observed = batch.ask(self.teacher, self.targets.values())
        return observed, self.teacher.weights(batch.ids), self.teacher.groups(batch.ids)

    def teachers(self) -> tuple[RDMTeacher, ...]:
        """Its teacher."""
        return (self.teacher,)

    def describe(self) -> dict[str, Any]:
        """Name what identifies the term in a manifest."""
        return super().describe() | {
            "targets": self.targets,
            "n_pairs": self.n_pairs,
            "metric": self.metric,
            "compare": self.compare,
            "gradient": self.gradient,
            "teacher_metric": self.teacher.metric,
        }


def _check_teacher(teacher: Any) -> None:
    """Refuse what cannot answer; a network and an RDM are told how they can."""
    if isinstance(teacher, RDMTeacher) or hasattr(teacher, "names"):
        return
    if isinstance(teacher, nn.Module):
        way = "NetworkTeacher(network, [layers]) makes a network one"
    else:
        way = "MeasuredTeacher(rdms) makes labelled RDMs one, and label_rdms labels an array"
    raise TypeError(f"teacher is a {type(teacher).__name__}; expected an RDMTeacher: {way}")


def _why_nothing(target: Tensor, compare: str, weights: Tensor) -> str | None:
    """Say why a target (P,) has nothing to compare over the pairs whose weight is above 0, None if it has."""
    counted, needed = int((weights > 0).sum()), FEWEST_PAIRS[compare]
    if counted < needed:
        return f"{counted} of {len(weights)} pairs count, and {compare} needs {needed}"
    kind = "mse" if compare == "mse" else "cosine" if compare.startswith("cosine") else "corr"
    if compared(target, target, kind, weights)[1] > 0:
        return None
    return f"its distances are all {'zero' if kind == 'cosine' else 'alike'}, which {compare} cannot compare"
