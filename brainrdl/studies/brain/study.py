"""A study from its file to its report, resumable: ``brainrdl fit``."""

import json
import platform
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from importlib.metadata import version
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from lightning_fabric import Fabric

from brainrdl.exchange import netcdf
from brainrdl.files.store import atomic_path, versions, write_json, write_table
from brainrdl.inference.splits import Split, category_splits, random_splits, stratified_splits
from brainrdl.progress import Bar, log as say_above, track, without_bars
from brainrdl.rdms.combine import average_rdms
from brainrdl.rdms.labelled import condense, label_rdms
from brainrdl.studies.brain.arms import ARMS, START, Arm, FittedArm, Fold, TaskOnly, arms_of, outcomes
from brainrdl.studies.brain.checks import check_study, check_unchanged, checksums, functions_of
from brainrdl.studies.brain.configuration import Configuration, configuration_hash
from brainrdl.studies.brain.inputs import Inputs, load_inputs
from brainrdl.studies.brain.outcomes import Outcome
from brainrdl.studies.brain.runs import FitRuns
from brainrdl.studies.brain.scores import Scored, score_scheme
from brainrdl.studies.brain.tasks import fit_tasks
from brainrdl.studies.brain.workload import estimate, workload
from brainrdl.studies.folder import calls_of, claimed, noted, warnings_of
from brainrdl.studies.jobs import make_beside
from brainrdl.studies.reports.fit import write_report
from brainrdl.studies.study_threads import set_threads
from brainrdl.studies.tries import tries_table
from brainrdl.terminal import one_line, say
from brainrdl.training.machine import (
    PACKAGES,
    Machine as Machine,
    describe_call,
    device_name,
    now,
    open_fabric,
    precision_of,
    use_threads,
)
from brainrdl.warned import warnings_given

_NOTES = (
    "Nothing is fitted to, or chosen on, a pair of stimuli of which one is held out, and nothing is scored on a pair "
    "of which one was fitted.",
    "Intervals are conditional on the trained networks: stimuli (and subjects, where there are at least eight) are "
    "resampled, and seeds averaged inside.",
)


def fit(
    configuration: Configuration,
    out: str | Path,
    *,
    data_dir: str | Path | None = None,
    machine: Machine | None = None,
    jobs: int = 1,
    command: str = "",
    log: Callable[[str], None] = say_above,
) -> Path:
    """Run a study, or resume it, and write its report.

    Task networks first; then, split by split, choices in inner folds and fits to the training stimuli; everything is
    scored when all fits are done.

    Parameters
    ----------
    configuration : Configuration
        Configuration of the study, from `read_configuration`.
    out : path
        Output folder: a new one, or one in which the same study was interrupted.
    data_dir : path, optional
        Folder of the data sets known by name; the environment variable BRAINRDL_DATA where it is not given.
    machine : Machine, optional
        Device, precision, threads.
    jobs : int
        Number of parallel processes; they share the threads where the machine names none.
    command : str
        Command line, for the manifest.
    log : callable
        Function that is called with a line of progress at a time.

    Returns
    -------
    Path
        Path of the report.

    Raises
    ------
    ValueError
        For a study that cannot be run, or a folder that holds another.
    FileNotFoundError
        If data are missing.
    BlockingIOError
        If another process works in the folder.
    FloatingPointError
        If a training diverged.

    Examples
    --------
    >>> from brainrdl.studies import fit, read_configuration
    >>> fit(read_configuration("examples/human_it.yaml"), "human_it")  # doctest: +SKIP
    PosixPath('human_it/report.html')
    """
    if jobs < 1:
        raise ValueError(f"jobs must be at least 1, got {jobs}")
    machine = machine or Machine()
    out = Path(out).resolve()
    fabric = open_fabric(machine.device, machine.precision)
    # as many in every process: the last digits of a fit may differ with the number of threads
    threads = set_threads(machine.threads, fabric.device, out, processes=jobs, log=log)
    machine = replace(machine, threads=threads)
    with warnings_given() as given:
        inputs = load_inputs(configuration, data_dir)
        arms, splits = arms_of(configuration, inputs), _splits(configuration, inputs)
        # all checks before the folder is claimed: a study that cannot be run leaves nothing behind
        check_study(configuration, inputs, arms, splits)
        read = checksums(configuration, inputs)
        check_unchanged(out, configuration, read)
        with claimed(
            out, frozen(configuration, fabric, read), functions=functions_of(configuration), grown=_with_more_arms
        ):
            with noted(out, describe_call(command, fabric), given) as note:
                runs = FitRuns(configuration, inputs, fabric, out, log, locks=jobs > 1)
                folds = _folds(configuration, splits)
                if jobs > 1:
                    # whatever is no fit of its own is made, and read, afterwards
                    open_runs = partial(_open_runs, configuration, out, data_dir, machine)
                    tasks = fit_tasks(runs, arms, folds)
                    # where all fits are there, no further process has to read the data
                    left = [task for task in tasks if not task.done(runs)]
                    with without_bars():
                        n = jobs - 1 if left else 0
                        make_beside(runs, open_runs, tasks, n=n, left=len(left), note=note, log=log)
                work = workload(configuration, inputs, arms, folds, out)
                with Bar(work.weight(configuration), "fits") as bar:
                    found = _all_outcomes(replace(runs, advance=bar.advance), arms, folds, note)
                log("all fits are done: scoring them on held-out stimuli")
                each = list(product(found.items(), configuration.studies))
                scored = [
                    score_scheme(of_splits, configuration, inputs, fitted=fitted, scored=name)
                    for ((fitted, _), of_splits), name in track(each, "scoring", total=len(each))
                ]
                _write_tables(runs, found, scored)
                _write_rdms(runs, found)
            _write_manifest(runs, arms, scored, read)
            return write_report(out)


