"""Feature-reweighted RSA: the non-negative weights of features that best predict an RDM, in convex closed form."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from brainrdl.arguments import check_tensor
from brainrdl.rdms.rounding import is_constant

_ROUNDING = 1e-12


def fit_frrsa(features: Tensor, target: Tensor, ridge: float, *, standardize: bool = True) -> Tensor:
    """Weigh features so that their squared differences predict an RDM.

    The prediction is ``D_ij = b + Σ_k w_k (f_ik − f_jk)²`` with ``w ≥ 0`` and a free intercept b. Over the P measured
    pairs the weights minimise ``1/P Σ (T_ij − D_ij)² + ridge · Σ_k (s_k w_k)²``, which has one minimum.

    Parameters
    ----------
    features : Tensor (n, K) or (n, K, ...)
        One pattern per stimulus, as it is: features are not scaled here. With further dimensions, such as the positions
        of a feature map, all units of a feature share its weight, and the square is summed over them; to give each
        unit a weight of its own, flatten first.
    target : Tensor (n(n-1)/2,)
        The condensed RDM to predict. NaN is an unmeasured pair: it is left out.
    ridge : float
        Strength of the penalty, above 0. It has no unit: s_k carries those of the features.
    standardize : bool
        True takes as s_k the standard deviation over pairs of the feature's own ``(f_ik − f_jk)²``, so that a feature
        is penalised by what it adds to D whatever its scale (as the authors' software does it); otherwise all s_k are
        the root mean square of these standard deviations, and features of large variance are favoured, as they are in
        an unweighted RDM.

    Returns
    -------
    Tensor (K,)
        Weights, float64, on the CPU, in units of the target per squared unit of the features. 0 for features that do
        not differ between the stimuli. The prediction without its intercept is
        ``rdm(features * weights.sqrt(), "sqeuclidean")``.

    Raises
    ------
    TypeError
        If features or target are no tensors.
    ValueError
        If the target has another length, holds infinite values or fewer than two measured pairs, or is constant;
        features are not
        finite, or none differs between the stimuli; the ridge is not above 0, or too small for float64.

    Notes
    -----
    What is solved is K × K and made from products of n × K matrices: 4,000 features of 74 stimuli take seconds, and
    128 MB for each of a few such matrices. Where features have further dimensions, or most pairs are unmeasured, all
    P × K squared differences are held.

    References
    ----------
    Kaniuth & Hebart (2022). Feature-reweighted representational similarity analysis. NeuroImage 257, 119294.
    Kim & Park (2011). Fast nonnegative matrix factorization: an active-set-like method and comparisons. SIAM Journal
    on Scientific Computing 33, 3261-3281 (block principal pivoting).

    Examples
    --------
    >>> from brainrdl.inference import fit_frrsa
    >>> from brainrdl.rdms import rdm
    >>> features = torch.randn(20, 3, generator=torch.Generator().manual_seed(0))
    >>> target = 5 + rdm(features * torch.tensor([2.0, 0.0, 1.0]), "sqeuclidean")
    >>> fit_frrsa(features, target, 1e-9).round(decimals=4)
    tensor([4., 0., 1.], dtype=torch.float64)
    """
    return fit_frrsa_path(features, target, [ridge], standardize=standardize)[0]


def fit_frrsa_path(features: Tensor, target: Tensor, ridges: Sequence[float], *, standardize: bool = True) -> Tensor:
    """Fit as `fit_frrsa` for several strengths of the penalty, in any order, which share most of the work.

    Returns weights (ridges, K), in the order of `ridges`.
    """
    _check_ridges(ridges)
    return weights_of(moments_of(features, target), ridges, standardize=standardize)


class Moments(NamedTuple):
    """What a fit rests on, whatever its penalty: made once for all."""

    covariance: np.ndarray
    """Covariances (K, K) of the features' squared differences over the measured pairs."""
    moment: np.ndarray
    """Their covariances (K,) with the target."""
    n_stimuli: int
    """Number of stimuli."""


def moments_of(features: Tensor, target: Tensor) -> Moments:
    """Compute what `weights_of` needs of features (n, K, ...) and a target (n(n-1)/2,), as `fit_frrsa` checks them."""
    patterns, distances = _checked(features, target)
    return Moments(*_moments(patterns, distances), len(patterns))


def weights_of(moments: Moments, ridges: Sequence[float], *, standardize: bool) -> Tensor:
    """Solve for the weights (ridges, K), in the order of `ridges`."""
    _check_ridges(ridges)
    covariance, moment, n_stimuli = moments
    variances = np.diag(covariance)
    varies = variances > _ROUNDING * variances.max()
    if not variances.max() > 0:
        raise ValueError(
            f"none of the {len(variances)} features differs between the {n_stimuli} stimuli; there is nothing to weigh"
        )
    scale = np.sqrt(variances[varies]) if standardize else np.full(varies.sum(), np.sqrt(variances[varies].mean()))
    scaled = covariance[np.ix_(varies, varies)] / scale[:, None] / scale
    moment = moment[varies] / scale
    weights = np.zeros((len(ridges), len(variances)))
    # from the strongest penalty on: the features in use change little from one to the next
    passive = moment > 0  # the solution where the penalty outweighs everything
    for position in np.argsort(ridges)[::-1]:
        regularised = scaled + ridges[position] * np.eye(len(scale))
        solution = _nonnegative(regularised, moment, passive)
        weights[position, varies] = solution / scale
        passive = solution > 0
    return torch.from_numpy(weights)


def _check_ridges(ridges: Sequence[float]) -> None:
    for ridge in ridges:
        if not 0 < ridge < np.inf:
            raise ValueError(f"ridge is {ridge!r}; expected a number above 0, such as 0.1, which makes the fit unique")


def _checked(features: Tensor, target: Tensor) -> tuple[np.ndarray, np.ndarray]:
    check_tensor(features, "features")
    check_tensor(target, "target")
    shape, n = tuple(features.shape), features.shape[0] if features.ndim else 0
    if features.ndim < 2 or not features.numel():
        raise ValueError(f"features have shape {shape}, expected (stimuli, features), or more dimensions behind")
    if target.shape != (n * (n - 1) // 2,):
        raise ValueError(
            f"target has shape {tuple(target.shape)}, but the condensed RDM of {n} stimuli has {n * (n - 1) // 2} "
            "distances; a square RDM is condensed by to_condensed"
        )
    patterns, distances = (given.detach().cpu().double().numpy() for given in (features, target))
    odd = np.flatnonzero(~np.isfinite(patterns).reshape(n, -1).all(axis=1)).tolist()
    if odd:
        raise ValueError(f"features are not finite in row {odd[0]} ({len(odd)} of {n} rows); leave such stimuli out")
    if np.isinf(distances).any():
        raise ValueError("target holds infinite distances; mark a pair that was not measured by NaN")
    measured = int((~np.isnan(distances)).sum())
    if measured < 2:
        raise ValueError(f"target has {measured} measured pairs; at least 2 are needed to fit weights")
    if is_constant(distances):
        raise ValueError("target is constant, up to rounding; there is nothing to predict")
    return patterns.reshape(n, features.shape[1], -1), distances


def _moments(patterns: np.ndarray, target: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Over the measured pairs, the covariances (K, K) of the features' squared differences, and (K,) with the target.

    With a = x² and Σ_i x_i = 0, the sum over i < j of (x_i − x_j)² (y_i − y_j)² is n Σ ab + Σa Σb + 2 (Σ xy)².
    """
    n, _, n_units = patterns.shape
    measured = ~np.isnan(target)
    count = measured.sum()
    i, j = np.triu_indices(n, 1)
    deviations = np.where(measured, target - target[measured].mean(), 0.0)
    # the closed form is of single units and of all pairs, less the few that were not measured
    if n_units > 1 or 2 * count < len(target):
        differences = _squared_differences(patterns, i[measured], j[measured])
        differences -= differences.mean(axis=0)
        return differences.T @ differences / count, deviations[measured] @ differences / count
    x = patterns[:, :, 0] - patterns[:, :, 0].mean(axis=0)
    squares = x**2
    sums = squares.sum(axis=0)
    products = n * squares.T @ squares + np.outer(sums, sums) + 2 * (x.T @ x) ** 2
    totals = n * sums
    if count < len(target):
        lost = _squared_differences(patterns, i[~measured], j[~measured])
        products -= lost.T @ lost
        totals = totals - lost.sum(axis=0)
    square = np.zeros((n, n))
    square[i, j] = square[j, i] = deviations
    moment = square.sum(axis=1) @ squares - (x * (square @ x)).sum(axis=0)
    return products / count - np.outer(totals / count, totals / count), moment / count


def squared_differences(features: Tensor) -> Tensor:
    """Squared differences (pairs, K) of features (n, K, ...), summed over the units of a feature; float64."""
    patterns = (features.flatten(2) if features.ndim > 2 else features[:, :, None]).double().numpy()
    return torch.from_numpy(_squared_differences(patterns, *np.triu_indices(len(patterns), 1)))


def _squared_differences(patterns: np.ndarray, i: np.ndarray, j: np.ndarray) -> np.ndarray:
    """Squared differences (pairs, K), summed over the units of a feature."""
    n, n_features, n_units = patterns.shape
    if n_units == 1:
        differences: np.ndarray = np.square(patterns[i, :, 0] - patterns[j, :, 0])
        return differences
    out = np.empty((len(i), n_features))
    if not len(i):
        return out
    at_once = max(1, 2**22 // (n * n_units))  # a block's copy stays small beside the result
    for start in range(0, n_features, at_once):
        block = slice(start, start + at_once)
        # by inner products, which are as many numbers however many units there are: the differences themselves would
        # be read and written pair by pair. Without the mean, so that a large offset costs no digits
        centred = np.ascontiguousarray((patterns[:, block] - patterns[:, block].mean(axis=0)).swapaxes(0, 1))
        grams = centred @ centred.swapaxes(1, 2)
        squares = np.diagonal(grams, axis1=1, axis2=2)
        out[:, block] = np.maximum(squares[:, i] + squares[:, j] - 2 * grams[:, i, j], 0.0).T
    return out


def _nonnegative(matrix: np.ndarray, moment: np.ndarray, passive: np.ndarray) -> np.ndarray:
    """Find the x ≥ 0 that minimises ½ xᵀMx − mᵀx, M positive definite, by block principal pivoting.

    Solves for x guessed above 0 (`passive`), and exchanges all that contradict x ≥ 0 there and gradient ≥ 0 elsewhere.
    """
    size, largest = np.abs(moment).max(initial=0.0), np.diag(matrix).max()
    fewest, tries = len(moment) + 1, 3
    for _ in range(100 + 10 * len(moment)):
        x = np.zeros(len(moment))
        gradient = -moment
        if passive.any():
            # torch's Cholesky: SciPy's takes 2 to 9 times as long for 500 features
            factor, failed = torch.linalg.cholesky_ex(torch.from_numpy(matrix[np.ix_(passive, passive)]))
            if failed:
                break
            x[passive] = torch.cholesky_solve(torch.from_numpy(moment[passive])[:, None], factor)[:, 0].numpy()
            gradient = matrix[:, passive] @ x[passive] - moment
        # what rounding leaves of 0 is not wrong
        length = np.abs(x).sum()
        wrong = np.where(passive, x < -_ROUNDING * length, gradient < -_ROUNDING * (size + largest * length))
        n_wrong = wrong.sum()
        if n_wrong == 0:
            return np.maximum(x, 0.0)
        if n_wrong < fewest:
            fewest, tries = n_wrong, 3
        elif tries > 0:
            tries -= 1
        else:  # three times running there were not fewer: exchanging only the last one cannot go round in circles
            wrong = np.arange(len(moment)) == np.flatnonzero(wrong)[-1]
        passive = passive ^ wrong
    raise ValueError("the ridge is too small to make the weights unique in float64; take a larger one, such as 1e-6")
