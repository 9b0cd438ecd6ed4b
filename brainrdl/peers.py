"""The methods RDL is compared with, as terms: deep supervision, hints, distillation and its relational kin."""

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from math import inf
from typing import Any, final

import torch
from torch import Tensor, nn
from torch.nn import functional

from brainrdl.rdms.distances import full_precision, training_rdm
from brainrdl.schedules import Alpha, Schedule, deep_supervision_decay
from brainrdl.teachers import NetworkTeacher, RDMTeacher
from brainrdl.terms import Batch, Term, check_targets


@final
class DeepSupervision(Term):
    """Linear softmax classifiers on auxiliary layers, trained with the network.

    Parameters
    ----------
    layers : list of str
        The student's layers.
    n_classes : int
        Number of classes.
    alpha : float, dict of float or schedule
        Weight of each classifier's cross-entropy; the paper's schedule, gone after three epochs, if absent.

    References
    ----------
    Lee et al. (2014), Deeply-supervised nets, in the form of McClure & Kriegeskorte (2016).

    Examples
    --------
    >>> import brainrdl as rdl
    >>> rdl.DeepSupervision(["pool1", "pool2"], 10).stream
    'task'
    """

    name = "deep_supervision"

    def __init__(self, layers: Sequence[str], n_classes: int, *, alpha: Alpha | Schedule | None = None) -> None:
        super().__init__(layers, alpha=deep_supervision_decay(1.0) if alpha is None else alpha)
        if n_classes < 1:
            raise ValueError(f"n_classes must be at least 1, got {n_classes}")
        self.n_classes = n_classes

    def setup(self, features: Mapping[str, Tensor], batch: Batch, generator: torch.Generator) -> None:
        """Build one linear classifier per layer."""
        self._check_labels(batch.labels)
        for layer in self.layers:
            self.heads[_key(layer)] = nn.Linear(features[layer][0].numel(), self.n_classes)

    def __call__(self, features: Mapping[str, Tensor], batch: Batch, generator: torch.Generator) -> dict[str, Tensor]:
        """Cross-entropy of each layer's classifier."""
        labels = batch.labels
        if labels is None or labels.device.type == "cpu":  # elsewhere the host would wait for the answer
            labels = self._check_labels(labels)
        return {
            layer: functional.cross_entropy(self.heads[_key(layer)](features[layer].flatten(1)), labels)
            for layer in self.layers
        }

    def _check_labels(self, labels: Tensor | None) -> Tensor:
        if labels is None:
            raise ValueError("deep supervision needs labels, and this stream has none")
        if labels.ndim != 1 or labels.is_floating_point():
            raise ValueError(
                f"deep supervision needs class labels (integers, one per image), got {labels.dtype} of shape "
                f"{tuple(labels.shape)}"
            )
        if labels.numel() and int(labels.max()) >= self.n_classes:
            raise ValueError(
                f"deep supervision was made for {self.n_classes} classes (labels 0 … {self.n_classes - 1}), and a "
                f"label is {int(labels.max())}; give n_classes the number of the task's classes"
            )
        return labels

    def describe(self) -> dict[str, Any]:
        """What identifies the term in a manifest."""
        return super().describe() | {"n_classes": self.n_classes}


class _FromNetwork(Term):
    """A term that compares layers of the student with layers of a network teacher."""

    def __init__(
        self,
        teacher: NetworkTeacher,
        layers: Mapping[str, str],
        *,
        alpha: Alpha | Schedule = 1.0,
        stream: str = "task",
    ) -> None:
        check_targets(layers)
        super().__init__(tuple(layers), alpha=alpha, stream=stream)
        _need_network(self, teacher)
        teacher.check_layers(layers.values())
        self.teacher = teacher
        self.targets = dict(layers)

    def setup(self, features: Mapping[str, Tensor], batch: Batch, generator: torch.Generator) -> None:
        """Ask the teacher once, so that it knows what the updates will ask for."""
        batch.ask(self.teacher, self.targets.values())

    def __call__(self, features: Mapping[str, Tensor], batch: Batch, generator: torch.Generator) -> dict[str, Tensor]:
        """The relation of each pair of layers."""
        answers = batch.ask(self.teacher, self.targets.values())
        return {layer: self.relate(layer, features[layer], answers[name]) for layer, name in self.targets.items()}

    @abstractmethod
    def relate(self, layer: str, student: Tensor, teacher: Tensor) -> Tensor:
        """How far the student's features (n, ...) are from the teacher's (n, ...)."""

    def teachers(self) -> tuple[RDMTeacher, ...]:
        """Its teacher."""
        return (self.teacher,)

    def describe(self) -> dict[str, Any]:
        """What identifies the term in a manifest."""
        return super().describe() | {"targets": self.targets}


