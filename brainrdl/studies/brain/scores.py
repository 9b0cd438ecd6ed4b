"""Tables of a study's scores: every arm on the stimuli that its fit has not seen, in every study."""

from collections.abc import Mapping, Sequence
from math import nan
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from brainrdl.inference.fold_scores import score_folds
from brainrdl.inference.held_out import Predicted
from brainrdl.inference.splits import Split
from brainrdl.studies.brain.arms import ARMS, START, TASK_ONLY, Head, Student
from brainrdl.studies.brain.configuration import Configuration
from brainrdl.studies.brain.inputs import Inputs
from brainrdl.studies.brain.outcomes import Outcome
from brainrdl.studies.scores import predict, score_splits

COLUMNS = (
    *("arm", "scheme", "split", "fold", "seed", "fitted_study", "scored_study", "layer", "roi", "alpha0", "score"),
    *("method", "value", "ceiling_lower", "ceiling_upper", "n_pairs", "task_error"),
)


class Scored(NamedTuple):
    """The tables of one scheme, fitted in one study and scored in one."""

    scores: pd.DataFrame  # a row per arm, seed, fold and score, with COLUMNS
    summary: pd.DataFrame  # a row per arm and score, over folds and seeds, with intervals
    contrasts: pd.DataFrame  # a row per contrast and score
    dropped: list[dict[str, Any]]  # controls that are constant on a split's held-out pairs, and left out there
    # networks of which some stimuli's patterns do not vary over units, so that they have no correlation with others:
    # such distances are scored as 1, as they were in training; left out, they would be so for all arms
    collapsed: list[dict[str, Any]]


def score_scheme(
    folds: Mapping[Split, Sequence[Outcome]], configuration: Configuration, inputs: Inputs, *, fitted: str, scored: str
) -> Scored:
    """Score what was fitted in one study (outcomes of all arms and seeds, by split of a scheme), in one study."""
    held_out, table = score_splits(
        {split: _predicted(outcomes, inputs) for split, outcomes in folds.items()},
        inputs.studies[scored],
        categories=inputs.categories,
        controls=inputs.controls,
        method=configuration.method,
    )
    dropped = [
        {"scheme": found.split.scheme, "split": found.split.name, "controls": list(found.dropped)}
        for found in held_out
        if found.dropped
    ]
    collapsed = [
        {
            "arm": outcome.arm,
            "seed": outcome.seed,
            "fitted_study": fitted,
            "scheme": split.scheme,
            "split": split.name,
            "pairs": int(np.isnan(outcome.rdm).sum()),
        }
        for split, outcomes in folds.items()
        for outcome in outcomes
        if outcome.layer and np.isnan(outcome.rdm).any()
    ]
    outcome_of = {
        (split.name, outcome.arm, outcome.seed): outcome for split, outcomes in folds.items() for outcome in outcomes
    }
    in_rows = [outcome_of[key] for key in zip(table["split"], table["arm"], table["seed"], strict=True)]
    table = table.assign(
        fold=table["fold"] + 1,  # counted from 1 in a study's files
        fitted_study=fitted,
        scored_study=scored,
        layer=[outcome.layer for outcome in in_rows],
        roi=configuration.studies[scored].roi or "",
        alpha0=[outcome.setting.get("alpha0", nan) for outcome in in_rows],
        task_error=[outcome.task_error for outcome in in_rows],
    )
    first = next(iter(folds))
    arms = list(dict.fromkeys(outcome.arm for outcome in folds[first]))
    over_folds = score_folds(held_out, contrasts=contrasts_of(configuration, arms), n_resamples=configuration.resamples)
    scores = table[list(COLUMNS)]
    what = {"scheme": first.scheme, "fitted_study": fitted, "scored_study": scored, "method": configuration.method}
    errors = scores.groupby("arm")["task_error"].mean()
    summary = over_folds.table.assign(**what)
    summary["task_error"] = summary["arm"].map(errors)
    # one contrast is what the study is for, and only in the setting that it names
    primary = configuration.primary
    is_primary = (primary.fitted, primary.scored, primary.scheme) == (fitted, scored, first.scheme)
    contrasts = over_folds.contrasts.assign(**what)
    contrasts["primary"] = is_primary & (contrasts["a"] == primary.arm) & (contrasts["b"] == primary.against)
    return Scored(scores, _what_first(summary, what), _what_first(contrasts, what), dropped, collapsed)


def contrasts_of(configuration: Configuration, arms: Sequence[str]) -> list[tuple[str, str]]:
    """List the contrasts that are tested: the primary one, the same arm against its controls, and the heads' gains."""
    primary = configuration.primary
    heads, students = ([arm.name for arm in ARMS if isinstance(arm, kind)] for kind in (Head, Student))
    start, further = START.name, TASK_ONLY.name
    pairs = [(primary.arm, primary.against), (primary.arm, start), (primary.arm, further)]
    pairs += [(primary.arm, control) for control in students if control != primary.arm]
    # a head leaves the network as it is, so that its gain is over that very network
    pairs += [(head, start if start in arms else primary.against) for head in heads]
    pairs += [(student, primary.against) for student in students]
    pairs += [(further, start), (primary.against, "untrained")]
    chosen: dict[frozenset[str], tuple[str, str]] = {}
    for pair in pairs:
        if pair[0] != pair[1] and set(pair) <= set(arms):
            # of two ways round one contrast the first
            chosen.setdefault(frozenset(pair), pair)
    return list(chosen.values())


def _predicted(outcomes: Sequence[Outcome], inputs: Inputs) -> list[Predicted]:
    # RDMs that have seen the same stimuli are one prediction: those that have seen a held-out one are refused
    by_stimuli: dict[tuple[str, ...], list[Outcome]] = {}
    for outcome in outcomes:
        by_stimuli.setdefault(outcome.fitted_to, []).append(outcome)
    return [
        predict(
            np.stack([_defined(outcome) for outcome in alike]),
            inputs.stimuli.ids,
            [outcome.arm for outcome in alike],
            seeds=[outcome.seed for outcome in alike],
            fitted_to=fitted_to,
        )
        for fitted_to, alike in by_stimuli.items()
    ]


def _defined(outcome: Outcome) -> np.ndarray:
    """Set an RDM to 1 where a network's pattern has no direction; what is read from files stays unmeasured there."""
    return np.where(np.isnan(outcome.rdm), 1.0, outcome.rdm) if outcome.layer else outcome.rdm


def _what_first(table: pd.DataFrame, what: Mapping[str, str]) -> pd.DataFrame:
    return table[[*what, *(column for column in table.columns if column not in what)]]
