"""Distances of measured patterns: crossnobis (Walther et al. 2016), and those that are not cross-validated.

With b_i the mean pattern of stimulus i in a run, V voxels and R runs, crossnobis is METHOD's

    d_ij = 1/(V R(R−1)) Σ_{r≠s} (b_i − b_j)_rᵀ Ω_rs (b_i − b_j)_s.

Noise of two runs is independent, so the distance of two stimuli with the same true pattern is zero in the mean, and
negative half of the time: nothing is clipped. To distances that are not cross-validated noise adds, so that zero means
nothing.
"""

import warnings
from collections.abc import Callable
from itertools import combinations
from typing import Literal

import numpy as np
import scipy.linalg
import torch
import xarray as xr

from brainrdl.arguments import name_some
from brainrdl.fmri.noise import cholesky
from brainrdl.rdms.labelled import label_rdms
from brainrdl.rdms.patterns import (
    Array,
    Precision,
    RunMeans,
    check_folds,
    factor_of,
    not_positive,
    precisions_of,
    run_means,
)

_ROUNDING = 1e-14

BiasedMetric = Literal["correlation", "euclidean", "mahalanobis"]


def crossnobis(
    patterns: xr.DataArray,
    precision: Precision = None,
    *,
    allow_missing: bool = False,
    device: str | torch.device = "cpu",
) -> xr.DataArray:
    """Compute the crossnobis RDM of patterns.

    Parameters
    ----------
    patterns : DataArray (observation, voxel)
        With coordinates ``stimulus`` and ``run`` along ``observation``. Observations of a stimulus within a run are
        averaged first; then every run pair counts alike.
    precision : ndarray (voxels, voxels) or {run: ndarray (voxels, voxels)}, optional
        Ω. Given per run, that of a run pair is the inverse of the mean of the two covariances. None: the identity
        (cross-validated squared Euclidean distance).
    allow_missing : bool
        True makes a pair of stimuli that no two runs share NaN; otherwise it is an error.
    device : str or torch.device
        Device on which products with the precision are computed.

    Returns
    -------
    DataArray (rdm, stimulus, stimulus_)
        One labelled RDM of metric ``crossnobis``, divided by the number of voxels, in float64, stimuli in order of
        first occurrence. A pair's distance is the mean over the run pairs that both hold both stimuli.

    Raises
    ------
    TypeError, ValueError
        If the patterns or the precision are malformed, there is one run only, two runs hold the same data, or a pair of
        stimuli is shared by fewer than two runs.

    See Also
    --------
    standard_errors, noise_precision

    Examples
    --------
    >>> import numpy as np, brainrdl as rdl
    >>> from brainrdl.fmri import make_patterns
    >>> patterns = make_patterns(
    ...     np.array([[1.0, 0], [0, 1], [2, 0], [0, 2]]), ["face", "house"] * 2, [1, 1, 2, 2], name="IT"
    ... )
    >>> rdl.fmri.crossnobis(patterns).sel(rdm="IT", stimulus="face", stimulus_="house").item()
    2.0
    """
    means = run_means(patterns)
    checked = precisions_of(precision, means)
    check_two_runs(means)
    if means.balanced and not isinstance(checked, list):
        distances = _closed_form(means, checked, torch.device(device))
    else:
        distances = mean_over_run_pairs(run_pair_distances(means, checked, device))
        check_shared(means, distances, allow_missing=allow_missing)
    check_folds(patterns, means)
    rdms = label_rdms(distances[None], means.stimuli, [means.name], "crossnobis")
    # what is to be known about the patterns is to be known about their RDM
    return rdms.assign_attrs(warning=patterns.attrs["warning"]) if "warning" in patterns.attrs else rdms


