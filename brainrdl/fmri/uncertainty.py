"""Uncertainty of crossnobis distances: their covariance, and standard errors of single pairs.

Diedrichsen & Kriegeskorte (2017), with Δ_ab = δ_aᵀδ_b/V the inner products of the true differences of pairs a and b,
Ξ = C Σ_K Cᵀ (Σ_K the covariance of one run's noise between stimuli, C the contrasts of pairs) and Σ the voxel
covariance that is left after whitening, tr(Σ) = V:

    Cov(d) = [4 (Δ∘Ξ)/R + 2 (Ξ∘Ξ)/(R(R−1))] · tr(Σ²)/V².
"""

from itertools import combinations, combinations_with_replacement
from typing import Literal, NamedTuple

import numpy as np
import xarray as xr

from brainrdl.arguments import name_some
from brainrdl.fmri.distances import check_shared, check_two_runs, mean_over_run_pairs, run_pair_distances
from brainrdl.fmri.noise import inverse
from brainrdl.rdms.labelled import label_rdms
from brainrdl.rdms.patterns import Array, Precision, RunMeans, check_folds, factor_of, precisions_of, run_means


def standard_errors(
    patterns: xr.DataArray,
    precision: Precision = None,
    *,
    method: Literal["analytic", "jackknife"] = "analytic",
    allow_missing: bool = False,
) -> xr.DataArray:
    """Estimate the standard error of each crossnobis distance.

    Parameters
    ----------
    patterns : DataArray (observation, voxel)
        Patterns as for `crossnobis`; at least three runs.
    precision : ndarray (voxels, voxels) or {run: ndarray (voxels, voxels)}, optional
        The one given to `crossnobis`.
    method : {"analytic", "jackknife"}
        ``analytic`` is the root of the diagonal of `distance_covariance` and needs every stimulus in every run.
        ``jackknife`` leaves out one run at a time: SE² = (R−1)/R Σ_r (d_(−r) − mean)², R the runs that hold the pair.
        It is conservative: where the true distance is zero, its variance is 2(R−1)/(R−2) times too large (Efron &
        Stein 1981). The spread over run pairs is no standard error, as run pairs share runs.
    allow_missing : bool
        True makes pairs NaN that no two runs share, as in `crossnobis`.

    Returns
    -------
    DataArray (rdm, stimulus, stimulus_)
        Laid out and labelled as the RDM, so that ``rdms.assign_coords(standard_error=...)`` takes it. NaN where a
        pair is not measured, or (jackknife) held by fewer than three runs.

    Raises
    ------
    TypeError, ValueError
        As `crossnobis`; if there are fewer than three runs, or a stimulus lacks in a run (analytic).

    Examples
    --------
    >>> import numpy as np, brainrdl as rdl
    >>> from brainrdl.fmri import make_patterns
    >>> noise = np.random.default_rng(0).normal(size=(6, 50))
    >>> patterns = make_patterns(noise, ["face", "house"] * 3, [1, 1, 2, 2, 3, 3], name="IT")
    >>> rdms = rdl.fmri.crossnobis(patterns)
    >>> rdms = rdms.assign_coords(standard_error=rdl.fmri.standard_errors(patterns))
    >>> rdms["standard_error"].sel(rdm="IT", stimulus="face", stimulus_="house").item() > 0
    True
    """
    means, checked = _checked(patterns, precision)
    if method == "analytic":
        parts = _parts(means, checked)
        i, j = np.triu_indices(len(means.stimuli), 1)
        xi = parts.noise[i, i] + parts.noise[j, j] - 2 * parts.noise[i, j]
        delta = parts.signal[i, i] + parts.signal[j, j] - 2 * parts.signal[i, j]
        # a variance has no negative part, though the estimate of a true difference may be negative
        errors = np.sqrt(_covariance(np.maximum(delta, 0.0), xi, parts))
    elif method == "jackknife":
        distances = run_pair_distances(means, checked)
        check_shared(means, mean_over_run_pairs(distances), allow_missing=allow_missing)
        errors = _jackknife(distances, len(means.runs))
    else:
        raise ValueError(f"unknown method {method!r}; known are analytic, jackknife")
    # label_rdms lays out and labels; a standard error is no RDM otherwise
    laid_out = label_rdms(
        np.zeros_like(errors)[None], means.stimuli, [means.name], "crossnobis", {"standard_error": errors[None]}
    )
    errors_only: xr.DataArray = laid_out["standard_error"].reset_coords(drop=True)
    return errors_only


