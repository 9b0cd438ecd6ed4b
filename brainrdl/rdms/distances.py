"""Representational distances (Eq. 1): features to condensed RDMs, with a hand-written gradient.

Every metric is a function of the Gram matrix of the patterns, so that an RDM costs n² memory beyond the features:
the features are read in blocks of units, no pair of patterns is ever laid side by side. Two paths share it.

*Without gradient* everything is float64, see `brainrdl.rdms.float64`.

*With gradient* squared distances are computed in the precision of the features, at least float32, and cosines in
float64. Half precision, autocast and TF32 never reach a distance, whatever is set outside.
"""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import reduce
from typing import Any

import torch
from torch import Tensor

from brainrdl.arguments import check_tensor, name_some
from brainrdl.known import check_metric
from brainrdl.rdms.condensed import upper_triangle
from brainrdl.rdms.float64 import ANGULAR, blas_alone, fill_distances, not_finite, undefined, unit_means, unit_slices

_BLOCK_ELEMENTS = 2**22


def rdm(features: Tensor, metric: str = "mse") -> Tensor:
    """Compute the representational distances of all pairs of stimuli (Eq. 1).

    Parameters
    ----------
    features : Tensor (n, ...)
        One activation pattern per stimulus; everything behind the first dimension is flattened to K units.
    metric : {"mse", "sqeuclidean", "euclidean", "correlation", "cosine"}
        ``mse``: mean over units of the squared differences (what rsatoolbox calls ``euclidean``).
        ``sqeuclidean``: their sum. ``euclidean``: the root of the sum. ``correlation``: 1 − Pearson r over units.
        ``cosine``: 1 − cosine of the angle.

    Returns
    -------
    Tensor (n(n-1)/2,)
        The condensed RDM, row-major upper triangle as in SciPy. Differentiable where `features` requires a gradient,
        and then of its precision (at least float32); float64 otherwise. A constant pattern (for ``cosine``: a zero
        one) has no direction: its distance to every other pattern is 1 and its gradient 0.

    Raises
    ------
    ValueError
        For an unknown metric, fewer than two stimuli, no units, complex or (without gradient) not finite features.

    Examples
    --------
    >>> import torch, brainrdl as rdl
    >>> rdl.rdm(torch.tensor([[0.0, 0.0], [3.0, 4.0], [0.0, 2.0]]), "sqeuclidean")
    tensor([25.,  4., 13.], dtype=torch.float64)
    """
    check_metric(metric)
    flat = _flat(features)
    if flat.requires_grad and torch.is_grad_enabled():
        return training_rdm(flat, metric)
    flat = flat.detach()
    with torch.no_grad(), full_precision(flat.device), blas_alone():
        slices = unit_slices(*flat.shape)
        square = torch.zeros(len(flat), len(flat), dtype=torch.float64, device=flat.device)
        all_is_well = fill_distances(
            square,
            lambda: (flat[:, units] for units in slices),
            metric,
            flat.shape[1],
            mean=unit_means(flat, slices) if metric == "correlation" else square.new_zeros(len(flat), 1),
            without=undefined(flat, metric),
        )
        if not all_is_well:
            raise ValueError(_complaint(flat))
        return upper_triangle(square)


def training_rdm(
    features: Tensor, metric: str = "mse", row_scale: Tensor | None = None, *, pairs: Tensor | None = None
) -> Tensor:
    """Compute distances of patterns (n, ...) as in training: all (n(n-1)/2,) or of `pairs` (P, 2), at least float32.

    `row_scale` (n,) scales the gradient of stimulus i, ``c_i Σ_j g_ij ∂d_ij/∂f_i``: Eq. 4 with `eq4_factors`.
    """
    check_metric(metric)
    distances: Tensor = _Distances.apply(_flat(features), metric, row_scale, pairs)  # type: ignore[no-untyped-call, unused-ignore]
    return distances


