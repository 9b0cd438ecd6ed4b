import re

import numpy as np
import pandas as pd
import pytest
import torch
import xarray as xr
from rsatoolbox.data import Dataset
from rsatoolbox.rdm import calc_rdm

from brainrdl.fmri import crossnobis, distance_covariance, make_patterns, pattern_rdm, standard_errors
from brainrdl.fmri.distances import run_pair_distances
from brainrdl.fmri.uncertainty import _squared_products
from brainrdl.rdms.labelled import condense
from brainrdl.rdms.layout import check_rdms
from brainrdl.rdms.patterns import run_means
from fmri_patterns import RUNS, random_patterns, random_precision, slow_crossnobis


def raises(error, message):
    return pytest.raises(error, match=f"^{re.escape(message)}$")


PRECISIONS = {
    "identity": None,
    "pooled": random_precision(),
    "per run": {run: random_precision(seed=seed) for seed, run in enumerate(RUNS)},
}


@pytest.fixture(params=PRECISIONS.values(), ids=PRECISIONS)
def precision(request):
    return request.param


def assert_slow(rdms, patterns, precision):
    for (a, b), distance in slow_crossnobis(patterns, precision).items():
        distance = 0.0 if a == b else distance
        found = rdms.sel(rdm="IT", stimulus=a, stimulus_=b).item()
        np.testing.assert_allclose(found, distance, rtol=1e-10, atol=1e-12)


def test_equals_rsatoolbox_on_balanced_patterns(precision):
    patterns = random_patterns(repeats=2)
    data = Dataset(patterns.values, obs_descriptors={"c": patterns.stimulus.values, "r": patterns.run.values})
    noise = list(precision.values()) if isinstance(precision, dict) else precision
    theirs = calc_rdm(data, "crossnobis", descriptor="c", cv_descriptor="r", noise=noise)
    np.testing.assert_allclose(
        condense(crossnobis(patterns, precision)), theirs.dissimilarities, rtol=1e-10, atol=1e-10
    )


@pytest.mark.parametrize("drop", [(), (("r1", 0), ("r2", 3))], ids=["balanced", "stimuli missing"])
def test_equals_the_definition(precision, drop):
    patterns = random_patterns(drop=drop)
    # unequal repetitions: the first run has some stimuli three times
    unequal = patterns.isel(observation=[0, 0, 0, 1, 1, *range(2, patterns.sizes["observation"])])
    unequal = unequal + np.random.default_rng(3).normal(size=unequal.shape)
    unequal.name = "IT"
    assert_slow(crossnobis(unequal, precision), unequal, precision)


def test_closed_form_equals_the_mean_over_run_pairs():
    patterns, omega = random_patterns(), random_precision()
    means = run_means(patterns)
    np.testing.assert_allclose(
        condense(crossnobis(patterns, omega))[0], run_pair_distances(means, omega).mean(axis=0), rtol=1e-10
    )


def test_a_common_offset_costs_no_digits():
    patterns, omega = random_patterns(), random_precision()
    np.testing.assert_allclose(
        condense(crossnobis(patterns + 1e6, omega)), condense(crossnobis(patterns, omega)), atol=1e-8
    )


def test_stimuli_and_runs_keep_their_order_and_names():
    patterns = random_patterns().isel(observation=slice(None, None, -1))
    rdms = check_rdms(crossnobis(patterns.astype(np.float32)))
    assert rdms.stimulus.values.tolist() == ["s4", "s3", "s2", "s1", "s0"]
    assert rdms.rdm.values.tolist() == ["IT"]
    assert rdms.attrs == {"metric": "crossnobis"}
    assert rdms.dtype == np.float64
    assert (rdms < 0).any()


def test_pairs_that_no_two_runs_share():
    patterns = random_patterns(drop=[("r1", 0), ("r2", 0), ("r3", 0)])
    with raises(
        ValueError,
        "in 'IT' no two runs share both stimuli of 4 pairs, so they cannot be cross-validated: 's1 – s0', 's2 – s0', "
        "'s3 – s0', 's4 – s0'; leave a stimulus out, or leave such pairs NaN with allow_missing=True",
    ):
        crossnobis(patterns)
    rdms = crossnobis(patterns, allow_missing=True)
    assert np.isnan(condense(rdms)).sum() == 4
    assert_slow(rdms, patterns, None)


def good():
    return random_patterns(n_stimuli=2, n_voxels=2, runs=(1, 2))


