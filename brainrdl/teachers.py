"""RDM teachers: whatever can answer "how far apart are these stimuli?"."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from copy import deepcopy
from typing import Any

import torch
from torch import Tensor, nn

from brainrdl.arguments import did_you_mean
from brainrdl.features import Recorder, answer, list_layers
from brainrdl.identity import describe, digest, layers_of
from brainrdl.rdms.distances import METRICS, check_metric, rdm, training_rdm
from brainrdl.schedules import check_alpha

# zero means something in these: a cosine between two such RDMs does too
_RATIO_SCALE = ("crossnobis", "mse", "sqeuclidean", "euclidean", "mahalanobis")


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
            The row of the answer, 0 … m − 1, that each stimulus belongs to; the answer then has m(m-1)/2 distances.
            None where each stimulus is a row of its own.
        """
        return None

    def draw(self, generator: torch.Generator) -> None:
        """Draw what is random about the teacher; called once before every update."""

    def describe(self) -> dict[str, Any]:
        """What identifies the teacher, so that a run is not gone on with under another one; JSON-able."""
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
                f"{type(self).__name__} answered with {list(answer)}, but {missing[0]!r} was asked for; "
                "forward must return every name in names"
            )
        return {name: answer[name] for name in names}

    def distances(self, observed: Tensor) -> Tensor:
        """The condensed RDM of what `observe` returned under one name."""
        return observed


class NetworkTeacher(RDMTeacher):
    """A network that never changes: its layers' RDMs for whatever batch the student sees.

    It holds a deep copy of the model in eval mode, without gradients; neither ``.train()`` nor an optimiser reaches
    it, so that its parameters and BatchNorm statistics stay bitwise what they were.

    Parameters
    ----------
    model : nn.Module
        The trained network.
    layers : list of str
        The layers to answer by, named as in `list_layers`; ``"output"`` is the network's output.
    metric : str
        Distance between its patterns, see `rdm`.
    preprocess : callable, optional
        Maps the student's batch to the teacher's input (size, normalisation); it gets a copy, which it may write to.
        Without it the teacher gets the very tensor that the student gets.

    Raises
    ------
    TypeError
        When asked: if `preprocess` does not return a tensor, or the images' data type is not the model's.
    ValueError
        For an unknown metric or layer, a layer named twice, and ``"output"`` where a layer has that name too.
    FloatingPointError
        When asked, on the CPU: if a layer's answer is not finite. On an accelerator the loss is not finite then.

    Examples
    --------
    >>> import torch, brainrdl as rdl
    >>> teacher = rdl.NetworkTeacher(torch.nn.Sequential(torch.nn.Linear(4, 3)), ["0"])
    >>> teacher(torch.eye(4), None)["0"].shape
    torch.Size([6])
    """

    def __init__(
        self,
        model: nn.Module,
        layers: Iterable[str],
        metric: str = "mse",
        *,
        preprocess: Callable[[Tensor], Tensor] | None = None,
    ) -> None:
        super().__init__()
        check_metric(metric)
        self._metric = metric
        self._preprocess = preprocess
        self._model = deepcopy(model).eval().requires_grad_(False)
        if isinstance(layers, str):
            raise ValueError(f"layers must be a list of names, got the single string {layers!r}; write [{layers!r}]")
        self._names = tuple(layers)
        if len(set(self._names)) != len(self._names):
            raise ValueError(f"layers names a layer twice: {', '.join(map(repr, self._names))}")
        self.check_layers(self._names)
        self._recorder = Recorder(self._model, [name for name in self._names if name != "output"], flatten=False)

    @property
    def names(self) -> tuple[str, ...]:
        """The layers it answers by."""
        return self._names

    @property
    def metric(self) -> str:
        """The metric of its distances."""
        return self._metric

    @property
    def compare(self) -> str:
        """Raw ``mse``, the paper's: both sides have a scale that means the same."""
        return "mse"

    def check_layers(self, layers: Iterable[str]) -> None:
        """Raise a ValueError where ``"output"`` is asked for and could mean two things."""
        if "output" in layers and "output" in list_layers(self._model):
            raise ValueError(
                "'output' is the network's output, and this network has a layer of that name too; name the layer "
                "before it, or give the layer another name"
            )

    def describe(self) -> dict[str, Any]:
        """What identifies the teacher: parameters, layers with their options, preprocessing."""
        return super().describe() | {"preprocess": describe(self._preprocess), "layers": layers_of(self._model)}

    def train(self, mode: bool = True) -> "NetworkTeacher":
        """Stay in eval mode, whatever is asked."""
        return self

    def forward(self, images: Tensor | None, ids: Sequence[str] | None = None) -> dict[str, Tensor]:
        """Answer a batch of images with the condensed RDM of each layer; ids are ignored."""
        observed = self.observe(images, ids, self.names)
        return {name: self.distances(observed[name]) for name in self.names}

    def observe(self, images: Tensor | None, ids: Sequence[str] | None, names: Sequence[str]) -> dict[str, Tensor]:
        """Make one forward pass: the features of the named layers, see `features`."""
        if images is None:
            raise ValueError("a NetworkTeacher answers images, and this batch has none")
        return self.features(images, names)

    def distances(self, observed: Tensor) -> Tensor:
        """The condensed RDM of features, computed as the student's is."""
        with torch.no_grad():
            distances = training_rdm(observed, self.metric)
            # NaN would say "not measured", and the loss would leave it out: a network that fails has to be noticed
            return torch.where(distances.isnan(), torch.inf, distances)

    @torch.no_grad()
    def features(self, images: Tensor, layers: Sequence[str]) -> dict[str, Tensor]:
        """Answer a batch with features.

        Parameters
        ----------
        images : Tensor (n, ...)
            The student's batch; `preprocess` is applied.
        layers : list of str
            Layers of the teacher, not only those it answers by; ``"output"`` is the network's output.

        Returns
        -------
        dict of Tensor (n, ...)
            Features in each layer's own shape, without gradient.
        """
        recorded = set(self._recorder.layers)
        wanted = [layer for layer in layers if layer != "output"]
        if not recorded.issuperset(wanted):
            extended = Recorder(self._model, dict.fromkeys([*self._recorder.layers, *wanted]), flatten=False)
            self._recorder.remove()
            self._recorder = extended
        given = images
        if self._preprocess is not None:
            given = self._preprocess(images.clone())  # it may write to its input, and the student's batch is not its
            if not isinstance(given, Tensor):
                raise TypeError(f"preprocess returned a {type(given).__name__}; expected the teacher's input, a Tensor")
        output = answer(self._model, given, "the teacher")
        features = self._recorder.features() if self._recorder.layers else {}
        answers = {layer: output if layer == "output" else features[layer] for layer in layers}
        for layer, value in answers.items():
            _check_finite(layer, value)
        return answers


