"""The study's files: the test set is opened, once per run and after all training, and everything is scored."""

import json
import zlib
from dataclasses import asdict
from itertools import chain, product
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np
import pandas as pd
import torch
import xarray as xr
from torch import Tensor, nn

from brainrdl.data.images import LabelledImages, to_float
from brainrdl.exchange import netcdf
from brainrdl.exchange.npz import load_arrays
from brainrdl.features.recorder import capture
from brainrdl.files.store import atomic_path, read_json, write_json, write_table
from brainrdl.rdms.distances import rdm
from brainrdl.rdms.labelled import label_rdms
from brainrdl.rdms.rounding import is_constant
from brainrdl.studies.kept import kept
from brainrdl.studies.paper.runs import FinishedTraining, StudyRuns
from brainrdl.studies.paper.study import Row
from brainrdl.studies.reports.paper_files import RESULTS
from brainrdl.training.randomness import derive_seed
from brainrdl.training.trainer import Trainer

_GEOMETRY_IMAGES = 1_000
_SHOWN_IMAGES = 100


def write_results(runs: StudyRuns, rows: list[Row]) -> pd.DataFrame:
    """Score all runs and write ``results.csv``, ``results.json``, ``correctness.npz`` and ``histories.csv``.

    Teachers with other classes than the students answer to their own test set, and their answers are in
    ``correctness-teachers.npz``. Returns what ``results.csv`` holds.
    """
    folder = runs.request.out
    tests = {False: runs.splits.test()}  # by whether it is the teachers' own
    if runs.splits.teacher_test is not None:
        tests[True] = runs.splits.teacher_test()
    finished = {row: runs.run(row) for row in rows}
    # before anything is scored: what is interrupted from here on has seen the test set
    _note_scoring(runs, rows)
    answers: dict[bool, dict[str, np.ndarray]] = {
        of_teachers: {"ids": np.array(test.ids)} for of_teachers, test in tests.items()
    }
    table, records, histories = [], [], []
    for row, run in finished.items():
        line = _line(runs, row, run)
        if run.model is not None:
            of_teachers = _has_own_data(runs, row)
            correct = _correct(runs, row, run.model, tests[of_teachers])
            answers[of_teachers][row.name] = correct
            line["test_error"] = 100 * float((~correct).mean())
            histories.append(_history(row, run))
        table.append(line)
        records.append({**line, **{key: run.record[key] for key in ("setting", "weights", "threads", "died")}})
    results = pd.DataFrame(table, columns=list(RESULTS))
    for column in ("labels", "teacher_size", "teacher_seed"):
        results[column] = results[column].astype("Int64")
    write_table(results, folder / "results.csv")
    # without the folders and the number of processes, which are one machine's
    no_part_of_it = ("out", "data_dir", "jobs", "checkpoint_every")
    request = {key: value for key, value in asdict(runs.request).items() if key not in no_part_of_it}
    rerun = {
        "study": runs.study.name,
        "recipe": asdict(runs.recipe),
        "request": request,
        "choices": {path.parent.name: read_json(path, list) for path in runs.choices()},
        "data": runs.splits.checksums,
        "rows": records,
    }
    write_json(rerun, folder / "results.json")
    if not histories:
        raise FloatingPointError(
            f"every run diverged (see {folder / 'results.json'}); lower the recipe's "
            "learning_rate or α₀ (alphas=) in another out="
        )
    for of_teachers, correctness in answers.items():
        name = "correctness-teachers.npz" if of_teachers else "correctness.npz"
        with atomic_path(folder / name) as temporary, temporary.open("wb") as file:
            np.savez_compressed(file, allow_pickle=False, **correctness)
    write_table(pd.concat(histories, ignore_index=True), folder / "histories.csv")
    tries = runs.tries()
    tries["setting"] = [json.dumps(setting, sort_keys=True) for setting in tries["setting"]]
    tries["labels"] = tries["labels"].astype("Int64")
    write_table(tries, folder / "tries.csv")
    return results


