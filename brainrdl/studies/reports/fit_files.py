"""What a fit leaves in its folder: read, and checked that its parts agree."""

import json
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr

from brainrdl.arguments import name_some
from brainrdl.rdms.layout import check_rdms
from brainrdl.studies.reports.fit_names import SCORES, Setting

SETTING = Setting._fields
"""The columns that name a setting."""

_COLUMNS = {
    "scores.csv": (
        *("arm", "scheme", "split", "fold", "seed", "fitted_study", "scored_study", "layer", "roi", "alpha0"),
        *("score", "method", "value", "ceiling_lower", "ceiling_upper", "n_pairs", "task_error"),
    ),
    "summary.csv": (
        *SETTING,
        *("arm", "score", "value", "se", "low", "high", "ceiling_lower", "ceiling_upper"),
        *("n_folds", "n_seeds", "n_subjects", "n_stimuli", "over", "task_error"),
    ),
    "contrasts.csv": (*SETTING, "a", "b", "score", "difference", "se", "low", "high", "p", "p_holm", "primary"),
    "choices.csv": ("fitted_study", "scheme", "split", "arm", "layer", "inner_split", "value", "chosen"),
    "histories.csv": ("arm", "fitted_study", "scheme", "split", "seed", "update"),
}
_OPTIONAL_COLUMNS = {
    "choices.csv": ("alpha0", "updates", "setting", "steps", "task_error"),
    "histories.csv": ("task_loss", "rdm_loss", "task_error"),
}
_TEXT = ("arm", "scheme", "split", "fitted_study", "scored_study", "layer", "roi", "score", "method", "over", "a", "b")
_REQUIRED = ("manifest.json", "scores.csv", "summary.csv", "contrasts.csv")
_PRIMARY = ("a", "b", *SETTING)
_WHAT = ("brain", "before", "after")
_ROUNDING = 5e-4  # files may be rounded to three decimals


@dataclass(frozen=True, eq=False)
class FitFiles:
    """What a fit left behind, as read from its folder.

    Attributes
    ----------
    manifest : dict
        How it was made.
    scores, summary, contrasts : DataFrame
        Scores per fold and seed; over folds and seeds, with intervals; and differences of arms.
    choices, histories : DataFrame or None
        Tries in inner folds, and learning curves; None where the study left none.
    rdms : DataArray or None
        Labelled RDMs of all stimuli; ``what`` along ``rdm`` is ``brain``, ``before`` or ``after``.
    thumbnails : dict of ndarray (height, width, 3), or None
        By stimulus.
    """

    manifest: Mapping[str, Any]
    scores: pd.DataFrame
    summary: pd.DataFrame
    contrasts: pd.DataFrame
    choices: pd.DataFrame | None
    histories: pd.DataFrame | None
    rdms: xr.DataArray | None
    thumbnails: Mapping[str, np.ndarray] | None

    @property
    def primary(self) -> Setting:
        """The setting of the primary contrast."""
        return Setting(*(str(self.manifest["primary"][field]) for field in SETTING))

    @property
    def pair(self) -> tuple[str, str]:
        """The arms of the primary contrast: the one that was fitted, and the one that it is to exceed."""
        return str(self.manifest["primary"]["a"]), str(self.manifest["primary"]["b"])

    @property
    def settings(self) -> list[Setting]:
        """All settings, the primary one first, then in the order of ``summary.csv``."""
        rows = self.summary[self.summary["fitted_study"] != ""]
        found = [Setting(*map(str, row)) for row in rows[list(SETTING)].drop_duplicates().to_numpy().tolist()]
        return [self.primary, *(setting for setting in found if setting != self.primary)]


def at(table: pd.DataFrame, setting: Setting) -> pd.DataFrame:
    """Select the rows of one setting.

    Parameters
    ----------
    table : DataFrame
        With the columns of a setting.
    setting : Setting
        Which one.

    Returns
    -------
    DataFrame
        Rows without a fitted study, those of models that nothing was fitted to, belong to every one.

    Examples
    --------
    >>> import pandas as pd
    >>> from brainrdl.studies.reports.fit_names import Setting
    >>> from brainrdl.studies.reports.fit_files import at
    >>> setting = Setting("stratified", "first", "second", "corr")
    >>> table = pd.DataFrame([setting._asdict() | {"fitted_study": study} for study in ("first", "", "second")])
    >>> len(at(table, setting))
    2
    """
    found = table["fitted_study"].isin((setting.fitted_study, ""))
    for field in ("scheme", "scored_study", "method"):
        found &= table[field] == getattr(setting, field)
    return table[found]


