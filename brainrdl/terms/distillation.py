"""Hints and knowledge distillation, and what terms of a network teacher share."""

import warnings
from abc import abstractmethod
from collections.abc import Mapping
from math import inf
from typing import Any, final

import torch
from torch import Tensor, nn
from torch.nn import functional

from brainrdl.features.answers import are_probabilities, is_constant
from brainrdl.teachers.base import NothingToCompare, RDMTeacher
from brainrdl.teachers.network import NetworkTeacher
from brainrdl.terms.alpha import Alpha, Schedule
from brainrdl.terms.base import Batch, Term, check_targets, head_key


class FromNetwork(Term):
    """A term that compares layers of the student with layers of a network teacher: `Hint`, `RKD`, `SP` and `CKA`.

    `layers` maps student layers to teacher layers; `alpha` and `stream` are those of every `Term`.
    """

    def __init__(
        self, teacher: NetworkTeacher, layers: Mapping[str, str], *, alpha: Alpha | Schedule = 1.0, stream: str = "task"
    ) -> None:
        check_targets(layers)
        super().__init__(tuple(layers), alpha=alpha, stream=stream)
        _need_network(self, teacher)
        teacher.check_layers(layers.values())
        self.teacher = teacher
        self.targets = dict(layers)

    def setup(self, features: Mapping[str, Tensor], batch: Batch, generator: torch.Generator) -> None:
        """Ask the teacher once, so that it knows what the updates ask for; `NothingToCompare` for too few stimuli."""
        self._enough(batch)
        batch.ask(self.teacher, self.targets.values())

    def __call__(self, features: Mapping[str, Tensor], batch: Batch, generator: torch.Generator) -> dict[str, Tensor]:
        """The relation of each pair of layers."""
        self._enough(batch)
        answers = batch.ask(self.teacher, self.targets.values())
        if self.fewest > 1:
            n_pairs = len(batch) * (len(batch) - 1) // 2
            for layer, name in self.targets.items():
                related = ~(is_constant(features[layer]) | is_constant(answers[name]))
                batch.note(self, layer, n_pairs * related)
        values = {layer: self.relate(layer, features[layer], answers[name]) for layer, name in self.targets.items()}
        return batch.told(self, values)

    def _enough(self, batch: Batch) -> None:
        if len(batch) < self.fewest:
            raise NothingToCompare(
                f"{self.name} compares relations between {self.fewest} stimuli or more, and a batch holds {len(batch)}"
                "; choose another batch size, or leave the incomplete last batch out (drop_last=True)"
            )

    @abstractmethod
    def relate(self, layer: str, student: Tensor, teacher: Tensor) -> Tensor:
        """Compare the student's features (n, ...) with the teacher's (n, ...): an error, a Tensor ()."""

    def teachers(self) -> tuple[RDMTeacher, ...]:
        """Its teacher."""
        return (self.teacher,)

    def describe(self) -> dict[str, Any]:
        """Name what identifies the term in a manifest."""
        return super().describe() | {"targets": self.targets}


@final
class Hint(FromNetwork):
    """A learned linear map of a student layer predicts the teacher's: mean squared error.

    The map is a 1 × 1 convolution where both layers have positions, a full linear map where both have none.

    Takes ``teacher, layers, alpha`` as `RKD`; a ValueError in its setup says where two layers differ in positions.

    References
    ----------
    Romero et al. (2014), FitNets: Hints for thin deep nets. They, and the paper, train it in a stage of its own
    before the task.

    Examples
    --------
    >>> import torch, brainrdl as rdl
    >>> teacher = rdl.NetworkTeacher(torch.nn.Sequential(torch.nn.Linear(4, 3)), ["0"])
    >>> rdl.Hint(teacher, {"fc": "0"}).layers
    ('fc',)
    """

    name = "hint"

    def __init__(self, teacher: NetworkTeacher, layers: Mapping[str, str], *, alpha: Alpha | Schedule = 1.0) -> None:
        super().__init__(teacher, layers, alpha=alpha)

    def setup(self, features: Mapping[str, Tensor], batch: Batch, generator: torch.Generator) -> None:
        """Build the maps."""
        answers = batch.ask(self.teacher, self.targets.values())
        for layer, name in self.targets.items():
            student, teacher = features[layer], answers[name]
            if student.shape[2:] != teacher.shape[2:] or student.ndim not in (2, 4):
                raise ValueError(
                    f"a hint maps channels position by position: student layer {layer!r} has shape "
                    f"{tuple(student.shape[1:])}, teacher layer {name!r} {tuple(teacher.shape[1:])}; choose layers "
                    "with the same positions, or two without any"
                )
            n_in, n_out = student.shape[1], teacher.shape[1]
            self.heads[head_key(layer)] = nn.Conv2d(n_in, n_out, 1) if student.ndim == 4 else nn.Linear(n_in, n_out)

    def relate(self, layer: str, student: Tensor, teacher: Tensor) -> Tensor:
        """Mean squared error of the prediction."""
        # in float32 under autocast too: a mean of squares needs more digits than half precision has
        return functional.mse_loss(self.heads[head_key(layer)](student).float(), teacher.float())


