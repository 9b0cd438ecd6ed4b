"""Find a task's runs in a BIDS data set: images, events, confounds, masks, repetition time.

The files of a run are joined on the entities in their names (``sub``, ``ses``, ``run``, …), never on their place in a
list. Sidecars and events may lie higher up, as BIDS' inheritance allows.
"""

import json
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

from brainrdl.arguments import did_you_mean, name_some

_DERIVED = ("space", "res", "den", "desc", "hemi", "label", "cohort")
"""Entities that only derivatives bear."""


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
    subjects: Sequence[str] | None = None,
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
    subjects : sequence of str, optional
        With or without ``sub-``, each once; all by default.

    Returns
    -------
    list of Run
        Runs, sorted by subject, session and run.

    Raises
    ------
    FileNotFoundError, ValueError
        If the folder is no BIDS data set, nothing is found, a name leaves open which of several files is meant, or a
        run has no events or no repetition time.

    Examples
    --------
    >>> find_runs("ds000105", "objectviewing", space="MNI152NLin2009cAsym")  # doctest: +SKIP
    [Run(subject='1', session='', run='01', ...
    """
    root = Path(bids_dir)
    if not root.is_dir():
        raise FileNotFoundError(f"there is no folder {root}")
    if not (root / "dataset_description.json").is_file():
        raise FileNotFoundError(f"{root} has no dataset_description.json, so it is no BIDS data set")
    folder = root if derivatives is None else _pipeline(root / derivatives)
    wanted = _subjects(folder, subjects)
    images = [
        path
        for subject in wanted
        for path in sorted((folder / f"sub-{subject}").glob("**/func/*_bold.nii*"))
        if entities(path).get("task") == task and entities(path).get("desc", "preproc") == "preproc"
    ]
    if not images:
        tasks = {entities(path).get("task", "") for path in folder.glob("sub-*/**/func/*_bold.nii*")}
        known = f"; its tasks are {name_some(sorted(tasks))}{did_you_mean(task, tasks)}" if tasks else ""
        raise FileNotFoundError(f"no preprocessed image of task {task!r} in {folder}{known}")
    for entity, value in (("space", space), ("res", res)):
        images = _only(images, entity, value, folder)
    runs = [_run(root, folder, image) for image in images]
    seen: dict[tuple[str, str, str], Path] = {}
    for run in runs:
        other = seen.setdefault((run.subject, run.session, run.run), run.image)
        # two images of one run, such as two descriptions of it, would count it twice
        if other != run.image:
            raise ValueError(f"{other} and {run.image} are of one run; leave one of them in the folder")
    lacking = [subject for subject in wanted if subject not in {run.subject for run in runs}]
    if lacking and subjects is not None:
        raise FileNotFoundError(f"no image of task {task!r} of subject {name_some(lacking)} in {folder}")
    return sorted(runs, key=lambda run: (run.subject, run.session, run.run))


def entities(path: Path) -> dict[str, str]:
    """Read the entities of a BIDS file name: {'sub': '01', 'task': 'rest'} of ``sub-01_task-rest_bold.nii.gz``."""
    parts = [part.partition("-") for part in path.name.split("_")[:-1]]
    return {key: value for key, dash, value in parts if dash}


def _pipeline(folder: Path) -> Path:
    if not folder.is_dir():
        raise FileNotFoundError(f"there is no folder {folder}; name the derivatives' folder, or None for raw images")
    if any(folder.glob("sub-*")):
        return folder
    holding = [path for path in sorted(folder.iterdir()) if path.is_dir() and any(path.glob("sub-*"))]
    # derivatives/ itself is named where it holds one pipeline only
    if len(holding) == 1:
        return holding[0]
    if not holding:
        raise FileNotFoundError(f"{folder} has no subject (sub-*), nor has a folder in it")
    raise ValueError(
        f"{folder} holds several pipelines, {name_some([path.name for path in holding])}; name one: "
        f"derivatives='{folder.name}/{holding[0].name}'"
    )


def _subjects(folder: Path, subjects: Sequence[str] | None) -> list[str]:
    if isinstance(subjects, str):
        raise TypeError(f"subjects is one string, {subjects!r}; expected a list: [{subjects!r}]")
    known = sorted(path.name.removeprefix("sub-") for path in folder.glob("sub-*") if path.is_dir())
    if subjects is None:
        if not known:
            raise FileNotFoundError(f"{folder} has no subject (sub-*)")
        return known
    if not len(subjects):
        raise ValueError("subjects is empty; name at least one, or None for all")
    asked = [subject.removeprefix("sub-") for subject in subjects]
    twice = [subject for subject, count in Counter(asked).items() if count > 1]
    if twice:
        raise ValueError(f"subjects names {name_some(twice)} more than once, so that its runs would count twice")
    unknown = [subject for subject in asked if subject not in known]
    if unknown:
        raise FileNotFoundError(f"{folder} has no subject {name_some(unknown)}; there are {name_some(known)}")
    return asked


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
    of_run = {key: value for key, value in of_image.items() if key not in _DERIVED}
    events = _inherited([root], of_run, "_events.tsv")
    if not events:
        raise FileNotFoundError(f"{image} has no events: expected {_format(of_run)}_events.tsv in {root}")
    beside = sorted(path for path in image.parent.glob("*_timeseries.tsv") if entities(path).get("desc") == "confounds")
    confounds = [path for path in beside if {k: v for k, v in entities(path).items() if k != "desc"} == of_run]
    masks = [
        path for path in sorted(image.parent.glob("*_mask.nii*")) if entities(path) == {**of_image, "desc": "brain"}
    ]
    return Run(
        subject=of_image["sub"],
        session=of_image.get("ses", ""),
        run=of_image.get("run", ""),
        image=image,
        events=events[0],
        confounds=confounds[0] if confounds else None,
        brain_mask=masks[0] if masks else None,
        t_r=_repetition_time(image, [folder, root], of_image, of_run),
        root=root,
    )


def _repetition_time(image: Path, roots: Iterable[Path], *names: dict[str, str]) -> float:
    stated: dict[Path, float] = {}
    for of_file in names:
        for path in _inherited(list(dict.fromkeys(roots)), of_file, "_bold.json"):
            try:
                value = json.loads(path.read_text(encoding="utf-8")).get("RepetitionTime")
            except (ValueError, AttributeError) as error:
                raise ValueError(f"{path} is not a JSON object ({error})") from error
            if value is not None:
                if isinstance(value, bool) or not isinstance(value, int | float) or not value > 0:
                    raise ValueError(f"{path} has RepetitionTime {value!r}; expected seconds as a number")
                stated.setdefault(path, float(value))
    if not stated:
        raise ValueError(
            f"no sidecar of {image} states a RepetitionTime; expected one in {_format(names[-1])}_bold.json"
        )
    first, *others = stated
    # the most specific sidecar applies, but one that says otherwise is a mistake in one of them
    for other in others:
        if abs(stated[other] - stated[first]) > 1e-3 * stated[first]:
            raise ValueError(
                f"{first} has RepetitionTime {stated[first]:g} s, but {other} {stated[other]:g} s; find out which is "
                "right and mend the other"
            )
    return stated[first]


def _inherited(roots: Iterable[Path], of_file: dict[str, str], ending: str) -> list[Path]:
    """Find the files that apply to a run, the most specific first: all entities of their names are the run's."""
    found = []
    for root in roots:
        subject = root / f"sub-{of_file['sub']}"
        session = subject / f"ses-{of_file.get('ses', '')}"
        for place in (session / "func", subject / "func", session, subject, root):
            if place.is_dir():
                found += [
                    path for path in sorted(place.glob(f"*{ending}")) if entities(path).items() <= of_file.items()
                ]
    return sorted(dict.fromkeys(found), key=lambda path: -len(entities(path)))


def _format(of_file: dict[str, str]) -> str:
    return "_".join(f"{key}-{value}" for key, value in of_file.items())