def distance_covariance(patterns: xr.DataArray, precision: Precision = None) -> Array:
    """Estimate the covariance of all crossnobis distances with each other.

    Parameters
    ----------
    patterns, precision
        Patterns and precision as for `standard_errors`, every stimulus in every run.

    Returns
    -------
    ndarray (n(n−1)/2, n(n−1)/2)
        Covariance of the pairs in condensed order. Δ is itself cross-validated, so that the diagonal, unlike
        ``standard_errors``², may be too small, or negative, where a distance is.

    Raises
    ------
    TypeError, ValueError
        As `standard_errors`.

    Examples
    --------
    >>> from brainrdl.fmri import make_patterns
    >>> noise = np.random.default_rng(0).normal(size=(9, 50))
    >>> distance_covariance(make_patterns(noise, ["a", "b", "c"] * 3, [1] * 3 + [2] * 3 + [3] * 3)).shape
    (3, 3)
    """
    means, checked = _checked(patterns, precision)
    parts = _parts(means, checked)
    i, j = np.triu_indices(len(means.stimuli), 1)
    contrasts = np.zeros((len(i), len(means.stimuli)))
    contrasts[np.arange(len(i)), i], contrasts[np.arange(len(i)), j] = 1, -1
    return _covariance(contrasts @ parts.signal @ contrasts.T, contrasts @ parts.noise @ contrasts.T, parts)


def stimulus_covariance(patterns: xr.DataArray, precision: Precision = None) -> xr.DataArray:
    """Estimate Σ_K, the noise covariance between stimuli, which whitens a comparison of RDMs (`sigma_k`).

    Parameters
    ----------
    patterns, precision
        Patterns and precision as for `standard_errors`, every stimulus in every run.

    Returns
    -------
    DataArray (stimulus, stimulus_)
        Covariance of one run's mean patterns, per voxel.

    Raises
    ------
    TypeError, ValueError
        As `standard_errors`.

    Examples
    --------
    >>> from brainrdl.fmri import make_patterns
    >>> noise = np.random.default_rng(0).normal(size=(6, 500))
    >>> stimulus_covariance(make_patterns(noise, ["a", "b"] * 3, [1, 1, 2, 2, 3, 3])).shape
    (2, 2)
    """
    means, checked = _checked(patterns, precision)
    ids = list(means.stimuli)
    return xr.DataArray(
        _parts(means, checked).noise, dims=("stimulus", "stimulus_"), coords={"stimulus": ids, "stimulus_": ids}
    )


class _Parts(NamedTuple):
    signal: Array  # cross-validated second moment of the patterns (n, n); distances of it are the crossnobis RDM
    noise: Array  # Σ_K (n, n)
    spread: float  # tr(Σ²)/V²
    n_runs: int


def _covariance(delta: Array, xi: Array, parts: _Parts) -> Array:
    R = parts.n_runs
    covariance: Array = (4 * delta * xi / R + 2 * xi * xi / (R * (R - 1))) * parts.spread
    return covariance