def group_means(features: Tensor, groups: Tensor) -> Tensor:
    """Average patterns (n, ...) over `groups` (n,), 0 … m − 1, on the CPU: (m, K), at least float32, with gradient."""
    flat = _flat(features)
    member = torch.nn.functional.one_hot(groups).T.to(torch.promote_types(flat.dtype, torch.float32))
    with full_precision(flat.device):
        return (member / member.sum(dim=1, keepdim=True)).to(flat.device) @ flat.to(member.dtype)


class _Distances(torch.autograd.Function):
    """Distances of pairs on the training path. The backward pass is one n × n by n × K product."""

    @staticmethod
    def forward(ctx: Any, features: Tensor, metric: str, row_scale: Tensor | None, pairs: Tensor | None) -> Tensor:
        n = len(features)
        i, j = torch.triu_indices(n, n, 1, device=features.device) if pairs is None else pairs.to(features.device).T
        position = i * n + j
        patterns = _Patterns(features, metric)
        # patterns that fit one block are kept as they are used; wider ones are made again, block by block
        whole = next(iter(patterns))[1] if patterns.width == features.shape[1] else None
        with full_precision(features.device):
            square, norms = _square(features, patterns if whole is None else [(slice(None), whole)], metric)
        ctx.metric, ctx.dtype = metric, features.dtype
        ctx.save_for_backward(features if whole is None else None, whole, square, norms, row_scale, position)
        return square.flatten()[position].to(torch.promote_types(features.dtype, torch.float32))

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, gradient_of_pairs: Tensor) -> tuple[Tensor, None, None, None]:
        features, whole, square, norms, row_scale, position = ctx.saved_tensors
        with full_precision(square.device):
            # g_ij = ∂L/∂d_ij; row i holds what reaches stimulus i
            one_sided = square.new_zeros(square.numel()).index_add_(0, position, gradient_of_pairs.to(square.dtype))
            g = one_sided.view_as(square) + one_sided.view_as(square).T
            if row_scale is not None:
                # Eq. 4: c_i Σ_j g_ij ∂d_ij/∂f_i. Scaling row i here, before the product with the patterns, is linear
                # and costs n² where scaling the features' gradient would cost n · K and round otherwise
                g = g * row_scale.to(g.dtype)[:, None]
            pull = _pull(g, square, norms, (features if whole is None else whole).shape[1], ctx.metric)
            if whole is not None:
                return (pull @ whole).to(ctx.dtype), None, None, None
            gradient = torch.empty_like(features)
            for units, block in _Patterns(features, ctx.metric):
                gradient[:, units] = (pull @ block).to(ctx.dtype)
        return gradient, None, None, None


def _pull(g: Tensor, square: Tensor, norms: Tensor, n_units: int, metric: str) -> Tensor:
    """The n × n matrix M with Σ_j g_ij ∂d_ij/∂f_i = (M X)_i, X the (centred) patterns."""
    if metric in ANGULAR:
        # ∂d_ij/∂f_i = −(u_j − s_ij u_i)/|f_i| with u = f/|f|, s = 1 − d; no direction, no gradient
        inverse = torch.where(norms > 0, 1 / norms.clamp_min(torch.finfo(norms.dtype).tiny), 0.0)
        g = g * (inverse > 0)[:, None] * (inverse > 0)[None, :]
        toward_others = g * inverse[:, None] * inverse[None, :]
        return torch.diag((g * (1 - square)).sum(dim=1) * inverse**2) - toward_others
    if metric == "euclidean":
        # ∂d_ij/∂f_i = (f_i − f_j)/d_ij, taken as 0 where the two patterns coincide
        coefficient = torch.where(square > 0, g / square.clamp_min(torch.finfo(square.dtype).tiny), 0.0)
    else:
        # ∂d_ij/∂f_i = 2 (f_i − f_j), over K for the mean
        coefficient = 2 * g / (n_units if metric == "mse" else 1)
    return torch.diag(coefficient.sum(dim=1)) - coefficient