def write_geometry(runs: StudyRuns, rows: list[Row]) -> pd.DataFrame:
    """Measure how far each run's geometry is from its teacher's, on held-out images: ``geometry.csv``.

    E_aux (Eq. 2) over all pairs of 1,000 images, raw ``mse`` distances, and the correlation of the two RDMs. A run
    without a teacher is measured against each kind of teacher of its seed that has been trained.
    """
    # validation images, unless the networks have been trained on them
    held_out = runs.splits.students.validation if runs.splits.students.final is None else runs.splits.test()
    sample = runs.study.batches.tensor(held_out.take(range(min(_GEOMETRY_IMAGES, len(held_out)))))
    layers = list(runs.recipe.layers)
    kinds = list(dict.fromkeys(row.teacher for row in rows if row.teacher))
    of_teacher: dict[str, dict[str, Tensor]] = {}
    lines = []
    for row in rows:
        run = runs.run(row)
        if row.of_teacher or run.model is None:
            continue
        distances = _rdms(run.model, layers, sample, "mse")
        seed = runs.teacher_seed(row.seed)
        for kind in [row.teacher] if row.teacher else kinds:
            if not row.teacher and not runs.has_teacher(kind, seed, row.labels):
                continue
            taught_by = runs.teacher(kind, seed, row.labels)
            name = f"{kind}-{taught_by.record['labels']}-{taught_by.record['seed']}"
            if name not in of_teacher and taught_by.model is not None:
                of_teacher[name] = _rdms(taught_by.model, layers, sample, "mse")
            for layer in layers:
                d, t = distances[layer], of_teacher[name][layer]
                e_aux, r = (d - t).square().mean().item(), torch.corrcoef(torch.stack((d, t)))[0, 1].item()
                if any(is_constant(side.cpu().numpy()) for side in (d, t)):
                    r = np.nan  # of a collapsed layer; r would be that of its rounding
                lines.append((row.name, row.arm, row.labels, row.seed, kind, layer, e_aux, r))
    geometry = pd.DataFrame(lines, columns=["row", "arm", "labels", "seed", "teacher", "layer", "e_aux", "correlation"])
    geometry["labels"] = geometry["labels"].astype("Int64")
    write_table(geometry, runs.request.out / "geometry.csv")
    return geometry


def write_rdms(runs: StudyRuns, rows: list[Row]) -> None:
    """Write Figure 3's RDMs: 100 test images, euclidean, every layer of the first seed's networks (rdms.nc)."""
    # class by class, so that the blocks of an RDM show
    shown = _of_each_class(runs.splits.test())
    sample = runs.study.batches.tensor(shown)
    pixels, labels = _given_rdms(shown)
    rdms, models, layers = [], [], []
    for label, model in _networks(runs, rows):
        inside = _rdms(model, [*runs.recipe.layers, "softmax"], sample, "euclidean")
        for layer, distances in {"pixels": pixels, **inside, "labels": labels}.items():
            rdms.append(distances.cpu().numpy())
            models.append(label)
            layers.append(layer)
    _write_labelled(runs, "rdms.nc", shown, np.stack(rdms), models, layers)


def write_teacher_output(runs: StudyRuns, rows: list[Row]) -> None:
    """Write Figure 1b's RDM: the output of a teacher with other classes for its own test images (output.nc)."""
    if runs.splits.teacher_test is None:
        return
    shown = _of_each_class(runs.splits.teacher_test())
    row = min((row for row in rows if row.teacher), key=lambda row: row.seed, default=None)
    model = None if row is None else runs.teacher(row.teacher, runs.teacher_seed(row.seed), row.labels).model
    if row is not None and model is not None:
        output = _rdms(model, ["softmax"], runs.study.batches.tensor(shown), "euclidean")["softmax"].cpu().numpy()
        _write_labelled(runs, "output.nc", shown, output[None], [f"teacher ({row.teacher})"], ["softmax"])


