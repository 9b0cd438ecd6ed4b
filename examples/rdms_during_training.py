"""Draw students' RDMs as they approach their teachers': one student is trained on a network, another on human IT.

    python examples/rdms_during_training.py --data-dir DIR   # writes docs/rdms-during-training.png, in half a minute
    python examples/rdms_during_training.py --short          # seconds: few updates, and without data no brain

Top: a network is trained on digits and on the distances of a previously trained network, and shown for 100 digits that
neither was trained on. Bottom: a network is trained on human IT alone (Kriegeskorte et al. 2008), and shown for the 92
images that it was trained on: `brainrdl fit` measures how well such a fit generalises to other images.
"""

import argparse
import os
from collections.abc import Iterable, Sequence
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
import torch
import xarray as xr
from matplotlib.figure import Figure
from scipy.stats import rankdata

import brainrdl as rdl
from brainrdl.data import TensorLoader, load_digits
from brainrdl.data.images import to_float
from brainrdl.data.objects92 import load_objects92, load_objects92_images
from brainrdl.models import cifar_cnn, mnist_cnn

LOSS = rdl.RDLoss(metric="correlation", compare="corr")


def from_a_network(epochs: Sequence[int]) -> tuple[dict[int, xr.DataArray], xr.DataArray]:
    """RDMs of a student of digits after some epochs, and its teacher's."""
    training, _, test = load_digits()
    loader = TensorLoader(training, batch_size=50, shuffle=True)
    labels = test.labels.numpy()
    shown = test.take([place for digit in range(10) for place in np.flatnonzero(labels == digit)[:10].tolist()])
    stimuli = rdl.StimulusSet.from_arrays(to_float(shown.images, shown.top), shown.ids)

    teacher, student = mnist_cnn(image_size=8), mnist_cnn(image_size=8)
    rdl.Trainer(teacher).fit(loader, epochs=8)
    term = rdl.RDLTerm(rdl.NetworkTeacher(teacher, ["pool2"]), {"pool2": "pool2"}, loss=LOSS, alpha=rdl.constant(3.0))
    seen = watched(student, term, loader, epochs, shown=stimuli)
    return seen, rdl.layer_rdms(teacher, stimuli, ["pool2"], "correlation")


def from_human_it(epochs: Sequence[int], data_dir: Path) -> tuple[dict[int, xr.DataArray], xr.DataArray]:
    """RDMs, after some epochs of one update each, of a student without a task, and the mean IT RDM of four subjects."""
    brain = rdl.average_rdms(load_objects92("human", data_dir), normalize="zscore").assign_coords(roi=("rdm", ["IT"]))
    images, ids = load_objects92_images(data_dir).batch()
    small = torch.nn.functional.interpolate(images / 255, size=32, mode="bilinear", antialias=True)
    stimuli = rdl.StimulusSet.from_arrays(small, ids)

    term = rdl.RDLTerm(rdl.MeasuredTeacher(brain), {"pool3": "IT"}, loss=LOSS, stream="stimuli")
    return watched(cifar_cnn(width=16), term, None, epochs, shown=stimuli, stimuli=stimuli), brain


def watched(
    student: torch.nn.Module,
    term: rdl.RDLTerm,
    loader: Iterable[Any] | None,
    epochs: Sequence[int],
    *,
    shown: rdl.StimulusSet,
    stimuli: rdl.StimulusSet | None = None,
) -> dict[int, xr.DataArray]:
    """Fit a student, and keep its layer's RDM of what is `shown` after each of some epochs, of which 0 is the first."""
    (layer,) = term.layers
    seen = {0: rdl.layer_rdms(student, shown, [layer], "correlation")}
    epoch = count(1)

    def look(network: torch.nn.Module) -> dict[str, float]:
        now = next(epoch)
        if now in epochs:
            seen[now] = rdl.layer_rdms(network, shown, [layer], "correlation")
        return {}

    rdl.Trainer(student, [term]).fit(loader, epochs=max(epochs), stimuli=stimuli, validation=look)
    return seen


def draw(rows: dict[str, tuple[dict[int, xr.DataArray], xr.DataArray]]) -> Figure:
    """A row of RDMs for each student, in percentiles of their distances, its teacher's at the right."""
    columns = max(len(seen) for seen, _ in rows.values())
    figure = Figure(figsize=(1.35 * columns + 1.9, 1.75 * len(rows)), layout="constrained")
    # an empty column parts the teachers from their students
    axes = figure.subplots(len(rows), columns + 2, squeeze=False, width_ratios=[*[1] * columns, 0.12, 1])
    for (*panels, gap, last), (name, (seen, target)) in zip(axes, rows.items(), strict=True):
        for ax, (epoch, rdms) in zip(panels, seen.items(), strict=True):
            r = f"{rdl.compare_rdms(rdms, target).item():.2f}".lstrip("0")
            draw_rdm(ax, rdms, f"{f'epoch {epoch}' if epoch else 'untrained'}\nr = {r}")
        gap.set_axis_off()
        draw_rdm(last, target, f"its teacher:\n{name}")
    return figure


def draw_rdm(ax: Any, rdms: xr.DataArray, title: str) -> None:
    """One RDM, each distance as its percentile: RDMs of different scales look alike where their order is the same."""
    square = rdms.values[0]
    off = ~np.eye(len(square), dtype=bool)
    percentiles = np.zeros_like(square)
    percentiles[off] = rankdata(square[off]) / off.sum()
    ax.imshow(percentiles, cmap="viridis", interpolation="nearest")
    ax.set_title(title, fontsize=8)
    ax.set_xticks([])
    ax.set_yticks([])


def main() -> None:
    """Fit both students, and draw."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data-dir", type=Path, default=os.environ.get("BRAINRDL_DATA"), help="holds kriegeskorte92/")
    parser.add_argument("--out", type=Path, default=Path("docs", "rdms-during-training.png"))
    parser.add_argument("--short", action="store_true", help="few updates, to see that it runs")
    options = parser.parse_args()
    torch.manual_seed(0)
    torch.set_num_threads(1)
    rows = {"a network": from_a_network([0, 1, 2] if options.short else [0, 1, 2, 4, 8])}
    if options.data_dir:
        rows["human IT"] = from_human_it([0, 1, 2] if options.short else [0, 20, 30, 40, 60], options.data_dir)
    elif not options.short:
        parser.error("--data-dir is needed, the folder with the 92 images and their RDMs: see datasets/kriegeskorte92")
    options.out.parent.mkdir(parents=True, exist_ok=True)
    draw(rows).savefig(options.out, dpi=150)
    print(f"written: {options.out}")


if __name__ == "__main__":
    main()
