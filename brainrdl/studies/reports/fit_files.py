"""The files that a fit to measured RDMs leaves in its folder: read, and checked that they agree."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import xarray as xr

from brainrdl.arguments import name_some
from brainrdl.rdms.layout import check_rdms
from brainrdl.studies.reports.files import if_there, read_array, read_arrays, read_json, read_table, require
from brainrdl.studies.reports.methods import SCORES
from brainrdl.studies.reports.words import number


class Setting(NamedTuple):
    """The columns that results have in common which may be compared with each other."""

    scheme: str
    fitted_study: str
    scored_study: str
    method: str


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
    "choices.csv": ("seed", "alpha0", "updates", "setting", "steps", "task_error"),
    "histories.csv": ("task_loss", "rdm_loss", "task_error"),
}
_TEXT = ("arm", "scheme", "split", "fitted_study", "scored_study", "layer", "roi", "score", "method", "over", "a", "b")
_REQUIRED = ("manifest.json", "scores.csv", "summary.csv", "contrasts.csv")
_PRIMARY = ("a", "b", *SETTING)
_WHAT = ("brain", "before", "after")
_ROUNDING = 5e-4  # files may be rounded to three decimals


@dataclass(frozen=True, eq=False)
class FitFiles:
    """The files of a fit, as read from its folder; None is what it did not leave.

    ``rdms`` are labelled RDMs of all stimuli, whose ``what`` along ``rdm`` is ``brain``, ``before`` or ``after``;
    ``thumbnails`` are images (height, width, 3) by stimulus.
    """

    manifest: Mapping[str, Any]
    scores: pd.DataFrame
    summary: pd.DataFrame
    contrasts: pd.DataFrame
    choices: pd.DataFrame | None = None
    histories: pd.DataFrame | None = None
    rdms: xr.DataArray | None = None
    thumbnails: Mapping[str, np.ndarray] | None = None

    @property
    def primary(self) -> Setting:
        """The setting of the primary contrast."""
        return Setting(*(str(self.manifest["primary"][field]) for field in SETTING))

    @property
    def pair(self) -> tuple[str, str]:
        """The arms of the primary contrast: the one that was fitted, and the one that it is to exceed."""
        return str(self.manifest["primary"]["a"]), str(self.manifest["primary"]["b"])

    @property
    def smallest_effect(self) -> float | None:
        """The smallest raw gain of interest, where the study's file stated one."""
        found = self.manifest["primary"].get("smallest_effect")
        return None if found is None else float(found)

    @property
    def settings(self) -> list[Setting]:
        """All settings, the primary one first, then in the order of ``summary.csv``."""
        rows = self.summary[self.summary["fitted_study"] != ""]
        found = [Setting(*map(str, row)) for row in rows[list(SETTING)].drop_duplicates().to_numpy().tolist()]
        return [self.primary, *(setting for setting in found if setting != self.primary)]


def in_setting(table: pd.DataFrame, setting: Setting) -> pd.DataFrame:
    """Select the rows of one setting; those without a fitted study, of models not fitted, belong to every one."""
    # models that nothing was fitted to have no fitted study
    found = table["fitted_study"].isin((setting.fitted_study, ""))
    for field in ("scheme", "scored_study", "method"):
        found &= table[field] == getattr(setting, field)
    return table[found]


def read_fit(folder: Path) -> FitFiles:
    """Read what a fit left behind, and check that its parts agree.

    A FileNotFoundError names all required files that are missing; a ValueError, what is damaged or contradicts another.
    """
    folder = Path(folder)
    require(folder, _REQUIRED, "fit", "brainrdl fit")
    manifest = _read_manifest(folder / "manifest.json")
    scores, summary, contrasts = (_read_table(folder / name) for name in _REQUIRED[1:])
    choices, histories = (if_there(folder / name, _read_table) for name in _OPTIONAL_COLUMNS)
    rdms = if_there(folder / "rdms.nc", _read_rdms)
    thumbnails = if_there(folder / "thumbnails.npz", lambda path: _read_thumbnails(path, rdms))
    study = FitFiles(manifest, scores, summary, contrasts, choices, histories, rdms, thumbnails)
    _check_summary(study, folder)
    _check_primary(study, folder)
    return study


def _check_summary(study: FitFiles, folder: Path) -> None:
    """Check that the summary is what the scores say, where every fold and seed has one."""
    # two rows of one cell would make a table print either
    by = [*SETTING, "arm", "score"]
    twice = study.summary[study.summary.duplicated(by)]
    if len(twice):
        raise ValueError(f"{folder / 'summary.csv'} has more than one row for {_row(twice.iloc[0])}; keep one of them")
    unknown = [score for score in dict.fromkeys(study.summary["score"]) if score not in SCORES]
    if unknown:
        raise ValueError(
            f"{folder / 'summary.csv'} has the score {unknown[0]!r}; expected {', '.join(SCORES)}: write it again"
        )
    # seeds first, then splits, so that each split has the same weight; a NaN is not passed over
    split = study.scores.groupby([*by, "split"], sort=False)["value"].agg(lambda values: values.mean(skipna=False))
    mean = split.groupby(by, sort=False).agg(lambda values: values.mean(skipna=False))
    for _, row in study.summary.iterrows():
        key = tuple(row[column] for column in by)
        if key not in mean.index:
            raise ValueError(
                f"{folder / 'summary.csv'} has {_row(row)}, of which scores.csv has no row; write both again"
            )
        counted, value = float(mean[key]), float(row["value"])
        if abs(counted - value) > _ROUNDING:  # not where either is NaN: a fold may have no such score
            raise ValueError(
                f"{folder / 'summary.csv'} has {number(value, 4)} for {_row(row)}, but the mean of scores.csv over "
                f"seeds and splits is {number(counted, 4)}; write both again"
            )


