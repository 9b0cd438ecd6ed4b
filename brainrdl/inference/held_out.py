"""Scores on the pairs of one split's held-out stimuli: raw, given controls, and within categories."""

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import final

import numpy as np
import pandas as pd
import xarray as xr

from brainrdl.arguments import name_some
from brainrdl.ids import Labels, check_ids, read_labels, spelling
from brainrdl.inference.ceiling import subject_rdms
from brainrdl.inference.controls import pair_blocks
from brainrdl.inference.folds import (
    METHODS,
    FoldPairs,
    block_regressors,
    control_regressors,
    intercept_regressors,
    left_of,
    score_fold,
)
from brainrdl.inference.repeats import check_apart, same_images, without_distance
from brainrdl.inference.splits import Split
from brainrdl.rdms.labelled import select_stimuli
from brainrdl.rdms.layout import check_rdms
from brainrdl.rdms.plausible import check_possible
from brainrdl.rdms.rounding import check_geometry, describe_lacking, lacking_geometry
from brainrdl.rdms.similarities import centred_features
from brainrdl.rdms.triangles import upper_triangles


@final
@dataclass(frozen=True)
class Prediction:
    """RDMs that models predict, and the stimuli whose targets their fit has seen.

    Attributes
    ----------
    rdms : DataArray (rdm, stimulus, stimulus_)
        Labelled RDMs of the held-out stimuli, and maybe others, with coordinates ``arm`` (str) and ``seed`` (int)
        along ``rdm``: one RDM for each arm and seed.
    fitted_to : tuple of str
        Ids of all stimuli that took part in the fit, or in any choice made for it; empty for what was not fitted.

    Raises
    ------
    TypeError, ValueError
        If `rdms` is no labelled RDM, lacks the coordinates, has two RDMs of one arm and seed, or ids are no strings.

    Examples
    --------
    >>> from brainrdl.inference import Prediction
    >>> from brainrdl.rdms import label_rdms
    >>> coords = {"arm": "pixels", "seed": 0}
    >>> rdms = label_rdms(np.array([[0.2, 1.3, 1.1]]), ["face", "body", "house"], ["pixels/0"], "mse", coords)
    >>> Prediction(rdms, fitted_to=()).arms
    (('pixels', 0),)
    """

    rdms: xr.DataArray
    fitted_to: tuple[str, ...]

    def __post_init__(self) -> None:
        object.__setattr__(self, "rdms", check_rdms(self.rdms))
        object.__setattr__(self, "fitted_to", check_ids(self.fitted_to, "fitted_to"))
        for name, kinds, meaning in (("arm", "UO", "a name"), ("seed", "iu", "a whole number")):
            if name not in self.rdms.coords or self.rdms[name].dims != ("rdm",):
                raise ValueError(
                    f"predicted RDMs have no coordinate {name!r} along 'rdm'; add it: "
                    f"rdms.assign_coords({name}=('rdm', [...]))"
                )
            if self.rdms[name].dtype.kind not in kinds:
                raise TypeError(
                    f"coordinate {name!r} of predicted RDMs is of type {self.rdms[name].dtype}; expected {meaning} for "
                    "each RDM"
                )
        check_once(self.arms)

    @property
    def arms(self) -> tuple[tuple[str, int], ...]:
        """The arm and the seed of each RDM."""
        return tuple(zip(map(str, self.rdms["arm"].values), map(int, self.rdms["seed"].values), strict=True))


Predicted = Prediction  # the former name, until the first release


@final
@dataclass(frozen=True)
class HeldOut:
    """Scores of one split, and the pairs behind them, as `held_out_scores` returns them.

    Attributes
    ----------
    split : Split
        Split whose held-out stimuli were scored.
    method : str
        Comparison of RDMs.
    table : DataFrame
        A row per arm, seed and score: ``arm``, ``seed``, ``score`` (``raw``, ``partial``, ``within_category``),
        ``value`` (mean over subjects of the similarity to the subject's RDM), ``ceiling_lower``, ``ceiling_upper`` (of
        this score, on the same pairs and subjects) and ``n_pairs``.
    dropped : tuple of str
        Controls that are constant on these pairs, and so left out here.
    arms : tuple of (str, int)
        Arm and seed of each model, in the order of the models in `pairs`.
    subjects : tuple of str
        Names of the subjects, in alphabetical order.
    pairs : dict of FoldPairs
        Pairs that are compared, by score, for resampling.
    """

    split: Split
    method: str
    table: pd.DataFrame
    dropped: tuple[str, ...]
    arms: tuple[tuple[str, int], ...]
    subjects: tuple[str, ...]
    pairs: dict[str, FoldPairs]


