"""Held-out scores averaged over folds, with intervals and tests."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, final

import numpy as np
import pandas as pd

from brainrdl.arguments import name_some
from brainrdl.ids import check_ids
from brainrdl.inference.bootstrap import Resamples
from brainrdl.inference.folds import draw, resample_folds
from brainrdl.inference.held_out import HeldOut
from brainrdl.inference.models import checked_contrasts, factor_of, tested
from brainrdl.inference.multiplicity import holm
from brainrdl.inference.trainings import check_level

_COLUMNS = ["arm", "score", "value", "se", "low", "high", "ceiling_lower", "ceiling_upper"]
_COUNTS = ["n_folds", "n_seeds", "n_subjects", "n_stimuli", "over"]


@final
@dataclass(frozen=True)
class FoldScores:
    """Scores over folds, and tests of contrasts, as `score_folds` returns them.

    Attributes
    ----------
    table : DataFrame
        A row per arm and score: ``arm``, ``score``, ``value`` (mean over folds, seeds and subjects), ``se``, the t
        interval ``low`` to ``high`` (on Fisher's z, hence below 1), ``ceiling_lower``, ``ceiling_upper`` (means over
        folds), ``n_folds``, ``n_seeds``, ``n_subjects``, ``n_stimuli`` (distinct ones, of all folds) and ``over``.
    contrasts : DataFrame
        A row per contrast and score: ``a``, ``b``, ``score``, ``difference`` (a − b), ``se``, ``low``, ``high``, ``p``
        (two-sided) and ``p_holm``, corrected over the contrasts of the score.
    over : {"stimuli", "subjects", "both"}
        Factor that intervals and tests generalise over.
    note : str
        Caution for whoever reads them, empty if none.
    level : float
        Coverage of the intervals.
    resamples : dict of Resamples
        Draws behind the standard errors, by score; a column per arm of `table`.
    """

    table: pd.DataFrame
    contrasts: pd.DataFrame
    over: str
    note: str
    level: float
    resamples: dict[str, Resamples]


def score_folds(
    folds: Sequence[HeldOut],
    *,
    contrasts: Sequence[tuple[str, str]] = (),
    over: Literal["auto", "stimuli", "subjects", "both"] = "auto",
    n_resamples: int = 1000,
    level: float = 0.95,
    seed: int = 0,
) -> FoldScores:
    """Average held-out scores over the folds of a scheme, with intervals and tests of declared contrasts.

    Scores are computed within each fold and then averaged. In every resample this is done anew, with all that is taken
    out before RDMs are compared: stimuli are drawn with replacement within each fold (a stimulus drawn twice makes no
    pair with itself), one draw of subjects serves all folds, and all arms and seeds are scored on the same draws, seeds
    being averaged inside. Where folds share stimuli, as random splits do, one draw of all stimuli serves all folds.

    Parameters
    ----------
    folds : sequence of HeldOut
        Folds of one scheme, with the same arms, seeds, subjects and scores.
    contrasts : sequence of (str, str)
        Pairs of arms to test, as declared before looking.
    over, n_resamples, level
        Factor to generalise over, number of draws and coverage, as in `score_models`.
    seed : int
        Seed of the draws, whatever the order of folds, stimuli and subjects.

    Returns
    -------
    FoldScores

    Raises
    ------
    TypeError, ValueError
        If folds differ in scheme, method, arms, seeds, subjects or scores, or one occurs twice; for a contrast of an
        unknown arm or of an arm with itself; for fewer than eight subjects with ``over="subjects"`` or ``"both"``.

    Notes
    -----
    Intervals are conditional on the fitted models: nothing is fitted anew to a resample, so that they say how sure a
    score of these networks is on other stimuli (and for other people), not how it would vary had other stimuli been
    there to fit to.

    Where stimuli are drawn, pairs repeat, which counts the noise of single pairs more than once: standard errors err on
    the large side, the more so the noisier the pairs and the smaller the folds.

    A draw that leaves fewer than three stimuli of a fold, or nothing of an arm after the regression, is left out for
    that arm. An arm without a score in one fold has none over all folds.

    References
    ----------
    Schütt, Kipnis, Diedrichsen & Kriegeskorte (2023). Statistical inference on representational geometries. eLife 12,
    e82566.

    Examples
    --------
    >>> from brainrdl.inference import Prediction, held_out_scores, score_folds, stratified_splits
    >>> from brainrdl.rdms import label_rdms
    >>> rng = np.random.default_rng(0)
    >>> labels = {f"{kind}-{k}": kind for kind in ("face", "house") for k in range(15)}
    >>> ids, people = list(labels), ["ann", "bob", "eve"]
    >>> values = rng.random((2, 435))
    >>> models = label_rdms(values, ids, ["a/0", "b/0"], "mse", {"arm": ["a", "b"], "seed": 0})
    >>> brains = label_rdms(rng.random((3, 435)) + values[0], ids, people, "mse", {"subject": people})
    >>> folds = [
    ...     held_out_scores([Prediction(models, ())], brains, split, categories=labels, controls=None)
    ...     for split in stratified_splits(labels, 2)
    ... ]
    >>> scores = score_folds(folds, contrasts=[("a", "b")], n_resamples=200)
    >>> scores.contrasts[["a", "b", "score", "difference"]].round(1)
       a  b            score  difference
    0  a  b              raw         0.8
    1  a  b  within_category         0.7
    """
    check_level(level)
    folds = _matched(folds)
    first = folds[0]
    arms = {arm: [k for k, (name, _) in enumerate(first.arms) if name == arm] for arm, _ in first.arms}
    names = list(arms)
    chosen = checked_contrasts(contrasts, names)
    n_subjects = len(first.subjects)
    factor, note = factor_of(over, n_subjects)
    # one draw for all scores, so that contrasts of scores rest on the same resamples
    draws = draw([fold.pairs["raw"].stimuli for fold in folds], n_subjects, n_resamples=n_resamples, seed=seed)
    sizes = {"n_folds": len(folds), "n_subjects": n_subjects, "n_stimuli": draws.n_stimuli, "over": factor}
    rows: list[dict[str, object]] = []
    tests: list[pd.DataFrame] = []
    resamples = {}
    for score in first.pairs:
        drawn = resamples[score] = resample_folds(
            [fold.pairs[score] for fold in folds], list(arms.values()), draws, factor
        )
        columns = np.eye(len(names) + 2)
        ceiling = {"ceiling_lower": drawn.estimate[-2], "ceiling_upper": drawn.estimate[-1]}
        for name, column in zip(names, columns, strict=False):
            found = tested(drawn, column, level, first.method)
            rows.append({"arm": name, "score": score, "n_seeds": len(arms[name]), **found, **ceiling, **sizes})
        differences = [
            {
                "a": a,
                "b": b,
                "score": score,
                **tested(drawn, columns[names.index(a)] - columns[names.index(b)], level, first.method),
            }
            for a, b in chosen
        ]
        table = pd.DataFrame(differences, columns=["a", "b", "score", "estimate", "se", "low", "high", "p"])
        tests.append(table.assign(p_holm=holm(table["p"].to_numpy(dtype=float))))
    return FoldScores(
        pd.DataFrame(rows).rename(columns={"estimate": "value"})[[*_COLUMNS, *_COUNTS]],
        pd.concat(tests, ignore_index=True).rename(columns={"estimate": "difference"}),
        factor,
        note,
        level,
        resamples,
    )


def _matched(folds: Sequence[HeldOut]) -> list[HeldOut]:
    """Sort the folds by name, so that draws depend on no other order, and their models in one order."""
    if not folds:
        raise ValueError("folds is empty; give the held-out scores of at least one split")
    first = folds[0]
    check_ids([fold.split.name for fold in folds], "the names of the folds' splits")
    for fold in folds[1:]:
        for what, mine, theirs in (
            ("scheme", fold.split.scheme, first.split.scheme),
            ("method", fold.method, first.method),
            ("scores", list(fold.pairs), list(first.pairs)),
            ("subjects", list(fold.subjects), list(first.subjects)),
            ("(arm, seed)", sorted(fold.arms), sorted(first.arms)),
        ):
            if mine != theirs:
                raise ValueError(
                    f"folds {first.split.name!r} and {fold.split.name!r} cannot be averaged: they differ in {what}, "
                    f"{_differing(theirs, mine)}"
                )
    return [_reordered(fold, first.arms) for fold in sorted(folds, key=lambda fold: fold.split.name)]


def _differing(theirs: str | list[Any], mine: str | list[Any]) -> str:
    if isinstance(theirs, str) or isinstance(mine, str):
        return f"{theirs!r} and {mine!r}"
    alone = [[name for name in these if name not in those] for these, those in ((theirs, mine), (mine, theirs))]
    return " and ".join(
        f"{name_some(names) if names else 'none'} alone in the {which}"
        for names, which in zip(alone, ("first", "second"), strict=True)
    )


def _reordered(fold: HeldOut, arms: Sequence[tuple[str, int]]) -> HeldOut:
    rows = [fold.arms.index(arm) for arm in arms]
    pairs = {score: of_score._replace(models=of_score.models[rows]) for score, of_score in fold.pairs.items()}
    return replace(fold, arms=tuple(arms), pairs=pairs)
