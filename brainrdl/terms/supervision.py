"""Deep supervision: classifiers on auxiliary layers."""

from collections.abc import Mapping, Sequence
from typing import Any, final

import torch
from torch import Tensor, nn
from torch.nn import functional

from brainrdl.terms.alpha import Alpha, Schedule, deep_supervision_decay
from brainrdl.terms.base import Batch, Term, head_key


@final
class DeepSupervision(Term):
    """Linear softmax classifiers on auxiliary layers, trained with the network.

    Parameters
    ----------
    layers : list of str
        Layers of the student.
    n_classes : int
        Number of classes.
    alpha : float, dict of float or schedule
        Weight of each classifier's cross-entropy; the paper's schedule, gone after three epochs, if absent.

    Raises
    ------
    ValueError
        If `n_classes` is below 1; when called, if the stream has no class labels, or larger ones.

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
            self.heads[head_key(layer)] = nn.Linear(features[layer][0].numel(), self.n_classes)

    def __call__(self, features: Mapping[str, Tensor], batch: Batch, generator: torch.Generator) -> dict[str, Tensor]:
        """Cross-entropy of each layer's classifier."""
        labels = batch.labels
        if labels is None or labels.device.type == "cpu":  # elsewhere the host would wait for the answer
            labels = self._check_labels(labels)
        values = {
            layer: functional.cross_entropy(self.heads[head_key(layer)](features[layer].flatten(1)), labels)
            for layer in self.layers
        }
        return batch.told(self, values)

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
        """Name what identifies the term in a manifest."""
        return super().describe() | {"n_classes": self.n_classes}
