"""Cost of RDL in a training step: time against a plain step, and the memory of the loss alone.

    python benchmarks/rdl_overhead.py
    python benchmarks/rdl_overhead.py --network nin

Random images; three layers, as the paper's studies train them: Table 1's network with batches of 100 and 500 pairs, or
the "Network in Network" of Table 4 (a student of 100 classes with its readout, a teacher of 10) with batches of 128 and
406 pairs. The four variants take turns in one process, so that a machine whose speed drifts slows all of them; ratios
are medians over rounds of the ratio within a round. ``naive`` is the loss as one would write it first: it gathers both
members of every pair and lets autograd differentiate.
"""

import argparse
import resource
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

import brainrdl as rdl
from brainrdl.known import PRECISIONS
from brainrdl.models import mnist_cnn, nin
from brainrdl.training.machine import choose_precision

MEMORY_SHAPE, MEMORY_PAIRS = (128, 200_000), 500

Loss = Callable[[Tensor, Tensor, Tensor], Tensor]


@dataclass(frozen=True)
class Case:
    """One of the two studies: its networks, layers and batches, and how many rounds of how many steps to time."""

    student: Callable[[], nn.Module]
    teacher: Callable[[], nn.Module]
    layers: tuple[str, ...]
    image: tuple[int, int, int]
    n_classes: int
    batch: int
    pairs: int
    rounds: int
    per_round: int


CASES = {
    "mnist": Case(
        student=mnist_cnn,
        teacher=mnist_cnn,
        layers=("pool1", "pool2", "fc"),
        image=(1, 28, 28),
        n_classes=10,
        batch=100,
        pairs=500,
        rounds=30,
        per_round=4,
    ),
    "nin": Case(
        student=partial(nin, 100, readout=100),
        teacher=partial(nin, 10),
        layers=("pool1", "pool2", "pool3"),
        image=(3, 32, 32),
        n_classes=100,
        batch=128,
        pairs=406,
        rounds=10,
        per_round=2,
    ),
}


