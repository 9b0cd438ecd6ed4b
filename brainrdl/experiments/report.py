"""One page about a study, made of the files that the study leaves behind and of nothing else."""

import base64
import json
import math
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd
import xarray as xr
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from matplotlib.figure import Figure
from numpy.typing import NDArray

from brainrdl.checkpoint import atomic_path
from brainrdl.experiments import paper, tables
from brainrdl.experiments.figures import (
    Shown,
    curve_figure,
    dots_figure,
    example_rdm,
    label_figure,
    map_figure,
    rdm_figure,
    render,
)
from brainrdl.labelled import check_rdms

_RESULTS = (
    *("row", "arm", "seed", "dataset", "train_size", "labels", "teacher", "teacher_size", "teacher_seed"),
    *("validation_error", "test_error", "alpha0", "epochs", "updates", "device", "precision", "seconds"),
)
_COLUMNS = {
    "results.csv": _RESULTS,
    "histories.csv": ("row", "arm", "teacher", "labels", "seed", "epoch", "task_error", "validation_error"),
    "geometry.csv": ("row", "arm", "labels", "seed", "teacher", "layer", "e_aux", "correlation"),
    "tries.csv": (
        *("arm", "labels", "teacher", "try", "setting"),
        *("validation_error", "validation_loss", "chosen", "seconds"),
    ),
}
_REQUIRED = ("results.csv", "correctness.npz", "manifest.json")

_TEACHERS = {
    "paper": "the paper's teacher",
    "clean": "the clean teacher",
    "labels": "the teacher trained on the labelled images alone",
}
_ABOUT_TEACHERS = {
    "paper": "As in the paper, trained on other images than its students: the manifest names them.",
    "clean": "Trained on deformations of the student's own training images only. All choices were made with it.",
    "labels": "Trained on the labelled images alone, so that it knows no label that its students lack.",
}
_ABOUT_ARMS = {
    "plain": "The network trained on the task alone.",
    "plain_readout": "The same with RDL's additional linear readout: RDL's paired control.",
    "teacher": "The teacher itself.",
    "finetuning": "Starts with the teacher's weights, then trained as plain.",
    "finetuning_replaced": "The same, with a new last layer of one unit per class.",
    "deep_supervision": "Linear classifiers on inner layers add to the loss.",
    "hints": "First trained to predict an inner layer of the teacher linearly, then on the task.",
    "rdl": "Representational distance learning: the mean squared difference of student's and teacher's RDMs adds to "
    "the loss, layer by layer.",
    "rdl_corr": "The same with 1 − Pearson r in place of the squared difference: it asks for the teacher's geometry, "
    "not for its scale.",
    "kd": "Knowledge distillation: the teacher's softened outputs.",
    "rkd": "Relational knowledge distillation: distances in units of their mean.",
    "sp": "Similarity-preserving distillation: normalised inner products within a batch.",
    "cka": "Centred kernel alignment between student and teacher.",
}
_NUMBERS = {
    "mnist": {
        "errors": "Table 3",
        "tests": "Table 2",
        "output": "Figure 1a",
        "rdms": "Figure 3",
        "curves": "Figure 2",
        "map": "Figure 4",
    },
    "cifar100": {
        "errors": "Table 3",
        "tests": "Table 5",
        "output": "Figure 1b",
        "curves": "Figure 5",
        "map": "Figure 6",
    },
}
_DATASETS = {"mnist": "MNIST", "cifar100": "CIFAR-100"}
_FAMILIES = ("paper-methods", "further-methods")
_FEW_SEEDS = 10
_CSS_PIXELS = 115  # per inch of a figure: a fifth larger than printed


@dataclass(frozen=True)
class StudyFiles:
    """What a study left behind, as read from its folder.

    Attributes
    ----------
    results : DataFrame
        One row per run.
    correctness : mapping of str to ndarray of bool, shape (test images,)
        By row.
    n_images : int
        Test images.
    manifest : dict
        How it was made.
    histories, geometry, tries : DataFrame or None
        None where the study left none.
    rdms, mds : DataArray or None
        Labelled RDMs of Figure 3, and distances between RDMs of Figure 4.
    """

    results: pd.DataFrame
    correctness: tables.Correctness
    n_images: int
    manifest: Mapping[str, Any]
    histories: pd.DataFrame | None = None
    geometry: pd.DataFrame | None = None
    tries: pd.DataFrame | None = None
    rdms: xr.DataArray | None = None
    mds: xr.DataArray | None = None


@dataclass(frozen=True)
class _Table:
    caption: str
    head: tuple[str, ...]
    rows: tuple[tuple[tuple[str, ...], ...], ...]  # a cell is its lines
    note: str = ""
    folded: bool = False
    kind: Literal["table"] = "table"


