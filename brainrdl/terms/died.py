"""Training runs that diverged, said in a loop that does not look for it: losses not finite, distances all 0."""

import warnings
from collections.abc import Mapping
from math import isfinite

from torch import Tensor

SAFE_START = (
    "A safe start is a comparison that ignores scale (compare='corr' or 'cosine'), or α from rdl.balanced_alpha with "
    "clipped gradients (torch.nn.utils.clip_grad_norm_(student.parameters(), 1.0)), or a lower learning rate"
)
_LIKELY = (
    "Most likely a step was too large: the gradient of raw distances (compare='mse') grows with the third power of the "
    "features"
)


def warn_not_finite(values: Mapping[str, Tensor], stacklevel: int) -> None:
    """Warn of losses () by name that are not finite."""
    for name, value in values.items():
        # on an accelerator the host would have to wait for the value at every step, and a CUDA graph that is being
        # recorded could not be: there the loss itself shows it where the user reads it
        if value.device.type == "cpu" and not isfinite(value.item()):
            _warn(
                f"{name} is not finite, nor will the weights be after a step on it: the training run has diverged. "
                f"{_LIKELY}; or images or targets are not finite. {SAFE_START}",
                stacklevel + 1,
            )


def warn_all_zero(distances: Tensor, target: Tensor, weights: Tensor, stacklevel: int) -> None:
    """Warn where a layer's distances (P,) are all 0, and some of the target's that count are not."""
    # on the CPU alone, as above; one of them is read in a twentieth of the time of all
    if distances.device.type != "cpu" or not len(distances) or distances[0].item() != 0:
        return
    if distances.any() or not (target * weights).any():
        return
    _warn(
        "all distances of the student's layer are 0: it responds identically to all stimuli (every output 0, of a "
        f"ReLU), has no geometry, and gets no gradient that could give it one: the layer is dead. {_LIKELY}. "
        f"{SAFE_START}",
        stacklevel + 1,
    )


def _warn(text: str, stacklevel: int) -> None:
    # the same text at every step from the same line: Python shows it once
    warnings.warn(text, stacklevel=stacklevel + 1)