@final
class Hint(_FromNetwork):
    """A learned linear map of a student layer predicts the teacher's: mean squared error.

    The map is a 1 × 1 convolution where both layers have positions, a full linear map where both have none.

    Parameters
    ----------
    teacher : NetworkTeacher
        The teacher.
    layers : dict of str
        Student layer → teacher layer.
    alpha : float, dict of float or schedule
        Weight of the error.

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
            convolutional = student.ndim == 4
            self.heads[_key(layer)] = (
                nn.Conv2d(student.shape[1], teacher.shape[1], kernel_size=1)
                if convolutional
                else nn.Linear(student.shape[1], teacher.shape[1])
            )

    def relate(self, layer: str, student: Tensor, teacher: Tensor) -> Tensor:
        """Mean squared error of the prediction."""
        prediction: Tensor = self.heads[_key(layer)](student)
        return functional.mse_loss(prediction.float(), teacher.float())


@final
class RKD(_FromNetwork):
    """Relational knowledge distillation by distance: Huber error of distances divided by their mean.

    Parameters
    ----------
    teacher : NetworkTeacher
        The teacher.
    layers : dict of str
        Student layer → teacher layer.
    alpha : float, dict of float or schedule
        Weight of the error.
    stream : {"task", "stimuli"}
        Which batches it is computed on.

    References
    ----------
    Park et al. (2019), Relational knowledge distillation.

    Examples
    --------
    >>> import torch, brainrdl as rdl
    >>> teacher = rdl.NetworkTeacher(torch.nn.Sequential(torch.nn.Linear(4, 3)), ["0"])
    >>> rdl.RKD(teacher, {"fc": "0"}, alpha=10.0).alpha
    10.0
    """

    name = "rkd"

    def relate(self, layer: str, student: Tensor, teacher: Tensor) -> Tensor:
        """Huber error, δ = 1, over all pairs."""
        return functional.smooth_l1_loss(_relative_distances(student), _relative_distances(teacher))


@final
class SP(_FromNetwork):
    """Similarity-preserving distillation: squared difference of row-normalised Gram matrices, over n².

    Parameters
    ----------
    teacher : NetworkTeacher
        The teacher.
    layers : dict of str
        Student layer → teacher layer.
    alpha : float, dict of float or schedule
        Weight of the error.
    stream : {"task", "stimuli"}
        Which batches it is computed on.

    References
    ----------
    Tung & Mori (2019), Similarity-preserving knowledge distillation.

    Examples
    --------
    >>> import torch, brainrdl as rdl
    >>> teacher = rdl.NetworkTeacher(torch.nn.Sequential(torch.nn.Linear(4, 3)), ["0"])
    >>> rdl.SP(teacher, {"fc": "0"}).targets
    {'fc': '0'}
    """

    name = "sp"

    def relate(self, layer: str, student: Tensor, teacher: Tensor) -> Tensor:
        """‖G_S − G_T‖²_F / n², rows of both Gram matrices at unit length."""
        with full_precision(student.device):
            ours, theirs = _gram(_near_one(student)), _gram(_near_one(teacher))
            return (_unit_rows(ours) - _unit_rows(theirs)).square().mean()


@final
class CKA(_FromNetwork):
    """1 − linear centred kernel alignment.

    Parameters
    ----------
    teacher : NetworkTeacher
        The teacher.
    layers : dict of str
        Student layer → teacher layer.
    alpha : float, dict of float or schedule
        Weight of the error.
    stream : {"task", "stimuli"}
        Which batches it is computed on.

    References
    ----------
    Kornblith et al. (2019), Similarity of neural network representations revisited.

    Examples
    --------
    >>> import torch, brainrdl as rdl
    >>> teacher = rdl.NetworkTeacher(torch.nn.Sequential(torch.nn.Linear(4, 3)), ["0"])
    >>> rdl.CKA(teacher, {"fc": "0"}, stream="stimuli").stream
    'stimuli'
    """

    name = "cka"

    def relate(self, layer: str, student: Tensor, teacher: Tensor) -> Tensor:
        """1 − ⟨K, L⟩ / (‖K‖ ‖L‖), K and L the Gram matrices of centred features."""
        with full_precision(student.device):
            # scaled before they are centred: what rounding leaves of a constant layer stays small
            k = _gram(_centred(_near_one(student)))
            l = _gram(_centred(_near_one(teacher)))  # noqa: E741 - the source's names
            return 1 - functional.cosine_similarity(k.flatten(), l.flatten(), dim=0)


@final
class KD(Term):
    """Knowledge distillation: the teacher's softened output distribution, T² times the KL divergence.

    Parameters
    ----------
    teacher : NetworkTeacher
        The teacher, whose output are logits.
    temperature : float
        T, above 0.
    head : str, optional
        A student layer from which a linear head of its own predicts the teacher's logits, for a teacher of other
        classes. Absent: the student's output does.
    alpha : float or schedule
        Weight of the divergence.
    stream : {"task", "stimuli"}
        Which batches it is computed on.

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
        if self.head is not None:
            self.heads[_key(self.head)] = nn.Linear(features[self.head][0].numel(), logits.shape[1])
        elif batch.output.shape != logits.shape:
            raise ValueError(
                f"the student answers with {tuple(batch.output.shape[1:])} values per image, the teacher with "
                f"{tuple(logits.shape[1:])}; for other classes name a student layer to put a head on: KD(…, head=layer)"
            )

    def __call__(self, features: Mapping[str, Tensor], batch: Batch, generator: torch.Generator) -> dict[str, Tensor]:
        """T² KL(softmax(teacher/T) ‖ softmax(student/T)), mean over the batch."""
        wanted = batch.ask(self.teacher, ["output"])["output"].float()
        logits = batch.output if self.head is None else self.heads[_key(self.head)](features[self.head].flatten(1))
        divergence = functional.kl_div(
            functional.log_softmax(logits.float() / self.temperature, dim=1),
            functional.log_softmax(wanted / self.temperature, dim=1),
            reduction="batchmean",
            log_target=True,
        )
        return {self.head or "output": self.temperature**2 * divergence}

    def teachers(self) -> tuple[RDMTeacher, ...]:
        """Its teacher."""
        return (self.teacher,)

    def describe(self) -> dict[str, Any]:
        """What identifies the term in a manifest."""
        return super().describe() | {"temperature": self.temperature, "head": self.head}


