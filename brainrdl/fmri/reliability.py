"""Reliability: the agreement of a subject's runs about an RDM."""

from collections.abc import Callable, Sequence
from itertools import combinations
from math import comb
from typing import NamedTuple

import numpy as np
import xarray as xr
from scipy.stats import t as student_t

from brainrdl.fmri.distances import check_two_runs, mean_over_run_pairs, run_pair_distances
from brainrdl.fmri.noise import inverse
from brainrdl.inference.intervals import SIMILARITIES, bounded_interval
from brainrdl.rdms.patterns import Array, Precision, RunMeans, check_folds, precisions_of, run_means

MAX_SPLITS = 500
RANDOM_SPLITS = 200


class SplitHalf(NamedTuple):
    """Reliability of a crossnobis RDM, as `split_half` returns it."""

    r: float  # mean Pearson r between the RDMs of two halves of the runs, over splits
    interval: tuple[float, float]  # 95 % of r: jackknife over runs, t with R − 1 df on Fisher's z; NaN below 5 runs
    # 2r/(1+r): what the RDM of all runs would have, NaN if r ≤ 0; a lower bound for cross-validated distances, whose
    # error shrinks faster than 1/R
    spearman_brown: float
    n_splits: int


def split_half(
    patterns: xr.DataArray, precision: Precision = None, *, n_voxels: int | None = None, seed: int = 0
) -> SplitHalf:
    """Correlate the crossnobis RDMs of halves of the runs.

    All splits into halves of equal size, or differing by one, of at least two runs each; 200 random ones where there
    are more than 500.

    Parameters
    ----------
    patterns : DataArray (observation, voxel)
        Patterns as for `crossnobis`; at least four runs and three stimuli.
    precision : ndarray (voxels, voxels) or {run: ndarray (voxels, voxels)}, optional
        Precision as for `crossnobis`. It is used for both halves.
    n_voxels : int, optional
        Use only as many voxels, those of `select_voxels`: each half's are chosen in the other half. The precision
        must then be one for all runs, or None.
    seed : int
        Seed of the random splits.

    Returns
    -------
    SplitHalf

    Raises
    ------
    TypeError, ValueError
        As `crossnobis`; if there are fewer than four runs or three stimuli, or a half does not measure two pairs.

    Examples
    --------
    >>> from brainrdl.fmri import make_patterns
    >>> generator = np.random.default_rng(0)
    >>> signal = np.tile(generator.normal(size=(5, 30)), (4, 1))
    >>> noisy = signal + 0.3 * generator.normal(size=signal.shape)
    >>> reliability = split_half(make_patterns(noisy, list("abcde") * 4, np.repeat([1, 2, 3, 4], 5)))
    >>> round(reliability.r, 1), reliability.n_splits
    (0.9, 3)
    """
    means = run_means(patterns)
    checked = precisions_of(precision, means)
    check_two_runs(means)
    check_folds(patterns, means)
    n_runs = len(means.runs)
    if n_runs < 4:
        raise ValueError(
            f"there are {n_runs} runs; split-half reliability needs at least 4, as each half is cross-validated over "
            "two"
        )
    if len(means.stimuli) < 3:
        raise ValueError("two stimuli have one distance, which cannot be correlated; it takes at least three stimuli")
    if n_voxels is None:
        half_rdm = _of_all_voxels(run_pair_distances(means, checked), n_runs)
    elif isinstance(checked, list):
        raise ValueError("n_voxels selects within a split, for which the precision must be one for all runs, or None")
    else:
        half_rdm = _of_selected_voxels(means, checked, n_voxels)

    def mean_r(runs: Sequence[int]) -> tuple[float, int]:
        halves = splits(runs, seed=seed)
        return float(np.mean([_pearson(half_rdm(a, b), half_rdm(b, a)) for a, b in halves])), len(halves)

    r, n_splits = mean_r(range(n_runs))
    interval = (np.nan, np.nan)
    if n_runs >= 5:
        left_out = np.array([mean_r([run for run in range(n_runs) if run != out])[0] for out in range(n_runs)])
        error = np.sqrt((n_runs - 1) / n_runs * np.square(left_out - left_out.mean()).sum())
        interval = bounded_interval(r, float(error), float(student_t.ppf(0.975, n_runs - 1)), SIMILARITIES)
    return SplitHalf(r, interval, 2 * r / (1 + r) if r > 0 else np.nan, n_splits)


def splits(runs: Sequence[int], *, seed: int = 0) -> list[tuple[tuple[int, ...], tuple[int, ...]]]:
    """List the splits of at least four runs into halves of equal size, or differing by one.

    Where there are more than `MAX_SPLITS`, `RANDOM_SPLITS` of them are drawn by `seed`, without repetition.
    """
    runs = tuple(runs)
    size = len(runs) // 2
    even = len(runs) % 2 == 0
    total = comb(len(runs), size) // (2 if even else 1)
    if total <= MAX_SPLITS:
        # of an even number, either half stands for both: the one that holds the first run
        chosen = [half for half in combinations(runs, size) if not even or half[0] == runs[0]]
    else:
        generator = np.random.default_rng(seed)
        drawn: dict[tuple[int, ...], None] = {}
        while len(drawn) < RANDOM_SPLITS:
            order = generator.permutation(len(runs))
            half = sorted(runs[k] for k in order[:size])
            if even and runs[0] not in half:
                half = sorted(set(runs) - set(half))
            drawn[tuple(half)] = None
        chosen = list(drawn)
    return [(half, tuple(run for run in runs if run not in half)) for half in chosen]


