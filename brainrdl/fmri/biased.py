"""Distances that are not cross-validated: noise adds to them, so that zero means nothing."""

import warnings
from typing import Literal

import numpy as np
import xarray as xr

from brainrdl.fmri.patterns import Array, RunMeans, factor_of, precisions_of, run_means
from brainrdl.rdms.labelled import label_rdms

BiasedMetric = Literal["correlation", "euclidean", "mahalanobis"]


def pattern_rdm(
    patterns: xr.DataArray,
    metric: BiasedMetric = "correlation",
    precision: Array | None = None,
    *,
    warn: bool = True,
) -> xr.DataArray:
    """Compute an RDM of the patterns' means over runs, without cross-validation.

    Parameters
    ----------
    patterns : DataArray (observation, voxel)
        As for `crossnobis`; the runs' means are averaged over the runs that hold the stimulus.
    metric : {"correlation", "euclidean", "mahalanobis"}
        ``correlation``: 1 − Pearson r over voxels (of patterns whitened by `precision` if given). ``euclidean``: the
        root of the sum of squared differences. ``mahalanobis``: the root of δᵀΩδ.
    precision : ndarray (voxels, voxels), optional
        Ω; ``mahalanobis`` needs it, ``euclidean`` refuses it.
    warn : bool
        Whether to warn of the bias.

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
    >>> from brainrdl.fmri.patterns import make_patterns
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
        warnings.warn(
            f"{metric} distances are not cross-validated, so noise biases them: "
            + (
                "they are pulled towards 1 where patterns are noisy"
                if metric == "correlation"
                else "even equal patterns lie apart, the more so the noisier they are"
            )
            + "; crossnobis() is unbiased",
            UserWarning,
            stacklevel=2,
        )
    values = _over_runs(means)
    whitened = values if checked is None else values @ factor_of(checked)
    if metric == "correlation":
        whitened = whitened - whitened.mean(axis=1, keepdims=True)
        norms = np.linalg.norm(whitened, axis=1)
        if not norms.all():
            constant = means.stimuli[int(np.argmin(norms))]
            raise ValueError(f"the pattern of {constant!r} is constant over voxels, so it has no correlation")
        unit = whitened / norms[:, None]
        i, j = np.triu_indices(len(unit), 1)
        distances = np.clip(1 - (unit @ unit.T)[i, j], 0.0, 2.0)
    else:
        i, j = np.triu_indices(len(whitened), 1)
        distances = np.linalg.norm(whitened[i] - whitened[j], axis=1)
    return label_rdms(distances[None], means.stimuli, [means.name], metric)


def _over_runs(means: RunMeans) -> Array:
    held = means.counts > 0
    averaged: Array = means.values.sum(axis=0) / held.sum(axis=0)[:, None]
    return averaged
