"""The rows of a study's tables: what each predicts after a fit to the training stimuli of one split, and no others."""

from collections.abc import Iterator

import numpy as np
import xarray as xr

from brainrdl.inference import subject_rdms
from brainrdl.inference.reweighting.fit_heads import fit_head
from brainrdl.inference.reweighting.mixtures import mixture_weights
from brainrdl.inference.splits import Split, inner_splits
from brainrdl.rdms.labelled import condense, select_stimuli
from brainrdl.studies.brain.choices import CHOICE_SEED, best_layer, choose_plan
from brainrdl.studies.brain.configuration import BASELINES, HEADS, STUDENTS, Configuration
from brainrdl.studies.brain.fitted import save_fitted
from brainrdl.studies.brain.inputs import Inputs
from brainrdl.studies.brain.outcomes import Outcome
from brainrdl.studies.brain.runs import Workshop
from brainrdl.studies.brain.students import Plan, fit_student
from brainrdl.studies.brain.targets import student_target, training_target


def arms_of(configuration: Configuration, inputs: Inputs) -> tuple[str, ...]:
    """The arms that a study runs: those it names, or all that its data allow.

    Raises
    ------
    ValueError
        If it names one that there is not, or whose data are missing, or leaves out one of the primary contrast.
    """
    controls = [] if inputs.controls is None else inputs.controls["rdm"].values.tolist()
    models = [] if inputs.models is None else inputs.models["rdm"].values.tolist()
    students = [arm for arm in STUDENTS if arm != "rdl_early_visual" or inputs.early_visual is not None]
    possible = (*controls, *(["mixture"] if len(controls) > 1 else []), *models, *BASELINES, *HEADS, *students)
    asked = configuration.arms or possible
    for arm in asked:
        if arm not in possible:
            raise ValueError(f"arms names {arm!r}, which this study cannot run; it can: {', '.join(possible)}")
    for arm in (configuration.primary.arm, configuration.primary.against):
        if arm not in asked:
            raise ValueError(f"arms lacks {arm!r}, which the primary contrast needs; add it")
    return tuple(arm for arm in possible if arm in asked)


def outcomes(
    workshop: Workshop, arms: tuple[str, ...], fitted: str, split: Split, *, cheap: bool = False
) -> Iterator[Outcome]:
    """What all arms predict after their fits to the training stimuli of a split, arm by arm and seed by seed.

    Parameters
    ----------
    workshop : Workshop
    arms : tuple of str
    fitted : str
        The study that is fitted.
    split : Split
    cheap : bool
        Whether arms that train a network, or readouts of many weights, are left out.

    Yields
    ------
    Outcome
    """
    inputs = workshop.inputs
    target = training_target(inputs.studies[fitted], split)
    for rdms in (inputs.controls, inputs.models):
        if rdms is not None:
            for name, values in zip(rdms["rdm"].values.tolist(), condense(rdms), strict=True):
                if name in arms:
                    yield Outcome(name, 0, values)
    if "mixture" in arms:
        yield from _mixture(workshop, target)
    students = [arm for arm in STUDENTS if arm in arms and not cheap]
    plan = choose_plan(workshop, fitted, split) if students else None
    yield from _baselines(workshop, arms, target, None if plan is None else plan[2])
    for arm in HEADS:
        if arm in arms and (not cheap or arm == "frrsa"):
            for seed in workshop.seeds:
                yield _head(workshop, arm, fitted, split, target, seed)
    for arm in students:
        for seed in workshop.seeds:
            if plan is not None:
                yield _student(workshop, arm, fitted, split, (*plan, seed))


def _mixture(workshop: Workshop, target: xr.DataArray) -> Iterator[Outcome]:
    """The non-negative mixture of the controls that comes nearest to the target, which holds training stimuli alone."""
    controls = workshop.inputs.controls
    if controls is None:
        return
    seen = _seen(target)
    subjects = subject_rdms(target) if "subject" in target.coords else target
    weights = mixture_weights(select_stimuli(controls, seen), subjects, method=workshop.configuration.method)
    mixed = weights.to_numpy() @ condense(controls)
    setting = {str(name): round(float(weight), 6) for name, weight in weights.items()}
    yield Outcome("mixture", 0, mixed, fitted_to=seen, setting=setting)


