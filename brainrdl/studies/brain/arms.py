"""The arms of a study: what each predicts after a fit to the training stimuli of one split, and no others."""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import xarray as xr

from brainrdl.inference.reweighting.fit_heads import HeadSettings, fit_head
from brainrdl.inference.splits import Split, inner_splits
from brainrdl.rdms.labelled import condense
from brainrdl.studies.brain.choices import CHOICE_SEED, Chosen, best_layer, choose_plan
from brainrdl.studies.brain.configuration import Configuration
from brainrdl.studies.brain.inputs import Inputs
from brainrdl.studies.brain.outcomes import Outcome
from brainrdl.studies.brain.runs import FitRuns
from brainrdl.studies.brain.students import Plan
from brainrdl.studies.brain.targets import (
    Target,
    block_means_target,
    brain_target,
    early_visual_target,
    global_shuffle_target,
    training_target,
    within_shuffle_target,
)
from brainrdl.studies.brain.task_networks import save_fitted
from brainrdl.studies.scores import fit_mixture


@dataclass(frozen=True, eq=False)
class Fold:
    """A split in the study that is fitted: all that an arm of this split may see.

    With `students`, the split has arms that train networks, and their plan is chosen in it.
    """

    runs: FitRuns
    fitted: str
    split: Split
    students: bool

    # each is computed once, when an arm first asks for it
    @cached_property
    def target(self) -> xr.DataArray:
        """RDMs of the training stimuli."""
        return training_target(self.runs.inputs.studies[self.fitted], self.split)

    @cached_property
    def plan(self) -> Chosen | None:
        """Layer, α and number of updates of its students, chosen on the training stimuli."""
        return choose_plan(self.runs, self.fitted, self.split) if self.students else None

    def file(self, arm: str, seed: int) -> str:
        """Name of the file of a fit, without its suffix and the folder of its kind."""
        return f"{self.runs.place(self.fitted, self.split)}/{arm}-seed{seed}"


@dataclass(frozen=True)
class Arm(ABC):
    """A row of a study's tables, with the words that a page has for it: label, sentence and the family it belongs to.

    An arm is `cheap` if it is fitted in random splits too.
    """

    name: str
    label: str
    about: str
    family: str
    cheap: bool = True

    def possible(self, inputs: Inputs) -> bool:
        """Tell if the study's data allow it."""
        return True

    @abstractmethod
    def outcomes(self, fold: Fold) -> Iterator[Outcome]:
        """Predict RDMs of all stimuli, seed by seed, from a fit to the fold's training stimuli."""


@dataclass(frozen=True)
class GivenRDM(Arm):
    """An RDM that is read or computed, to which nothing is fitted: a control, or a further model."""

    def outcomes(self, fold: Fold) -> Iterator[Outcome]:
        for rdms in (fold.runs.inputs.controls, fold.runs.inputs.models):
            names = [] if rdms is None else rdms["rdm"].values.tolist()
            if rdms is not None and self.name in names:
                yield Outcome(self.name, 0, condense(rdms)[names.index(self.name)])


@dataclass(frozen=True)
class Mixture(Arm):
    """The non-negative mixture of the controls that comes nearest to the target."""

    def possible(self, inputs: Inputs) -> bool:
        return inputs.controls is not None and inputs.controls.sizes["rdm"] > 1

    def outcomes(self, fold: Fold) -> Iterator[Outcome]:
        controls = fold.runs.inputs.controls
        if controls is not None:
            # the training stimuli alone, in the study that is fitted: the mixture is a rival on the same terms
            weights, mixed = fit_mixture(controls, fold.target, method=fold.runs.configuration.method)
            setting = {str(name): round(float(weight), 6) for name, weight in weights.items()}
            yield Outcome(self.name, 0, mixed, fold.split.training, setting=setting)


@dataclass(frozen=True)
class Untrained(Arm):
    """Networks with random weights, in the layer that agrees best with the target."""

    def outcomes(self, fold: Fold) -> Iterator[Outcome]:
        layer = best_layer(fold.runs, fold.runs.untrained(CHOICE_SEED), fold.target)
        for seed in fold.runs.seeds:
            # its layer was chosen on the training stimuli, so it counts as fitted to them
            yield Outcome(self.name, seed, fold.runs.untrained(seed)[layer], fold.split.training, layer)