def relative_alpha(
    alpha0: float, teacher: NetworkTeacher, images: Tensor, layers: Mapping[str, str]
) -> dict[str, float]:
    """Make α comparable between layers: ``α_m = α_0/s_m²``, s_m the teacher's mean distance in layer m.

    The same as dividing both RDMs of each layer by s_m in the loss.

    Parameters
    ----------
    alpha0 : float
        The relative α, one for all layers.
    teacher : NetworkTeacher
        Its metric decides the distances.
    images : Tensor (n, ...)
        A sample of training images, a few hundred are enough.
    layers : dict of str
        Student layer → teacher layer, as for `RDLTerm`.

    Returns
    -------
    dict of float
        Student layer → α.

    Raises
    ------
    ValueError
        If `alpha0` is negative or not finite, or all images are alike to the teacher in a layer.

    Examples
    --------
    >>> import torch, brainrdl as rdl
    >>> teacher = rdl.NetworkTeacher(torch.nn.Sequential(torch.nn.Identity()), ["0"])
    >>> rdl.relative_alpha(1.0, teacher, torch.tensor([[0.0], [2.0]]), {"fc": "0"})
    {'fc': 0.0625}
    """
    check_alpha(alpha0)
    features = teacher.features(images, list(dict.fromkeys(layers.values())))
    alphas = {}
    for student_layer, teacher_layer in layers.items():
        mean = rdm(features[teacher_layer], teacher.metric).mean().item()
        if mean == 0:
            raise ValueError(
                f"the teacher's layer {teacher_layer!r} answers alike to all {len(images)} images, so that its mean "
                "distance is 0; give other images, or leave the layer out"
            )
        alphas[student_layer] = alpha0 / mean**2
    return alphas


def _check_finite(layer: str, value: Any) -> None:
    # the sum shows it, and is much faster than a look at each value; where it is not finite, it may have overflowed
    if not isinstance(value, Tensor) or value.device.type != "cpu" or torch.isfinite(value.sum()):
        return
    rows = (~torch.isfinite(value.reshape(len(value), -1)).all(dim=1)).nonzero().flatten().tolist()
    if rows:
        raise FloatingPointError(
            f"the teacher's {'output' if layer == 'output' else f'layer {layer!r}'} is not finite (NaN or infinite) "
            f"for {len(rows)} of {len(value)} images, the first at position {rows[0]} of the batch; look at these "
            "images and at the teacher's parameters"
        )


def rows_by_id(ids: Sequence[str] | None, rows: Mapping[str, int], *, teacher: str, what: str) -> list[int]:
    """Find the rows of a batch's stimuli.

    Parameters
    ----------
    ids : sequence of str or None
        The batch's ids; the same may come twice.
    rows : dict of int
        Stimulus → row.
    teacher, what : str
        The asking class, and what it has per stimulus, for an error.

    Returns
    -------
    list of int

    Raises
    ------
    TypeError
        If `ids` is a single string.
    ValueError
        If there are no ids, or some are unknown; with near matches.
    """
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
            f"stimuli (StimulusSet.select){did_you_mean(missing[0], rows)}"
        )
    return [rows[stimulus] for stimulus in ids]


def student_metric(metric: str) -> str:
    """The metric a student's features are measured by, to meet a teacher's metric.

    Raises
    ------
    ValueError
        For a measured metric without a counterpart: it has to be declared.
    """
    if metric in METRICS:
        return metric
    if metric == "crossnobis":
        return "mse"
    raise ValueError(
        f"no student metric follows from the teacher's metric {metric!r}; declare one: loss=RDLoss(metric=…), "
        f"one of {', '.join(METRICS)}"
    )
