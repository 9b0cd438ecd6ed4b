"""A network as teacher: its layers' RDMs for whatever batch the student sees."""

import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from brainrdl.features.answers import check_answers, check_first_axis, warn_dead
from brainrdl.features.networks import copy_of
from brainrdl.features.recorder import Recorder, layer_names, list_layers, run_model
from brainrdl.identity import describe, layers_of
from brainrdl.known import check_metric
from brainrdl.rdms.distances import training_rdm
from brainrdl.teachers.base import RDMTeacher
from brainrdl.teachers.frozen import frozen_copy, unlike_training


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
        Function from a copy of the student's batch to the teacher's input (size, normalisation); without it the teacher
        gets the very tensor that the student gets.

    Raises
    ------
    TypeError
        If `model` is no module. When asked: if `preprocess` or, for ``"output"``, the network does not return a tensor,
        or the images' data type is not the model's.
    ValueError
        For an unknown metric or layer, a layer named twice, ``"output"`` where a layer has that name too, a network
        that cannot be copied, or whose parameters have no shape yet. Before a training, or when asked for a layer once
        more: if its first dimension is not the images, or its answer to an image depends on the batch or on chance. At
        any time: if the network writes to the images.
    FloatingPointError
        When asked, on the CPU: if a layer's answer is not finite. On an accelerator the loss is not finite then.

    Warns
    -----
    UserWarning
        Then too, without `preprocess`: if the images are on a scale that is wildly another than the one that the
        network's first normalisation remembers of its training.

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
        self._model = frozen_copy(model)
        self._asked: set[str] = set()
        self._judged: frozenset[str] = frozenset()
        self._names = layer_names(layers)
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
        """Name what identifies the teacher: parameters, layers with their options, preprocessing."""
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
            raise ValueError("a NetworkTeacher needs images, and this batch has none")
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
        given = self._input(images)
        output = run_model(self._model, given, "the teacher", own_input=self._preprocess is not None)
        features = self._recorder.features() if self._recorder.layers else {}
        answers = {layer: output if layer == "output" else features[layer] for layer in layers}
        for layer, value in answers.items():
            _check_finite(layer, value)
        if "output" in answers and not isinstance(output, Tensor):
            raise TypeError(
                f"the teacher's output is a {type(output).__name__}, and distances and logits need a Tensor; name a "
                "layer of the network, or let its forward return the part that is meant"
            )
        for layer, value in answers.items():
            check_first_axis(
                value, len(given), f"the teacher's {'output' if layer == 'output' else f'layer {layer!r}'}"
            )
        # at the second time: who asks once does not train, and the trainer judges before the first update
        self.judge(images, {layer: value for layer, value in answers.items() if layer in self._asked})
        self._asked.update(answers)
        return answers

    def judge(self, images: Tensor, answers: Mapping[str, Tensor]) -> None:
        """Check layers' answers to images, each once: a pattern for each image, whatever the batch.

        ValueError for patterns that are not the images'; a warning where all are alike, or the images on a scale that
        is wildly another than that of its training.
        """
        fresh = [layer for layer in answers if layer not in self._judged]
        if not fresh:
            return
        judged = copy_of(self._model)  # a network may keep what it sees
        with torch.random.fork_rng(devices=range(torch.cuda.device_count())):  # a preprocess may draw
            given = self._input(images)
        check_answers(
            judged, [layer for layer in fresh if layer != "output"], given, "the teacher", output="output" in fresh
        )
        warn_dead({layer: answers[layer] for layer in fresh}, given, "the teacher", "in the first batch")
        if not self._judged and self._preprocess is None and (said := unlike_training(judged, given)):
            warnings.warn(said, stacklevel=2)
        self._judged = self._judged.union(fresh)

    def _input(self, images: Tensor) -> Tensor:
        """What the network is given for a batch."""
        if self._preprocess is None:
            return images
        given = self._preprocess(images.clone())  # it may write to its input, and the student's batch is not its
        if not isinstance(given, Tensor):
            raise TypeError(f"preprocess returned a {type(given).__name__}; expected the teacher's input, a Tensor")
        return given


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
