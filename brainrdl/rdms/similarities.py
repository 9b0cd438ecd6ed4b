"""Condensed RDMs against condensed RDMs, every method of comparison, on whatever device they are.

Every comparison but Kendall's and the mean squared error is an inner product of feature vectors: an RDM's features are
computed once, and all comparisons are one matrix product.
"""

from collections.abc import Sequence
from typing import NamedTuple, final

import numpy as np
import torch
from torch import Tensor

from brainrdl.arguments import did_you_mean
from brainrdl.known import METHODS
from brainrdl.rdms.ranks import Ranking, concordance, midranks, ranking
from brainrdl.rdms.rounding import is_constant, share_of_rounding
from brainrdl.rdms.triangles import stimuli_of
from brainrdl.rdms.whitening import WHITENED, stimulus_sums, whitened

PARTIAL = ("cosine", "corr", "cosine_cov", "corr_cov", "spearman")
"""Those that are cosines of feature vectors, from which controls can be projected out."""

_CENTRED = ("corr", "corr_cov", "spearman", "rho-a")
_RANKED = ("spearman", "rho-a")
_KENDALL = ("tau-a", "tau-b")
_NEARLY_CONSTANT = 1e-5
_CANCELLED = 1e-6
_LEFT = 1e-10
_LARGEST = 1e100


class Options(NamedTuple):
    """A comparison: one of `METHODS`, with Σ (n,) or (n, n) over stimuli for the whitened ones, and condensed RDMs
    (controls, pairs) that are projected out of a, of b, or of both (`projected`).
    """

    method: str = "corr"
    covariance: Tensor | None = None
    controls: Tensor | None = None
    projected: tuple[bool, bool] = (True, True)


def check_method(method: str) -> None:
    """Raise a ValueError that lists the known methods, unless `method` is one of them."""
    if method not in METHODS:
        raise ValueError(f"unknown method {method!r}; known are: {', '.join(METHODS)}{did_you_mean(method, METHODS)}")


def similarities(a: Tensor, b: Tensor, options: Options) -> Tensor:
    """Compare each condensed RDM of a (rdms_a, pairs) with each of b (rdms_b, pairs): float64 (rdms_a, rdms_b).

    Larger is more alike. NaN where fewer than two pairs are measured in both, or an RDM has no variation in them.
    """
    return Comparison(b, options)(a)


@final
class Comparison:
    """`similarities` to given RDMs (rdms_b, pairs), whose features are computed once for however many calls."""

    def __init__(self, b: Tensor, options: Options) -> None:
        check_method(options.method)
        self.n = stimuli_of(b.shape[1])
        self.options = options
        self.b = [(rows, measured, b[rows] if len(rows) < len(b) else b) for rows, measured in _by_measured(b)]
        self.n_b = len(b)
        self.common = torch.ones(b.shape[1], dtype=torch.bool, device=b.device)
        if options.controls is not None:
            self.common = ~options.controls.isnan().any(dim=0)
        self._latest: dict[int, _Block] = {}

    def __call__(self, a: Tensor) -> Tensor:
        """Compare RDMs (rdms_a, pairs) with them: (rdms_a, rdms_b)."""
        result = torch.full((len(a), self.n_b), torch.nan, dtype=torch.float64, device=a.device)
        for rows_a, measured_a in _by_measured(a):
            of_a = a[rows_a] if len(rows_a) < len(a) else a
            for group, (rows_b, measured_b, of_b) in enumerate(self.b):
                measured = measured_a & measured_b & self.common
                if measured.sum() > 1:
                    block = self._latest.get(group)
                    if block is None or not torch.equal(block.measured, measured):
                        block = self._latest[group] = _Block(self.n, measured, self.options, of_b)
                    result[rows_a[:, None], rows_b] = block.compare(of_a)
        return result


def features(rdms: Tensor, measured: Tensor, options: Options) -> Tensor:
    """Vectors (rdms, length) whose cosines compare RDMs (rdms, pairs) of the `measured` (n(n-1)/2,) pairs alone."""
    method = options.method
    if method in _RANKED:
        rdms = midranks(rdms)
    rdms = rdms.double()
    if method in _CENTRED:
        rdms = _centred(rdms)
    if method in WHITENED:
        rdms = whitened(rdms, stimuli_of(len(measured)), covariance=options.covariance, measured=measured)
    return rdms


def centred_features(rdms: np.ndarray, method: str) -> np.ndarray:
    """`features` of ``corr`` or ``spearman`` for arrays (rdms, pairs) without NaN."""
    return _centred(midranks(torch.from_numpy(rdms)) if method == "spearman" else torch.from_numpy(rdms)).numpy()


def _centred(rdms: Tensor) -> Tensor:
    deviations = rdms - rdms.mean(dim=1, keepdim=True)
    # equal values differ from each other and from their mean by rounding, which has no direction
    low, high = torch.aminmax(rdms, dim=1)
    for row in torch.nonzero(high - low <= _NEARLY_CONSTANT * torch.maximum(-low, high)).flatten().tolist():
        if is_constant(rdms[row].cpu().numpy()):
            deviations[row] = 0.0
    return deviations


def _in_range(rdms: Tensor) -> Tensor:
    """Rows whose squares float64 could not hold, divided by their largest; all others as they are."""
    low, high = torch.aminmax(rdms, dim=1, keepdim=True)
    size = torch.maximum(low.abs(), high.abs())
    extreme = (size > _LARGEST) | ((size < 1 / _LARGEST) & (size > 0))
    return rdms / torch.where(extreme, size, 1.0) if extreme.any() else rdms


