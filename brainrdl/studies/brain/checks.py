"""Checks before the first update: a mistake should cost seconds, and not show when all fits are done."""

import json
import unicodedata
from collections.abc import Mapping, Sequence
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import torch
import xarray as xr
from torch import Tensor

from brainrdl.features.recorder import capture
from brainrdl.files.store import read_json, sha256
from brainrdl.identity import DIGEST, describe, digest
from brainrdl.ids import find_ids
from brainrdl.inference.ceiling import are_copies, subject_rdms
from brainrdl.inference.splits import Split, inner_splits
from brainrdl.named_models import load_named_model
from brainrdl.rdms.labelled import condense
from brainrdl.studies.brain.arms import Arm, FittedArm, Mixture, Student, arms_in
from brainrdl.studies.brain.configuration import Configuration
from brainrdl.studies.brain.inputs import Inputs
from brainrdl.studies.brain.runs import file_name
from brainrdl.studies.brain.students import Plan, brain_term
from brainrdl.studies.brain.task_networks import make_student
from brainrdl.studies.inputs import check_distinct
from brainrdl.training.functions import facts_of

_LONGEST = 100  # bytes of a file's name, to which others are added
_FEWEST = 2  # pairs that can be correlated


def check_study(
    configuration: Configuration, inputs: Inputs, arms: Sequence[Arm], splits: Mapping[str, Sequence[Split]]
) -> None:
    """Refuse a study, its splits by scheme, that would end in an error once its networks are trained.

    ValueError if names would share a file; two stimuli are one image; the network does not fit the study or its images;
    there are too few stimuli or measured pairs to choose by or to score; a target cannot be made.
    """
    _check_names(configuration, splits)
    check_distinct(inputs.stimuli, "leave one out, or raise student.image_size if they differ in what that takes away")
    _check_people(configuration, inputs)
    _check_network(configuration, inputs)
    if inputs.controls is not None and any(isinstance(arm, Mixture) for arm in arms):
        for name, values in zip(inputs.controls["rdm"].values.tolist(), condense(inputs.controls), strict=True):
            if np.isnan(values).any():
                raise ValueError(
                    f"controls.{name} has {int(np.isnan(values).sum())} unmeasured pairs, and a mixture needs all of "
                    "them; complete it, or leave mixture out of arms"
                )
    for scheme, of_scheme in splits.items():
        in_splits = arms_in(arms, scheme)
        students = [arm for arm in in_splits if isinstance(arm, Student)]
        # students and heads are chosen in inner folds
        chosen = any(isinstance(arm, FittedArm) for arm in in_splits)
        for split in of_scheme:
            inner = _inner(configuration, inputs, split) if chosen else []
            _check_measured(inputs, split, inner, configuration.fit_to)
            for fitted in configuration.fit_to:
                for arm in students:
                    _check_target(configuration, inputs, arm, fitted, split)
            if students:
                _check_stream(configuration, inputs, [split, *inner])


def _check_names(configuration: Configuration, splits: Mapping[str, Sequence[Split]]) -> None:
    """Fits are kept by these names: those of two splits must never meet in one file, on whatever file system."""
    named = {"studies": list(configuration.studies), "fit.layers": list(configuration.fit.layers)}
    for scheme, of_scheme in splits.items():
        named[f"the splits of scheme {scheme!r}"] = [split.name for split in of_scheme]
    for what, names in named.items():
        taken: dict[str, str] = {}
        for name in names:
            file = file_name(name)
            if len(file.encode()) > _LONGEST:
                raise ValueError(f"{what}: {name!r} is too long for the name of a file; shorten it")
            # a file system may hold two forms of one letter, or upper and lower case, for the same
            same = taken.setdefault(unicodedata.normalize("NFC", file).casefold(), name)
            if same != name:
                raise ValueError(f"{what}: {same!r} and {name!r} would be kept in one file; rename one of them")


def _check_people(configuration: Configuration, inputs: Inputs) -> None:
    """A fit to a study is scored in another as in other people, and against a control target as against another."""
    people = {f"studies.{name}": subject_rdms(study) for name, study in inputs.studies.items()}
    pairs = list(combinations(people.items(), 2))
    if inputs.early_visual is not None:
        fitted = [f"studies.{name}" for name in configuration.fit_to]
        pairs += [((name, people[name]), ("early_visual", inputs.early_visual)) for name in fitted]
    for (name, study), (other, rdms) in pairs:
        for a, mine in zip(condense(study), study["subject"].values, strict=True):
            for b, theirs in zip(condense(rdms), rdms["rdm"].values, strict=True):
                if are_copies(a, b):
                    raise ValueError(
                        f"{name} and {other} hold the same measurement, of subject {str(mine)!r} and as "
                        f"{str(theirs)!r}; what is fitted to it would be scored against itself: name other RDMs"
                    )


