"""Run-wise patterns: what a GLM leaves of each run, averaged per run and stimulus, and whitened."""

from collections.abc import Hashable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import xarray as xr
from numpy.typing import ArrayLike, NDArray

from brainrdl.arguments import name_some
from brainrdl.ids import check_ids


class CellMeans(NamedTuple):
    """Mean pattern of each stimulus in each run that has it; a cell is a stimulus in a run.

    Attributes
    ----------
    patterns : ndarray (cells, voxels)
        In order of the runs; float32 or float64.
    cells : ndarray (stimuli, runs)
        The row of `patterns`, −1 where the run lacks the stimulus.
    counts : ndarray (stimuli, runs)
        Observations in the mean.
    stimuli : tuple of str (stimuli,)
        In order of first occurrence.
    runs : tuple (runs,)
        In order of first occurrence.
    """

    patterns: NDArray[Any]
    cells: NDArray[np.int32]
    counts: NDArray[np.int32]
    stimuli: tuple[str, ...]
    runs: tuple[Any, ...]


class Cells(NamedTuple):
    """Which stimulus in which run each observation is of: its cell is run · stimuli + stimulus, both by position."""

    stimuli: tuple[str, ...]
    runs: tuple[Hashable, ...]
    cell_of: NDArray[np.intp]


def find_cells(patterns: xr.DataArray) -> Cells:
    """Check patterns (see `check_patterns`), and number their stimuli and runs in order of first occurrence."""
    check_patterns(patterns)
    labels, run_of = patterns["stimulus"].values.tolist(), patterns["run"].values.tolist()
    stimuli, runs = check_ids(dict.fromkeys(labels), "coordinate 'stimulus'"), tuple(dict.fromkeys(run_of))
    if len(stimuli) < 2:
        raise ValueError(f"an RDM needs at least 2 stimuli, and the patterns have {name_some(stimuli) or 'none'}")
    number, of_run = ({label: k for k, label in enumerate(known)} for known in (stimuli, runs))
    index = [of_run[run] * len(stimuli) + number[label] for label, run in zip(labels, run_of, strict=True)]
    return Cells(stimuli, runs, np.array(index))


def cell_means(patterns: xr.DataArray) -> CellMeans:
    """Average the observations of each cell.

    Raises a TypeError or ValueError that says what is wrong unless `patterns` are a DataArray (observation, voxel) of
    finite numbers, with coordinates ``stimulus`` and ``run``, each stimulus in two runs at least.
    """
    stimuli, runs, index = find_cells(patterns)
    found, first, count = np.unique(index, return_index=True, return_counts=True)
    dtype = np.float32 if patterns.dtype in (np.float32, np.float16) else np.float64
    if (count == 1).all():
        means = patterns.values[first].astype(dtype, copy=False)
    else:
        order = np.argsort(index, kind="stable")
        starts = np.cumsum(count) - count
        sums = np.add.reduceat(patterns.values[order], starts, axis=0, dtype=np.float64)
        means = (sums / count[:, None]).astype(dtype)
    cells, counts = (np.full((len(runs), len(stimuli)), empty, np.int32) for empty in (-1, 0))
    cells.flat[found], counts.flat[found] = np.arange(len(found)), count
    cells, counts = cells.T.copy(), counts.T.copy()
    once = [stimulus for stimulus, n in zip(stimuli, (counts > 0).sum(axis=1), strict=True) if n < 2]
    if once:
        raise ValueError(
            f"{len(once)} of {len(stimuli)} stimuli are in one run only, so that none of their distances can be "
            f"cross-validated: {name_some(once)}; leave them out of the patterns"
        )
    return CellMeans(means, cells, counts, stimuli, runs)


def check_patterns(patterns: object) -> None:
    """Raise a TypeError or ValueError that says what is wrong, unless `patterns` are patterns."""
    if not isinstance(patterns, xr.DataArray):
        hint = (
            "; take its variable 'patterns'" if isinstance(patterns, xr.Dataset) else "; fmri.make_patterns makes one"
        )
        raise TypeError(f"patterns is a {type(patterns).__name__}; expected a DataArray (observation, voxel){hint}")
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


def factor_of(precision: ArrayLike | None, n_voxels: int) -> NDArray[np.float64] | None:
    """L of Ω = L Lᵀ; raises a ValueError unless Ω is one positive definite (voxels, voxels) matrix."""
    if precision is None:
        return None
    if isinstance(precision, Mapping):
        raise ValueError(
            "a precision per run is refused: two runs would be whitened by the inverse of their mean covariance, "
            "another one for every pair of runs, so that no whitened patterns could be kept; give one precision "
            "pooled over the runs, or a stored crossnobis RDM to MeasuredTeacher"
        )
    matrix = np.asarray(precision, dtype=np.float64)
    if matrix.shape != (n_voxels, n_voxels):
        raise ValueError(
            f"precision has shape {matrix.shape}, expected ({n_voxels}, {n_voxels}): one precision for the patterns' "
            "voxels, pooled over the runs"
        )
    if not np.isfinite(matrix).all():
        raise ValueError("precision holds values that are not finite; drop voxels without variance first")
    if np.abs(matrix - matrix.T).max() > 1e-8 * np.abs(matrix).max():
        raise ValueError("precision is not symmetric; expected an inverse covariance")
    try:
        factor = np.linalg.cholesky(matrix).astype(np.float64, copy=False)
    except np.linalg.LinAlgError:
        raise ValueError(
            "precision is not positive definite; expected the inverse of a covariance, shrunk toward its diagonal "
            "where there are more voxels than degrees of freedom"
        ) from None
    return factor


def whiten(means: CellMeans, factor: NDArray[np.float64] | None) -> None:
    """In place and run by run; what all patterns of a run share cancels in every difference, and costs digits."""
    for cells in means.cells.T:
        rows = np.sort(cells[cells >= 0])
        run = slice(int(rows[0]), int(rows[-1]) + 1)  # the rows of a run lie together
        block = means.patterns[run].astype(np.float64)
        block -= block.mean(axis=0)
        means.patterns[run] = block if factor is None else block @ factor
