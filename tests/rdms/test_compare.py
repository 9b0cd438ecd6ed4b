"""compare_rdms against rsatoolbox, on random, tied and real RDMs."""

import re

import numpy as np
import pytest
import torch
import xarray as xr
from rsatoolbox.rdm import RDMs, compare
from rsatoolbox.rdm.compare import _cosine_cov_weighted_slow
from scipy.spatial.distance import pdist, squareform

import brainrdl as rdl
from brainrdl.known import METHODS
from objects92 import cichy, human_it

SHARED = [method for method in METHODS if method != "mse"]


def labelled(values, metric="undeclared", prefix="rdm", **coords):
    n = round((1 + np.sqrt(1 + 8 * values.shape[1])) / 2)
    return rdl.label_rdms(
        values, [f"s{i:02}" for i in range(n)], [f"{prefix}{k}" for k in range(len(values))], metric, coords
    )


def random(kind="random", n=12, count=(3, 4), seed=0):
    rng = np.random.default_rng(seed)
    values = [rng.gamma(2.0, 1.0, (c, n * (n - 1) // 2)) for c in count]
    return [np.round(v * 2) / 2 for v in values] if kind == "tied" else values


@pytest.mark.parametrize("method", SHARED)
@pytest.mark.parametrize("kind", ["random", "tied"])
def test_equals_rsatoolbox(method, kind):
    a, b = random(kind)
    ours = rdl.compare_rdms(labelled(a), labelled(b), method).values
    np.testing.assert_allclose(ours, compare(RDMs(a), RDMs(b), method), rtol=0, atol=1e-12)


@pytest.mark.parametrize("method", SHARED)
def test_equals_rsatoolbox_on_real_data(method):
    a, b = human_it(), cichy("IT").isel(rdm=slice(3))
    values = [squareform(r, checks=False) for r in a.values], [squareform(r, checks=False) for r in b.values]
    theirs = compare(RDMs(np.array(values[0])), RDMs(np.array(values[1])), method)
    np.testing.assert_allclose(rdl.compare_rdms(a, b, method).values, theirs, rtol=0, atol=1e-10)


@pytest.mark.parametrize("method", ["cosine_cov", "corr_cov"])
def test_a_full_covariance_equals_rsatoolbox(method):
    a, b = random(n=9)
    x = np.random.default_rng(1).normal(size=(9, 30))
    sigma = x @ x.T / 30
    ours = rdl.compare_rdms(labelled(a), labelled(b), method, sigma_k=sigma).values
    # its solver stops at a relative residual of 1e-5
    np.testing.assert_allclose(ours, compare(RDMs(a), RDMs(b), method, sigma_k=sigma), rtol=0, atol=3e-5)
    v = contrast_covariance(sigma)
    np.testing.assert_allclose(ours, whitened_cosine(a, b, v, method), rtol=0, atol=1e-12)


def contrast_covariance(sigma):
    n = len(sigma)
    i, j = np.triu_indices(n, 1)
    contrasts = np.eye(n)[i] - np.eye(n)[j]
    return (contrasts @ sigma @ contrasts.T) ** 2


def whitened_cosine(a, b, v, method="cosine_cov"):
    if method == "corr_cov":
        a, b = a - a.mean(1, keepdims=True), b - b.mean(1, keepdims=True)
    inverse = np.linalg.inv(v)
    norms = [np.sqrt(np.einsum("ki,ij,kj->k", x, inverse, x)) for x in (a, b)]
    return a @ inverse @ b.T / np.outer(*norms)


@pytest.mark.parametrize("method", ["cosine_cov", "corr_cov"])
@pytest.mark.parametrize("missing", [False, True])
@pytest.mark.parametrize("kind", ["identity", "variances", "full"])
def test_whitening_is_by_the_inverse_covariance_of_the_measured_pairs(kind, missing, method):
    a, b = random(n=8, seed=3)
    rng = np.random.default_rng(4)
    variances = rng.uniform(0.5, 2.0, 8)
    x = rng.normal(size=(8, 20))
    sigma = {"identity": None, "variances": variances, "full": x @ x.T / 20}[kind]
    v = contrast_covariance({"identity": np.eye(8), "variances": np.diag(variances), "full": sigma}[kind])
    keep = np.ones(28, dtype=bool)
    if missing:
        keep[[0, 5, 6, 20, 27]] = False
        a[:, [0, 5, 6]] = np.nan
        b[:, [20, 27]] = np.nan
    ours = rdl.compare_rdms(labelled(a), labelled(b), method, sigma_k=sigma).values
    expected = whitened_cosine(a[:, keep], b[:, keep], v[np.ix_(keep, keep)], method)
    np.testing.assert_allclose(ours, expected, rtol=0, atol=1e-11)


def test_whitened_cosine_with_missing_pairs_equals_rsatoolbox():
    a, b = random()
    a[:, [3, 8]] = b[:, [3, 8]] = np.nan
    ours = rdl.compare_rdms(labelled(a), labelled(b), "cosine_cov").values
    np.testing.assert_allclose(ours, compare(RDMs(a), RDMs(b), "cosine_cov"), rtol=0, atol=1e-12)
    keep = ~np.isnan(a[0])
    slow = _cosine_cov_weighted_slow(a[:, keep], b[:, keep], np.eye(12), keep)
    np.testing.assert_allclose(ours, slow, rtol=0, atol=1e-4)


def test_linear_cka_is_the_whitened_cosine_of_squared_euclidean_rdms():
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(10, 7)), rng.normal(size=(10, 5))
    kernels = [(z - z.mean(0)) @ (z - z.mean(0)).T for z in (x, y)]
    cka = (kernels[0] * kernels[1]).sum() / np.sqrt((kernels[0] ** 2).sum() * (kernels[1] ** 2).sum())
    rdms = [labelled(pdist(z, "sqeuclidean")[None], "sqeuclidean") for z in (x, y)]
    assert rdl.compare_rdms(*rdms, "cosine_cov").item() == pytest.approx(cka, abs=1e-13)


def test_mse_is_negated_and_needs_one_metric():
    a, b = random()
    result = rdl.compare_rdms(labelled(a), labelled(b), "mse")
    assert result.name == "neg_mse"
    np.testing.assert_allclose(result.values, -((a[:, None] - b[None]) ** 2).mean(-1), rtol=1e-12)
    with pytest.raises(ValueError) as error:
        rdl.compare_rdms(labelled(a, "mse"), labelled(b / b.max(), "correlation"), "mse")
    assert str(error.value) == (
        "mse between RDMs of different metrics ('mse' and 'correlation') compares units, not geometry; use corr or "
        "cosine, which ignore the scale"
    )


@pytest.mark.parametrize("method", METHODS)
def test_the_order_of_stimuli_changes_nothing(method):
    a, b = map(labelled, random("tied"))
    order = np.random.default_rng(5).permutation(12)
    shuffled = rdl.select_stimuli(b, b["stimulus"].values[order].tolist())
    xr.testing.assert_allclose(rdl.compare_rdms(a, shuffled, method), rdl.compare_rdms(a, b, method), atol=1e-13)


@pytest.mark.parametrize("method", METHODS)
def test_each_two_rdms_are_compared_on_the_pairs_that_both_measured(method):
    a, b = random(n=7)
    a[0, :4] = np.nan
    a[2, 10] = np.nan
    b[1, 3:9] = np.nan
    result = rdl.compare_rdms(labelled(a), labelled(b), method)
    for k in range(3):
        for m in range(4):
            gap = np.isnan(a[k]) | np.isnan(b[m])
            one, other = np.where(gap, np.nan, a[k])[None], np.where(gap, np.nan, b[m])[None]
            alone = rdl.compare_rdms(labelled(one), labelled(other), method).item()
            assert result.values[k, m] == pytest.approx(alone, abs=1e-13)
            if method not in ("mse",):
                theirs = compare(RDMs(one), RDMs(other), method).item()
                assert alone == pytest.approx(theirs, abs=1e-12)


VARYING = [method for method in SHARED if method not in ("cosine", "cosine_cov")]


def warned(call, message):
    with pytest.warns(UserWarning, match=f"^{re.escape(message)}$"):
        return call()


@pytest.mark.parametrize("method", VARYING)
def test_of_several_rdms_the_one_without_geometry_is_nan_and_named(method):
    a, b = random(n=4, count=(3, 1))
    a[0, 1:] = np.nan  # a single common pair
    a[1] = 0.1  # constant, and not representable
    result = warned(
        lambda: rdl.compare_rdms(labelled(a), labelled(b, prefix="brain"), method),
        f"nothing to compare by '{method}': a holds 'rdm0', which has 1 measured pairs, fewer than the 2 that a "
        "comparison needs; 'rdm1', which is constant (every distance is 0.1); the similarities are NaN",
    )
    np.testing.assert_array_equal(np.isnan(result.values[:, 0]), [True, True, False])
    assert result.values[2, 0] != 0


@pytest.mark.parametrize("method", VARYING)
@pytest.mark.parametrize("side", ["a", "b"])
def test_an_array_of_constant_rdms_is_an_error(side, method):
    a, b = random(n=4, count=(2, 1))
    constant = labelled(np.stack([np.full(6, 0.1), np.zeros(6)]), prefix="flat")
    given = {"a": labelled(a), "b": labelled(b)} | {side: constant}
    with pytest.raises(ValueError) as error:
        rdl.compare_rdms(*given.values(), method)
    assert str(error.value) == (
        f"nothing to compare by '{method}': {side} holds 'flat0', which is constant (every distance is 0.1); 'flat1', "
        "which is zero for every pair; leave these out"
    )


@pytest.mark.parametrize("method", ["cosine", "cosine_cov"])
def test_the_cosine_compares_constant_rdms_but_not_zero_ones(method):
    a, b = random(n=4, count=(2, 1))
    a[0] = 2.5
    theirs = compare(RDMs(a), RDMs(b), method)
    np.testing.assert_allclose(rdl.compare_rdms(labelled(a), labelled(b), method).values, theirs, atol=1e-12)
    a[0] = 0.0
    result = warned(
        lambda: rdl.compare_rdms(labelled(a), labelled(b), method),
        f"nothing to compare by '{method}': a holds 'rdm0', which is zero for every pair; the similarities are NaN",
    )
    assert np.isnan(result.values[0, 0])
    assert result.values[1, 0] == pytest.approx(theirs[1, 0], abs=1e-12)


def test_rdms_that_share_too_few_pairs_or_do_not_vary_on_them_are_named():
    values = np.array([[1.0, 2.0, 3.0, np.nan, np.nan, np.nan], [np.nan, np.nan, 2.0, 1.0, 3.0, 2.0]])
    whole = labelled(np.array([[4.0, 4.0, 4.0, 1.0, 2.0, 3.0]]), prefix="brain")
    both = xr.concat([whole, labelled(values[1:], prefix="part")], "rdm")
    result = warned(
        lambda: rdl.compare_rdms(labelled(values), both),
        "nothing to compare by 'corr': in 2 of 4 comparisons, 'rdm0' with 'brain0' first, the RDMs share fewer than 2 "
        "measured pairs, or one does not vary on these; the similarities are NaN",
    )
    np.testing.assert_array_equal(np.isnan(result.values), [[True, True], [False, False]])
    with pytest.raises(ValueError) as error:
        rdl.compare_rdms(labelled(values[:1]), labelled(values[1:]))
    assert str(error.value) == (
        "nothing to compare by 'corr': in 1 of 1 comparisons, 'rdm0' with 'rdm0' first, the RDMs share fewer than 2 "
        "measured pairs, or one does not vary on these; leave these out"
    )


def test_mse_compares_constant_rdms():
    values = np.array([[1.0, 1.0, 1.0], [0.0, 0.0, 0.0], [1.0, 2.0, 3.0]])
    result = rdl.compare_rdms(labelled(values), labelled(values[2:]), "mse")
    np.testing.assert_allclose(result.values[:, 0], [-5 / 3, -14 / 3, 0.0], rtol=1e-12)


def test_coordinates_and_counts_are_kept():
    a, b = random()
    models = labelled(a, "mse", "layer", layer=["conv1", "conv2", "fc"])
    brains = labelled(b, "crossnobis", roi="IT", subject=["1", "2", "3", "4"])
    result = rdl.compare_rdms(models, brains.isel(stimulus=slice(2, None), stimulus_=slice(2, None)), join="intersect")
    assert result.dims == ("rdm_a", "rdm_b")
    assert result["layer_a"].values.tolist() == ["conv1", "conv2", "fc"]
    assert result["subject_b"].values.tolist() == ["1", "2", "3", "4"]
    assert result["roi_b"].values.tolist() == ["IT"] * 4
    assert result.attrs == {
        "method": "corr",
        "metric_a": "mse",
        "metric_b": "crossnobis",
        "n_stimuli": 10,
        "n_left_out_a": 2,
        "n_left_out_b": 0,
    }
    expected = rdl.compare_rdms(
        rdl.select_stimuli(models, [f"s{i:02}" for i in range(2, 12)]), brains, join="intersect"
    )
    np.testing.assert_allclose(result.values, expected.values, rtol=0, atol=1e-14)


def test_different_stimuli_are_an_error():
    a, b = map(labelled, random())
    ids = [f"s{i:02}" for i in range(2, 12)]
    with pytest.raises(ValueError) as error:
        rdl.compare_rdms(a, rdl.select_stimuli(b, ids))
    assert str(error.value) == (
        "the stimuli of a and b differ: 10 are shared, a alone has 's00', 's01'; join='intersect', "
        "or select_stimuli first, leaves the others out"
    )
    with pytest.raises(ValueError) as error:
        rdl.compare_rdms(rdl.select_stimuli(a, ids[:3]), rdl.select_stimuli(b, ids[1:]), join="intersect")
    assert str(error.value) == "a and b share 2 stimuli; a comparison needs at least 3"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"method": "speerman"},
            "unknown method 'speerman'; known are: cosine, corr, cosine_cov, corr_cov, spearman, rho-a, tau-a, tau-b, "
            "mse; did you mean 'spearman'?",
        ),
        ({"sigma_k": np.ones(12)}, "sigma_k is for cosine_cov and corr_cov, not 'corr'; leave it out"),
        ({"partial": "c"}, "unknown partial 'c'; known are: both, a, b"),
        ({"partial": "a"}, "partial='a' says what controls are taken out of, but there are no controls"),
        ({"join": "outer"}, "unknown join 'outer'; known are: exact, intersect"),
        (
            {"method": "cosine_cov", "sigma_k": np.ones(3)},
            "sigma_k has shape (3,), expected (12,) variances or a (12, 12) covariance, in the order of the "
            "stimuli of a",
        ),
        (
            {"method": "cosine_cov", "sigma_k": np.arange(12.0)},
            "sigma_k holds a variance of 0; variances must be above 0",
        ),
        (
            {"method": "cosine_cov", "sigma_k": np.eye(12) + np.eye(12, k=1)},
            "sigma_k is not symmetric (largest difference 1); a covariance is",
        ),
        (
            {"method": "cosine_cov", "sigma_k": np.diag([-1.0, *[1.0] * 11])},
            "sigma_k leaves a contrast of stimuli without variance (its smallest centred eigenvalue is -8e-01 of the "
            "largest), so that it cannot be inverted; shrink it toward its diagonal",
        ),
        (
            {"method": "cosine_cov", "sigma_k": xr.DataArray(np.ones(12), dims="stimulus")},
            "sigma_k has dimensions ('stimulus',) without ids, expected ('stimulus',) or ('stimulus', 'stimulus_') "
            "with the ids as coordinates",
        ),
    ],
)
def test_refusals(options, message):
    a, b = map(labelled, random())
    with pytest.raises(ValueError) as error:
        rdl.compare_rdms(a, b, **options)
    assert str(error.value) == message