def _open_runs(configuration: Configuration, out: Path, data_dir: str | Path | None, machine: Machine) -> FitRuns:
    """Open the study in a further process."""
    use_threads(machine.threads)
    fabric = open_fabric(machine.device, machine.precision)
    return FitRuns(configuration, load_inputs(configuration, data_dir), fabric, out, say, locks=True)


def describe_plan(
    configuration: Configuration, data_dir: str | Path | None = None, *, machine: Machine | None = None
) -> str:
    """Read a study's data and describe what it would run, without running it.

    Parameters
    ----------
    configuration : Configuration
        Configuration of the study, from `read_configuration`.
    data_dir : path, optional
        Folder of the data sets known by name, as for `fit`.
    machine : Machine, optional
        Device, precision and threads on which some updates are timed, to estimate the hours; without it there is no
        estimate. Nothing is kept of these updates.

    Returns
    -------
    str
        A few lines: stimuli, studies, arms, splits, primary contrast, and the time with what was counted for it.

    Raises
    ------
    ValueError, FileNotFoundError
        As `fit`, before it begins.

    Examples
    --------
    >>> from brainrdl.studies import describe_plan, read_configuration
    >>> print(describe_plan(read_configuration("examples/human_it.yaml")))  # doctest: +SKIP
    """
    inputs = load_inputs(configuration, data_dir)
    arms, schemes = arms_of(configuration, inputs), _splits(configuration, inputs)
    check_study(configuration, inputs, arms, schemes)
    primary = configuration.primary
    lines = [
        f"{configuration.title} ({configuration.name}), configuration {configuration_hash(configuration)[:12]}",
        f"stimuli: {len(inputs.stimuli)} in {len(set(inputs.categories.values()))} categories",
        *(
            f"study {name}: {rdms.sizes['rdm']} RDMs, {'fitted and ' * (name in configuration.fit_to)}scored"
            for name, rdms in inputs.studies.items()
        ),
        f"arms: {', '.join(arm.name for arm in arms)}",
        f"splits: {', '.join(f'{len(splits)} {scheme}' for scheme, splits in schemes.items())}",
        f"primary contrast: {primary.arm} − {primary.against}, fitted to {primary.fitted}, scored in {primary.scored}, "
        f"{primary.scheme}",
    ]
    if machine is not None:
        use_threads(machine.threads)
        fabric = open_fabric(machine.device, machine.precision)
        lines.append(estimate(configuration, inputs, arms, _folds(configuration, schemes), fabric))
    return "\n".join(map(one_line, lines))


