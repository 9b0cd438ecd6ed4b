"""The noise's precision: the inverse of a shrunk covariance of residuals."""

from typing import Any, Literal, NamedTuple, get_args

import numpy as np
import scipy.linalg
import xarray as xr

from brainrdl.rdms.patterns import Array, run_means

Method = Literal["shrinkage_diag", "shrinkage_eye", "diag", "full"]


class Covariance(NamedTuple):
    """A noise covariance (voxels, voxels) and the share λ of its shrinkage target (0 without shrinkage)."""

    matrix: Array
    shrinkage: float


def noise_precision(
    residuals: xr.DataArray | np.ndarray, dof: xr.DataArray | int, *, method: Method = "shrinkage_diag"
) -> Array:
    """Estimate the noise's precision, the inverse of its covariance between voxels.

    Parameters
    ----------
    residuals : DataArray (scan, voxel) or ndarray (scans, voxels)
        Residuals of a GLM, whitened in time, of one run or of several below each other (pooled).
    dof : int or DataArray (run,)
        Their degrees of freedom: scans − rank of the design, summed over the runs that are pooled. (The number of
        regressors in its place silently removes the covariance between voxels.)
    method : {"shrinkage_diag", "shrinkage_eye", "diag", "full"}
        ``shrinkage_diag`` shrinks the sample covariance S to its diagonal (Schäfer & Strimmer 2005),
        ``shrinkage_eye`` to a multiple of the identity (Ledoit & Wolf 2004). ``diag`` is univariate noise
        normalisation, ``full`` the inverse of S.

    Returns
    -------
    ndarray (voxels, voxels)
        float64, in units of 1/residual².

    Raises
    ------
    ValueError
        If dimensions or degrees of freedom cannot be right, a value is not finite, a voxel has no variance, or the
        covariance is singular.

    See Also
    --------
    shrunk_covariance : The covariance itself, with λ.

    Examples
    --------
    >>> import numpy as np, brainrdl as rdl
    >>> residuals = np.random.default_rng(0).normal(0, 2, (500, 3))
    >>> np.diagonal(rdl.fmri.noise_precision(residuals, 490)).round(1)
    array([0.3, 0.3, 0.2])
    """
    covariance = shrunk_covariance(residuals, dof, method=method)
    return inverse(covariance.matrix, f"the covariance by method {method!r}")


def shrunk_covariance(
    residuals: xr.DataArray | np.ndarray, dof: xr.DataArray | int, *, method: Method = "shrinkage_diag"
) -> Covariance:
    """Estimate the noise's covariance between voxels; parameters as in `noise_precision`.

    S = XᵀX/dof, X the residuals less their mean over the N scans, is shrunk to its target by λ (0 without).
    """
    if method not in get_args(Method):
        raise ValueError(f"unknown method {method!r}; known are {', '.join(get_args(Method))}")
    X, degrees = _checked(residuals, dof)
    N = len(X)
    X = X - X.mean(axis=0)
    variance = np.einsum("tv,tv->v", X, X) / degrees
    # what rounding leaves of a constant is no variance
    constant = np.flatnonzero(variance <= 1e-20 * (np.abs(np.asarray(residuals)).max() ** 2 or 1.0))
    if constant.size:
        raise ValueError(
            f"the residuals of voxel {constant[0]} ({constant.size} in all) have no variance; drop such voxels first"
        )
    if method == "diag":
        return Covariance(np.diag(variance), 0.0)
    S = X.T @ X / degrees
    if method == "full":
        return Covariance(S, 0.0)
    if method == "shrinkage_eye":
        # λ = b²/d² of Ledoit & Wolf's Lemma 3.1, computed over the N rows and then scaled by N/dof
        s = S * (degrees / N)
        mean = np.trace(s) / len(s)
        fourth = np.square(np.einsum("tv,tv->t", X, X)).sum()  # Σ_ij Σ_t (x_ti x_tj)²
        b2 = (fourth / N - np.square(s).sum()) / N
        d2 = np.square(s).sum() - len(s) * mean**2
        # one voxel, or equal variances without covariance: S is its own target
        shrinkage = min(b2 / d2, 1.0) if d2 > 0 else 1.0
        matrix = (1 - shrinkage) * S
        matrix[np.diag_indices(len(S))] += shrinkage * mean * N / degrees
        return Covariance(matrix, float(shrinkage))
    # λ = Σ_{i≠j} Var(r_ij) / Σ_{i≠j} r_ij², with the degrees of freedom as sample size; as rsatoolbox computes it, but
    # without a loop over scans: Σ_ij (Σ_t z_ti² z_tj²) is Σ_t (Σ_i z_ti²)²
    Z = X / np.sqrt(variance)
    # Σ over i ≠ j of Σ_t z_ti² z_tj², and of r_ij²
    products = np.square(np.einsum("tv,tv->t", Z, Z)).sum() - (Z**4).sum()
    deviation = np.sqrt(variance)
    correlations = S / deviation / deviation[:, None] * (degrees / (N - 1))
    off = np.square(correlations).sum() - np.square(np.diagonal(correlations)).sum()
    spread = N / degrees**2 * (products / (N - 1) - off)
    shrinkage = min(max(spread / off, 0.0), 1.0) if off > 0 else 1.0
    matrix = (1 - shrinkage) * S
    matrix[np.diag_indices(len(S))] = variance
    return Covariance(matrix, float(shrinkage))