def held_out_scores(
    predicted: Sequence[Prediction],
    subjects: xr.DataArray,
    split: Split,
    *,
    categories: Labels,
    controls: xr.DataArray | None,
    method: str = "corr",
) -> HeldOut:
    """Score predicted RDMs on the pairs of held-out stimuli, three times, each beside its own ceiling.

    ``raw``: as `compare_rdms` has it. ``partial``: what the controls explain by least squares (with an intercept for
    ``corr``) is taken out of models and subjects. ``within_category``: the mean of each block of categories, over these
    pairs, is taken out of models and subjects. Each is the mean over subjects, and its ceiling is that of subjects
    treated alike: the mean similarity of a subject's RDM to the mean of the others' (lower) and of all (upper), RDMs
    being brought to one scale (z-scored for ``corr``, of one length for ``cosine``) before they are averaged.

    Parameters
    ----------
    predicted : sequence of Prediction
        RDMs of the arms, each arm and seed once.
    subjects : DataArray (rdm, stimulus, stimulus_)
        Measured RDMs of the held-out stimuli, and maybe others, with a ``subject`` coordinate, of one region; a
        subject's sessions are averaged first.
    split : Split
        Split that names the held-out stimuli.
    categories : mapping of str, or DataArray (stimulus,)
        Category of each stimulus id, of the held-out stimuli at least.
    controls : DataArray (rdm, stimulus, stimulus_) or None
        RDMs to hold constant; None gives no partial score. One that is constant on these pairs is left out and named.
    method : {"corr", "cosine"}
        Comparison of RDMs.

    Returns
    -------
    HeldOut

    Raises
    ------
    TypeError, ValueError
        If a model was fitted to a held-out stimulus, or to the same image under another id; if RDMs lack a held-out
        stimulus or a category is missing; if an arm occurs twice with one seed; if fewer than two pairs are measured by
        all, or a subject's distances of these do not vary; for another method.

    Warns
    -----
    UserWarning
        If an arm does not vary on the held-out pairs, so that it has no raw score.

    Notes
    -----
    A pair that any RDM, a subject's, a model's or a control's, has not measured (NaN) is left out for all, so that all
    scores and ceilings rest on the same pairs; ``n_pairs`` counts them.

    A model that the regression leaves nothing of, such as a control among the arms, has no partial score: NaN, and not
    the correlation of its rounding errors. Likewise a category model within categories, and the raw score of a model
    that does not vary (for ``cosine``: is zero), as in `compare_rdms`. With a single subject ceilings are NaN.

    Examples
    --------
    >>> from brainrdl.inference import Prediction, held_out_scores, stratified_splits
    >>> from brainrdl.rdms import label_rdms
    >>> rng = np.random.default_rng(0)
    >>> labels = {f"{kind}-{k}": kind for kind in ("face", "house") for k in range(10)}
    >>> ids, people = list(labels), ["ann", "bob", "eve"]
    >>> model = label_rdms(rng.random((1, 190)), ids, ["m/0"], "mse", {"arm": "m", "seed": 0})
    >>> values = label_rdms(
    ...     rng.random((3, 190)) + model.values[0][np.triu_indices(20, 1)], ids, people, "mse", {"subject": people}
    ... )
    >>> scored = held_out_scores(
    ...     [Prediction(model, ())], values, stratified_splits(labels, 2)[0], categories=labels, controls=None
    ... )
    >>> scored.table[["arm", "seed", "score", "n_pairs"]]
      arm  seed            score  n_pairs
    0   m     0              raw       45
    1   m     0  within_category       45
    """
    if method not in METHODS:
        raise ValueError(f"held-out scores are defined for {' and '.join(METHODS)}, not {method!r}")
    if not predicted:
        raise ValueError("predicted is empty; give at least one arm to score")
    stimuli = tuple(sorted(split.held_out))
    for prediction in predicted:
        _check_not_fitted(prediction, split)
    arms = tuple(arm for prediction in predicted for arm in prediction.arms)
    check_once(arms)
    people = subject_rdms(_held_out(subjects, stimuli, "the subjects' RDMs"))
    # by name, so that no draw of subjects depends on the order in which they come
    people = people.isel(rdm=np.argsort(people["subject"].values.astype(str), kind="stable"))
    data = upper_triangles(people.values)
    models = np.concatenate(
        [upper_triangles(_held_out(p.rdms, stimuli, f"predicted RDMs of {p.arms[0][0]!r}").values) for p in predicted]
    )
    held = np.empty((0, data.shape[1]))
    if controls is not None:
        held = upper_triangles(_held_out(controls, stimuli, "the controls").values)
    # a pair that anyone lacks is left out for all: scores and ceilings must rest on the same pairs
    measured = ~np.isnan(np.concatenate((data, models, held))).any(axis=0)
    if measured.sum() < 2:
        raise ValueError(
            f"split {split.name!r}: {measured.sum()} of {len(measured)} held-out pairs are measured in all of "
            f"{len(data)} subjects, {len(models)} models and {len(held)} controls; scores need at least 2: leave out "
            "the RDMs that lack most"
        )
    subject_names = tuple(str(name) for name in people["subject"].values)
    check_geometry(data[:, measured], subject_names, method, f"split {split.name!r}: subjects")
    if lacking := lacking_geometry(models[:, measured], [f"{arm}/{seed}" for arm, seed in arms], method):
        warnings.warn(
            f"split {split.name!r}: no raw score by {method!r} on the held-out pairs for {describe_lacking(lacking)}",
            UserWarning,
            stacklevel=2,
        )
    n_pairs = int(measured.sum())
    regressors = {"raw": intercept_regressors(n_pairs, method)}
    dropped: tuple[str, ...] = ()
    if controls is not None:
        held = held[:, measured]
        # a constant regressor is the intercept once more, and for the cosine would take out what the raw score keeps
        varies = centred_features(held, "corr").any(axis=1)
        names: list[str] = controls["rdm"].values.tolist()
        dropped = tuple(names[k] for k in np.flatnonzero(~varies))
        regressors["partial"] = control_regressors(held[varies], method)
    regressors["within_category"] = block_regressors(_blocks(categories, stimuli)[measured])
    pairs = {
        score: FoldPairs(
            stimuli,
            measured,
            left_of(models[:, measured], taken_out, method),
            left_of(data[:, measured], taken_out, method),
            taken_out,
        )
        for score, taken_out in regressors.items()
    }
    return HeldOut(split, method, _table(arms, pairs), dropped, arms, subject_names, pairs)


