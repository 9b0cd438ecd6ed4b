"""A study from its file to its report, resumable: ``brainrdl fit``."""

import json
import platform
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from lightning_fabric import Fabric

from brainrdl.exchange import netcdf
from brainrdl.files import atomic_path, read_json, write_json
from brainrdl.inference.splits import Split, category_splits, random_splits, stratified_splits
from brainrdl.rdms.combine import average_rdms
from brainrdl.rdms.labelled import label_rdms
from brainrdl.studies.brain.arms import arms_of, outcomes
from brainrdl.studies.brain.checks import check_study
from brainrdl.studies.brain.checksums import check_unchanged, checksums
from brainrdl.studies.brain.configuration import Configuration, configuration_hash
from brainrdl.studies.brain.inputs import Inputs, load_inputs
from brainrdl.studies.brain.outcomes import Outcome
from brainrdl.studies.brain.runs import Workshop
from brainrdl.studies.brain.scores import Scored, score_scheme
from brainrdl.studies.folder import calls_of, claimed, noted
from brainrdl.studies.paper.runs import device_name
from brainrdl.studies.reports.fit import write_report
from brainrdl.training.machine import choose_precision

_PACKAGES = ("brainrdl", "torch", "torchvision", "lightning-fabric", "numpy", "scipy", "xarray", "pandas")
_NOTES = (
    "Nothing is fitted to, or chosen on, a pair of stimuli of which one is held out, and nothing is scored on a pair "
    "of which one was fitted.",
    "Intervals are conditional on the trained networks: stimuli (and subjects, where there are at least eight) are "
    "resampled, and seeds averaged inside.",
)


@dataclass(frozen=True)
class Machine:
    """Where a study runs.

    Attributes
    ----------
    device : str
        ``auto``, ``cpu`` or ``cuda``.
    precision : str
        ``auto``, ``32-true`` or ``bf16-mixed``.
    threads : int or None
        CPU threads, torch's default if None.
    """

    device: str = "auto"
    precision: str = "auto"
    threads: int | None = None


def fit(
    configuration: Configuration,
    out: str | Path,
    *,
    data_dir: str | Path | None = None,
    machine: Machine | None = None,
    command: str = "",
    log: Callable[[str], None] = print,
) -> Path:
    """Run a study, or go on with it, and write its report.

    Task networks first; then, split by split, choices in inner folds and fits to the training stimuli; everything is
    scored when all fits are done.

    Parameters
    ----------
    configuration : Configuration
        The study, from `read_configuration`.
    out : path
        Where everything is left: a new folder, or one in which the same study was broken off.
    data_dir : path, optional
        Folder of the data sets known by name; the environment variable BRAINRDL_DATA where it is not given.
    machine : Machine, optional
        Device, precision, threads.
    command : str
        The command line, for the manifest.
    log : callable
        Told what is going on, a line at a time.

    Returns
    -------
    Path
        The report.

    Raises
    ------
    ValueError
        For a study that cannot be run, or a folder that holds another.
    FileNotFoundError
        If data are missing.
    BlockingIOError
        If another process works in the folder.
    FloatingPointError
        If a training died.

    Examples
    --------
    >>> from brainrdl.studies import fit, read_configuration
    >>> fit(read_configuration("examples/human_it.yaml"), "human_it")  # doctest: +SKIP
    PosixPath('human_it/report.html')
    """
    machine = machine or Machine()
    out = Path(out).resolve()
    if machine.threads is not None:
        torch.set_num_threads(machine.threads)
    fabric = _fabric(machine)
    inputs = load_inputs(configuration, data_dir)
    arms, splits = arms_of(configuration, inputs), _splits(configuration, inputs)
    check_study(configuration, inputs, arms, splits)
    call = {
        "command": command,
        "started": _now(),
        "device": device_name(fabric.device),
        "threads": torch.get_num_threads(),
    }
    read = checksums(configuration, inputs)
    check_unchanged(out, configuration, read)
    with claimed(out, frozen(configuration, fabric, read)):
        with noted(out, call) as note:
            workshop = Workshop(configuration, inputs, fabric, out, log)
            found = _all_outcomes(workshop, arms, splits, note)
            log("all fits are done: scoring them on held-out stimuli")
            scored = [
                score_scheme(folds, configuration, inputs, fitted=fitted, scored=name)
                for (fitted, _), folds in found.items()
                for name in configuration.studies
            ]
            _write_tables(workshop, found, scored)
            _write_rdms(workshop, found)
        _write_manifest(workshop, scored, read)
        return write_report(out)


