"""One RDM of n stimuli × 4,096 units: time and peak memory beside rsatoolbox, SciPy and torch.

    python benchmarks/rdm_compute.py                      # n = 100, 1,000, 2,000, 5,000; SciPy takes minutes at the end
    python benchmarks/rdm_compute.py --n 100 1000

All in float64 on the CPU, from the same patterns. The methods take turns, and ratios are medians over rounds of the
ratio within a round, so that a machine whose speed drifts slows all of them; those that take long have fewer rounds.
Peak memory is what a fresh process holds
beyond the patterns (Linux only). ``torch.pdist`` knows no correlation distance: it is
given patterns that were centred and normalised, whose squared distances are 2 − 2 r, and that is timed with it.
"""

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from rsatoolbox.data import Dataset
from rsatoolbox.rdm import calc_rdm
from scipy.spatial.distance import pdist

import brainrdl as rdl

UNITS = 4096
METRICS = ("mse", "correlation")


def ours(x: np.ndarray, metric: str) -> np.ndarray:
    """`brainrdl.rdm`."""
    return rdl.rdm(torch.from_numpy(x), metric).numpy()


def rsatoolbox(x: np.ndarray, metric: str) -> np.ndarray:
    """Its `calc_rdm`, whose ``euclidean`` is the mean squared difference."""
    return calc_rdm(Dataset(x), method={"mse": "euclidean"}.get(metric, metric)).dissimilarities[0]


def scipy(x: np.ndarray, metric: str) -> np.ndarray:
    """`pdist`."""
    return pdist(x, "sqeuclidean") / x.shape[1] if metric == "mse" else pdist(x, metric)


def torch_pdist(x: np.ndarray, metric: str) -> np.ndarray:
    """`torch.pdist`, squared."""
    patterns = torch.from_numpy(x)
    if metric == "correlation":
        patterns = patterns - patterns.mean(dim=1, keepdim=True)
        patterns /= patterns.norm(dim=1, keepdim=True)
    return (torch.pdist(patterns).square_() / (x.shape[1] if metric == "mse" else 2)).numpy()


METHODS: dict[str, Callable[[np.ndarray, str], np.ndarray]] = {
    "brainrdl": ours,
    "rsatoolbox": rsatoolbox,
    "SciPy pdist": scipy,
    "torch.pdist": torch_pdist,
}


def patterns(n: int) -> np.ndarray:
    """Random patterns, the same every time."""
    return np.random.default_rng(0).standard_normal((n, UNITS))


def time_methods(n: int, metric: str, budget: float) -> dict[str, dict[str, float]]:
    """Median seconds, and ratio to ours, of each method; about `budget` seconds each, at least one round."""
    x = patterns(n)
    results = {name: method(x, metric) for name, method in METHODS.items()}  # warms up, and is compared
    for name, values in results.items():
        np.testing.assert_allclose(values, results["brainrdl"], rtol=1e-9, err_msg=name)
    del results
    seconds: dict[str, list[float]] = {name: [] for name in METHODS}
    for _ in range(30):
        for name, method in METHODS.items():
            if sum(seconds[name]) < budget:
                start = time.perf_counter()
                method(x, metric)
                seconds[name].append(time.perf_counter() - start)
    first = np.array(seconds["brainrdl"])
    return {
        name: {
            "seconds": float(np.median(taken)),
            "ratio": float(np.median(np.array(taken[: len(first)]) / first[: len(taken)])),
            "rounds": len(taken),
        }
        for name, taken in seconds.items()
    }


def peak_memory(name: str, n: int, metric: str) -> float:
    """Megabytes beyond the patterns, measured in a process of its own."""
    command = [sys.executable, __file__, "--memory-of", name, "--n", str(n), "--metric", metric]
    return float(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def memory_of(name: str, n: int, metric: str) -> float:
    """Megabytes at the peak beyond what was there before; to be run in a fresh process."""
    METHODS[name](patterns(8), metric)
    x = patterns(n)
    before = resident("VmRSS")
    # sets the peak back, which importing has left above what is to be seen
    Path("/proc/self/clear_refs").write_text("5")
    METHODS[name](x, metric)
    return resident("VmHWM") - before


def resident(which: str) -> float:
    """Megabytes of this process in memory (Linux): ``VmRSS`` now, ``VmHWM`` at most."""
    (line,) = [line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith(which)]
    return int(line.split()[1]) / 1024


def main() -> None:
    """Parse the options, print the table, keep the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--n", type=int, nargs="+", default=[100, 1000, 2000, 5000])
    parser.add_argument("--threads", type=int, help="of torch; those of BLAS are OMP_NUM_THREADS'")
    parser.add_argument("--budget", type=float, default=5.0, help="seconds per method, n and metric (default: 5)")
    parser.add_argument("--out", type=Path, help="JSON file for the figures")
    parser.add_argument("--memory-of", choices=tuple(METHODS), help=argparse.SUPPRESS)
    parser.add_argument("--metric", choices=METRICS, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.threads:
        torch.set_num_threads(options.threads)
    if options.memory_of:
        print(memory_of(options.memory_of, options.n[0], options.metric))
        return
    print(f"{UNITS} units, float64, {torch.get_num_threads()} threads of torch, torch {torch.__version__}")
    print(f"{'n':>6} {'metric':12} {'method':12} {'ms':>10} {'× brainrdl':>11} {'rounds':>7} {'peak MB':>8}")
    rows = []
    for n in options.n:
        for metric in METRICS:
            for name, timed in time_methods(n, metric, options.budget).items():
                row = {"n": n, "metric": metric, "method": name, **timed, "peak_mb": peak_memory(name, n, metric)}
                rows.append(row)
                print(
                    f"{n:6} {metric:12} {name:12} {1e3 * timed['seconds']:10.2f} {timed['ratio']:11.2f} "
                    f"{timed['rounds']:7} {row['peak_mb']:8.0f}",
                    flush=True,
                )
    if options.out:
        options.out.write_text(json.dumps({"threads": torch.get_num_threads(), "rows": rows}, indent=1) + "\n")


if __name__ == "__main__":
    main()