def _splits(configuration: Configuration, inputs: Inputs) -> dict[str, list[Split]]:
    schemes, categories = configuration.schemes, inputs.categories
    ways: dict[str, Callable[[], list[Split]]] = {
        "stratified": lambda: stratified_splits(categories, schemes.stratified)
    }
    if schemes.leave_one_category_out:
        ways["leave_one_category_out"] = lambda: category_splits(categories)
    if schemes.random:
        ways["random"] = lambda: random_splits(categories, schemes.random, held_out=1 / schemes.stratified)
    splits = {}
    for scheme, way in ways.items():
        try:
            splits[scheme] = way()
        except ValueError as error:  # of splits, which do not know what they are called in the file
            raise ValueError(f"schemes.{scheme} cannot be had of these stimuli: {error}") from error
    return splits


def _folds(
    configuration: Configuration, splits: Mapping[str, Sequence[Split]]
) -> dict[tuple[str, str], Sequence[Split]]:
    """(fitted study, scheme) → splits; the primary contrast's first."""
    primary = configuration.primary
    fitted_first = sorted(configuration.fit_to, key=lambda name: name != primary.fitted)
    order = [(fitted, scheme) for scheme in splits for fitted in fitted_first]
    # the contrast that the study is for is there first, should the rest be stopped
    order.sort(key=lambda both: both != (primary.fitted, primary.scheme))
    return {(fitted, scheme): splits[scheme] for fitted, scheme in order}


def _all_outcomes(
    runs: FitRuns, arms: Sequence[Arm], folds: Mapping[tuple[str, str], Sequence[Split]], note: Callable[[], None]
) -> dict[tuple[str, str], dict[Split, list[Outcome]]]:
    """(fitted study, scheme) → split → outcomes."""
    found: dict[tuple[str, str], dict[Split, list[Outcome]]] = {}
    for (fitted, scheme), splits in folds.items():
        found[(fitted, scheme)] = {}
        for number, split in enumerate(splits, 1):
            runs.log(f"[{number}/{len(splits)}] fitted to {fitted}, {scheme}, {split.name} held out")
            found[(fitted, scheme)][split] = list(outcomes(runs, arms, fitted, split))
            note()
    return found


def _write_tables(
    runs: FitRuns, found: Mapping[tuple[str, str], Mapping[Split, Sequence[Outcome]]], scored: Sequence[Scored]
) -> None:
    folder = runs.folder
    for name in ("scores", "summary", "contrasts"):
        write_table(pd.concat([getattr(tables, name) for tables in scored]), folder / f"{name}.csv")
    tries = tries_table((folder / "choices").rglob("*.json"))
    if not tries.empty:
        write_table(tries, folder / "choices.csv")
    curves = [
        outcome.history.assign(arm=outcome.arm, fitted_study=fitted, scheme=scheme, split=split.name, seed=outcome.seed)
        for (fitted, scheme), folds in found.items()
        for split, of_split in folds.items()
        for outcome in of_split
        if not outcome.history.empty
    ]
    if curves:
        columns = ["arm", "fitted_study", "scheme", "split", "seed", "update", "task_loss", "rdm_loss", "task_error"]
        write_table(pd.concat(curves)[columns], folder / "histories.csv")


