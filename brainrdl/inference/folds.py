"""Scores on folds of held-out stimuli, of the data and of resampled data.

Three scores are one computation. Models and subjects are compared by what regressors leave of both, and the regressors
are an intercept (raw), control RDMs (partial) or indicators of category blocks (within category). In every resample the
regression is done anew.
"""

from collections.abc import Sequence
from typing import NamedTuple, SupportsIndex

import numpy as np

from brainrdl.arguments import whole_number
from brainrdl.inference.bootstrap import Factor, Resamples, ceilings_of_products
from brainrdl.rdms.rounding import share_of_rounding
from brainrdl.rdms.similarities import centred_features

METHODS = ("corr", "cosine")
"""Comparisons that are cosines of what a regression leaves, without ranks and without whitening."""

_ROUNDING = 1e-10
_NUMBERS_AT_ONCE = 4_000_000


class FoldPairs(NamedTuple):
    """The pairs of a fold's held-out stimuli: residuals of models and subjects after regression."""

    stimuli: tuple[str, ...]
    measured: np.ndarray
    """True for each pair (n(n-1)/2,) that is compared; the arrays below hold these only."""
    models: np.ndarray
    """Residuals (models, pairs) of mean square 1, or 0 where the regressors leave nothing."""
    subjects: np.ndarray
    """The subjects' residuals (subjects, pairs), likewise."""
    regressors: np.ndarray
    """Orthogonal regressors (regressors, pairs) of mean square 1."""


class Draws(NamedTuple):
    """Numbers of times that each stimulus and each subject is drawn, for all scores alike."""

    stimuli: tuple[np.ndarray, ...]
    """Counts (n_resamples, n) for each fold."""
    subjects: np.ndarray
    """Counts (n_resamples, subjects)."""
    n_stimuli: int
    """Number of distinct stimuli."""
    n_parts: int
    """Number of parts that were drawn from separately."""


def intercept_regressors(n_pairs: int, method: str) -> np.ndarray:
    """Return the intercept (1, pairs) of ``corr``; none, (0, pairs), for ``cosine``."""
    return np.ones((1 if method == "corr" else 0, n_pairs))


def control_regressors(controls: np.ndarray, method: str) -> np.ndarray:
    """Make orthogonal regressors that span control RDMs (controls, pairs), and for ``corr`` the intercept."""
    centred = method == "corr"
    rows = centred_features(controls, "corr") if centred else controls
    # controls of very different size would otherwise fall below the tolerance
    length = np.linalg.norm(rows, axis=1, keepdims=True)
    _, sizes, directions = np.linalg.svd(rows / np.where(length > 0, length, 1.0), full_matrices=False)
    spanned = directions[sizes > _ROUNDING] * np.sqrt(controls.shape[1])
    return np.concatenate((intercept_regressors(controls.shape[1], method), spanned))


def block_regressors(blocks: np.ndarray) -> np.ndarray:
    """Make an indicator for each block, from the number of each pair's block (pairs,)."""
    inside = blocks == np.unique(blocks)[:, None]
    indicators: np.ndarray = inside / np.sqrt(inside.mean(axis=1, keepdims=True))
    return indicators


def left_of(rdms: np.ndarray, regressors: np.ndarray, method: str) -> np.ndarray:
    """Residuals of condensed RDMs (rdms, pairs) at mean square 1; 0 where regressors leave nothing but rounding."""
    least = np.array([[max(_ROUNDING, 2 * share_of_rounding(row))] for row in rdms])
    rdms = centred_features(rdms, "corr") if method == "corr" else rdms
    before = np.linalg.norm(rdms, axis=1, keepdims=True)
    for _ in range(2):  # once leaves rounding errors of the size of what is taken out
        rdms = rdms - rdms @ regressors.T / regressors.shape[1] @ regressors
    length = np.linalg.norm(rdms, axis=1, keepdims=True)
    unit = np.where(length > least * before, np.sqrt(rdms.shape[1]) / np.where(length > 0, length, 1.0), 0.0)
    left: np.ndarray = rdms * unit
    return left


def draw(
    stimuli: Sequence[tuple[str, ...]], n_subjects: int, *, n_resamples: SupportsIndex = 1000, seed: SupportsIndex = 0
) -> Draws:
    """Draw stimuli and subjects with replacement.

    Folds that share no stimulus are drawn from one by one, and keep their sizes; otherwise all stimuli are, at once.
    """
    n_resamples = whole_number(n_resamples, "n_resamples", at_least=2)
    rng = np.random.default_rng(whole_number(seed, "seed"))
    everything = sorted({stimulus for fold in stimuli for stimulus in fold})
    if len(everything) == sum(map(len, stimuli)):
        counts = tuple(_counts(rng, len(fold), n_resamples) for fold in stimuli)
    else:
        # folds that share stimuli are no independent evidence: a stimulus is drawn as often in every fold that holds it
        of_all, column_of = _counts(rng, len(everything), n_resamples), {name: k for k, name in enumerate(everything)}
        counts = tuple(of_all[:, [column_of[stimulus] for stimulus in fold]] for fold in stimuli)
    n_parts = len(stimuli) if len(everything) == sum(map(len, stimuli)) else 1
    return Draws(counts, _counts(rng, n_subjects, n_resamples), len(everything), n_parts)


