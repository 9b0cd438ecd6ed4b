"""fMRI against rsatoolbox, in one run: noise precision, crossnobis and searchlight, with the same numbers.

    python benchmarks/fmri.py
    python benchmarks/fmri.py --stimuli 50 --voxels 500 --centres 1000     # in seconds
    python benchmarks/fmri.py --only crossnobis                            # or precision, or searchlight

Both sides take turns in one process; ratios are medians over rounds of the ratio within a round. The searchlight reads
its data from a NIfTI file on both sides, and is run in processes of their own, so that peak memory is each one's.
"""

import argparse
import json
import re
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
from rsatoolbox.data import Dataset
from rsatoolbox.data.noise import prec_from_residuals
from rsatoolbox.rdm import calc_rdm
from rsatoolbox.util.searchlight import get_searchlight_RDMs, get_volume_searchlight
from scipy.ndimage import gaussian_filter1d

import brainrdl as rdl
from brainrdl.fmri.masks import mask_voxels, read_voxels
from brainrdl.rdms.labelled import condense

CONDITIONS, RADIUS = 20, 3.05  # voxels; a whole sphere holds 123, and those at the edge fewer


def race(
    name: str, theirs: Callable[[], Any], ours: Callable[[], Any], rounds: int, to_array: Callable[[Any], Any]
) -> None:
    """Print seconds of both, the ratio, and by how much the results differ."""
    seconds: dict[str, list[float]] = {"theirs": [], "ours": []}
    results = {}
    for _ in range(rounds):
        for side, compute in (("theirs", theirs), ("ours", ours)):
            start = time.perf_counter()
            results[side] = compute()
            seconds[side].append(time.perf_counter() - start)
    ratio = np.median(np.array(seconds["theirs"]) / np.array(seconds["ours"]))
    a, b = np.asarray(results["theirs"]), np.asarray(to_array(results["ours"]))
    difference = np.abs(a - b).max() / np.abs(a).max()
    print(
        f"{name:44}{np.median(seconds['theirs']):11.3f}{np.median(seconds['ours']):9.3f}{ratio:8.1f}{difference:12.1e}"
    )


def noise(options: argparse.Namespace) -> tuple[list[np.ndarray], int]:
    """Residuals of each run, and the degrees of freedom of all."""
    rng = np.random.default_rng(0)
    R, n, V = options.runs, options.stimuli, options.voxels
    residuals = [gaussian_filter1d(rng.normal(size=(options.scans, V)), 1.0, axis=1) for _ in range(R)]
    return residuals, R * (options.scans - n - 10)


def precisions(options: argparse.Namespace) -> None:
    """Precision of the noise, from residuals."""
    residuals, dof = noise(options)
    pooled = np.concatenate(residuals)
    for method in ("shrinkage_diag", "shrinkage_eye"):
        race(
            f"precision, {method}, {len(pooled)} scans",
            lambda method=method: prec_from_residuals(pooled, dof, method),
            lambda method=method: rdl.fmri.noise_precision(pooled, dof, method=method),
            1,  # minutes on their side
            lambda found: found,
        )


