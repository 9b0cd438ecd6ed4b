"""Running a network: its mode left as it was, and errors that say what is wrong with the images."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn


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


def _conversion(got: torch.dtype, expected: torch.dtype) -> str:
    return f"images.to({expected}) / 255" if got == torch.uint8 else f"images.to({expected})"