def _check_network(configuration: Configuration, inputs: Inputs) -> None:
    student, fit, task = configuration.student, configuration.fit, inputs.task
    # two images are enough to run the network, which is made anew and not trained here
    model = make_student(configuration, 0).eval()
    shown = {"stimuli": inputs.stimuli.batch(range(2))[0]}
    if task is not None and configuration.task is not None:
        shown[f"images of {configuration.task.data}"] = task.batches.tensor(task.training.take(range(2)))
    for what, images in shown.items():
        try:
            # a network that draws random numbers must not change those of the study
            with torch.no_grad(), torch.random.fork_rng(devices=[]):
                output, _ = capture(model, fit.layers, images)
        except (TypeError, ValueError, RuntimeError) as error:
            # PyTorch's own errors, of shapes that do not fit, say nothing about the file
            size = isinstance(error, RuntimeError) and what == "stimuli"
            hint = "; student.image_size is the size of the stimuli: give the one that the network takes"
            raise ValueError(
                f"{student.model} cannot be asked for fit.layers {', '.join(fit.layers)} on {what} of shape "
                f"{tuple(images.shape[1:])}: {error}{hint * size}"
            ) from error
    if fit.unfrozen:
        parameters = [name for name, _ in model.named_parameters()]
        if idle := [start for start in fit.unfrozen if not any(name.startswith(start) for name in parameters)]:
            raise ValueError(
                f"fit.unfrozen names {idle[0]!r}, with which no parameter of {student.model} begins; they are "
                f"{', '.join(parameters)}"
            )
    if task is not None:
        n = len(task.training.classes)
        if not isinstance(output, Tensor) or output.ndim != 2 or output.shape[1] < n:
            shape = tuple(output.shape[1:]) if isinstance(output, Tensor) else type(output).__name__
            raise ValueError(
                f"{student.model} returns for an image {shape}, and the task has {n} classes; expected at least ({n},)"
            )


def _inner(configuration: Configuration, inputs: Inputs, split: Split) -> list[Split]:
    try:
        return inner_splits(split, inputs.categories, configuration.schemes.inner)
    except ValueError as error:
        raise ValueError(
            f"schemes.inner is {configuration.schemes.inner}, too many for split {split.name!r} of scheme "
            f"{split.scheme!r}: {error}"
        ) from error


def _check_measured(inputs: Inputs, split: Split, inner: Sequence[Split], fit_to: Sequence[str]) -> None:
    """Scores rest on the pairs that all have measured; choices on those of each subject."""
    # a pair that one control lacks is scored for nobody, so that all arms have the same pairs
    others = [_pairs(rdms, split.held_out) for rdms in (inputs.controls, inputs.models) if rdms is not None]
    for name, study in inputs.studies.items():
        people = subject_rdms(study)
        held_out = np.concatenate([_pairs(people, split.held_out), *others])
        if (n := int((~np.isnan(held_out)).all(axis=0).sum())) < _FEWEST:
            raise ValueError(
                f"studies.{name}: {n} of {held_out.shape[1]} pairs that split {split.name!r} of scheme "
                f"{split.scheme!r} holds out are measured in all subjects and controls; scores need at least {_FEWEST}"
            )
        if name not in fit_to:
            continue
        for fold in inner:
            measured = (~np.isnan(_pairs(people, fold.held_out))).sum(axis=1)
            if measured.min() < _FEWEST:
                subject = people["subject"].values[measured.argmin()]
                raise ValueError(
                    f"studies.{name}: subject {str(subject)!r} has {measured.min()} measured pairs of those that are "
                    f"chosen by in split {split.name!r} of scheme {split.scheme!r} ({fold.name}); choices need at "
                    f"least {_FEWEST}"
                )


def _pairs(rdms: xr.DataArray, stimuli: Sequence[str]) -> np.ndarray:
    """Condensed RDMs of some stimuli, of which nothing need be measured."""
    places = find_ids(stimuli, rdms["stimulus"].values.tolist(), "the RDMs")
    i, j = np.triu_indices(len(places), 1)
    rows = np.array(places)
    found: np.ndarray = rdms.values[:, rows[i], rows[j]]
    return found


