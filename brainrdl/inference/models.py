"""Models against subjects: scores with intervals, tests against zero, against the ceiling and against each other."""

import warnings
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Literal, final

import numpy as np
import pandas as pd
import xarray as xr
from scipy import stats

from brainrdl.arguments import did_you_mean, name_some
from brainrdl.inference.bootstrap import Factor, Resamples, resample_scores
from brainrdl.inference.ceiling import NoiseCeiling, are_copies, subject_rdms
from brainrdl.inference.intervals import bounded_interval, bounded_t, bounds_of, clipped
from brainrdl.inference.multiplicity import holm
from brainrdl.inference.trainings import check_level
from brainrdl.rdms.compare import join_rdms
from brainrdl.rdms.rounding import check_geometry, describe_lacking, lacking_geometry
from brainrdl.rdms.similarities import check_method

MIN_SUBJECTS = 8
"""With fewer, what varies between subjects is not estimated from them."""


@final
@dataclass(frozen=True)
class ModelScores:
    """Scores of models, with intervals and tests, as `score_models` returns them.

    Attributes
    ----------
    table : DataFrame
        Index ``model``; ``score``, its standard error ``se``, the t interval ``low`` to ``high`` (on Fisher's z, hence
        below 1), the bootstrap's percentile interval ``percentile_low`` to ``percentile_high``, ``p`` of a
        score of zero or less (one-sided), and ``p_ceiling`` of a score equal to the lower noise ceiling (two-sided).
        P-values are not corrected. All but the score are NaN where no draw differs from another, as with three
        stimuli; all, where a model's RDM is constant (for the cosines: zero).
    subjects : DataFrame
        Index ``model``, a column per subject: the similarities whose means are the scores.
    ceiling : NoiseCeiling
        Noise ceiling on the same scale, subjects and pairs; NaN with a single subject.
    over : {"stimuli", "subjects", "both"}
        Factor that intervals and tests generalise over.
    note : str
        Caution for whoever reads them, empty if none.
    level : float
        Coverage of the intervals.
    resamples : Resamples
        Draws behind the standard errors.
    method : str
        Comparison of RDMs that the scores are made by.
    """

    table: pd.DataFrame
    subjects: pd.DataFrame
    ceiling: NoiseCeiling
    over: str
    note: str
    level: float
    resamples: Resamples
    method: str = "corr"

    def contrasts(self, pairs: Sequence[tuple[str, str]] | None = None) -> pd.DataFrame:
        """Test differences between models' scores, corrected by Holm over the contrasts declared.

        Parameters
        ----------
        pairs : sequence of (str, str), optional
            The contrasts to test, as declared before looking; all pairs of models if absent.

        Returns
        -------
        DataFrame
            A row per contrast: ``a``, ``b``, ``difference`` (score of a − score of b), ``se``, ``low``, ``high``, ``p``
            (two-sided) and ``p_holm``.

        Raises
        ------
        ValueError
            For an unknown model, or a contrast of a model with itself.
        """
        names = self.table.index.tolist()
        chosen = list(combinations(names, 2)) if pairs is None else checked_contrasts(pairs, names)
        rows = []
        for a, b in chosen:
            weights = np.zeros(len(names) + 2)
            weights[names.index(a)], weights[names.index(b)] = 1, -1
            rows.append({"a": a, "b": b, **tested(self.resamples, weights, self.level, self.method)})
        table = pd.DataFrame(rows, columns=["a", "b", "estimate", "se", "low", "high", "p"])
        return table.rename(columns={"estimate": "difference"}).assign(p_holm=holm(table["p"].to_numpy(dtype=float)))


