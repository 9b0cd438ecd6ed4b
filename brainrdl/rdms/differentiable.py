"""Condensed RDM against condensed RDM: differentiable comparisons, as losses (smaller is more alike).

``mse``: Σ w (D − T)² / Σ w, Eq. 2 where all w are 1. ``corr``, ``cosine``: 1 − weighted Pearson r or cosine;
``corr_cov``, ``cosine_cov``: the same of whitened RDMs, see `brainrdl.rdms.whitening`. ``soft-spearman``: 1 − weighted
Pearson r between the target's ranks and soft ranks ``1/2 + Σ_j w_j sigmoid((D_i − D_j)/τ)`` of the distances (Qin, Liu
& Li 2010, Information Retrieval 13, 375-397), τ being `TEMPERATURE` times their standard deviation, so that their scale
does not matter; it tends to Spearman's correlation with τ. Where nothing can be compared the loss is constant, with
zero gradient, and no measure of anything (`compared` says so): 0 for ``mse`` where no pair counts, 1 for the others
where a side has no variance beyond rounding.
"""

from typing import Any

import torch
from torch import Tensor

from brainrdl.rdms.triangles import stimuli_of
from brainrdl.rdms.whitening import WHITENED, whitened_pairs

COMPARISONS = ("mse", "corr", "cosine", "corr_cov", "cosine_cov", "soft-spearman")
"""The comparisons that can be trained with."""

FEWEST_PAIRS = {"mse": 1, "cosine": 2, "cosine_cov": 2, "corr": 3, "corr_cov": 3, "soft-spearman": 3}
"""Pairs that a comparison needs to teach anything: one is as any other to a cosine, two correlate by 1 or −1."""

TEMPERATURE = 0.1
"""Softness of the ranks of ``soft-spearman``, in standard deviations of the distances."""

_NUMBERS_AT_ONCE = 4_000_000


def dissimilarity(
    distances: Tensor,
    target: Tensor,
    compare: str,
    weights: Tensor,
    *,
    pairs: Tensor | None = None,
    n: int | None = None,
) -> Tensor:
    """Compare distances (P,) with finite target distances (P,) of the same pairs: a loss (), smaller is more alike.

    `weights` (P,) are w ≥ 0; the whitened comparisons take 0 and 1 only, and need `pairs` (P, 2) of n stimuli.
    """
    return compared(distances, target, compare, weights, pairs=pairs, n=n)[0]


def compared(
    distances: Tensor,
    target: Tensor,
    compare: str,
    weights: Tensor,
    *,
    pairs: Tensor | None = None,
    n: int | None = None,
) -> tuple[Tensor, Tensor]:
    """`dissimilarity`, and the number of pairs () that it compares: 0 where it is undefined."""
    check_compare(compare)
    counted = (weights > 0).sum()
    if compare == "mse":
        # Eq. 2: Σ w (D − T)² / Σ w
        total = weights.sum()
        residual = weights * (distances - target).square()
        return residual.sum() / torch.where(total > 0, total, 1.0), counted
    # sums of many products of nearly equal numbers: in float64 they are worth their digits
    d, t, w = distances.double(), target.double(), weights.double()
    rounding = 8 * torch.finfo(distances.dtype).eps
    if compare == "soft-spearman":
        d = _soft_ranks(_deviations(d, w, rounding), w)
        t = _ranks(t, w)
    if not compare.startswith("cosine"):
        d, t = _deviations(d, w, rounding), _deviations(t, w, rounding)
    if compare in WHITENED:
        if pairs is None or n is None:  # all pairs, in condensed order
            n = stimuli_of(len(d))
            pairs = torch.triu_indices(n, n, 1, device=d.device).T
        d, t = whitened_pairs(torch.stack((d, t)), pairs.to(d.device), d.new_ones(n), counts=w)
        w = torch.ones_like(d)
    product, d_length, t_length = (w * d * t).sum(), (w * d * d).sum(), (w * t * t).sum()
    lengths = d_length * t_length
    comparable = ~(lengths <= 0)  # NaN distances make a NaN loss, which stops the training
    # `where` twice: the root's gradient at 0 would be NaN even in the branch not taken
    similarity = torch.where(comparable, product / torch.where(comparable, lengths, 1.0).sqrt(), 0.0)
    return (1 - similarity).to(distances.dtype), torch.where(comparable, counted, 0)


def _soft_ranks(deviations: Tensor, weights: Tensor) -> Tensor:
    """1/2 + Σ_j w_j sigmoid((D_i − D_j)/τ), of deviations from the mean."""
    total = weights.sum()
    variance = (weights * deviations.square()).sum() / torch.where(total > 0, total, 1.0)
    # without spread all ranks are alike, whatever τ is; `where` before the root, whose gradient at 0 would be NaN
    spread = torch.where(variance > 0, variance, TEMPERATURE**-2).sqrt()
    ranks: Tensor = _SoftRanks.apply(deviations / (TEMPERATURE * spread), weights)
    return ranks


class _SoftRanks(torch.autograd.Function):
    """P × P comparisons in slices, so that memory stays bounded; the derivative is computed from the inputs again."""

    @staticmethod
    def forward(ctx: Any, values: Tensor, weights: Tensor) -> Tensor:
        ctx.save_for_backward(values, weights)
        ranks = [torch.sigmoid(part[:, None] - values) @ weights for part in _slices(values)]
        return torch.cat(ranks) + 0.5

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        values, weights = ctx.saved_tensors
        (gradient,) = gradients
        collected = []
        for part, part_gradient, part_weights in zip(*map(_slices, (values, gradient, weights)), strict=True):
            above = torch.sigmoid(part[:, None] - values)
            slope = above * (1 - above)
            # D_i moves its own rank up, and those of all others down
            collected.append(part_gradient * (slope @ weights) - part_weights * (slope @ gradient))
        return torch.cat(collected), None


def _slices(vector: Tensor) -> tuple[Tensor, ...]:
    return torch.split(vector, max(1, _NUMBERS_AT_ONCE // max(1, len(vector))))


def _ranks(values: Tensor, weights: Tensor) -> Tensor:
    """Ranks of `values`, each counted as often as its weight says; ties share their mean. No gradient."""
    ordered, order = values.sort()
    below = torch.nn.functional.pad(weights[order].cumsum(0), (1, 0))
    first, last = (torch.searchsorted(ordered, values, right=right) for right in (False, True))
    return (below[first] + below[last] + 1) / 2


def _deviations(values: Tensor, weights: Tensor, rounding: float) -> Tensor:
    """Deviations from the weighted mean. Equal values differ by their rounding, which has no direction: 0 then."""
    total = weights.sum()
    deviations = values - (weights * values).sum() / torch.where(total > 0, total, 1.0)
    spread, size = (weights * deviations.square()).sum(), (weights * values.square()).sum()
    return torch.where(spread <= rounding**2 * size, 0.0, deviations)


def check_compare(compare: str) -> None:
    """Raise a ValueError that lists the known comparisons, unless `compare` is one of them."""
    if compare not in COMPARISONS:
        raise ValueError(f"unknown comparison {compare!r}; a loss can use: {', '.join(COMPARISONS)}")
