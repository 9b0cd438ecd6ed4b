"""Fits of heads to an RDM on one layer: every strength at once, looked at on the way.

The heads' RDMs are functions of Gram matrices, and those of a few stimuli are small however wide the layer is. Gains
weigh the channels' own Gram matrices. A linear readout that descends from the identity changes nothing outside the span
of the training patterns (for ``correlation``, of these and the constant one), because neither the patterns it gets nor
the gradients with respect to those it makes leave it: it is trained in a basis of that span, with as many dimensions as
there are stimuli, and stands for the full map of the units.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any, NamedTuple, final

import torch
from torch import Tensor, nn

from brainrdl.inference.reweighting.frrsa import moments_of, squared_differences, weights_of
from brainrdl.inference.reweighting.heads import Gains, PositionMean, Readout, UnitPatterns
from brainrdl.rdms.differentiable import dissimilarity

_BETAS, _EPSILON = (0.9, 0.999), 1e-8  # Adam's, of Kingma & Ba (2015)
_RANK_TOLERANCE = 1e-10
_ROUNDING = 8 * torch.finfo(torch.float64).eps  # that of `dissimilarity`


class Candidate(NamedTuple):
    """A head that was fitted in one way, and the RDM that it predicts."""

    setting: dict[str, Any]
    """Strengths and such, JSON-able."""
    steps: int
    """Number of steps taken."""
    distances: Tensor
    """The RDM (m(m-1)/2,) of the m stimuli to predict."""
    metric: str
    """Distance of the head's RDMs."""
    head: Callable[[], nn.Module]
    """Maker of the head: few of the candidates are wanted as modules."""


@final
@dataclass(frozen=True)
class Problem:
    """Features of one layer and the RDM that they are fitted to."""

    training: Tensor
    """Features (n, C, ...) of the stimuli to fit to, float64."""
    predicted: Tensor
    """Features (m, C, ...) of the stimuli to predict."""
    target: Tensor
    """The RDM (n(n-1)/2,) to fit to, NaN where unmeasured."""
    metric: str
    """Distance between patterns."""
    compare: str
    """Comparison to train with."""


def frrsa_path(problem: Problem, settings: Iterable[tuple[dict[str, Any], Sequence[float]]]) -> Iterator[Candidate]:
    """Fit feature-reweighted RSA for each setting (``positions`` and ``standardize``) and each of its ridges."""
    # settings of the same positions share all that is made of the features, which is nearly all the work
    for positions, ways in groupby(settings, key=lambda way: way[0]["positions"]):
        before = nn.Sequential()
        if positions == "mean":
            before.append(PositionMean())
        if problem.metric in ("correlation", "cosine"):
            before.append(UnitPatterns(centred=problem.metric == "correlation"))
        moments = moments_of(before(problem.training), problem.target)
        differences = squared_differences(before(problem.predicted))
        for setting, ridges in ways:
            path = weights_of(moments, ridges, standardize=setting["standardize"])
            for ridge, weights, distances in zip(ridges, path, path @ differences.T, strict=True):

                def head(before: nn.Sequential = before, weights: Tensor = weights) -> nn.Module:
                    return nn.Sequential(*before, Gains.of(weights.sqrt()))

                # weights are of squared differences, and there are no steps to take
                yield Candidate({**setting, "ridge": ridge}, 0, distances, "sqeuclidean", head)


def gains_path(
    problem: Problem, strengths: Sequence[float], steps: Sequence[int], learning_rate: float
) -> Iterator[Candidate]:
    """Fit gains for each strength of the pull toward 1, after each number of steps."""
    fitted, wanted = _ChannelGrams(problem.training), _ChannelGrams(problem.predicted)
    n_channels = problem.training.shape[1]
    pull = torch.tensor(strengths, dtype=torch.float64)
    losses = comparison_of(problem)

    def objective(weights: Sequence[Tensor]) -> Tensor:
        gains = weights[0].abs()
        return losses(fitted.distances(gains, problem.metric)) + pull * (gains - 1).square().mean(dim=1)

    start = [torch.ones(len(strengths), n_channels, dtype=torch.float64)]
    for step, (weights,) in _descend(start, objective, steps, learning_rate):
        gains = weights.abs()
        distances = wanted.distances(gains, problem.metric)
        for k, strength in enumerate(strengths):

            def head(gains: Tensor = gains[k]) -> nn.Module:
                return Gains.of(gains)

            yield Candidate({"strength": strength}, step, distances[k], problem.metric, head)