@pytest.mark.parametrize(
    ("patterns", "precision", "error", "message"),
    [
        (
            good().isel(observation=[0, 1]),
            None,
            ValueError,
            "there is one run only (1), so there is nothing to cross-validate over; crossnobis needs patterns of at "
            "least two runs (the folds are runs or sessions, never trials)",
        ),
        (
            np.eye(2),
            None,
            TypeError,
            "patterns is a ndarray; expected a DataArray (observation, voxel); fmri.make_patterns makes one",
        ),
        (
            good().to_dataset(),
            None,
            TypeError,
            "patterns is a Dataset; expected a DataArray (observation, voxel); take its variable 'patterns'",
        ),
        (
            good().T,
            None,
            ValueError,
            "the patterns' dimensions are ('voxel', 'observation'), expected ('observation', 'voxel')",
        ),
        (
            good().drop_vars("run"),
            None,
            ValueError,
            "the patterns have no coordinate 'run' along 'observation': patterns.assign_coords(run=('observation', "
            "[...]))",
        ),
        (good().astype(str), None, TypeError, "the patterns are of type <U32; expected real numbers"),
        (good().isel(voxel=[]), None, ValueError, "the patterns have no voxel; expected at least one"),
        (
            good().where(good() != good()[1, 1]),
            None,
            ValueError,
            "the pattern of 's1' in run 1 is nan in voxel 1; drop such voxels in all runs",
        ),
        (
            good().isel(observation=[0, 2]),
            None,
            ValueError,
            "an RDM needs at least 2 stimuli, and the patterns have 's0'",
        ),
        (good(), np.eye(3), ValueError, "the precision has shape (3, 3), expected (2, 2) as the patterns' voxels"),
        (
            good(),
            np.array([[1.0, 0.5], [0, 1]]),
            ValueError,
            "the precision is not symmetric; expected an inverse covariance",
        ),
        (
            good(),
            np.array([[1.0, np.nan], [np.nan, 1]]),
            ValueError,
            "the precision holds values that are not finite; drop voxels without variance first",
        ),
        (
            good(),
            {1: np.eye(2)},
            ValueError,
            "no precision is given for run 2; there is one for 1",
        ),
    ],
)
def test_bad_input(patterns, precision, error, message):
    with raises(error, message):
        crossnobis(patterns, precision)


def test_precisions_that_are_none():
    with raises(
        ValueError,
        "the precision of run 1 is singular: there are too few residuals for 2 voxels; shrink it "
        "(method='shrinkage_diag', in the pipeline noise='shrinkage_diag')",
    ):
        crossnobis(good(), {1: np.ones((2, 2)), 2: np.eye(2)})
    none = (
        "{} is not positive definite, so that distances may be negative without noise; expected the inverse of a "
        "covariance, shrunk toward its diagonal where there are more voxels than degrees of freedom"
    )
    with raises(ValueError, none.format("the precision of run 1")):
        crossnobis(good(), {1: np.array([[1.0, 2], [2, 1]]), 2: np.eye(2)})
    with raises(ValueError, none.format("the precision")):
        crossnobis(good(), np.diag([1.0, 0]))
    # one that is negative along a direction that the first checks do not try, but in which patterns differ
    direction = np.random.default_rng(2).normal(size=7)
    direction /= np.linalg.norm(direction)
    indefinite = np.eye(7) - 1.2 * np.outer(direction, direction)
    along = make_patterns(np.outer([1, -1] * 3, direction), ["a", "b"] * 3, [1, 1, 2, 2, 3, 3])
    for compute in (
        lambda: crossnobis(along, indefinite),
        lambda: crossnobis(along.isel(observation=slice(5)), indefinite),
        lambda: standard_errors(random_patterns(), indefinite),
        lambda: pattern_rdm(random_patterns(), "mahalanobis", indefinite, warn=False),
    ):
        with raises(ValueError, none.format("the precision")):
            compute()


def test_a_precisions_voxel_labels_are_not_ignored():
    omega = xr.DataArray(np.eye(2), dims=("voxel", "voxel_"), coords={"voxel": [1, 0], "voxel_": [1, 0]})
    for precision, what in ((omega, "the precision"), ({1: omega, 2: omega}, "the precision of run 1")):
        with raises(
            TypeError,
            f"{what} is a DataArray, whose voxel labels would be ignored; pass its .values, in the order of the "
            "patterns' voxels",
        ):
            crossnobis(good(), precision)