def read_fit(folder: Path) -> FitFiles:
    """Read what a fit left behind, and check that its parts agree.

    Parameters
    ----------
    folder : Path
        With ``manifest.json``, ``scores.csv``, ``summary.csv`` and ``contrasts.csv``; and, as far as there are any,
        ``choices.csv``, ``histories.csv``, ``rdms.nc`` and ``thumbnails.npz``.

    Returns
    -------
    FitFiles

    Raises
    ------
    FileNotFoundError
        If a required file is missing; all that are missing are named.
    ValueError
        If a file lacks a column, is damaged, or contradicts another.

    Examples
    --------
    >>> from pathlib import Path
    >>> from brainrdl.studies.reports.fit_files import read_fit
    >>> read_fit(Path("nowhere"))
    Traceback (most recent call last):
    FileNotFoundError: nowhere lacks manifest.json, scores.csv, summary.csv, contrasts.csv; a report is made from what a
    fit leaves in its folder: name the folder given to brainrdl fit as --out
    """
    folder = Path(folder)
    missing = [name for name in _REQUIRED if not (folder / name).is_file()]
    if missing:
        raise FileNotFoundError(
            f"{folder} lacks {', '.join(missing)}; a report is made from what a fit leaves in its folder: name the "
            "folder given to brainrdl fit as --out"
        )
    manifest = _read_manifest(folder / "manifest.json")
    tables = {name: _read_table(folder / name) if (folder / name).is_file() else None for name in _COLUMNS}
    scores, summary, contrasts = (tables[name] for name in _REQUIRED[1:])
    if scores is None or summary is None or contrasts is None:
        raise FileNotFoundError(f"a table of {folder} was taken away while it was read; call again")
    rdms = _read_rdms(folder / "rdms.nc") if (folder / "rdms.nc").is_file() else None
    study = FitFiles(
        manifest,
        scores,
        summary,
        contrasts,
        tables["choices.csv"],
        tables["histories.csv"],
        rdms,
        _read_thumbnails(folder / "thumbnails.npz", rdms) if (folder / "thumbnails.npz").is_file() else None,
    )
    _check_summary(study, folder)
    _check_primary(study, folder)
    return study


def _check_summary(study: FitFiles, folder: Path) -> None:
    """The summary is what the scores say, where every fold and seed has one."""
    twice = study.summary[study.summary.duplicated([*SETTING, "arm", "score"])]
    if len(twice):
        raise ValueError(f"{folder / 'summary.csv'} has more than one row for {_row(twice.iloc[0])}; keep one of them")
    unknown = [score for score in dict.fromkeys(study.summary["score"]) if score not in SCORES]
    if unknown:
        raise ValueError(
            f"{folder / 'summary.csv'} has the score {unknown[0]!r}; expected {', '.join(SCORES)}: write it again"
        )
    by = [*SETTING, "arm", "score"]
    split = study.scores.groupby([*by, "split"], sort=False)["value"].agg(lambda values: values.mean(skipna=False))
    mean = split.groupby(by, sort=False).agg(lambda values: values.mean(skipna=False))
    for _, row in study.summary.iterrows():
        key = tuple(row[column] for column in by)
        if key not in mean.index:
            raise ValueError(
                f"{folder / 'summary.csv'} has {_row(row)}, of which scores.csv has no row; write both again"
            )
        counted, told = float(mean[key]), float(row["value"])
        if abs(counted - told) > _ROUNDING:  # not where either is NaN: a fold may have no such score
            raise ValueError(
                f"{folder / 'summary.csv'} has {told:.4f} for {_row(row)}, but the mean of scores.csv over seeds and "
                f"splits is {counted:.4f}; write both again"
            )


def _check_primary(study: FitFiles, folder: Path) -> None:
    """The contrast that the manifest calls primary is there, and no other claims to be."""
    here = at(study.contrasts, study.primary)
    here = here[(here["a"] == study.pair[0]) & (here["b"] == study.pair[1])]
    asked = ", ".join(f"{field} {study.manifest['primary'][field]}" for field in _PRIMARY)
    if here.empty or at(study.summary, study.primary).empty:
        place = "contrasts.csv" if here.empty else "summary.csv"
        raise ValueError(
            f"{folder / place} has no row of the primary contrast that manifest.json names ({asked}); a page cannot "
            "say what came out: finish the study"
        )
    flagged = study.contrasts[study.contrasts["primary"]]
    if set(flagged.index) != set(here.index):
        odd = study.contrasts.loc[min(set(flagged.index) ^ set(here.index))]
        raise ValueError(
            f"{folder / 'contrasts.csv'} has primary {bool(odd['primary'])} for {odd['a']} − {odd['b']} "
            f"({', '.join(str(odd[field]) for field in SETTING)}), but manifest.json names as primary: {asked}; "
            "the contrast is fixed before scoring, so write both again"
        )


def _row(row: "pd.Series[Any]") -> str:
    return f"arm {row['arm']}, score {row['score']} ({', '.join(str(row[field]) for field in SETTING)})"


