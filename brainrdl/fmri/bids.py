"""Find a task's runs in a BIDS data set: images, events, confounds, masks, repetition time.

The files of a run are joined on the entities in their names (``sub``, ``ses``, ``run``, …), never on their place in a
list. Sidecars and events may lie higher up, as BIDS' inheritance allows. ``run-1`` and ``run-01`` are one run. Hidden
files, such as the ``._`` files that macOS leaves beside the real ones, are none of the data set.
"""

import warnings
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple, SupportsIndex

from brainrdl.arguments import did_you_mean, name_some
from brainrdl.files.present import check_scans_folder
from brainrdl.fmri.sidecars import SliceTime, read_sidecar, repetition_time, slice_time

_DERIVED = ("space", "res", "den", "desc", "hemi", "label", "cohort")
"""Entities that only derivatives bear."""

_NUMBERED = ("sub", "ses", "run", "echo", "split", "inv", "flip", "chunk")
"""Entities whose values may be numbers, which are padded with zeros in some names and not in others."""


class Run(NamedTuple):
    """The files of one run; names without ``sub-``, ``ses-`` and ``run-``, empty where the file's name has none."""

    subject: str
    session: str
    run: str
    image: Path
    events: Path
    confounds: Path | None
    brain_mask: Path | None
    t_r: float  # seconds, by the sidecars
    root: Path
    slice_time: SliceTime  # by the sidecars

    @property
    def label(self) -> str:
        """Name of the run within its subject."""
        parts = (("ses", self.session), ("run", self.run))
        return "/".join(f"{entity}-{value}" for entity, value in parts if value) or "run"


def find_runs(
    bids_dir: str | Path,
    task: str,
    *,
    derivatives: str | None = "derivatives",
    space: str | None = None,
    res: str | None = None,
    subjects: Sequence[str | SupportsIndex] | None = None,
) -> list[Run]:
    """Find the runs of a task.

    Parameters
    ----------
    bids_dir : path
        The raw data set.
    task : str
        Task of the runs, as in ``task-<task>``.
    derivatives : str or None
        Folder of the preprocessed images, relative to `bids_dir`; where it holds one pipeline's folder, that one.
        None: the raw images.
    space, res : str, optional
        Space and resolution of the images, as in ``space-<space>``; needed where there are several.
    subjects : sequence of str or int, optional
        With or without ``sub-``, each once; all by default. A number is meant whatever zeros precede it in the data
        set: 1, ``1`` and ``01`` are ``sub-01`` where no other subject is.

    Returns
    -------
    list of Run
        Runs, sorted by subject, session and run.

    Raises
    ------
    FileNotFoundError, ValueError
        If the folder is no BIDS data set, nothing is found, a name leaves open which of several files is meant, a run
        has no events or no repetition time, or a sidecar's slice timing cannot be.

    Examples
    --------
    >>> find_runs("ds000105", "objectviewing", space="MNI152NLin2009cAsym")  # doctest: +SKIP
    [Run(subject='1', session='', run='01', ...
    """
    root = Path(bids_dir)
    check_scans_folder(root)
    if not (root / "dataset_description.json").is_file():
        raise FileNotFoundError(f"{root} has no dataset_description.json, so it is no BIDS data set")
    folder = root if derivatives is None else _pipeline(root / derivatives)
    wanted = _subjects(folder, subjects)
    images = [
        path
        for subject in wanted
        for path in _files(folder / f"sub-{subject}", "**/func/*_bold.nii*")
        if entities(path).get("task") == task and entities(path).get("desc", "preproc") == "preproc"
    ]
    if not images:
        tasks = {entities(path).get("task", "") for path in _files(folder, "sub-*/**/func/*_bold.nii*")}
        known = f"; its tasks are {name_some(sorted(tasks))}{did_you_mean(task, tasks)}" if tasks else ""
        raise FileNotFoundError(f"no preprocessed image of task {task!r} in {folder}{known}")
    for entity, value in (("space", space), ("res", res)):
        images = _only(images, entity, value, folder)
    runs = [_run(root, folder, image) for image in images]
    seen: dict[tuple[str, str, str], Path] = {}
    for run in runs:
        other = seen.setdefault((run.subject, run.session, _value("run", run.run)), run.image)
        # two images of one run, such as two descriptions of it, would count it twice
        if other != run.image:
            raise ValueError(f"{other} and {run.image} are of one run; leave one of them in the folder")
    lacking = [subject for subject in wanted if not any(_same("sub", subject, run.subject) for run in runs)]
    if lacking and subjects is not None:
        raise FileNotFoundError(f"no image of task {task!r} of subject {name_some(lacking)} in {folder}")
    return sorted(runs, key=lambda run: (run.subject, run.session, run.run))