def test_labels_for_an_array():
    with raises(
        ValueError,
        "values has shape (2, 3) and runs 1 entries; expected (observations, voxels) and one entry per observation",
    ):
        make_patterns(np.zeros((2, 3)), ["a", "b"], [1])


@pytest.mark.parametrize(
    ("stimuli", "runs", "error", "message"),
    [
        *(
            (
                ["a", "b"],
                [runs, missing],
                ValueError,
                f"observation 1 ('b') has no run ({missing!r}); runs are the folds of cross-validation, so name the "
                "run of each observation, or leave such observations out",
            )
            for runs, missing in (("r1", np.nan), ("r1", ""), (1, None), (1, pd.NA), (1.0, np.nan))
        ),
        (["a", "b"], [1, "1"], TypeError, "the runs are text and numbers, 1 and '1'; expected all of one kind"),
        (
            ["a", np.nan],
            [1, 1],
            TypeError,
            "the stimulus of observation 1 is nan, of type float; expected a string",
        ),
        (["", "b"], [1, 1], ValueError, "the stimulus of observation 0 is an empty string; expected a name"),
    ],
)
def test_labels_that_are_none(stimuli, runs, error, message):
    with raises(error, message):
        make_patterns(np.eye(2), stimuli, runs)
    labelled = make_patterns(np.eye(2), ["a", "b"], [1, 1]).assign_coords(
        stimulus=("observation", np.array(stimuli, dtype=object)), run=("observation", np.array(runs, dtype=object))
    )
    with raises(error, message):
        crossnobis(labelled)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_gpu_agrees(precision):
    patterns = random_patterns()
    np.testing.assert_allclose(
        crossnobis(patterns, precision, device="cuda"), crossnobis(patterns, precision), rtol=1e-9
    )


# standard errors


def noise_only(rng, n_runs=6, n_stimuli=4, n_voxels=100, signal=0.0, between_voxels=0.5):
    """Patterns of correlated stimuli and voxels; returns patterns and the true distances."""
    mix_k = np.eye(n_stimuli) + 0.3
    mix_v = np.eye(n_voxels) + between_voxels * np.eye(n_voxels, k=1)
    true = signal * np.random.default_rng(5).normal(size=(n_stimuli, n_voxels))
    noise = np.einsum("ij,rjv,vw->riw", mix_k, rng.normal(size=(n_runs, n_stimuli, n_voxels)), mix_v)
    values = (true + noise).reshape(-1, n_voxels)
    labels = [f"s{k}" for k in range(n_stimuli)] * n_runs
    i, j = np.triu_indices(n_stimuli, 1)
    return make_patterns(values, labels, np.repeat(np.arange(n_runs), n_stimuli)), np.square(true[i] - true[j]).mean(
        axis=1
    )


@pytest.mark.parametrize("signal", [0.0, 1.0])
@pytest.mark.parametrize("method", ["analytic", "jackknife"])
def test_standard_errors_cover(method, signal):
    rng = np.random.default_rng(0)
    distances, errors = [], []
    for _ in range(300):
        patterns, true = noise_only(rng, signal=signal)
        distances.append(condense(crossnobis(patterns))[0] - true)
        square = standard_errors(patterns, method=method).values[0]
        errors.append(square[np.triu_indices(4, 1)])
    spread = np.std(distances, axis=0)
    ratio = np.sqrt(np.mean(np.square(errors), axis=0)) / spread
    if method == "jackknife" and not signal:
        # of a degenerate U-statistic the jackknife's variance is 2(R−1)/(R−2) times too large
        np.testing.assert_allclose(ratio, np.sqrt(2 * 5 / 4), rtol=0.15)
    else:
        assert (ratio > 0.85).all()
        assert (ratio < 1.25).all()
    covered = np.mean(np.abs(distances) < 1.96 * np.array(errors))
    assert 0.86 < covered < 0.995


def test_analytic_errors_are_the_roots_of_the_covariance():
    patterns, _ = noise_only(np.random.default_rng(1), signal=2.0)
    covariance = distance_covariance(patterns)
    errors = standard_errors(patterns).values[0][np.triu_indices(4, 1)]
    np.testing.assert_allclose(np.sqrt(np.diagonal(covariance)), errors)