def describe_plan(configuration: Configuration, data_dir: str | Path | None = None) -> str:
    """Read a study's data and say what it would run, without running it.

    Parameters
    ----------
    configuration : Configuration
    data_dir : path, optional
        As for `fit`.

    Returns
    -------
    str
        A few lines.

    Raises
    ------
    ValueError, FileNotFoundError
        As `fit`, before it begins.
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
        f"arms: {', '.join(arms)}",
        f"splits: {', '.join(f'{len(splits)} {scheme}' for scheme, splits in schemes.items())}",
        f"primary contrast: {primary.arm} − {primary.against}, fitted to {primary.fitted}, scored in {primary.scored}, "
        f"{primary.scheme}",
    ]
    return "\n".join(lines)


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
        except ValueError as error:
            raise ValueError(f"schemes.{scheme} cannot be had of these stimuli: {error}") from error
    return splits


def _all_outcomes(
    workshop: Workshop, arms: tuple[str, ...], splits: Mapping[str, Sequence[Split]], note: Callable[[], None]
) -> dict[tuple[str, str], dict[Split, list[Outcome]]]:
    """(fitted study, scheme) → split → outcomes; the primary contrast's first."""
    configuration = workshop.configuration
    primary = configuration.primary
    fitted_first = sorted(configuration.fit_to, key=lambda name: name != primary.fitted)
    order = [(fitted, scheme) for scheme in splits for fitted in fitted_first]
    order.sort(key=lambda both: both != (primary.fitted, primary.scheme))
    found: dict[tuple[str, str], dict[Split, list[Outcome]]] = {}
    for fitted, scheme in order:
        found[(fitted, scheme)] = {}
        for number, split in enumerate(splits[scheme], 1):
            workshop.log(f"[{number}/{len(splits[scheme])}] fitted to {fitted}, {scheme}, {split.name} held out")
            found[(fitted, scheme)][split] = list(outcomes(workshop, arms, fitted, split, cheap=scheme == "random"))
            note()
    return found


def _write_tables(
    workshop: Workshop, found: Mapping[tuple[str, str], Mapping[Split, Sequence[Outcome]]], scored: Sequence[Scored]
) -> None:
    folder = workshop.folder
    _write_table(pd.concat([one.scores for one in scored]), folder / "scores.csv")
    _write_table(pd.concat([one.summary for one in scored]), folder / "summary.csv")
    _write_table(pd.concat([one.contrasts for one in scored]), folder / "contrasts.csv")
    tries = [pd.DataFrame(read_json(path, list)) for path in sorted((folder / "choices").rglob("*.json"))]
    if tries:
        _write_table(pd.concat(tries), folder / "choices.csv")
    curves = [
        outcome.history.assign(arm=outcome.arm, fitted_study=fitted, scheme=scheme, split=split.name, seed=outcome.seed)
        for (fitted, scheme), folds in found.items()
        for split, of_split in folds.items()
        for outcome in of_split
        if not outcome.history.empty
    ]
    if curves:
        columns = ["arm", "fitted_study", "scheme", "split", "seed", "update", "task_loss", "rdm_loss", "task_error"]
        _write_table(pd.concat(curves)[columns], folder / "histories.csv")


def _write_table(table: pd.DataFrame, path: Path) -> None:
    with atomic_path(path) as temporary:
        table.to_csv(temporary, index=False, lineterminator="\n")


