"""Non-negative mixtures of model RDMs, fitted on some stimuli and scored on others."""

import operator
import warnings
from collections.abc import Hashable, Mapping
from typing import NamedTuple

import numpy as np
import pandas as pd
import torch
import xarray as xr
from scipy.optimize import nnls

from brainrdl.arguments import name_some, whole_number
from brainrdl.ids import read_labels, spelling
from brainrdl.rdms.combine import mean_of_measured, to_scale
from brainrdl.rdms.compare import Join, Joined, join_rdms
from brainrdl.rdms.rounding import check_geometry, describe_lacking, lacking_geometry
from brainrdl.rdms.similarities import Options, check_method, features, similarities


class MixtureFit(NamedTuple):
    """Scores and weights by fold, as `fit_rdms` returns them.

    Attributes
    ----------
    scores : DataFrame
        Index ``fold``, a column for each target RDM: similarity on the held-out pairs. Their mean over folds is the
        score: ``fit.scores.mean(skipna=False)``. NaN where all weights are 0; and, with a warning, where the mixture or
        the target does not vary on these pairs.
    weights : DataFrame
        Index ``fold``, a column for each model RDM: its weight, at least 0, of the RDM as given. Weights are in the
        units of target over model, so that those of RDMs of different scale do not compare.
    pairs : DataFrame
        Index ``fold``, columns ``fitted``, ``scored``, ``neither``: numbers of pairs of stimuli.
    """

    scores: pd.DataFrame
    weights: pd.DataFrame
    pairs: pd.DataFrame


def fit_rdms(
    models: xr.DataArray,
    target: xr.DataArray,
    folds: int | Mapping[str, Hashable],
    *,
    method: str = "corr",
    seed: int = 0,
    join: Join = "exact",
) -> MixtureFit:
    """Fit a non-negative mixture of model RDMs on training stimuli, and score it on held-out ones.

    For each fold, the mixture is fitted to the mean of the target RDMs (each scaled as `method` asks) on the pairs
    whose members are both outside the fold, and compared with each target RDM on the pairs whose
    members are both inside it. Pairs that straddle the fold are neither fitted nor scored.

    Parameters
    ----------
    models : DataArray (rdm, stimulus, stimulus_)
        RDMs to mix.
    target : DataArray (rdm, stimulus, stimulus_)
        RDMs to predict, such as those of several subjects, each for itself: a subject's sessions are averaged by
        `brainrdl.inference.subject_rdms`. NaN is an unmeasured pair.
    folds : int or mapping of str
        Fold in which each stimulus id is held out; a number deals the stimuli into that many folds at random,
        in whatever order they come.
    method : str
        Comparison as in `compare_rdms`, but for ``mse``. Least squares is that of the distances, with a free intercept
        for all methods but the cosines, whitened for the whitened methods; the score is the method's.
    seed : int
        Seed of the random folds.
    join : {"exact", "intersect"}
        Treatment of stimuli that only some RDMs have, see `compare_rdms`.

    Returns
    -------
    MixtureFit

    Raises
    ------
    TypeError, ValueError
        If a fold holds fewer than three stimuli or leaves fewer than three, a stimulus has no fold, a model RDM misses
        pairs, a target does not vary on the pairs to fit, or as `compare_rdms`.

    Examples
    --------
    >>> from brainrdl.inference import fit_rdms
    >>> from brainrdl.rdms import label_rdms
    >>> rng = np.random.default_rng(0)
    >>> ids = [f"s{i:02}" for i in range(12)]
    >>> models = label_rdms(rng.random((2, 66)), ids, ["a", "b"], "undeclared")
    >>> target = (0.5 * models[:1] + 2 * models[1:].values).assign_coords(rdm=["IT"])
    >>> fit = fit_rdms(models, target, 3)
    >>> (fit.weights["b"] / fit.weights["a"]).round(3).tolist()
    [4.0, 4.0, 4.0]
    >>> fit.scores.mean(skipna=False).round(3)
    IT    1.0
    dtype: float64
    """
    joined = _joined(models, target, method, join)
    fold_of = _folds(folds, joined.ids, whole_number(seed, "seed"))
    names = list(dict.fromkeys(fold_of.values()))
    # by name, so that nothing depends on the order in which stimuli are given
    joined = joined.by_name()
    held = [fold_of[stimulus] for stimulus in joined.ids]
    mixed, targets = joined.condensed("models"), joined.condensed("target")
    i, j = np.triu_indices(len(joined.ids), 1)
    options = Options(method)
    labels = [joined.rdms[which]["rdm"].values.tolist() for which in ("target", "models")]
    scores, weights, pairs = [], [], []
    undefined: dict[str, str] = {}
    for name in names:
        held_out = np.array([fold == name for fold in held])
        if min(held_out.sum(), (~held_out).sum()) < 3:
            raise ValueError(
                f"fold {name!r} holds out {held_out.sum()} of {len(held_out)} stimuli; at least 3 must be held out and "
                "3 left to fit"
            )
        # a pair with one stimulus in the fold would let what was fitted into the score
        fitted, scored = ~held_out[i] & ~held_out[j], held_out[i] & held_out[j]
        check_geometry(targets[:, fitted], labels[0], _by(method), f"the pairs outside fold {name!r} leave targets")
        weight = _fit(mixed[:, fitted], _pooled(targets[:, fitted], method), method)
        weights.append(weight)
        mixture = (weight @ mixed[:, scored])[None]
        against = torch.from_numpy(targets[:, scored])
        scores.append(similarities(torch.from_numpy(mixture), against, options)[0].numpy())
        undefined |= lacking_geometry(targets[:, scored], [f"{label} in fold {name!r}" for label in labels[0]], method)
        if weight.any():  # weights of 0 say themselves that there is no mixture
            undefined |= lacking_geometry(mixture, [f"mixture in fold {name!r}"], method)
        pairs.append((fitted.sum(), scored.sum(), len(i) - fitted.sum() - scored.sum()))
    if undefined:
        warnings.warn(
            f"scores are NaN where nothing can be compared on a fold's pairs: {describe_lacking(undefined)}",
            UserWarning,
            stacklevel=2,
        )
    index = pd.Index(names, name="fold")
    return MixtureFit(
        pd.DataFrame(scores, index=index, columns=labels[0]),
        pd.DataFrame(weights, index=index, columns=labels[1]),
        pd.DataFrame(pairs, index=index, columns=["fitted", "scored", "neither"]),
    )


