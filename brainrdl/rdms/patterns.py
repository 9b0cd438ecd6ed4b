"""Patterns: what a GLM leaves of each run, and their means per run and stimulus.

Patterns are an `xarray.DataArray` with dimensions ``("observation", "voxel")`` and the coordinates ``stimulus``
(strings) and ``run`` along ``observation``. The run is the fold of every cross-validation: the noise of one run's
observations is shared, that of two runs is not.
"""

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, final

import numpy as np
import pandas as pd
import xarray as xr
from numpy.typing import DTypeLike, NDArray

from brainrdl.arguments import name_some
from brainrdl.ids import check_ids
from brainrdl.rdms.axes import check_axis

Array = NDArray[np.float64]
Precision = Array | Mapping[Any, Array] | None
"""Inverse noise covariance: of all runs (voxels, voxels), of each run, or None, the identity."""

SAME_SCANS = "same_scans"
"""Attribute of patterns: the runs that were fitted to one and the same data, as text, pair behind pair."""

_HEAD = 8  # voxels by which patterns that may be alike are found


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
        Name, such as the region's; RDMs made of the patterns bear it.
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
    check_axis(values, "values", list(stimuli))
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


@final
@dataclass(frozen=True)
class RunMeans:
    """Mean pattern of each stimulus in each run; a cell is a stimulus in a run that has it."""

    patterns: NDArray[Any]  # (cells, voxels), the cells' means run by run
    cells: NDArray[np.int64]  # (runs, stimuli), the row of `patterns`, −1 where the run lacks the stimulus
    counts: NDArray[np.int64]  # (runs, stimuli), observations in each mean
    stimuli: tuple[str, ...]  # in order of first occurrence, as are the runs
    runs: tuple[Hashable, ...]
    name: str  # the patterns', which their RDM bears, else ``patterns``

    @property
    def balanced(self) -> bool:
        """True if every run has every stimulus."""
        return bool((self.counts > 0).all())

    @cached_property
    def values(self) -> NDArray[Any]:
        """All means (runs, stimuli, voxels); 0 where the run lacks the stimulus."""
        if self.balanced:
            return self.patterns.reshape(*self.cells.shape, -1)
        values = np.zeros((*self.cells.shape, self.patterns.shape[1]), self.patterns.dtype)
        values[self.cells >= 0] = self.patterns
        return values

    def select(self, runs: Sequence[int], voxels: NDArray[Any]) -> "RunMeans":
        """The means of some runs and voxels, by position."""
        rows = self.cells[list(runs)]
        held = rows >= 0
        return replace(
            self,
            patterns=self.patterns[rows[held]][:, voxels],
            cells=np.where(held, np.cumsum(held).reshape(held.shape) - 1, -1),
            counts=self.counts[list(runs)],
            runs=tuple(self.runs[run] for run in runs),
        )


def run_means(patterns: xr.DataArray, *, dtype: DTypeLike = np.float64, copy: bool = False) -> RunMeans:
    """Average the observations of each stimulus within each run, in float64; the means are of type `dtype`.

    Nothing is copied where nothing is averaged, unless `copy` asks for it. Errors as of `check_patterns`.
    """
    check_patterns(patterns)
    labels, run_of = patterns["stimulus"].values.tolist(), patterns["run"].values.tolist()
    stimuli, runs = check_ids(dict.fromkeys(labels), "coordinate 'stimulus'"), tuple(dict.fromkeys(run_of))
    if len(stimuli) < 2:
        raise ValueError(f"an RDM needs at least 2 stimuli, and the patterns have {name_some(stimuli) or 'none'}")
    number, of_run = ({label: k for k, label in enumerate(known)} for known in (stimuli, runs))
    cell_of = np.array([of_run[run] * len(stimuli) + number[label] for label, run in zip(labels, run_of, strict=True)])
    found, first, count = np.unique(cell_of, return_index=True, return_counts=True)
    shape = (len(runs), len(stimuli))
    cells, counts = np.full(shape, -1), np.zeros(shape, dtype=int)
    cells.flat[found], counts.flat[found] = np.arange(len(found)), count
    if (count > 1).any():
        # one adds as the observations come, the other, which is faster, the first to the sum of the rest: RDMs are
        # kept that were computed with the former, and checkpoints with the digest of means by the latter
        if copy:
            order = np.argsort(cell_of, kind="stable")
            sums = np.add.reduceat(patterns.values[order], np.cumsum(count) - count, axis=0, dtype=np.float64)
        else:
            sums = np.zeros((len(found), patterns.sizes["voxel"]))
            np.add.at(sums, cells.flat[cell_of], patterns.values.astype(np.float64, copy=False))
        means = (sums / count[:, None]).astype(dtype, copy=False)
    elif copy or (np.diff(first) != 1).any():
        means = patterns.values[first].astype(dtype, copy=False)
    else:
        means = patterns.values.astype(dtype, copy=False)
    return RunMeans(means, cells, counts, stimuli, runs, str(patterns.name or "patterns"))