def _check_target(configuration: Configuration, inputs: Inputs, arm: Student, fitted: str, split: Split) -> None:
    fit = configuration.fit
    # every seed shuffles anew; what a term cannot be made of shows with the first
    for seed in range(configuration.seeds):
        target = arm.target(inputs, fitted, split, seed)
        if seed == 0:
            try:
                brain_term(target, Plan(fit.layers[0], fit.alphas[0], fit.updates, seed), fit)
            except ValueError as error:
                what = "early_visual" if arm.early_visual else f"studies.{fitted}"
                raise ValueError(f"{what} cannot be fitted to: {error}") from error


def _check_stream(configuration: Configuration, inputs: Inputs, splits: Sequence[Split]) -> None:
    size = configuration.fit.stimuli_per_update
    fewest = min(splits, key=lambda split: len(split.training))
    if size is not None and size > len(fewest.training):
        raise ValueError(
            f"fit.stimuli_per_update is {size}, and split {fewest.name!r} of scheme {fewest.scheme!r} has "
            f"{len(fewest.training)} training stimuli; lower it, or leave it out to show all of them"
        )
    if configuration.task is None and configuration.fit.every > 1:
        raise ValueError(
            f"fit.every is {configuration.fit.every}, which leaves updates without stimuli, and there is no task to "
            "fill them; set it to 1"
        )


def checksums(configuration: Configuration, inputs: Inputs) -> dict[str, Any]:
    """Compute the SHA-256 of what is in the files that a study names, whatever their names, forms and order."""
    images = inputs.images
    found: dict[str, Any] = {
        "stimuli": digest((stimulus, image) for image, stimulus in map(images.__getitem__, range(len(images)))),
        "categories": _digest(inputs.categories),
        "studies": {name: _digest_of_rdms(rdms) for name, rdms in inputs.studies.items()},
        # layers and values of the network before any training here: its weights, where some are given
        "student": _digest(describe(make_student(configuration, 0))),
    }
    for name in ("early_visual", "controls", "models"):
        if (rdms := getattr(inputs, name)) is not None:
            # without what is computed from these data: its last digits may differ with the number of threads
            read = [place for place, label in enumerate(rdms["rdm"].values.tolist()) if label not in inputs.computed]
            found[name] = _digest_of_rdms(rdms.isel(rdm=read))
    if (task := inputs.task) is not None:
        parts = (task.training, task.validation, task.test)
        found["task"] = _digest(*(digest([("images", part.images), ("labels", part.labels)]) for part in parts))
    return found


def functions_of(configuration: Configuration) -> dict[str, Any]:
    """Facts of the code of the student and of its transform, as far as it is the user's."""
    student = configuration.student
    named = load_named_model(student.model, student.weights, untrained=True)
    return facts_of(student=named.model, transform=named.transform)


def check_unchanged(folder: Path, configuration: Configuration, read: Mapping[str, Any]) -> None:
    """Refuse to resume a study whose data are not those that it began with.

    `read` is what `checksums` finds now; the ValueError names what changed. The folder may not be there.
    """
    path = folder / "study.json"
    if not path.exists():
        return
    began = read_json(path, dict, remedy="restore it, or give another out=").get("inputs", {})
    files = {
        "stimuli": configuration.stimuli,
        "categories": configuration.categories,
        "student": ", ".join(filter(None, (configuration.student.model, configuration.student.weights))),
        "task": configuration.task and configuration.task.data,
        "early_visual": configuration.early_visual and configuration.early_visual.rdms,
        "controls": configuration.controls,
    }
    changed = [
        f"{name} ({files[name]})" if files.get(name) else name
        for name, found in read.items()
        # studies are compared one by one below; what an older folder has not noted cannot be compared
        if name != "studies" and name in began and began[name] != found
    ]
    for name, study in configuration.studies.items():
        if name in began.get("studies", {}) and began["studies"][name] != read["studies"][name]:
            changed.append(f"studies.{name} ({study.rdms})")
    if changed:
        raise ValueError(
            f"{folder} holds a study of other data, which have changed since it began: {', '.join(changed)}. Restore "
            "them to resume it, or give another out="
        )


def _digest(*parts: Any) -> str:
    return DIGEST + sha256(json.dumps(parts, sort_keys=True, default=str).encode())


def _digest_of_rdms(rdms: xr.DataArray) -> str:
    """Values and labels along ``rdm``; the stimuli are the study's."""
    labels: Mapping[str, Any] = {
        str(name): coord.values.tolist() for name, coord in rdms.coords.items() if coord.dims == ("rdm",)
    }
    # the stimuli are in the study's order by now, and have a digest of their own
    values = digest([("values", torch.from_numpy(rdms.values.copy()))])
    return _digest(labels, str(rdms.attrs["metric"]), values)
