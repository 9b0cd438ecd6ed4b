"""Events and confounds: tables from disk, with the file's name in every complaint."""

from pathlib import Path
from typing import TypeAlias

import numpy as np
import pandas as pd

from brainrdl.ids import name_some

Table: TypeAlias = pd.DataFrame | str | Path


def read_events(events: Table, *, n_scans: int, t_r: float, name: str | None = None) -> pd.DataFrame:
    """Read the events of a run, and check that they can be.

    Parameters
    ----------
    events : path or DataFrame
        With columns ``onset`` and ``duration`` in seconds from the first scan, and ``trial_type``.
    n_scans : int
    t_r : float
        Seconds per scan.
    name : str, optional
        What to call a DataFrame in a message.

    Returns
    -------
    DataFrame
        ``onset``, ``duration`` (float) and ``trial_type`` (str), by onset.

    Raises
    ------
    FileNotFoundError, ValueError
        If a column is missing, a value is empty or no number, or an event lies outside the run.

    Examples
    --------
    >>> table = pd.DataFrame({"onset": [10, 0], "duration": [2, 2], "trial_type": ["face", "house"]})
    >>> read_events(table, n_scans=20, t_r=1.0)["trial_type"].tolist()
    ['house', 'face']
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
                f"{name} has {column} {table[column].iloc[bad[0]]!r} in row {bad[0] + 1}; expected seconds as a number"
            )
    types = table["trial_type"]
    empty = np.flatnonzero(types.isna() | (types.astype(str).str.strip() == ""))
    if empty.size:
        raise ValueError(
            f"{name} has an empty trial_type in row {empty[0] + 1} ({empty.size} in all); name the stimulus of every "
            "event, or take such rows out"
        )
    _check_times(numbers["onset"], numbers["duration"], n_scans * t_r, name)
    clean = pd.DataFrame({**numbers, "trial_type": types.astype(str).str.strip()})
    return clean.sort_values("onset", kind="stable").reset_index(drop=True)


def read_confounds(confounds: Table | None, *, n_scans: int, name: str | None = None) -> pd.DataFrame | None:
    """Read the confounds of a run.

    Parameters
    ----------
    confounds : path, DataFrame or None
        A row per scan. A derivative's missing first values take the first value that there is, as in nilearn; other
        gaps are an error.
    n_scans : int
    name : str, optional
        What to call a DataFrame in a message.

    Returns
    -------
    DataFrame or None
        None if there is no column.

    Raises
    ------
    FileNotFoundError, ValueError
        If the length is not that of the run, a column is no number, or a value is missing past the beginning.

    Examples
    --------
    >>> read_confounds(pd.DataFrame({"rot_x_derivative1": [None, 0.5, 0.1]}), n_scans=3)
       rot_x_derivative1
    0                0.5
    1                0.5
    2                0.1
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
        values[gaps] = values[known[0]]
        columns[str(column)] = values
    return pd.DataFrame(columns)


def read_table(table: Table, name: str) -> pd.DataFrame:
    """Read a tab-separated table; a DataFrame is returned as it is."""
    if isinstance(table, pd.DataFrame):
        return table
    path = Path(table)
    if not path.is_file():
        raise FileNotFoundError(f"there is no table {path}")
    try:
        return pd.read_csv(path, sep="\t", na_values=["n/a"])
    except (ValueError, pd.errors.ParserError) as error:
        raise ValueError(f"{name} cannot be read as tab-separated values ({error})") from error


def _check_times(onset: pd.Series, duration: pd.Series, seconds: float, name: str) -> None:
    if (duration < 0).any():
        raise ValueError(f"{name} has duration {duration.min():g} s in row {duration.argmin() + 1}; expected 0 or more")
    late = np.flatnonzero(onset >= seconds)
    if late.size:
        milliseconds = onset.max() > 20 * seconds and onset.max() / 1000 < seconds
        raise ValueError(
            f"{name} has onset {onset.iloc[late[0]]:g} s in row {late[0] + 1}, past the last scan at {seconds:g} s"
            + (
                "; the onsets look like milliseconds, expected seconds"
                if milliseconds
                else "; expected seconds from the first scan of the run"
            )
        )
    if (onset < -24).any():
        raise ValueError(f"{name} has onset {onset.min():g} s, long before the first scan; expected seconds from it")
