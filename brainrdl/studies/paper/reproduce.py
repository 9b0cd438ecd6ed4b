"""One study from data to report, resumable; and one committed row again."""

import dataclasses
import platform
import sys
from collections import Counter
from collections.abc import Callable
from datetime import UTC, datetime
from functools import partial
from importlib.metadata import version
from pathlib import Path

import torch
from lightning_fabric import Fabric

from brainrdl.data import LabelledImages
from brainrdl.files import read_json, write_json
from brainrdl.identity import differences
from brainrdl.inference import binomial_standard_error
from brainrdl.studies.folder import calls_of, claimed, noted
from brainrdl.studies.jobs import beside, make_all
from brainrdl.studies.paper.recipe import Recipe
from brainrdl.studies.paper.replay import read_row
from brainrdl.studies.paper.runs import Lab, device_name
from brainrdl.studies.paper.score import write_geometry, write_mds, write_rdms, write_results, write_teacher_output
from brainrdl.studies.paper.study import Request, Row, Splits, Study, check, frozen, plan
from brainrdl.studies.reports.paper import write_report
from brainrdl.training.machine import choose_precision

_PACKAGES = (
    "brainrdl",
    "torch",
    "torchvision",
    "lightning-fabric",
    "numpy",
    "scipy",
    "scikit-learn",
    "xarray",
    "pandas",
)


def reproduce(
    study: Study, request: Request, recipe: Recipe, *, command: str = "", log: Callable[[str], None] = print
) -> Path | None:
    """Run a study, or go on with it, and write its report.

    Teachers, then choices on validation, then the runs; the test set is opened when all of them are done, and not
    even then if the request says so.

    Parameters
    ----------
    study : Study
        The study.
    request : Request
        What is asked of it.
    recipe : Recipe
        Its recipe, with what the user changed.
    command : str
        The command line, for the manifest, which lists every call.
    log : callable
        Told what is going on, a line at a time.

    Returns
    -------
    Path or None
        The report; None for a request that leaves the test set closed.

    Raises
    ------
    ValueError
        For a request that cannot be met, or an output folder of another configuration.
    BlockingIOError
        If another process works in the output folder.
    """
    threads = _use_threads(study, request)
    rows = plan(study, request)
    request = dataclasses.replace(request, out=request.out.resolve())
    splits = study.load(request)
    check(study, recipe, request, splits, rows)
    fabric = _fabric(study, request)
    call = {
        "command": command,
        "started": _now(),
        "device": device_name(fabric.device),
        "threads": torch.get_num_threads(),
    }
    with claimed(request.out, frozen(study, recipe, request, splits, fabric)):
        with noted(request.out, call) as note:
            lab = Lab(study, recipe, _on(splits, fabric.device, request.test_limit), request, fabric, log=log)
            finished: list[Row] = []

            def done(row: Row) -> None:
                finished.append(row)
                log(f"[{len(finished)}/{len(rows)}] {row.name}")
                note()

            left = [row for row in rows if not (request.out / "runs" / row.name / "run.json").exists()]
            in_a_job = dataclasses.replace(request, threads=threads)
            with beside(request.jobs - 1 if left else 0, partial(_lab, study, recipe, in_a_job), rows):
                make_all(lab, rows, done=done, log=log)
            if request.unscored:
                log("all runs are done; the test set stays closed until a call without --unscored")
                return None
            rows = _all_rows(study, request, rows)
            log("all runs are done: scoring them on the test set")
            write_results(lab, rows)
            write_geometry(lab, rows)
            write_rdms(lab, rows)
            write_teacher_output(lab, rows)
            write_mds(lab, rows)
        _write_manifest(lab)
        return write_report(request.out)


def replay(study: Study, source: Path, row_name: str, request: Request, *, log: Callable[[str], None] = print) -> bool:
    """Repeat one row of a ``results.json`` from scratch and compare.

    Parameters
    ----------
    study : Study
        The study that the file is of.
    source : path
        The ``results.json``.
    row_name : str
        The row's name.
    request : Request
        Where the data is and where to work; the rest comes from the file.
    log : callable
        Told what is going on, a line at a time.

    Returns
    -------
    bool
        Whether the row came out again: bitwise the same weights and the same test error; or, with other weights, a
        test error within 3 binomial standard errors.

    Raises
    ------
    ValueError
        If the file is damaged, of another study, has no such row, or was made from other data; or if the row's run
        died.
    """
    _use_threads(study, request)
    recorded = read_row(source, row_name, study.name)
    if request.out.exists() and any(request.out.iterdir()):
        raise ValueError(f"{request.out} is not empty; a row is repeated from scratch, so name a new folder with --out")
    request = dataclasses.replace(request, out=request.out.resolve(), **recorded.asked)
    splits = study.load(request)
    if splits.checksums != recorded.data:
        raise ValueError(
            f"{source} was made from other data: {'; '.join(differences(recorded.data, splits.checksums))}"
        )
    check(study, recorded.recipe, request, splits, [recorded.row])
    fabric = _fabric(study, request)
    with claimed(request.out, frozen(study, recorded.recipe, request, splits, fabric)):
        for name, entries in recorded.choices.items():
            write_json(entries, request.out / "tries" / name / "choice.json")
        lab = Lab(study, recorded.recipe, _on(splits, fabric.device, request.test_limit), request, fabric, log=log)
        run = lab.run(recorded.row)
        now = float(write_results(lab, [recorded.row]).iloc[0]["test_error"])
    log(f"{row_name}: test error {recorded.test_error:.2f} % recorded, {now:.2f} % now")
    if run.record["weights"] == recorded.weights:
        same = abs(now - recorded.test_error) < 1e-9
        log("bitwise the same weights" + ("" if same else f", but another test error; {source} has been changed"))
        return same
    error = binomial_standard_error(recorded.test_error, len(splits.test()))
    near = abs(now - recorded.test_error) <= 3 * error
    log(
        f"other weights (recorded on {recorded.made_on}); test errors "
        + ("agree" if near else "differ by more than")
        + (f" within 3 binomial standard errors ({3 * error:.2f} points)" if near else f" {3 * error:.2f} points")
    )
    return near