@contextmanager
def _reading(path: Path, what: str, *errors: type[Exception]) -> Iterator[None]:
    try:
        yield
    except errors as error:
        raise ValueError(f"{path} is no {what}, or is damaged: {error}") from error


def _read_manifest(path: Path) -> dict[str, Any]:
    with _reading(path, "JSON file", json.JSONDecodeError, UnicodeDecodeError):
        manifest = json.loads(path.read_text(encoding="utf-8"))
    primary = manifest.get("primary") if isinstance(manifest, dict) else None
    if not isinstance(primary, dict) or not set(_PRIMARY) <= set(primary):
        raise ValueError(
            f"{path} has primary {json.dumps(primary)}; expected an object with the fields {', '.join(_PRIMARY)}"
        )
    dropped = manifest.get("dropped_controls", [])
    fields = {"scheme", "split", "controls"}
    if not isinstance(dropped, list) or not all(isinstance(one, dict) and fields <= set(one) for one in dropped):
        raise ValueError(
            f"{path} has dropped_controls {json.dumps(dropped)}; expected a list of objects with the fields scheme, "
            "split, controls"
        )
    if not isinstance(manifest.get("notes", []), list):
        raise ValueError(f"{path} has notes {json.dumps(manifest['notes'])}; expected a list of sentences")
    return dict(manifest)


def _read_table(path: Path) -> pd.DataFrame:
    errors = (pd.errors.ParserError, pd.errors.EmptyDataError, UnicodeDecodeError)
    with _reading(path, "CSV file", *errors):
        table = pd.read_csv(path, dtype=dict.fromkeys(_TEXT, str))
    lacking = [column for column in _COLUMNS[path.name] if column not in table]
    if lacking:
        raise ValueError(f"{path} lacks the columns {', '.join(lacking)}; it has {', '.join(table.columns)}")
    text = [column for column in _TEXT if column in table]
    table[text] = table[text].fillna("")
    for column in _OPTIONAL_COLUMNS.get(path.name, ()):
        if column not in table:
            table[column] = np.nan
    for column in ("primary", "chosen"):
        if column in table:
            if not set(table[column].astype(str)) <= {"True", "False"}:
                raise ValueError(f"{path}: column {column} has {name_some(set(table[column]))}; expected True or False")
            table[column] = table[column].astype(str) == "True"
    for column in (*("value", "low", "high", "ceiling_lower", "ceiling_upper", "task_error", "difference"), "update"):
        if column in table and not pd.api.types.is_numeric_dtype(table[column]):
            bad = table.loc[pd.to_numeric(table[column], errors="coerce").isna() & table[column].notna(), column]
            raise ValueError(f"{path}: column {column} has {str(bad.iloc[0])!r}; expected numbers: write it again")
    return table


def _read_rdms(path: Path) -> xr.DataArray:
    with _reading(path, "netCDF file with one array", OSError, ValueError):
        found = xr.load_dataarray(path, engine="h5netcdf")
    rdms = check_rdms(found)
    if "what" not in rdms.coords or rdms["what"].dims != ("rdm",):
        raise ValueError(f"{path} has no coordinate 'what' along 'rdm'; expected {', '.join(_WHAT)} for each RDM")
    odd = [str(what) for what in rdms["what"].values if str(what) not in _WHAT]
    if odd:
        raise ValueError(f"{path} has an RDM whose 'what' is {odd[0]!r}; expected one of {', '.join(_WHAT)}")
    return rdms


def _read_thumbnails(path: Path, rdms: xr.DataArray | None) -> dict[str, np.ndarray]:
    errors = (ValueError, OSError, EOFError, zipfile.BadZipFile)
    with _reading(path, "file of arrays", *errors), path.open("rb") as content:
        file = np.load(content, allow_pickle=False)
        arrays = {name: np.asarray(file[name]) for name in file.files}
    if set(arrays) != {"ids", "images"}:
        raise ValueError(f"{path} holds {name_some(sorted(arrays))}; expected 'ids' and 'images'")
    ids, images = arrays["ids"], arrays["images"]
    if images.ndim != 4 or images.shape[-1] != 3 or len(images) != len(ids) or images.dtype != np.uint8:
        raise ValueError(
            f"{path} has {len(ids)} ids and images {images.dtype} of shape {images.shape}; expected uint8 of shape "
            f"({len(ids)}, height, width, 3)"
        )
    found = {str(stimulus): image for stimulus, image in zip(ids, images, strict=True)}
    lacking = [] if rdms is None else [str(one) for one in rdms["stimulus"].values if str(one) not in found]
    if lacking:
        raise ValueError(f"{path} has no image of {len(lacking)} stimuli of rdms.nc: {name_some(lacking)}")
    return found