def score_models(
    models: xr.DataArray,
    subjects: xr.DataArray,
    method: str = "corr",
    *,
    over: Literal["auto", "stimuli", "subjects", "both"] = "auto",
    n_resamples: int = 1000,
    level: float = 0.95,
    seed: int = 0,
) -> ModelScores:
    """Score model RDMs against subjects' RDMs, with intervals, tests and noise ceiling.

    A model's score is the mean over subjects of its similarity to the subject's RDM, sessions being averaged within
    subjects first. Standard errors come from the bootstrap, intervals and p-values from Student's t with them: those of
    a score on Fisher's z, whose standard error is se / (1 − r²), those of a difference on the scale of scores.

    Parameters
    ----------
    models : DataArray (rdm, stimulus, stimulus_)
        One RDM per model.
    subjects : DataArray (rdm, stimulus, stimulus_)
        RDMs of the same stimuli with a ``subject`` coordinate, of one region; or a single RDM.
    method : str
        Comparison of RDMs, as in `compare_rdms`.
    over : {"auto", "stimuli", "subjects", "both"}
        Factor to generalise over: other stimuli (for these subjects), other subjects (for these stimuli), or both at
        once with the two-factor correction. ``auto``: both from eight subjects on, below that stimuli only.
    n_resamples : int
        Number of draws.
    level : float
        Coverage of the intervals.
    seed : int
        Seed of the draws of stimuli, whatever their order, and of subjects.

    Returns
    -------
    ModelScores

    Raises
    ------
    TypeError, ValueError
        For fewer than eight subjects with ``over="subjects"`` or ``"both"``, a subject with several RDMs or one that
        has nothing to compare, two subjects with the same RDM, and as `compare_rdms`.

    Warns
    -----
    UserWarning
        If one of several models has nothing to compare; its row is NaN.

    References
    ----------
    Schütt, Kipnis, Diedrichsen & Kriegeskorte (2023). Statistical inference on representational geometries. eLife 12,
    e82566.

    Examples
    --------
    >>> from brainrdl.inference import score_models
    >>> from brainrdl.rdms import condense, label_rdms
    >>> rng = np.random.default_rng(0)
    >>> ids, names = [f"s{i}" for i in range(10)], [f"sub-{k}" for k in range(10)]
    >>> models = label_rdms(rng.random((2, 45)), ids, ["good", "bad"], "mse")
    >>> values = rng.random((10, 45)) + condense(models)[0]
    >>> brains = label_rdms(values, ids, names, "correlation", {"subject": names})
    >>> scores = score_models(models, brains, n_resamples=200)
    >>> scores.over, scores.table["score"].round(2).to_dict()
    ('both', {'good': 0.75, 'bad': 0.18})
    """
    check_method(method)
    check_level(level)
    joined = join_rdms({"models": models, "subjects": subjects})
    people = joined.rdms["subjects"]
    # a single RDM, such as a group's mean, needs no subject to tell it from others
    if people.sizes["rdm"] == 1 and "subject" not in people.coords:
        people = people.assign_coords(subject=people["rdm"])
    joined = joined._replace(rdms={**joined.rdms, "subjects": subject_rdms(people)})
    names = [str(name) for name in joined.rdms["subjects"]["subject"].values]
    # by name, so that draws of stimuli do not depend on the order in which they come
    joined = joined.by_name()
    factor, note = factor_of(over, len(names))
    labels = [str(label) for label in joined.rdms["models"]["rdm"].values]
    mine, theirs = joined.condensed("models"), joined.condensed("subjects")
    check_geometry(theirs, names, method, "subjects")
    if len(lacking := lacking_geometry(mine, labels, method)) == len(labels):
        check_geometry(mine, labels, method, "models")
    own = _own_scores(mine, theirs, labels, names)
    resamples = resample_scores(mine, theirs, method, factor, n_resamples=n_resamples, seed=seed)
    note = "; ".join(
        part for part in (note, own, _constant(lacking, method), _unvarying(resamples, labels, lacking)) if part
    )
    rows = []
    for k in range(len(labels)):
        score, below = np.zeros(len(labels) + 2), np.zeros(len(labels) + 2)
        score[k] = below[k] = 1
        below[-2] = -1
        tail = (1 - level) / 2
        draws = resamples.draws()[:, k]
        row = tested(resamples, score, level, method)
        # one-sided: a score below zero is no finding
        row["p"] = row["p"] / 2 if row["estimate"] > 0 else 1 - row["p"] / 2
        row["p_ceiling"] = tested(resamples, below, level, method)["p"] if len(names) > 1 else np.nan
        percentiles = np.nanquantile(draws, [tail, 1 - tail]) if resamples.varies(k) else (np.nan, np.nan)
        row["percentile_low"], row["percentile_high"] = percentiles
        rows.append(row)
    columns = ["estimate", "se", "low", "high", "percentile_low", "percentile_high", "p", "p_ceiling"]
    table = pd.DataFrame(rows, index=pd.Index(labels, name="model"), columns=columns)
    return ModelScores(
        table.rename(columns={"estimate": "score"}),
        pd.DataFrame(resamples.scores, index=table.index, columns=names),
        NoiseCeiling(float(resamples.estimate[-2]), float(resamples.estimate[-1])),
        factor,
        note,
        level,
        resamples,
        method,
    )