def test_sigma_k_is_joined_by_id():
    a, b = map(labelled, random())
    variances = np.random.default_rng(0).uniform(0.5, 2.0, 12)
    expected = rdl.compare_rdms(a, b, "cosine_cov", sigma_k=variances)
    order = np.random.default_rng(1).permutation(12)
    sigma = xr.DataArray(variances[order], dims="stimulus", coords={"stimulus": a["stimulus"].values[order]})
    xr.testing.assert_allclose(rdl.compare_rdms(a, b, "cosine_cov", sigma_k=sigma), expected)
    ids = a["stimulus"].values
    full = xr.DataArray(
        np.diag(variances)[np.ix_(order, order)],
        dims=("stimulus_", "stimulus"),
        coords={"stimulus": ids[order], "stimulus_": ids[order]},
    )
    xr.testing.assert_allclose(rdl.compare_rdms(a, b, "cosine_cov", sigma_k=full), expected, atol=1e-12)
    part = [f"s{i:02}" for i in (3, 1, 7, 0)]
    both = [
        rdl.compare_rdms(a, rdl.select_stimuli(b, part), "corr_cov", sigma_k=s, join="intersect")
        for s in (variances, sigma)
    ]
    xr.testing.assert_allclose(*both)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("method", METHODS)
def test_the_gpu_gives_the_same_numbers(method):
    a, b = map(labelled, random("tied"))
    expected = rdl.compare_rdms(a, b, method)
    with torch.device("cuda"):
        result = rdl.compare_rdms(a, b, method)
    xr.testing.assert_allclose(result, expected, atol=1e-12)


