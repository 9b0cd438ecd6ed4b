"""A small study as a user would have it on disk: images, a table of categories, measured RDMs, controls; digits."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from PIL import Image

import brainrdl as rdl

CATEGORIES = {
    "flat": ("disc", "leaf", "map", "tile", "tray", "wafer"),
    "long": ("bow", "cane", "mast", "oar", "pole", "rod"),
    "round": ("bowl", "cup", "dish", "jar", "pan", "pot"),
}
N = 18
ARMS = ("size", "hue", "mixture", "untrained", "task_only", "frrsa")
TRAINED = ("rdl", "rdl_category", "rdl_within_shuffle", "rdl_global_shuffle", "rdl_early_visual")


def write_study(folder: Path) -> dict[str, Any]:
    """Write the data, two studies of three people among them, and say what the study's file would."""
    rng = np.random.default_rng(0)
    category_of = {name: category for category, names in CATEGORIES.items() for name in names}
    (folder / "images").mkdir()
    for number, (name, category) in enumerate(category_of.items()):
        image = rng.integers(0, 80, (16, 16, 3), dtype=np.uint8)
        image[4:12, 6:10] += {"flat": 10, "long": 130, "round": 60}[category]
        image[number % 12 : number % 12 + 3] += 40
        Image.fromarray(image).save(folder / "images" / f"{name}.png")
    ids = sorted(category_of)
    pd.DataFrame({"stimulus": list(category_of), "category": list(category_of.values())}).to_csv(
        folder / "categories.csv", index=False
    )
    codes = np.array([category_of[name] for name in ids])
    n_pairs = N * (N - 1) // 2
    truth = (codes[:, None] != codes)[np.triu_indices(N, 1)] + rng.random(n_pairs)
    for name in ("one", "two"):
        subjects = [f"{name}-{number}" for number in range(3)]
        noisy = (truth + 0.5 * rng.random((3, n_pairs))) / 2
        rdms = rdl.label_rdms(noisy, ids, subjects, "correlation", {"subject": subjects, "roi": "IT"})
        rdl.write_rdms(rdms, folder / f"{name}.nc")
    for name in ("size", "hue"):
        control = rdl.label_rdms(rng.random((1, n_pairs)), ids, [name], "undeclared")
        rdl.write_rdms(control, folder / f"{name}.nc")
    return {
        "name": "small",
        "title": "A small study",
        "seeds": 2,
        "stimuli": str(folder / "images"),
        "categories": str(folder / "categories.csv"),
        "studies": {
            "one": {"rdms": str(folder / "one.nc"), "roi": "IT"},
            "two": {"rdms": str(folder / "two.nc"), "roi": "IT"},
        },
        "fit_to": ["one"],
        "early_visual": {"rdms": str(folder / "two.nc"), "roi": "IT"},
        "controls": {"size": str(folder / "size.nc"), "hue": str(folder / "hue.nc")},
        "task": {"data": "digits", "epochs": 1, "batch_size": 50, "validation": 100},
        "student": {"model": "small_student:make", "image_size": 8},
        "fit": {"layers": ["pool1", "pool2"], "alphas": [0.5, 2.0], "updates": [2, 4], "task_batch": 10},
        "arms": [*ARMS, *TRAINED],
        "schemes": {"stratified": 2, "leave_one_category_out": True, "random": 2, "inner": 2},
        "primary": {"arm": "rdl", "against": "task_only", "fitted": "one", "scored": "two"},
        "resamples": 100,
    }
