"""Condensed RDM against condensed RDM: differentiable comparisons, as losses (smaller is more alike)."""

import torch
from torch import Tensor

COMPARISONS = ("mse", "corr", "cosine")
"""The comparisons that can be trained with."""


def dissimilarity(distances: Tensor, target: Tensor, compare: str, weights: Tensor) -> Tensor:
    """Compare distances with target distances.

    Parameters
    ----------
    distances, target : Tensor (P,)
        Distances of the same pairs; the target finite.
    compare : {"mse", "corr", "cosine"}
        ``mse``: Σ w (D − T)² / Σ w, Eq. 2 where all w are 1. ``corr``: 1 − weighted Pearson r.
        ``cosine``: 1 − weighted cosine.
    weights : Tensor (P,)
        w ≥ 0 of each pair; 0 for a pair that does not count.

    Returns
    -------
    Tensor ()
        The loss. Where nothing can be compared it is constant, with zero gradient: 0 for ``mse`` where no pair
        counts, 1 for ``corr`` and ``cosine`` where either side has no variance beyond rounding (no length).

    Raises
    ------
    ValueError
        For an unknown comparison; the known ones are listed.
    """
    check_compare(compare)
    if compare == "mse":
        total = weights.sum()
        residual = weights * (distances - target).square()
        return residual.sum() / torch.where(total > 0, total, 1.0)
    # sums of many products of nearly equal numbers: in float64 they are worth their digits
    d, t, w = distances.double(), target.double(), weights.double()
    if compare == "corr":
        rounding = 8 * torch.finfo(distances.dtype).eps
        d, t = _deviations(d, w, rounding), _deviations(t, w, rounding)
    product, d_length, t_length = (w * d * t).sum(), (w * d * d).sum(), (w * t * t).sum()
    lengths = d_length * t_length
    comparable = ~(lengths <= 0)  # NaN distances make a NaN loss, which stops the training
    # `where` twice: the root's gradient at 0 would be NaN even in the branch not taken
    similarity = torch.where(comparable, product / torch.where(comparable, lengths, 1.0).sqrt(), 0.0)
    return (1 - similarity).to(distances.dtype)


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
