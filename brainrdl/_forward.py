"""Running a network: its mode left as it was, and errors that say what is wrong with the images."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _NormBase

from brainrdl.streams import Norm


def answer(model: nn.Module, images: Any, who: str) -> Any:
    """Call a model.

    Parameters
    ----------
    model : nn.Module
        The model.
    images : Tensor (n, ...)
        Its input.
    who : str
        What to call the model in an error.

    Raises
    ------
    ValueError
        If BatchNorm meets a batch of one image.
    TypeError
        If the images are not of the parameters' data type and the model cannot take them.
    """
    try:
        return model(images)
    except (RuntimeError, ValueError) as error:
        if not isinstance(images, Tensor):
            raise
        if "more than 1 value per channel" in str(error):
            raise ValueError(
                f"{who} normalises over the batch, and one of {len(images)} image has no spread ({error}); choose "
                "another batch size, or leave out the incomplete last batch (drop_last=True)"
            ) from error
        expected = next((p.dtype for p in model.parameters() if p.is_floating_point()), images.dtype)
        if images.dtype != expected and "type" in str(error):
            raise TypeError(
                f"{who} has parameters of {expected} and got images of {images.dtype} ({error}); convert the images, "
                f"as in {_conversion(images.dtype, expected)}"
            ) from error
        raise


@contextmanager
def kept_modes(model: nn.Module) -> Iterator[None]:
    """Leave every module in the mode (train or eval) it was in, however the block ends."""
    modes = [(module, module.training) for module in model.modules()]
    try:
        yield
    finally:
        for module, training in modes:
            module.training = training


@contextmanager
def stimulus_mode(model: nn.Module, norm: Norm, dropout: bool) -> Iterator[None]:
    """Put a network in training mode into the mode that stimuli are shown in, see `StimulusStream`."""
    if norm == "shared" and dropout:
        yield
        return
    with kept_modes(model):
        kept = []
        for module in model.modules():
            normalises = isinstance(module, _NormBase)
            # "and": a layer that refuses training mode stays as it is
            module.training = module.training and (norm != "eval" if normalises else dropout)
            if normalises and norm == "own":
                kept.append((module, dict(module._buffers)))
        # the layers update copies: putting old values back into the buffers would break the task batch's backward pass
        for module, buffers in kept:
            module._buffers.update({name: None if b is None else b.clone() for name, b in buffers.items()})
        try:
            yield
        finally:
            for module, buffers in kept:
                module._buffers.update(buffers)


def _conversion(got: torch.dtype, expected: torch.dtype) -> str:
    return f"images.to({expected}) / 255" if got == torch.uint8 else f"images.to({expected})"