def select_voxels(patterns: xr.DataArray, n_voxels: int, *, training_runs: Sequence[object]) -> xr.DataArray:
    """Choose voxels in some runs, and return the patterns of the *other* runs in them.

    Voxels chosen and used in the same runs would make stimuli look apart that are not; this function leaves no way
    to do so.

    Parameters
    ----------
    patterns : DataArray (observation, voxel)
        Patterns as for `crossnobis`.
    n_voxels : int
        Number of voxels to keep: those whose means differ most reliably between stimuli, by the F ratio of the variance
        between stimuli to that of stimuli between the training runs.
    training_runs : sequence
        The runs to choose in, at least two; at least one must be left.

    Returns
    -------
    DataArray (observation, voxel)
        Patterns of the other runs, in the chosen voxels, in their old order; a coordinate ``selected`` along ``voxel``
        holds their positions in `patterns`.

    Raises
    ------
    TypeError, ValueError
        If no run is left to use the voxels in, a run is unknown, or there are fewer voxels.

    Examples
    --------
    >>> from brainrdl.fmri import make_patterns
    >>> values = np.random.default_rng(0).normal(size=(8, 5))
    >>> values[::2, 3] += 100
    >>> patterns = make_patterns(values, ["face", "house"] * 4, np.repeat([1, 2, 3, 4], 2))
    >>> select_voxels(patterns, 1, training_runs=[1, 2])["selected"].values
    array([3])
    """
    means = run_means(patterns)
    unknown = [run for run in training_runs if run not in means.runs]
    if unknown:
        raise ValueError(f"there is no run {unknown[0]!r} to choose voxels in; there are {list(means.runs)}")
    rest = [run for run in means.runs if run not in training_runs]
    used = [run in rest for run in patterns["run"].values.tolist()]
    if not rest or len(set(training_runs)) < 2:
        raise ValueError(
            f"voxels are to be chosen in {len(set(training_runs))} of {len(means.runs)} runs; choose in at least two "
            "and leave at least one, as the distances of voxels chosen in the same data are biased"
        )
    check_folds(patterns, means)
    chosen = _most_reliable(means, [means.runs.index(run) for run in training_runs], n_voxels)
    left = patterns.isel(observation=used, voxel=chosen)
    return left.assign_coords(selected=("voxel", chosen))


_HalfRDM = Callable[[Sequence[int], Sequence[int]], Array]
"""(runs of the half, runs of the other half) -> its condensed RDM."""


def _of_all_voxels(distances: Array, n_runs: int) -> _HalfRDM:
    r, s = np.array(list(combinations(range(n_runs), 2))).T

    def half_rdm(half: Sequence[int], _other: Sequence[int]) -> Array:
        return mean_over_run_pairs(distances[np.isin(r, half) & np.isin(s, half)])

    return half_rdm


def _of_selected_voxels(means: RunMeans, precision: Array | None, n_voxels: int) -> _HalfRDM:
    covariance = None if precision is None else inverse(precision, "the precision")

    def half_rdm(half: Sequence[int], other: Sequence[int]) -> Array:
        chosen = _most_reliable(means, other, n_voxels)
        part = means.select(half, chosen)
        # of the chosen voxels alone: a block of the whole precision would be conditional on the others
        block = np.ix_(chosen, chosen)
        precision = None if covariance is None else inverse(covariance[block], "the voxels' covariance")
        return mean_over_run_pairs(run_pair_distances(part, precision))

    return half_rdm


def _most_reliable(means: RunMeans, runs: Sequence[int], n_voxels: int) -> Array:
    """Positions of the voxels with the largest F ratio in some runs."""
    if not 1 <= n_voxels <= means.values.shape[2]:
        raise ValueError(f"n_voxels is {n_voxels}, but there are {means.values.shape[2]} voxels")
    held = (means.counts[list(runs)] > 0)[..., None]
    values = means.values[list(runs)]
    # a run's mean over stimuli says nothing about their differences
    values = np.where(held, values - values.sum(axis=1, keepdims=True) / held.sum(axis=1, keepdims=True), 0.0)
    count = held.sum(axis=0)
    mean = values.sum(axis=0) / np.maximum(count, 1)
    between = (count * mean**2).sum(axis=0)
    within = np.where(held, np.square(values - mean), 0.0).sum(axis=(0, 1))
    ratio = between / np.maximum(within, np.finfo(np.float64).tiny)
    return np.sort(np.argsort(-ratio, kind="stable")[:n_voxels])


def _pearson(a: Array, b: Array) -> float:
    measured = ~(np.isnan(a) | np.isnan(b))
    if measured.sum() < 2:
        raise ValueError("two halves of the runs share fewer than two measured pairs, so they cannot be correlated")
    x, y = a[measured] - a[measured].mean(), b[measured] - b[measured].mean()
    lengths = np.sqrt((x @ x) * (y @ y))
    return float(x @ y / lengths) if lengths > 0 else 0.0