@dataclass(frozen=True)
class _Picture:
    name: str
    figure: Figure
    alt: str
    caption: str
    format: Literal["svg", "png"] = "svg"
    kind: Literal["picture"] = "picture"


@dataclass(frozen=True)
class _Section:
    id: str
    heading: str
    number: str  # of the paper's table or figure
    items: tuple[_Table | _Picture, ...]
    absent: str  # said where there are none


def write_report(folder: Path) -> Path:
    """Write a study's ``report.html``.

    Parameters
    ----------
    folder : Path
        With ``results.csv``, ``correctness.npz`` and ``manifest.json``; and, as far as there are any,
        ``histories.csv``, ``geometry.csv``, ``tries.csv``, ``rdms.nc`` and ``mds.nc``.

    Returns
    -------
    Path
        The report: one file that needs no other. Its figures are also left in ``figures/``.

    Raises
    ------
    FileNotFoundError
        If a required file is missing; all that are missing are named.
    ValueError
        If a file lacks a column, is damaged, or contradicts another.

    Examples
    --------
    >>> from pathlib import Path
    >>> from brainrdl.experiments.report import write_report
    >>> write_report(Path("out/mnist"))  # doctest: +SKIP
    PosixPath('out/mnist/report.html')
    """
    folder = Path(folder)
    study = read_study(folder)
    networks = tables.distinct_networks(study.results, one_teacher=_one_teacher(study))
    if networks.empty:
        raise ValueError(f"{folder / 'results.csv'} has no run with a test error; there is nothing to report")
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent), autoescape=True, undefined=StrictUndefined, trim_blocks=True
    )
    environment.globals["width"] = lambda picture: round(_CSS_PIXELS * picture.figure.get_figwidth())
    environment.globals["uri"] = lambda picture: _save(picture, folder / "figures")
    page = environment.get_template("report.html.jinja").render(
        title=str(study.manifest.get("title") or study.manifest["study"]),
        created=_date(str(study.manifest.get("created", ""))),
        summary=_unbroken(_summary(study, networks)),
        findings=[_unbroken(finding) for finding in _findings(study, networks)],
        sections=_sections(study, networks),
        notes=[str(note) for note in study.manifest.get("notes", ())],
        in_paper=_name(study) in paper.PAPER,
        one_teacher=_one_teacher(study),
        n_seeds=networks["seed"].nunique(),
        n_stimuli=0 if study.rdms is None else study.rdms.sizes["stimulus"],
        samples={} if study.mds is None else study.mds.attrs,
    )
    report = folder / "report.html"
    with atomic_path(report) as temporary:
        temporary.write_text(page, encoding="utf-8")
    return report


def read_study(folder: Path) -> StudyFiles:
    """Read what a study left behind, and check that its parts agree.

    Parameters
    ----------
    folder : Path
        As `write_report` takes it.

    Returns
    -------
    StudyFiles

    Raises
    ------
    FileNotFoundError
        If a required file is missing; all that are missing are named.
    ValueError
        If a file lacks a column, is damaged, or contradicts another.

    Examples
    --------
    >>> from pathlib import Path
    >>> from brainrdl.experiments.report import read_study
    >>> read_study(Path("nowhere"))
    Traceback (most recent call last):
    FileNotFoundError: nowhere lacks results.csv, correctness.npz, manifest.json; a report is made from what a study
    leaves in its folder: name the folder given to brainrdl reproduce as --out
    """
    folder = Path(folder)
    missing = [name for name in _REQUIRED if not (folder / name).is_file()]
    if missing:
        raise FileNotFoundError(
            f"{folder} lacks {', '.join(missing)}; a report is made from what a study leaves in its folder: name the "
            "folder given to brainrdl reproduce as --out"
        )
    results = _read_table(folder / "results.csv")
    correctness, n_images = _read_correctness(folder / "correctness.npz")
    manifest = _read_manifest(folder / "manifest.json")
    try:
        tables.check_results(results, correctness, one_teacher=bool(manifest.get("one_teacher", False)))
    except ValueError as error:
        raise ValueError(f"{folder}: {error}") from error
    return StudyFiles(
        results=results,
        correctness=correctness,
        n_images=n_images,
        manifest=manifest,
        **{
            name: _read_table(folder / f"{name}.csv") if (folder / f"{name}.csv").is_file() else None
            for name in ("histories", "geometry", "tries")
        },
        rdms=check_rdms(_read_array(folder / "rdms.nc")) if (folder / "rdms.nc").is_file() else None,
        mds=_read_array(folder / "mds.nc") if (folder / "mds.nc").is_file() else None,
    )


# ------------------------------------------------------------------------------------------------- files


