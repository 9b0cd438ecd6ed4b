"""A small simulated BIDS data set for tests that break it."""

import json
from pathlib import Path

import numpy as np
import pandas as pd

import brainrdl as rdl

IDS = ["face", "house", "shoe", "cat"]
RUNS = 3


def make_bids(folder: Path, **simulation) -> dict[str, str]:
    """Write one subject with three runs of four stimuli in the region IT (27 voxels); its mask."""
    points = np.random.default_rng(0).normal(size=(4, 6))
    i, j = np.triu_indices(4, 1)
    planted = rdl.label_rdms(np.square(points[i] - points[j]).mean(axis=1)[None], IDS, ["IT"], "mse")
    settings = {"runs": RUNS, "side": 3, "snr": 3.0, **simulation}
    return rdl.fmri.simulate_bids(folder, planted, simulation=rdl.fmri.Simulation(**settings))


def raw(folder: Path, subject: int = 1) -> Path:
    return folder / f"sub-{subject:02d}" / "func"


def derived(folder: Path, subject: int = 1) -> Path:
    return folder / "derivatives/simulated" / f"sub-{subject:02d}" / "func"


def image(folder: Path, run: int = 1, subject: int = 1) -> Path:
    return derived(folder, subject) / f"sub-{subject:02d}_task-sim_run-{run:02d}_space-sim_desc-preproc_bold.nii.gz"


def confounds(folder: Path, run: int = 1) -> Path:
    return derived(folder) / f"sub-01_task-sim_run-{run:02d}_desc-confounds_timeseries.tsv"


def events(folder: Path, run: int = 1) -> Path:
    return raw(folder) / f"sub-01_task-sim_run-{run:02d}_events.tsv"


def change_table(path: Path, **columns) -> None:
    """Write columns into a table; a function gets the table."""
    table = pd.read_csv(path, sep="\t")
    for name, values in columns.items():
        table[name] = values(table) if callable(values) else values
    table.to_csv(path, sep="\t", index=False, na_rep="n/a")


def facts_of_runs(rdms) -> list[dict]:
    return json.loads(rdms.attrs["provenance"])["runs"]
