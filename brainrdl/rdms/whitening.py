"""Whitened RDMs: condensed RDMs turned into vectors whose errors are uncorrelated and of one size.

Distances that share a stimulus covary. Where the patterns' errors have covariance Σ over stimuli, those of the
distances have ``V = Ξ∘Ξ`` with ``Ξ = CΣCᵀ``, C the matrix of all pairwise contrasts (Diedrichsen et al. 2020, Comparing
representational geometries using whitened unbiased-distance-matrix similarity, arXiv:2007.02789). A whitened comparison
needs ``dᵀV⁻¹d'``; V itself, P × P, is never built, and all but full Σ with missing pairs is differentiable:

- Σ diagonal, ``diag(σ)``: then ``V = diag(2 σ_i σ_j) + B diag(σ²) Bᵀ``, B the pairs' incidence matrix (P × n, two ones
  per row). With ``c`` the solution of ``(diag(σ⁻²) + Bᵀ diag(1/2σ_iσ_j) B) c = Bᵀ diag(1/2σ_iσ_j) d``, the vector
  ``[(d − Bc)/√(2σ_iσ_j), c/σ]`` has the product dᵀV⁻¹d'. Where Σ = I and no pair is missing, the system is
  ``(nI + 11ᵀ) c = Bᵀd``, which is solved by hand: O(n²), for RDMs of any metric.
- Σ full: with ``M`` the pseudoinverse of HΣH (H centres), ``dᵀV⁻¹d' = ¼ tr(M D M D')``: O(n³). With Σ = I this is the
  numerator of linear CKA. Missing pairs take the values that make ``tr(M D M D)`` smallest, which is the same as
  leaving their rows and columns out of V.
"""

import torch
from torch import Tensor

from brainrdl.rdms.condensed import to_square, upper_triangle

WHITENED = ("cosine_cov", "corr_cov")
"""The comparisons that whiten, by the covariance of distances which share a stimulus."""


def whitened(rdms: Tensor, n: int, *, covariance: Tensor | None = None, measured: Tensor | None = None) -> Tensor:
    """Turn condensed RDMs (rdms, pairs) of n stimuli into vectors (rdms, length) with products ``dᵀ V⁻¹ d'``.

    Σ is (n, n), variances (n,) or absent, the identity; `measured` (n(n-1)/2,) marks the pairs that `rdms` has.
    """
    if measured is not None and bool(measured.all()):
        measured = None
    if covariance is None:
        if measured is None:
            return _identity(rdms, n)
        covariance = rdms.new_ones(n)
    covariance = _checked(covariance.to(rdms), n)
    if covariance.ndim == 1:
        pairs = torch.triu_indices(n, n, 1, device=rdms.device).T
        return whitened_pairs(rdms, pairs if measured is None else pairs[measured], covariance)
    return _full(rdms, covariance, measured)


def stimulus_sums(rdms: Tensor, n: int) -> Tensor:
    """Each stimulus's sum of distances, Bᵀd: (rdms, n) of condensed RDMs (rdms, n(n-1)/2)."""
    sums = rdms.new_zeros(len(rdms), n)
    start = 0
    for i in range(n - 1):  # pairs (i, i+1 … n−1) lie together, which spares a gather of n²
        row = rdms[:, start : start + n - 1 - i]
        sums[:, i] += row.sum(dim=1)
        sums[:, i + 1 :] += row
        start += n - 1 - i
    return sums


def _identity(rdms: Tensor, n: int) -> Tensor:
    """c = (nI + 11ᵀ)⁻¹ Bᵀd, and [d − Bc, √2 c]/√2."""
    sums = stimulus_sums(rdms, n)
    c = (sums - sums.sum(dim=1, keepdim=True) / (2 * n)) / n
    residual = torch.cat([c[:, i, None] + c[:, i + 1 :] for i in range(n - 1)], dim=1)
    return torch.cat(((rdms - residual) * 0.5**0.5, c), dim=1)