def warn_of_raw(root: Path, task: str, runs: Sequence[Run], *, derivatives: str | None, all_subjects: bool) -> None:
    """Warn of runs whose raw images were not preprocessed, of all subjects or of those that `runs` are of."""
    if derivatives is None:
        return
    there = {(_value("sub", run.subject), _value("ses", run.session), _value("run", run.run)) for run in runs}
    subjects = {subject for subject, _, _ in there}
    lacking: dict[tuple[str, str, str], str] = {}
    for path in _files(root, "sub-*/func/*_bold.nii*") + _files(root, "sub-*/ses-*/func/*_bold.nii*"):
        of_raw = entities(path)
        subject, session, run = (_value(entity, of_raw.get(entity, "")) for entity in ("sub", "ses", "run"))
        # a session may be named in the derivatives only
        done = any((subject, run) == (one[0], one[2]) and session in ("", one[1]) for one in there)
        if of_raw.get("task") == task and (all_subjects or subject in subjects) and not done:
            named = {entity: of_raw[entity] for entity in of_raw if entity in ("sub", "ses", "run")}
            lacking[subject, session, run] = _format(named)  # once for all echoes
    if lacking:
        warnings.warn(
            f"{len(lacking)} of {len(lacking) + len(there)} runs of task {task!r} have a raw image in {root} and no "
            f"preprocessed one in {_pipeline(root / derivatives)}, and are left out: "
            f"{name_some(list(lacking.values()))}; finish the preprocessing, or name the subjects that are meant "
            "(subjects=)",
            UserWarning,
            stacklevel=3,
        )


def entities(path: Path) -> dict[str, str]:
    """Read the entities of a BIDS file name: {'sub': '01', 'task': 'rest'} of ``sub-01_task-rest_bold.nii.gz``."""
    parts = [part.partition("-") for part in path.name.split("_")[:-1]]
    return {key: value for key, dash, value in parts if dash}


def _files(folder: Path, pattern: str) -> list[Path]:
    """Files and folders below a folder that are not hidden, nor in a hidden folder, by name."""
    try:
        found = sorted(folder.glob(pattern))
    except RecursionError:
        raise ValueError(f"{folder} has folders too deep within folders; are they a mistake?") from None
    return [path for path in found if not any(part.startswith(".") for part in path.relative_to(folder).parts)]


def _value(entity: str, value: str) -> str:
    """The value of an entity as it is compared: numbers without the zeros before them."""
    return str(int(value)) if entity in _NUMBERED and value.isascii() and value.isdecimal() else value


def _same(entity: str, one: str, other: str) -> bool:
    return _value(entity, one) == _value(entity, other)


def _key_of(of_file: dict[str, str]) -> dict[str, str]:
    return {entity: _value(entity, value) for entity, value in of_file.items()}


def _key(path: Path) -> dict[str, str]:
    return _key_of(entities(path))


def _pipeline(folder: Path) -> Path:
    if not folder.is_dir():
        raise FileNotFoundError(f"there is no folder {folder}; name the derivatives' folder, or None for raw images")
    if any(folder.glob("sub-*")):
        return folder
    holding = [path for path in _files(folder, "*") if path.is_dir() and any(path.glob("sub-*"))]
    # derivatives/ itself is named where it holds one pipeline only
    if len(holding) == 1:
        return holding[0]
    if not holding:
        raise FileNotFoundError(f"{folder} has no subject (sub-*), nor has a folder in it")
    raise ValueError(
        f"{folder} holds several pipelines, {name_some([path.name for path in holding])}; name one: "
        f"derivatives='{folder.name}/{holding[0].name}'"
    )


def _subjects(folder: Path, subjects: Sequence[str | SupportsIndex] | None) -> list[str]:
    if isinstance(subjects, str):
        raise TypeError(f"subjects is one string, {subjects!r}; expected a list: [{subjects!r}]")
    known = sorted(path.name.removeprefix("sub-") for path in folder.glob("sub-*") if path.is_dir())
    if subjects is None:
        if not known:
            raise FileNotFoundError(f"{folder} has no subject (sub-*)")
        return known
    if not isinstance(subjects, Iterable):
        raise TypeError(f"subjects is {subjects!r}; expected a list: [{subjects!r}]")
    given = list(subjects)
    if not given:
        raise ValueError("subjects is empty; name at least one, or None for all")
    asked = [_subject(subject, known) for subject in given]
    twice = [subject for subject, count in Counter(asked).items() if count > 1]
    if twice:
        raise ValueError(f"subjects names {name_some(twice)} more than once, so that its runs would count twice")
    unknown = [subject for subject in asked if subject not in known]
    if unknown:
        raise FileNotFoundError(f"{folder} has no subject {name_some(unknown)}; there are {name_some(known)}")
    return asked