def naive_loss(features: Tensor, target: Tensor, pairs: Tensor) -> Tensor:
    """E_aux over the pairs by gathering both members of each: P × K memory, autograd's backward."""
    flat = features.flatten(1)
    i, j = pairs.unbind(dim=1)
    n = len(flat)
    distances = (flat[i] - flat[j]).square().mean(dim=1)
    return (distances - target[i * n - i * (i + 1) // 2 + j - i - 1]).square().mean()


def our_loss(features: Tensor, target: Tensor, pairs: Tensor) -> Tensor:
    """E_aux over the pairs, Eq. 4's gradient."""
    return rdl.rdl_loss(features, target, pairs=pairs)


def steps(case: Case, device: torch.device, precision: str) -> dict[str, Callable[[], None]]:
    """One training step of each variant, each with a network of its own."""
    images = torch.rand(case.batch, *case.image, device=device).contiguous(memory_format=torch.channels_last)
    labels = torch.randint(case.n_classes, (case.batch,), device=device)
    autocast = partial(torch.autocast, device.type, dtype=torch.bfloat16, enabled=precision == "bf16-mixed")
    teacher = rdl.NetworkTeacher(case.teacher().to(device, memory_format=torch.channels_last), case.layers)
    with autocast():
        at_hand = teacher(images)

    def step(targets: Callable[[], dict[str, Tensor]] | None, loss_of: Loss) -> Callable[[], None]:
        model = case.student().to(device, memory_format=torch.channels_last)
        fused = True if device.type == "cuda" else None
        optimizer = torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9, fused=fused)
        recorder = rdl.Recorder(model, case.layers, flatten=False) if targets is not None else None

        def once() -> None:
            optimizer.zero_grad()
            with autocast():
                total = cross_entropy(model(images), labels)
                if targets is not None and recorder is not None:
                    wanted, features = targets(), recorder.features()
                    pairs = rdl.sample_pairs(case.batch, case.pairs).to(device, non_blocking=True)
                    for layer in case.layers:
                        total = total + loss_of(features[layer], wanted[layer], pairs)
            total.backward()
            optimizer.step()

        return once

    return {
        "plain": step(None, our_loss),
        "RDL, targets at hand": step(lambda: at_hand, our_loss),
        "RDL, live teacher": step(lambda: teacher(images), our_loss),
        "naive, targets at hand": step(lambda: at_hand, naive_loss),
    }


def time_steps(variants: dict[str, Callable[[], None]], device: torch.device, rounds: int, per_round: int) -> None:
    """Print milliseconds per step and the ratio to plain, interleaved."""

    def block(once: Callable[[], None]) -> float:
        start = time.perf_counter()
        for _ in range(per_round):
            once()
        if device.type == "cuda":
            torch.cuda.synchronize()
        return (time.perf_counter() - start) / per_round

    for once in variants.values():
        block(once)
    seconds: dict[str, list[float]] = {name: [] for name in variants}
    for _ in range(rounds):
        for name, once in variants.items():
            seconds[name].append(block(once))
    plain = np.array(seconds["plain"])
    print(f"{'step':26}{'ms (median)':>12}{'over plain':>12}{'quartiles':>16}")
    for name, values in seconds.items():
        ratio = np.array(values) / plain
        low, middle, high = np.quantile(ratio, (0.25, 0.5, 0.75))
        print(f"{name:26}{1e3 * np.median(values):12.2f}{middle:12.3f}{low:9.3f} – {high:.3f}")


def measure_memory() -> None:
    """Print the peak memory of the loss alone, forward and backward, beyond features and their gradient."""
    n, n_units = MEMORY_SHAPE
    print(f"\nmemory of the loss alone, {n} stimuli × {n_units:,} units, {MEMORY_PAIRS} pairs")
    print(f"{'features':26}{4e-6 * n * n_units:12.0f} MB")
    for which in ("ours", "naive"):
        command = [sys.executable, __file__, "--memory-of", which]
        extra = float(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
        print(f"{which:26}{extra:12.0f} MB beyond features and gradient")


def memory_of(which: str) -> float:
    """Megabytes at the peak of forward and backward beyond features and gradient; to be run in a fresh process."""
    n, n_units = MEMORY_SHAPE
    loss_of = our_loss if which == "ours" else naive_loss
    target, pairs = torch.rand(n * (n - 1) // 2), rdl.sample_pairs(n, MEMORY_PAIRS)
    warm_up = torch.rand(n, 64, requires_grad=True)
    loss_of(warm_up, target, pairs).backward()
    features = torch.rand(n, n_units).requires_grad_()
    features.grad = torch.ones_like(features)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    features.grad = None
    loss_of(features, target, pairs).backward()
    return (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024


def main() -> None:
    """Parse the options and print both tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--network", choices=tuple(CASES), default="mnist")
    parser.add_argument("--rounds", type=int, help="default: 30 for mnist, 10 for nin")
    parser.add_argument("--per-round", type=int, help="steps of each variant in a round; default: 4 and 2")
    parser.add_argument(
        "--precision", choices=PRECISIONS, help="default: 32-true for mnist; auto, bf16 where it is native, for nin"
    )
    parser.add_argument("--memory-of", choices=("ours", "naive"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.memory_of:
        print(memory_of(options.memory_of))
        return
    torch.manual_seed(0)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    case = CASES[options.network]
    precision = choose_precision(device, options.precision or ("auto" if options.network == "nin" else "32-true"))
    print(
        f"{options.network} on {device}, {precision}, {torch.get_num_threads()} threads, torch {torch.__version__}, "
        f"batch {case.batch}, {case.pairs} pairs"
    )
    variants = steps(case, device, precision)
    time_steps(variants, device, options.rounds or case.rounds, options.per_round or case.per_round)
    measure_memory()


if __name__ == "__main__":
    main()