def resample_folds(folds: Sequence[FoldPairs], arms: Sequence[Sequence[int]], draws: Draws, over: Factor) -> Resamples:
    """Score arms on resampled data: means over subjects and seeds, then over folds with the same models and subjects.

    `arms` holds each one's models (one per seed); its column precedes the ceilings'. NaN: under 3 stimuli, or no model.
    """
    everyone = np.ones_like(draws.subjects[:1])
    whole = [scores_and_likeness(fold, np.ones((1, len(fold.stimuli)))) for fold in folds]
    estimate = _mean([_rows(*both, everyone, arms) for both in whole])[0]
    scores = np.mean([[of_fold[0][list(models)].mean(axis=0) for models in arms] for of_fold, _ in whole], axis=0)
    of_subjects = of_stimuli = of_both = None
    if over != "stimuli":
        of_subjects = _mean([_rows(*both, draws.subjects, arms) for both in whole])
    if over != "subjects":
        drawn: list[np.ndarray] = []
        with_subjects: list[np.ndarray] = []
        for fold, counts in zip(folds, draws.stimuli, strict=True):
            resampled = scores_and_likeness(fold, counts)
            drawn.append(_rows(*resampled, np.broadcast_to(everyone, draws.subjects.shape), arms))
            if over == "both":
                with_subjects.append(_rows(*resampled, draws.subjects, arms))
        of_stimuli = _mean(drawn)
        of_both = _mean(with_subjects) if with_subjects else None
    n_subjects = draws.subjects.shape[1]
    return Resamples(estimate, scores, of_stimuli, of_subjects, of_both, draws.n_stimuli, n_subjects, draws.n_parts)


def score_fold(fold: FoldPairs) -> np.ndarray:
    """Average each model's similarity to the subjects; and the lower and the upper ceiling: (models + 2,)."""
    whole = scores_and_likeness(fold, np.ones((1, len(fold.stimuli))))
    row: np.ndarray = _rows(*whole, np.ones((1, len(fold.subjects))), [[k] for k in range(len(fold.models))])[0]
    return row


def scores_and_likeness(fold: FoldPairs, counts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Compare models with subjects, and subjects with each other, where stimulus i is drawn ``counts[draw, i]`` times.

    Similarities (draws, models, subjects) and (draws, subjects, subjects): pair (i, j) occurs c_i c_j times, i ≠ j.
    NaN where regressors leave nothing of an RDM, or there are fewer than three stimuli.
    """
    values = np.concatenate((fold.models, fold.subjects))
    m, s = len(fold.models), len(fold.subjects)
    i, j = (which[fold.measured] for which in np.triu_indices(len(fold.stimuli), 1))
    # draws in blocks, whose weights and products stay at some 30 MB
    at_once = max(1, _NUMBERS_AT_ONCE // max(len(i), len(values) * max(s, len(fold.regressors))))
    alike = np.empty((len(counts), m + s, s))
    for start in range(0, len(counts), at_once):
        part = counts[start : start + at_once]
        weights = part[:, i] * part[:, j]
        taken_out = _explained(values, fold.regressors, weights)
        # Σ w x y of what the weighted regression leaves: the products, less those of the fitted values
        products = np.stack([(weights * subject) @ values.T for subject in fold.subjects], axis=-1)
        products -= taken_out.swapaxes(1, 2) @ taken_out[:, :, m:]
        squares = weights @ np.square(values).T
        left = squares - np.square(taken_out).sum(axis=1)
        length = np.sqrt(np.where(left > _ROUNDING * squares, left, np.nan))
        similar = products / length[:, :, None] / length[:, None, m:]
        similar[(part > 0).sum(axis=1) < 3] = np.nan
        alike[start : start + at_once] = similar
    return alike[:, :m], alike[:, m:]


def _explained(values: np.ndarray, regressors: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Coordinates (draws, regressors, rdms) of fitted values: (ZᵀWZ)^-½ ZᵀWx, whose products are those of the fits."""
    projected = np.empty((len(weights), len(regressors), len(values)))
    for c, regressor in enumerate(regressors):
        # an indicator of a block is 0 nearly everywhere
        inside = np.flatnonzero(regressor)
        projected[:, c] = (weights[:, inside] * regressor[inside]) @ values[:, inside].T
    if not len(regressors):
        return projected
    if (np.count_nonzero(regressors, axis=0) < 2).all():  # ZᵀWZ is diagonal
        sizes = weights @ np.square(regressors).T
        return projected / np.sqrt(np.where(sizes > 0, sizes, np.inf))[:, :, None]
    sizes, directions = np.linalg.eigh(np.stack([(weights * z) @ regressors.T for z in regressors], axis=1))
    # what varies in the whole fold may be constant, or the same, among the stimuli drawn
    sizes = np.where(sizes > _ROUNDING * sizes[:, -1:], sizes, np.inf)
    coordinates: np.ndarray = directions.swapaxes(1, 2) @ projected / np.sqrt(sizes)[:, :, None]
    return coordinates


def _rows(scores: np.ndarray, alike: np.ndarray, counts: np.ndarray, arms: Sequence[Sequence[int]]) -> np.ndarray:
    """(draws, arms + 2): the mean over subjects as drawn of each arm's score, and the ceilings."""
    means = (scores @ counts[:, :, None])[..., 0] / counts.sum(axis=1, keepdims=True)
    of_arms = np.stack([means[:, list(models)].mean(axis=1) for models in arms], axis=1)
    ceilings = ceilings_of_products(alike, counts)
    return np.concatenate((of_arms, np.broadcast_to(ceilings, (len(of_arms), 2))), axis=1)


def _mean(folds: Sequence[np.ndarray]) -> np.ndarray:
    mean: np.ndarray = np.mean(folds, axis=0)
    return mean


def _counts(rng: np.random.Generator, n: int, n_resamples: int) -> np.ndarray:
    counts: np.ndarray = rng.multinomial(n, np.full(n, 1 / n), n_resamples).astype(float)
    return counts