def whitened_pairs(distances: Tensor, pairs: Tensor, variances: Tensor, *, counts: Tensor | None = None) -> Tensor:
    """`whitened` for any pairs (pairs, 2) of n stimuli: ``[(d − Bc)/√(2σ_iσ_j), c/σ]``, (rdms, pairs + n).

    `variances` (n,) are above 0; `counts` (pairs,) is 1 or 0, whether a pair counts: no device is asked which do.
    """
    n = len(variances)
    i, j = pairs.unbind(dim=1)
    precision = 1 / (2 * variances[i] * variances[j])
    if counts is not None:
        precision = precision * counts
    weighted = distances * precision
    sums = distances.new_zeros(len(distances), n).index_add(1, i, weighted).index_add(1, j, weighted)
    system = distances.new_zeros(n, n)
    system[i, j] = precision
    system[j, i] = precision
    system = system + torch.diag(system.sum(dim=1) + variances**-2)
    c = torch.linalg.solve(system, sums.T).T
    return torch.cat(((distances - c[:, i] - c[:, j]) * precision.sqrt(), c / variances), dim=1)


def _full(rdms: Tensor, covariance: Tensor, measured: Tensor | None) -> Tensor:
    """W D Wᵀ / 2, its triangles laid side by side, with WᵀW = M."""
    centred = covariance - covariance.mean(dim=0) - covariance.mean(dim=1, keepdim=True) + covariance.mean()
    variances, directions = torch.linalg.eigh(centred)
    # the smallest is that of the constant, 0 but for rounding, or else Σ is not a covariance
    smallest = variances[0] if variances[0] < -1e-12 * variances[-1] else variances[1]
    variances, directions = variances[1:], directions[:, 1:]
    if not smallest > 1e-12 * variances[-1]:
        raise ValueError(
            "sigma_k leaves a contrast of stimuli without variance (its smallest centred eigenvalue is "
            f"{(smallest / variances[-1]).item():.0e} of the largest), so that it cannot be inverted; shrink it "
            "toward its diagonal"
        )
    W = (directions / variances.sqrt()).T
    if measured is not None:
        rdms = _filled(rdms, W.T @ W, measured)
    K = W @ to_square(rdms) @ W.T / 2
    return torch.cat((upper_triangle(K) * 2**0.5, K.diagonal(dim1=1, dim2=2)), dim=1)


@torch.no_grad()
def _filled(rdms: Tensor, M: Tensor, measured: Tensor) -> Tensor:
    """Unmeasured pairs at the minimum of tr(M D M D), by conjugate gradients."""

    def gradient(rdms: Tensor) -> Tensor:
        return upper_triangle(M @ to_square(rdms) @ M)[:, ~measured]

    filled = rdms.new_zeros(len(rdms), len(measured))
    filled[:, measured] = rdms
    direction = torch.zeros_like(filled)
    residual = -gradient(filled)
    step, size = residual, residual.square().sum(dim=1, keepdim=True)
    enough = 1e-28 * size
    for _ in range(20 * residual.shape[1] + 20):
        if (size <= enough).all():
            return filled
        direction[:, ~measured] = step
        image = gradient(direction)
        # a row that is solved stays as it is: 0/0 is 0 here
        rate = size / torch.where(size > enough, (step * image).sum(dim=1, keepdim=True), torch.inf)
        filled[:, ~measured] += rate * step
        residual = residual - rate * image
        before, size = size, residual.square().sum(dim=1, keepdim=True)
        step = residual + torch.where(before > enough, size / before, 0.0) * step
    raise ValueError(
        "whitening by this sigma_k did not converge for the missing pairs, it is too close to singular; shrink it "
        "toward its diagonal"
    )


def _checked(covariance: Tensor, n: int) -> Tensor:
    if tuple(covariance.shape) not in ((n,), (n, n)):
        raise ValueError(
            f"sigma_k has shape {tuple(covariance.shape)}, expected ({n},) variances or a ({n}, {n}) covariance, in "
            "the order of the stimuli compared"
        )
    if not covariance.isfinite().all():
        raise ValueError("sigma_k holds values that are not finite; leave such stimuli out")
    if covariance.ndim == 1 and not (covariance > 0).all():
        raise ValueError(f"sigma_k holds a variance of {covariance.min().item():.3g}; variances must be above 0")
    if covariance.ndim == 2 and not torch.allclose(covariance, covariance.T, rtol=1e-6, atol=0.0):
        largest = (covariance - covariance.T).abs().max().item()
        raise ValueError(f"sigma_k is not symmetric (largest difference {largest:.3g}); a covariance is")
    return covariance
