"""Terms: what is added to the task loss (Eq. 5), representational distance learning above all."""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, final

import torch
from torch import Tensor, nn

from brainrdl.arguments import did_you_mean
from brainrdl.losses import RDLoss, rdl_loss
from brainrdl.rdms.condensed import sample_pairs
from brainrdl.rdms.distances import group_means
from brainrdl.schedules import Alpha, Schedule, check_alpha, check_schedule
from brainrdl.teachers import RDMTeacher, student_metric

STREAMS = ("task", "stimuli")


@dataclass(frozen=True)
class Batch:
    """What a term sees of an update.

    Attributes
    ----------
    images : Tensor (n, ...)
        The very batch that the student got.
    labels : Tensor (n,) or None
        Class labels, None on the stimulus stream.
    ids : tuple of str or None
        Stimulus ids, None where the stream has none.
    output : Tensor or None
        What the student answered.
    generator : torch.Generator
        Source of the pair draws.
    asked : dict
        Teacher → names asked for so far, shared by the batches of a stream: a term that asks in its `setup` already
        lets the first question of every update fetch its answers too.

    Examples
    --------
    >>> import torch, brainrdl as rdl
    >>> batch = rdl.Batch(torch.zeros(4, 2), generator=torch.Generator().manual_seed(0))
    >>> batch.pairs(3) is batch.pairs(3)
    True
    """

    images: Tensor
    labels: Tensor | None = None
    ids: tuple[str, ...] | None = None
    output: Any = None
    generator: torch.Generator | None = None
    asked: dict[RDMTeacher, tuple[str, ...]] = field(default_factory=dict, repr=False)
    _pairs: dict[tuple[int, int], Tensor] = field(default_factory=dict, repr=False)
    _answers: dict[RDMTeacher, dict[str, Tensor]] = field(default_factory=dict, repr=False)

    def __len__(self) -> int:
        return len(self.images)

    def pairs(self, n_pairs: int, n: int | None = None) -> Tensor | None:
        """Draw a random subset P of the pairs, once per update: every term and layer gets the same.

        Parameters
        ----------
        n_pairs : int
            How many; smaller subsets are part of larger ones.
        n : int, optional
            Of how many rows, the batch's stimuli if absent; fewer where several stimuli make a row.

        Returns
        -------
        Tensor (n_pairs, 2) or None
            On the images' device. None where there are no more than `n_pairs` pairs, so that all of them are meant.
        """
        n = len(self) if n is None else n
        total = n * (n - 1) // 2
        if n_pairs >= total:
            return None
        if (n, n_pairs) in self._pairs:
            return self._pairs[n, n_pairs]
        if (n, total) not in self._pairs:
            self._pairs[n, total] = sample_pairs(n, total, self.generator)
        # not waiting: the host would stand still until the device has done all that it was given
        self._pairs[n, n_pairs] = self._pairs[n, total][:n_pairs].to(self.images.device, non_blocking=True)
        return self._pairs[n, n_pairs]

    def drawn(self) -> dict[tuple[int, int], Tensor]:
        """The subsets of pairs drawn so far: (number of rows, number of pairs) → pairs."""
        return {(n, size): drawn for (n, size), drawn in self._pairs.items() if size < n * (n - 1) // 2}

    def ask(self, teacher: RDMTeacher, layers: Iterable[str]) -> dict[str, Tensor]:
        """Ask a teacher about the batch, once per update however many terms ask.

        Parameters
        ----------
        teacher : RDMTeacher
            The teacher.
        layers : list of str
            Names to ask for; ``"output"`` is a network teacher's output.

        Returns
        -------
        dict of Tensor
            What the teacher observed: a network's features in their own shape, any other teacher's condensed RDMs.
            ``teacher.distances`` turns either into a condensed RDM.
        """
        known = self.asked.get(teacher, ())
        layers = tuple(layers)
        names = tuple(dict.fromkeys((*known, *layers)))
        if teacher not in self._answers or not set(layers) <= set(self._answers[teacher]):
            self.asked[teacher] = names
            self._answers[teacher] = teacher.observe(self.images, self.ids, names)
        return {layer: self._answers[teacher][layer] for layer in layers}


class Term(ABC):
    """Something added to the task loss. Subclass it to train toward something new.

    Parameters
    ----------
    layers : sequence of str
        The student's layers whose features the term needs.
    alpha : float, dict of float or schedule
        Its weight α in Eq. 5, for all layers, for each, or over the epochs.
    stream : {"task", "stimuli"}
        Which batches it is computed on.

    Examples
    --------
    >>> import torch, brainrdl as rdl
    >>> class Activity(rdl.Term):
    ...     name = "activity"
    ...     def __call__(self, features, batch, generator):
    ...         return {layer: features[layer].square().mean() for layer in self.layers}
    >>> Activity(["fc"], alpha=0.1).layers
    ('fc',)
    """

    name: str = "term"

    def __init__(self, layers: Sequence[str], *, alpha: Alpha | Schedule = 1.0, stream: str = "task") -> None:
        if isinstance(layers, str):
            raise ValueError(f"layers must be a list of names, got the single string {layers!r}; write [{layers!r}]")
        if len(set(layers)) != len(layers):
            raise ValueError(f"layers names a layer twice: {', '.join(map(repr, layers))}")
        if stream not in STREAMS:
            raise ValueError(f"unknown stream {stream!r}; known are: {', '.join(STREAMS)}")
        if isinstance(alpha, Mapping) and set(alpha) != set(layers):
            raise ValueError(f"alpha is given for {sorted(alpha)}, but the term's layers are {sorted(layers)}")
        self.layers = tuple(layers)
        self.alpha = check_schedule(alpha) if callable(alpha) else check_alpha(alpha)
        self.stream = stream
        self.heads = nn.ModuleDict()

    @abstractmethod
    def __call__(self, features: Mapping[str, Tensor], batch: Batch, generator: torch.Generator) -> dict[str, Tensor]:
        """Compute the term.

        Parameters
        ----------
        features : dict of Tensor (n, ...)
            The student's features of `layers`, in the layer's own shape.
        batch : Batch
            The update's batch.
        generator : torch.Generator
            For anything random.

        Returns
        -------
        dict of Tensor ()
            Student layer (``"output"`` for its output) → value, before α.
        """

    def setup(self, features: Mapping[str, Tensor], batch: Batch, generator: torch.Generator) -> None:  # noqa: B027
        """Build heads for features of this shape, none by default; called once, before the optimiser exists.

        torch's global generator is set for the purpose, so that heads do not shift any other random draw.
        """

    def parameters(self) -> Iterator[nn.Parameter]:
        """The heads' parameters, never a teacher's."""
        return self.heads.parameters()

    def teachers(self) -> tuple[RDMTeacher, ...]:
        """The teachers it asks."""
        return ()

    def describe(self) -> dict[str, Any]:
        """What identifies the term in a manifest; JSON-able."""
        return {"layers": list(self.layers), "stream": self.stream}


@final
class RDLTerm(Term):
    """Representational distance learning: a teacher's RDMs as targets for the student's layers.

    Parameters
    ----------
    teacher : RDMTeacher
        Network, measured RDMs, or anything else that answers with RDMs. A `ConditionTeacher` for conditions that the
        batch shows by several exemplars.
    layers : dict of str
        Student layer → teacher name.
    loss : RDLoss, optional
        Metric, comparison and gradient; what it leaves open follows from the teacher: a network's raw ``mse``, a
        measured RDM's ``cosine`` or ``corr`` by its metric.
    n_pairs : int, optional
        Random pairs per update (the paper: 500 of a batch of 100), shared by all layers; all if absent, or if the
        batch has fewer.
    alpha : float, dict of float or schedule
        α of Eq. 5.
    stream : {"task", "stimuli"}
        Which batches it is computed on.

    Raises
    ------
    TypeError
        If `layers` is not a mapping.
    ValueError
        For an unknown teacher name (with near matches), and for raw ``mse`` between differing metrics.

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

    Measured RDMs have arbitrary units, so that raw ``mse`` would fit their scale. ``cosine`` ignores the scale and
    keeps the zero, where zero distance means something; ``corr`` ignores both. A metric is declared by
    ``loss=RDLoss(metric=…)``.

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
        for name in layers.values():
            if name not in teacher.names:
                raise ValueError(
                    f"the teacher has no {name!r}, it answers by: {', '.join(teacher.names)}"
                    f"{did_you_mean(name, teacher.names)}"
                )
        if n_pairs is not None and loss.n_pairs not in (None, n_pairs):
            raise ValueError(f"n_pairs is {n_pairs} here and {loss.n_pairs} in the loss; give it once")
        self.teacher = teacher
        self.targets = dict(layers)
        self.n_pairs = loss.n_pairs if n_pairs is None else n_pairs
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
        """Ask the teacher once, so that it knows what the updates will ask for."""
        batch.ask(self.teacher, self.targets.values())

    def __call__(self, features: Mapping[str, Tensor], batch: Batch, generator: torch.Generator) -> dict[str, Tensor]:
        """E_aux of each layer (Eq. 2 over the pairs drawn), or 1 − similarity."""
        if len(batch) < 2:
            raise ValueError(
                "a batch of 1 stimulus has no distances; choose another batch size, or drop the incomplete last batch"
            )
        observed = batch.ask(self.teacher, self.targets.values())
        weights = self.teacher.weights(batch.ids)
        groups = self.teacher.groups(batch.ids)
        n = len(batch) if groups is None else int(groups.max()) + 1
        pairs = None if self.n_pairs is None else batch.pairs(self.n_pairs, n)
        return {
            layer: rdl_loss(
                features[layer] if groups is None else group_means(features[layer], groups),
                self.teacher.distances(observed[name]).to(features[layer].device),
                metric=self.metric,
                compare=self.compare,
                pairs=pairs,
                weights=None if weights is None else weights[name].to(features[layer].device),
                gradient=self.gradient,
            )
            for layer, name in self.targets.items()
        }

    def teachers(self) -> tuple[RDMTeacher, ...]:
        """Its teacher."""
        return (self.teacher,)

    def describe(self) -> dict[str, Any]:
        """What identifies the term in a manifest."""
        return super().describe() | {
            "targets": self.targets,
            "n_pairs": self.n_pairs,
            "metric": self.metric,
            "compare": self.compare,
            "gradient": self.gradient,
            "teacher_metric": self.teacher.metric,
        }


def check_targets(layers: Any) -> None:
    """Raise a TypeError unless `layers` maps student layers to teacher names."""
    if not isinstance(layers, Mapping):
        raise TypeError(
            f"layers must map student layers to teacher names, got a {type(layers).__name__}; write "
            "{'student layer': 'teacher name'}"
        )
