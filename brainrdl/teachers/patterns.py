"""Run-wise patterns as a teacher: cross-validated distances of just the stimuli that a batch shows.

With w_ir the whitened mean pattern of stimulus i in run r (``Ω = L Lᵀ``, ``w = Lᵀ b``), V voxels and H_ij the runs that
hold both i and j, the crossnobis distance is the mean over ordered pairs of runs in different parts,

    d_ij = 1/(V h_ij) Σ_{r,s ∈ H_ij, part(r) ≠ part(s)} (w_i − w_j)_r · (w_i − w_j)_s,

h_ij the number of these run pairs. Every run is a part of its own (r ≠ s), unless runs are split at random.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Literal, final

import numpy as np
import torch
import xarray as xr
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from brainrdl.arguments import name_some
from brainrdl.files.store import sha256
from brainrdl.identity import DIGEST, digest
from brainrdl.rdms.condensed import upper_triangle
from brainrdl.rdms.distances import full_precision
from brainrdl.rdms.patterns import RunMeans, check_folds, check_precision, factor_of, run_means
from brainrdl.teachers.base import NothingToCompare, RDMTeacher, rows_by_id


@final
class PatternTeacher(RDMTeacher):
    """Run-wise patterns as a teacher: the unbiased crossnobis distances of each batch's stimuli, made when asked.

    For 10⁴ stimuli and more, whose RDM would be too large to keep: it holds one pattern per run and stimulus.

    Parameters
    ----------
    patterns : DataArray (observation, voxel)
        Patterns with coordinates ``stimulus`` (strings) and ``run`` along ``observation``. Those of a stimulus within a
        run are averaged; the run is the fold of the cross-validation, and may be a session or repetition where single
        runs share few stimuli. The teacher answers by the patterns' name, by ``patterns`` without one. Kept in float32
        if they come so, else in float64; distances are computed in float64.
    precision : array_like (voxels, voxels), optional
        Inverse noise covariance Ω, pooled over runs; the identity if absent. The patterns are whitened by it once.
    weights : {"observations"}, optional
        Weights of the pairs: absent equal ones; ``observations`` the inverse of the error variance that a distance of
        0 has, as it follows from the numbers of runs and observations alone (up to a factor):
        ``h_ij² / Σ ξ_r ξ_s`` over the same run pairs, ``ξ_r = 1/n_ir + 1/n_jr`` with n_ir the observations.
    splits : int, optional
        Number of parts into which the runs are split at random, anew for every update, distances being computed between
        runs of different parts (2: split halves): unbiased too, and noisier. Absent: all pairs of runs.

    Raises
    ------
    TypeError
        If `patterns` is not a DataArray of real numbers, or stimuli are not strings.
    ValueError
        If a dimension or coordinate is missing, a value is not finite, there are fewer than two stimuli, or stimuli of
        one run only; if the precision is given per run, or is not a positive definite (voxels, voxels) matrix; for
        unknown `weights` and impossible `splits`. When asked: if no pair of a batch's stimuli shares two runs.

    Notes
    -----
    Stimuli may be missing in runs: a pair's distance is the mean over the run pairs that hold both. Where there is
    none, the pair is NaN and no loss counts it.

    A precision per run is refused: a pair of runs would be whitened by the inverse of their mean covariance, another
    one for every pair, so that no whitened patterns could be kept.

    References
    ----------
    Walther et al. (2016). Reliability of dissimilarity measures for multi-voxel pattern analysis. NeuroImage 137.

    Examples
    --------
    >>> import numpy as np, xarray as xr, brainrdl as rdl
    >>> patterns = xr.DataArray(
    ...     np.array([[1.0, 0], [0, 1], [2, 0], [0, 2]]),
    ...     dims=("observation", "voxel"),
    ...     coords={"stimulus": ("observation", ["face", "house"] * 2), "run": ("observation", [1, 1, 2, 2])},
    ...     name="IT",
    ... )
    >>> rdl.PatternTeacher(patterns)(None, ["house", "face"])["IT"]
    tensor([2.], dtype=torch.float64)
    """

    def __init__(
        self,
        patterns: xr.DataArray,
        precision: ArrayLike | None = None,
        *,
        weights: Literal["observations"] | None = None,
        splits: int | None = None,
    ) -> None:
        super().__init__()
        narrow = isinstance(patterns, xr.DataArray) and patterns.dtype in (np.float32, np.float16)
        means = run_means(patterns, dtype=np.float32 if narrow else np.float64, copy=True)
        once = [stimulus for stimulus, n in zip(means.stimuli, (means.counts > 0).sum(axis=0), strict=True) if n < 2]
        if once:
            raise ValueError(
                f"{len(once)} of {len(means.stimuli)} stimuli are in one run only, so that none of their distances can "
                f"be cross-validated: {name_some(once)}; leave them out of the patterns"
            )
        check_folds(patterns, means)
        if weights not in (None, "observations"):
            raise ValueError(f"unknown weights {weights!r}; give None or 'observations'")
        n_runs = len(means.runs)
        if splits is not None and not 2 <= splits <= n_runs:
            raise ValueError(f"splits must lie in 2 … {n_runs} (the number of runs), got {splits}")
        _whiten(means, _factor(precision, means.patterns.shape[1]))
        self._name = str(patterns.name or "patterns")
        self._stimuli = means.stimuli
        self._row = {stimulus: row for row, stimulus in enumerate(means.stimuli)}
        self._runs = means.runs
        # a row per stimulus, which is what batches ask for
        self._cells, self._counts = (table.T.astype(np.int32, order="C") for table in (means.cells, means.counts))
        self._weighted = weights is not None
        self._splits = splits
        self._parts = np.arange(n_runs)
        self._patterns: Tensor
        self.register_buffer("_patterns", torch.from_numpy(means.patterns), persistent=False)

    @property
    def names(self) -> tuple[str, ...]:
        """The patterns' name."""
        return (self._name,)

    @property
    def metric(self) -> str:
        """``crossnobis``: squared Mahalanobis distances, cross-validated, divided by the number of voxels."""
        return "crossnobis"

    def draw(self, generator: torch.Generator) -> None:
        """Split the runs anew, where ``splits`` are asked for."""
        if self._splits is not None:
            order = torch.randperm(len(self._runs), generator=generator).numpy()
            self._parts = order % self._splits

    def forward(self, images: Tensor | None, ids: Sequence[str] | None) -> dict[str, Tensor]:
        """Compute the distances of a batch's stimuli, float64 and on the patterns' device; images are ignored."""
        rows = self._rows(ids)
        cells = self._cells[rows]
        held = cells >= 0
        if not (np.triu(_run_pairs(held, np.arange(len(self._runs))), 1) > 0).any():
            raise NothingToCompare(
                f"no two of the {len(rows)} stimuli of a batch share two runs, so that none of their distances can be "
                "cross-validated; show more stimuli per update, or let the run coordinate be something that holds "
                "more of them, such as the session or the repetition"
            )
        run_pairs = torch.from_numpy(_run_pairs(held, self._parts)).to(self._patterns.device)
        with torch.no_grad(), full_precision(self._patterns.device):
            sums = self._balanced(cells) if (held == held[0]).all() else self._unbalanced(cells)
            distances = torch.where(run_pairs > 0, sums / (self._patterns.shape[1] * run_pairs), torch.nan)
            return {self._name: upper_triangle(distances)}

    def weights(self, ids: Sequence[str] | None) -> dict[str, Tensor] | None:
        """The weights of a batch's pairs; None where they are equal."""
        if not self._weighted:
            return None
        count = self._counts[self._rows(ids)]
        held = (count > 0).astype(float)
        noise = held / np.maximum(count, 1)
        total, within = np.zeros((2, len(count), len(count)))
        for part in np.unique(self._parts):
            runs = self._parts == part
            # Σ_r ξ_r over the part's runs that hold both, ξ_r = 1/n_ir + 1/n_jr
            of_part = noise[:, runs] @ held[:, runs].T
            of_part = of_part + of_part.T
            total += of_part
            within += of_part**2
        variance = total**2 - within  # Σ ξ_r ξ_s over run pairs in different parts
        run_pairs = _run_pairs(held > 0, self._parts)
        weights = np.where(run_pairs > 0, run_pairs**2 / np.where(run_pairs > 0, variance, 1.0), 0.0)
        return {self._name: upper_triangle(torch.from_numpy(weights)).to(self._patterns.device)}

    def describe(self) -> dict[str, Any]:
        """Name what identifies the teacher: patterns, their stimuli and runs, weights and splits."""
        tables = [("cells", torch.from_numpy(self._cells)), ("counts", torch.from_numpy(self._counts))]
        return {
            "name": type(self).__name__,
            "metric": self.metric,
            "names": list(self.names),
            "weights": "observations" if self._weighted else None,
            "splits": self._splits,
            "runs": [str(run) for run in self._runs],
            "stimuli": DIGEST + sha256("\0".join(self._stimuli).encode()),
            "observations": digest(tables),
            "patterns": digest([("", self._patterns)]),
        }

    def _rows(self, ids: Sequence[str] | None) -> list[int]:
        return rows_by_id(ids, self._row, teacher="PatternTeacher", what="pattern")

    def _balanced(self, cells: NDArray[np.int32]) -> Tensor:
        """Σ δ_r·δ_s over run pairs, (n, n), where all stimuli are in the same runs: |Σ_r δ_r|² − Σ_parts |Σ_r δ_r|²."""
        runs = np.flatnonzero(cells[0] >= 0)
        parts = self._parts[runs]
        sums = [self._of(cells[:, runs[parts == part]]).sum(dim=1) for part in np.unique(parts)]
        total = torch.stack(sums).sum(dim=0)
        kernel = total @ total.T
        for of_part in sums:
            kernel -= of_part @ of_part.T
        diagonal = kernel.diagonal()
        return diagonal[:, None] + diagonal - 2 * kernel

    def _unbalanced(self, cells: NDArray[np.int32]) -> Tensor:
        """The same for any runs, from products of patterns: Σ (w_ir·w_is + w_jr·w_js − w_ir·w_js − w_jr·w_is)."""
        device = self._patterns.device
        stimulus, run = np.nonzero(cells >= 0)
        w = self._of(cells[stimulus, run])
        # (rows, n): is the row of that stimulus; has that stimulus the row's run
        is_of = torch.from_numpy(np.eye(len(cells))[stimulus]).to(device)
        shares = torch.from_numpy((cells >= 0).T.astype(float)[run]).to(device)
        same_stimulus, cross = (w.new_zeros(len(cells), len(cells)) for _ in range(2))
        for part in np.unique(self._parts[run]):
            in_part = self._parts[run] == part
            t, u = (torch.from_numpy(np.flatnonzero(rows)).to(device) for rows in (in_part, ~in_part))
            products = w[t] @ w[u].T  # row t: stimulus i in run r; row u: in another part, run s
            same = products * (is_of[t] @ is_of[u].T)  # w_ir·w_is, where j has r and s
            same_stimulus += is_of[t].T @ ((same @ shares[u]) * shares[t])
            other = products * (shares[u] @ is_of[t].T).T  # w_ir·w_js, where i has s and j has r
            cross += is_of[t].T @ ((other @ is_of[u]) * shares[t])
        return same_stimulus + same_stimulus.T - cross - cross.T

    def _of(self, cells: NDArray[np.int32]) -> Tensor:
        patterns: Tensor = self._patterns[torch.from_numpy(cells).long().to(self._patterns.device)]
        return patterns.double()