@pytest.mark.parametrize("n_runs", [3, 6])
def test_analytic_errors_do_not_depend_on_the_order_of_runs(n_runs):
    patterns, _ = noise_only(np.random.default_rng(1), n_runs=n_runs)
    runs = np.random.default_rng(2).permutation(n_runs)
    moved = patterns.isel(observation=np.concatenate([np.flatnonzero(patterns["run"] == run) for run in runs]))
    np.testing.assert_allclose(standard_errors(moved), standard_errors(patterns), rtol=1e-12)


def test_spread_is_the_mean_over_rotations_of_contrasts():
    """‖E_k E_lᵀ‖², k ≠ l, of contrasts in random directions of the space of differences between runs."""
    rng = np.random.default_rng(0)
    noise = rng.normal(size=(4, 2, 3))
    noise -= noise.mean(axis=0)
    found = []
    for _ in range(4000):
        Q, _ = np.linalg.qr(np.column_stack([np.ones(4), rng.normal(size=(4, 3))]))
        E = np.einsum("rk,rnv->knv", Q[:, 1:], noise)
        products = np.square(np.einsum("knv,lmv->klnm", E, E)).sum(axis=(2, 3))
        found.append((products.sum() - np.trace(products)) / 6)
    error = np.std(found) / np.sqrt(len(found))
    assert abs(_squared_products(noise) - np.mean(found)) < 4 * error
    assert error < 0.01 * np.mean(found)


def test_distance_covariance_is_that_of_simulations():
    rng = np.random.default_rng(0)
    distances, covariances = [], []
    for _ in range(600):
        patterns, _ = noise_only(rng, signal=1.0, n_voxels=40, between_voxels=0.0)
        distances.append(condense(crossnobis(patterns))[0])
        covariances.append(distance_covariance(patterns))
    expected, found = np.cov(np.array(distances).T), np.mean(covariances, axis=0)
    assert np.linalg.norm(found - expected) < 0.2 * np.linalg.norm(expected)


def test_errors_of_missing_stimuli():
    patterns = random_patterns(drop=[("r1", 0), ("r2", 0)])
    with raises(
        ValueError,
        "stimulus 's0' is missing in run 'r1', so there is no closed form; use standard_errors(..., "
        "method='jackknife')",
    ):
        standard_errors(patterns)
    square = standard_errors(patterns, method="jackknife").values[0]
    # two runs hold s0: a distance, but no error
    assert np.isnan(square).sum() == 8
    rdms = crossnobis(patterns).assign_coords(standard_error=standard_errors(patterns, method="jackknife"))
    check_rdms(rdms)


def test_errors_need_three_runs():
    with raises(
        ValueError,
        "there are two runs only (1, 2), from which no standard error can be estimated; it takes at least three",
    ):
        standard_errors(good())
    with raises(ValueError, "unknown method 'bootstrap'; known are analytic, jackknife"):
        standard_errors(random_patterns(), method="bootstrap")


# not cross-validated


def test_pattern_distances_equal_rsatoolbox():
    patterns, omega = random_patterns(), random_precision()
    data = Dataset(patterns.values, obs_descriptors={"c": patterns.stimulus.values})
    theirs = calc_rdm(data, "correlation", descriptor="c").dissimilarities
    np.testing.assert_allclose(condense(pattern_rdm(patterns, warn=False)), theirs)
    theirs = calc_rdm(data, "mahalanobis", descriptor="c", noise=omega).dissimilarities
    ours = condense(pattern_rdm(patterns, "mahalanobis", omega, warn=False))
    np.testing.assert_allclose(ours**2 / 7, theirs)


def test_bias_is_warned_of():
    with pytest.warns(
        UserWarning,
        match=re.escape(
            "euclidean distances are not cross-validated, so noise biases them: even equal patterns lie apart, the "
            "more so the noisier they are; crossnobis() is unbiased"
        ),
    ):
        pattern_rdm(random_patterns(), "euclidean")


@pytest.mark.parametrize(
    ("metric", "precision", "message"),
    [
        ("cosine", None, "unknown metric 'cosine'; known are correlation, euclidean, mahalanobis (and crossnobis())"),
        ("mahalanobis", None, "mahalanobis needs a precision; noise_precision estimates one"),
        ("euclidean", np.eye(7), "euclidean takes no precision; with one it is mahalanobis"),
        (
            "mahalanobis",
            PRECISIONS["per run"],
            "mahalanobis takes one precision, not one per run, as it averages the runs' patterns first",
        ),
    ],
)
def test_pattern_rdm_bad_input(metric, precision, message):
    with raises(ValueError, message):
        pattern_rdm(random_patterns(), metric, precision)
