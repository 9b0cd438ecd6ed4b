"""Comparing many RDMs with many: time against rsatoolbox's `compare`, and the same numbers.

    python benchmarks/compare.py                     # 100 model RDMs × 20 subject RDMs of 1,000 stimuli
    python benchmarks/compare.py --stimuli 200       # a quick look

Both start from RDMs in memory in their own form: ours square and labelled (checking and joining included), rsatoolbox's
condensed. The two take turns within a round, so that a machine whose speed drifts slows both; the ratio printed is the
median over rounds of the ratio within a round. Kendall's tau takes minutes at full size, so it is given one round.
"""

import argparse
import time

import numpy as np
import torch
from rsatoolbox.rdm import RDMs, compare

import brainrdl as rdl
from brainrdl.known import METHODS as ALL_METHODS

METHODS = ("corr", "spearman", "cosine_cov", "tau-a")


def main() -> None:
    """Parse the options and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--stimuli", type=int, default=1000)
    parser.add_argument("--models", type=int, default=100)
    parser.add_argument("--subjects", type=int, default=20)
    parser.add_argument(
        "--methods", nargs="+", default=METHODS, choices=[method for method in ALL_METHODS if method != "mse"]
    )
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    n = options.stimuli
    rng = np.random.default_rng(0)
    shared = rng.gamma(2.0, 1.0, n * (n - 1) // 2)
    values = [shared + rng.gamma(2.0, 1.0, (count, len(shared))) for count in (options.models, options.subjects)]
    ids = [f"stimulus-{k:04}" for k in range(n)]
    ours = [rdl.label_rdms(v, ids, [f"{k}" for k in range(len(v))], "undeclared") for v in values]
    theirs = [RDMs(v) for v in values]
    print(
        f"{options.models} × {options.subjects} RDMs of {n} stimuli, {torch.get_num_threads()} thread(s), "
        f"torch {torch.__version__}, numpy {np.__version__}"
    )
    print(f"{'method':12}{'ours (s)':>10}{'rsatoolbox (s)':>16}{'ratio':>8}{'largest difference':>20}")
    for method in options.methods:
        seconds: list[tuple[float, float]] = []
        difference = 0.0
        for _ in range(1 if method.startswith("tau") else options.rounds):
            start = time.perf_counter()
            mine = rdl.compare_rdms(*ours, method).values
            between = time.perf_counter()
            other = compare(*theirs, method)
            seconds.append((between - start, time.perf_counter() - between))
            difference = max(difference, float(np.abs(mine - other).max()))
        assert difference < 1e-8, f"{method}: the numbers differ by {difference:.2g}"
        mine_s, other_s = np.median(seconds, axis=0)
        ratio = np.median([b / a for a, b in seconds])
        print(f"{method:12}{mine_s:10.2f}{other_s:16.2f}{ratio:8.1f}{difference:20.1e}", flush=True)


if __name__ == "__main__":
    main()
