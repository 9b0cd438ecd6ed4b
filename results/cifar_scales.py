"""How long a network's distances are beside its teacher's, layer by layer, in the CIFAR-100 study.

    python results/cifar_scales.py results/cifar100/32-epochs
    python results/cifar_scales.py results/cifar100/32-epochs --data-dir DIR

Printed: mean squared distance a unit (``mse``) between the study's 100 test images, over the teacher's. With the data
also that of an untrained student: the first seed's initial weights, in training mode as in its first update, where the
others are in eval mode.
"""

import argparse
from pathlib import Path

import torch
import xarray as xr

import brainrdl as rdl
from brainrdl.data import load_cifar, normalize_contrast
from brainrdl.models import nin
from brainrdl.studies.paper.training import initialised

LAYERS = ("pool1", "pool2", "pool3")
UNITS = {"pool1": 96 * 16**2, "pool2": 192 * 8**2, "pool3": 100}  # a student's; the teacher's pool3 has 10


def main() -> None:
    """Print a line per network."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="of a CIFAR-100 study")
    parser.add_argument("--data-dir", type=Path, help="folder with CIFAR-100")
    options = parser.parse_args()
    rdms = xr.load_dataset(options.folder / "rdms.nc").astype(float)
    n = rdms.sizes["stimulus"]
    distances = {}
    for k, (model, layer) in enumerate(zip(rdms["model"].values, rdms["layer"].values, strict=True)):
        if layer in LAYERS:
            units = 10 if model.startswith("teacher") and layer == "pool3" else UNITS[layer]
            distances[model, layer] = float((rdms["dissimilarity"][k] ** 2).sum()) / (n * (n - 1)) / units
    if options.data_dir is not None:
        _, test = load_cifar(100, options.data_dir)
        images = normalize_contrast(test.take([test.ids.index(i) for i in rdms["stimulus"].values]).images)
        student = initialised(lambda: nin(100, readout=100), 0).train()
        torch.manual_seed(0)  # dropout
        with torch.no_grad():
            features = rdl.capture(student, list(LAYERS), images)[1]
        distances |= {("untrained", layer): float(rdl.rdm(features[layer], "mse").mean()) for layer in LAYERS}
    teacher = next(model for model, _ in distances if model.startswith("teacher"))
    for model in dict.fromkeys(model for model, _ in distances):
        ratios = (distances[model, layer] / distances[teacher, layer] for layer in LAYERS)
        print(f"{model:20}", *(f"{layer} {ratio:8.2f}" for layer, ratio in zip(LAYERS, ratios, strict=True)))


if __name__ == "__main__":
    main()
