"""Which precision a device trains in."""

from typing import Literal

import torch

Precision = Literal["32-true", "bf16-mixed"]
PRECISIONS = ("auto", "32-true", "bf16-mixed")
_CPU_INSTRUCTIONS = ("avx512_bf16", "amx_bf16")


def choose_precision(device: torch.device, asked: str = "auto") -> Precision:
    """Choose the precision of a training for Lightning Fabric.

    ``auto`` is bf16 autocast where the device itself multiplies bf16, full precision elsewhere: on a GPU what torch
    says of it, on a CPU the instruction sets AVX512-BF16 and AMX. A CPU with AVX2 alone only imitates bf16: a step of
    the CIFAR network took 20 to 40 s in place of 2. Distances are computed in full precision in either case.

    Parameters
    ----------
    device : torch.device
        Where the training runs.
    asked : {"auto", "32-true", "bf16-mixed"}
        What the user asks for; anything but ``auto`` is returned as it is.

    Returns
    -------
    str
        ``32-true`` or ``bf16-mixed``.

    Raises
    ------
    ValueError
        For another word.

    Examples
    --------
    >>> import torch
    >>> from brainrdl.training.machine import choose_precision
    >>> choose_precision(torch.device("cpu"), "32-true")
    '32-true'
    """
    if asked == "32-true":
        return "32-true"
    if asked == "bf16-mixed":
        return "bf16-mixed"
    if asked != "auto":
        raise ValueError(f"unknown precision {asked!r}; known are: {', '.join(PRECISIONS)}")
    if device.type == "cuda":
        with torch.cuda.device(device):
            native = torch.cuda.is_bf16_supported(including_emulation=False)
    else:
        native = device.type == "cpu" and _cpu_multiplies_bf16()
    return "bf16-mixed" if native else "32-true"


def _cpu_multiplies_bf16() -> bool:
    """Ask the processor, by whatever name this version of torch has for the question; no answer is a no."""
    if callable(capabilities := getattr(torch.cpu, "get_capabilities", None)):
        found = capabilities()
        return any(found.get(instruction, False) for instruction in _CPU_INSTRUCTIONS)
    questions = ("_is_avx512_bf16_supported", "_is_amx_tile_supported")
    return any(getattr(torch.cpu, question, bool)() for question in questions)