def write_mds(runs: StudyRuns, rows: list[Row], *, n_samples: int = 20, n_images: int = 100) -> None:
    """Write Figure 4's distances: 1 − Pearson between RDMs, averaged over samples of distinct test images (mds.nc).

    A test set of no more than `n_images` is one sample, whole: further ones would be the same images again.
    """
    test = runs.splits.test()
    if len(test) <= n_images:
        n_samples, n_images = 1, len(test)
    networks = _networks(runs, rows)
    layers = [*runs.recipe.layers, "softmax"]
    inside = product((label for label, _ in networks), layers)
    points = [("pixels", "pixels"), *inside, ("labels", "labels")]
    # one generator for all samples, so that they are the same images whatever networks there are
    generator = torch.Generator().manual_seed(derive_seed(0, "mds samples"))
    # summed up, not kept: 20 samples of all networks and layers are one matrix
    total = np.zeros((len(points), len(points)))
    for _ in range(n_samples):
        images = test.take(torch.randperm(len(test), generator=generator)[:n_images])
        sample = runs.study.batches.tensor(images)
        pixels, labels = _given_rdms(images)
        in_networks = [list(_rdms(model, layers, sample, "euclidean").values()) for _, model in networks]
        rdms = [pixels, *chain(*in_networks), labels]
        values = torch.stack([distances.cpu() for distances in rdms]).numpy()
        values[[is_constant(row) for row in values]] = 0.0
        with np.errstate(invalid="ignore", divide="ignore"):
            total += 1 - np.corrcoef(values)
    # the constant RDM of a collapsed network correlates with nothing, and has no place on the map
    drawn = np.isfinite(np.diag(total))
    points, total = [point for point, kept in zip(points, drawn, strict=True) if kept], total[np.ix_(drawn, drawn)]
    distance = xr.DataArray(
        total / n_samples,
        dims=("point", "point_"),
        coords={"model": ("point", [m for m, _ in points]), "layer": ("point", [layer for _, layer in points])},
        name="distance",
        attrs={"n_samples": n_samples, "n_images": n_images, "metric": "euclidean", "comparison": "1 - pearson"},
    )
    with atomic_path(runs.request.out / "mds.nc") as temporary:
        netcdf.write_dataset(distance.to_dataset(), temporary)


def _given_rdms(images: LabelledImages) -> tuple[Tensor, Tensor]:
    """Compute the condensed Euclidean RDMs of pixels and of labels."""
    one_hot = torch.nn.functional.one_hot(images.labels, len(images.classes)).double()
    return rdm(to_float(images.images, images.top), "euclidean"), rdm(one_hot, "euclidean")


def _write_labelled(
    runs: StudyRuns, file: str, shown: LabelledImages, rdms: np.ndarray, models: list[str], layers: list[str]
) -> None:
    names = [f"{model}/{layer}" for model, layer in zip(models, layers, strict=True)]
    labelled = label_rdms(rdms, list(shown.ids), names, "euclidean", {"model": models, "layer": layers})
    classes = [shown.classes[int(label)] for label in shown.labels]
    labelled.attrs["provenance"] = json.dumps({"classes": classes, "study": runs.study.name, "seed": 0})
    with atomic_path(runs.request.out / file) as temporary:
        netcdf.write(labelled, temporary, dtype="float32")  # drawn, and never scored again


def _line(runs: StudyRuns, row: Row, run: FinishedTraining) -> dict[str, Any]:
    record = run.record
    validation = None
    trained_on_it = runs.splits.students.final is not None
    if run.model is not None and not trained_on_it and not _has_own_data(runs, row):
        # a teacher's own validation images may be others: the column means the same in every row
        loader = runs.study.batches.evaluation(runs.splits.students.validation)
        validation = Trainer(run.model, fabric=runs.fabric, threads=torch.get_num_threads()).evaluate(loader)["error"]
    shared = ("arm", "seed", "train_size", "labels", "teacher", "teacher_size", "teacher_seed")
    return {
        "row": row.name,
        "dataset": runs.study.teacher_dataset if _has_own_data(runs, row) else runs.study.name,
        **{key: record[key] for key in shared},
        "validation_error": validation,
        "test_error": None,
        "alpha0": record["setting"].get("alpha0"),
        **{key: record[key] for key in ("epochs", "updates", "device", "precision", "seconds")},
    }


