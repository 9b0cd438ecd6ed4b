"""Condensed RDMs against condensed RDMs, every method of comparison, on whatever device they are.

Every comparison but Kendall's and the mean squared error is an inner product of feature vectors: an RDM's features are
computed once, and all comparisons are one matrix product.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from brainrdl.condensed import stimuli_of
from brainrdl.ids import did_you_mean
from brainrdl.ranks import concordance, midranks, ranking
from brainrdl.whitening import whitened

METHODS = ("cosine", "corr", "cosine_cov", "corr_cov", "spearman", "rho-a", "tau-a", "tau-b", "mse")
"""The comparisons, by rsatoolbox's names; ``mse`` is returned negated."""

WHITENED = ("cosine_cov", "corr_cov")
"""Those that whiten by the covariance of distances which share a stimulus."""

PARTIAL = ("cosine", "corr", "cosine_cov", "corr_cov", "spearman")
"""Those that are cosines of feature vectors, from which controls can be projected out."""

_CENTRED = ("corr", "corr_cov", "spearman", "rho-a")
_RANKED = ("spearman", "rho-a")
_ROUNDING = 1e-13
_NUMBERS_AT_ONCE = 4_000_000


class Options(NamedTuple):
    """How to compare.

    Attributes
    ----------
    method : str
        One of `METHODS`.
    covariance : Tensor (n,) or (n, n), optional
        For the whitened methods, the covariance of the pattern estimates over stimuli.
    controls : Tensor (controls, pairs), optional
        Condensed RDMs to project out.
    projected : tuple of bool
        Whether the controls are projected out of a, and of b.
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
    """Compare each RDM of one set with each of another; larger is more alike.

    Parameters
    ----------
    a : Tensor (rdms_a, pairs)
        Condensed RDMs of n stimuli; NaN is an unmeasured pair.
    b : Tensor (rdms_b, pairs)
        Of the same stimuli in the same order, on the same device.
    options : Options
        Method, covariance and controls.

    Returns
    -------
    Tensor (rdms_a, rdms_b)
        float64. Two RDMs are compared on the pairs that both have measured (and all controls); NaN where these are
        fewer than two. 0 where an RDM has no variation beyond rounding (for the cosines: no length) to compare.

    Examples
    --------
    >>> import torch
    >>> a = torch.tensor([[1.0, 2.0, 3.0]])
    >>> similarities(a, torch.tensor([[2.0, 4.0, 6.0], [3.0, 2.0, 1.0]]), Options("corr"))
    tensor([[ 1.0000, -1.0000]], dtype=torch.float64)
    """
    check_method(options.method)
    n = stimuli_of(a.shape[1])
    controls = options.controls
    common = torch.ones(a.shape[1], dtype=torch.bool, device=a.device)
    if controls is not None:
        common = ~controls.isnan().any(dim=0)
    result = torch.full((len(a), len(b)), torch.nan, dtype=torch.float64, device=a.device)
    for rows_b, measured_b in _by_measured(b):
        for rows_a, measured_a in _by_measured(a):
            measured = measured_a & measured_b & common
            if measured.sum() > 1:
                result[rows_a[:, None], rows_b] = _Block(n, measured, options).compare(a, rows_a, b, rows_b)
    return result


def features(rdms: Tensor, measured: Tensor, options: Options) -> Tensor:
    """Vectors (rdms, length) in which a comparison is a cosine, not yet of unit length.

    `rdms` (rdms, pairs) holds the measured pairs only, those where `measured` (n(n-1)/2,) is True; `options` a method
    among `PARTIAL`, or ``rho-a``.
    """
    return _Block(stimuli_of(len(measured)), measured, options)._raw(rdms.double().clone())


def centred_features(rdms: np.ndarray, method: str) -> np.ndarray:
    """`features` of ``corr`` or ``spearman`` for arrays (rdms, pairs) without NaN."""
    ranked = midranks(torch.from_numpy(rdms)) if method == "spearman" else torch.from_numpy(rdms.copy())
    return _Block._centred(ranked).numpy()


def _by_measured(rdms: Tensor) -> Sequence[tuple[Tensor, Tensor]]:
    """Rows that have the same pairs measured, with these pairs."""
    # a sum is NaN where any summand is: one pass, and no copy, where nothing is missing
    if not rdms.sum().isnan():
        return [(torch.arange(len(rdms), device=rdms.device), torch.ones_like(rdms[0], dtype=torch.bool))]
    groups: dict[bytes, list[int]] = {}
    for row, rdm in enumerate(rdms):
        groups.setdefault(np.packbits((~rdm.isnan()).cpu().numpy()).tobytes(), []).append(row)
    return [(torch.tensor(rows, device=rdms.device), ~rdms[rows[0]].isnan()) for rows in groups.values()]


class _Block(NamedTuple):
    """RDMs that are compared on the same pairs."""

    n: int
    measured: Tensor
    options: Options

    def compare(self, a: Tensor, rows_a: Tensor, b: Tensor, rows_b: Tensor) -> Tensor:
        """Compare rows of a with rows of b, holding the features of one side and of a chunk of the other."""
        method = self.options.method
        if method in ("tau-a", "tau-b"):
            return self._kendall(a, rows_a, b, rows_b)
        if method == "mse":
            theirs = self._taken(b, rows_b)
            return -torch.stack([(self._taken(a, row[None]) - theirs).square().mean(dim=1) for row in rows_a])
        basis = self._basis()
        from_a, from_b = self.options.projected
        theirs = self._features(self._taken(b, rows_b), basis if from_b else None)
        at_once = max(1, _NUMBERS_AT_ONCE // len(self.measured))
        return torch.cat(
            [
                self._features(self._taken(a, rows), basis if from_a else None) @ theirs.T
                for rows in torch.split(rows_a, at_once)
            ]
        )

    def _taken(self, rdms: Tensor, rows: Tensor) -> Tensor:
        taken = rdms[rows]
        return (taken if self.measured.all() else taken[:, self.measured]).double()

    def _features(self, rdms: Tensor, basis: Tensor | None) -> Tensor:
        """Vectors whose products are the similarities. `rdms` is used up."""
        if self.options.method == "rho-a":
            p = rdms.shape[1]
            of_ranks: Tensor = self._centred(midranks(rdms)) * (12 / (p**3 - p)) ** 0.5
            return of_ranks
        features = self._raw(rdms)
        if basis is not None:
            length = features.norm(dim=1, keepdim=True)
            for _ in range(2):  # once leaves rounding errors of the size of what is taken out
                features -= features @ basis.T @ basis
            explained = features.norm(dim=1, keepdim=True) <= 1e-10 * length
            features.masked_fill_(explained, 0.0)
        length = features.norm(dim=1, keepdim=True)
        unit: Tensor = features.div_(torch.where(length > 0, length, 1.0))
        return unit

    def _raw(self, rdms: Tensor) -> Tensor:
        """Features before controls and normalisation."""
        method = self.options.method
        if method in _RANKED:
            rdms = midranks(rdms)
        if method in _CENTRED:
            rdms = self._centred(rdms)
        if method in WHITENED:
            rdms = whitened(rdms, self.n, covariance=self.options.covariance, measured=self.measured)
        return rdms

    @staticmethod
    def _centred(rdms: Tensor) -> Tensor:
        size = rdms.abs().amax(dim=1, keepdim=True)
        rdms -= rdms.mean(dim=1, keepdim=True)
        # equal values differ from their mean by its rounding, which has no direction
        constant = rdms.abs().amax(dim=1, keepdim=True) <= _ROUNDING * size
        return rdms.masked_fill_(constant, 0.0) if constant.any() else rdms

    def _basis(self) -> Tensor | None:
        """Orthonormal rows that span the controls' features."""
        controls = self.options.controls
        if controls is None:
            return None
        features = self._raw(controls[:, self.measured].double())
        length = features.norm(dim=1, keepdim=True)
        features = features / torch.where(length > 0, length, 1.0)
        _, sizes, directions = torch.linalg.svd(features, full_matrices=False)
        basis: Tensor = directions[sizes > 1e-10]
        return basis

    def _kendall(self, a: Tensor, rows_a: Tensor, b: Tensor, rows_b: Tensor) -> Tensor:
        """Counted on the CPU."""
        theirs = [ranking(row) for row in self._taken(b, rows_b).cpu().numpy()]
        result = np.empty((len(rows_a), len(rows_b)))
        for k, row in enumerate(rows_a):
            mine = ranking(self._taken(a, row[None])[0].cpu().numpy())
            for m, their in enumerate(theirs):
                counts = concordance(mine, their)
                result[k, m] = counts.tau_a if self.options.method == "tau-a" else counts.tau_b
        return torch.from_numpy(result).to(a.device)
