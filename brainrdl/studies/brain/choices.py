"""Choices on training stimuli alone: the layer that is read, α, and when to stop."""

from collections.abc import Mapping

import numpy as np
import pandas as pd
import torch
import xarray as xr

from brainrdl.inference.ceiling import subject_rdms
from brainrdl.inference.splits import Split, inner_splits
from brainrdl.rdms.labelled import condense, label_rdms, select_stimuli
from brainrdl.rdms.similarities import Options, similarities
from brainrdl.studies.brain.runs import FitRuns
from brainrdl.studies.brain.students import Plan
from brainrdl.studies.brain.targets import training_target

CHOICE_SEED = 0
"""Seed whose networks are looked at, and fitted, while settings are chosen."""

Chosen = tuple[str, float, int]
"""Layer, α and number of updates of a split's students."""


def score_on(runs: FitRuns, rdm: np.ndarray, target: xr.DataArray, stimuli: tuple[str, ...] | None = None) -> float:
    """Score a condensed RDM of all stimuli, (n(n-1)/2,), on the target's stimuli or some: the mean over subjects.

    NaN for an RDM that does not vary.
    """
    # sessions are averaged within a subject, as scores have it
    subjects = subject_rdms(target) if "subject" in target.coords else target
    ids = tuple(target["stimulus"].values.tolist()) if stimuli is None else stimuli
    model = label_rdms(rdm[None], runs.inputs.stimuli.ids, ["model"], "undeclared")
    a, b = (torch.from_numpy(condense(select_stimuli(rdms, ids))) for rdms in (model, subjects))
    return float(similarities(a, b, Options(runs.configuration.method)).nanmean())


def best_layer(runs: FitRuns, rdms: Mapping[str, np.ndarray], target: xr.DataArray) -> str:
    """Find the layer whose condensed RDM of all stimuli agrees best with a target of training stimuli alone."""
    scores = {layer: score_on(runs, rdm, target) for layer, rdm in rdms.items()}
    defined = {layer: score for layer, score in scores.items() if not np.isnan(score)}
    if not defined:
        raise ValueError(
            f"in none of the layers {', '.join(scores)} do the network's patterns vary, so that none has an RDM; name "
            "others: fit.layers"
        )
    return max(defined, key=lambda layer: defined[layer])


def choose_plan(runs: FitRuns, fitted: str, split: Split) -> Chosen:
    """Choose layer, α and number of updates for the students of a split, with its training stimuli alone.

    The layer agrees best with the target in the task network; α and the number of updates do best in inner folds.
    """
    # the controls of RDL take over what is chosen for RDL: they differ in their target alone
    tries = runs.chosen(f"{runs.place(fitted, split)}/rdl", lambda: _tries(runs, fitted, split))
    split_of = tries[["fitted_study", "scheme", "split"]].drop_duplicates().to_numpy().tolist()
    # a choice of other training stimuli may have seen these held out
    if split_of != [[fitted, split.scheme, split.name]]:
        raise ValueError(
            f"choices/{runs.place(fitted, split)}/rdl.json is of another split, {split_of}; remove it to choose again"
        )
    best = tries[tries["chosen"]].iloc[0]
    return str(best["layer"]), float(best["alpha0"]), int(best["updates"])


def _tries(runs: FitRuns, fitted: str, split: Split) -> pd.DataFrame:
    configuration = runs.configuration
    target = training_target(runs.inputs.studies[fitted], split)
    # the layer is not tried: each further candidate would cost a fit per α and inner fold
    layer = best_layer(runs, runs.task_only(CHOICE_SEED)[0].rdms, target)
    # lengths are read out of one training, so that a try is a fit per inner fold and α
    rows = []
    for inner in inner_splits(split, runs.inputs.categories, configuration.schemes.inner):
        for alpha in configuration.fit.alphas:
            rows += _tried(runs, target, inner, Plan(layer, alpha, configuration.fit.updates, CHOICE_SEED))
    table = pd.DataFrame(rows)
    # a setting that died in one fold is out
    mean = table.groupby(["alpha0", "updates"], sort=False)["value"].agg(lambda values: values.mean(skipna=False))
    if mean.isna().all():
        raise FloatingPointError(
            f"all fits of {runs.place(fitted, split)} diverged during hyperparameter selection; lower fit.alphas or "
            "fit.learning_rate"
        )
    alpha, updates = mean.index[int(mean.argmax())]
    chosen = (table["alpha0"] == alpha) & (table["updates"] == updates)
    runs.log(
        f"{runs.place(fitted, split)}: {layer}, α = {alpha:g}, {updates} updates "
        f"({mean.max():.3f} on the held-out stimuli of the inner folds)"
    )
    where = {"fitted_study": fitted, "scheme": split.scheme, "split": split.name}
    return table.assign(**where, arm="rdl", seed=CHOICE_SEED, chosen=chosen)


def _tried(runs: FitRuns, target: xr.DataArray, inner: Split, plan: Plan) -> list[dict[str, object]]:
    row = {"layer": plan.layer, "alpha0": plan.alpha, "inner_split": inner.name}
    try:
        snapshots = runs.fit(training_target(target, inner), plan).snapshots
    except FloatingPointError:
        return [{**row, "updates": updates, "value": None, "task_error": None} for updates in plan.updates]
    values = [score_on(runs, snapshot.rdms[plan.layer], target, inner.held_out) for snapshot in snapshots]
    return [
        {**row, "updates": snapshot.updates, "value": value, "task_error": snapshot.task_error}
        for snapshot, value in zip(snapshots, values, strict=True)
    ]
