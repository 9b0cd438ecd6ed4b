"""Outputs of another kind than the task loss takes: it trains on them all the same, and badly."""

import warnings
from typing import Any

from torch import Tensor, nn
from torch.nn import functional

from brainrdl.features.answers import are_probabilities
from brainrdl.training.dead_layers import DeadLayers


def warn_other_outputs(task_loss: Any, output: Any, said: DeadLayers) -> None:
    """Warn once of probabilities where a loss takes logits, and of anything else where it takes log-probabilities."""
    if task_loss is functional.cross_entropy or isinstance(task_loss, nn.CrossEntropyLoss):
        wrong = are_probabilities(output)
        fault = "takes logits, and the student returns probabilities, so that a softmax follows a softmax"
        remedy = "leave the softmax out of the student"
    elif task_loss is functional.nll_loss or isinstance(task_loss, nn.NLLLoss):
        wrong = isinstance(output, Tensor) and output.ndim == 2 and not are_probabilities(output.detach().exp())
        fault = "takes log-probabilities, and the student returns other numbers, so that it has no lower bound"
        remedy = "use cross_entropy, or end the student in a log_softmax"
    else:
        return
    if wrong and said.unsaid(["task_loss"]):
        name = getattr(task_loss, "__name__", type(task_loss).__name__)
        warnings.warn(f"the task loss {name} {fault}; {remedy}", stacklevel=2)
