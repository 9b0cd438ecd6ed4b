"""Intervals stay where the estimate can be."""

import numpy as np
import pytest
from scipy import stats

import brainrdl as rdl
from brainrdl.inference import models as of_models, score_models
from brainrdl.inference.bootstrap import Resamples
from brainrdl.inference.intervals import bounded_interval, bounds_of, clipped


def test_between_minus_one_and_one_it_is_fishers_z():
    for r, se in ((0.9, 0.3), (-0.5, 0.1), (0.0, 0.02), (0.999, 0.5)):
        z, error = np.arctanh(r), se / (1 - r**2)
        expected = np.tanh([z - 2.5 * error, z + 2.5 * error])
        assert bounded_interval(r, se, 2.5, (-1, 1)) == pytest.approx(tuple(expected), abs=1e-12)
    # what is certain up to rounding does not overflow
    assert bounded_interval(0.5, 1e6, 2.0, (-1, 1)) == (-1, 1)


def test_at_a_bound_or_without_a_standard_error_there_is_none():
    for estimate, se in ((1.0, 0.1), (-1.0, 0.1), (1.0 + 1e-12, 0.1), (0.3, np.nan)):
        assert np.isnan(bounded_interval(estimate, se, 2.0, (-1, 1))).all()
    assert np.isnan(clipped(np.nan, 0.3, (-2, 2))[0])


def test_a_negative_squared_difference_stays_below_zero():
    low, high = bounded_interval(-0.4, 0.3, 2.0, bounds_of("mse"))
    assert (low, high) == pytest.approx((-0.4 * np.exp(1.5), -0.4 * np.exp(-1.5)))


def resamples_of(estimates, spread, n=9):
    draws = np.asarray(estimates) + np.random.default_rng(0).normal(0, spread, (200, len(estimates)))
    return Resamples(np.array(estimates), np.zeros((2, 1)), draws, None, None, n, 1)


def test_scores_and_differences_of_few_stimuli():
    resamples = resamples_of([0.9, -0.9, 0.95, 1.0], 0.4)
    score = of_models.tested(resamples, np.array([1, 0, 0, 0]), 0.95, "corr")
    assert score["estimate"] + 2 * score["se"] > 1.5  # what was printed before
    error = score["se"] / (1 - 0.9**2)
    quantile = stats.t.ppf(0.975, 8)
    expected = np.tanh(np.arctanh(0.9) + np.array([-1, 1]) * quantile * error)
    assert (score["low"], score["high"]) == pytest.approx(tuple(expected))
    # test and interval agree
    assert score["p"] == pytest.approx(2 * stats.t.sf(np.arctanh(0.9) / error, 8))
    difference = of_models.tested(resamples, np.array([1, -1, 0, 0]), 0.95, "corr")
    assert difference["high"] == 2
    assert difference["low"] == pytest.approx(1.8 - quantile * difference["se"])
    assert difference["p"] == pytest.approx(2 * stats.t.sf(1.8 / difference["se"], 8))


@pytest.mark.parametrize("method", ["corr", "cosine", "spearman", "tau-a", "neg_mse"])
def test_no_score_of_few_stimuli_passes_its_bounds(method):
    method = method.removeprefix("neg_")
    ids = list("abcde")
    for seed in range(5):
        rng = np.random.default_rng(seed)
        values = rng.random((1, 10))
        models = rdl.label_rdms(values, ids, ["m"], "mse")
        brains = rdl.label_rdms(values + 0.2 * rng.random((3, 10)), ids, list("xyz"), "mse", {"subject": list("xyz")})
        table = score_models(models, brains, method, n_resamples=50).table
        low, high = bounds_of(method)
        assert (table["low"] >= low).all()
        assert (table["high"] <= high).all()
        assert (table["low"] < table["score"]).all()
        assert (table["score"] < table["high"]).all()