def _factor(precision: ArrayLike | None, n_voxels: int) -> NDArray[np.float64] | None:
    """L of Ω = L Lᵀ."""
    if isinstance(precision, Mapping):
        raise ValueError(
            "a precision per run is refused: two runs would be whitened by the inverse of their mean covariance, "
            "another one for every pair of runs, so that no whitened patterns could be kept; give one precision "
            "pooled over the runs, or a stored crossnobis RDM to MeasuredTeacher"
        )
    if precision is None:
        return None
    return factor_of(check_precision(np.asarray(precision, dtype=np.float64), "the precision", n_voxels))


def _whiten(means: RunMeans, factor: NDArray[np.float64] | None) -> None:
    """In place and run by run; what all patterns of a run share cancels in every difference, and costs digits."""
    for cells in means.cells:
        rows = cells[cells >= 0]
        run = slice(int(rows[0]), int(rows[-1]) + 1)  # the rows of a run lie together
        block = means.patterns[run].astype(np.float64)
        block -= block.mean(axis=0)
        means.patterns[run] = block if factor is None else block @ factor


def _run_pairs(held: NDArray[np.bool_], parts: NDArray[Any]) -> NDArray[np.float64]:
    """h, (n, n): ordered pairs of runs in different parts that hold both stimuli."""
    total, within = np.zeros((2, len(held), len(held)))
    for part in np.unique(parts):
        of_part = held[:, parts == part].astype(float)
        shared = of_part @ of_part.T
        total += shared
        within += shared**2
    # all ordered pairs of runs less those within a part
    pairs: NDArray[np.float64] = total**2 - within
    return pairs
