import re
from itertools import combinations

import numpy as np
import pytest

from brainrdl.fmri import crossnobis, make_patterns, select_voxels, split_half
from brainrdl.fmri.reliability import splits
from brainrdl.rdms.labelled import condense
from fmri_patterns import random_patterns, random_precision


def raises(error, message):
    return pytest.raises(error, match=f"^{re.escape(message)}$")


def signal_patterns(n_runs=6, n_stimuli=6, n_voxels=20, noise=1.0, seed=0):
    rng = np.random.default_rng(seed)
    true = rng.normal(size=(n_stimuli, n_voxels)) * np.arange(1, n_stimuli + 1)[:, None] / n_stimuli
    values = np.tile(true, (n_runs, 1)) + noise * rng.normal(size=(n_runs * n_stimuli, n_voxels))
    return make_patterns(values, [f"s{k}" for k in range(n_stimuli)] * n_runs, np.repeat(np.arange(n_runs), n_stimuli))


@pytest.mark.parametrize(
    ("n_runs", "count", "sizes"), [(4, 3, {2}), (5, 10, {2, 3}), (6, 10, {3}), (12, 462, {6}), (13, 200, {6, 7})]
)
def test_splits(n_runs, count, sizes):
    found = splits(range(n_runs))
    assert len(found) == len({frozenset(map(frozenset, pair)) for pair in found}) == count
    assert {len(half) for pair in found for half in pair} == sizes
    assert all(sorted(a + b) == list(range(n_runs)) for a, b in found)
    assert found == splits(range(n_runs))


@pytest.mark.parametrize(
    "precision", [None, random_precision(20), {run: random_precision(20, seed=run) for run in range(6)}]
)
def test_mean_correlation_of_the_halves_rdms(precision):
    patterns = signal_patterns()
    rs = []
    for half in combinations(range(6), 3):
        if 0 in half:
            a, b = (
                condense(crossnobis(patterns.isel(observation=np.isin(patterns.run, runs)), precision))[0]
                for runs in (half, [run for run in range(6) if run not in half])
            )
            rs.append(np.corrcoef(a, b)[0, 1])
    reliability = split_half(patterns, precision)
    assert reliability.r == pytest.approx(np.mean(rs))
    assert reliability.spearman_brown == pytest.approx(2 * np.mean(rs) / (1 + np.mean(rs)))
    assert reliability.n_splits == 10
    low, high = reliability.interval
    assert low < reliability.r < high


def test_noise_is_not_reliable():
    values = [split_half(signal_patterns(seed=seed, noise=1e3)).r for seed in range(20)]
    assert abs(np.mean(values)) < 0.2
    negative = next(seed for seed, r in enumerate(values) if r < 0)
    assert np.isnan(split_half(signal_patterns(seed=negative, noise=1e3)).spearman_brown)


def test_four_runs_have_no_interval():
    reliability = split_half(signal_patterns(4))
    assert reliability.n_splits == 3
    assert np.isnan(reliability.interval).all()


def test_voxels_are_chosen_in_the_other_half():
    """Without signal, halves whose voxels the other half chose do not agree."""
    rng = np.random.default_rng(0)
    crossed = []
    for _ in range(20):
        values = rng.normal(size=(24, 200))
        patterns = make_patterns(values, list("abcdef") * 4, np.repeat(np.arange(4), 6))
        crossed.append(split_half(patterns, np.eye(200), n_voxels=20).r)
    assert abs(np.mean(crossed)) < 0.15


def test_selected_voxels_carry_the_signal():
    rng = np.random.default_rng(0)
    values = 2 * rng.normal(size=(24, 50))
    values[:, [3, 30]] += np.tile(rng.normal(size=(6, 2)), (4, 1)) * 8
    patterns = make_patterns(values, list("abcdef") * 4, np.repeat(np.arange(4), 6))
    left = select_voxels(patterns, 2, training_runs=[0, 1])
    assert left["selected"].values.tolist() == [3, 30]
    assert set(left["run"].values) == {2, 3}
    assert split_half(patterns, n_voxels=2).r > split_half(patterns).r


@pytest.mark.parametrize(
    ("runs", "n_voxels", "message"),
    [
        (
            ["r1", "r2", "r3", "r4"],
            2,
            "voxels are to be chosen in 4 of 4 runs; choose in at least two and leave at least one, as the distances "
            "of voxels chosen in the same data are biased",
        ),
        (["r1", "x"], 2, "there is no run 'x' to choose voxels in; there are ['r1', 'r2', 'r3', 'r4']"),
        (["r1", "r2"], 8, "n_voxels is 8, but there are 7 voxels"),
    ],
)
def test_bad_selection(runs, n_voxels, message):
    with raises(ValueError, message):
        select_voxels(random_patterns(), n_voxels, training_runs=runs)


@pytest.mark.parametrize(
    ("patterns", "message"),
    [
        (
            random_patterns(runs=(1, 2, 3)),
            "there are 3 runs; split-half reliability needs at least 4, as each half is cross-validated over two",
        ),
        (
            random_patterns(n_stimuli=2),
            "two stimuli have one distance, which cannot be correlated; it takes at least three stimuli",
        ),
    ],
)
def test_too_little_to_split(patterns, message):
    with raises(ValueError, message):
        split_half(patterns)