def _read_table(path: Path) -> pd.DataFrame:
    text = {"row": str, "arm": str, "teacher": str, "dataset": str, "layer": str, "setting": str, "device": str}
    try:
        table = pd.read_csv(path, dtype=text)
    except (pd.errors.ParserError, pd.errors.EmptyDataError, UnicodeDecodeError) as error:
        raise ValueError(f"{path} is no CSV file, or is damaged: {error}") from error
    lacking = [column for column in _COLUMNS[path.name] if column not in table]
    if lacking:
        raise ValueError(f"{path} lacks the columns {', '.join(lacking)}; it has {', '.join(table.columns)}")
    return table.assign(teacher=table["teacher"].fillna(""))


def _read_correctness(path: Path) -> tuple[dict[str, NDArray[np.bool_]], int]:
    try:
        with np.load(path, allow_pickle=False) as file:
            arrays = {name: np.asarray(file[name]) for name in file.files}
    except (ValueError, OSError) as error:
        raise ValueError(f"{path} is no file of arrays, or is damaged: {error}") from error
    if "ids" not in arrays:
        raise ValueError(f"{path} lacks 'ids', the test images' ids; score the runs again")
    ids = arrays.pop("ids")
    for name, correct in arrays.items():
        if correct.dtype != np.bool_ or correct.shape != ids.shape:
            raise ValueError(
                f"{path} holds {correct.dtype} of shape {correct.shape} for {name!r}; expected bool of shape "
                f"{ids.shape}, one per test image"
            )
    return arrays, len(ids)


def _read_manifest(path: Path) -> dict[str, Any]:
    try:
        manifest = json.loads(path.read_text(encoding="utf-8"))
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"{path} is no JSON file, or is damaged: {error}") from error
    if not isinstance(manifest, dict) or "study" not in manifest:
        raise ValueError(f"{path} names no study; expected an object with the key 'study'")
    return manifest


def _read_array(path: Path) -> xr.DataArray:
    try:
        with xr.open_dataarray(path, engine="h5netcdf") as array:
            return array.load()
    except (OSError, ValueError) as error:
        raise ValueError(f"{path} is no netCDF file with one array, or is damaged: {error}") from error


def _save(picture: _Picture, folder: Path) -> str:
    """Leave a picture in a folder, and spell it as a data URI."""
    content = render(picture.figure, picture.format)
    with atomic_path(folder / f"{picture.name}.{picture.format}") as temporary:
        temporary.write_bytes(content)
    media = {"svg": "image/svg+xml", "png": "image/png"}[picture.format]
    return f"data:{media};base64,{base64.b64encode(content).decode('ascii')}"


# ----------------------------------------------------------------------------------------------- summary


def _summary(study: StudyFiles, networks: pd.DataFrame) -> str:
    """Say what was run."""
    students = networks[networks["arm"] != "teacher"]
    runs = students if len(students) else networks
    n_methods = len(runs[list(tables.METHOD)].drop_duplicates())
    sets = ", ".join(_DATASETS.get(name, name) for name in dict.fromkeys(map(str, networks["dataset"])))
    full, few = runs[runs["labels"].isna()], runs[runs["labels"].notna()]
    sizes = [f"{_span(full['train_size'])} {sets} images"] if len(full) else []
    sizes += [f"{_span(few['labels'])} labelled {sets} images beside unlabelled ones"] if len(few) else []
    parts = [
        f"{_count(len(runs), 'student network' if len(students) else 'network')} ({_count(n_methods, 'method')}, "
        f"{_count(len(set(runs['seed'])), 'seed')}), each trained on {' or on '.join(sizes)} for "
        f"{_span(runs['epochs'])} epochs and scored once on {study.n_images:,} test images, after all choices had been "
        "made on validation images."
    ]
    taught = networks[networks["teacher"] != ""]
    kinds = [
        f"{_TEACHERS.get(kind, kind)} ({_span(taught.loc[taught['teacher'] == kind, 'teacher_size'])} images)"
        for kind in _kinds(taught)
    ]
    if kinds:
        parts.append(f"They learnt from {' and '.join(kinds)}.")
    if _one_teacher(study):
        parts.append(
            "One teacher of each kind served all seeds: every claim about a taught method is conditional on that one "
            "teacher."
        )
    if len(set(runs["seed"])) > 1:
        parts.append("Brackets hold 95 % intervals, of a difference over seeds and test images.")
    died = study.results.loc[study.results["test_error"].isna(), "row"]
    if len(died):
        parts.append(f"{_count(len(died), 'run')} died in training and count nowhere: {', '.join(died)}.")
    unlisted = sorted(set(study.correctness) - set(study.results["row"]))
    if unlisted:
        parts.append(f"Scored, but not among the results and not used: {', '.join(unlisted)}.")
    published = paper.PAPER.get(_name(study))
    if published and set(full["train_size"]) - {published.train_size}:
        parts.append(
            f"The paper's students had {published.train_size:,} training images: its numbers stand beside these for "
            "orientation only."
        )
    return " ".join(parts)


