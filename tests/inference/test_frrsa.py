"""Feature-reweighted RSA against non-negative least squares on the ridge-augmented system."""

import time

import numpy as np
import pytest
import torch
from scipy.optimize import nnls

import brainrdl as rdl
from brainrdl.inference.reweighting.frrsa import fit_frrsa, fit_frrsa_path, squared_differences
from small_network import raises


def example(n=24, n_features=12, *, positions=(), missing=0.0, seed=0):
    """Features with unlike scales and a common part, and a noisy RDM that some of them make, offset and all."""
    rng = np.random.default_rng(seed)
    features = rng.normal(size=(n, n_features, *positions)) + rng.normal(size=(n, *([1] * (1 + len(positions)))))
    features *= np.geomspace(0.1, 10, n_features).reshape(1, -1, *([1] * len(positions)))
    features = torch.from_numpy(features + 3)
    gains = torch.from_numpy(rng.permutation(np.r_[np.zeros(n_features // 2), rng.gamma(1, 1, -(-n_features // 2))]))
    target = rdl.rdm(features * gains.reshape(1, -1, *([1] * len(positions))), "sqeuclidean").numpy() + 7
    target += rng.normal(0, 0.5 * target.std(), len(target))
    target[rng.random(len(target)) < missing] = np.nan
    return features, torch.from_numpy(target)


def reference(features, target, ridge, standardize):
    """SciPy's non-negative least squares of the equation as it is printed."""
    flat = features.numpy().reshape(len(features), features.shape[1], -1)
    i, j = np.triu_indices(len(flat), 1)
    a, y = np.square(flat[i] - flat[j]).sum(axis=2), target.numpy()
    a, y = a[~np.isnan(y)], y[~np.isnan(y)]
    a, y = a - a.mean(axis=0), y - y.mean()
    sd = a.std(axis=0)
    s = sd if standardize else np.full_like(sd, np.sqrt(np.mean(sd**2)))
    rows = np.concatenate((a / np.sqrt(len(y)), np.sqrt(ridge) * np.diag(s)))
    # in units of s, as SciPy's own precision suffers from columns of unlike scale
    return nnls(rows / s, np.r_[y / np.sqrt(len(y)), np.zeros(len(s))], maxiter=10_000)[0] / s


@pytest.mark.parametrize("standardize", [True, False])
@pytest.mark.parametrize("ridge", [1e-4, 0.1, 3.0])
@pytest.mark.parametrize(
    ("n_features", "positions", "missing"),
    [(12, (), 0.0), (12, (), 0.1), (12, (), 0.7), (12, (3, 2), 0.1), (400, (), 0.1)],
    ids=["all pairs", "some missing", "most missing", "shared weights", "more features than pairs"],
)
def test_nonnegative_least_squares(n_features, positions, missing, ridge, standardize):
    features, target = example(n_features=n_features, positions=positions, missing=missing)
    weights = fit_frrsa(features, target, ridge, standardize=standardize).numpy()
    expected = reference(features, target, ridge, standardize)
    np.testing.assert_allclose(weights, expected, rtol=1e-6, atol=1e-6 * expected.max())
    assert 0 < (weights > 0).mean() < 1 or ridge == 3.0


def test_hidden_weights_are_found():
    features, _ = example(n=40)
    gains = torch.tensor([0.0, 3.0, 0.0, 1.0, 2.0, 0.0, 0.5, 0.0, 1.0, 0.0, 0.25, 4.0])
    target = rdl.rdm(features * gains, "sqeuclidean")
    # what each feature adds to the distances: the penalty's bias is relative to the largest
    part = features.var(dim=0)
    found, hidden = fit_frrsa(features, target + 5, 1e-9) * part, gains.double() ** 2 * part
    torch.testing.assert_close(found, hidden, rtol=0, atol=1e-8 * hidden.max().item())


def test_scale_and_offset_of_target_and_features():
    features, target = example()
    weights = fit_frrsa(features, target, 0.1)
    torch.testing.assert_close(fit_frrsa(features, 3 * target - 4, 0.1), 3 * weights)
    torch.testing.assert_close(fit_frrsa(1000 + 2 * features, target, 0.1), weights / 4, rtol=1e-6, atol=1e-9)
    # standardised weights do not see the scale of single features, the others do
    scales = torch.arange(1.0, 13.0)
    torch.testing.assert_close(fit_frrsa(features * scales, target, 0.1), weights / scales.double() ** 2)
    raw = [fit_frrsa(part, target, 0.1, standardize=False) for part in (features, features * scales)]
    assert not torch.allclose(raw[1] * scales.double() ** 2, raw[0], rtol=0.01)


def test_path_is_that_of_single_fits():
    features, target = example(n_features=60)
    ridges = [0.01, 10.0, 0.3]
    path = fit_frrsa_path(features, target, ridges)
    singly = torch.stack([fit_frrsa(features, target, ridge) for ridge in ridges])
    torch.testing.assert_close(path, singly, rtol=1e-9, atol=1e-12)


def test_squared_differences_are_those_of_the_patterns_whatever_their_offset():
    features, _ = example(positions=(5, 3))
    i, j = np.triu_indices(len(features), 1)
    expected = (features[i] - features[j]).square().flatten(2).sum(dim=2)
    for offset in (0.0, 1e6):
        torch.testing.assert_close(squared_differences(features + offset), expected, rtol=1e-9, atol=1e-8)
    assert squared_differences(features[:0]).shape == (0, features.shape[1])


def test_maps_of_many_positions_cost_their_inner_products():
    features, target = example(n=60, n_features=64, positions=(40, 40))
    start = time.process_time()
    fit_frrsa(features, target, 0.1)
    # pair by pair the differences alone take a hundred times as long as the products that give them
    assert time.process_time() - start < 2


def test_features_that_do_not_differ_get_no_weight():
    features, target = example()
    features[:, 3] = 5.0
    weights = fit_frrsa(features, target, 0.1)
    others = [k for k in range(12) if k != 3]
    assert weights[3] == 0
    torch.testing.assert_close(weights[others], fit_frrsa(features[:, others], target, 0.1))


def test_an_rdm_that_runs_against_all_features_gets_none():
    features, _ = example()
    assert fit_frrsa(features, -(rdl.rdm(features, "sqeuclidean") ** 0.5), 0.1).tolist() == [0.0] * 12


def test_thousands_of_features_take_seconds():
    features, target = example(n=74, n_features=2000)
    start = time.process_time()
    path = fit_frrsa_path(features, target, [0.01, 1.0])
    assert time.process_time() - start < 20
    a = torch.from_numpy(np.square(np.subtract(*(features.numpy()[k] for k in np.triu_indices(74, 1)))))
    a, y = a - a.mean(dim=0), target - target.mean()
    s = a.std(dim=0, correction=0)
    for ridge, weights in zip((0.01, 1.0), path, strict=True):  # the conditions of optimality
        gradient = ((a @ weights - y) @ a / len(y) + ridge * s.square() * weights) / s
        size = (y @ a / len(y) / s).abs().max()
        assert gradient[weights > 0].abs().max() < 1e-8 * size
        assert gradient[weights == 0].min() > -1e-8 * size


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        (
            lambda f, t: (f, t, 0.0),
            ValueError,
            "ridge is 0.0; expected a number above 0, such as 0.1, which makes the fit unique",
        ),
        (
            lambda f, t: (f.numpy(), t, 0.1),
            TypeError,
            "features must be a torch Tensor, got a ndarray; torch.as_tensor makes one",
        ),
        (
            lambda f, t: (f[:, 0], t, 0.1),
            ValueError,
            "features have shape (24,), expected (stimuli, features), or more dimensions behind",
        ),
        (
            lambda f, t: (f[1:], t, 0.1),
            ValueError,
            "target has shape (276,), but the condensed RDM of 23 stimuli has 253 distances; a square RDM is condensed "
            "by to_condensed",
        ),
        (
            lambda f, t: (torch.where(f == f[4, 0], torch.nan, f), t, 0.1),
            ValueError,
            "features are not finite in row 4 (1 of 24 rows); leave such stimuli out",
        ),
        (
            lambda f, t: (f, t + torch.inf, 0.1),
            ValueError,
            "target holds infinite distances; mark a pair that was not measured by NaN",
        ),
        (
            lambda f, t: (f, torch.where(t > t.min(), torch.nan, t), 0.1),
            ValueError,
            "target has 1 measured pairs; at least 2 are needed to fit weights",
        ),
        (
            lambda f, t: (torch.ones_like(f), t, 0.1),
            ValueError,
            "none of the 12 features differs between the 24 stimuli; there is nothing to weigh",
        ),
        (
            lambda f, t: (f.repeat(1, 40), t, 1e-300),
            ValueError,
            "the ridge is too small to make the weights unique in float64; take a larger one, such as 1e-6",
        ),
    ],
)
def test_refusals(change, error, message):
    with raises(error, message):
        fit_frrsa(*change(*example()))