def readout_path(
    problem: Problem,
    rank: int | None,
    strengths: Sequence[float],
    steps: Sequence[int],
    learning_rate: float,
    seed: int = 0,
) -> Iterator[Candidate]:
    """Fit readouts, full ones where `rank` is None, for each strength of the pull toward the identity."""
    span = _Span(problem)
    n, dims = len(problem.training), span.basis.shape[1]
    pull = torch.tensor(strengths, dtype=torch.float64)
    losses = comparison_of(problem)

    def maps(factors: Sequence[Tensor]) -> Tensor:
        return factors[0] if rank is None else factors[0] @ factors[1]

    def objective(factors: Sequence[Tensor]) -> Tensor:
        changes = maps(factors)
        return losses(span.distances(span.training, changes)) + pull * changes.square().sum(dim=(1, 2)) / n

    start = [torch.zeros(len(strengths), dims if rank is None else rank, dims, dtype=torch.float64)]
    if rank is not None:  # with both factors at 0 there would be no gradient
        drawn = torch.randn(dims, rank, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
        start.insert(0, (drawn / dims**0.5).repeat(len(strengths), 1, 1))
    for step, factors in _descend(start, objective, steps, learning_rate):
        distances = span.distances(span.predicted, maps(factors))
        for k, strength in enumerate(strengths):

            def head(factors: Sequence[Tensor] = [factor[k] for factor in factors]) -> nn.Module:
                down = span.basis if rank is None else span.basis @ factors[0]
                return Readout.of(down, factors[-1] @ span.basis.T)

            setting = {"strength": strength} if rank is None else {"rank": rank, "strength": strength}
            yield Candidate(setting, step, distances[k], problem.metric, head)


def _descend(
    start: Sequence[Tensor], objective: Callable[[Sequence[Tensor]], Tensor], steps: Sequence[int], learning_rate: float
) -> Iterator[tuple[int, list[Tensor]]]:
    """Descend the sum of independent objectives, one per entry along the first dimension; the values after `steps`."""
    # Adam moves each number by its own gradient alone, so that the entries do not know of each other. Its step is
    # written out: the numbers are few, the steps thousands, and torch's asks what accelerators there are before each
    parameters = [value.clone().requires_grad_() for value in start]
    means, squares = ([torch.zeros_like(value) for value in start] for _ in range(2))
    for step in range(max(steps) + 1):
        if step in steps:
            yield step, [value.detach().clone() for value in parameters]
        if step == max(steps):
            return
        with torch.enable_grad():
            gradients = torch.autograd.grad(objective(parameters).sum(), parameters)
        # both means begin at 0, which is divided out
        size, root = learning_rate / (1 - _BETAS[0] ** (step + 1)), (1 - _BETAS[1] ** (step + 1)) ** 0.5
        with torch.no_grad():
            for value, gradient, mean, square in zip(parameters, gradients, means, squares, strict=True):
                mean.lerp_(gradient, 1 - _BETAS[0])
                square.mul_(_BETAS[1]).addcmul_(gradient, gradient, value=1 - _BETAS[1])
                value.addcdiv_(mean, (square.sqrt() / root).add_(_EPSILON), value=-size)


def comparison_of(problem: Problem) -> Callable[[Tensor], Tensor]:
    """Make a function from RDMs (settings, pairs) to each one's dissimilarity (settings,) to the target."""
    # NaN would reach the gradient even at weight 0
    measured = ~problem.target.isnan()
    if problem.compare not in ("corr", "cosine"):
        target, weights = torch.where(measured, problem.target, 0.0), measured.double()
        return lambda distances: torch.stack(
            [dissimilarity(row, target, problem.compare, weights) for row in distances]
        )
    # `dissimilarity` of all settings at once, on the measured pairs alone: called thousands of times, on little
    everywhere, centred = bool(measured.all()), problem.compare == "corr"

    def deviations(rdms: Tensor) -> Tensor:
        found = rdms if everywhere else rdms[:, measured]
        if not centred:
            return found
        apart = found - found.mean(dim=1, keepdim=True)
        # equal values differ by their rounding, which has no direction
        spread, size = apart.square().sum(dim=1), found.square().sum(dim=1)
        return torch.where((spread <= _ROUNDING**2 * size)[:, None], 0.0, apart)

    wanted = deviations(problem.target[None])[0]
    length = wanted.square().sum()

    def losses(distances: Tensor) -> Tensor:
        found = deviations(distances)
        lengths = found.square().sum(dim=1) * length
        comparable = ~(lengths <= 0)
        # `where` twice: the root's gradient at 0 would be NaN even in the branch not taken
        return 1 - torch.where(comparable, found @ wanted / torch.where(comparable, lengths, 1.0).sqrt(), 0.0)

    return losses


@final
class _ChannelGrams:
    """Inner products of the patterns (n, C, ...) within each channel, which gains weigh by their squares."""

    def __init__(self, features: Tensor) -> None:
        channels = features.flatten(2) if features.ndim > 2 else features[:, :, None]
        n, n_channels, n_positions = channels.shape
        self.n_units = n_channels * n_positions
        self.pairs = torch.triu_indices(n, n, 1)
        # (C, n, n): small however many positions there are, and all that the gains' RDMs are made of
        grams = torch.einsum("ncp,mcp->cnm", channels, channels)
        self.products = grams[:, *self.pairs].contiguous()
        self.squares = grams.diagonal(dim1=1, dim2=2).contiguous()
        self.sums = channels.sum(dim=2).T.contiguous()

    def distances(self, gains: Tensor, metric: str) -> Tensor:
        """RDMs (settings, pairs) under gains (settings, C)."""
        products, squares = gains.square() @ self.products, gains.square() @ self.squares
        if metric == "correlation":
            sums = gains @ self.sums
            i, j = self.pairs
            products = products - sums.index_select(1, i) * sums.index_select(1, j) / self.n_units
            squares = squares - sums.square() / self.n_units
        return _distances(products, squares, self.pairs, metric, self.n_units)


@final
class _Span:
    """The training patterns' span: an orthonormal basis (units, dims), and all patterns in coordinates.

    The coordinates of the patterns to predict go on behind the basis: what lies outside it no readout changes.
    """

    def __init__(self, problem: Problem) -> None:
        training, predicted = problem.training.flatten(1), problem.predicted.flatten(1)
        self.metric, self.n_units = problem.metric, training.shape[1]
        constant = training.new_zeros(self.n_units, 0)
        if problem.metric == "correlation":
            constant = training.new_full((self.n_units, 1), self.n_units**-0.5)
        _, sizes, directions = torch.linalg.svd(training - training @ constant @ constant.T, full_matrices=False)
        directions = directions[sizes > _RANK_TOLERANCE * sizes.max()]
        # a direction's sign is the algorithm's whim
        signs = directions.gather(1, directions.abs().argmax(dim=1, keepdim=True)).sign()
        self.basis = torch.cat((constant, (directions * signs).T), dim=1)
        self.training = training @ self.basis
        inside = predicted @ self.basis
        outside = predicted - inside @ self.basis.T
        self.predicted = torch.cat((inside, torch.linalg.qr(outside.T)[1].T), dim=1)

    def distances(self, patterns: Tensor, changes: Tensor) -> Tensor:
        """RDMs (settings, pairs) of patterns in coordinates, under maps I + changes (settings, dims, dims)."""
        dims = changes.shape[1]
        # the first coordinate is the mean over units
        first = int(self.metric == "correlation")
        moved = patterns[:, :dims] + patterns[:, :dims] @ changes
        kept = patterns[:, dims:].expand(len(changes), -1, -1)
        mapped = torch.cat((moved[:, :, first:], kept), dim=2)
        grams = mapped @ mapped.transpose(1, 2)
        pairs = torch.triu_indices(len(patterns), len(patterns), 1)
        return _distances(grams[:, *pairs], grams.diagonal(dim1=1, dim2=2), pairs, self.metric, self.n_units)


def _distances(products: Tensor, squares: Tensor, pairs: Tensor, metric: str, n_units: int) -> Tensor:
    """`rdm` from inner products of pairs (settings, pairs) and of patterns with themselves (settings, n).

    For ``correlation`` those of centred patterns.
    """
    i, j = pairs
    if metric in ("correlation", "cosine"):
        lengths = squares.index_select(1, i) * squares.index_select(1, j)
        # `where` twice: the root's gradient at 0 would be NaN even in the branch not taken
        defined = lengths > 0
        return 1 - torch.where(defined, products / torch.where(defined, lengths, 1.0).sqrt(), 0.0)
    # rounding leaves distances just below 0
    square = (squares.index_select(1, i) + squares.index_select(1, j) - 2 * products).clamp_min(0.0)
    if metric == "euclidean":
        return torch.where(square > 0, torch.where(square > 0, square, 1.0).sqrt(), 0.0)
    return square / n_units if metric == "mse" else square