def mixture_weights(
    models: xr.DataArray, target: xr.DataArray, *, method: str = "corr", join: Join = "exact"
) -> pd.Series:
    """Fit a non-negative mixture of model RDMs to the mean of the target RDMs, on all stimuli that are given.

    Arguments as in `fit_rdms`, which scores in folds; the weights, at least 0, are of the RDMs as given.
    """
    joined = _joined(models, target, method, join)
    mixed, targets = joined.condensed("models"), joined.condensed("target")
    check_geometry(targets, joined.rdms["target"]["rdm"].values.tolist(), _by(method), "targets")
    return pd.Series(_fit(mixed, _pooled(targets, method), method), index=models["rdm"].values.tolist())


def _joined(models: xr.DataArray, target: xr.DataArray, method: str, join: Join) -> Joined:
    check_method(method)
    if method == "mse":
        raise ValueError("a mixture is scored by a method that ignores the scale, not 'mse'; take corr or cosine")
    joined = join_rdms({"models": models, "target": target}, join=join)
    missing = np.isnan(joined.condensed("models")).any(axis=1)
    if missing.any():
        holed = joined.rdms["models"]["rdm"].values[missing].tolist()
        raise ValueError(f"model RDMs must be complete, but pairs are missing in {name_some(holed)}")
    return joined


def _fit(models: np.ndarray, target: np.ndarray, method: str) -> np.ndarray:
    """Fit non-negative weights by least squares over the target's measured pairs."""
    measured = torch.from_numpy(~np.isnan(target))
    rows = torch.from_numpy(np.concatenate((models, target[None])))[:, measured]
    vectors = features(rows, measured, Options(_by(method))).numpy()
    weights: np.ndarray = nnls(vectors[:-1].T, vectors[-1])[0]
    return weights


def _by(method: str) -> str:
    # ranks of a mixture are not a mixture of ranks: what is ranked to be scored is fitted as it is
    return method if method in ("cosine", "cosine_cov", "corr_cov") else "corr"


def _pooled(rdms: np.ndarray, method: str) -> np.ndarray:
    """Average the targets, each brought to the scale of the comparison, over the RDMs that measured a pair."""
    # ranks of a mixture are not a mixture of ranks: what is ranked to be scored is averaged as for a correlation
    return mean_of_measured(to_scale(rdms, "unit" if method.startswith("cosine") else "zscore")[0])


def _folds(folds: int | Mapping[str, Hashable], ids: tuple[str, ...], seed: int) -> dict[str, Hashable]:
    """Find the fold of each stimulus: the folds of a mapping in the stimuli's order, dealt ones by number."""
    if isinstance(folds, Mapping):
        fold_of = read_labels(folds, "folds")
        lacking = [stimulus for stimulus in ids if stimulus not in fold_of]
        if lacking:
            raise ValueError(
                f"folds has no fold for {len(lacking)} of {len(ids)} stimuli: {name_some(lacking)}"
                f"{spelling(lacking, fold_of)}"
            )
        return {stimulus: fold_of[stimulus] for stimulus in ids}
    try:
        if isinstance(folds, bool):
            raise TypeError
        folds = operator.index(folds)
    except TypeError:
        raise TypeError(
            f"folds is a {type(folds).__name__}; expected a number, or a mapping of stimulus id → fold"
        ) from None
    if folds < 2:
        raise ValueError(f"folds is {folds}; at least 2 are needed")
    # dealt like cards, so that sizes differ by one at most
    dealt = np.random.default_rng(seed).permutation(np.arange(len(ids)) % folds).tolist()
    return dict(sorted(zip(sorted(ids), dealt, strict=True), key=lambda pair: pair[1]))
