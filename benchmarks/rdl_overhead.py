"""What RDL adds to a training step: time against a plain step, and the memory of the loss alone.

    python benchmarks/rdl_overhead.py

Table 1's network on random images, batch 100, three layers, 500 pairs, as the paper's MNIST study trains it. The four
variants take turns in one process, so that a machine whose speed drifts slows all of them; ratios are medians over
rounds of the ratio within a round. ``naive`` is the loss as one would write it first: it gathers both members of every
pair and lets autograd differentiate.
"""

import argparse
import resource
import subprocess
import sys
import time
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

import brainrdl as rdl
from brainrdl.models import mnist_cnn

LAYERS = ("pool1", "pool2", "fc")
BATCH, PAIRS = 100, 500
MEMORY_SHAPE = (128, 200_000)

Loss = Callable[[Tensor, Tensor, Tensor], Tensor]


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


def steps(device: torch.device) -> dict[str, Callable[[], None]]:
    """One training step of each variant, each with a network of its own."""
    images = torch.rand(BATCH, 1, 28, 28, device=device).contiguous(memory_format=torch.channels_last)
    labels = torch.randint(10, (BATCH,), device=device)
    teacher = rdl.NetworkTeacher(mnist_cnn().to(device, memory_format=torch.channels_last), LAYERS)
    at_hand = teacher(images)

    def step(targets: Callable[[], dict[str, Tensor]] | None, loss_of: Loss) -> Callable[[], None]:
        model = mnist_cnn().to(device, memory_format=torch.channels_last)
        optimizer = torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9)
        recorder = rdl.Recorder(model, LAYERS, flatten=False) if targets is not None else None

        def once() -> None:
            optimizer.zero_grad()
            total = cross_entropy(model(images), labels)
            if targets is not None and recorder is not None:
                wanted, features = targets(), recorder.features()
                pairs = rdl.sample_pairs(BATCH, PAIRS).to(device)
                for layer in LAYERS:
                    total = total + loss_of(features[layer], wanted[layer], pairs)
            total.backward()
            optimizer.step()
            if device.type == "cuda":
                torch.cuda.synchronize()

        return once

    return {
        "plain": step(None, our_loss),
        "RDL, targets at hand": step(lambda: at_hand, our_loss),
        "RDL, live teacher": step(lambda: teacher(images), our_loss),
        "naive, targets at hand": step(lambda: at_hand, naive_loss),
    }


def time_steps(device: torch.device, rounds: int, per_round: int) -> None:
    """Print milliseconds per step and the ratio to plain, interleaved."""
    variants = steps(device)
    for once in variants.values():
        for _ in range(per_round):
            once()
    seconds: dict[str, list[float]] = {name: [] for name in variants}
    for _ in range(rounds):
        for name, once in variants.items():
            start = time.perf_counter()
            for _ in range(per_round):
                once()
            seconds[name].append((time.perf_counter() - start) / per_round)
    plain = np.array(seconds["plain"])
    print(f"{'step':26}{'ms (median)':>12}{'over plain':>12}{'quartiles':>16}")
    for name, values in seconds.items():
        ratio = np.array(values) / plain
        low, middle, high = np.quantile(ratio, (0.25, 0.5, 0.75))
        print(f"{name:26}{1e3 * np.median(values):12.2f}{middle:12.3f}{low:9.3f} – {high:.3f}")


def measure_memory() -> None:
    """Print the peak memory of the loss alone, forward and backward, beyond features and their gradient."""
    n, n_units = MEMORY_SHAPE
    print(f"\nmemory of the loss alone, {n} stimuli × {n_units:,} units, {PAIRS} pairs")
    print(f"{'features':26}{4e-6 * n * n_units:12.0f} MB")
    for which in ("ours", "naive"):
        command = [sys.executable, __file__, "--memory-of", which]
        extra = float(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
        print(f"{which:26}{extra:12.0f} MB beyond features and gradient")


def memory_of(which: str) -> float:
    """Megabytes at the peak of forward and backward beyond features and gradient; to be run in a fresh process."""
    n, n_units = MEMORY_SHAPE
    loss_of = our_loss if which == "ours" else naive_loss
    target, pairs = torch.rand(n * (n - 1) // 2), rdl.sample_pairs(n, PAIRS)
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
    parser.add_argument("--rounds", type=int, default=30)
    parser.add_argument("--per-round", type=int, default=4)
    parser.add_argument("--memory-of", choices=("ours", "naive"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.memory_of:
        print(memory_of(options.memory_of))
        return
    torch.manual_seed(0)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    print(f"device {device}, {torch.get_num_threads()} threads, torch {torch.__version__}")
    time_steps(device, options.rounds, options.per_round)
    measure_memory()


if __name__ == "__main__":
    main()