def check_once(arms: Sequence[tuple[str, int]]) -> None:
    """Raise a ValueError that names the (arm, seed) that occur more than once."""
    twice = list(dict.fromkeys(arm for arm in arms if list(arms).count(arm) > 1))
    if twice:
        raise ValueError(f"an arm has one RDM per seed, but these (arm, seed) occur more than once: {name_some(twice)}")


def _check_not_fitted(prediction: Prediction, split: Split) -> None:
    held_out = set(split.held_out)
    arms = name_some(list(dict.fromkeys(arm for arm, _ in prediction.arms)))
    if seen := [stimulus for stimulus in prediction.fitted_to if stimulus in held_out]:
        raise ValueError(
            f"{arms} was fitted to {len(seen)} of the {len(held_out)} stimuli that split {split.name!r} holds out: "
            f"{name_some(seen)}; a score on them would say how well it was fitted, not what it predicts: fit it to "
            "split.training"
        )
    others = [stimulus for stimulus in prediction.fitted_to if stimulus not in split.training]
    if hint := spelling(others, split.held_out):
        warnings.warn(
            f"{arms} was fitted to stimuli that split {split.name!r} does not have{hint}; were they those that it "
            "holds out, a score on them would say how well it was fitted: give fitted_to the split's ids",
            stacklevel=3,
        )
    check_apart(same_images(prediction.rdms), prediction.fitted_to, held_out, arms, f"split {split.name!r}")
    if found := without_distance(prediction.rdms, prediction.fitted_to, split.held_out):
        warnings.warn(
            f"{arms} was fitted to {found[0]!r} and has no distance between it and {found[1]!r}, which split "
            f"{split.name!r} holds out; if they are one image under two ids, the score says how well it was fitted: "
            "leave one of the two out",
            stacklevel=3,
        )


def _held_out(rdms: xr.DataArray, stimuli: tuple[str, ...], what: str) -> xr.DataArray:
    rdms = check_rdms(rdms)
    check_possible(rdms)
    known = set(rdms["stimulus"].values.tolist())
    if lacking := [stimulus for stimulus in stimuli if stimulus not in known]:
        raise ValueError(
            f"{what} lack {len(lacking)} of {len(stimuli)} held-out stimuli: {name_some(lacking)}"
            f"{spelling(lacking, known)}"
        )
    return select_stimuli(rdms, stimuli)


def _blocks(categories: Labels, stimuli: tuple[str, ...]) -> np.ndarray:
    category_of = read_labels(categories, "categories")
    if lacking := [stimulus for stimulus in stimuli if stimulus not in category_of]:
        raise ValueError(
            f"categories has none for {len(lacking)} of {len(stimuli)} held-out stimuli: {name_some(lacking)}"
            f"{spelling(lacking, category_of)}"
        )
    return pair_blocks([category_of[stimulus] for stimulus in stimuli])


def _table(arms: Sequence[tuple[str, int]], pairs: dict[str, FoldPairs]) -> pd.DataFrame:
    rows = []
    for score, of_fold in pairs.items():
        row = score_fold(of_fold)
        facts = {"ceiling_lower": row[-2], "ceiling_upper": row[-1], "n_pairs": of_fold.models.shape[1]}
        for k, (arm, seed) in enumerate(arms):
            rows.append({"arm": arm, "seed": seed, "score": score, "value": row[k], **facts})
    return pd.DataFrame(rows)
