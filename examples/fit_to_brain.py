"""Fit a network to a brain region alongside its task, and score it on held-out stimuli.

    python examples/fit_to_brain.py            # seconds: digits, and a simulated brain
    python examples/fit_to_brain.py --out fit  # and leave scores and the network there

Replace the four parts marked below by your images, your RDMs, your network and your task. Leave the scoring as it is:
a pair of stimuli is scored only if both are held out.
"""

import argparse
from copy import deepcopy
from pathlib import Path

import numpy as np
import pandas as pd
import torch
import xarray as xr
from lightning_fabric import Fabric

import brainrdl as rdl
from brainrdl.data import TensorLoader, load_digits
from brainrdl.data.images import to_float
from brainrdl.inference.fold_scores import score_folds
from brainrdl.inference.held_out import Prediction, held_out_scores
from brainrdl.inference.splits import stratified_splits
from brainrdl.models import mnist_cnn

LAYER, N_PER_CLASS, N_SUBJECTS, N_UPDATES = "pool2", 6, 8, 60


def simulated_brain(images: torch.Tensor, ids: list[str], network: torch.nn.Module) -> xr.DataArray:
    """Simulate subjects whose region weights a network's channels individually and is measured with noise."""
    rng = np.random.default_rng(0)
    with torch.no_grad():
        _, features = rdl.capture(network, [LAYER], images, flatten=False)
    channels = features[LAYER].flatten(2) if features[LAYER].ndim > 2 else features[LAYER][..., None]
    gains = torch.from_numpy(rng.gamma(0.3, size=channels.shape[1])).float()[:, None]
    truth = rdl.rdm((gains * channels).flatten(1), "correlation").numpy()
    noisy = truth + rng.normal(scale=truth.std(), size=(N_SUBJECTS, len(truth)))
    subjects = [f"sub-{number:02d}" for number in range(1, N_SUBJECTS + 1)]
    return rdl.label_rdms(noisy, ids, subjects, "undeclared", {"subject": subjects, "roi": "IT"})


def main() -> None:
    """Train on the task, fit to the brain in each fold, score."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, help="a folder for scores.csv and the fitted networks")
    options = parser.parse_args()
    torch.manual_seed(0)
    fabric = Fabric(accelerator="cpu", devices=1)

    # 1. the task: batches of (image, label)
    training, validation, test = load_digits()
    task = TensorLoader(training, batch_size=50, shuffle=True, drop_last=True)
    scored_by = TensorLoader(test, batch_size=250)

    # 2. your network, trained on the task (or load your own weights)
    network = mnist_cnn(10, image_size=8)
    rdl.Trainer(network, fabric=fabric).fit(task, epochs=5)

    # 3. your stimuli: images with ids, and a category for each
    labels = validation.labels.tolist()
    chosen = [
        place for digit in range(10) for place in np.flatnonzero(np.array(labels) == digit)[:N_PER_CLASS].tolist()
    ]
    shown = validation.take(chosen)
    stimuli = rdl.StimulusSet.from_arrays(to_float(shown.images, shown.top), shown.ids)
    categories = {stimulus: shown.classes[label] for stimulus, label in zip(shown.ids, shown.labels, strict=True)}

    # 4. your RDMs, one per subject: rdl.read_rdms("rdms.nc")
    brain = simulated_brain(stimuli.batch()[0], list(shown.ids), network.eval())

    folds, errors = [], {"task_only": [], "rdl": []}
    for split in stratified_splits(categories, 3):
        target = rdl.MeasuredTeacher(rdl.select_stimuli(brain, split.training))
        rdms = []
        for arm, alpha in (("task_only", 0.0), ("rdl", 3.0)):
            student = deepcopy(network)
            term = rdl.RDLTerm(
                target, {LAYER: "IT"}, loss=rdl.RDLoss(metric="correlation"), alpha=alpha, stream="stimuli"
            )
            trainer = rdl.Trainer(
                student,
                [term],
                optimizer=lambda parameters: torch.optim.SGD(parameters, lr=0.01, momentum=0.9),
                fabric=fabric,
            )
            seen = rdl.StimulusStream(stimuli.select(split.training), norm="eval", dropout=False)
            trainer.fit(rdl.repeat(task, N_UPDATES), epochs=1, stimuli=seen, seed=0)
            errors[arm].append(trainer.evaluate(scored_by)["error"])
            rdms.append(rdl.layer_rdms(student, stimuli, [LAYER], "correlation").assign_coords(rdm=[arm]))
            if options.out and arm == "rdl":
                rdl.save_model(student, options.out / f"{split.name}.safetensors", {"fitted_to": list(split.training)})
        both = rdl.concat_rdms(rdms).assign_coords(arm=("rdm", ["task_only", "rdl"]), seed=("rdm", [0, 0]))
        predicted = Prediction(both, fitted_to=split.training)
        folds.append(held_out_scores([predicted], brain, split, categories=categories, controls=None))

    result = score_folds(folds, contrasts=[("rdl", "task_only")])
    with pd.option_context("display.width", 200, "display.max_columns", 20):
        print(result.table.round(3).to_string(index=False))
        print(result.contrasts.round(3).to_string(index=False))
    print({arm: f"{np.mean(error):.2f} % task error" for arm, error in errors.items()})
    if options.out:
        options.out.mkdir(parents=True, exist_ok=True)
        result.table.to_csv(options.out / "scores.csv", index=False)
        print(f"written: {options.out}")


if __name__ == "__main__":
    main()