@final
class KD(Term):
    """Knowledge distillation: the teacher's softened output distribution, T² times the KL divergence.

    Parameters
    ----------
    teacher : NetworkTeacher
        Teacher, whose output are logits.
    temperature : float
        Temperature T, above 0.
    head : str, optional
        Student layer with a linear head for a teacher of other classes; the student's output predicts them if absent.
    alpha : float or schedule
        Weight of the divergence.
    stream : {"task", "stimuli"}
        Stream on whose batches the term is computed.

    Raises
    ------
    TypeError
        If `teacher` is not a NetworkTeacher.
    ValueError
        If the temperature is not above 0, or the student's and the teacher's classes differ without a `head`.

    References
    ----------
    Hinton et al. (2015), Distilling the knowledge in a neural network.

    Examples
    --------
    >>> import torch, brainrdl as rdl
    >>> teacher = rdl.NetworkTeacher(torch.nn.Sequential(torch.nn.Linear(4, 3)), ["0"])
    >>> rdl.KD(teacher, temperature=2.0).layers
    ()
    """

    name = "kd"

    def __init__(
        self,
        teacher: NetworkTeacher,
        *,
        temperature: float = 4.0,
        head: str | None = None,
        alpha: Alpha | Schedule = 1.0,
        stream: str = "task",
    ) -> None:
        super().__init__(() if head is None else (head,), alpha=alpha, stream=stream)
        _need_network(self, teacher)
        if not 0 < temperature < inf:
            raise ValueError(f"temperature must be a finite number above 0, got {temperature}")
        self.teacher = teacher
        self.temperature = temperature
        self.head = head

    def setup(self, features: Mapping[str, Tensor], batch: Batch, generator: torch.Generator) -> None:
        """Build the head, where there is one."""
        logits = batch.ask(self.teacher, ["output"])["output"]
        if logits.ndim != 2:
            raise ValueError(
                f"KD needs logits, (images, classes), and the teacher's output has shape {tuple(logits.shape)}; let "
                "the network end in a classifier, or take a Hint"
            )
        own = None if self.head else self._student_logits(batch)
        for who, output in (("teacher", logits), ("student", own)):
            if are_probabilities(output):
                warnings.warn(
                    f"KD takes logits, and the {who} returns probabilities, which a softmax makes all alike; "
                    "leave the softmax out of it",
                    stacklevel=2,
                )
        if self.head is not None:
            self.heads[head_key(self.head)] = nn.Linear(features[self.head][0].numel(), logits.shape[1])
        elif self._student_logits(batch).shape != logits.shape:
            raise ValueError(
                f"the student returns {tuple(batch.output.shape[1:])} values per image, the teacher with "
                f"{tuple(logits.shape[1:])}; for other classes name a student layer to put a head on: KD(…, head=layer)"
            )

    def __call__(self, features: Mapping[str, Tensor], batch: Batch, generator: torch.Generator) -> dict[str, Tensor]:
        """T² KL(softmax(teacher/T) ‖ softmax(student/T)), mean over the batch."""
        wanted = batch.ask(self.teacher, ["output"])["output"].float()
        logits = (
            self._student_logits(batch)
            if self.head is None
            else self.heads[head_key(self.head)](features[self.head].flatten(1))
        )
        divergence = functional.kl_div(  # Σ_c p_c log(p_c/q_c), p the teacher's softmax, q the student's
            functional.log_softmax(logits.float() / self.temperature, dim=1),
            functional.log_softmax(wanted / self.temperature, dim=1),
            reduction="batchmean",
            log_target=True,
        )
        return batch.told(self, {self.head or "output": self.temperature**2 * divergence})

    def _student_logits(self, batch: Batch) -> Tensor:
        if not isinstance(batch.output, Tensor):
            raise TypeError(
                f"KD needs the student's logits, a Tensor (images, classes), and the student returns a "
                f"{type(batch.output).__name__} (some networks do so in training only); let its forward return the "
                "logits alone, or name a layer to put a head on: KD(…, head=layer)"
            )
        return batch.output

    def teachers(self) -> tuple[RDMTeacher, ...]:
        """Its teacher."""
        return (self.teacher,)

    def describe(self) -> dict[str, Any]:
        """Name what identifies the term in a manifest."""
        return super().describe() | {"temperature": self.temperature, "head": self.head}


def _need_network(term: Term, teacher: RDMTeacher) -> None:
    if not isinstance(teacher, NetworkTeacher):
        raise TypeError(
            f"{type(term).__name__} needs a NetworkTeacher, whose features it reads; got {type(teacher).__name__}"
        )