def _findings(study: StudyFiles, networks: pd.DataFrame) -> list[str]:
    """Compare RDL with the networks that were not taught, for each kind of teacher."""
    found = []
    full = _with_labels(networks, None)
    few = networks[networks["labels"].notna()]
    for arm in ("rdl", "rdl_corr"):
        for control in ("plain", "plain_readout"):
            for runs, tell in ((full, _finding), (few, _finding_few)):
                if (runs["arm"] == control).any():
                    found += [tell(study, runs, (arm, kind), control) for kind in _kinds(runs[runs["arm"] == arm])]
    return found or ["There is no pair of RDL and plain runs to compare."]


def _finding(study: StudyFiles, runs: pd.DataFrame, method: tuple[str, str], control: str) -> str:
    compared = tables.difference(runs, study.correctness, method, (control, ""))
    name, other = tables.arm_name(method[0]), tables.arm_name(control)
    who = _capital(f"{name} with {_TEACHERS.get(method[1], method[1])}")
    if not compared.n_seeds:
        return f"{who} and {other} share no seed and are not compared."
    told = (
        f"{who}: test error {_number(compared.first)} % against {_number(compared.second)} % of {other}, "
        f"a difference of {_signed(compared.estimate)} points"
    )
    if compared.n_seeds == 1:
        of_both = [runs[_is(runs, which)] for which in (method, (control, ""))]
        (seed,) = set(of_both[0]["seed"]) & set(of_both[1]["seed"])
        p = float(tables.mcnemar_table(pd.concat(of_both), study.correctness, seed=seed)["p"].iloc[0])
        told += (
            " between two networks. There is one seed, hence no interval over trainings; for these two networks, "
            f"McNemar's exact test over images gives p {_p_equals(p)}{': no difference is shown' * (p >= 0.05)}."
        )
    else:
        told += f" {_range(compared.low, compared.high, signed=True)}. {_verdict(compared, name, other)}"
    return told + (_as_published(_name(study), method) if control == "plain" else "")


def _finding_few(study: StudyFiles, runs: pd.DataFrame, method: tuple[str, str], control: str) -> str:
    told = []
    for labels in sorted(runs["labels"].unique()):
        compared = tables.difference(_with_labels(runs, labels), study.correctness, method, (control, ""))
        if compared.n_seeds:
            spread = _range(compared.low, compared.high, signed=True) or "(one seed)"
            undecided = ", which holds 0," if compared.low <= 0 <= compared.high else ""
            told.append(f"{_signed(compared.estimate)} points {spread}{undecided} with {labels:,.0f} labelled images")
    who = f"{tables.arm_name(method[0])} with {_TEACHERS.get(method[1], method[1])}"
    if not told:
        return f"With few labels, {who} and {tables.arm_name(control)} share no seed and are not compared."
    return f"With few labels, {who} against {tables.arm_name(control)}: {'; '.join(told)}."


def _verdict(compared: tables.Difference, name: str, other: str) -> str:
    undecided = compared.low <= 0 <= compared.high
    seeds_undecided = compared.paired_low <= 0 <= compared.paired_high
    paired = _range(compared.paired_low, compared.paired_high, signed=True)
    if undecided:
        largest = max(-compared.low, compared.high)
        told = f"The interval holds 0: no difference is shown, and none larger than {_number(largest)} points."
        if not seeds_undecided:
            told += f" On this very test set the seeds do agree (paired t interval {paired})."
        return told
    told = _capital(f"{name} errs {'less' if compared.estimate < 0 else 'more'} than {other}.")
    if seeds_undecided:
        told += (
            f" But the paired t interval over the {compared.n_seeds} seeds, {paired}, holds 0: these seeds do not "
            "settle the matter."
        )
    return told


def _as_published(study: str, method: tuple[str, str]) -> str:
    theirs, plain = paper.published_error(study, *method), paper.published_error(study, "plain", "")
    if theirs is None or plain is None:
        return ""
    return f" The paper: {_number(theirs)} % against {_number(plain)} %, {_signed(theirs - plain)} points."


# ---------------------------------------------------------------------------------------------- sections


