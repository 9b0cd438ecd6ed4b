"""The machine that computes, from what a caller asks of it to what a manifest says of it."""

import platform
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

import torch
from lightning_fabric import Fabric

from brainrdl.known import PRECISIONS

Precision = Literal["32-true", "bf16-mixed"]
DEVICES = ("auto", "cpu", "cuda")
PACKAGES = ("brainrdl", "torch", "torchvision", "lightning-fabric", "numpy", "scipy", "xarray", "pandas")
"""Those whose versions a manifest gives (`brainrdl.files.store.versions`)."""

_CPU_INSTRUCTIONS = ("avx512_bf16", "amx_bf16")


@dataclass(frozen=True)
class Machine:
    """A study's demands on the machine.

    Attributes
    ----------
    device : str
        ``auto`` (a GPU where torch finds one), ``cpu`` or ``cuda``.
    precision : str
        ``auto`` (see `choose_precision`), ``32-true`` or ``bf16-mixed``.
    threads : int or None
        Number of CPU threads, torch's default if None.

    Examples
    --------
    >>> from brainrdl.studies import Machine
    >>> Machine(threads=2)
    Machine(device='auto', precision='auto', threads=2)
    """

    device: str = "auto"
    precision: str = "auto"
    threads: int | None = None


def open_fabric(device: str = "auto", precision: str = "auto") -> Fabric:
    """Open the one device that a training runs on; ValueError for an unknown or absent one, or an unknown precision."""
    if device not in DEVICES:
        raise ValueError(f"unknown device {device!r}; known are: {', '.join(DEVICES)}")
    found = torch.cuda.is_available()
    if device == "cuda" and not found:
        raise ValueError("device is 'cuda', and torch finds no CUDA device here; take 'cpu' or 'auto'")
    # not Fabric's own "auto": it takes Apple's GPU, which has no float64, and the sum of Eq. 5 is float64
    accelerator = ("cuda" if found else "cpu") if device == "auto" else device
    return Fabric(accelerator=accelerator, devices=1, precision=choose_precision(torch.device(accelerator), precision))


def use_threads(threads: int | None = None, *, processes: int = 1) -> int:
    """Set and return the CPU threads of one of several `processes`: an equal share of torch's if None."""
    if threads is not None and threads < 1:
        raise ValueError(f"threads must be at least 1, got {threads}")
    if threads is None and processes > 1:
        # more threads than cores make every process slower: each would wait for the others' at every operation
        threads = max(1, torch.get_num_threads() // processes)
    if threads is not None:
        torch.set_num_threads(threads)
    return torch.get_num_threads()


def choose_precision(device: torch.device, asked: str = "auto") -> Precision:
    """Choose the precision of a training, as Lightning Fabric names it.

    ``auto`` is bf16 autocast where the device itself multiplies bf16, full precision elsewhere: on a GPU what torch
    says of it, on a CPU the instruction sets AVX512-BF16 and AMX. A CPU with AVX2 alone only imitates bf16: a step of
    the CIFAR network took 20 to 40 s in place of 2. Distances are computed in full precision in either case.

    Parameters
    ----------
    device : torch.device
        Device that the training runs on.
    asked : {"auto", "32-true", "bf16-mixed"}
        The user's wish; anything but ``auto`` is returned as it is.

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
    >>> from brainrdl.training import choose_precision
    >>> choose_precision(torch.device("cpu"), "32-true")
    '32-true'
    """
    # a literal each time, for the type's sake
    if asked == "32-true":
        return "32-true"
    if asked == "bf16-mixed":
        return "bf16-mixed"
    if asked != "auto":
        raise ValueError(f"unknown precision {asked!r}; known are: {', '.join(PRECISIONS)}")
    if device.type == "cuda":
        with torch.cuda.device(device):  # torch asks the current one
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


def precision_of(fabric: Fabric) -> str:
    """Name the precision a Fabric trains in, as `choose_precision` does."""
    return str(fabric._precision.precision)  # Fabric has no public word for it


@contextmanager
def memory_for(what: str) -> Iterator[None]:
    """Add to an error of a device or host that has no memory left what it was for, and what to do."""
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        # torch has a type of its own for devices only; the host's is told by its words
        if not isinstance(error, torch.OutOfMemoryError | MemoryError) and "can't allocate memory" not in str(error):
            raise
        raise type(error)(
            f"memory ran out in {what}: {error}; take smaller batches, or compare fewer layers or pairs"
        ) from error


def device_name(device: torch.device) -> str:
    """Name a device as a manifest does: a GPU by its model, ``cpu`` otherwise."""
    return torch.cuda.get_device_name(device) if device.type == "cuda" else device.type


def processor() -> str:
    """Name the CPU's model."""
    if sys.platform == "linux":  # where platform.processor() is empty, or an architecture
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.processor()


def now() -> str:
    """Date and time in UTC, to the second (ISO 8601)."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def describe_call(command: str, fabric: Fabric) -> dict[str, Any]:
    """Facts of a call that a study's manifest lists; it begins now."""
    return {
        "command": command,
        "started": now(),
        "device": device_name(fabric.device),
        "threads": torch.get_num_threads(),
    }