# controls


def residual(x, controls):
    return x - controls @ np.linalg.lstsq(controls, x, rcond=None)[0]


def cosine(x, y):
    return x @ y / np.sqrt((x @ x) * (y @ y))


@pytest.mark.parametrize("partial", ["both", "a", "b"])
@pytest.mark.parametrize("method", ["cosine", "corr", "spearman", "cosine_cov", "corr_cov"])
@pytest.mark.parametrize("kind", ["random", "tied"])
def test_controls_equal_least_squares(kind, method, partial):
    from scipy.stats import rankdata

    a, b = random(kind)
    c = random(kind, count=(2, 1), seed=7)[0]
    b = np.round(b + 0.7 * c[0], 9)  # SciPy knows no ties up to rounding
    ours = rdl.compare_rdms(labelled(a), labelled(b), method, controls=labelled(c, prefix="control"), partial=partial)
    prepare = np.array
    if method == "spearman":
        prepare = rankdata
    elif method.startswith("corr"):
        prepare = lambda x: x - x.mean()  # noqa: E731
    whiten = np.eye(66)
    if method.endswith("cov"):
        whiten = np.linalg.inv(np.linalg.cholesky(contrast_covariance(np.eye(12))))
    x, y, z = ([whiten @ prepare(row) for row in rows] for rows in (a, b, c))
    design = np.stack([*z, np.ones(66)] if method in ("corr", "spearman") else z, axis=1)
    centre = (lambda v: v - v.mean()) if method in ("corr", "spearman") else np.array
    x = [residual(v, design) if partial != "b" else centre(v) for v in x]
    y = [residual(v, design) if partial != "a" else centre(v) for v in y]
    expected = [[cosine(v, w) for w in y] for v in x]
    np.testing.assert_allclose(ours.values, expected, rtol=0, atol=1e-12)


