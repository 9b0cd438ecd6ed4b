"""Patterns: what a GLM leaves of a run, and their means per run and stimulus.

Patterns are an `xarray.DataArray` with dimensions ``("observation", "voxel")`` and the coordinates ``stimulus``
(strings) and ``run`` along ``observation``. The run is the fold of every cross-validation: the noise of one run's
observations is shared, that of two runs is not.
"""

from collections.abc import Hashable, Mapping
from dataclasses import dataclass
from typing import Any, final

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from brainrdl.arguments import name_some
from brainrdl.rdms.patterns import check_labels, check_patterns, find_cells

Array = NDArray[np.float64]
Precision = Array | Mapping[Any, Array] | None
"""Inverse noise covariance: of all runs (voxels, voxels), of each run, or None, the identity."""


@final
@dataclass(frozen=True)
class RunMeans:
    """Mean pattern of each stimulus in each run.

    Attributes
    ----------
    values : ndarray (runs, stimuli, voxels)
        float64; 0 where the run lacks the stimulus.
    counts : ndarray (runs, stimuli)
        How many observations each mean is of.
    stimuli : tuple of str (stimuli,)
        In order of first occurrence.
    runs : tuple (runs,)
        In order of first occurrence.
    name : str
        What the RDM of these patterns is called: the patterns' name, else ``patterns``.
    """

    values: Array
    counts: NDArray[np.int64]
    stimuli: tuple[str, ...]
    runs: tuple[Hashable, ...]
    name: str

    @property
    def balanced(self) -> bool:
        """Whether every run has every stimulus."""
        return bool((self.counts > 0).all())


def run_means(patterns: xr.DataArray) -> RunMeans:
    """Average the observations of each stimulus within each run.

    Parameters
    ----------
    patterns : DataArray (observation, voxel)
        With coordinates ``stimulus`` and ``run`` along ``observation``.

    Returns
    -------
    RunMeans

    Raises
    ------
    TypeError
        If `patterns` is no DataArray, its values are not real numbers, or a stimulus is not a string.
    ValueError
        If a dimension or coordinate is missing, a value is not finite, or there are fewer than two stimuli.

    Examples
    --------
    >>> patterns = make_patterns(np.eye(4), ["face", "house"] * 2, [1, 1, 2, 2])
    >>> means = run_means(patterns)
    >>> means.values.shape, means.stimuli, means.runs
    ((2, 2, 4), ('face', 'house'), (1, 2))
    """
    stimuli, runs, cell = find_cells(patterns)
    values = patterns.values.astype(np.float64, copy=False)
    counts = np.bincount(cell, minlength=len(runs) * len(stimuli))
    if np.array_equal(cell, np.arange(counts.size)):
        means = values
    else:
        means = np.zeros((counts.size, values.shape[1]))
        np.add.at(means, cell, values)
        means /= np.maximum(counts, 1)[:, None]
    shape = (len(runs), len(stimuli))
    return RunMeans(means.reshape(*shape, -1), counts.reshape(shape), stimuli, runs, str(patterns.name or "patterns"))


def make_patterns(
    values: np.ndarray, stimuli: Any, runs: Any, *, name: str | None = None, voxels: Any = None
) -> xr.DataArray:
    """Label an array of patterns.

    Parameters
    ----------
    values : ndarray (observations, voxels)
        One pattern per row, of any unit.
    stimuli : sequence of str (observations,)
        The stimulus or condition of each row; a stimulus may have several rows.
    runs : sequence (observations,)
        The run of each row, all text or all numbers.
    name : str, optional
        Such as the region's; RDMs made of the patterns bear it.
    voxels : sequence (voxels,), optional
        Labels of the columns.

    Returns
    -------
    DataArray (observation, voxel)

    Raises
    ------
    TypeError, ValueError
        As `run_means`.

    Examples
    --------
    >>> make_patterns(np.eye(2), ["face", "house"], [1, 1]).dims
    ('observation', 'voxel')
    """
    values = np.asarray(values)
    lengths = {"stimuli": len(stimuli), "runs": len(runs)}
    for field, length in lengths.items():
        if values.ndim != 2 or length != len(values):
            raise ValueError(
                f"values has shape {values.shape} and {field} {length} entries; expected (observations, voxels) and "
                "one entry per observation"
            )
    # before xarray makes an array of them, in which NaN would be the text 'nan', and the runs 1 and '1' one
    check_labels(list(stimuli), list(runs))
    coords = {"stimulus": ("observation", list(stimuli)), "run": ("observation", list(runs))}
    if voxels is not None:
        coords["voxel"] = ("voxel", list(voxels))
    patterns = xr.DataArray(values, dims=("observation", "voxel"), coords=coords, name=name)
    check_patterns(patterns)
    return patterns


def precisions_of(precision: Precision, means: RunMeans) -> Array | list[Array] | None:
    """Check a precision against the patterns; one per run comes out as a list in the order of the runs."""
    n_voxels = means.values.shape[2]
    if isinstance(precision, Mapping):
        missing = [run for run in means.runs if run not in precision]
        if missing:
            raise ValueError(
                f"no precision is given for run {name_some(missing)}; there is one for {name_some(list(precision))}"
            )
        return [_checked(precision[run], f"the precision of run {run}", n_voxels) for run in means.runs]
    return None if precision is None else _checked(precision, "the precision", n_voxels)


def factor_of(precision: Array) -> Array:
    """L of Ω = L Lᵀ, which whitens patterns; ValueError if Ω is not positive definite."""
    try:
        factor: Array = np.linalg.cholesky(precision).astype(np.float64, copy=False)
    except np.linalg.LinAlgError:
        raise not_positive("the precision") from None
    return factor


def not_positive(what: str) -> ValueError:
    """Make the error of a precision that is none."""
    return ValueError(
        f"{what} is not positive definite, so that distances may be negative without noise; expected the inverse of a "
        "covariance"
    )


def _checked(precision: Any, what: str, n_voxels: int) -> Array:
    if isinstance(precision, xr.DataArray):
        raise TypeError(
            f"{what} is a DataArray, whose voxel labels would be ignored; pass its .values, in the order of the "
            "patterns' voxels"
        )
    matrix = np.asarray(precision, dtype=np.float64)
    if matrix.shape != (n_voxels, n_voxels):
        raise ValueError(f"{what} has shape {matrix.shape}, expected ({n_voxels}, {n_voxels}) as the patterns' voxels")
    # Mx = Mᵀx for a random x in O(voxels²) contiguous steps; whatever is not finite shows in Mx too
    probe = np.random.default_rng(0).normal(size=n_voxels)
    product, transposed = matrix @ probe, probe @ matrix
    if not np.isfinite(product).all():
        raise ValueError(f"{what} holds values that are not finite; drop voxels without variance first")
    if np.abs(product - transposed).max() > 1e-8 * np.abs(product).max():
        raise ValueError(f"{what} is not symmetric; expected an inverse covariance")
    # a factorisation would take longer than the distances: see also where patterns are multiplied by it
    if np.diagonal(matrix).min() <= 0 or probe @ product <= 0:
        raise not_positive(what)
    return matrix