def _write_rdms(workshop: Workshop, found: Mapping[tuple[str, str], Mapping[Split, Sequence[Outcome]]]) -> None:
    """RDMs to be looked at: each brain, and a student before and after its fit."""
    configuration, inputs = workshop.configuration, workshop.inputs
    ids, primary = inputs.stimuli.ids, configuration.primary
    names, values = [], []
    for name, rdms in inputs.studies.items():
        mean = average_rdms(rdms, normalize="zscore") if "subject" in rdms.coords else rdms
        names.append(f"brain: {name}")
        values.append(mean.values[0])
    split, of_split = next(iter(found[(primary.fitted, primary.scheme)].items()))
    shown = {"before": primary.against, "after": primary.arm}
    for what, arm in shown.items():
        outcome = next(one for one in of_split if one.arm == arm and one.seed == 0)
        names.append(f"{what}: {arm}")
        values.append(_square(outcome.rdm, len(ids)))
    rdms = label_rdms(
        np.stack(values), ids, names, "undeclared", {"what": [name.partition(":")[0] for name in names]}
    ).assign_coords(category=("stimulus", [inputs.categories[stimulus] for stimulus in ids]))
    with atomic_path(workshop.folder / "rdms.nc") as temporary:  # float32: drawn, and never scored again
        netcdf.write(rdms.assign_attrs(held_out=json.dumps(split.held_out)), temporary, dtype="float32")
    with atomic_path(workshop.folder / "thumbnails.npz") as temporary, temporary.open("wb") as file:
        np.savez_compressed(file, ids=np.array(ids), images=inputs.thumbnails)


def _square(condensed: np.ndarray, n: int) -> np.ndarray:
    square = np.zeros((n, n))
    square[np.triu_indices(n, 1)] = condensed
    return square + square.T


def _write_manifest(workshop: Workshop, scored: Sequence[Scored], read: Mapping[str, Any]) -> None:
    configuration = workshop.configuration
    primary = configuration.primary
    dropped: list[dict[str, Any]] = []
    collapsed: list[dict[str, Any]] = []
    for one in scored:
        dropped += [entry for entry in one.dropped if entry not in dropped]
        collapsed += [entry for entry in one.collapsed if entry not in collapsed]
    write_json(
        {
            "brainrdl": version("brainrdl"),
            "created": _now(),
            "command": calls_of(workshop.folder)[-1]["command"],
            "title": configuration.title,
            "name": configuration.name,
            "configuration": configuration.model_dump(mode="json"),
            "configuration_hash": configuration_hash(configuration),
            "inputs": dict(read),
            "hardware": device_name(workshop.fabric.device),
            "platform": platform.platform(),
            "threads": torch.get_num_threads(),
            "precision": str(workshop.fabric._precision.precision),
            "versions": {package: version(package) for package in _PACKAGES},
            "calls": calls_of(workshop.folder),
            "notes": list(_NOTES),
            "primary": {
                "a": primary.arm,
                "b": primary.against,
                "fitted_study": primary.fitted,
                "scored_study": primary.scored,
                "scheme": primary.scheme,
                "method": configuration.method,
            },
            "dropped_controls": dropped,
            "collapsed_patterns": collapsed,
        },
        workshop.folder / "manifest.json",
    )


def frozen(configuration: Configuration, fabric: Fabric, read: Mapping[str, Any]) -> dict[str, Any]:
    """What a folder's study is and has read (`checksums`), and must stay."""
    return {
        "configuration": configuration.model_dump(mode="json"),
        "hash": configuration_hash(configuration),
        "device": device_name(fabric.device),
        "precision": str(fabric._precision.precision),
        "inputs": dict(read),
    }


def _fabric(machine: Machine) -> Fabric:
    accelerator = {"auto": "auto", "cpu": "cpu", "cuda": "cuda"}.get(machine.device)
    if accelerator is None:
        raise ValueError(f"unknown device {machine.device!r}; known are: auto, cpu, cuda")
    device = Fabric(accelerator=accelerator, devices=1).device
    return Fabric(accelerator=accelerator, devices=1, precision=choose_precision(device, machine.precision))


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
