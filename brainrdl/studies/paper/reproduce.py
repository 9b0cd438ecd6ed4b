"""One study from data to report, resumable: ``brainrdl reproduce``."""

import dataclasses
import platform
from collections import Counter
from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch

from brainrdl.files import read_json, versions, write_json
from brainrdl.studies.folder import calls_of, claimed, noted
from brainrdl.studies.jobs import beside, make_all
from brainrdl.studies.paper.recipe import Recipe
from brainrdl.studies.paper.runs import StudyRuns
from brainrdl.studies.paper.score import write_geometry, write_mds, write_rdms, write_results, write_teacher_output
from brainrdl.studies.paper.study import Request, Row, Study, check, frozen, plan
from brainrdl.studies.reports.paper import write_report
from brainrdl.training.machine import PACKAGES, describe_call, device_name, now, open_fabric, processor, use_threads


def reproduce(
    study: Study, request: Request, recipe: Recipe, *, command: str = "", log: Callable[[str], None] = print
) -> Path | None:
    """Run a study, or resume it, and write its report; None for a request that leaves the test set closed.

    `command` is for the manifest, which lists every call. ValueError for a request that cannot be met, or an output
    folder of another configuration; BlockingIOError if another process works in it.
    """
    threads = use_threads(request.threads or study.threads, processes=request.jobs)
    rows = plan(study, request)
    request = dataclasses.replace(request, out=request.out.resolve())
    splits = study.load(request)
    check(study, recipe, request, splits, rows)
    fabric = open_fabric(request.device, request.precision or study.precision)
    with claimed(request.out, frozen(study, recipe, request, splits, fabric)):
        with noted(request.out, describe_call(command, fabric)) as note:
            on_device = splits.on(fabric.device, request.test_limit)
            runs = StudyRuns(study, recipe, on_device, request, fabric, log=log)
            finished: list[Row] = []

            def done(row: Row) -> None:
                finished.append(row)
                log(f"[{len(finished)}/{len(rows)}] {row.name}")
                note()

            # where all runs are there, no further process has to read the data
            left = [row for row in rows if not (request.out / "runs" / row.name / "run.json").exists()]
            in_a_job = dataclasses.replace(request, threads=threads)
            with beside(request.jobs - 1 if left else 0, partial(_open_runs, study, recipe, in_a_job), rows):
                make_all(runs, rows, done=done, log=log)
            # the test set is opened when teachers, choices and runs are all done
            if request.unscored:  # so that further arms can be added before anyone has seen a score
                log("all runs are done; the test set stays closed until a call that is not unscored")
                return None
            rows = _all_rows(study, request, rows)
            log("all runs are done: scoring them on the test set")
            write_results(runs, rows)
            write_geometry(runs, rows)
            write_rdms(runs, rows)
            write_teacher_output(runs, rows)
            write_mds(runs, rows)
        _write_manifest(runs)
        return write_report(request.out)


def _open_runs(study: Study, recipe: Recipe, request: Request) -> StudyRuns:
    """Open the study in a further process."""
    use_threads(request.threads or study.threads, processes=request.jobs)
    fabric = open_fabric(request.device, request.precision or study.precision)
    splits = study.load(request).on(fabric.device, request.test_limit)
    return StudyRuns(study, recipe, splits, request, fabric, log=partial(print, flush=True))


def _all_rows(study: Study, request: Request, asked: list[Row]) -> list[Row]:
    """The rows asked for, and those found done from earlier invocations, in the study's order."""
    found = []
    for path in (request.out / "runs").glob("*/run.json"):
        record = read_json(path, dict, ("arm", "seed", "teacher", "labels"))
        found.append(Row(record["arm"], record["seed"], record["teacher"], record["labels"]))
    # teachers are scored only where they are asked for: a student's are made for it alone
    asked_teachers = any(row.of_teacher for row in asked)
    rows = set(asked) | {row for row in found if asked_teachers or not row.of_teacher}
    order = [arm.name for arm in study.arms]
    return sorted(rows, key=lambda row: (row.labels or 0, order.index(row.arm), row.teacher, row.seed))


def _write_manifest(runs: StudyRuns) -> None:
    calls = calls_of(runs.request.out)
    notes = []
    if runs.request.one_teacher:
        notes.append("One teacher of each kind serves all seeds: intervals over seeds are conditional on it.")
    # whatever was scored later could have been chosen with the first scores in view
    _, *later = read_json(runs.request.out / "scored.json", list)
    if later:
        added = ", ".join(name for names in later for name in names)
        notes.append(f"Runs added by a later call, after the test set had first been scored: {added}.")
    dead = [
        path.parent.name
        for path in sorted((runs.request.out / "runs").glob("*/run.json"))
        if read_json(path, dict, ("died",))["died"]
    ]
    if dead:
        notes.append(f"Runs that died in training (a loss was not finite): {', '.join(dead)}.")
    manifest = {
        "study": runs.study.name,
        "title": runs.study.title,
        "calls": {str(number): call for number, call in enumerate(calls, 1)},
        "created": now(),
        "duration_seconds": round(sum(call["seconds"] for call in calls), 1),
        "seconds_of_all_runs": round(_seconds(runs.request.out), 1),
        "versions": {"python": platform.python_version(), **versions((*PACKAGES, "scikit-learn"))},
        "hardware": {
            "trained_on": _trained_on(runs.request.out),
            "scored_on": device_name(runs.fabric.device),
            "processor": processor(),
            "threads": torch.get_num_threads(),
            "system": f"{platform.system()} {platform.machine()}",
        },
        "configuration": read_json(runs.request.out / "study.json", dict),
        "teacher_images": runs.splits.notes,
        "data": runs.splits.checksums,
        "one_teacher": runs.request.one_teacher,
        "baselines": {arm.name: arm.baseline for arm in runs.study.arms},
        "arms": {arm.name: {"label": arm.label, "about": arm.about, "family": arm.family} for arm in runs.study.arms},
        "classes": list(runs.splits.classes),
        "notes": notes,
    }
    write_json(manifest, runs.request.out / "manifest.json")


def _seconds(folder: Path) -> float:
    return sum(float(read_json(path, dict, ("seconds",))["seconds"]) for path in folder.rglob("run.json"))


def _trained_on(folder: Path) -> dict[str, int]:
    """Count the runs by the device that they were made on."""
    paths = sorted((folder / "runs").glob("*/run.json"))
    return dict(Counter(str(read_json(path, dict, ("device",))["device"]) for path in paths))