def _write_rdms(runs: FitRuns, found: Mapping[tuple[str, str], Mapping[Split, Sequence[Outcome]]]) -> None:
    """Write RDMs to be looked at: each brain, and a student before and after its fit."""
    inputs, primary = runs.inputs, runs.configuration.primary
    ids, shown = inputs.stimuli.ids, {}
    for name, rdms in inputs.studies.items():
        mean = average_rdms(rdms, normalize="zscore") if "subject" in rdms.coords else rdms
        shown[f"brain: {name}"] = condense(mean)[0]
    split, of_split = next(iter(found[(primary.fitted, primary.scheme)].items()))
    # before any fit, whether or not the study has a row of it
    shown[f"before: {START.name}"] = next(START.outcomes(Fold(runs, primary.fitted, split, students=False))).rdm
    # an RDM that is given, or of random weights, is no such network after anything
    trained = [arm.name for arm in ARMS if isinstance(arm, TaskOnly | FittedArm)]
    for arm in (primary.against, primary.arm):
        if arm in trained:
            outcome = next(found for found in of_split if found.arm == arm and found.seed == 0)
            shown[f"after: {arm}"] = outcome.rdm
    what_of = {"what": [name.partition(":")[0] for name in shown]}
    rdms = label_rdms(np.stack(list(shown.values())), ids, list(shown), "undeclared", what_of)
    rdms = rdms.assign_coords(category=("stimulus", [inputs.categories[stimulus] for stimulus in ids]))
    with atomic_path(runs.folder / "rdms.nc") as temporary:  # float32: drawn, and never scored again
        netcdf.write(rdms.assign_attrs(held_out=json.dumps(split.held_out)), temporary, dtype="float32")
    with atomic_path(runs.folder / "thumbnails.npz") as temporary, temporary.open("wb") as file:
        np.savez_compressed(file, ids=np.array(ids), images=inputs.thumbnails)


def _write_manifest(runs: FitRuns, arms: Sequence[Arm], scored: Sequence[Scored], read: Mapping[str, Any]) -> None:
    configuration = runs.configuration
    primary = configuration.primary
    dropped: list[dict[str, Any]] = []
    collapsed: list[dict[str, Any]] = []
    # a split is scored in each study, and drops the same controls in all of them
    for tables in scored:
        dropped += [entry for entry in tables.dropped if entry not in dropped]
        collapsed += [entry for entry in tables.collapsed if entry not in collapsed]
    write_json(
        {
            "brainrdl": version("brainrdl"),
            "created": now(),
            "command": calls_of(runs.folder)[-1]["command"],
            "title": configuration.title,
            "name": configuration.name,
            "configuration": configuration.model_dump(mode="json"),
            "configuration_hash": configuration_hash(configuration),
            "inputs": dict(read),
            "hardware": device_name(runs.fabric.device),
            "platform": platform.platform(),
            "threads": torch.get_num_threads(),
            "precision": precision_of(runs.fabric),
            "versions": versions(PACKAGES),
            "calls": calls_of(runs.folder),
            **warnings_of(calls_of(runs.folder)),
            "notes": list(_NOTES),
            "primary": {
                "a": primary.arm,
                "b": primary.against,
                "fitted_study": primary.fitted,
                "scored_study": primary.scored,
                "scheme": primary.scheme,
                "method": configuration.method,
                "smallest_effect": primary.smallest_effect,
            },
            "arms": {arm.name: {"label": arm.label, "about": arm.about, "family": arm.family} for arm in arms},
            "dropped_controls": dropped,
            "collapsed_patterns": collapsed,
        },
        runs.folder / "manifest.json",
    )


def _with_more_arms(there: dict[str, Any], present: dict[str, Any]) -> dict[str, Any]:
    """Let a study gain arms: what is kept of the others is theirs, whichever arms there are beside them."""
    noted, asked = (found.get("configuration", {}).get("arms") for found in (there, present))
    # an empty list is of all arms: it may become none that is shorter, and any list may become it
    if not noted or not isinstance(noted, list) or (asked and not set(noted) <= set(asked)):
        return there
    return {**there, "configuration": {**there["configuration"], "arms": asked}, "hash": present["hash"]}


def frozen(configuration: Configuration, fabric: Fabric, read: Mapping[str, Any]) -> dict[str, Any]:
    """Describe what a folder's study is and has read (`checksums`), and must stay."""
    return {
        "configuration": configuration.model_dump(mode="json"),
        "hash": configuration_hash(configuration),
        "device": device_name(fabric.device),
        "precision": precision_of(fabric),
        "inputs": dict(read),
    }
