"""Events and confounds: tables from disk, with the file's name in every complaint."""

from pathlib import Path
from typing import TypeAlias

import numpy as np
import pandas as pd

from brainrdl.arguments import name_some

Table: TypeAlias = pd.DataFrame | str | Path


def read_events(events: Table, *, n_scans: int, t_r: float, name: str | None = None) -> pd.DataFrame:
    """Read a run's events, by onset: ``onset`` and ``duration`` (seconds) and ``trial_type`` (str, as a file has it).

    Complaints call a DataFrame `name`: of columns, empty or wrong values, times outside the run, and modulated events.
    """
    name = name or (str(events) if isinstance(events, str | Path) else "the events")
    table = read_table(events, name)
    missing = [column for column in ("onset", "duration", "trial_type") if column not in table]
    if missing:
        raise ValueError(
            f"{name} has no column {name_some(missing)}; its columns are {name_some(list(table.columns))}. Events need "
            "onset and duration in seconds, and trial_type"
        )
    if table.empty:
        raise ValueError(f"{name} holds no event; leave the run out, or mend the file")
    numbers = {}
    for column in ("onset", "duration"):
        numbers[column] = pd.to_numeric(table[column], errors="coerce").astype(float)
        bad = np.flatnonzero(~np.isfinite(numbers[column]))
        if bad.size:
            raise ValueError(
                f"{name} has {column} {table[column].tolist()[bad[0]]!r} in row {bad[0] + 1}; expected seconds as a "
                "number"
            )
    types = read_labels(table, "trial_type", name, "name the stimulus of every event, or take such rows out")
    _check_modulation(table, name)
    _check_times(numbers["onset"], numbers["duration"], n_scans * t_r, name)
    clean = pd.DataFrame({**numbers, "trial_type": types}, index=table.index)
    return clean.sort_values("onset", kind="stable").reset_index(drop=True)


def read_confounds(confounds: Table | None, *, n_scans: int, name: str | None = None) -> pd.DataFrame | None:
    """Read the confounds of a run, a row per scan; None if there is no column. Complaints call a DataFrame `name`.

    A derivative's missing first values take the first that there is, as in nilearn; other gaps are a ValueError.
    """
    if confounds is None:
        return None
    name = name or (str(confounds) if isinstance(confounds, str | Path) else "the confounds")
    table = read_table(confounds, name).reset_index(drop=True)
    if table.shape[1] == 0:
        return None
    if len(table) != n_scans:
        raise ValueError(f"{name} has {len(table)} rows, but the run {n_scans} scans; expected a row per scan")
    columns = {}
    for column in table:
        values = pd.to_numeric(table[column], errors="coerce").to_numpy(dtype=float, copy=True)
        known = np.flatnonzero(np.isfinite(values))
        gaps = np.flatnonzero(~np.isfinite(values))
        if not known.size:
            raise ValueError(f"confound {column!r} of {name} has no value; leave it out")
        late = gaps[gaps > known[0]]
        if late.size:
            raise ValueError(
                f"confound {column!r} of {name} is {table[column].iloc[late[0]]} at scan {late[0]}; only the first "
                "values of a derivative may be missing"
            )
        # a derivative has no first value; 0 would be an outlier in a column far from 0
        values[gaps] = values[known[0]]
        columns[str(column)] = values
    return pd.DataFrame(columns)


def read_labels(table: pd.DataFrame, column: str, name: str, advice: str) -> list[str]:
    """Read a column of names; errors name table, column and row of an entry that is no text, or empty (with `advice`).

    Whole numbers of a DataFrame become text; other numbers are refused, as 1 and 1.0 would be two names.
    """
    check_filled(table, column, name, advice)
    labels = []
    for row, value in enumerate(table[column].tolist(), start=1):
        whole = isinstance(value, int | np.integer) and not isinstance(value, bool)
        if not (isinstance(value, str) or whole):
            raise TypeError(
                f"{name} has {column} {value!r} in row {row}, of type {type(value).__name__}; expected text, so that "
                "all runs spell a name alike"
            )
        labels.append(str(value).strip())
    return labels


def check_filled(table: pd.DataFrame, column: str, name: str, advice: str) -> None:
    """Raise a ValueError naming table, column and row if an entry is empty."""
    values = table[column]
    empty = np.flatnonzero(values.isna() | (values.astype(str).str.strip() == ""))
    if empty.size:
        raise ValueError(f"{name} has an empty {column} in row {empty[0] + 1} ({empty.size} in all); {advice}")


def read_table(table: Table, name: str) -> pd.DataFrame:
    """Read a tab-separated table as text, NaN where there is none or ``n/a``; a DataFrame is returned as it is."""
    if isinstance(table, pd.DataFrame):
        return table
    path = Path(table)
    if not path.is_file():
        raise FileNotFoundError(f"there is no table {path}")
    try:
        # text as it is written: 01 and 1 are two names, and None, NA and null are names
        return pd.read_csv(path, sep="\t", dtype=str, keep_default_na=False, na_values=["n/a", ""])
    except (ValueError, pd.errors.ParserError) as error:
        raise ValueError(f"{name} cannot be read as tab-separated values ({error})") from error


def _check_modulation(table: pd.DataFrame, name: str) -> None:
    if "modulation" not in table:
        return
    other = np.flatnonzero(pd.to_numeric(table["modulation"], errors="coerce").to_numpy(dtype=float) != 1)
    if other.size:
        raise ValueError(
            f"{name} has modulation {table['modulation'].tolist()[other[0]]!r} in row {other[0] + 1} ({other.size} not "
            "1 in all); a pattern is the response to a stimulus, not to its modulation, so take the column out"
        )


def _check_times(onset: pd.Series, duration: pd.Series, seconds: float, name: str) -> None:
    if (duration < 0).any():
        raise ValueError(f"{name} has duration {duration.min():g} s in row {duration.argmin() + 1}; expected 0 or more")
    late = np.flatnonzero(onset >= seconds)
    if late.size:
        # a thousand times too late, and in time once divided
        milliseconds = onset.max() > 20 * seconds and onset.max() / 1000 < seconds
        units = "the onsets look like milliseconds, expected seconds"
        advice = units if milliseconds else "expected seconds from the first scan of the run"
        raise ValueError(
            f"{name} has onset {onset.iloc[late[0]]:g} s in row {late[0] + 1}, past the last scan at {seconds:g} s; "
            f"{advice}"
        )
    if (onset < -24).any():
        raise ValueError(f"{name} has onset {onset.min():g} s, long before the first scan; expected seconds from it")