def test_controls_that_repeat_each_other_or_say_nothing_change_nothing():
    a, b = map(labelled, random())
    c = random(count=(2, 1), seed=7)[0]
    same = np.stack([c[0], 3 * c[0] + 1, np.ones(66), c[1]])
    xr.testing.assert_allclose(
        rdl.compare_rdms(a, b, controls=labelled(same)), rdl.compare_rdms(a, b, controls=labelled(c)), atol=1e-12
    )


def test_of_what_controls_explain_entirely_nothing_is_left_to_compare():
    a, b = random()
    a[0] = 2 * b[2] + 1
    result = warned(
        lambda: rdl.compare_rdms(labelled(a), labelled(b), controls=labelled(b[2:3])),
        "nothing to compare by 'corr': in 6 of 12 comparisons, 'rdm0' with 'rdm0' first, the RDMs share fewer than 2 "
        "measured pairs, or what the controls leave of one is nothing; the similarities are NaN",
    ).values
    assert np.isnan(result[0]).all()
    assert np.isnan(result[:, 2]).all()
    assert (result[1:, [0, 1, 3]] != 0).all()


def test_controls_are_refused_where_they_mean_nothing():
    a, b = map(labelled, random())
    with pytest.raises(ValueError) as error:
        rdl.compare_rdms(a, b, "tau-a", controls=a)
    assert str(error.value) == (
        "controls are not defined for 'tau-a'; choose one of: cosine, corr, cosine_cov, corr_cov, spearman"
    )


@pytest.mark.parametrize("method", [method for method in METHODS if method != "mse"])
@pytest.mark.parametrize("scale", [1e-200, 1e200])
def test_distances_of_any_magnitude(method, scale):
    rng = np.random.default_rng(0)
    a, b = (rdl.label_rdms(rng.random((2, 28)), list("abcdefgh"), ["x", "y"], "undeclared") for _ in range(2))
    expected = rdl.compare_rdms(a, b, method)
    for first, second in ((a * scale, b), (a, b * scale), (a * scale, b / scale)):
        np.testing.assert_allclose(rdl.compare_rdms(first, second, method), expected, rtol=1e-12, atol=1e-14)


def test_covariances_of_a_stimulus_named_twice():
    rdms = rdl.label_rdms(np.ones((1, 6)), list("abcd"), ["x"], "undeclared")
    sigma = xr.DataArray(np.ones(5), dims=("stimulus",), coords={"stimulus": list("abcda")})
    with pytest.raises(ValueError) as raised:
        rdl.compare_rdms(rdms, rdms, "corr_cov", sigma_k=sigma)
    assert str(raised.value) == "coordinate 'stimulus' of sigma_k must be unique, but these occur more than once: 'a'"