def _has_own_data(runs: StudyRuns, row: Row) -> bool:
    """Tell if a run is a teacher with other classes, and so another test set, than the students."""
    return row.of_teacher and runs.splits.teacher_test is not None


def _note_scoring(runs: StudyRuns, rows: list[Row]) -> None:
    """Keep which rows were scored by which opening of the test set (``scored.json``)."""
    path = runs.request.out / "scored.json"
    before = read_json(path, list) if path.exists() else []
    known = {name for names in before for name in names}
    new = [row.name for row in rows if row.name not in known]
    if new:
        write_json([*before, new], path)


def _history(row: Row, run: FinishedTraining) -> pd.DataFrame:
    identity = {"row": row.name, "arm": row.arm, "teacher": row.teacher, "labels": row.labels, "seed": row.seed}
    return run.history.assign(**identity)[[*identity, *run.history]]


@torch.no_grad()
def _correct(runs: StudyRuns, row: Row, model: nn.Module, test: LabelledImages) -> np.ndarray:
    """Compute which test images a run's network answers correctly, once; (n,) bool."""

    def make() -> np.ndarray:
        model.to(runs.fabric.device).eval()
        answers = [model(images).argmax(dim=1) == labels for images, labels in runs.study.batches.evaluation(test)]
        return torch.cat(answers).cpu().numpy()

    def write(correct: np.ndarray, path: Path) -> None:
        with atomic_path(path) as temporary, temporary.open("wb") as file:
            np.savez_compressed(file, correct=correct)

    path = runs.request.out / "runs" / row.name / "test.npz"
    return kept(path, make, write=write, read=lambda path: _read_answers(path, len(test)))


def _read_answers(path: Path, n_images: int) -> np.ndarray:
    """Read the answers of a run that has been scored."""
    remedy = "remove it to have the run scored again"
    try:
        arrays = load_arrays(path)
        if "correct" not in arrays:
            raise KeyError("correct is not a file in the archive")
        correct = arrays["correct"]
    except (OSError, EOFError, KeyError, TypeError, ValueError, BadZipFile, zlib.error) as error:
        raise ValueError(f"{path} is damaged ({type(error).__name__}: {error}); {remedy}") from error
    if correct.dtype != np.bool_ or correct.shape != (n_images,):
        raise ValueError(
            f"{path} holds {correct.dtype} of shape {correct.shape}, expected bool of shape {(n_images,)}, one per "
            f"test image; {remedy}"
        )
    return correct


@torch.no_grad()
def _rdms(model: nn.Module, layers: list[str], images: Tensor, metric: str) -> dict[str, Tensor]:
    """Condensed RDMs of layers, ``softmax`` among them, of a network in eval mode."""
    model.to(images.device).eval()
    output, features = capture(model, [layer for layer in layers if layer != "softmax"], images)
    features["softmax"] = output.double().softmax(dim=1)
    return {layer: rdm(features[layer], metric) for layer in layers}


def _networks(runs: StudyRuns, rows: list[Row]) -> list[tuple[str, nn.Module]]:
    """The first seed's networks of all arms, with all labels where there are such runs, by what figures call them."""
    # a figure of all seeds would show the same layers many times over
    first = min(row.seed for row in rows)
    all_labels = [row for row in rows if row.labels is None and not row.of_teacher]
    shown = [row for row in rows if row.seed == first and (row.labels is None or not all_labels)]
    networks = []
    for row in shown:
        if (model := runs.run(row).model) is not None:
            labels = "" if row.labels is None else f" {row.labels} labels"
            networks.append((row.arm + (f" ({row.teacher})" if row.teacher else "") + labels, model))
    return networks


def _of_each_class(images: LabelledImages) -> LabelledImages:
    """About 100 images, class by class, the first ones of each."""
    labels, n_classes = images.labels.cpu(), len(images.classes)
    n = max(1, _SHOWN_IMAGES // n_classes)
    return images.take(torch.cat([torch.nonzero(labels == label).flatten()[:n] for label in range(n_classes)]))
