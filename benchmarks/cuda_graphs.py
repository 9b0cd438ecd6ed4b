"""Time saved by recording an epoch's update as a CUDA graph: the trainer's update with it over the one without.

    python benchmarks/cuda_graphs.py
    python benchmarks/cuda_graphs.py --updates 300 --rounds 5

Random images on the device, the studies' networks, optimiser and batches; plain, RDL (500 pairs, raw distances) and
scale-free RDL (all pairs), each with a teacher of the same shape. A round is an epoch of each of the two in turn, after
one epoch that is not counted; the ratio is the median over rounds of that within a round. Without a GPU nothing is
recorded, and the ratio is 1 but for noise.
"""

import argparse
from statistics import median

import torch
from lightning_fabric import Fabric

import brainrdl as rdl
from brainrdl.data import LabelledImages, TensorLoader
from brainrdl.models import mnist_cnn, nin
from brainrdl.studies.optimizers import linear_sgd
from brainrdl.training.machine import choose_precision

CASES = {
    "mnist": (mnist_cnn, (1, 28, 28), 100, {"pool1": "pool1", "pool2": "pool2", "fc": "fc"}),
    "nin": (lambda: nin(10), (3, 32, 32), 128, {"pool1": "pool1", "pool2": "pool2", "pool3": "pool3"}),
}


def terms_of(what: str, case: str) -> list[rdl.Term]:
    """The terms beside the task loss."""
    make, _, _, layers = CASES[case]
    if what == "plain":
        return []
    loss = rdl.RDLoss() if what == "rdl" else rdl.RDLoss(metric="euclidean", compare="corr")
    teacher = rdl.NetworkTeacher(make(), list(layers), "mse" if what == "rdl" else "euclidean")
    return [rdl.RDLTerm(teacher, layers, loss=loss, n_pairs=500 if what == "rdl" else None, alpha=1e-3)]


def milliseconds(what: str, case: str, updates: int, *, cuda_graphs: bool) -> float:
    """Per update, of the second of two epochs."""
    make, shape, batch, _ = CASES[case]
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    precision = choose_precision(device) if case == "nin" else "32-true"
    n = updates * batch
    images = LabelledImages(
        torch.randint(0, 256, (n, *shape), dtype=torch.uint8),
        torch.arange(n) % 10,
        tuple(map(str, range(n))),
        tuple("0123456789"),
    ).to(device)
    trainer = rdl.Trainer(
        make().to(memory_format=torch.channels_last),
        terms_of(what, case),
        optimizer=linear_sgd(2, learning_rate=1e-3),
        fabric=Fabric(accelerator=device.type, devices=1, precision=precision),
        cuda_graphs=cuda_graphs,
    )
    history = trainer.fit(TensorLoader(images, batch_size=batch, shuffle=True), epochs=2)
    return 1e3 * float(history["seconds"].iloc[1]) / updates


def main() -> None:
    """Print a line per network and method."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--updates", type=int, default=200, help="per epoch")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--network", choices=CASES, help="one of them only")
    options = parser.parse_args()
    print(torch.cuda.get_device_name() if torch.cuda.is_available() else "no GPU: nothing is recorded")
    for case in [options.network] if options.network else CASES:
        for what in ("plain", "rdl", "rdl_corr"):
            rounds = [
                [milliseconds(what, case, options.updates, cuda_graphs=graphs) for graphs in (True, False)]
                for _ in range(options.rounds)
            ]
            with_graphs, without = (median(column) for column in zip(*rounds, strict=True))
            ratio = median(a / b for a, b in rounds)
            print(f"{case:6} {what:9} recorded {with_graphs:7.3f} ms, launched {without:7.3f} ms, ratio {ratio:.3f}")


if __name__ == "__main__":
    main()
