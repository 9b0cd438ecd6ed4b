"""Bootstraps of models' scores over stimuli, over subjects, and over both with the two-factor correction."""

from collections.abc import Iterator
from typing import Literal, NamedTuple, Protocol

import numpy as np
import torch

from brainrdl.arguments import whole_number
from brainrdl.inference.ceiling import ceiling_of
from brainrdl.progress import track
from brainrdl.rdms.combine import scale_for, to_scale
from brainrdl.rdms.similarities import Options, similarities
from brainrdl.rdms.triangles import stimuli_of
from brainrdl.threads import one_unless_said

_ROUNDING = 1e-12
_CANCELLED = 1e-10

Factor = Literal["stimuli", "subjects", "both"]


class Resamples(NamedTuple):
    """Scores of the data, and of resampled data, as `resample_scores` returns them.

    The columns of all are the models' scores, then the lower and the upper noise ceiling.

    Attributes
    ----------
    estimate : ndarray (models + 2,)
        Row of results of the data themselves.
    scores : ndarray (models, subjects)
        Each model's similarity to each subject, of the data themselves.
    stimuli, subjects, both : ndarray (n_resamples, models + 2) or None
        Rows of results of data with stimuli, subjects, or both drawn with replacement; None where that factor is not
        resampled. NaN in a draw that leaves fewer than three stimuli, nothing that varies of an RDM, or (for the
        ceilings) fewer than two subjects.
    n_stimuli, n_subjects : int
        Numbers that draws are made of.
    n_folds : int
        Number of parts that stimuli are drawn from separately; each costs a degree of freedom.
    """

    estimate: np.ndarray
    scores: np.ndarray
    stimuli: np.ndarray | None
    subjects: np.ndarray | None
    both: np.ndarray | None
    n_stimuli: int
    n_subjects: int
    n_folds: int = 1

    @property
    def degrees_of_freedom(self) -> int:
        """Degrees of freedom of Student's t: those of the factor resampled, or of the smaller of the two."""
        of_stimuli, of_subjects = self.n_stimuli - self.n_folds, self.n_subjects - 1
        if self.both is not None:
            return min(of_stimuli, of_subjects)
        return of_stimuli if self.stimuli is not None else of_subjects

    def draws(self) -> np.ndarray:
        """The draws that all resampled factors vary in."""
        # draws of both factors hold the variation of either
        for drawn in (self.both, self.stimuli, self.subjects):
            if drawn is not None:
                return drawn
        raise ValueError("nothing was resampled")

    def varies(self, column: int) -> bool:
        """True if the usable draws of a column differ; equal ones, as of three stimuli, measure no uncertainty."""
        values = self.draws()[:, column]
        values = values[np.isfinite(values)]
        return bool(len(values) > 1 and np.ptp(values) > _ROUNDING)

    def standard_error(self, contrast: np.ndarray) -> float:
        """Standard error of a linear combination of the columns.

        Parameters
        ----------
        contrast : ndarray (models + 2,)
            1 at a model for its score; 1 and −1 for a difference.

        Returns
        -------
        float
            Over one factor the bootstrap's standard deviation times √(n/(n−1)). Over both (Schütt et al. 2023), with
            bootstrap variances v of subjects (n_r), stimuli (n_p) and both::

                n_r/(n_r−1) v_r + n_p/(n_p−1) v_p − n_r n_p/((n_r−1)(n_p−1)) (v_rp − v_r − v_p)

            (n_p − 1 being n_p less the folds where stimuli are drawn within folds), but no less than either of the
            first two summands, and no more than v_rp: resampling both factors counts the noise of single measurements
            three times.
        """
        of_subjects = of_stimuli = 0.0
        n_r = self.n_subjects / max(self.n_subjects - 1, 1)
        n_p = self.n_stimuli / max(self.n_stimuli - self.n_folds, 1)
        if self.subjects is not None:
            of_subjects = _variance(self.subjects, contrast)
        if self.stimuli is not None:
            of_stimuli = _variance(self.stimuli, contrast)
        if self.both is None:
            return float(np.sqrt(n_r * of_subjects + n_p * of_stimuli))
        of_both = _variance(self.both, contrast)
        variance = n_r * of_subjects + n_p * of_stimuli - n_r * n_p * (of_both - of_subjects - of_stimuli)
        return float(np.sqrt(min(max(variance, n_r * of_subjects, n_p * of_stimuli), of_both)))