def _own_scores(models: np.ndarray, subjects: np.ndarray, labels: Sequence[str], names: Sequence[str]) -> str:
    """Note a model that is a subject's own RDM, empty if there is none."""
    for label, model in zip(labels, models, strict=True):
        for name, subject in zip(names, subjects, strict=True):
            if are_copies(model, subject):
                return (
                    f"model {label!r} holds the same distances as subject {name!r}, so that a measurement is scored "
                    "against itself; leave one of the two out"
                )
    return ""


def _constant(lacking: Mapping[str, str], method: str) -> str:
    """Warn of models without a geometry, and note it."""
    if not lacking:
        return ""
    note = (
        f"models that have nothing to compare by {method!r}, so that their scores are NaN: {describe_lacking(lacking)}"
    )
    warnings.warn(note, UserWarning, stacklevel=3)
    return note


def _unvarying(resamples: Resamples, labels: Sequence[str], lacking: Collection[str]) -> str:
    """Note the models of whose uncertainty the draws say nothing."""
    alike = [label for k, label in enumerate(labels) if label not in lacking and not resamples.varies(k)]
    if not alike:
        return ""
    return (
        f"all usable resamples give one score to {name_some(alike)}, which says nothing of its uncertainty: "
        "intervals and tests are NaN, and take more stimuli"
    )


def checked_contrasts(pairs: Sequence[tuple[str, str]], names: Sequence[str]) -> list[tuple[str, str]]:
    """Check declared contrasts, each of two different models among `names`; ValueError otherwise."""
    # names may come from a table, as NumPy's strings
    chosen = [(str(a), str(b)) for a, b in pairs]
    for a, b in chosen:
        for name in (a, b):
            if name not in names:
                raise ValueError(f"no model {name!r} among {', '.join(names)}{did_you_mean(name, names)}")
        if a == b:
            raise ValueError(f"a contrast of {a!r} with itself; name two models")
    return chosen


def factor_of(over: str, n_subjects: int) -> tuple[Factor, str]:
    """Choose the factor to resample, with a note for the reader; ValueError where `over` asks for what cannot be."""
    if over not in ("auto", "stimuli", "subjects", "both"):
        raise ValueError(f"unknown over {over!r}; known are: auto, stimuli, subjects, both")
    few = (
        f"{n_subjects} subject{'s are' if n_subjects > 1 else ' is'} too few to generalise over subjects, which takes "
        f"{MIN_SUBJECTS}"
    )
    if over in ("subjects", "both"):
        if n_subjects < MIN_SUBJECTS:
            raise ValueError(f"{few}; take over='stimuli', which generalises over stimuli, for these subjects only")
        return ("subjects", "") if over == "subjects" else ("both", "")
    if over == "auto" and n_subjects >= MIN_SUBJECTS:
        return "both", ""
    if n_subjects < MIN_SUBJECTS:
        return "stimuli", f"{few}: intervals and tests generalise over stimuli, for these subjects only"
    return "stimuli", ""


def tested(resamples: Resamples, weights: np.ndarray, level: float, method: str) -> dict[str, float]:
    """Return a score, or a difference of two, with its t interval and two-sided test of zero.

    A score's are made by Fisher's z, on which it has no bounds; a difference's end where none can be.
    """
    used = weights != 0
    estimate = float(resamples.estimate[used] @ weights[used])
    # no draw says whether two columns that never vary differ
    se = resamples.standard_error(weights) if any(map(resamples.varies, np.flatnonzero(used).tolist())) else np.nan
    degrees = resamples.degrees_of_freedom
    quantile = float(stats.t.ppf((1 + level) / 2, degrees))
    low, high = bounds_of(method)
    if used.sum() == 1:
        ends = bounded_interval(estimate, se, quantile, (low, high))
        # of a squared difference, 0 is the bound itself
        value, error = (estimate, se) if method == "mse" else bounded_t(estimate, se, (low, high))
    else:
        ends = clipped(estimate - quantile * se, estimate + quantile * se, (low - high, high - low))
        value, error = estimate, se
    p = 2 * float(stats.t.sf(abs(value) / error, degrees)) if error > 0 else np.nan
    return {"estimate": estimate, "se": se, "low": ends[0], "high": ends[1], "p": p}