@dataclass(frozen=True)
class _Patterns:
    """Blocks of units of the patterns, centred as the metric asks, in the precision it asks."""

    features: Tensor
    metric: str

    @property
    def width(self) -> int:
        """Units a block."""
        n, n_units = self.features.shape
        return max(1, min(n_units, _BLOCK_ELEMENTS // n))

    def __iter__(self) -> Iterator[tuple[slice, Tensor]]:
        angular = self.metric in ANGULAR
        dtype = torch.float64 if angular else torch.promote_types(self.features.dtype, torch.float32)
        n_units = self.features.shape[1]
        slices = [slice(start, min(start + self.width, n_units)) for start in range(0, n_units, self.width)]
        mean = unit_means(self.features, slices) if self.metric == "correlation" else None
        for units in slices:
            block = self.features[:, units].to(dtype)
            if mean is not None:
                block = block - mean
            elif not angular:
                block = block - block.mean(dim=0)  # a common offset cancels in every difference
            yield units, block


def _square(features: Tensor, patterns: Iterable[tuple[slice, Tensor]], metric: str) -> tuple[Tensor, Tensor]:
    """Square distances from the Gram matrix, and the patterns' norms (angular metrics) or squared norms."""
    gram = reduce(torch.add, (block @ block.T for _, block in patterns))
    squared_norms = gram.diagonal().clone()
    if metric in ANGULAR:
        norms = torch.where(undefined(features, metric), 0.0, squared_norms.sqrt())
        outer = norms[:, None] * norms[None, :]
        # not "outer > 0": a NaN has to stay one, so that training stops on it
        cosine = torch.where(outer == 0, 0.0, gram / outer.clamp_min(torch.finfo(gram.dtype).tiny))
        square = (1 - cosine).clamp_(0, 2)
        return _symmetric(square), norms
    # |f_i − f_j|² = |f_i|² + |f_j|² − 2 f_i·f_j
    square = (squared_norms[:, None] + squared_norms[None, :]).sub_(gram, alpha=2).clamp_(min=0)
    return _symmetric(_from_squared(square, metric, features.shape[1])), squared_norms


def _from_squared(squared: Tensor, metric: str, n_units: int) -> Tensor:
    if metric == "euclidean":
        return squared.sqrt()
    return squared / n_units if metric == "mse" else squared


def _symmetric(square: Tensor) -> Tensor:
    """The upper triangle on both sides, the diagonal 0: no BLAS promises either."""
    upper = square.triu_(1)
    return upper + upper.T


def _flat(features: Tensor) -> Tensor:
    check_tensor(features, "features")
    if features.ndim < 2 or features.shape[0] < 2 or features[0].numel() == 0:
        raise ValueError(
            f"features must have shape (stimuli, units, …) with at least 2 stimuli and 1 unit, got "
            f"{tuple(features.shape)}"
        )
    if features.is_complex():
        raise ValueError(f"features must be real, got {features.dtype}; take the magnitude or stack both parts")
    if features.ndim == 4 and features.is_contiguous(memory_format=torch.channels_last):
        # the order of units means nothing to a distance, and this one needs no copy
        return features.permute(0, 2, 3, 1).flatten(1)
    return features.flatten(1)


def _complaint(features: Tensor) -> str:
    rows = not_finite(features)
    if rows:
        return (
            f"features of stimulus {name_some(rows)} (row, counted from 0) hold NaN or infinite values; distances need "
            "finite patterns: drop these stimuli, or find the layer or the image that made them"
        )
    return (
        f"features reach {features.abs().max().item():.3g}, whose square is beyond the range of float64; scale all of "
        "them down"
    )


@contextmanager
def full_precision(device: torch.device) -> Iterator[None]:
    """Neither autocast nor TF32 (or bf16 on the CPU) within, whatever holds outside."""
    backends: Any = torch.backends
    backend = (backends.cuda if device.type == "cuda" else backends.mkldnn).matmul
    before = backend.fp32_precision
    with torch.autocast(device.type, enabled=False):
        backend.fp32_precision = "ieee"
        try:
            yield
        finally:
            # a value written back would no longer follow the parent setting it was inherited from
            backend.fp32_precision = "none"
            if backend.fp32_precision != before:
                backend.fp32_precision = before