def pattern_rdm(
    patterns: xr.DataArray, metric: BiasedMetric = "correlation", precision: Array | None = None, *, warn: bool = True
) -> xr.DataArray:
    """Compute an RDM of the patterns' means over runs, without cross-validation.

    Parameters
    ----------
    patterns : DataArray (observation, voxel)
        Patterns as for `crossnobis`; the runs' means are averaged over the runs that hold the stimulus.
    metric : {"correlation", "euclidean", "mahalanobis"}
        ``correlation``: 1 − Pearson r over voxels (of patterns whitened by `precision` if given). ``euclidean``: the
        root of the sum of squared differences. ``mahalanobis``: the root of δᵀΩδ.
    precision : ndarray (voxels, voxels), optional
        Ω; ``mahalanobis`` needs it, ``euclidean`` refuses it.
    warn : bool
        True warns of the bias.

    Returns
    -------
    DataArray (rdm, stimulus, stimulus_)
        One labelled RDM.

    Raises
    ------
    TypeError, ValueError
        If the patterns or the precision are malformed, or do not suit the metric.

    Warns
    -----
    UserWarning
        Noise enters ``euclidean`` and ``mahalanobis`` squared, so even equal patterns are apart; ``correlation``
        distances are pulled towards 1, and biased where stimuli differ in reliability or share runs unequally.

    Examples
    --------
    >>> from brainrdl.fmri import make_patterns
    >>> patterns = make_patterns(np.array([[3.0, 0], [0, 4]]), ["face", "house"], [1, 1], name="IT")
    >>> pattern_rdm(patterns, "euclidean", warn=False).values[0]
    array([[0., 5.],
           [5., 0.]])
    """
    if metric not in ("correlation", "euclidean", "mahalanobis"):
        raise ValueError(f"unknown metric {metric!r}; known are correlation, euclidean, mahalanobis (and crossnobis())")
    if metric == "mahalanobis" and precision is None:
        raise ValueError("mahalanobis needs a precision; noise_precision estimates one")
    if metric == "euclidean" and precision is not None:
        raise ValueError("euclidean takes no precision; with one it is mahalanobis")
    means = run_means(patterns)
    checked = precisions_of(precision, means)
    if isinstance(checked, list):
        raise ValueError(f"{metric} takes one precision, not one per run, as it averages the runs' patterns first")
    if warn:
        apart = "even equal patterns lie apart, the more so the noisier they are"
        bias = "they are pulled towards 1 where patterns are noisy" if metric == "correlation" else apart
        message = f"{metric} distances are not cross-validated, so noise biases them: {bias}; crossnobis() is unbiased"
        warnings.warn(message, UserWarning, stacklevel=2)
    values = over_runs(means)
    whitened = values if checked is None else values @ factor_of(checked)
    if metric == "correlation":
        centred = whitened - whitened.mean(axis=1, keepdims=True)
        norms = np.linalg.norm(centred, axis=1)
        # what rounding leaves of a constant pattern is no variance
        flat = norms <= _ROUNDING * np.linalg.norm(whitened, axis=1)
        if flat.any():
            constant = means.stimuli[int(np.argmax(flat))]
            raise ValueError(f"the pattern of {constant!r} is constant over voxels, so it has no correlation")
        unit = centred / norms[:, None]
        i, j = np.triu_indices(len(unit), 1)
        distances = np.clip(1 - (unit @ unit.T)[i, j], 0.0, 2.0)
    else:
        i, j = np.triu_indices(len(whitened), 1)
        distances = np.linalg.norm(whitened[i] - whitened[j], axis=1)
    return label_rdms(distances[None], means.stimuli, [means.name], metric)


