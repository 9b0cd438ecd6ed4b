"""One study from data to report, resumable: ``brainrdl reproduce``."""

import dataclasses
import platform
from collections import Counter
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import torch

from brainrdl.files.store import read_json, versions, write_json
from brainrdl.progress import Bar, log as say_above, track, without_bars
from brainrdl.studies.folder import calls_of, claimed, noted, warnings_of
from brainrdl.studies.jobs import make_beside
from brainrdl.studies.paper.recipe import Recipe
from brainrdl.studies.paper.runs import StudyRuns
from brainrdl.studies.paper.score import write_geometry, write_mds, write_rdms, write_results, write_teacher_output
from brainrdl.studies.paper.study import Request, Row, Study, check, frozen, plan
from brainrdl.studies.paper.workload import epochs_left
from brainrdl.studies.reports.paper import write_report
from brainrdl.studies.study_threads import set_threads
from brainrdl.terminal import say
from brainrdl.training.functions import facts_of
from brainrdl.training.machine import PACKAGES, describe_call, device_name, now, open_fabric, processor, use_threads
from brainrdl.warned import warnings_given


def reproduce(
    study: Study, request: Request, recipe: Recipe, *, command: str = "", log: Callable[[str], None] = say_above
) -> Path | None:
    """Run a study, or resume it, and write its report; None for a request that leaves the test set closed.

    `command` is for the manifest, which lists every call. ValueError for a request that cannot be met, or an output
    folder of another configuration; BlockingIOError if another process works in it.
    """
    with warnings_given() as given:
        rows = plan(study, request)
        request = dataclasses.replace(request, out=request.out.resolve())
        splits = study.load(request)
        check(study, recipe, request, splits, rows)
        fabric = open_fabric(request.device, request.precision or study.precision)
        asked = request.threads or study.threads
        threads = set_threads(asked, fabric.device, request.out, processes=request.jobs, log=log)
        # not how data are loaded: their checksums say what came of it
        functions = facts_of(networks=study.networks, arms=study.arms, batches=study.batches)
        with claimed(request.out, frozen(study, recipe, request, splits, fabric), functions=functions):
            with noted(request.out, describe_call(command, fabric), given) as note:
                on_device = splits.on(fabric.device, request.test_limit)
                runs = StudyRuns(study, recipe, on_device, request, fabric, log=log)
                open_runs = partial(_open_runs, study, recipe, dataclasses.replace(request, threads=threads))
                # where all runs are there, no further process has to read the data
                left = [row for row in rows if not (request.out / "runs" / row.name / "run.json").exists()]
                n = request.jobs - 1 if left else 0
                # of several processes each knows its own share alone, and a line a run says how far all are
                with Bar(epochs_left(runs, rows), study.name) if not n else without_bars() as bar:
                    if isinstance(bar, Bar):
                        runs.advance = bar.advance
                    make_beside(runs, open_runs, rows, n=n, left=len(left), note=note, log=log)
                # the test set is opened when teachers, choices and runs are all done
                if request.unscored:  # so that further arms can be added before anyone has seen a score
                    log("all runs are done; the test set stays closed until a call that is not unscored")
                    return None
                rows = _all_rows(study, request, rows)
                log("all runs are done: scoring them on the test set")
                steps: list[Callable[[StudyRuns, list[Row]], object]] = [write_results, write_geometry, write_rdms]
                steps += [write_teacher_output, write_mds]
                for write in track(steps, "scoring", total=len(steps)):
                    write(runs, rows)
            _write_manifest(runs)
            return write_report(request.out)


def _open_runs(study: Study, recipe: Recipe, request: Request) -> StudyRuns:
    """Open the study in a further process."""
    use_threads(request.threads or study.threads, processes=request.jobs)
    fabric = open_fabric(request.device, request.precision or study.precision)
    splits = study.load(request).on(fabric.device, request.test_limit)
    return StudyRuns(study, recipe, splits, request, fabric, log=say)


def _all_rows(study: Study, request: Request, asked: list[Row]) -> list[Row]:
    """The rows asked for, and those found done from earlier invocations, in the study's order."""
    records = (record for _, record in _records(request.out / "runs"))
    found = [Row(record["arm"], record["seed"], record["teacher"], record["labels"]) for record in records]
    # teachers are scored only where they are asked for: a student's are made for it alone
    asked_teachers = any(row.of_teacher for row in asked)
    rows = set(asked) | {row for row in found if asked_teachers or not row.of_teacher}
    order = [arm.name for arm in study.arms]
    return sorted(rows, key=lambda row: (row.labels or 0, order.index(row.arm), row.teacher, row.seed))


def _write_manifest(runs: StudyRuns) -> None:
    out, calls, notes = runs.request.out, calls_of(runs.request.out), []
    if runs.request.one_teacher:
        notes.append("One teacher of each kind serves all seeds: intervals over seeds are conditional on it.")
    # whatever was scored later could have been chosen with the first scores in view
    _, *later = read_json(out / "scored.json", list)
    if later:
        added = ", ".join(name for names in later for name in names)
        notes.append(f"Runs added by a later call, after the test set had first been scored: {added}.")
    # of runs by name, and of every run, tries included
    records = {path.parent.name: record for path, record in _records(out / "runs")}
    seconds = sum(float(record["seconds"]) for _, record in _records(out))
    if dead := [name for name, record in records.items() if record["died"]]:
        notes.append(f"Runs that diverged (a loss was not finite): {', '.join(dead)}.")
    manifest = {
        "study": runs.study.name,
        "title": runs.study.title,
        "calls": {str(number): call for number, call in enumerate(calls, 1)},
        "created": now(),
        "duration_seconds": round(sum(call["seconds"] for call in calls), 1),
        "seconds_of_all_runs": round(seconds, 1),
        "versions": {"python": platform.python_version(), **versions((*PACKAGES, "scikit-learn"))},
        "hardware": {
            "trained_on": dict(Counter(str(record["device"]) for record in records.values())),
            "scored_on": device_name(runs.fabric.device),
            "processor": processor(),
            "threads": torch.get_num_threads(),
            "system": f"{platform.system()} {platform.machine()}",
        },
        "configuration": read_json(out / "study.json", dict),
        "teacher_images": runs.splits.notes,
        "data": runs.splits.checksums,
        "one_teacher": runs.request.one_teacher,
        "baselines": {arm.name: arm.baseline for arm in runs.study.arms},
        "arms": {arm.name: {"label": arm.label, "about": arm.about, "family": arm.family} for arm in runs.study.arms},
        "classes": list(runs.splits.classes),
        "notes": notes,
        **warnings_of(calls),
    }
    write_json(manifest, out / "manifest.json")


def _records(folder: Path) -> Iterator[tuple[Path, dict[str, Any]]]:
    """Read the records of all finished runs below a folder, in the order of their paths."""
    for path in sorted(folder.rglob("run.json")):
        yield path, read_json(path, dict, ("arm", "seed", "teacher", "labels", "died", "seconds", "device"))
