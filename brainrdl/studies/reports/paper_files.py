"""The files that a study of the paper leaves in its folder: read, and checked that they agree."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr
from numpy.typing import NDArray

from brainrdl.rdms.layout import check_rdms
from brainrdl.studies.reports.differences import Correctness
from brainrdl.studies.reports.files import if_there, read_array, read_arrays, read_json, read_table, require
from brainrdl.studies.reports.methods import METHOD, PAPER_ARMS, ArmWords, method_name, words_of

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
_TEXT = ("row", "arm", "teacher", "dataset", "layer", "setting", "device")
_REQUIRED = ("results.csv", "correctness.npz", "manifest.json")
_ROUNDING = 0.006  # percent: results may be rounded to two decimals


@dataclass(frozen=True)
class StudyFiles:
    """The files of a study, as read from its folder; None is what it did not leave.

    Correctness: by row, (test images,); that of teachers with classes of their own, on their own test set, apart.
    ``rdms`` of Figure 3, ``mds`` distances of Figure 4, ``output`` the RDM of such a teacher's own test images.
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
        """Select rows of networks that are scored on the students' test images, by column ``row``."""
        return frame[~frame["row"].isin(list(self.teacher_correctness))]

    @property
    def baselines(self) -> Mapping[str, str]:
        """See `baseline_of`."""
        return {arm: name for arm, name in self.manifest.get("baselines", {}).items() if name}

    @property
    def arms(self) -> ArmWords:
        """See `words_of`."""
        return words_of(self.manifest, PAPER_ARMS)

    @property
    def calls(self) -> list[Mapping[str, Any]]:
        """The calls of the command, the first one first; empty where the manifest does not say."""
        return _values(self.manifest.get("calls", []))

    @property
    def recipe(self) -> Mapping[str, Any]:
        """Everything that was set, empty where the manifest does not say."""
        # manifests by hand may hold text there
        recipe = self.manifest.get("configuration", {}).get("recipe", {})
        return recipe if isinstance(recipe, Mapping) else {}

    @property
    def chosen(self) -> bool:
        """True if any setting was chosen among several, and where the study does not say."""
        if self.tries is None:
            return True
        return bool(self.tries.duplicated(["arm", "teacher", "labels"]).any())

    @property
    def name(self) -> str:
        """The study's name, such as ``mnist``."""
        return str(self.manifest["study"])

    @property
    def one_teacher(self) -> bool:
        """True if one teacher of each kind served all seeds."""
        return bool(self.manifest.get("one_teacher", False))


def read_study(folder: Path) -> StudyFiles:
    """Read what a study left behind, and check that its parts agree.

    A FileNotFoundError names all required files that are missing; a ValueError, what is damaged or contradicts another.
    """
    folder = Path(folder)
    require(folder, _REQUIRED, "study", "brainrdl reproduce")
    results = _read_table(folder / "results.csv")
    correctness, n_images = _read_correctness(folder / "correctness.npz")
    elsewhere, _ = if_there(folder / "correctness-teachers.npz", _read_correctness) or ({}, 0)
    study = StudyFiles(
        results, correctness, n_images, _read_manifest(folder / "manifest.json"), teacher_correctness=elsewhere
    )
    try:
        # teachers with a test set of their own have another number of images
        check_results(study.on_the_test_set(results), correctness, one_teacher=study.one_teacher)
        check_results(results[results["row"].isin(list(elsewhere))], elsewhere, one_teacher=study.one_teacher)
    except ValueError as error:
        raise ValueError(f"{folder}: {error}") from error
    return replace(
        study,
        histories=if_there(folder / "histories.csv", _read_table),
        geometry=if_there(folder / "geometry.csv", _read_table),
        tries=if_there(folder / "tries.csv", _read_table),
        rdms=if_there(folder / "rdms.nc", _read_rdms),
        mds=if_there(folder / "mds.nc", read_array),
        output=if_there(folder / "output.nc", _read_rdms),
        settings=if_there(folder / "results.json", _read_settings),
    )


