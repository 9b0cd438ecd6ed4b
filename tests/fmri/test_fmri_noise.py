import re

import numpy as np
import pytest
import xarray as xr
from rsatoolbox.data.noise import cov_from_residuals, prec_from_residuals

from brainrdl.fmri import make_patterns, noise_precision, repeats_precision
from brainrdl.fmri.noise import shrunk_covariance

METHODS = ("shrinkage_diag", "shrinkage_eye", "diag", "full")


def raises(error, message):
    return pytest.raises(error, match=f"^{re.escape(message)}$")


def residuals(n_scans=200, n_voxels=12, seed=0):
    rng = np.random.default_rng(seed)
    return rng.normal(size=(n_scans, n_voxels)) @ (np.eye(n_voxels) + 0.3 * rng.normal(size=(n_voxels, n_voxels)))


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("dof", [199, 150])
def test_equals_rsatoolbox_with_the_same_dof(method, dof):
    X = residuals()
    theirs = prec_from_residuals(X, dof, method)
    np.testing.assert_allclose(
        noise_precision(X, dof, method=method), theirs, rtol=1e-8, atol=1e-8 * np.abs(theirs).max()
    )


@pytest.mark.parametrize("method", ["shrinkage_diag", "shrinkage_eye"])
def test_equals_rsatoolbox_with_fewer_scans_than_voxels(method):
    X = residuals(30, 50)
    covariance = shrunk_covariance(X, 25, method=method)
    assert 0 < covariance.shrinkage < 1
    np.testing.assert_allclose(covariance.matrix, cov_from_residuals(X, 25, method), rtol=1e-10, atol=1e-10)
    np.testing.assert_allclose(
        noise_precision(X, 25, method=method), prec_from_residuals(X, 25, method), rtol=1e-8, atol=1e-8
    )


def test_too_small_dof_removes_the_covariance():
    """The mistake that DESIGN warns of: the number of regressors passed as dof."""
    precision = noise_precision(residuals(), 8)
    assert np.count_nonzero(precision - np.diag(np.diagonal(precision))) == 0


def test_runs_are_pooled_and_their_dof_summed():
    X = xr.DataArray(residuals(), dims=("scan", "voxel"), coords={"run": ("scan", np.repeat([1, 2], 100))})
    dof = xr.DataArray([90, 85], dims="run", coords={"run": [1, 2]})
    np.testing.assert_array_equal(noise_precision(X, dof), noise_precision(X.values, 175))


def test_precision_from_repeats():
    rng = np.random.default_rng(0)
    factor = np.array([[1.0, 0.5, 0], [0, 1, 0], [0, 0, 2]])
    labels, runs = ["a", "b", "c"] * 200, np.repeat([1, 2, 3], 200)
    shift = {label: rng.normal(0, 10, 3) for label in "abc"}
    values = rng.normal(size=(600, 3)) @ factor + np.array([shift[label] for label in labels])
    precision = repeats_precision(make_patterns(values, labels, runs))
    np.testing.assert_allclose(np.linalg.inv(precision), factor.T @ factor, atol=0.3)
    with raises(
        ValueError,
        "no stimulus is repeated within a run, so the noise cannot be estimated from the patterns; give the residuals' "
        "precision, or none",
    ):
        repeats_precision(make_patterns(values[:2], ["a", "b"], [1, 1]))


def test_repeats_count_no_single_observation():
    """A mean of one observation has no deviation, and takes no degree of freedom."""
    values = np.random.default_rng(0).normal(size=(21, 2))
    labels = ["a"] * 10 + ["b"] * 10 + ["c"]
    with_single = repeats_precision(make_patterns(values, labels, [1] * 21))
    np.testing.assert_allclose(with_single, repeats_precision(make_patterns(values[:20], labels[:20], [1] * 20)))


def with_value(value, column=None):
    X = residuals(20, 3)
    X[4 if column is None else slice(None), 1] = value
    return X


@pytest.mark.parametrize(
    ("X", "dof", "method", "message"),
    [
        (residuals(20, 3), 15, "lw", f"unknown method 'lw'; known are {', '.join(METHODS)}"),
        (
            residuals(20, 3)[0],
            15,
            "diag",
            "residuals has shape (3,), expected (scans, voxels); pool runs by concatenating them",
        ),
        (with_value(np.nan), 15, "diag", "the residual of scan 4 is nan in voxel 1; drop such voxels first"),
        (
            with_value(3.3, 1),
            15,
            "diag",
            "the residuals of voxel 1 (1 in all) have no variance; drop such voxels first",
        ),
        (
            residuals(20, 3),
            20,
            "diag",
            "dof is 20 for 20 residuals; expected scans − rank of the design, summed over pooled runs",
        ),
        (
            xr.DataArray(residuals(20, 3).T, dims=("voxel", "scan")),
            2,
            "diag",
            "the residuals' dimensions are ('voxel', 'scan'), expected ('scan', 'voxel')",
        ),
        *(
            (
                residuals(20, 3),
                dof,
                "diag",
                f"dof is {dof!r}; expected whole numbers: scans − rank of the design, of each pooled run",
            )
            for dof in (9.7, np.nan, None, "x", [5.0, 4.5])
        ),
        (
            residuals(20, 30),
            15,
            "full",
            "the covariance by method 'full' is singular: there are too few residuals for 30 voxels; shrink it "
            "(method='shrinkage_diag', in the pipeline noise='shrinkage_diag')",
        ),
    ],
)
def test_bad_input(X, dof, method, message):
    with raises(ValueError, message):
        noise_precision(X, dof, method=method)