def _lab(study: Study, recipe: Recipe, request: Request) -> Lab:
    """The Lab of a further process."""
    _use_threads(study, request)
    fabric = _fabric(study, request)
    splits = _on(study.load(request), fabric.device, request.test_limit)
    return Lab(study, recipe, splits, request, fabric, log=partial(print, flush=True))


def _use_threads(study: Study, request: Request) -> int:
    """Set how many CPU threads this process uses, and say how many: each of several processes its share."""
    threads = request.threads or study.threads
    if threads is None and request.jobs > 1:
        threads = max(1, torch.get_num_threads() // request.jobs)
    if threads is not None:
        torch.set_num_threads(threads)
    return torch.get_num_threads()


def _all_rows(study: Study, request: Request, asked: list[Row]) -> list[Row]:
    """The rows asked for, and those found done from earlier invocations, in the study's order."""
    found = []
    for path in (request.out / "runs").glob("*/run.json"):
        record = read_json(path, dict, ("arm", "seed", "teacher", "labels"))
        found.append(Row(record["arm"], record["seed"], record["teacher"], record["labels"]))
    asked_teachers = any(row.arm == "teacher" for row in asked)
    rows = set(asked) | {row for row in found if row.arm != "teacher" or asked_teachers}
    order = [arm.name for arm in study.arms]
    return sorted(rows, key=lambda row: (row.labels or 0, order.index(row.arm), row.teacher, row.seed))


def _fabric(study: Study, request: Request) -> Fabric:
    device = request.device
    accelerator = ("cuda" if torch.cuda.is_available() else "cpu") if device == "auto" else device
    if accelerator == "cuda" and not torch.cuda.is_available():
        raise ValueError("--device cuda: torch finds no CUDA device here; take --device cpu or auto")
    precision = choose_precision(torch.device(accelerator), request.precision or study.precision)
    return Fabric(accelerator=accelerator, devices=1, precision=precision)


def _on(splits: Splits, device: torch.device, test_limit: int | None) -> Splits:
    """Move the images to the device as they are opened, and leave out test images beyond the limit."""

    def opened(test: Callable[[], LabelledImages]) -> Callable[[], LabelledImages]:
        def images() -> LabelledImages:
            whole = test()
            return whole.take(range(min(test_limit or len(whole), len(whole)))).to(device)

        return images

    return dataclasses.replace(
        splits,
        students=splits.students.to(device),
        test=opened(splits.test),
        teacher_test=None if splits.teacher_test is None else opened(splits.teacher_test),
    )


def _write_manifest(lab: Lab) -> None:
    calls = calls_of(lab.request.out)
    notes = []
    if lab.request.one_teacher:
        notes.append("One teacher of each kind serves all seeds: intervals over seeds are conditional on it.")
    _, *later = read_json(lab.request.out / "scored.json", list)
    if later:
        added = ", ".join(name for names in later for name in names)
        notes.append(f"Runs added by a later call, after the test set had first been scored: {added}.")
    dead = [
        path.parent.name
        for path in sorted((lab.request.out / "runs").glob("*/run.json"))
        if read_json(path, dict, ("died",))["died"]
    ]
    if dead:
        notes.append(f"Runs that died in training (a loss was not finite): {', '.join(dead)}.")
    manifest = {
        "study": lab.study.name,
        "title": lab.study.title,
        "calls": {str(number): call for number, call in enumerate(calls, 1)},
        "created": _now(),
        "duration_seconds": round(sum(call["seconds"] for call in calls), 1),
        "seconds_of_all_runs": round(_seconds(lab.request.out), 1),
        "versions": {"python": platform.python_version(), **{name: version(name) for name in _PACKAGES}},
        "hardware": {
            "trained_on": _trained_on(lab.request.out),
            "scored_on": device_name(lab.fabric.device),
            "processor": _processor(),
            "threads": torch.get_num_threads(),
            "system": f"{platform.system()} {platform.machine()}",
        },
        "configuration": read_json(lab.request.out / "study.json", dict),
        "teacher_images": lab.splits.notes,
        "data": lab.splits.checksums,
        "one_teacher": lab.request.one_teacher,
        "baselines": {arm.name: arm.baseline for arm in lab.study.arms},
        "classes": list(lab.splits.classes),
        "notes": notes,
    }
    write_json(manifest, lab.request.out / "manifest.json")


def _seconds(folder: Path) -> float:
    return sum(float(read_json(path, dict, ("seconds",))["seconds"]) for path in folder.rglob("run.json"))


def _trained_on(folder: Path) -> dict[str, int]:
    """How many runs were made on which device."""
    paths = sorted((folder / "runs").glob("*/run.json"))
    return dict(Counter(str(read_json(path, dict, ("device",))["device"]) for path in paths))


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


def _processor() -> str:
    if sys.platform == "linux":
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.processor()
