"""From outcomes to tables: every arm on the stimuli that its fit has not seen, in every study."""

from collections.abc import Mapping, Sequence
from math import nan
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from brainrdl.inference.fold_scores import score_folds
from brainrdl.inference.held_out import Predicted, held_out_scores
from brainrdl.inference.splits import Split
from brainrdl.rdms.labelled import label_rdms
from brainrdl.studies.brain.configuration import HEADS, STUDENTS, Configuration
from brainrdl.studies.brain.inputs import Inputs
from brainrdl.studies.brain.outcomes import Outcome

COLUMNS = (
    "arm",
    "scheme",
    "split",
    "fold",
    "seed",
    "fitted_study",
    "scored_study",
    "layer",
    "roi",
    "alpha0",
    "score",
    "method",
    "value",
    "ceiling_lower",
    "ceiling_upper",
    "n_pairs",
    "task_error",
)


class Scored(NamedTuple):
    """What `score_scheme` returns.

    Attributes
    ----------
    scores : DataFrame
        A row per arm, seed, fold and score, with `COLUMNS`.
    summary : DataFrame
        A row per arm and score, over folds and seeds, with intervals.
    contrasts : DataFrame
        A row per contrast and score.
    dropped : list of dict
        Controls that are constant on a split's held-out pairs, and left out there.
    collapsed : list of dict
        Networks of which some stimuli's patterns do not vary over units, so that they have no correlation with others:
        such distances are scored as 1, as they were in training. Left out, they would be so for all arms.
    """

    scores: pd.DataFrame
    summary: pd.DataFrame
    contrasts: pd.DataFrame
    dropped: list[dict[str, Any]]
    collapsed: list[dict[str, Any]]


def score_scheme(
    folds: Mapping[Split, Sequence[Outcome]],
    configuration: Configuration,
    inputs: Inputs,
    *,
    fitted: str,
    scored: str,
) -> Scored:
    """Score what was fitted in one study on the held-out stimuli of one scheme, in one study.

    Parameters
    ----------
    folds : dict
        Split → outcomes of all arms and seeds.
    configuration : Configuration
    inputs : Inputs
    fitted, scored : str
        Names of studies.

    Returns
    -------
    Scored
    """
    subjects = inputs.studies[scored]
    held_out, rows, dropped, collapsed = [], [], [], []
    for number, (split, outcomes) in enumerate(folds.items(), 1):
        found = held_out_scores(
            _predicted(outcomes, inputs),
            subjects,
            split,
            categories=inputs.categories,
            controls=inputs.controls,
            method=configuration.method,
        )
        held_out.append(found)
        if found.dropped:
            dropped.append({"scheme": split.scheme, "split": split.name, "controls": list(found.dropped)})
        collapsed += [
            {
                "arm": outcome.arm,
                "seed": outcome.seed,
                "fitted_study": fitted,
                "scheme": split.scheme,
                "split": split.name,
                "pairs": int(np.isnan(outcome.rdm).sum()),
            }
            for outcome in outcomes
            if outcome.layer and np.isnan(outcome.rdm).any()
        ]
        of = {(outcome.arm, outcome.seed): outcome for outcome in outcomes}
        roi = configuration.studies[scored].roi or ""
        for row in found.table.to_dict("records"):
            outcome = of[(str(row["arm"]), int(row["seed"]))]
            rows.append(
                {
                    **row,
                    "scheme": split.scheme,
                    "split": split.name,
                    "fold": number,
                    "fitted_study": fitted,
                    "scored_study": scored,
                    "layer": outcome.layer,
                    "roi": roi,
                    "alpha0": outcome.setting.get("alpha0", nan),
                    "method": configuration.method,
                    "task_error": outcome.task_error,
                }
            )
    first = next(iter(folds))
    arms = list(dict.fromkeys(outcome.arm for outcome in folds[first]))
    over_folds = score_folds(held_out, contrasts=contrasts_of(configuration, arms), n_resamples=configuration.resamples)
    scores = pd.DataFrame(rows)[list(COLUMNS)]
    what = {"scheme": first.scheme, "fitted_study": fitted, "scored_study": scored, "method": configuration.method}
    errors = scores.groupby("arm")["task_error"].mean()
    summary = over_folds.table.assign(**what)
    summary["task_error"] = summary["arm"].map(errors)
    primary = configuration.primary
    is_primary = (primary.fitted, primary.scored, primary.scheme) == (fitted, scored, first.scheme)
    contrasts = over_folds.contrasts.assign(**what)
    contrasts["primary"] = is_primary & (contrasts["a"] == primary.arm) & (contrasts["b"] == primary.against)
    return Scored(scores, _what_first(summary, what), _what_first(contrasts, what), dropped, collapsed)


def contrasts_of(configuration: Configuration, arms: Sequence[str]) -> list[tuple[str, str]]:
    """The contrasts that are tested: the primary one, the same arm against its controls, and the heads' gains."""
    primary = configuration.primary
    pairs = [(primary.arm, primary.against)]
    pairs += [(primary.arm, control) for control in STUDENTS if control != primary.arm]
    pairs += [(arm, primary.against) for arm in (*HEADS, *STUDENTS)]
    pairs += [(primary.against, "untrained")]
    return [pair for pair in dict.fromkeys(pairs) if set(pair) <= set(arms) and pair[0] != pair[1]]


def _predicted(outcomes: Sequence[Outcome], inputs: Inputs) -> list[Predicted]:
    by_stimuli: dict[tuple[str, ...], list[Outcome]] = {}
    for outcome in outcomes:
        by_stimuli.setdefault(outcome.fitted_to, []).append(outcome)
    return [
        Predicted(
            label_rdms(
                np.stack([_defined(outcome) for outcome in alike]),
                inputs.stimuli.ids,
                [f"{outcome.arm}/{outcome.seed}" for outcome in alike],
                "undeclared",
                {"arm": [outcome.arm for outcome in alike], "seed": [outcome.seed for outcome in alike]},
            ),
            fitted_to,
        )
        for fitted_to, alike in by_stimuli.items()
    ]


def _defined(outcome: Outcome) -> np.ndarray:
    """The RDM with 1 where a network's pattern has no direction; what is read from files stays unmeasured there."""
    return np.where(np.isnan(outcome.rdm), 1.0, outcome.rdm) if outcome.layer else outcome.rdm


def _what_first(table: pd.DataFrame, what: Mapping[str, str]) -> pd.DataFrame:
    return table[[*what, *(column for column in table.columns if column not in what)]]