def check_results(results: pd.DataFrame, correctness: Correctness, *, one_teacher: bool = False) -> None:
    """Check that results and correctness are of the same networks, once each, with the same error rates.

    With `one_teacher` the teacher of all seeds may have a row for each of them.
    """
    twice = results[results.duplicated("row")]
    if len(twice):
        raise ValueError(f"the results hold more than one row {twice['row'].iloc[0]!r}; keep one of them")
    # the one teacher may be listed for every seed that it served
    runs = results[results["arm"] != "teacher"] if one_teacher else results
    twice = runs[runs.duplicated([*METHOD, "labels", "seed"])]
    if len(twice):
        run = twice.iloc[0]
        labels = "" if pd.isna(run["labels"]) else f"{run['labels']:.0f} labels and "
        raise ValueError(
            f"the results hold more than one run of {method_name(run['arm'], run['teacher'])} with {labels}seed "
            f"{run['seed']}; keep one of them"
        )
    # a run that died was not scored
    scored = results[results["test_error"].notna()]
    lacking = [row for row in scored["row"] if row not in correctness]
    if lacking:
        raise ValueError(
            f"there is no correctness for {len(lacking)} of {len(scored)} runs, {lacking[0]!r} first; score them again"
        )
    # tests and bootstraps pair images by their place
    sizes = {row: len(correctness[row]) for row in scored["row"]}
    if len(set(sizes.values())) > 1:
        small, large = min(sizes, key=sizes.__getitem__), max(sizes, key=sizes.__getitem__)
        raise ValueError(
            f"{small!r} was scored on {sizes[small]} test images, but {large!r} on {sizes[large]}; score all runs on "
            "the same images"
        )
    for row, error in zip(scored["row"], scored["test_error"], strict=True):
        counted = 100 * (1 - float(np.mean(correctness[row])))
        if abs(counted - error) > _ROUNDING:
            raise ValueError(
                f"the test error of {row!r} is {error:g} % in the results, but {counted:g} % by its correctness; "
                "score it again"
            )


def _read_table(path: Path) -> pd.DataFrame:
    table = read_table(path, _COLUMNS[path.name], _TEXT)
    table = table.assign(teacher=table["teacher"].fillna(""))
    if path.name == "histories.csv" and "validation_error" not in table:
        table["validation_error"] = np.nan  # no run held images out
    return table


def _read_correctness(path: Path) -> tuple[dict[str, NDArray[np.bool_]], int]:
    # the ids are no row's correctness
    arrays = read_arrays(path)
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
    manifest = read_json(path)
    if not isinstance(manifest, dict) or "study" not in manifest:
        raise ValueError(f"{path} names no study; expected an object with the key 'study'")
    if not isinstance(manifest.get("baselines", {}), dict):
        raise ValueError(f"{path} has baselines {manifest['baselines']!r}; expected an object of arm and arm")
    calls = manifest.get("calls", [])
    if not isinstance(calls, list | dict) or not all(isinstance(call, dict) for call in _values(calls)):
        raise ValueError(f"{path} has calls {calls!r}; expected objects, one per call of the command, in order")
    return manifest


def _values(items: Any) -> list[Any]:
    """The entries of a list, or of an object under numbers, as manifests of several calls have it."""
    return list(items.values()) if isinstance(items, Mapping) else list(items)


def _read_settings(path: Path) -> dict[str, dict[str, float]]:
    content = read_json(path)
    rows = content.get("rows") if isinstance(content, dict) else None
    if not isinstance(rows, list) or not all(isinstance(row, dict) and {"row", "setting"} <= set(row) for row in rows):
        raise ValueError(f"{path} has no list of rows with a setting each; resume the study to write it again")
    return {str(row["row"]): dict(row["setting"]) for row in rows}


def _read_rdms(path: Path) -> xr.DataArray:
    return check_rdms(read_array(path))
