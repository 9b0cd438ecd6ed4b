"""From scans to a teacher: simulated fMRI data, their crossnobis RDM, and a network trained on its geometry.

    python examples/fmri_teacher.py

The ground-truth RDM of the simulation is known, so its recovery can be measured. For real data the middle step is the
same; with nilearn's own fetcher, which downloads scans and masks without BIDS names:

    from nilearn.datasets import fetch_haxby
    haxby = fetch_haxby(subjects=[2])
    labels = pandas.read_csv(haxby.session_target[0], sep=" ")     # label and run ("chunks") of every scan
    # cut haxby.func[0] into its 12 runs (nilearn.image.index_img) and the labels into events (onset, duration,
    # trial_type, from 2.5 s per scan), then
    fit = rdl.fmri.fit_patterns(runs, events, haxby.mask_vt[0], t_r=2.5)
    rdms = rdl.fmri.crossnobis(fit["patterns"].rename("VT"), rdl.fmri.fit_precision(fit))  # the RDM's label is VT
"""

import argparse
import tempfile
from pathlib import Path

import numpy as np
import torch
from torch import nn

import brainrdl as rdl


def plant(n_categories: int, per_category: int) -> tuple[list[str], np.ndarray]:
    """Stimulus ids, and a condensed RDM of categories with differences within."""
    rng = np.random.default_rng(0)
    centres = np.repeat(rng.normal(0, 1.5, (n_categories, 10)), per_category, axis=0)
    points = centres + rng.normal(0, 0.5, centres.shape)
    i, j = np.triu_indices(len(points), 1)
    return [f"object-{k:02d}" for k in range(len(points))], np.square(points[i] - points[j]).mean(axis=1)


def likeness(student: nn.Module, images: torch.Tensor, planted: np.ndarray) -> float:
    """Pearson correlation of the student's RDM with the planted one."""
    with torch.no_grad():
        _, features = rdl.capture(student, ["3"], images)
    return float(np.corrcoef(rdl.rdm(features["3"]).numpy(), planted)[0, 1])


def main(arguments: list[str] | None = None) -> dict[str, float]:
    """Simulate, analyse, teach; return the correlations with the planted RDM."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, help="where the data set and the RDMs are left (default: nowhere)")
    parser.add_argument("--runs", type=int, default=6)
    parser.add_argument("--categories", type=int, default=4)
    parser.add_argument("--per-category", type=int, default=4)
    parser.add_argument("--epochs", type=int, default=300)
    options = parser.parse_args(arguments)
    out = options.out or Path(tempfile.mkdtemp(prefix="fmri-teacher-"))

    ids, planted = plant(options.categories, options.per_category)
    truth = rdl.label_rdms(planted[None], ids, ["IT"], "mse")
    masks = rdl.fmri.simulate_bids(
        out / "bids", truth, simulation=rdl.fmri.Simulation(subjects=1, runs=options.runs, repeats=1)
    )
    # the command line does the same: brainrdl rdms fmri OUT/bids --task sim --roi IT=MASK -o OUT/rdms.nc
    measured = rdl.select_stimuli(rdl.fmri.rdms_from_bids(out / "bids", "sim", masks), ids)
    rdl.write_rdms(measured, out / "rdms.nc")

    torch.manual_seed(0)
    images = torch.rand(len(ids), 3, 8, 8)
    student = nn.Sequential(nn.Flatten(), nn.Linear(192, 128), nn.ReLU(), nn.Linear(128, 64), nn.ReLU())
    before = likeness(student, images, planted)
    term = rdl.RDLTerm(rdl.MeasuredTeacher(measured), {"3": "IT"}, stream="stimuli")
    rdl.Trainer(student, [term], optimizer=lambda parameters: torch.optim.Adam(parameters, lr=1e-3)).fit(
        None, stimuli=rdl.StimulusSet.from_arrays(images, ids), epochs=options.epochs
    )
    found = {
        "measured RDM": float(np.corrcoef(rdl.to_condensed(torch.from_numpy(measured.values[0])), planted)[0, 1]),
        "student before": before,
        "student after": likeness(student, images, planted),
    }
    for name, r in found.items():
        print(f"{name:16} r = {r:.2f} with the planted RDM")
    return found


if __name__ == "__main__":
    main()