def _parts(means: RunMeans, precision: Array | list[Array] | None) -> _Parts:
    if not means.balanced:
        run, stimulus = np.argwhere(means.counts == 0)[0]
        raise ValueError(
            f"stimulus {means.stimuli[stimulus]!r} is missing in run {means.runs[run]!r}, so there is no closed form; "
            "use standard_errors(..., method='jackknife')"
        )
    R, _, V = means.values.shape
    if isinstance(precision, list):
        # one whitening for all runs, by the mean covariance
        covariances = [inverse(p, "a run's precision") for p in precision]
        precision = inverse(np.mean(covariances, axis=0), "the mean covariance")
    whitened = means.values if precision is None else means.values @ factor_of(precision)
    noise = whitened - whitened.mean(axis=0)  # without the signal that the runs share
    sigma_k = np.einsum("rnv,rmv->nm", noise, noise, optimize=True) / ((R - 1) * V)
    spread = _squared_products(noise) / np.trace(sigma_k) ** 2 / V**2
    total = whitened.sum(axis=0)
    signal = (total @ total.T - np.einsum("rnv,rmv->nm", whitened, whitened, optimize=True)) / (V * R * (R - 1))
    return _Parts(signal, sigma_k, spread, R)


def _squared_products(noise: Array) -> float:
    """Estimate tr(Σ_K)² tr(Σ²) from the runs' noise (runs, stimuli, voxels), less its mean over runs.

    (c − (a + b + c)/(d + 2)) / (d(d − 1)), d = R − 1, of a = ‖Σ_r G_rr‖², b = Σ_rs tr(G_rs G_rs), c = Σ_rs ‖G_rs‖².
    """
    # With E_k = Σ_r h_kr N_r of orthonormal contrasts h_1 … h_d over runs, the E_k are independent, and E‖E_k E_lᵀ‖² is
    # the product for k ≠ l, without the bias of ‖Σ̂‖². No choice of contrasts, nor order of the runs, is better than
    # another, so this is the mean over all their rotations, with G_rs = N_r N_sᵀ, by E[h_p h_q h_r h_s] =
    # (δ_pq δ_rs + δ_pr δ_qs + δ_ps δ_qr)/(d(d + 2)) of a unit vector of any direction.
    d = len(noise) - 1
    within = np.zeros((noise.shape[1], noise.shape[1]))
    b = c = 0.0
    for r, s in combinations_with_replacement(range(len(noise)), 2):
        product = noise[r] @ noise[s].T
        times = 1 if r == s else 2  # G_sr = G_rsᵀ
        b += times * float(np.vdot(product, product.T))
        c += times * float(np.square(product).sum())
        if r == s:
            within += product
    a = float(np.square(within).sum())
    return (c - (a + b + c) / (d + 2)) / (d * (d - 1))


def _jackknife(distances: Array, n_runs: int) -> Array:
    """Standard errors (pairs,) of the mean over run pairs, from (run pairs, pairs)."""
    r, s = np.array(list(combinations(range(n_runs), 2))).T
    measured = ~np.isnan(distances)
    filled = np.where(measured, distances, 0.0)
    total, count = filled.sum(axis=0), measured.sum(axis=0)
    left_out = np.full((n_runs, distances.shape[1]), np.nan)
    for run in range(n_runs):
        of_run = (r == run) | (s == run)
        held = measured[of_run].any(axis=0)
        rest = count - measured[of_run].sum(axis=0)
        usable = held & (rest > 0)
        left_out[run, usable] = (total - filled[of_run].sum(axis=0))[usable] / rest[usable]
    used = ~np.isnan(left_out)
    R = used.sum(axis=0)
    mean = np.where(used, left_out, 0.0).sum(axis=0) / np.maximum(R, 1)
    squares = np.where(used, np.square(left_out - mean), 0.0).sum(axis=0)
    errors: Array = np.where(R >= 3, np.sqrt((R - 1) / np.maximum(R, 1) * squares), np.nan)
    return errors


def _checked(patterns: xr.DataArray, precision: Precision) -> tuple[RunMeans, Array | list[Array] | None]:
    means = run_means(patterns)
    checked = precisions_of(precision, means)
    check_two_runs(means)
    check_folds(patterns, means)
    if len(means.runs) < 3:
        raise ValueError(
            f"there are two runs only ({name_some(means.runs)}), from which no standard error can be estimated; it "
            "takes at least three"
        )
    return means, checked