def check_patterns(patterns: object) -> None:
    """Raise a TypeError or ValueError that says what is wrong, unless `patterns` are patterns."""
    if not isinstance(patterns, xr.DataArray):
        hint = "take its variable 'patterns'" if isinstance(patterns, xr.Dataset) else "fmri.make_patterns makes one"
        raise TypeError(f"patterns is a {type(patterns).__name__}; expected a DataArray (observation, voxel); {hint}")
    if patterns.dims != ("observation", "voxel"):
        raise ValueError(f"the patterns' dimensions are {patterns.dims}, expected ('observation', 'voxel')")
    for name in ("stimulus", "run"):
        if name not in patterns.coords or patterns[name].dims != ("observation",):
            raise ValueError(
                f"the patterns have no coordinate {name!r} along 'observation': "
                f"patterns.assign_coords({name}=('observation', [...]))"
            )
    if patterns.dtype.kind not in "iuf":
        raise TypeError(f"the patterns are of type {patterns.dtype}; expected real numbers")
    if not patterns.sizes["voxel"]:
        raise ValueError("the patterns have no voxel; expected at least one")
    stimuli, runs = patterns["stimulus"].values.tolist(), patterns["run"].values.tolist()
    check_labels(stimuli, runs)
    bad = ~np.isfinite(patterns.values).all(axis=1)
    if bad.any():
        row = int(np.flatnonzero(bad)[0])
        voxel = int(np.flatnonzero(~np.isfinite(patterns.values[row]))[0])
        raise ValueError(
            f"the pattern of {stimuli[row]!r} in run {runs[row]!r} is {patterns.values[row, voxel]} in voxel {voxel}; "
            "drop such voxels in all runs"
        )


def check_folds(patterns: xr.DataArray, means: RunMeans) -> None:
    """Raise a ValueError if two runs hold the same data, or a stimulus has one pattern in both: no noise parts them.

    Patterns that are constant over voxels may be alike without being of one scan.
    """
    marked = np.atleast_1d(patterns.attrs.get(SAME_SCANS, [])).tolist()
    there = {str(run) for run in means.runs}
    for one, other in zip(marked[::2], marked[1::2], strict=True):
        if one in there and other in there:
            raise ValueError(
                f"the runs {one!r} and {other!r} hold one and the same scan, so that its noise would be "
                "cross-validated with itself; take one of them out"
            )
    heads = np.ascontiguousarray(means.patterns[:, :_HEAD])
    seen: dict[tuple[int, bytes], tuple[int, int]] = {}
    for run, stimulus in np.argwhere(means.cells >= 0).tolist():
        row = means.cells[run, stimulus]
        twin, its_row = seen.setdefault((stimulus, heads[row].tobytes()), (run, row))
        pattern = means.patterns[row]
        if twin != run and np.ptp(pattern) > 0 and np.array_equal(pattern, means.patterns[its_row]):
            raise ValueError(
                f"the pattern of {means.stimuli[stimulus]!r} is the same in the runs {means.runs[twin]!r} and "
                f"{means.runs[run]!r}, to the last digit, so that its noise would be cross-validated with itself; give "
                "each run its own data"
            )


def check_labels(stimuli: Sequence[Any], runs: Sequence[Any]) -> None:
    """Raise a TypeError or ValueError unless every observation has a stimulus and a run, the runs all of one kind."""
    for row, stimulus in enumerate(stimuli):
        if not isinstance(stimulus, str):
            raise TypeError(
                f"the stimulus of observation {row} is {stimulus!r}, of type {type(stimulus).__name__}; expected a "
                "string"
            )
        if not stimulus:
            raise ValueError(f"the stimulus of observation {row} is an empty string; expected a name")
    for row, run in enumerate(runs):
        # NaN differs from itself, so that each would be a run of its own
        if run is None or run is pd.NA or run != run or run == "":
            raise ValueError(
                f"observation {row} ({stimuli[row]!r}) has no run ({run!r}); runs are the folds of cross-validation, "
                "so name the run of each observation, or leave such observations out"
            )
        if isinstance(run, str) != isinstance(runs[0], str):
            raise TypeError(f"the runs are text and numbers, {runs[0]!r} and {run!r}; expected all of one kind")


def precisions_of(precision: Precision, means: RunMeans) -> Array | list[Array] | None:
    """Check a precision against the patterns; one per run comes out as a list in the order of the runs."""
    n_voxels = means.patterns.shape[1]
    if isinstance(precision, Mapping):
        missing = [run for run in means.runs if run not in precision]
        if missing:
            raise ValueError(
                f"no precision is given for run {name_some(missing)}; there is one for {name_some(list(precision))}"
            )
        return [check_precision(precision[run], f"the precision of run {run}", n_voxels) for run in means.runs]
    return None if precision is None else check_precision(precision, "the precision", n_voxels)


def factor_of(precision: Array) -> Array:
    """L of Ω = L Lᵀ, which whitens patterns (n, V) as ``patterns @ L``; ValueError if Ω is not positive definite."""
    try:
        factor: Array = np.linalg.cholesky(precision).astype(np.float64, copy=False)
    except np.linalg.LinAlgError:
        raise not_positive("the precision") from None
    return factor


def not_positive(what: str) -> ValueError:
    """Make the error of a precision that is none."""
    return ValueError(
        f"{what} is not positive definite, so that distances may be negative without noise; expected the inverse of a "
        "covariance, shrunk toward its diagonal where there are more voxels than degrees of freedom"
    )


def check_precision(precision: Any, what: str, n_voxels: int) -> Array:
    """A precision as an array (V, V); TypeError or ValueError, by the name `what`, for one that cannot be."""
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
