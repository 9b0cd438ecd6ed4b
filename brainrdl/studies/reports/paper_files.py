"""What a study leaves in its folder: read, and checked that its parts agree."""

import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import pandas as pd
import xarray as xr
from numpy.typing import NDArray

from brainrdl.rdms.layout import check_rdms
from brainrdl.studies.reports.differences import Correctness
from brainrdl.studies.reports.methods import METHOD, method_name

_T = TypeVar("_T")

RESULTS = (
    *("row", "arm", "seed", "dataset", "train_size", "labels", "teacher", "teacher_size", "teacher_seed"),
    *("validation_error", "test_error", "alpha0", "epochs", "updates", "device", "precision", "seconds"),
)
_COLUMNS = {
    "results.csv": RESULTS,
    "histories.csv": ("row", "arm", "teacher", "labels", "seed", "epoch", "task_error"),
    "geometry.csv": ("row", "arm", "labels", "seed", "teacher", "layer", "e_aux", "correlation"),
    "tries.csv": (
        *("arm", "labels", "teacher", "try", "setting"),
        *("validation_error", "validation_loss", "chosen", "seconds"),
    ),
}
_REQUIRED = ("results.csv", "correctness.npz", "manifest.json")


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
    output : DataArray or None
        Labelled RDM of a teacher's output for its own test images, where they are not the students'.
    settings : mapping of str to mapping, or None
        By row: the knobs that the run was given, its baseline's among them; None where the study left none.
    teacher_correctness : mapping of str to ndarray of bool, shape (teachers' test images,)
        By row, of teachers that have other classes than the students and so a test set of their own; empty where there
        are none.
    """

    results: pd.DataFrame
    correctness: Correctness
    n_images: int
    manifest: Mapping[str, Any]
    histories: pd.DataFrame | None = None
    geometry: pd.DataFrame | None = None
    tries: pd.DataFrame | None = None
    rdms: xr.DataArray | None = None
    mds: xr.DataArray | None = None
    output: xr.DataArray | None = None
    settings: Mapping[str, Mapping[str, float]] | None = None
    teacher_correctness: Correctness = field(default_factory=dict)

    def on_the_test_set(self, frame: pd.DataFrame) -> pd.DataFrame:
        """Select rows of networks that are scored on the students' test images.

        Parameters
        ----------
        frame : DataFrame
            With column ``row``.

        Returns
        -------
        DataFrame
            Without teachers that have a test set of their own.
        """
        return frame[~frame["row"].isin(list(self.teacher_correctness))]

    @property
    def baselines(self) -> Mapping[str, str]:
        """See `baseline_of`."""
        return {arm: name for arm, name in self.manifest.get("baselines", {}).items() if name}

    @property
    def calls(self) -> list[Mapping[str, Any]]:
        """What is known of each call of the command, the first one first; empty where the manifest does not say."""
        return _values(self.manifest.get("calls", []))

    @property
    def recipe(self) -> Mapping[str, Any]:
        """Everything that was set, empty where the manifest does not say."""
        recipe = self.manifest.get("configuration", {}).get("recipe", {})
        return recipe if isinstance(recipe, Mapping) else {}

    @property
    def chosen(self) -> bool:
        """Whether any setting was chosen among several; True where the study does not say."""
        if self.tries is None:
            return True
        return bool(self.tries.duplicated(["arm", "teacher", "labels"]).any())

    @property
    def name(self) -> str:
        """The study's name, such as ``mnist``."""
        return str(self.manifest["study"])

    @property
    def one_teacher(self) -> bool:
        """Whether one teacher of each kind served all seeds."""
        return bool(self.manifest.get("one_teacher", False))


def read_study(folder: Path) -> StudyFiles:
    """Read what a study left behind, and check that its parts agree.

    Parameters
    ----------
    folder : Path
        With ``results.csv``, ``correctness.npz`` and ``manifest.json``; and, as far as there are any,
        ``histories.csv``, ``geometry.csv``, ``tries.csv``, ``rdms.nc``, ``mds.nc``, ``output.nc``, ``results.json``
        and ``correctness-teachers.npz``.

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
    >>> from brainrdl.studies.reports.paper_files import read_study
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
    elsewhere, _ = _if_there(folder / "correctness-teachers.npz", _read_correctness) or ({}, 0)
    study = StudyFiles(
        results, correctness, n_images, _read_manifest(folder / "manifest.json"), teacher_correctness=elsewhere
    )
    try:
        check_results(study.on_the_test_set(results), correctness, one_teacher=study.one_teacher)
        check_results(results[results["row"].isin(list(elsewhere))], elsewhere, one_teacher=study.one_teacher)
    except ValueError as error:
        raise ValueError(f"{folder}: {error}") from error
    return replace(
        study,
        histories=_if_there(folder / "histories.csv", _read_table),
        geometry=_if_there(folder / "geometry.csv", _read_table),
        tries=_if_there(folder / "tries.csv", _read_table),
        rdms=_if_there(folder / "rdms.nc", _read_rdms),
        mds=_if_there(folder / "mds.nc", _read_array),
        output=_if_there(folder / "output.nc", _read_rdms),
        settings=_if_there(folder / "results.json", _read_settings),
    )


def check_results(results: pd.DataFrame, correctness: Correctness, *, one_teacher: bool = False) -> None:
    """Check that results and correctness speak of the same networks.

    Parameters
    ----------
    results : DataFrame
        One row per run: at least ``row, arm, teacher, labels, seed, test_error``; a run without a test error died in
        training.
    correctness : mapping of str to ndarray of bool, shape (test images,)
        By row.
    one_teacher : bool
        Whether one teacher serves all seeds, so that its row may be there for each of them.

    Raises
    ------
    ValueError
        If a row or a run occurs twice or has no correctness, if lengths differ, or if the correctness gives an error
        rate other than that of the results.

    Examples
    --------
    >>> import numpy as np, pandas as pd
    >>> from brainrdl.studies.reports.paper_files import check_results
    >>> run = {"row": "plain-seed0", "arm": "plain", "teacher": "", "labels": np.nan, "seed": 0, "test_error": 25.0}
    >>> check_results(pd.DataFrame([run]), {"plain-seed0": np.array([True, True, False, False])})
    Traceback (most recent call last):
    ValueError: the test error of 'plain-seed0' is 25 % in the results, but 50 % by its correctness; score it again
    """
    twice = results[results.duplicated("row")]
    if len(twice):
        raise ValueError(f"the results hold more than one row {twice['row'].iloc[0]!r}; keep one of them")
    runs = results[results["arm"] != "teacher"] if one_teacher else results
    twice = runs[runs.duplicated([*METHOD, "labels", "seed"])]
    if len(twice):
        run = twice.iloc[0]
        labels = "" if pd.isna(run["labels"]) else f"{run['labels']:.0f} labels and "
        raise ValueError(
            f"the results hold more than one run of {method_name(run['arm'], run['teacher'])} with {labels}seed "
            f"{run['seed']}; keep one of them"
        )
    scored = results[results["test_error"].notna()]
    lacking = [row for row in scored["row"] if row not in correctness]
    if lacking:
        raise ValueError(
            f"there is no correctness for {len(lacking)} of {len(scored)} runs, {lacking[0]!r} first; score them again"
        )
    sizes = {row: len(correctness[row]) for row in scored["row"]}
    if len(set(sizes.values())) > 1:
        small, large = min(sizes, key=sizes.__getitem__), max(sizes, key=sizes.__getitem__)
        raise ValueError(
            f"{small!r} was scored on {sizes[small]} test images, but {large!r} on {sizes[large]}; score all runs on "
            "the same images"
        )
    for row, error in zip(scored["row"], scored["test_error"], strict=True):
        counted = 100 * (1 - float(np.mean(correctness[row])))
        if abs(counted - error) > 0.006:  # results may be rounded to two decimals
            raise ValueError(
                f"the test error of {row!r} is {error:g} % in the results, but {counted:g} % by its correctness; "
                "score it again"
            )


@contextmanager
def _reading(path: Path, what: str, *errors: type[Exception]) -> Iterator[None]:
    try:
        yield
    except errors as error:
        raise ValueError(f"{path} is no {what}, or is damaged: {error}") from error


def _if_there(path: Path, read: Callable[[Path], _T]) -> _T | None:
    return read(path) if path.is_file() else None


def _read_table(path: Path) -> pd.DataFrame:
    text = {"row": str, "arm": str, "teacher": str, "dataset": str, "layer": str, "setting": str, "device": str}
    with _reading(path, "CSV file", pd.errors.ParserError, pd.errors.EmptyDataError, UnicodeDecodeError):
        table = pd.read_csv(path, dtype=text)
    lacking = [column for column in _COLUMNS[path.name] if column not in table]
    if lacking:
        raise ValueError(f"{path} lacks the columns {', '.join(lacking)}; it has {', '.join(table.columns)}")
    table = table.assign(teacher=table["teacher"].fillna(""))
    if path.name == "histories.csv" and "validation_error" not in table:
        table["validation_error"] = np.nan  # no run held images out
    return table


def _read_correctness(path: Path) -> tuple[dict[str, NDArray[np.bool_]], int]:
    with _reading(path, "file of arrays", ValueError, OSError), np.load(path, allow_pickle=False) as file:
        arrays = {name: np.asarray(file[name]) for name in file.files}
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
    with _reading(path, "JSON file", json.JSONDecodeError, UnicodeDecodeError):
        manifest = json.loads(path.read_text(encoding="utf-8"))
    if not isinstance(manifest, dict) or "study" not in manifest:
        raise ValueError(f"{path} names no study; expected an object with the key 'study'")
    if not isinstance(manifest.get("baselines", {}), dict):
        raise ValueError(f"{path} has baselines {manifest['baselines']!r}; expected an object of arm and arm")
    calls = manifest.get("calls", [])
    if not isinstance(calls, list | dict) or not all(isinstance(call, dict) for call in _values(calls)):
        raise ValueError(f"{path} has calls {calls!r}; expected objects, one per call of the command, in order")
    return manifest


def _values(items: Any) -> list[Any]:
    """What a list holds, or an object under numbers."""
    return list(items.values()) if isinstance(items, Mapping) else list(items)


def _read_settings(path: Path) -> dict[str, dict[str, float]]:
    with _reading(path, "JSON file", json.JSONDecodeError, UnicodeDecodeError):
        content = json.loads(path.read_text(encoding="utf-8"))
    rows = content.get("rows") if isinstance(content, dict) else None
    if not isinstance(rows, list) or not all(isinstance(row, dict) and {"row", "setting"} <= set(row) for row in rows):
        raise ValueError(f"{path} has no list of rows with a setting each; go on with the study to write it again")
    return {str(row["row"]): dict(row["setting"]) for row in rows}


def _read_array(path: Path) -> xr.DataArray:
    with _reading(path, "netCDF file with one array", OSError, ValueError):
        return xr.load_dataarray(path, engine="h5netcdf")


def _read_rdms(path: Path) -> xr.DataArray:
    return check_rdms(_read_array(path))
