import re
from itertools import product

import numpy as np
import pytest
import scipy.spatial.distance
import torch

import brainrdl as rdl
from brainrdl.known import METRICS
from brainrdl.rdms.differentiable import dissimilarity

WEIGHTED = ("mse", "corr", "cosine")
"""The comparisons that are weighted sums; test_similarity.py has the others."""

N = 8


def raises(error, message):
    return pytest.raises(error, match=f"^{re.escape(message)}$")


def patterns(seed=0, n=N, dtype=torch.float64):
    return torch.randn(n, 5, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).to(dtype)


def uniform(seed, n=N):
    return torch.rand(n * (n - 1) // 2, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def value_and_gradient(features, target, **options):
    features = features.clone().requires_grad_()
    loss = rdl.rdl_loss(features, target, **options)
    loss.backward()
    return loss.item(), features.grad


# comparisons against SciPy


def oracle(compare, d, t, w):
    if compare == "mse":
        return np.average((d - t) ** 2, weights=w)
    return getattr(scipy.spatial.distance, {"corr": "correlation"}.get(compare, compare))(d, t, w)


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("compare", WEIGHTED)
def test_comparisons_agree_with_scipy(compare, weighted):
    d, t = 3 * uniform(0) + 1, uniform(1)
    w = uniform(2) if weighted else torch.ones_like(d)
    if weighted:
        w[[0, 5]] = 0
        t[0] = 1e6  # a pair of weight 0 does not count
    actual = dissimilarity(d, t, compare, w)
    assert actual.item() == pytest.approx(oracle(compare, d.numpy(), t.numpy(), w.numpy()), rel=1e-12)


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("subset", [False, True])
@pytest.mark.parametrize(("metric", "compare"), list(product(METRICS, WEIGHTED)))
def test_the_loss_agrees_with_scipy(metric, compare, subset, weighted):
    x, t, w = patterns(), uniform(1), uniform(2)
    t[[4, 10]] = torch.nan
    pairs = rdl.sample_pairs(N, 17, torch.Generator().manual_seed(0))
    index = rdl.to_square(torch.arange(28))[pairs[:, 0], pairs[:, 1]] if subset else torch.arange(28)
    index = index[~t[index].isnan()]
    assert len(index) == (15 if subset else 26)
    loss, _ = value_and_gradient(
        x,
        t,
        metric=metric,
        compare=compare,
        pairs=pairs if subset else None,
        weights=w if weighted else None,
    )
    weights = w if weighted else torch.ones(28)
    expected = oracle(compare, rdl.rdm(x, metric)[index].numpy(), t[index].numpy(), weights[index].numpy())
    assert loss == pytest.approx(expected, rel=1e-10)


def test_corr_ignores_scale_and_offset_and_cosine_the_scale():
    x, t = patterns(), uniform(1)
    corr = rdl.rdl_loss(x, t, compare="corr")
    cosine = rdl.rdl_loss(x, t, compare="cosine")
    torch.testing.assert_close(rdl.rdl_loss(x, 7 * t + 30, compare="corr"), corr)
    torch.testing.assert_close(rdl.rdl_loss(x, 7 * t, compare="cosine"), cosine)
    assert (rdl.rdl_loss(x, 7 * t + 30, compare="cosine") - cosine).abs() > 0.01
    own = rdl.rdm(x)
    for compare in WEIGHTED:
        assert rdl.rdl_loss(x, own, compare=compare).item() == pytest.approx(0, abs=1e-14)
    assert rdl.rdl_loss(x, -own, compare="corr").item() == pytest.approx(2)
    assert rdl.rdl_loss(x, -own, compare="cosine").item() == pytest.approx(2)


@pytest.mark.parametrize("compare", WEIGHTED)
def test_only_the_ratios_of_weights_count(compare):
    x, t, w = patterns(), uniform(1), uniform(2)
    loss, gradient = value_and_gradient(x, t, compare=compare, weights=w)
    scaled, scaled_gradient = value_and_gradient(x, t, compare=compare, weights=1e5 * w)
    assert scaled == pytest.approx(loss, rel=1e-12)
    torch.testing.assert_close(scaled_gradient, gradient, rtol=1e-9, atol=1e-14)
    equal, equal_gradient = value_and_gradient(x, t, compare=compare, weights=torch.full((28,), 3))
    plain, plain_gradient = value_and_gradient(x, t, compare=compare)
    assert equal == pytest.approx(plain, rel=1e-12)
    torch.testing.assert_close(equal_gradient, plain_gradient, rtol=1e-9, atol=1e-14)


# degenerate inputs


def nothing_counts():
    x, unmeasured = patterns(), torch.full((28,), torch.nan)
    yield x, unmeasured, {}
    yield x, unmeasured, {"pairs": torch.tensor([[0, 1], [2, 3]])}
    yield x, unmeasured, {"weights": uniform(0)}
    yield x, uniform(1), {"weights": torch.zeros(28)}
    yield x, uniform(1), {"pairs": torch.zeros(0, 2, dtype=torch.int64)}
    yield x, uniform(1), {"pairs": torch.tensor([[0, 1]]), "weights": torch.arange(28) * 1.0}


@pytest.mark.parametrize("compare", WEIGHTED)
def test_where_no_pair_counts_the_loss_is_constant(compare):
    for x, target, options in nothing_counts():
        for gradient in ("auto", "mean", "per-stimulus") if compare == "mse" else ("auto", "mean"):
            loss, slope = value_and_gradient(x, target, compare=compare, gradient=gradient, **options)
            assert loss == (0 if compare == "mse" else 1)
            assert (slope == 0).all()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("weights", [None, uniform(2)])
@pytest.mark.parametrize("target", [0.0, 0.3, 1e6])
def test_a_target_without_variance_correlates_with_nothing(target, weights, dtype):
    constant = torch.full((28,), target, dtype=torch.float64)
    loss, slope = value_and_gradient(patterns(dtype=dtype), constant, compare="corr", weights=weights)
    assert loss == 1
    assert (slope == 0).all()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("weights", [None, uniform(2)])
@pytest.mark.parametrize("metric", METRICS)
def test_a_student_without_variance_correlates_with_nothing(metric, weights, dtype):
    """Equal distances differ by their rounding, whose direction must not be followed, least of all at 1e7 a step."""
    for x in (0.3 * torch.eye(N, dtype=dtype), torch.zeros(N, 3, dtype=dtype)):
        for target in (uniform(1), torch.full((28,), 0.3)):
            loss, slope = value_and_gradient(x, target, metric=metric, compare="corr", weights=weights)
            assert loss == 1
            assert (slope == 0).all()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_small_variance_is_one(dtype):
    """One part in a hundred thousand of an RDM is geometry, not rounding."""
    t = uniform(1)
    d = (1 + 1e-5 * t).to(dtype).requires_grad_()
    loss = dissimilarity(d, t, "corr", torch.ones_like(d))
    assert loss.item() == pytest.approx(0, abs=1e-3)
    loss = dissimilarity(d, t, "corr", t.flip(0).to(dtype))
    assert loss.item() == pytest.approx(0, abs=1e-3)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_an_rdm_without_length_has_no_cosine(dtype):
    x = patterns(dtype=dtype)
    for features, target in ((x, torch.zeros(28)), (torch.ones_like(x), uniform(1))):
        loss, slope = value_and_gradient(features, target, compare="cosine")
        assert loss == 1
        assert (slope == 0).all()


def test_a_single_pair_has_a_cosine_and_no_correlation():
    x, t = patterns(n=2), torch.tensor([0.7])
    assert value_and_gradient(x, t, compare="cosine")[0] == pytest.approx(0, abs=1e-15)
    loss, slope = value_and_gradient(x, t, compare="corr")
    assert loss == 1
    assert (slope == 0).all()


# what the loss is computed in


@pytest.mark.parametrize("compare", WEIGHTED)
@pytest.mark.parametrize(
    ("dtype", "of_the_loss"),
    [
        (torch.float64, torch.float64),
        (torch.float32, torch.float32),
        (torch.bfloat16, torch.float32),
        (torch.float16, torch.float32),
    ],
)
def test_the_loss_has_the_features_precision_and_at_least_float32(dtype, of_the_loss, compare):
    x = patterns(dtype=dtype)
    reference = rdl.rdl_loss(x.double(), uniform(1), compare=compare, weights=uniform(2))
    for target, weights in product((uniform(1), uniform(1).float()), (uniform(2), uniform(2).float())):
        loss = rdl.rdl_loss(x, target, compare=compare, weights=weights)
        assert loss.dtype == of_the_loss
        assert loss.shape == ()
        assert loss.item() == pytest.approx(reference.item(), rel=1e-5)


@pytest.mark.parametrize(("metric", "compare"), list(product(METRICS, WEIGHTED)))
def test_autocast_does_not_change_the_loss(metric, compare):
    x, target = patterns(dtype=torch.float32), uniform(1).float()
    pairs = rdl.sample_pairs(N, 9, torch.Generator().manual_seed(0))
    options = {"metric": metric, "compare": compare, "pairs": pairs}
    expected = value_and_gradient(x, target, **options)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        actual = value_and_gradient(x, target, **options)
    assert actual[0] == expected[0]
    torch.testing.assert_close(actual[1], expected[1], rtol=0, atol=0)


@pytest.mark.parametrize("compare", ["corr", "cosine"])
def test_similarities_of_float32_distances_are_summed_in_float64(compare):
    """Nearly equal distances, as of a network that has just been initialised."""
    d, t, w = (1 + 0.01 * uniform(0)).float(), (1 + 0.01 * uniform(1)).float(), uniform(2).float()
    expected = oracle(compare, *(values.double().numpy() for values in (d, t, w)))
    loss = dissimilarity(d, t, compare, w)
    assert loss.dtype == torch.float32
    assert loss.item() == pytest.approx(expected, rel=1e-6)


def test_pairs_of_any_integer_type_mean_the_same():
    n = 120
    x, t = patterns(n=n), uniform(1, n)
    pairs = torch.tensor([(100, 119), (3, 90), (117, 118), (90, 100)])
    for gradient in ("auto", "mean"):
        loss, slope = value_and_gradient(x, t, pairs=pairs, gradient=gradient)
        for dtype in (torch.int8, torch.uint8, torch.int16, torch.int32):
            narrow, narrow_slope = value_and_gradient(x, t, pairs=pairs.to(dtype), gradient=gradient)
            assert narrow == loss
            assert torch.equal(narrow_slope, slope)


def test_a_pair_given_thrice_counts_thrice():
    x, t, w = patterns(), uniform(1), torch.zeros(28)
    w[0], w[27] = 3, 1
    thrice = torch.tensor([(0, 1), (6, 7), (1, 0), (0, 1)])
    for compare in WEIGHTED:
        loss, slope = value_and_gradient(x, t, pairs=thrice, compare=compare, gradient="mean")
        expected, expected_slope = value_and_gradient(x, t, weights=w, compare=compare)
        assert loss == pytest.approx(expected, rel=1e-12)
        torch.testing.assert_close(slope, expected_slope)


def test_no_gradient_reaches_target_and_weights():
    x, t, w = patterns().requires_grad_(), uniform(1).requires_grad_(), uniform(2).requires_grad_()
    for compare in WEIGHTED:
        rdl.rdl_loss(x, t, compare=compare, weights=w).backward()
    assert x.grad is not None
    assert t.grad is None
    assert w.grad is None


def test_inputs_stay_as_they_were():
    x, t, w = patterns(), uniform(1), uniform(2)
    t[3] = torch.nan
    pairs = rdl.sample_pairs(N, 9).flip(1)
    copies = [value.clone() for value in (x, t, w, pairs)]
    rdl.rdl_loss(x, t, weights=w, pairs=pairs).item()
    for value, copy in zip((x, t, w, pairs), copies, strict=True):
        assert torch.equal(value.nan_to_num(-1), copy.nan_to_num(-1))


def test_features_of_any_shape_are_flattened():
    x = torch.randn(N, 2, 3, 4, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(rdl.rdl_loss(x, uniform(1)), rdl.rdl_loss(x.flatten(1), uniform(1)))


def test_channels_last_features_give_the_same():
    x = torch.randn(N, 2, 3, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    for metric in METRICS:
        loss, slope = value_and_gradient(x, uniform(1), metric=metric)
        last = x.to(memory_format=torch.channels_last).requires_grad_()
        last_loss = rdl.rdl_loss(last, uniform(1), metric=metric)
        last_loss.backward()
        assert last_loss.item() == pytest.approx(loss, rel=1e-12)
        torch.testing.assert_close(last.grad, slope)


# RDLoss


def test_a_loss_of_ones_own_defaults_to_mse():
    x, t = patterns(), uniform(1)
    loss = rdl.RDLoss()
    assert (loss.metric, loss.compare, loss.n_pairs, loss.gradient) == (None, None, None, "auto")
    assert loss(x, t) == rdl.rdl_loss(x, t, metric="mse", compare="mse")
    assert list(loss.parameters()) == []


def test_a_loss_holds_its_options():
    x, t, w = patterns(), uniform(1), uniform(2)
    pairs = rdl.sample_pairs(N, 9)
    for compare, gradient in (("mse", "per-stimulus"), ("mse", "mean"), ("corr", "auto")):
        options = {"metric": "sqeuclidean", "compare": compare, "gradient": gradient}
        held = x.clone().requires_grad_()
        loss = rdl.RDLoss(**options)(held, t, pairs=pairs, weights=w)
        loss.backward()
        expected = value_and_gradient(x, t, pairs=pairs, weights=w, **options)
        assert (loss.item(), held.grad.tolist()) == (expected[0], expected[1].tolist())


def test_a_loss_draws_pairs_anew_at_each_call():
    x, t = patterns(), uniform(1)
    loss = rdl.RDLoss(n_pairs=5)
    torch.manual_seed(0)
    values = [loss(x, t).item() for _ in range(4)]
    torch.manual_seed(0)
    expected = [rdl.rdl_loss(x, t, pairs=rdl.sample_pairs(N, 5)).item() for _ in range(4)]
    assert values == expected
    assert len(set(values)) == 4


def test_given_pairs_replace_the_draw():
    x, t, pairs = patterns(), uniform(1), torch.tensor([[0, 1], [4, 2]])
    state = torch.get_rng_state()
    assert rdl.RDLoss(n_pairs=5)(x, t, pairs=pairs) == rdl.rdl_loss(x, t, pairs=pairs)
    assert torch.equal(torch.get_rng_state(), state)


# errors


METRIC = "unknown metric 'manhattan'; computed from features are: mse, sqeuclidean, euclidean, correlation, cosine"
COMPARE = "unknown comparison 'spearman'; a loss can use: mse, corr, cosine, corr_cov, cosine_cov, soft-spearman"
GRADIENT = "unknown gradient 'eq4'; known are: auto, per-stimulus, mean"


@pytest.mark.parametrize(
    ("options", "message"),
    [({"metric": "manhattan"}, METRIC), ({"compare": "spearman"}, COMPARE), ({"gradient": "eq4"}, GRADIENT)],
)
def test_unknown_names_are_refused_with_the_known_ones(options, message):
    with raises(ValueError, message):
        rdl.rdl_loss(patterns(), uniform(1), **options)
    with raises(ValueError, message):
        rdl.RDLoss(**options)


def test_an_unknown_comparison_of_distances():
    with raises(ValueError, COMPARE):
        dissimilarity(uniform(0), uniform(1), "spearman", torch.ones(28))


@pytest.mark.parametrize("compare", ["corr", "cosine"])
def test_eq4_exists_for_mse_only(compare):
    message = f"gradient='per-stimulus' is Eq. 4 and exists for compare='mse' only, not {compare!r}"
    with raises(ValueError, message):
        rdl.rdl_loss(patterns(), uniform(1), compare=compare, gradient="per-stimulus")


@pytest.mark.parametrize(
    ("features", "shape", "n", "expected"),
    [
        (patterns(), (27,), 8, 28),
        (patterns(), (8, 8), 8, 28),
        (patterns(), (1, 28), 8, 28),
        (patterns(n=3), (), 3, 3),
        (torch.tensor(1.0), (3,), 0, 0),
    ],
)
def test_target_and_weights_are_condensed_and_whole(features, shape, n, expected):
    rest = (
        f"has shape {shape}, but the condensed RDM of {n} stimuli has {expected} distances; a square RDM is condensed "
        "by to_condensed, and with pairs it is still given whole"
    )
    with raises(ValueError, f"target {rest}"):
        rdl.rdl_loss(features, torch.zeros(shape))
    if features.ndim:
        with raises(ValueError, f"weights {rest}"):
            rdl.rdl_loss(features, torch.zeros(expected), weights=torch.zeros(shape))


@pytest.mark.parametrize("wrong", [-1.0, -torch.inf, torch.inf, torch.nan])
def test_weights_are_not_negative_and_not_missing(wrong):
    w = uniform(2)
    w[4] = wrong
    message = "weights must be finite and 0 or larger for every measured pair; a pair that does not count has weight 0"
    with raises(ValueError, message):
        rdl.rdl_loss(patterns(), uniform(1), weights=w)


def test_what_distances_and_pairs_refuse_the_loss_refuses():
    message = "features must have shape (stimuli, units, …) with at least 2 stimuli and 1 unit, got (1, 5)"
    with raises(ValueError, message):
        rdl.rdl_loss(patterns(n=1), torch.zeros(0))
    message = "pair 0 is (0, 8); both members must lie in 0 … 7 and differ"
    with raises(ValueError, message):
        rdl.rdl_loss(patterns(), uniform(1), pairs=torch.tensor([[0, 8]]))
    message = "cannot draw 29 distinct pairs from 8 stimuli, which have 28; ask for at least 1 and at most that many"
    with raises(ValueError, message):
        rdl.RDLoss(n_pairs=29)(patterns(), uniform(1))


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("compare", ["mse", "corr", "cosine"])
def test_a_missing_activation_makes_the_loss_missing(metric, compare):
    features = torch.randn(5, 4, generator=torch.Generator().manual_seed(0))
    features[2, 1] = torch.nan
    assert rdl.rdl_loss(features.requires_grad_(), torch.rand(10), metric=metric, compare=compare).isnan()


# what is no tensor


@pytest.mark.parametrize("value", [[1.0, 2.0, 3.0], np.array([1.0, 2.0, 3.0])])
def test_lists_and_arrays_are_refused(value):
    x, target = torch.zeros(3, 2), torch.ones(3)
    message = "{} must be a torch Tensor, got a " + type(value).__name__ + "; torch.as_tensor makes one"
    with raises(TypeError, message.format("target")):
        rdl.rdl_loss(x, value)
    with raises(TypeError, message.format("weights")):
        rdl.rdl_loss(x, target, weights=value)
    with raises(TypeError, message.format("pairs")):
        rdl.rdl_loss(x, target, pairs=value)
    with raises(TypeError, message.format("features")):
        rdl.rdl_loss(value, target)
    with raises(TypeError, message.format("features")):
        rdl.RDLoss(n_pairs=1)(value, target)
    with raises(TypeError, message.format("the condensed RDM")):
        rdl.to_square(value)
    with raises(TypeError, message.format("the square RDM")):
        rdl.to_condensed(value)
    with raises(TypeError, "target must be a torch Tensor, got a NoneType; torch.as_tensor makes one"):
        rdl.rdl_loss(x, None)