def resample_scores(
    models: np.ndarray, subjects: np.ndarray, method: str, over: Factor, *, n_resamples: int = 1000, seed: int = 0
) -> Resamples:
    """Score models on resampled data.

    One draw serves all models and the ceiling. A stimulus drawn twice makes a pair with itself, of distance zero, which
    any model predicts: such pairs are dropped.

    Parameters
    ----------
    models : ndarray (models, pairs)
        Condensed RDMs of n stimuli.
    subjects : ndarray (subjects, pairs)
        Condensed RDMs of the same stimuli, one per subject. NaN is an unmeasured pair.
    method : str
        Comparison of RDMs, as in `compare_rdms`.
    over : {"stimuli", "subjects", "both"}
        Factor that is drawn with replacement.
    n_resamples : int
        Number of draws, at least 2.
    seed : int
        Seed of the draws.

    Returns
    -------
    Resamples

    Raises
    ------
    ValueError
        For an unknown factor, fewer than two resamples, a negative seed, or a single subject to draw from.

    References
    ----------
    Schütt, Kipnis, Diedrichsen & Kriegeskorte (2023). Statistical inference on representational geometries. eLife 12,
    e82566.

    Examples
    --------
    >>> from brainrdl.inference import resample_scores
    >>> rng = np.random.default_rng(0)
    >>> model = rng.random((1, 45))
    >>> resamples = resample_scores(model, model + rng.random((10, 45)), "corr", "both", n_resamples=200)
    >>> round(resamples.standard_error(np.array([1, 0, 0])), 2)
    0.06
    """
    if over not in ("stimuli", "subjects", "both"):
        raise ValueError(f"unknown over {over!r}; known are: stimuli, subjects, both")
    n_resamples = whole_number(n_resamples, "n_resamples", at_least=2)
    seed = whole_number(seed, "seed")
    n, n_subjects = stimuli_of(models.shape[1]), len(subjects)
    if n_subjects < 2 and over != "stimuli":
        raise ValueError("there is a single subject, so subjects cannot be resampled; take over='stimuli'")
    # both factors' draws come first, so that a seed gives the same ones whatever the data are scored by
    rng = np.random.default_rng(seed)
    stimulus_draws = rng.integers(0, n, (n_resamples, n)) if over != "subjects" else None
    subject_counts = None
    if over != "stimuli":
        subject_counts = rng.multinomial(n_subjects, np.full(n_subjects, 1 / n_subjects), n_resamples).astype(float)
    # stimuli as they are: subjects' draws weigh their scores, and compare nothing anew
    whole = _data(models, subjects, method)
    everyone = np.ones(n_subjects)
    itself = next(whole.resampled(None))
    estimate = itself.row(everyone)
    of_subjects = None
    if subject_counts is not None:
        of_subjects = np.stack([itself.row(counts) for counts in subject_counts])
    if stimulus_draws is None:
        return Resamples(estimate, itself.scores, None, of_subjects, None, n, n_subjects)
    of_stimuli, of_both = [], []
    with one_unless_said():  # each sample is small
        for k, sample in enumerate(track(whole.resampled(stimulus_draws), "bootstrap", total=n_resamples, delay=1)):
            of_stimuli.append(sample.row(everyone))
            if subject_counts is not None:
                of_both.append(sample.row(subject_counts[k]))
    both = np.stack(of_both) if of_both else None
    return Resamples(estimate, itself.scores, np.stack(of_stimuli), of_subjects, both, n, n_subjects)


