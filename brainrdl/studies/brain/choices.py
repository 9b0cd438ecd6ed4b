"""What is chosen, chosen on training stimuli alone: the layer that is read, α, and when to stop."""

from collections.abc import Mapping

import numpy as np
import pandas as pd
import xarray as xr

from brainrdl.inference import subject_rdms
from brainrdl.inference.splits import Split, inner_splits
from brainrdl.rdms.compare import compare_rdms
from brainrdl.rdms.labelled import label_rdms, select_stimuli
from brainrdl.studies.brain.runs import Workshop
from brainrdl.studies.brain.students import Plan, fit_student
from brainrdl.studies.brain.targets import training_target

CHOICE_SEED = 0
"""The seed whose networks are looked at, and fitted, while settings are chosen."""


def score_on(
    workshop: Workshop, rdm: np.ndarray, target: xr.DataArray, stimuli: tuple[str, ...] | None = None
) -> float:
    """The mean over subjects of the similarity of an RDM of all stimuli to the target, on the target's stimuli or some.

    Parameters
    ----------
    workshop : Workshop
    rdm : ndarray (n(n-1)/2,)
        Condensed, of all stimuli.
    target : DataArray (rdm, stimulus, stimulus_)
        RDMs of training stimuli.
    stimuli : tuple of str, optional
        Those to score on.

    Returns
    -------
    float
    """
    subjects = subject_rdms(target) if "subject" in target.coords else target
    ids = tuple(target["stimulus"].values.tolist()) if stimuli is None else stimuli
    model = label_rdms(rdm[None], workshop.inputs.stimuli.ids, ["model"], "undeclared")
    found = compare_rdms(select_stimuli(model, ids), select_stimuli(subjects, ids), workshop.configuration.method)
    return float(found.mean())


def best_layer(workshop: Workshop, rdms: Mapping[str, np.ndarray], target: xr.DataArray) -> str:
    """The layer whose RDM agrees best with the target, which holds training stimuli alone.

    Parameters
    ----------
    workshop : Workshop
    rdms : dict of ndarray (n(n-1)/2,)
        Layer → condensed RDM of all stimuli.
    target : DataArray (rdm, stimulus, stimulus_)

    Returns
    -------
    str
    """
    scores = {layer: score_on(workshop, rdm, target) for layer, rdm in rdms.items()}
    defined = {layer: score for layer, score in scores.items() if not np.isnan(score)}
    if not defined:
        raise ValueError(
            f"in none of the layers {', '.join(scores)} do the network's patterns vary, so that none has an RDM; name "
            "others: fit.layers"
        )
    return max(defined, key=lambda layer: defined[layer])


def choose_plan(workshop: Workshop, fitted: str, split: Split) -> tuple[str, float, int]:
    """Choose layer, α and number of updates for the students of a split, with its training stimuli alone.

    The layer is the one in which the task network agrees best with the target; α and the number of updates are those
    that do best on the held-out stimuli of inner folds. The controls of RDL take over what is chosen for RDL: they
    differ in their target alone.

    Parameters
    ----------
    workshop : Workshop
    fitted : str
        The study that is fitted.
    split : Split
        Of which the training stimuli alone are used.

    Returns
    -------
    layer : str
    alpha : float
    updates : int
    """
    tries = workshop.chosen(f"{workshop.place(fitted, split)}/rdl", lambda: _tries(workshop, fitted, split))
    of = tries[["fitted_study", "scheme", "split"]].drop_duplicates().to_numpy().tolist()
    if of != [[fitted, split.scheme, split.name]]:  # a choice of other training stimuli may have seen these held out
        raise ValueError(
            f"choices/{workshop.place(fitted, split)}/rdl.json is of another split, {of}; remove it to choose again"
        )
    best = tries[tries["chosen"]].iloc[0]
    return str(best["layer"]), float(best["alpha0"]), int(best["updates"])


def _tries(workshop: Workshop, fitted: str, split: Split) -> pd.DataFrame:
    configuration = workshop.configuration
    target = training_target(workshop.inputs.studies[fitted], split)
    categories = {stimulus: workshop.inputs.categories[stimulus] for stimulus in split.training}
    layer = best_layer(workshop, workshop.task_only(CHOICE_SEED)[0].rdms, target)
    rows = []
    for inner in inner_splits(split, categories, configuration.schemes.inner):
        for alpha in configuration.fit.alphas:
            plan = Plan(layer, alpha, configuration.fit.updates, CHOICE_SEED)
            rows += _tried(workshop, target, inner, plan)
    table = pd.DataFrame(rows)
    # a setting that died in one fold is out
    mean = table.groupby(["alpha0", "updates"], sort=False)["value"].agg(lambda values: values.mean(skipna=False))
    if mean.isna().all():
        raise FloatingPointError(
            f"all fits of {workshop.place(fitted, split)} died while settings were chosen; lower fit.alphas or "
            "fit.learning_rate"
        )
    alpha, updates = mean.index[int(mean.argmax())]
    chosen = (table["alpha0"] == alpha) & (table["updates"] == updates)
    workshop.log(
        f"{workshop.place(fitted, split)}: {layer}, α = {alpha:g}, {updates} updates "
        f"({mean.max():.3f} on the held-out stimuli of the inner folds)"
    )
    return table.assign(fitted_study=fitted, scheme=split.scheme, split=split.name, arm="rdl", chosen=chosen)


def _tried(workshop: Workshop, target: xr.DataArray, inner: Split, plan: Plan) -> list[dict[str, object]]:
    row = {"layer": plan.layer, "alpha0": plan.alpha, "inner_split": inner.name}
    try:
        found = fit_student(
            workshop.task_network(CHOICE_SEED),
            training_target(target, inner),
            plan,
            configuration=workshop.configuration,
            inputs=workshop.inputs,
            fabric=workshop.fabric,
        )
    except FloatingPointError:
        return [{**row, "updates": updates, "value": None, "task_error": None} for updates in plan.updates]
    return [
        {
            **row,
            "updates": updates,
            "value": score_on(workshop, snapshot.rdms[plan.layer], target, inner.held_out),
            "task_error": snapshot.task_error,
        }
        for updates, snapshot in zip(plan.updates, found.snapshots, strict=True)
    ]