def _check_primary(study: FitFiles, folder: Path) -> None:
    """Check that the contrast that the manifest calls primary is there, and that no other claims to be."""
    rows = in_setting(study.contrasts, study.primary)
    rows = rows[(rows["a"] == study.pair[0]) & (rows["b"] == study.pair[1])]
    asked = ", ".join(f"{field} {study.manifest['primary'][field]}" for field in _PRIMARY)
    if rows.empty or in_setting(study.summary, study.primary).empty:
        place = "contrasts.csv" if rows.empty else "summary.csv"
        raise ValueError(
            f"{folder / place} has no row of the primary contrast that manifest.json names ({asked}); a page cannot "
            "say what came out: finish the study"
        )
    # the contrast was fixed before scoring: neither file may change it alone
    flagged = study.contrasts[study.contrasts["primary"]]
    if set(flagged.index) != set(rows.index):
        odd = study.contrasts.loc[min(set(flagged.index) ^ set(rows.index))]
        raise ValueError(
            f"{folder / 'contrasts.csv'} has primary {bool(odd['primary'])} for {odd['a']} − {odd['b']} "
            f"({', '.join(str(odd[field]) for field in SETTING)}), but manifest.json names as primary: {asked}; "
            "the contrast is fixed before scoring, so write both again"
        )


def _row(row: "pd.Series[Any]") -> str:
    return f"arm {row['arm']}, score {row['score']} ({', '.join(str(row[field]) for field in SETTING)})"


def _read_manifest(path: Path) -> dict[str, Any]:
    manifest = read_json(path)
    primary = manifest.get("primary") if isinstance(manifest, dict) else None
    if not isinstance(primary, dict) or not set(_PRIMARY) <= set(primary):
        raise ValueError(
            f"{path} has primary {json.dumps(primary)}; expected an object with the fields {', '.join(_PRIMARY)}"
        )
    smallest = primary.get("smallest_effect")
    if smallest is not None and not (isinstance(smallest, float | int) and smallest > 0):
        raise ValueError(f"{path} has primary.smallest_effect {json.dumps(smallest)}; expected a number above 0")
    # a study without such splits may leave the list out
    dropped = manifest.get("dropped_controls", [])
    fields = {"scheme", "split", "controls"}
    if not isinstance(dropped, list) or not all(isinstance(entry, dict) and fields <= set(entry) for entry in dropped):
        raise ValueError(
            f"{path} has dropped_controls {json.dumps(dropped)}; expected a list of objects with the fields scheme, "
            "split, controls"
        )
    if not isinstance(manifest.get("notes", []), list):
        raise ValueError(f"{path} has notes {json.dumps(manifest['notes'])}; expected a list of sentences")
    return dict(manifest)


def _read_table(path: Path) -> pd.DataFrame:
    table = read_table(path, _COLUMNS[path.name], _TEXT)
    text = [column for column in _TEXT if column in table]
    # an empty cell of text is read as NaN
    table[text] = table[text].fillna("")
    for column in _OPTIONAL_COLUMNS.get(path.name, ()):
        if column not in table:
            table[column] = np.nan
    # pandas reads a column of True, False and blanks as objects, in which "False" is true
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
    rdms = check_rdms(read_array(path))
    if "what" not in rdms.coords or rdms["what"].dims != ("rdm",):
        raise ValueError(f"{path} has no coordinate 'what' along 'rdm'; expected {', '.join(_WHAT)} for each RDM")
    odd = [str(what) for what in rdms["what"].values if str(what) not in _WHAT]
    if odd:
        raise ValueError(f"{path} has an RDM whose 'what' is {odd[0]!r}; expected one of {', '.join(_WHAT)}")
    return rdms


def _read_thumbnails(path: Path, rdms: xr.DataArray | None) -> dict[str, np.ndarray]:
    # any other array means that another program wrote the file
    arrays = read_arrays(path)
    if set(arrays) != {"ids", "images"}:
        raise ValueError(f"{path} holds {name_some(sorted(arrays))}; expected 'ids' and 'images'")
    ids, images = arrays["ids"], arrays["images"]
    if images.ndim != 4 or images.shape[-1] != 3 or len(images) != len(ids) or images.dtype != np.uint8:
        raise ValueError(
            f"{path} has {len(ids)} ids and images {images.dtype} of shape {images.shape}; expected uint8 of shape "
            f"({len(ids)}, height, width, 3)"
        )
    found = {str(stimulus): image for stimulus, image in zip(ids, images, strict=True)}
    stimuli = [] if rdms is None else map(str, rdms["stimulus"].values)
    lacking = [stimulus for stimulus in stimuli if stimulus not in found]
    if lacking:
        raise ValueError(f"{path} has no image of {len(lacking)} stimuli of rdms.nc: {name_some(lacking)}")
    return found
