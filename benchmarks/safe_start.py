"""Safe starts of RDL in a loop of one's own: which of them a training survives, and with what accuracy.

    python benchmarks/safe_start.py             # three seeds, a minute
    python benchmarks/safe_start.py --seeds 10

Student and teacher are perceptrons (64-128-128-10) on scikit-learn's digits as they come, 0 to 16: 1,200 images to
train on in batches of 50, the other 597 to test on. The teacher is trained for 15 epochs at a learning rate of .01, the
students for 8 at .1, by gradient descent without momentum, on cross-entropy + α · rdl_loss of one layer: the first
hidden layer before its ReLU, or behind it.
"""

import argparse
import warnings
from collections.abc import Mapping

import torch
from sklearn.datasets import load_digits
from torch import nn
from torch.nn.functional import cross_entropy

import brainrdl as rdl

STARTS: Mapping[str, Mapping[str, object]] = {
    "no RDL": {"alpha": 0.0},
    "raw, α 1": {},
    "raw, α 1, clipped": {"clip": True},
    "raw, balanced α": {"balanced": True},
    "raw, balanced α, clipped": {"balanced": True, "clip": True},
    "corr, α 1": {"compare": "corr"},
    "corr, α 1, clipped": {"compare": "corr", "clip": True},
    "cosine, α 1": {"compare": "cosine"},
}


class Digits:
    """The digits, and networks that are trained on them."""

    def __init__(self) -> None:
        images, labels = load_digits(return_X_y=True)
        self.images, self.labels = torch.tensor(images, dtype=torch.float32), torch.tensor(labels)

    def train(self, network: nn.Module, seed: int, layer: str, teacher: rdl.NetworkTeacher | None, **start) -> None:
        """Train a network, toward a teacher if there is one."""
        epochs, lr, alpha = (15, 0.01, 0.0) if teacher is None else (8, 0.1, start.get("alpha", 1.0))
        loss = rdl.RDLoss(compare=start.get("compare", "mse"))
        order = torch.Generator().manual_seed(seed)
        optimizer = torch.optim.SGD(network.parameters(), lr=lr)
        for epoch in range(epochs):
            for number, rows in enumerate(torch.randperm(1200, generator=order).split(50)):
                images, labels = self.images[rows], self.labels[rows]
                if teacher is not None and epoch == number == 0 and start.get("balanced"):
                    term = rdl.RDLTerm(teacher, {layer: layer}, loss=loss)
                    alpha = rdl.balanced_alpha(1.0, term, network, images, labels)[layer]
                output, features = rdl.capture(network, [layer], images)
                error = cross_entropy(output, labels)
                if teacher is not None and alpha > 0:
                    error = error + alpha * loss(features[layer], teacher(images, None)[layer])
                optimizer.zero_grad()
                error.backward()
                if start.get("clip"):
                    nn.utils.clip_grad_norm_(network.parameters(), 1.0)
                optimizer.step()

    @torch.no_grad()
    def accuracy(self, network: nn.Module) -> float:
        """Percent correct on the test images."""
        return 100 * (network(self.images[1200:]).argmax(dim=1) == self.labels[1200:]).float().mean().item()


def perceptron(seed: int) -> nn.Sequential:
    """Make an untrained network."""
    torch.manual_seed(seed)
    parts = nn.Linear(64, 128), nn.ReLU(), nn.Linear(128, 128), nn.ReLU(), nn.Linear(128, 10)
    return nn.Sequential(*parts)


def main() -> None:
    """Parse the options, train and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=3)
    options = parser.parse_args()
    torch.set_num_threads(1)
    digits, network = Digits(), perceptron(99)
    digits.train(network, 99, "0", None)
    print(f"teacher: {digits.accuracy(network):.1f} % correct")
    teacher = rdl.NetworkTeacher(network, ["0", "1"])
    for layer, where in (("0", "before the ReLU"), ("1", "behind the ReLU")):
        print(f"layer {where}: percent correct of {options.seeds} seeds")
        for name, start in STARTS.items():
            students = [perceptron(seed) for seed in range(options.seeds)]
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # of those that die
                for seed, student in enumerate(students):
                    digits.train(student, seed, layer, teacher, **start)
            told = " ".join(f"{digits.accuracy(student):5.1f}" for student in students)
            finite = sum(bool(student[0].weight.isfinite().all()) for student in students)
            print(f"  {name:26} {told}   finite: {finite}", flush=True)


if __name__ == "__main__":
    main()
