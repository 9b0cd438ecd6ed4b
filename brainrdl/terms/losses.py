"""The RDL loss: how far a layer's representational geometry is from its target (Eqs. 2 to 4)."""

import warnings
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor, nn

from brainrdl.arguments import check_tensor, whole_number
from brainrdl.known import GRADIENTS, check_metric
from brainrdl.rdms.condensed import condensed_index, sample_pairs
from brainrdl.rdms.differentiable import check_compare, compared
from brainrdl.rdms.distances import training_rdm
from brainrdl.rdms.whitening import WHITENED
from brainrdl.terms.died import warn_all_zero, warn_not_finite

_IN_VAIN = 10


def rdl_loss(
    features: Tensor,
    target: Tensor,
    *,
    metric: str = "mse",
    compare: str = "mse",
    pairs: Tensor | None = None,
    weights: Tensor | None = None,
    gradient: str = "auto",
    on_pairs: Callable[[Tensor], None] | None = None,
) -> Tensor:
    """Compare a layer's RDM with a target RDM, as an auxiliary error to train with.

    Parameters
    ----------
    features : Tensor (n, ...)
        The layer's activation patterns, flattened to K units; carries the gradient.
    target : Tensor (n(n-1)/2,)
        The condensed target RDM of the same stimuli in the same order. NaN marks a pair that was not measured: it
        leaves before anything is counted. No gradient reaches the target.
    metric : str
        Distance between the student's patterns, see `rdm`.
    compare : {"mse", "corr", "cosine", "corr_cov", "cosine_cov", "soft-spearman"}
        ``mse`` is E_aux of Eq. 2 with weights, ``Σ w (D − T)² / Σ w``; the others are 1 minus a similarity that ignores
        the target's scale: (weighted) Pearson correlation or cosine of the two RDMs, the same after whitening them by
        the covariance of distances that share a stimulus (which takes no weights), and Spearman's correlation with soft
        ranks (temperature .1 standard deviations of the distances; see `brainrdl.rdms.differentiable`).
    pairs : Tensor (P, 2), optional
        The pairs to compare (the random subset P of Eq. 4), all if absent.
    weights : Tensor (n(n-1)/2,), optional
        Weights w ≥ 0 of the pairs, condensed like the target.
    gradient : {"auto", "per-stimulus", "mean"}
        ``per-stimulus`` is Eq. 4: the subset mean's gradient at stimulus i times ``c_i = 2W/(|X_P| W_i)``, W the sum
        of the pairs' weights, W_i that of the pairs that hold i, |X_P| the number of stimuli in any pair. ``mean`` is
        the derivative of the value. ``auto``: ``per-stimulus`` for ``mse`` on a subset of pairs without weights or
        missing pairs, ``mean`` otherwise. The value is the same.
    on_pairs : callable, optional
        Function that is given the number of pairs, a Tensor (), that the loss compares: 0 where it is a constant.

    Returns
    -------
    Tensor ()
        The loss. Where nothing can be compared, a constant with zero gradient that belongs into no mean: 0 for ``mse``
        and 1 for the others if no pair counts; 1 if a side's distances are all alike, which correlate with nothing.

    Raises
    ------
    TypeError
        If the features, target, pairs or weights are not tensors.
    ValueError
        For unknown names, wrong lengths, infinite distances in the target (on an accelerator the loss is not finite
        instead), impossible weights or any with a whitened comparison, and ``per-stimulus`` without ``mse``.

    Warns
    -----
    UserWarning
        On the CPU: where the loss is not finite, and where a layer of a network responds identically to all stimuli.
        Python shows it once.

    Notes
    -----
    The gradient of raw distances (``mse``) grows with the third power of the features, so that a step that is too large
    ends in NaN, or in a layer of which every output is 0. A safe start in a loop of one's own: a comparison that
    ignores scale (``corr``, ``cosine``), or α from `balanced_alpha` with clipped gradients. Measured on digits at a
    learning rate of .1 (three seeds, two layers, 93 % correct without RDL; ``benchmarks/safe_start.py``): ``mse`` with
    α 1 is at chance, 10 %, in six training runs of six; ``corr`` with α 1 is 90 to 94 % correct, ``cosine`` 92 to 94 %,
    ``mse`` with balanced α and gradients clipped to a norm of 1 is 91 to 92 %, without clipping 10 to 88 %.

    References
    ----------
    McClure & Kriegeskorte (2016), Representational Distance Learning for Deep Neural Networks.

    Examples
    --------
    >>> import torch, brainrdl as rdl
    >>> student = torch.tensor([[0.0], [1.0], [3.0]], requires_grad=True)
    >>> loss = rdl.rdl_loss(student, torch.tensor([1.0, 9.0, 1.0]))  # distances 1, 9, 4
    >>> loss.item()
    3.0
    """
    found = compared_rdms(
        features,
        target,
        metric=metric,
        compare=compare,
        pairs=pairs,
        weights=weights,
        gradient=gradient,
        on_pairs=on_pairs,
    )
    if features.grad_fn is not None:  # a network's, in training
        warn_not_finite({"rdl_loss": found.loss.detach()}, stacklevel=2)
        warn_all_zero(found.distances.detach(), found.target, found.weights, stacklevel=2)
    return found.loss


