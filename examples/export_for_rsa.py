"""Export a network's layers as RDMs for other RSA tools.

    python examples/export_for_rsa.py IMAGES OUT        # a folder of images; OUT.nc, OUT.hdf5 and OUT.png
    python examples/export_for_rsa.py                   # short: twelve made-up images, in a temporary folder

The network is torchvision's resnet18 with random weights, so that nothing is downloaded: pass ``weights=`` the name of
a file, or of torchvision's weights, for a trained one.
"""

import argparse
import tempfile
from pathlib import Path

import torch

import brainrdl as rdl
from brainrdl.named_models import load_named_model

LAYERS = ["layer1", "layer2", "layer3", "layer4", "avgpool"]


def main() -> None:
    """Compute, write and draw the RDMs."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("images", nargs="?", type=Path)
    parser.add_argument("out", nargs="?", type=Path)
    options = parser.parse_args()

    network = load_named_model("torchvision:resnet18", untrained=True)
    if options.images is None:
        noise = torch.rand(12, 3, 64, 64, generator=torch.Generator().manual_seed(0))
        stimuli = rdl.StimulusSet.from_arrays(noise, [f"noise-{k:02d}" for k in range(12)])
    else:
        stimuli = rdl.StimulusSet.from_folder(options.images, network.transform)
    out = options.out or Path(tempfile.mkdtemp()) / "resnet18"

    rdms = rdl.layer_rdms(network.model, stimuli, LAYERS, "correlation")
    rdl.write_rdms(rdms, out.with_suffix(".nc"))
    rdl.write_rdms(rdms, out.with_suffix(".hdf5"))
    rdl.plot_rdms(rdms, images=stimuli).savefig(out.with_suffix(".png"), dpi=200)
    print(rdms.coords)
    print(f"written: {out}.nc, {out}.hdf5, {out}.png")


if __name__ == "__main__":
    main()