def _subject(given: object, known: list[str]) -> str:
    """The label among the known ones that is meant: as written, or the only one of the same number."""
    if isinstance(given, bool) or not isinstance(given, str | SupportsIndex):
        raise TypeError(f"subjects holds {given!r}, a {type(given).__name__}; expected labels, such as '01'")
    label = given.removeprefix("sub-") if isinstance(given, str) else str(given.__index__())
    alike = [subject for subject in known if _same("sub", subject, label)]
    return alike[0] if label not in known and len(alike) == 1 else label


def _only(images: list[Path], entity: str, value: str | None, folder: Path) -> list[Path]:
    there = sorted({entities(path).get(entity, "") for path in images})
    if value is None:
        if len(there) > 1:
            raise ValueError(f"{folder} has images of {entity} {name_some(there)}; choose one: {entity}='{there[-1]}'")
        return images
    chosen = [path for path in images if entities(path).get(entity) == value]
    if not chosen:
        raise FileNotFoundError(f"{folder} has no image of {entity} {value!r}; there is {name_some(there)}")
    return chosen


def _run(root: Path, folder: Path, image: Path) -> Run:
    of_image = entities(image)
    if not _same("sub", of_image.get("sub", ""), image.relative_to(folder).parts[0].removeprefix("sub-")):
        raise ValueError(f"{image} lies in the folder of another subject than its name says; rename or move it")
    of_run = {key: value for key, value in of_image.items() if key not in _DERIVED}
    events = _inherited(root, of_run, "_events.tsv")
    if not events:
        raise FileNotFoundError(f"{image} has no events: expected {_format(of_run)}_events.tsv in {root}")
    rivals = [path for path in events[1:] if path.parent == events[0].parent and _key(path) == _key(events[0])]
    if rivals:
        raise ValueError(f"{events[0]} and {rivals[0]} are both events of {image}; leave one of them in the folder")
    beside = _files(image.parent, "*_mask.nii*")
    masks = [path for path in beside if _key(path) == _key_of({**of_image, "desc": "brain"})]
    own, raw = ([read_sidecar(path) for path in _inherited(place, of_image, "_bold.json")] for place in (folder, root))
    t_r = repetition_time([*own, *raw], image, _format(of_run))
    return Run(
        subject=of_image["sub"],
        session=of_image.get("ses", ""),
        run=of_image.get("run", ""),
        image=image,
        events=events[0],
        confounds=_confounds(image, of_run),
        brain_mask=masks[0] if masks else None,
        t_r=t_r,
        root=root,
        slice_time=slice_time(own, raw, t_r, is_raw=folder == root),
    )


def _confounds(image: Path, of_run: dict[str, str]) -> Path | None:
    """Find a run's table of confounds, whose name fMRIPrep has changed twice; ValueError for two that differ."""
    tables = [
        path
        for ending in ("_timeseries.tsv", "_regressors.tsv", "_confounds.tsv")
        for path in _files(image.parent, f"*{ending}")
        if ending == "_confounds.tsv" or entities(path).get("desc") == "confounds"
    ]
    of_this = [path for path in tables if {k: v for k, v in _key(path).items() if k != "desc"} == _key_of(of_run)]
    for other in of_this[1:]:
        if other.read_bytes() != of_this[0].read_bytes():
            raise ValueError(
                f"{of_this[0]} and {other} are both confounds of {image}, and differ; leave one of them in the folder"
            )
    return of_this[0] if of_this else None


def _inherited(root: Path, of_file: dict[str, str], ending: str) -> list[Path]:
    """Find the files that apply to a run, the nearest and then the most specific first.

    All entities of their names are the run's. A file applies to what lies in its folder and below.
    """
    subject = _folder(root, "sub", of_file["sub"])
    session = _folder(subject, "ses", of_file.get("ses", ""))
    found: list[Path] = []
    for place in (session / "func", subject / "func", session, subject, root):
        if place.is_dir():
            there = [path for path in _files(place, f"*{ending}") if _key(path).items() <= _key_of(of_file).items()]
            found += sorted(there, key=lambda path: -len(entities(path)))
    return list(dict.fromkeys(found))


def _folder(parent: Path, entity: str, label: str) -> Path:
    """The folder of a subject or session: as named, or the only one of the same number."""
    exact = parent / f"{entity}-{label}"
    if exact.is_dir() or not parent.is_dir():
        return exact
    alike = [path for path in parent.glob(f"{entity}-*") if _same(entity, path.name.partition("-")[2], label)]
    return alike[0] if len(alike) == 1 else exact


def _format(of_file: dict[str, str]) -> str:
    return "_".join(f"{key}-{value}" for key, value in of_file.items())