def _sections(study: StudyFiles, networks: pd.DataFrame) -> list[_Section]:
    numbers = _NUMBERS.get(_name(study), {})
    shown = _shown(networks)

    def section(key: str, heading: str, items: Iterable[_Table | _Picture], absent: str = "") -> _Section:
        return _Section(key, heading, numbers.get(key, ""), tuple(items), absent)

    sections = [
        section("errors", "Test errors", _errors(study, networks), "No run had all labels."),
        section("tests", "McNemar tests between methods", _tests(study, networks, shown), "There is only one method."),
        section("labels", "Few labels", _labels(study, networks)),
        section(
            "curves",
            "Errors during training",
            _curves(study, shown),
            "The study left no histories.csv, so there are no curves.",
        ),
        section("output", "A network's output as an RDM", _output(study)),
        section(
            "rdms",
            "RDMs of all layers",
            _rdms(study, shown),
            "The study left no rdms.nc, so there are no RDMs to show.",
        ),
        section(
            "map",
            "The methods' geometries as a map",
            _maps(study, shown),
            "The study left no mds.nc, so there is no map.",
        ),
        section(
            "geometry",
            "Distance to the teacher's geometry",
            _geometry(study),
            "The study left no geometry.csv, or no run has a teacher to be compared with.",
        ),
        section(
            "tries",
            "What was chosen on validation",
            _tries(study),
            "The study left no tries.csv, or nothing was to be chosen.",
        ),
        section("statistics", "How the numbers are made", (), " "),
        section("key", "Methods and teachers", _key(networks)),
        section("manifest", "How the study was run", _manifest(study)),
    ]
    return [section for section in sections if section.items or section.absent]


def _errors(study: StudyFiles, networks: pd.DataFrame) -> Iterator[_Table | _Picture]:
    runs = _with_labels(networks, None)
    if runs.empty:
        return
    table = tables.error_table(runs, study.correctness, study=_name(study))
    published = table.dropna(subset="paper").set_index("method")["paper"]
    yield _error_table(
        table, "Test error of each method, all training images labelled", _error_note(study, runs, table)
    )
    caption = "Test errors of single seeds."
    if (table["n_seeds"] > 1).any():
        caption = "Test errors: mean, 95 % t interval over seeds, and single seeds."
    if len(published):
        caption += " Diamonds: the paper's single networks."
    yield _Picture(
        "test-errors",
        dots_figure(runs, {str(method): float(error) for method, error in published.items()}),
        "Dot plot of the test error of each method; the numbers are those of the table above.",
        caption,
    )


def _error_table(table: pd.DataFrame, caption: str, note: str, *, tested: bool = False) -> _Table:
    head = ["method", "seeds", "test error, %", "difference to plain, points", "paired t over seeds", "McNemar p"]
    head += ["binomial SE", "validation error, %", "paper, %"]
    shown = dict.fromkeys(head, True) | {
        "paired t over seeds": bool(table["paired_low"].notna().any()),
        "McNemar p": tested,
        "paper, %": "paper" in table and bool(table["paper"].notna().any()),
    }
    rows = []
    for line in _records(table):
        untested = math.isnan(line.get("p", math.nan))
        cells = (
            (str(line["method"]),),
            (str(line["n_seeds"]),),
            _with_range(_number(line["test_error"]), line["low"], line["high"]),
            _with_range(_signed(line["difference"]), line["crossed_low"], line["crossed_high"], signed=True),
            (_range(line["paired_low"], line["paired_high"], signed=True),),
            ("",) if untested else (_p(line["p"]), f"{line['b']:.0f} : {line['c']:.0f}"),
            (_number(line["standard_error"]),),
            (_number(line["validation_error"]),),
            (_number(line.get("paper", math.nan)),),
        )
        rows.append(tuple(cell for cell, name in zip(cells, head, strict=True) if shown[name]))
    return _Table(caption, tuple(name for name in head if shown[name]), tuple(rows), note)


def _error_note(study: StudyFiles, runs: pd.DataFrame, table: pd.DataFrame) -> str:
    parts = ["A negative difference: errs less than plain."]
    if (table["n_seeds"] > 1).any():
        parts.append(
            "In brackets: of the error, the 95 % t interval over seeds; of the difference, the 95 % crossed bootstrap "
            "over seeds and images."
        )
    if (table["n_seeds"] == 1).any():
        parts.append("From one seed there is no interval over trainings.")
    shared = table.loc[table["n_shared"] > 1, "n_shared"]
    if len(shared) and shared.min() < _FEW_SEEDS:
        parts.append(
            f"With fewer than {_FEW_SEEDS} seeds the bootstrap comes out somewhat narrow: read the paired t interval "
            "beside it."
        )
    if (runs["arm"] == "teacher").any():
        parts.append("The teacher's row is plain training on the teacher's images.")
    if _one_teacher(study):
        parts.append("Conditional on one teacher of each kind.")
    return " ".join(parts)