class _Sample(Protocol):
    """Data with their stimuli as drawn: scores (models, subjects), and a row of results for subjects as drawn."""

    @property
    def scores(self) -> np.ndarray: ...

    def row(self, counts: np.ndarray) -> np.ndarray: ...


class _Data(Protocol):
    """Data that samples of stimuli, (draws, n), are taken from; None takes every stimulus once."""

    def resampled(self, draws: np.ndarray | None) -> Iterator[_Sample]: ...


def _data(models: np.ndarray, subjects: np.ndarray, method: str) -> _Data:
    # ranks and whitening change with the stimuli drawn, and NaN with the pairs: no weighted moments give them
    complete = not (np.isnan(models).any() or np.isnan(subjects).any())
    if method in ("corr", "cosine") and complete:
        return _Moments(models, subjects, method)
    return _Direct(models, subjects, method)


class _GramSample(NamedTuple):
    """Scores (models, subjects), and the subjects' similarities with each other, from which the ceilings follow."""

    scores: np.ndarray
    alike: np.ndarray

    def row(self, counts: np.ndarray) -> np.ndarray:
        ceilings = ceilings_of_products(self.alike, counts)
        return np.append(self.scores @ counts / counts.sum(), ceilings)


def ceilings_of_products(alike: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """Compute the lower and upper noise ceiling (..., 2) from subjects' similarities with each other.

    `alike` (..., subjects, subjects) are cosines K; `counts` (..., subjects) how often each is drawn. NaN below two.
    """
    # the mean of unit vectors z with counts m has the products Σ_t m_t K_st with z_s and the squared length
    # Σ_tu m_t m_u K_tu; without s, its own terms are taken off: all copies of a subject are left out together
    pulled = (alike @ counts[..., None])[..., 0]
    square = (counts * pulled).sum(axis=-1, keepdims=True)
    drawn = counts > 0
    of_itself = counts * np.diagonal(alike, axis1=-2, axis2=-1)
    without = square - 2 * counts * pulled + counts * of_itself
    # what is left where subjects cancel each other is rounding
    least = _ROUNDING * counts.sum(axis=-1, keepdims=True) ** 2
    square, without = (np.where(length > least, length, np.nan) for length in (square, without))
    with np.errstate(invalid="ignore", divide="ignore"):
        lower = np.where(drawn, counts * (pulled - of_itself) / np.sqrt(without), 0.0)
        upper = np.where(drawn, counts * pulled / np.sqrt(square), 0.0)
    ceilings = np.stack((lower.sum(axis=-1), upper.sum(axis=-1)), axis=-1) / counts.sum(axis=-1)[..., None]
    return np.where(drawn.sum(axis=-1)[..., None] > 1, ceilings, np.nan)


class _Moments:
    """Complete RDMs by correlation or cosine: all resamples' moments are one matrix product.

    A pair (i, j) occurs c_i c_j times where stimulus i is drawn c_i times: a resample's sums are weighted sums.
    """

    def __init__(self, models: np.ndarray, subjects: np.ndarray, method: str) -> None:
        values = np.concatenate((models, subjects))
        self.centred = method == "corr"
        if self.centred:  # once for all, for the digits: each resample subtracts its own mean again
            values = values - values.mean(axis=1, keepdims=True)
        size = np.sqrt(np.mean(values**2, axis=1, keepdims=True))
        self.values = values / np.where(size > 0, size, 1.0)
        self.n_models = len(models)
        self.n = stimuli_of(models.shape[1])
        self.i, self.j = np.triu_indices(self.n, 1)
        k, s = len(values), len(subjects)
        first, second = np.divmod(np.arange(k * s), s)
        self.products = self.values[first] * self.values[self.n_models + second]
        self.squares = self.values[: self.n_models] ** 2

    def resampled(self, draws: np.ndarray | None) -> Iterator[_GramSample]:
        if draws is None:
            draws = np.arange(self.n)[None]
        # a block's weights (draws, pairs) stay at some 30 MB
        at_once = max(1, 4_000_000 // len(self.i))
        for start in range(0, len(draws), at_once):
            part = draws[start : start + at_once]
            counts = np.stack([np.bincount(draw, minlength=self.n) for draw in part]).astype(float)
            weights = counts[:, self.i] * counts[:, self.j]
            yield from self._samples(weights, (counts > 0).sum(axis=1))

    def _samples(self, weights: np.ndarray, n_distinct: np.ndarray) -> Iterator[_GramSample]:
        k, m = len(self.values), self.n_models
        total = weights.sum(axis=1)
        # of two stimuli there is one pair, which does not vary
        total = np.where(n_distinct > 2, total, np.nan)
        cross = (weights @ self.products.T / total[:, None]).reshape(-1, k, k - m)
        squares = weights @ self.squares.T / total[:, None]
        before = np.concatenate((squares, np.diagonal(cross[:, m:], axis1=1, axis2=2)), axis=1)
        if self.centred:
            means = weights @ self.values.T / total[:, None]
            cross -= means[:, :, None] * means[:, None, m:]
            squares -= means[:, :m] ** 2
        left = np.concatenate((squares, np.diagonal(cross[:, m:], axis1=1, axis2=2)), axis=1)
        # what the subtraction leaves of equal distances is its rounding: nothing to compare
        lengths = np.sqrt(np.where(left > _CANCELLED * before, left, np.nan))
        alike = cross / lengths[:, :, None] / lengths[:, None, m:]
        for similarity in alike:
            yield _GramSample(similarity[:m], similarity[m:])


class _DirectSample(NamedTuple):
    """A resample compared as it is, by whatever method."""

    scores: np.ndarray
    subjects: np.ndarray
    scaled: np.ndarray
    method: str

    def row(self, counts: np.ndarray) -> np.ndarray:
        ceiling = ceiling_of(self.subjects, self.scaled, self.method, counts) if len(counts) > 1 else (np.nan, np.nan)
        return np.append(self.scores @ counts / counts.sum(), ceiling)


class _Direct:
    """Any method, and missing pairs."""

    def __init__(self, models: np.ndarray, subjects: np.ndarray, method: str) -> None:
        self.models, self.subjects, self.method = models, subjects, method
        self.n = stimuli_of(models.shape[1])

    def resampled(self, draws: np.ndarray | None) -> Iterator[_DirectSample]:
        i, j = np.triu_indices(self.n, 1)
        place = np.zeros((self.n, self.n), dtype=int)
        place[i, j] = place[j, i] = np.arange(len(i))
        both = (self.models, self.subjects)
        for draw in np.arange(self.n)[None] if draws is None else draws:
            a, b = draw[i], draw[j]
            enough = len(np.unique(draw)) > 2
            # a stimulus with itself: no pair, which is written as unmeasured so that the whitening knows the stimuli
            models, subjects = (np.where((a != b) & enough, rdms[:, place[a, b]], np.nan) for rdms in both)
            scores = similarities(torch.from_numpy(models), torch.from_numpy(subjects), Options(self.method))
            # an RDM's pairs side by side: their sums are then rounded as those of `noise_ceiling`
            in_rows = np.ascontiguousarray(subjects)
            scaled = to_scale(in_rows, scale_for(self.method))[0] if enough else subjects
            yield _DirectSample(scores.numpy(), subjects, scaled, self.method)


def _variance(draws: np.ndarray, contrast: np.ndarray) -> float:
    # a draw may be NaN in a column that the contrast does not use, and 0 · NaN is NaN
    used = contrast != 0
    values = draws[:, used] @ contrast[used]
    values = values[np.isfinite(values)]
    return float(np.var(values, ddof=1)) if len(values) > 1 else np.nan