def run_pair_distances(
    means: RunMeans, precision: Array | list[Array] | None, device: str | torch.device = "cpu"
) -> Array:
    """Distances (R(R−1)/2, n(n−1)/2) of every pair of runs r < s, in the order of `itertools.combinations`.

    NaN where one of the two lacks a stimulus of the pair. The precision (voxels, voxels) is one, or one per run.
    """
    n_runs, n_stimuli, n_voxels = means.values.shape
    i, j = np.triu_indices(n_stimuli, 1)
    held = means.counts > 0
    kernel_of = _kernels(means, precision, torch.device(device))
    distances = np.full((n_runs * (n_runs - 1) // 2, len(i)), np.nan)
    for k, (r, s) in enumerate(combinations(range(n_runs), 2)):
        kernel = kernel_of(r, s)
        both = held[r] & held[s]
        shared = both[i] & both[j]
        value = kernel[i, i] + kernel[j, j] - kernel[i, j] - kernel[j, i]
        distances[k, shared] = value[shared] / n_voxels
    return distances


def mean_over_run_pairs(distances: Array) -> Array:
    """Mean of (run pairs, stimulus pairs) over the run pairs that are not NaN; NaN where there is none."""
    measured = ~np.isnan(distances)
    count = measured.sum(axis=0)
    total = np.where(measured, distances, 0.0).sum(axis=0)
    mean: Array = np.where(count > 0, total / np.maximum(count, 1), np.nan)
    return mean


def check_two_runs(means: RunMeans) -> None:
    """Raise a ValueError if there is nothing to cross-validate over."""
    if len(means.runs) < 2:
        raise ValueError(
            f"there is one run only ({means.runs[0]!r}), so there is nothing to cross-validate over; crossnobis needs "
            "patterns of at least two runs (the folds are runs or sessions, never trials)"
        )


def check_shared(means: RunMeans, distances: Array, *, allow_missing: bool) -> None:
    """Raise a ValueError that names the pairs that no two runs share, unless they may be missing."""
    i, j = np.triu_indices(len(means.stimuli), 1)
    missing = [f"{means.stimuli[i[k]]} – {means.stimuli[j[k]]}" for k in np.flatnonzero(np.isnan(distances))]
    if missing and (not allow_missing or len(missing) == len(distances)):
        way_out = "" if len(missing) == len(distances) else ", or leave such pairs NaN with allow_missing=True"
        raise ValueError(
            f"in {means.name!r} no two runs share both stimuli of {len(missing)} pairs, so they cannot be "
            f"cross-validated: {name_some(missing)}; leave a stimulus out{way_out}"
        )


def _kernels(
    means: RunMeans, precision: Array | list[Array] | None, device: torch.device
) -> Callable[[int, int], Array]:
    """Return a function from two runs to K_ij = b_irᵀ Ω_rs b_js."""
    _, n_stimuli, n_voxels = means.values.shape
    if not isinstance(precision, list):
        weighted = means.values
        if precision is not None:
            weighted = _times(means.values.reshape(-1, n_voxels), precision, device).reshape(means.values.shape)
            _check_lengths(weighted, means.values)
        return lambda r, s: weighted[r] @ means.values[s].T
    # the Ω_rs of two precisions A and B is ((A⁻¹ + B⁻¹)/2)⁻¹ = 2 A (A + B)⁻¹ B, so that neither need be inverted: with
    # A + B = L Lᵀ, K is twice the product of L⁻¹ A b_r and L⁻¹ B b_s
    for matrix, run in zip(precision, means.runs, strict=True):
        cholesky(matrix, f"the precision of run {run}")  # the sum of two may have a factor where one has none
    weighted = np.stack([_times(b, omega, device) for b, omega in zip(means.values, precision, strict=True)])

    def kernel(r: int, s: int) -> Array:
        both = _whiten(weighted[[r, s]].reshape(-1, n_voxels), precision[r] + precision[s], device)
        product: Array = 2 * both[:n_stimuli] @ both[n_stimuli:].T
        return product

    return kernel


def _whiten(patterns: Array, covariance: Array, device: torch.device) -> Array:
    """Rows L⁻¹b of patterns b (n, V), with L Lᵀ the covariance (V, V)."""
    if device.type == "cpu":
        factor = cholesky(covariance, "the sum of two runs' precisions")
        rows: Array = scipy.linalg.blas.dtrsm(1.0, factor, patterns.T, lower=1, overwrite_b=1).T
        return rows
    factor = torch.linalg.cholesky(torch.from_numpy(covariance).to(device))
    columns = torch.from_numpy(patterns).to(device).T
    solved: Array = torch.linalg.solve_triangular(factor, columns, upper=False).T.cpu().numpy()
    return solved


def _closed_form(means: RunMeans, precision: Array | None, device: torch.device) -> Array:
    """Σ_{r≠s} δ_rᵀΩδ_s = (Σ_r δ_r)ᵀΩ(Σ_s δ_s) − Σ_r δ_rᵀΩδ_r: one product per run in place of one per run pair."""
    n_runs, n_stimuli, n_voxels = means.values.shape
    i, j = np.triu_indices(n_stimuli, 1)
    # the origin is free: near the stimuli's mean, differences keep their digits
    values = means.values - means.values.mean(axis=1, keepdims=True)
    if precision is None:
        total = values.sum(axis=0)
        kernel = total @ total.T  # BLAS computes a triangle of such a product
        for patterns in values:
            kernel -= patterns @ patterns.T
    else:
        # Ω = T + Tᵀ, T its upper triangle with half the diagonal: BTBᵀ and its transpose add up to BΩBᵀ
        half = _times_half(values.reshape(-1, n_voxels), precision, device).reshape(values.shape)
        _check_lengths(half, values)
        kernel = half.sum(axis=0) @ values.sum(axis=0).T
        for weighted, patterns in zip(half, values, strict=True):
            kernel -= weighted @ patterns.T
        kernel = kernel + kernel.T
    diagonal = np.diagonal(kernel)
    squared = diagonal[i] + diagonal[j] - 2 * kernel[i, j]
    distances: Array = squared / (n_voxels * n_runs * (n_runs - 1))
    return distances


def _check_lengths(weighted: Array, values: Array) -> None:
    """Raise a ValueError if bᵀΩb, of which `weighted` holds bᵀΩ up to a factor, is negative for some pattern."""
    lengths = np.einsum("rnv,rnv->rn", weighted, values)
    if lengths.min() < -1e-9 * np.abs(lengths).max():
        raise not_positive("the precision")


def _times(patterns: Array, precision: Array, device: torch.device) -> Array:
    if device.type == "cpu":
        return patterns @ precision
    product: Array = (torch.from_numpy(patterns).to(device) @ torch.from_numpy(precision).to(device)).cpu().numpy()
    return product


def _times_half(patterns: Array, precision: Array, device: torch.device) -> Array:
    if device.type != "cpu":
        return _times(patterns, precision, device) / 2
    # a triangular product is half the work; Fortran's order sees both arrays transposed, without a copy
    triangle = precision.copy()
    triangle[np.diag_indices(len(triangle))] /= 2
    product: Array = scipy.linalg.blas.dtrmm(1.0, triangle.T, patterns.T, lower=1).T
    return product


def over_runs(means: RunMeans) -> Array:
    """Average patterns (stimuli, voxels) over the runs that hold the stimulus."""
    held = means.counts > 0
    averaged: Array = means.values.sum(axis=0) / held.sum(axis=0)[:, None]
    return averaged