def _baselines(
    workshop: Workshop, arms: tuple[str, ...], target: xr.DataArray, updates: int | None
) -> Iterator[Outcome]:
    """Networks that know nothing of the brain, in the layer that agrees best with the training stimuli's target."""
    if "untrained" in arms:
        layer = best_layer(workshop, workshop.untrained(CHOICE_SEED), target)
        for seed in workshop.seeds:
            yield Outcome("untrained", seed, workshop.untrained(seed)[layer], fitted_to=_seen(target), layer=layer)
    if "task_only" in arms:
        lengths = workshop.configuration.fit.updates
        # as long on the task as the students of this split; where there are none, the shortest length
        place = lengths.index(updates) if updates in lengths else 0
        layer = best_layer(workshop, workshop.task_only(CHOICE_SEED)[0].rdms, target)
        for seed in workshop.seeds:
            shot = workshop.task_only(seed)[place]
            yield Outcome(
                "task_only",
                seed,
                shot.rdms[layer],
                fitted_to=_seen(target),
                layer=layer,
                setting={"updates": lengths[place]},
                task_error=shot.task_error,
            )


def _head(workshop: Workshop, arm: str, fitted: str, split: Split, target: xr.DataArray, seed: int) -> Outcome:
    name = f"{workshop.place(fitted, split)}/{arm}-seed{seed}"

    def make() -> Outcome:
        configuration, inputs = workshop.configuration, workshop.inputs
        categories = {stimulus: inputs.categories[stimulus] for stimulus in split.training}
        inner = inner_splits(split, categories, configuration.schemes.inner)
        features, ids = workshop.features(seed), inputs.stimuli.ids
        found = fit_head(
            arm,
            features,
            ids,
            target,
            inner,
            compare=configuration.method,
            metric=configuration.fit.metric,
        )
        workshop.chosen(
            name,
            lambda: found.tries.assign(fitted_study=fitted, scheme=split.scheme, split=split.name, arm=arm, seed=seed),
        )
        workshop.log(f"{name}: {found.layer}, {found.setting}")
        rdm = np.asarray(found.rdm(features, ids))
        # a head leaves the network, and so what it answers to the task, as it is
        error = workshop.task_error(seed)
        return Outcome(arm, seed, rdm, found.fitted_to, found.layer, dict(found.setting), error)

    return _own(workshop.made(name, make), arm, seed, split, name)


def _student(workshop: Workshop, arm: str, fitted: str, split: Split, plan: tuple[str, float, int, int]) -> Outcome:
    layer, alpha, updates, seed = plan
    name = f"{workshop.place(fitted, split)}/{arm}-seed{seed}"

    def make() -> Outcome:
        try:
            found = fit_student(
                workshop.task_network(seed),
                student_target(arm, workshop.inputs, fitted, split, seed),
                Plan(layer, alpha, (updates,), seed),
                configuration=workshop.configuration,
                inputs=workshop.inputs,
                fabric=workshop.fabric,
                on_test=True,
            )
        except FloatingPointError as error:
            raise FloatingPointError(
                f"{name} died with α = {alpha:g}, which inner folds chose: {error}; take smaller fit.alphas or a "
                "smaller fit.learning_rate, and a new folder"
            ) from error
        last = found.snapshots[-1]
        told = "fitted" if np.isnan(last.task_error) else f"task error {last.task_error:.2f} %"
        workshop.log(f"{name}: {told}")
        outcome = Outcome(
            arm,
            seed,
            last.rdms[layer],
            found.fitted_to,
            layer,
            {"alpha0": alpha, "updates": updates},
            last.task_error,
            found.history.assign(task_error=np.nan),
        )
        if arm == "rdl":  # its controls are for their scores alone
            path = workshop.folder / "models" / f"{name}.safetensors"
            save_fitted(found.model, path, outcome, configuration=workshop.configuration, fitted=fitted, split=split)
        return outcome

    return _own(workshop.made(name, make), arm, seed, split, name)


def _own(outcome: Outcome, arm: str, seed: int, split: Split, name: str) -> Outcome:
    """Hand on what was kept under a name; ValueError if it is another fit."""
    if (outcome.arm, outcome.seed) != (arm, seed) or set(outcome.fitted_to) != set(split.training):
        raise ValueError(
            f"fits/{name}.npz holds another fit: {outcome.arm}, seed {outcome.seed}, of {len(outcome.fitted_to)} "
            f"stimuli; expected {arm}, seed {seed}, of the {len(split.training)} training stimuli of split "
            f"{split.name!r}; remove it to have the fit made again"
        )
    return outcome


def _seen(target: xr.DataArray) -> tuple[str, ...]:
    """Their layer was chosen on these stimuli."""
    ids: list[str] = target["stimulus"].values.tolist()
    return tuple(ids)