@dataclass(frozen=True)
class Start(Arm):
    """The networks that heads sit on and fits begin with, in the layer that agrees best with the target."""

    def outcomes(self, fold: Fold) -> Iterator[Outcome]:
        layer = best_layer(fold.runs, fold.runs.start(CHOICE_SEED).rdms, fold.target)
        for seed in fold.runs.seeds:
            found = fold.runs.start(seed)
            yield Outcome(self.name, seed, found.rdms[layer], fold.split.training, layer, task_error=found.task_error)


@dataclass(frozen=True)
class TaskOnly(Arm):
    """Networks trained on the task as long as the fold's students, in the layer that agrees best with the target."""

    def outcomes(self, fold: Fold) -> Iterator[Outcome]:
        lengths = fold.runs.configuration.fit.updates
        # where the split has no students, the shortest length
        place = 0 if fold.plan is None else lengths.index(fold.plan[2])
        # the layer is that in which students are fitted: chosen in the network at the shortest length
        layer = best_layer(fold.runs, fold.runs.task_only(CHOICE_SEED)[0].rdms, fold.target)
        for seed in fold.runs.seeds:
            snapshot = fold.runs.task_only(seed)[place]
            rdm, setting = snapshot.rdms[layer], {"updates": lengths[place]}
            curve, error = snapshot.history.assign(task_error=np.nan), snapshot.task_error
            yield Outcome(self.name, seed, rdm, fold.split.training, layer, setting, error, curve)


@dataclass(frozen=True)
class FittedArm(Arm):
    """An arm whose fits are kept, a file per split and seed."""

    def outcomes(self, fold: Fold) -> Iterator[Outcome]:
        for seed in fold.runs.seeds:
            yield self.fit(fold, seed)

    def fit(self, fold: Fold, seed: int) -> Outcome:
        """Fit to the fold's training stimuli, or read the fit where it is done."""
        name = fold.file(self.name, seed)

        def check(outcome: Outcome) -> None:
            if (outcome.arm, outcome.seed) != (self.name, seed) or set(outcome.fitted_to) != set(fold.split.training):
                raise ValueError(
                    f"fits/{name}.npz holds another fit: {outcome.arm}, seed {outcome.seed}, of "
                    f"{len(outcome.fitted_to)} stimuli; expected {self.name}, seed {seed}, of the "
                    f"{len(fold.split.training)} training stimuli of split {fold.split.name!r}; remove it to have the "
                    "fit made again"
                )

        return fold.runs.made(name, lambda: self._fit(fold, seed, name), check)

    @abstractmethod
    def _fit(self, fold: Fold, seed: int, name: str) -> Outcome: ...


@dataclass(frozen=True)
class Head(FittedArm):
    """A head of few weights on features of the task network, which stays as it is."""

    def _fit(self, fold: Fold, seed: int, name: str) -> Outcome:
        runs, split = fold.runs, fold.split
        configuration, inputs = runs.configuration, runs.inputs
        features, ids = runs.features(seed), inputs.stimuli.ids
        # the network's own, since a head leaves what it answers to the task; first, as another process may hold it
        error = runs.task_error(seed)
        inner = inner_splits(split, inputs.categories, configuration.schemes.inner)
        settings = HeadSettings(compare=configuration.method, metric=configuration.fit.metric)
        found = fit_head(self.name, features, ids, fold.target, inner, settings=settings)
        where = {"fitted_study": fold.fitted, "scheme": split.scheme, "split": split.name}
        # kept beside the fit, for the table of choices: nothing is read back from it
        runs.chosen(name, lambda: found.tries.assign(**where, arm=self.name, seed=seed))
        runs.log(f"{name}: {found.layer}, {found.setting}")
        runs.advance(max(configuration.fit.updates))
        rdm = np.asarray(found.rdm(features, ids))
        return Outcome(self.name, seed, rdm, found.fitted_to, found.layer, dict(found.setting), error)