def _tests(study: StudyFiles, networks: pd.DataFrame, shown: list[tuple[str, Shown]]) -> Iterator[_Table]:
    for name, methods in shown:
        runs = methods.methods(networks)
        runs = runs[runs["seed"] == runs["seed"].min()]
        comparable = methods.teacher in ("", "paper") and methods.labels is None and name.startswith(_FAMILIES[0])
        table = tables.mcnemar_table(runs, study.correctness, study=_name(study) if comparable else "")
        if len(table):
            yield _matrix(table, runs, methods, name)


def _matrix(table: pd.DataFrame, runs: pd.DataFrame, shown: Shown, family: str) -> _Table:
    """Ours above the diagonal, the paper's below."""
    methods = [
        (tables.method_name(arm, teacher), tables.arm_name(arm))
        for arm, teacher in zip(runs["arm"], runs["teacher"], strict=True)
    ]
    place = {name: k for k, (name, _) in enumerate(methods)}
    cells: list[list[tuple[str, ...]]] = [
        [("–",) if i == j else ("",) for j in range(len(methods))] for i in range(len(methods))
    ]
    for line in _records(table):
        i, j = place[line["first"]], place[line["second"]]
        arrow = {"": "", line["first"]: " ←", line["second"]: " ↑"}
        cells[i][j] = (
            _p(line["p"]) + arrow[line["better"]],
            f"Holm {_p(line['holm'])}",
            f"{line['b']} : {line['c']}",
        )
        if not math.isnan(line["paper_p"]):
            # below the diagonal rows and columns are swapped, and so are the arrows
            back = {"": "", line["first"]: " ↑", line["second"]: " ←"}
            cells[j][i] = (f"{line['paper_p']:.2f}".removeprefix("0") + back[line["paper_better"]],)
    rows = tuple(((name,), *cells[i]) for i, (_, name) in enumerate(methods))
    caption = (
        f"{_described(family, shown, runs)}: networks of seed {runs['seed'].iloc[0]}, {_count(len(table), 'test')}"
    )
    return _Table(caption, ("", *(name for _, name in methods)), rows)


def _labels(study: StudyFiles, networks: pd.DataFrame) -> Iterator[_Table | _Picture]:
    table = tables.labels_table(networks, study.correctness)
    if table.empty:
        return
    for kind in _kinds(networks[networks["labels"].notna()]) or [""]:
        shown = Shown(tuple(dict.fromkeys(networks["arm"])), kind)
        figure = label_figure(networks, shown)
        if figure is not None:
            yield _Picture(
                _slug("labels", kind),
                figure,
                "Test error against the number of labelled images, a line per method.",
                f"Test error against the number of labelled images{_taught_by(kind)}: means, 95 % t intervals over "
                "seeds, and single seeds.",
            )
    for labels, part in table.groupby("labels"):
        yield _error_table(part.drop(columns="labels"), f"{labels:,} labelled images", "", tested=True)


def _curves(study: StudyFiles, shown: list[tuple[str, Shown]]) -> Iterator[_Picture]:
    if study.histories is None:
        return
    for name, methods in shown:
        figure = curve_figure(study.histories, methods)
        if figure is not None:
            yield _Picture(
                f"curves-{name}",
                figure,
                "Training and validation error against epochs, a line per method.",
                f"{_described(name, methods, methods.methods(study.histories))}.",
            )


def _output(study: StudyFiles) -> Iterator[_Picture]:
    if study.rdms is not None and (study.rdms["layer"] == "softmax").any():
        alt = "RDM of a network's outputs for test images, ordered by class."
        yield _Picture("output-rdm", example_rdm(study.rdms), alt, "", "png")


def _rdms(study: StudyFiles, shown: list[tuple[str, Shown]]) -> Iterator[_Picture]:
    if study.rdms is None:
        return
    models = list(map(str, study.rdms["model"].to_numpy()))
    for kind, labels in {methods.teacher: methods.labels for _, methods in shown}.items():
        everyone = Shown(tuple(dict.fromkeys(arm for _, s in shown for arm in s.arms)), kind, labels)
        figure = rdm_figure(study.rdms, everyone)
        if figure is not None:
            names = everyone.models(models)
            yield _Picture(
                _slug("rdms", kind),
                figure,
                f"RDMs of {_count(len(names), 'network')} (rows), layer by layer (columns).",
                f"RDMs of all methods{_taught_by(kind)}{_labelled(everyone)}.",
                "png",
            )


def _maps(study: StudyFiles, shown: list[tuple[str, Shown]]) -> Iterator[_Picture]:
    if study.mds is None:
        return
    for name, methods in shown:
        drawn = map_figure(study.mds, methods)
        if drawn is not None:
            yield _Picture(
                f"map-{name}",
                drawn[0],
                "Each network's layers as a path of points from the pixels to the labels.",
                f"{_described(name, methods, None)}; stress-1 {drawn[1]:.3f}.",
            )


