"""All 20 convolutions of resnet18 over many images: peak memory beyond the model's own, and time.

    python benchmarks/layer_rdms.py --out layer_rdms.json          # 2,000 images of 224 × 224; 20 GB of disk, minutes
    python benchmarks/layer_rdms.py --images 100

The widest layer's answers to 2,000 images are 6.4 GB. "The model's own" is the peak of a plain forward pass of one
batch.
``--no-disk`` has the model run again for each share of the units, as where there is no room for a temporary file.
Peaks are the kernel's (``VmHWM``, set back before the run; Linux only), ``ru_maxrss`` beside them.
"""

import argparse
import json
import time
from pathlib import Path
from resource import RUSAGE_SELF, getrusage

import torch
from torch import nn
from torchvision.models import resnet18

import brainrdl as rdl
from brainrdl.rdms import layers as export


class Noise(torch.utils.data.Dataset[torch.Tensor]):
    """Random images made when asked for, so that they take no memory."""

    def __init__(self, n: int, size: int) -> None:
        self.n, self.size = n, size

    def __len__(self) -> int:
        return self.n

    def __getitem__(self, position: int) -> torch.Tensor:
        return torch.randn(3, self.size, self.size, generator=torch.Generator().manual_seed(position))


def resident(which: str) -> float:
    """Megabytes of this process in memory: ``VmRSS`` now, ``VmHWM`` at most."""
    (line,) = [line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith(which)]
    return int(line.split()[1]) / 1024


def reset_peak() -> None:
    """Set ``VmHWM`` to what is resident now."""
    Path("/proc/self/clear_refs").write_text("5")


def main() -> None:
    """Parse the options, run, print and keep the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=2000)
    parser.add_argument("--size", type=int, default=224)
    parser.add_argument("--metric", default="correlation")
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--max-memory", type=int, default=export.MAX_MEMORY, help="bytes")
    parser.add_argument("--no-disk", action="store_true")
    parser.add_argument("--out", type=Path, help="JSON file for the figures")
    options = parser.parse_args()
    if options.no_disk:
        export.disk_room = lambda: 0
    torch.manual_seed(0)
    model = resnet18().eval()
    layers = [name for name, module in model.named_modules() if isinstance(module, nn.Conv2d)]
    noise = Noise(options.images, options.size)
    stimuli = rdl.StimulusSet.from_dataset(noise, [f"noise-{k:04d}" for k in range(options.images)])
    batch, _ = stimuli.batch(range(options.batch_size))
    before = resident("VmRSS")
    reset_peak()
    with torch.no_grad():
        model(batch)
    del batch
    forward = resident("VmHWM") - before
    reset_peak()
    start = time.perf_counter()
    rdms = rdl.layer_rdms(
        model, stimuli, layers, options.metric, batch_size=options.batch_size, max_memory=options.max_memory
    )
    figures = {
        "images": options.images,
        "size": options.size,
        "layers": len(layers),
        "metric": options.metric,
        "batch_size": options.batch_size,
        "max_memory_mb": options.max_memory / 2**20,
        "disk": not options.no_disk,
        "seconds": time.perf_counter() - start,
        "forward_peak_mb": forward,
        "peak_mb": resident("VmHWM") - before,
        "peak_beyond_forward_mb": resident("VmHWM") - before - forward,
        "result_mb": rdms.nbytes / 2**20,
        "ru_maxrss_mb": getrusage(RUSAGE_SELF).ru_maxrss / 1024,
        "torch_threads": torch.get_num_threads(),
        "torch": torch.__version__,
    }
    for name, value in figures.items():
        print(f"{name:24} {value:,.1f}" if isinstance(value, float) else f"{name:24} {value}")
    if options.out:
        options.out.write_text(json.dumps(figures, indent=1) + "\n")


if __name__ == "__main__":
    main()