class Compared(NamedTuple):
    """A loss (), and what it compares: distances, target and weights (P,)."""

    loss: Tensor
    distances: Tensor
    target: Tensor
    weights: Tensor


def compared_rdms(
    features: Tensor,
    target: Tensor,
    *,
    metric: str,
    compare: str,
    pairs: Tensor | None,
    weights: Tensor | None,
    gradient: str,
    on_pairs: Callable[[Tensor], None] | None,
) -> Compared:
    """Compare as `rdl_loss`, which also warns: for whoever looks at the values himself, as `Trainer` does."""
    check_metric(metric)
    check_compare(compare)
    if gradient not in GRADIENTS:
        raise ValueError(f"unknown gradient {gradient!r}; known are: {', '.join(GRADIENTS)}")
    if gradient == "per-stimulus" and compare != "mse":
        raise ValueError(f"gradient='per-stimulus' is Eq. 4 and exists for compare='mse' only, not {compare!r}")
    for value, what in ((features, "features"), (target, "target"), (pairs, "pairs"), (weights, "weights")):
        if value is not None or what in ("features", "target"):
            check_tensor(value, what)
    if weights is not None and compare in WHITENED:
        raise ValueError(
            f"compare={compare!r} takes no weights: whitening weighs the pairs by their own covariance; leave the "
            "weights out, or use corr or cosine"
        )
    n = features.shape[0] if features.ndim else 0
    _check_length(target, n, "target")
    index = None
    if pairs is not None:
        index = condensed_index(n, pairs).to(target.device)
        pairs = pairs.long()
    target = target.detach() if index is None else target.detach()[index]
    if target.device.type == "cpu" and target.isinf().any():  # elsewhere the host would wait; there the loss shows it
        raise ValueError(
            "target holds infinite distances; mark a pair that was not measured by NaN, or find what made them"
        )
    measured = ~target.isnan()
    w = measured.to(features.dtype if features.dtype == torch.float64 else torch.float32)
    if weights is not None:
        _check_length(weights, n, "weights")
        weights = weights.detach()
        # 0 where unmeasured, not 0 · w: the weight of an unmeasured pair may be anything, infinity among it
        w = torch.where(measured, (weights if index is None else weights[index]).to(w.dtype), 0.0)
        if not ((w >= 0) & (w < torch.inf)).all():
            raise ValueError(
                "weights must be finite and 0 or larger for every measured pair; a pair that does not count has "
                "weight 0"
            )
    factors = None
    if gradient == "per-stimulus" or (
        gradient == "auto" and compare == "mse" and pairs is not None and weights is None
    ):
        factors = eq4_factors(n, pairs, w)
        if gradient == "auto":  # decided on the device: reading it here would make the host wait
            factors = torch.where(measured.all(), factors, 1.0)
    distances = training_rdm(features, metric, factors, pairs=pairs)
    target = torch.where(measured, target, 0.0).to(distances.dtype)
    loss, counted = compared(distances, target, compare, w, pairs=pairs, n=n)
    if on_pairs is not None:
        on_pairs(counted)
    return Compared(loss, distances, target, w)