def _geometry(study: StudyFiles) -> Iterator[_Table]:
    if study.geometry is None or study.geometry.empty:
        return
    table = tables.geometry_table(study.geometry)
    for _, part in table.groupby(["labels", "teacher"], dropna=False, sort=False):
        kind, labels = str(part["teacher"].iloc[0]), float(part["labels"].iloc[0])
        layers = list(dict.fromkeys(part["layer"]))
        rows = []
        for method, lines in part.groupby("method", sort=False):
            at = {line["layer"]: line for line in _records(lines)}
            rows.append(((str(method),), *(_geometry_cell(at.get(layer), str(method)) for layer in layers)))
        few = not math.isnan(labels)
        caption = _capital(f"{_TEACHERS.get(kind, kind)}{f', {labels:,.0f} labelled images' if few else ''}")
        fold = few and bool(table["labels"].isna().any())
        yield _Table(caption, ("method", *layers), tuple(rows), folded=fold)


def _geometry_cell(line: Mapping[str, Any] | None, method: str) -> tuple[str, ...]:
    if line is None:
        return ("",)
    told = [f"{line['e_aux']:#.3g}" + (" ▼" if line["below"] else "")]
    if method != tables.arm_name("plain") and not math.isnan(line["ratio"]):
        told.append(f"{_share(line['ratio'])}, {line['n_below']} of {_count(line['n_shared'], 'seed')}")
    return (*told, f"r {_number(line['correlation'])}")


def _tries(study: StudyFiles) -> Iterator[_Table]:
    if study.tries is None or study.tries.empty:
        return
    table = tables.tries_table(study.tries)
    with_labels = bool(table["labels"].notna().any())
    head = ["method", *(["labels"] if with_labels else []), "setting", "validation error, %", "validation loss"]

    def start(line: Mapping[str, Any]) -> list[tuple[str, ...]]:
        count = ("all",) if math.isnan(line["labels"]) else (f"{line['labels']:,.0f}",)
        return [(str(line["method"]),), *([count] if with_labels else []), (str(line["setting"]),)]

    def end(line: Mapping[str, Any]) -> list[tuple[str, ...]]:
        if line["note"]:
            return [(str(line["note"]),), ("",)]
        return [(_number(line["validation_error"]),), (_number(line["validation_loss"], 4),)]

    lines = _records(table)
    yield _Table(
        "The setting that each method was given",
        tuple(head),
        tuple(tuple(start(line) + end(line)) for line in lines if line["chosen"]),
        "Chosen by validation error, then validation loss; the test set was not used. Each choice was made once and "
        "serves all seeds; where a kind of teacher is named, the choice was made with it and serves the others, too.",
    )
    yield _Table(
        f"All {_count(len(lines), 'candidate')}",
        (*head, "chosen", "time"),
        tuple(
            (*start(line), *end(line), ("✓" if line["chosen"] else "",), (_time(line["seconds"]),)) for line in lines
        ),
        folded=True,
    )


def _key(networks: pd.DataFrame) -> Iterator[_Table]:
    arms = [arm for arm in tables.ARM_NAMES if (networks["arm"] == arm).any()]
    yield _Table("Methods", ("method", "what it is"), tuple(((tables.arm_name(a),), (_ABOUT_ARMS[a],)) for a in arms))
    kinds = [kind for kind in _kinds(networks) if kind in _ABOUT_TEACHERS]
    if kinds:
        yield _Table("Teachers", ("teacher", "what it is"), tuple(((k,), (_ABOUT_TEACHERS[k],)) for k in kinds))


def _manifest(study: StudyFiles) -> Iterator[_Table]:
    flat = [
        (key, value) for key, value in _flat(study.manifest) if key.split(".")[0] not in ("notes", "classes", "title")
    ]
    classes = ", ".join(str(name) for name in study.manifest.get("classes", ()))
    rows = [*flat, *([("classes", classes)] if classes else [])]
    yield _Table("Manifest", ("field", "value"), tuple(((k,), (v,)) for k, v in rows), folded=True)
    columns = ["row", "train_size", "labels", "teacher_size", "teacher_seed", "alpha0", "epochs", "updates"]
    columns += ["validation_error", "test_error", "device", "precision"]
    yield _Table(
        f"All {_count(len(study.results), 'run')}",
        (*(column.replace("_", " ").replace("alpha0", "α₀") for column in columns), "time"),
        tuple(
            (*((_plain(line[column]),) for column in columns), (_time(line["seconds"]),))
            for line in _records(study.results)
        ),
        folded=True,
    )


# ----------------------------------------------------------------------------------------------- helpers


def _name(study: StudyFiles) -> str:
    return str(study.manifest["study"])


def _one_teacher(study: StudyFiles) -> bool:
    return bool(study.manifest.get("one_teacher", False))


