"""Ranks and Kendall's counts against SciPy and brute force."""

import numpy as np
import pytest
import torch
from rsatoolbox.rdm.compare import _tau_a
from scipy.stats import kendalltau, rankdata

from brainrdl.rdms.ranks import concordance, inversions, midranks, ranking


@pytest.mark.parametrize("n", [1, 2, 5, 127, 128, 129, 300, 3000])
def test_inversions_are_those_counted_one_by_one(n):
    permutation = np.random.default_rng(n).permutation(n)
    assert inversions(permutation) == sum(int((permutation[:i] > permutation[i]).sum()) for i in range(n))


@pytest.mark.parametrize("n", [129, 20_000, 70_000])
def test_known_permutations(n):
    assert inversions(np.arange(n)) == 0
    assert inversions(np.arange(n)[::-1]) == n * (n - 1) // 2


@pytest.mark.parametrize("decimals", [(9, 9), (1, 9), (9, 1), (1, 1), (0, 0)])
def test_tau_equals_scipy_with_and_without_ties(decimals):
    rng = np.random.default_rng(0)
    x = rng.random(4000)
    y = np.round(x + rng.random(4000), decimals[1])
    x = np.round(x, decimals[0])
    counts = concordance(ranking(x), ranking(y))
    assert counts.tau_b == pytest.approx(kendalltau(x, y).statistic, abs=1e-14)
    assert counts.tau_a == pytest.approx(_tau_a(x, y), abs=1e-14)


@pytest.mark.parametrize("decimals", [9, 1, 0])
def test_midranks_equal_scipy(decimals):
    values = np.round(np.random.default_rng(0).normal(size=(3, 500)), decimals)
    np.testing.assert_array_equal(midranks(torch.from_numpy(values)).numpy(), rankdata(values, axis=1))
