"""Random patterns and slow references that the fMRI tests share."""

from itertools import permutations

import numpy as np

from brainrdl.fmri import make_patterns

RUNS = ("r1", "r2", "r3", "r4")


def random_patterns(n_stimuli=5, n_voxels=7, runs=RUNS, *, repeats=1, seed=0, drop=()):
    """Patterns of every stimulus in every run, less the (run, stimulus index) pairs in `drop`."""
    generator = np.random.default_rng(seed)
    rows = [
        (f"s{stimulus}", run)
        for run in runs
        for stimulus in range(n_stimuli)
        for _ in range(repeats)
        if (run, stimulus) not in drop
    ]
    values = generator.normal(size=(len(rows), n_voxels))
    return make_patterns(values, [row[0] for row in rows], [row[1] for row in rows], name="IT")


def random_precision(n_voxels=7, seed=1):
    """A positive definite matrix."""
    factor = np.random.default_rng(seed).normal(size=(n_voxels, 2 * n_voxels))
    return np.linalg.inv(factor @ factor.T / n_voxels)


def slow_crossnobis(patterns, precision=None):
    """METHOD's definition in loops: {(stimulus, stimulus): distance}."""
    stimuli, runs = list(dict.fromkeys(patterns.stimulus.values)), list(dict.fromkeys(patterns.run.values))
    means = {}
    for run in runs:
        for stimulus in stimuli:
            rows = (patterns.run.values == run) & (patterns.stimulus.values == stimulus)
            if rows.any():
                means[run, stimulus] = patterns.values[rows].mean(axis=0)
    distances = {}
    for a in stimuli:
        for b in stimuli:
            terms = []
            for r, s in permutations(runs, 2):
                if all((run, stimulus) in means for run in (r, s) for stimulus in (a, b)):
                    if precision is None:
                        omega = np.eye(patterns.sizes["voxel"])
                    elif isinstance(precision, dict):
                        omega = np.linalg.inv((np.linalg.inv(precision[r]) + np.linalg.inv(precision[s])) / 2)
                    else:
                        omega = precision
                    terms.append((means[r, a] - means[r, b]) @ omega @ (means[s, a] - means[s, b]))
            distances[a, b] = np.mean(terms) / patterns.sizes["voxel"] if terms else np.nan
    return distances