def _records(table: pd.DataFrame) -> list[dict[str, Any]]:
    return [{str(key): value for key, value in line.items()} for line in table.to_dict("records")]


def _kinds(runs: pd.DataFrame) -> list[str]:
    """Kinds of teacher, in the order of a report."""
    return [str(kind) for kind in dict.fromkeys(tables.in_order(runs.assign(arm=""))["teacher"]) if kind]


def _is(runs: pd.DataFrame, method: tuple[str, str]) -> "pd.Series[bool]":
    return (runs["arm"] == method[0]) & (runs["teacher"] == method[1])


def _with_labels(networks: pd.DataFrame, labels: int | None) -> pd.DataFrame:
    return networks[networks["labels"].isna() if labels is None else networks["labels"] == labels]


def _shown(networks: pd.DataFrame) -> list[tuple[str, Shown]]:
    """What is shown together, with a name for its files: of each kind of teacher, the paper's and further methods."""
    students = networks[networks["arm"] != "teacher"]
    everyone = students if len(students) else networks
    labels = None if everyone["labels"].isna().any() else int(everyone["labels"].max())
    shown = []
    for kind in _kinds(networks) or [""]:
        here = networks[networks["teacher"].isin(("", kind))]
        for k, family in enumerate(tables.families(list(here["arm"]))):
            shown.append((_slug(_FAMILIES[k], kind), Shown(family, kind, labels)))
    return shown


def _described(name: str, shown: Shown, rows: pd.DataFrame | None) -> str:
    """Describe a group of methods in a caption."""
    family = "The paper's methods" if name.startswith(_FAMILIES[0]) else "RDL and further methods"
    taught = rows is None or (rows["teacher"] == shown.teacher).any()
    return family + (_taught_by(shown.teacher) if taught else "") + _labelled(shown)


def _taught_by(kind: str) -> str:
    return f", taught by {_TEACHERS.get(kind, kind)}" if kind else ""


def _labelled(shown: Shown) -> str:
    return "" if shown.labels is None else f", students with {shown.labels:,} labelled images"


def _slug(name: str, kind: str) -> str:
    """Name a file, whatever a kind of teacher is called."""
    return re.sub(r"\W+", "-", f"{name}-{kind}").strip("-")


def _flat(value: Any, field: str = "") -> Iterator[tuple[str, str]]:
    """Spell nested objects as (dotted field, value)."""
    if isinstance(value, Mapping):
        for key, inner in value.items():
            yield from _flat(inner, f"{field}.{key}" if field else str(key))
    elif isinstance(value, list):
        yield field, ", ".join(str(inner) for inner in value)
    else:
        yield field, str(value)


def _number(value: float, digits: int = 2) -> str:
    return "" if math.isnan(value) else f"{value:.{digits}f}".replace("-", "−")


def _signed(value: float) -> str:
    if math.isnan(value):
        return ""
    text = f"{value:+.2f}".replace("-", "−")
    return "0.00" if text in ("+0.00", "−0.00") else text


def _range(low: float, high: float, *, signed: bool = False) -> str:
    if math.isnan(low):
        return ""
    spell = _signed if signed else _number
    return f"[{spell(low)},\u00a0{spell(high)}]"


def _with_range(estimate: str, low: float, high: float, *, signed: bool = False) -> tuple[str, ...]:
    return tuple(part for part in (estimate, _range(low, high, signed=signed)) if part) or ("",)


def _p(p: float) -> str:
    return "<.001" if p < 0.001 else f"{p:.3f}".removeprefix("0")


def _p_equals(p: float) -> str:
    return _p(p) if p < 0.001 else f"= {_p(p)}"


def _unbroken(text: str) -> str:
    return text.replace(" %", "\u00a0%").replace(" points", "\u00a0points")


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]


def _share(ratio: float) -> str:
    return f"{100 * ratio:.0f} %" if ratio < 10 else f"{ratio:.0f} ×"


def _count(n: int, noun: str) -> str:
    return f"{n:,} {noun}{'' if n == 1 else 's'}"


def _span(values: "pd.Series[Any]") -> str:
    known = values.dropna()
    if known.empty:
        return "an unknown number of"
    low, high = int(known.min()), int(known.max())
    return f"{low:,}" if low == high else f"{low:,}–{high:,}"


def _time(seconds: float) -> str:
    if math.isnan(seconds):
        return ""
    if seconds < 100:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 6000 else f"{seconds / 3600:.1f} h"


def _plain(value: Any) -> str:
    if isinstance(value, float):
        return "" if math.isnan(value) else f"{value:,.0f}" if value == int(value) else f"{value:.4g}"
    return f"{value:,}" if isinstance(value, int) else str(value)


def _date(created: str) -> str:
    return created.split("T")[0]