def _need_network(term: Term, teacher: RDMTeacher) -> None:
    if not isinstance(teacher, NetworkTeacher):
        raise TypeError(
            f"{type(term).__name__} needs a NetworkTeacher, whose features it reads; got {type(teacher).__name__}"
        )


def _key(layer: str) -> str:
    # a head's name may hold no dot, nor be an attribute of ModuleDict's ("values", "type")
    return layer.replace(".", "/") + "/"


def _relative_distances(features: Tensor) -> Tensor:
    distances = training_rdm(features, "euclidean")
    return distances / distances.mean().clamp_min(torch.finfo(distances.dtype).tiny)


def _wide(features: Tensor) -> Tensor:
    return features.flatten(1).to(torch.promote_types(features.dtype, torch.float32))


def _near_one(features: Tensor) -> Tensor:
    """Features divided by a power of two, which rounds nothing, so that the largest is near 1.

    For what is blind to scale: norms of a Gram matrix hold fourth powers of features, which would vanish or overflow.
    """
    flat = _wide(features)
    limits = torch.finfo(flat.dtype)
    largest = flat.detach().abs().max()
    mantissa, _ = torch.frexp(largest)
    return flat * (mantissa / largest.clamp(limits.tiny, limits.max / 8))


def _gram(features: Tensor) -> Tensor:
    return features @ features.T


def _centred(features: Tensor) -> Tensor:
    return features - features.mean(dim=0)


def _unit_rows(gram: Tensor) -> Tensor:
    return functional.normalize(gram, dim=1)
