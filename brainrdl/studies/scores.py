"""Scores of predicted RDMs on the held-out stimuli of splits, as fits and cards have them."""

import warnings
from collections.abc import Hashable, Mapping, Sequence

import numpy as np
import pandas as pd
import xarray as xr

from brainrdl.inference.ceiling import subject_rdms
from brainrdl.inference.held_out import HeldOut, Predicted, held_out_scores
from brainrdl.inference.reweighting.mixtures import mixture_weights
from brainrdl.inference.splits import Split
from brainrdl.rdms.labelled import condense, label_rdms, select_stimuli


def fit_mixture(controls: xr.DataArray, target: xr.DataArray, *, method: str) -> tuple[pd.Series, np.ndarray]:
    """Fit Σ_k w_k D_k with w ≥ 0 to the target, which holds training stimuli alone.

    Returns the weights and the condensed mixture (n(n-1)/2,) of all stimuli of the controls.
    """
    # sessions are averaged within a subject first, so that no subject counts for more
    subjects = subject_rdms(target) if "subject" in target.coords else target
    seen = target["stimulus"].values.tolist()
    weights = mixture_weights(select_stimuli(controls, seen), subjects, method=method)
    return weights, weights.to_numpy() @ condense(controls)


def predict(
    rdms: np.ndarray,
    ids: Sequence[str],
    arms: Sequence[str],
    *,
    seeds: Sequence[int] | None = None,
    fitted_to: tuple[str, ...] = (),
    metric: str = "undeclared",
) -> Predicted:
    """Label condensed RDMs (m, n(n-1)/2) as the predictions of m arms, of seed 0 where none are given."""
    of_seed = [0] * len(arms) if seeds is None else list(seeds)
    names = [f"{arm}/{seed}" for arm, seed in zip(arms, of_seed, strict=True)]
    return Predicted(label_rdms(rdms, ids, names, metric, {"arm": list(arms), "seed": of_seed}), fitted_to)


def score_splits(
    predicted: Mapping[Split, Sequence[Predicted]],
    subjects: xr.DataArray,
    *,
    categories: Mapping[str, Hashable],
    controls: xr.DataArray | None,
    method: str,
) -> tuple[list[HeldOut], pd.DataFrame]:
    """Score what is predicted in each split on its held-out stimuli: raw, partial, within categories.

    Returns the splits' scores, and a table: a row per split (``scheme``, ``split``, ``fold`` from 0), arm and score.
    """
    # each split for itself: scores are computed within a fold, and only then averaged
    with warnings.catch_warnings():
        # such a row is NaN, which pages print as a dash
        warnings.filterwarnings("ignore", message="split .*: no raw score by", category=UserWarning)
        folds = [
            held_out_scores(in_split, subjects, split, categories=categories, controls=controls, method=method)
            for split, in_split in predicted.items()
        ]
    tables = [
        fold.table.assign(scheme=fold.split.scheme, split=fold.split.name, fold=number, method=method)
        for number, fold in enumerate(folds)
    ]
    return folds, pd.concat(tables, ignore_index=True)