def _by_measured(rdms: Tensor) -> Sequence[tuple[Tensor, Tensor]]:
    """Rows that have the same pairs measured, with these pairs."""
    # a sum is NaN where any summand is: one pass, and no copy, where nothing is missing
    if not rdms.sum().isnan():
        return [(torch.arange(len(rdms), device=rdms.device), torch.ones_like(rdms[0], dtype=torch.bool))]
    groups: dict[bytes, list[int]] = {}
    for row, rdm in enumerate(rdms):
        groups.setdefault(np.packbits((~rdm.isnan()).cpu().numpy()).tobytes(), []).append(row)
    return [(torch.tensor(rows, device=rdms.device), ~rdms[rows[0]].isnan()) for rows in groups.values()]


class _Block:
    """RDMs (rdms_b, pairs) that others are compared with on the same pairs."""

    def __init__(self, n: int, measured: Tensor, options: Options, b: Tensor) -> None:
        self.n, self.measured, self.options = n, measured, options
        self.complete = bool(measured.all())
        self.b = self._taken(b)
        method = options.method
        self.rankings: list[Ranking] = []
        if method in _KENDALL:
            self.rankings = [ranking(row) for row in self.b.cpu().numpy()]
        elif method != "mse":
            self.basis = self._basis()
            self.features = self._features(self.b, options.projected[1])
        # without controls and missing pairs, only one side has to be centred and whitened
        self.one_sided = options.controls is None and (
            method in ("cosine", "corr", "spearman")
            or (method in WHITENED and options.covariance is None and self.complete)
        )
        if self.one_sided:
            p = self.b.shape[1]
            # V⁻¹d is (d − Bc)/2, the first of the whitened features times √½
            self.dual = self.features[:, :p] * 0.5**0.5 if method in WHITENED else self.features
            self.dual_sums = self.dual.sum(dim=1)

    def compare(self, a: Tensor) -> Tensor:
        """Compare RDMs (rdms_a, pairs) with them."""
        a = self._taken(a)
        if self.rankings:
            return self._kendall(a)
        if self.options.method == "mse":
            return -torch.stack([(row - self.b).square().mean(dim=1) for row in a])
        if self.one_sided:
            return self._products(a)
        return self._features(a, self.options.projected[0]) @ self.features.T

    def _taken(self, rdms: Tensor) -> Tensor:
        taken = (rdms if self.complete else rdms[:, self.measured]).double()
        return taken if self.options.method == "mse" else _in_range(taken)

    def _products(self, a: Tensor) -> Tensor:
        """a V⁻¹b / |a| from a as it is: its mean is taken out of the products, which spares copies of a."""
        method = self.options.method
        rows = midranks(a) if method == "spearman" else a
        p = rows.shape[1]
        products = rows @ self.dual.T
        square = size = torch.linalg.vector_norm(rows, dim=1).square()
        mean = rows.new_zeros(len(rows))
        if method in _CENTRED:
            mean = rows.mean(dim=1)
            products -= torch.outer(mean, self.dual_sums)
            square = size - p * mean.square()
        if method in WHITENED:
            sums = stimulus_sums(rows, self.n) - (self.n - 1) * mean[:, None]
            total = sums.sum(dim=1, keepdim=True)
            # |d|² − rᵀc, halved; see `whitening`
            square = (square - (sums * (sums - total / (2 * self.n))).sum(dim=1) / self.n) / 2
        similar = products / square.clamp_min(torch.finfo(square.dtype).tiny).sqrt()[:, None]
        cancelled = square < _CANCELLED * size
        if cancelled.any():  # a constant, or nearly: what the subtraction left has too few digits
            similar[cancelled] = self._features(a[cancelled], False) @ self.features.T
        return torch.where(size[:, None] > 0, similar, torch.nan)

    def _features(self, rdms: Tensor, project: bool) -> Tensor:
        """Vectors whose products are the similarities; NaN where nothing is left to compare."""
        vectors = features(rdms, self.measured, self.options)
        if self.options.method == "rho-a":
            p = rdms.shape[1]
            constant = ~vectors.any(dim=1, keepdim=True)
            of_ranks: Tensor = (vectors * (12 / (p**3 - p)) ** 0.5).masked_fill(constant, torch.nan)
            return of_ranks
        if project and self.basis is not None:
            before = vectors.norm(dim=1, keepdim=True)
            for _ in range(2):  # once leaves rounding errors of the size of what is taken out
                vectors = vectors - vectors @ self.basis.T @ self.basis
            # what the controls leave of less than that is rounding
            least = torch.tensor([max(_LEFT, 2 * share_of_rounding(row)) for row in rdms.cpu().numpy()]).to(before)
            vectors = vectors.masked_fill(vectors.norm(dim=1, keepdim=True) <= least[:, None] * before, 0.0)
        length = vectors.norm(dim=1, keepdim=True)
        return vectors / torch.where(length > 0, length, torch.nan)

    def _basis(self) -> Tensor | None:
        """Orthonormal rows that span the controls' features."""
        controls = self.options.controls
        if controls is None:
            return None
        vectors = features(self._taken(controls), self.measured, self.options)
        length = vectors.norm(dim=1, keepdim=True)
        _, sizes, directions = torch.linalg.svd(vectors / torch.where(length > 0, length, 1.0), full_matrices=False)
        basis: Tensor = directions[sizes > 1e-10]
        return basis

    def _kendall(self, a: Tensor) -> Tensor:
        """Counted on the CPU."""
        result = np.empty((len(a), len(self.rankings)))
        for k, row in enumerate(a.cpu().numpy()):
            mine = ranking(row)
            for m, theirs in enumerate(self.rankings):
                counts = concordance(mine, theirs)
                result[k, m] = counts.tau_a if self.options.method == "tau-a" else counts.tau_b
        return torch.from_numpy(result).to(a.device)