def repeats_precision(patterns: xr.DataArray, *, method: Method = "shrinkage_diag") -> Array:
    """Estimate the precision without residuals, from repeats of a condition within a run.

    Parameters
    ----------
    patterns : DataArray (observation, voxel)
        With coordinates ``stimulus`` and ``run``; single trials, of which some share stimulus and run.
    method : str
        Method as in `noise_precision`.

    Returns
    -------
    ndarray (voxels, voxels)
        From the deviations of trials from the mean of their stimulus and run; degrees of freedom = trials − means.

    Raises
    ------
    ValueError
        If no stimulus is repeated within a run, or as `noise_precision`.

    Examples
    --------
    >>> from brainrdl.fmri import make_patterns
    >>> trials = np.random.default_rng(0).normal(size=(40, 3))
    >>> repeats_precision(make_patterns(trials, ["face", "house"] * 20, [1] * 20 + [2] * 20)).shape
    (3, 3)
    """
    means = run_means(patterns)
    run_of = [means.runs.index(run) for run in patterns["run"].values.tolist()]
    stimulus_of = [means.stimuli.index(stimulus) for stimulus in patterns["stimulus"].values.tolist()]
    repeated = means.counts[run_of, stimulus_of] > 1
    dof = int(repeated.sum()) - int((means.counts > 1).sum())
    if dof < 1:
        raise ValueError(
            "no stimulus is repeated within a run, so the noise cannot be estimated from the patterns; give the "
            "residuals' precision, or none"
        )
    deviations = patterns.values.astype(np.float64) - means.values[run_of, stimulus_of]
    return noise_precision(deviations[repeated], dof, method=method)


def cholesky(matrix: Array, what: str) -> Array:
    """Factorise a covariance or precision; ValueError naming it if it is singular.

    Only the factor's lower triangle is set, in Fortran's order, as LAPACK's solvers take it.
    """
    # symmetric, so that Fortran's order sees the same matrix
    factor, failed = scipy.linalg.lapack.dpotrf(matrix.T, lower=1, clean=0)
    diagonal = np.abs(np.diagonal(factor))
    if failed or diagonal.min() ** 2 <= len(matrix) * np.finfo(np.float64).eps * diagonal.max() ** 2:
        raise ValueError(
            f"{what} is singular: there are too few residuals for {len(matrix)} voxels; shrink it "
            "(method='shrinkage_diag', in the pipeline noise='shrinkage_diag')"
        )
    lower: Array = factor
    return lower


def inverse(covariance: Array, what: str) -> Array:
    """Invert a covariance by its Cholesky factor; ValueError naming it if it is singular."""
    precision, _ = scipy.linalg.lapack.dpotri(cholesky(covariance, what), lower=1, overwrite_c=1)
    lower = np.tril(precision)
    mirrored: Array = lower + np.tril(lower, -1).T
    return mirrored


def _checked(residuals: Any, dof: Any) -> tuple[Array, int]:
    if isinstance(residuals, xr.DataArray) and residuals.dims != ("scan", "voxel"):
        raise ValueError(f"the residuals' dimensions are {residuals.dims}, expected ('scan', 'voxel')")
    X = np.asarray(residuals, dtype=np.float64)
    if X.ndim != 2 or not X.shape[1]:
        raise ValueError(f"residuals has shape {X.shape}, expected (scans, voxels); pool runs by concatenating them")
    if not np.isfinite(X).all():
        row, column = map(int, np.argwhere(~np.isfinite(X))[0])
        raise ValueError(f"the residual of scan {row} is {X[row, column]} in voxel {column}; drop such voxels first")
    counts = np.asarray(dof)
    if counts.dtype.kind not in "iuf" or not (np.isfinite(counts) & (counts % 1 == 0)).all():
        given = counts.tolist()
        raise ValueError(f"dof is {given!r}; expected whole numbers: scans − rank of the design, of each pooled run")
    degrees = int(counts.sum())
    if not 1 <= degrees < len(X):
        raise ValueError(
            f"dof is {degrees} for {len(X)} residuals; expected scans − rank of the design, summed over pooled runs"
        )
    return X, degrees