class RDLoss(nn.Module):
    """`rdl_loss` with its options held, and a fresh random subset of the pairs drawn at each call.

    Parameters
    ----------
    metric : str, optional
        Distance between the student's patterns. Absent: ``mse``; inside a term, what the teacher's metric asks for.
    compare : str, optional
        Comparison of the two RDMs. Absent: ``mse``; inside a term, what the teacher asks for.
    n_pairs : int, optional
        Number of pairs drawn for each update, all if absent.
    gradient : {"auto", "per-stimulus", "mean"}
        Gradient, as in `rdl_loss`.

    Warns
    -----
    UserWarning
        When called, on the CPU: where ten batches in a row had nothing to compare.

    References
    ----------
    McClure & Kriegeskorte (2016), Eqs. 2 to 4.

    Examples
    --------
    >>> import torch, brainrdl as rdl
    >>> loss = rdl.RDLoss(compare="corr")
    >>> features = torch.arange(4.0, requires_grad=True)[:, None]
    >>> round(loss(features, 3 * rdl.rdm(features.detach()) + 1).item(), 6)  # whatever their scale and offset
    0.0
    """

    def __init__(
        self, metric: str | None = None, compare: str | None = None, n_pairs: int | None = None, gradient: str = "auto"
    ) -> None:
        super().__init__()
        if metric is not None:
            check_metric(metric)
        if compare is not None:
            check_compare(compare)
        if gradient not in GRADIENTS:
            raise ValueError(f"unknown gradient {gradient!r}; known are: {', '.join(GRADIENTS)}")
        self.metric = metric
        self.compare = compare
        self.n_pairs = None if n_pairs is None else whole_number(n_pairs, "n_pairs", at_least=1)
        self.gradient = gradient
        self._in_vain = 0  # calls in a row that compared nothing

    def forward(
        self, features: Tensor, target: Tensor, *, pairs: Tensor | None = None, weights: Tensor | None = None
    ) -> Tensor:
        """Compare ``features`` (n, ...) with the condensed ``target``; draws pairs unless they are given."""
        check_tensor(features, "features")
        if pairs is None and self.n_pairs is not None:
            pairs = sample_pairs(features.shape[0], self.n_pairs)
        return rdl_loss(
            features,
            target,
            metric=self.metric or "mse",
            compare=self.compare or "mse",
            pairs=pairs,
            weights=weights,
            gradient=self.gradient,
            on_pairs=self._note,
        )

    def _note(self, pairs: Tensor) -> None:
        """Warn where call after call compares nothing; on an accelerator the host would have to wait for that."""
        if pairs.device.type == "cpu":
            self._in_vain = 0 if pairs > 0 else self._in_vain + 1
            if self._in_vain == _IN_VAIN:
                warnings.warn(
                    f"{_IN_VAIN} calls in a row of this RDLoss compared nothing, so that it was a constant without a "
                    "gradient: no pair of a batch counts (NaN, weight 0), a single one does, or the distances of the "
                    "target or of the student are all alike, as a dead layer's are; rdl_loss(…, on_pairs=) is told the "
                    "number of pairs",
                    stacklevel=4,
                )


def eq4_factors(n: int, pairs: Tensor | None, weights: Tensor) -> Tensor:
    """The factors (n,) that make the gradient of Eq. 2 that of Eq. 4: c_i = 2W/(|X_P| W_i), 0 where i is in no pair."""
    # Eq. 4 takes the mean over the pairs that hold stimulus i where the derivative of Eq. 2 has that over all pairs. W
    # is the sum of the pairs' weights (P,), W_i that of the pairs that hold i, |X_P| the number of stimuli in any pair
    if pairs is None:
        i, j = torch.triu_indices(n, n, 1, device=weights.device)
    else:
        i, j = pairs.to(weights.device).unbind(dim=1)
    # W_i
    per_stimulus = weights.new_zeros(n).index_add(0, i, weights).index_add(0, j, weights)
    # |X_P|
    occurring = (per_stimulus > 0).sum()
    # `where` twice: a stimulus in no pair must not divide by 0 even in the branch not taken
    factors = 2 * weights.sum() / (occurring.clamp_min(1) * torch.where(per_stimulus > 0, per_stimulus, 1.0))
    return torch.where(per_stimulus > 0, factors, 0.0)


def _check_length(values: Tensor, n: int, what: str) -> None:
    expected = n * (n - 1) // 2
    if values.shape != (expected,):
        raise ValueError(
            f"{what} has shape {tuple(values.shape)}, but the condensed RDM of {n} stimuli has {expected} distances; "
            "a square RDM is condensed by to_condensed, and with pairs it is still given whole"
        )