@dataclass(frozen=True)
class Student(FittedArm):
    """Networks trained on the task and, at once, toward a target made of the training stimuli's RDMs.

    `early_visual` targets need RDMs of an early visual region, and with `keep` the fitted networks are kept.
    """

    target: Target = brain_target
    cheap: bool = False
    early_visual: bool = False
    keep: bool = False

    def possible(self, inputs: Inputs) -> bool:
        return not self.early_visual or inputs.early_visual is not None

    def _fit(self, fold: Fold, seed: int, name: str) -> Outcome:
        runs, plan = fold.runs, fold.plan
        if plan is None:
            raise ValueError(f"{name} is a student, and the split has none")
        layer, alpha, updates = plan
        try:
            target = self.target(runs.inputs, fold.fitted, fold.split, seed)
            found = runs.fit(target, Plan(layer, alpha, (updates,), seed), on_test=True)
        except FloatingPointError as error:
            raise FloatingPointError(
                f"{name} diverged with α = {alpha:g}, selected in inner folds: {error}; take smaller fit.alphas or "
                "a smaller fit.learning_rate, and a new folder"
            ) from error
        runs.advance(max(runs.configuration.fit.updates) - updates)  # it was not known how many would be chosen
        # the number of updates is what inner folds chose, and so there is one snapshot
        last = found.snapshots[-1]
        runs.log(f"{name}: {'fitted' if np.isnan(last.task_error) else f'task error {last.task_error:.2f} %'}")
        setting = {"alpha0": alpha, "updates": updates}
        # measured once, at the end, and not along the curve: these are test images
        history = found.history.assign(task_error=np.nan)
        outcome = Outcome(self.name, seed, last.rdms[layer], found.fitted_to, layer, setting, last.task_error, history)
        if self.keep:
            path, study = runs.folder / "models" / f"{name}.safetensors", runs.configuration
            save_fitted(found.model, path, outcome, configuration=study, fitted=fold.fitted, split=fold.split)
        return outcome


_GIVEN, _NETWORKS, _HEADS, _RDL, _CONTROLS = "fixed RDMs", "networks", "heads", "RDL", "RDL's controls"

START = Start(
    "start",
    "start network",
    "The network from which every fit starts and on which every head is fitted: trained on the task, or given, and "
    "not fitted to a brain.",
    _NETWORKS,
)
TASK_ONLY = TaskOnly(
    "task_only",
    "task only",
    "The start network trained further on the task alone, for as many updates as RDL: the control for further "
    "training.",
    _NETWORKS,
)

ARMS: tuple[Arm, ...] = (
    GivenRDM("pixels", "pixels", "Distances between the images' pixels, without any network.", _GIVEN),
    GivenRDM("animacy", "animacy", "An RDM of one distinction: 0 within animate and inanimate, 1 between.", _GIVEN),
    GivenRDM(
        "four_category",
        "four categories",
        "An RDM of four categories, faces, bodies, natural and artificial objects: 0 within, 1 between.",
        _GIVEN,
    ),
    GivenRDM("silhouette", "silhouette", "Distances between the objects' outlines, without any network.", _GIVEN),
    GivenRDM("hmax", "HMAX", "Distances in HMAX, a model of the ventral stream without learning.", _GIVEN),
    Mixture(
        "mixture",
        "mixture of controls",
        "The non-negative weighted sum of the control RDMs, fitted to the brain's RDM of the training stimuli.",
        _GIVEN,
    ),
    GivenRDM("monkey_it", "monkey IT", "The RDM of recordings in monkey IT with the same images.", _GIVEN),
    GivenRDM("behaviour", "behaviour", "The mean RDM of human similarity judgements.", _GIVEN),
    Untrained("untrained", "untrained", "The network with random weights, before any training.", _NETWORKS),
    START,
    TASK_ONLY,
    Head(
        "frrsa",
        "FR-RSA",
        "The start network with a non-negative weight for each feature, fitted to the brain (feature-reweighted RSA).",
        _HEADS,
    ),
    Head(
        "gains",
        "channel gains",
        "The start network with a non-negative gain for each channel of a layer, fitted to the brain.",
        _HEADS,
        cheap=False,
    ),
    Head(
        "low_rank",
        "low-rank readout",
        "The start network with a linear map of a layer's features to few dimensions, fitted to the brain.",
        _HEADS,
        cheap=False,
    ),
    Head(
        "readout",
        "full readout",
        "The start network with a linear map of a layer's features to as many dimensions, fitted to the brain.",
        _HEADS,
        cheap=False,
    ),
    Student(
        "rdl",
        "RDL",
        "The start network trained further on the task and, jointly, on the brain's RDM of the training stimuli.",
        _RDL,
        keep=True,
    ),
    Student(
        "rdl_category",
        "RDL, category RDM",
        "RDL with each distance of the target replaced by the mean of its category block: only categories can be "
        "learned.",
        _CONTROLS,
        target=block_means_target,
    ),
    Student(
        "rdl_within_shuffle",
        "RDL, shuffled within categories",
        "RDL with the target's stimuli permuted within categories: only category structure remains.",
        _CONTROLS,
        target=within_shuffle_target,
    ),
    Student(
        "rdl_global_shuffle",
        "RDL, shuffled",
        "RDL with all stimuli of the target permuted: only the distribution of distances remains.",
        _CONTROLS,
        target=global_shuffle_target,
    ),
    Student(
        "rdl_early_visual",
        "RDL, early visual RDM",
        "RDL with the RDM of early visual cortex as the target.",
        _CONTROLS,
        target=early_visual_target,
        early_visual=True,
    ),
)
"""The package's own arms, in the order in which pages list them. A study's own control RDMs are further `GivenRDM`."""