def distances(options: argparse.Namespace) -> None:
    """Crossnobis of patterns, with one precision, one per run, and none."""
    residuals, dof = noise(options)
    R, n, V = options.runs, options.stimuli, options.voxels
    values = np.random.default_rng(1).normal(size=(R * n, V))
    names, runs = np.tile([f"s{k:04d}" for k in range(n)], R), np.repeat(np.arange(R), n)
    data = Dataset(values, obs_descriptors={"stimulus": names, "run": runs})
    patterns = rdl.fmri.make_patterns(values, names, runs)
    one = rdl.fmri.noise_precision(np.concatenate(residuals), dof)
    several = {run: rdl.fmri.noise_precision(part, dof // R) for run, part in enumerate(residuals)}
    # patterns that are whitened already, as SPM's or GLMsingle's may be, need no precision
    for name, given, rounds in (
        ("one precision", one, options.rounds),
        ("precision per run", several, 1),
        ("no precision", None, options.rounds),
    ):
        theirs = list(given.values()) if isinstance(given, dict) else given
        race(
            f"crossnobis, {name}",
            lambda theirs=theirs: (
                calc_rdm(data, "crossnobis", descriptor="stimulus", cv_descriptor="run", noise=theirs).dissimilarities
            ),
            lambda given=given: rdl.fmri.crossnobis(patterns, given),
            rounds,
            condense,
        )


def searchlight(side: str, folder: Path) -> dict[str, Any]:
    """Read the data, and compute all correlation RDMs with one library; to be run in a fresh process."""
    start = time.perf_counter()
    mask = nibabel.load(folder / "mask.nii")
    if side == "ours":
        voxels = mask_voxels(mask, mask)
        values = read_voxels(folder / "betas.nii", voxels)
        names = [f"s{k:02d}" for k in range(CONDITIONS)]
        patterns = rdl.fmri.make_patterns(values, names, [1] * CONDITIONS, voxels=voxels)
        found = rdl.fmri.searchlight_rdms(patterns, mask, radius=RADIUS, metric="correlation")
        rdms, sizes = condense(found.isel(rdm=slice(0, 200))), found["n_voxels"].values
        count = found.sizes["rdm"]
    else:
        data = nibabel.load(folder / "betas.nii").get_fdata().reshape(-1, CONDITIONS).T
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            where, neighbours = get_volume_searchlight(mask.get_fdata(), radius=RADIUS, threshold=0.0)
            found = get_searchlight_RDMs(data, where, neighbours, np.arange(CONDITIONS), method="correlation")
        rdms, sizes, count = found.dissimilarities[:200], np.array([len(one) for one in neighbours]), len(where)
    seconds = time.perf_counter() - start
    np.save(folder / f"{side}.npy", rdms)
    # not ru_maxrss, which a child inherits from the process that started it
    peak = int(re.search(r"VmHWM:\s+(\d+)", Path("/proc/self/status").read_text()).group(1)) / 1024
    return {"seconds": seconds, "peak": peak, "centres": int(count), "voxels": float(np.mean(sizes))}


def searchlights(centres: int, rounds: int) -> None:
    """Both searchlights on one file."""
    side = round(centres ** (1 / 3))
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        rng = np.random.default_rng(0)
        image = nibabel.Nifti1Image(rng.normal(size=(side, side, side, CONDITIONS)).astype(np.float32), np.eye(4))
        nibabel.save(image, folder / "betas.nii")
        nibabel.save(nibabel.Nifti1Image(np.ones((side, side, side), dtype=np.uint8), np.eye(4)), folder / "mask.nii")
        found, ratios = {}, []
        for _ in range(rounds):
            for which in ("theirs", "ours"):
                command = [sys.executable, __file__, "--searchlight-of", which, "--folder", name]
                last = subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines()[-1]
                found[which] = json.loads(last)
            ratios.append(found["theirs"]["seconds"] / found["ours"]["seconds"])
        difference = np.abs(np.load(folder / "theirs.npy") - np.load(folder / "ours.npy")).max()
    ours, theirs = found["ours"], found["theirs"]
    print(
        f"{'searchlight, ' + str(ours['centres']) + ' centres of ' + format(ours['voxels'], '.0f'):44}"
        f"{theirs['seconds']:11.3f}{ours['seconds']:9.3f}{np.median(ratios):8.1f}{difference:12.1e}"
    )
    print(f"peak memory: theirs {theirs['peak']:.0f} MB, ours {ours['peak']:.0f} MB")


def main() -> None:
    """Parse the options and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=8)
    parser.add_argument("--stimuli", type=int, default=200)
    parser.add_argument("--voxels", type=int, default=2000)
    parser.add_argument("--scans", type=int, default=300, help="per run")
    parser.add_argument("--centres", type=int, default=10_000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--only", choices=("precision", "crossnobis", "searchlight"), help="just these lines")
    parser.add_argument("--searchlight-of", choices=("ours", "theirs"), help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.searchlight_of:
        print(json.dumps(searchlight(options.searchlight_of, options.folder)))
        return
    print(f"{options.runs} runs × {options.stimuli} stimuli × {options.voxels} voxels")
    print(f"{'seconds':44}{'rsatoolbox':>11}{'brainrdl':>9}{'ratio':>8}{'difference':>12}")
    if options.only in (None, "precision"):
        precisions(options)
    if options.only in (None, "crossnobis"):
        distances(options)
    if options.only in (None, "searchlight"):
        searchlights(options.centres, options.rounds)


if __name__ == "__main__":
    main()
