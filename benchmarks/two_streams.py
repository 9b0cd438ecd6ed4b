"""Cost of the second stream: an update on task and stimulus batch, over its two forward–backward passes alone.

    python benchmarks/two_streams.py
    python benchmarks/two_streams.py --network resnet18

Random images: a task batch, and the 92 stimuli of a brain study with a measured RDM on one layer. Three things take
turns within a round, so that a machine whose speed drifts slows all of them: the trainer's update on both streams; a
plain update on the task batch, written by hand (forward, cross-entropy, backward, optimiser); a plain forward and
backward pass on the stimuli (as far as the layer that is taught, with the sum of its squares as the loss, without an
update). The ratio is that of the first over the sum of the other two, the median over rounds of the ratio within a
round. Everything that the trainer does is on the first one's account: drawing the batches, the RDM loss, the check that
values and gradients are finite, the swap of random states.
"""

import argparse
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
import torchvision
from lightning_fabric import Fabric
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

import brainrdl as rdl
from brainrdl.models import mnist_cnn, nin

N_STIMULI = 92


@dataclass(frozen=True)
class Case:
    """A network, its images and the layer that the brain teaches."""

    student: Callable[[], nn.Module]
    layer: str
    image: tuple[int, int, int]
    batch: int
    n_classes: int = 10
    metric: str = "correlation"


CASES = {
    "mnist": Case(mnist_cnn, "fc", (1, 28, 28), 100),
    "nin": Case(partial(nin, 10), "pool2", (3, 32, 32), 128),
    "resnet18": Case(partial(torchvision.models.resnet18, num_classes=10), "layer4", (3, 64, 64), 64),
}


def optimizer_of(parameters: Iterable[nn.Parameter]) -> torch.optim.Optimizer:
    """The same for the trainer's update and the plain one."""
    return torch.optim.SGD(parameters, lr=1e-3, momentum=0.9)


def update_of_both(case: Case, images: Tensor, labels: Tensor, device: torch.device) -> Callable[[int], float]:
    """The trainer's updates; seconds per update, its set-up left out."""
    ids = [f"stimulus-{k}" for k in range(N_STIMULI)]
    values = np.random.default_rng(0).uniform(0.1, 2, (1, N_STIMULI * (N_STIMULI - 1) // 2))
    brain = rdl.MeasuredTeacher(rdl.label_rdms(values, ids, ["IT"], case.metric))
    stimuli = rdl.StimulusSet.from_arrays(torch.rand(N_STIMULI, *case.image), ids)
    fabric = Fabric(accelerator=device.type, devices=1)
    term = rdl.RDLTerm(brain, {case.layer: "IT"}, stream="stimuli", alpha=0.1)
    trainer = rdl.Trainer(case.student(), [term], optimizer=optimizer_of, fabric=fabric)

    def block(steps: int) -> float:
        history = trainer.fit([(images, labels)] * steps, epochs=1, stimuli=stimuli, log_every=steps)
        return float(history["seconds"].iloc[0]) / steps

    return block


def plain_task(case: Case, images: Tensor, labels: Tensor, device: torch.device) -> Callable[[int], float]:
    """A plain update on the task batch."""
    model = case.student().to(device).train()
    optimizer = optimizer_of(model.parameters())

    def once() -> None:
        optimizer.zero_grad()
        cross_entropy(model(images.to(device)), labels.to(device)).backward()
        optimizer.step()

    return partial(timed, once, device)


def plain_stimuli(case: Case, device: torch.device) -> Callable[[int], float]:
    """A plain forward and backward pass on the stimuli: the whole network forward, as the trainer does, and back."""
    model = case.student().to(device).train()
    images = torch.rand(N_STIMULI, *case.image)
    recorder = rdl.Recorder(model, [case.layer], flatten=False)

    def once() -> None:
        model.zero_grad()
        model(images.to(device))
        recorder.features()[case.layer].square().sum().backward()

    return partial(timed, once, device)


def timed(once: Callable[[], None], device: torch.device, steps: int) -> float:
    """Seconds per step."""
    start = time.perf_counter()
    for _ in range(steps):
        once()
    if device.type == "cuda":
        torch.cuda.synchronize()
    return (time.perf_counter() - start) / steps


def main() -> None:
    """Parse the options and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--network", choices=tuple(CASES), default="nin")
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--per-round", type=int, default=2, help="updates of each in a round")
    options = parser.parse_args()
    torch.manual_seed(0)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    case = CASES[options.network]
    images, labels = torch.rand(case.batch, *case.image), torch.randint(case.n_classes, (case.batch,))
    print(
        f"{options.network} on {device}, {torch.get_num_threads()} thread(s), torch {torch.__version__}, task batch "
        f"{case.batch}, {N_STIMULI} stimuli, layer {case.layer}"
    )
    blocks = {
        "both streams, trainer": update_of_both(case, images, labels, device),
        "task alone, plain": plain_task(case, images, labels, device),
        "stimuli alone, plain": plain_stimuli(case, device),
    }
    for block in blocks.values():
        block(1)
    seconds = np.array([[block(options.per_round) for block in blocks.values()] for _ in range(options.rounds)])
    for name, value in zip(blocks, np.median(seconds, axis=0), strict=True):
        print(f"{name:24}{1e3 * value:10.2f} ms (median)")
    ratio = seconds[:, 0] / seconds[:, 1:].sum(axis=1)
    low, middle, high = np.quantile(ratio, (0.25, 0.5, 0.75))
    print(f"ratio to the plain sum  {middle:10.3f}    (quartiles {low:.3f} – {high:.3f})")


if __name__ == "__main__":
    main()