def arms_of(configuration: Configuration, inputs: Inputs) -> tuple[Arm, ...]:
    """List the arms that a study runs: those it names, or all that its data allow.

    ValueError if it names one that there is not, or whose data are missing, or leaves out one of the primary contrast.
    """
    by_name = {arm.name: arm for arm in ARMS}
    others = [arm for arm in ARMS if not isinstance(arm, GivenRDM) and arm.possible(inputs)]
    possible: dict[str, Arm] = {}
    # controls first, then what is mixed of them, then other RDMs, then networks: the order of a study's tables
    for rdms, kind in ((inputs.controls, Mixture), (inputs.models, Arm)):
        for name in [] if rdms is None else rdms["rdm"].values.tolist():
            given = GivenRDM(name, name, "A control RDM that the study's file names.", _GIVEN)
            possible[name] = by_name.get(name, given)
        possible |= {arm.name: arm for arm in others if isinstance(arm, kind)}
    asked = configuration.arms or tuple(name for name in possible if name != _twin(configuration, inputs))
    for name in asked:
        if name not in possible:
            raise ValueError(f"arms names {name!r}, which this study cannot run; it can: {', '.join(possible)}")
    for name in (configuration.primary.arm, configuration.primary.against):
        if name not in asked:
            raise ValueError(f"arms lacks {name!r}, which the primary contrast needs; add it")
    return tuple(arm for name, arm in possible.items() if name in asked)


def _twin(configuration: Configuration, inputs: Inputs) -> str | None:
    """Name the arm that is another's copy: without a task nothing is trained further, and both are one network."""
    if inputs.task is not None:
        return None
    named = (configuration.primary.arm, configuration.primary.against)
    return TASK_ONLY.name if START.name in named else START.name


def arms_in(arms: Sequence[Arm], scheme: str) -> list[Arm]:
    """Select the arms that are fitted in the splits of a scheme: in random ones, which are many, the cheap ones."""
    return [arm for arm in arms if arm.cheap or scheme != "random"]


def outcomes(runs: FitRuns, arms: Sequence[Arm], fitted: str, split: Split) -> Iterator[Outcome]:
    """Predict RDMs with all arms of a split's scheme after fits to its training stimuli, arm by arm, seed by seed."""
    in_split = arms_in(arms, split.scheme)
    fold = Fold(runs, fitted, split, any(isinstance(arm, Student) for arm in in_split))
    _ = fold.plan  # chosen before anything is fitted in the split
    for arm in in_split:
        yield from arm.outcomes(fold)
