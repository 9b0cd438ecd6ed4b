"""Events and confounds: tables from disk, with the file's name in every complaint."""

import gzip
import warnings
import zlib
from collections import Counter
from collections.abc import Sequence
from io import BytesIO
from pathlib import Path
from typing import TypeAlias

import numpy as np
import pandas as pd

from brainrdl.arguments import name_some
from brainrdl.files.budget import BudgetError, allowed_bytes, check_claim

Table: TypeAlias = pd.DataFrame | str | Path

_COLUMNS = ("onset", "duration", "trial_type")
_CELL_BYTES = 64  # of a cell of text in memory, roughly; at least one byte of the file
_COLUMNS_MOST = 20_000  # twenty times what fMRIPrep writes
_LINE_MOST = 2**24
_OVERLAP = 0.1  # of an event's duration: what nominal durations and measured onsets disagree by
_DERIVATIVES = 2  # first values that a second derivative lacks


def read_events(
    events: Table, *, n_scans: int, t_r: float, name: str | None = None, skip_empty: bool = False
) -> pd.DataFrame:
    """Read a run's events, by onset: ``onset`` and ``duration`` (seconds) and ``trial_type`` (str, as a file has it).

    Complaints call a DataFrame `name`: of columns, empty or wrong values, times outside the run, one event given twice,
    and modulated events. `skip_empty` leaves out rows with an empty entry; ``attrs["skipped"]`` is their number.
    """
    name = name or (str(events) if isinstance(events, str | Path) else "the events")
    table = read_table(events, name)
    missing = [column for column in _COLUMNS if column not in table]
    if missing:
        raise ValueError(
            f"{name} has no column {name_some(missing)}; its columns are {name_some(list(table.columns))}. Events need "
            "onset and duration in seconds, and trial_type"
        )
    rows = len(table)
    if skip_empty:
        table = table[~pd.concat([_empty(table[column]) for column in _COLUMNS], axis=1).any(axis=1)]
    if table.empty:
        only = f"; its {rows} rows all lack an entry" if rows else ""
        raise ValueError(f"{name} holds no event{only}; leave the run out, or mend the file")
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
    clean = pd.DataFrame({**numbers, "trial_type": types}, index=table.index)
    _check_times(clean, n_scans * t_r, name)
    clean = clean.sort_values("onset", kind="stable").reset_index(drop=True)
    _check_twice(clean, name)
    clean.attrs["skipped"] = rows - len(table)
    return clean


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
    unsteady = sum(str(column).startswith("non_steady_state_outlier") for column in table)
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
        if gaps.size > max(_DERIVATIVES, unsteady):
            raise ValueError(
                f"confound {column!r} of {name} lacks its first {gaps.size} values; only the {_DERIVATIVES} first of a "
                "derivative may be missing, or those of scans that have a regressor of their own "
                "(non_steady_state_outlier), so leave it out"
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
    empty = np.flatnonzero(_empty(table[column]))
    if empty.size:
        raise ValueError(f"{name} has an empty {column} in row {empty[0] + 1} ({empty.size} in all); {advice}")


def _empty(values: pd.Series) -> pd.Series:
    """True where an entry is missing, empty or ``n/a``, which a DataFrame read by other means still has."""
    text = values.astype(str).str.strip()
    return values.isna() | (text == "") | (text == "n/a")


def read_table(table: Table, name: str) -> pd.DataFrame:
    """Read a tab-separated table as text, NaN where there is none or ``n/a``; a DataFrame is returned as it is."""
    if isinstance(table, pd.DataFrame):
        _check_names([str(column) for column in table], name)
        return table
    path = Path(table)
    if not path.is_file():
        raise FileNotFoundError(f"there is no table {path}")
    with path.open("rb") as file:
        names = file.readline(_LINE_MOST).decode("utf-8-sig", "replace").rstrip("\r\n").split("\t")
    if len(names) > _COLUMNS_MOST:
        raise ValueError(f"{name} has {len(names)} columns or more; expected at most {_COLUMNS_MOST}")
    # pandas would call the second onset.1, and nobody would look at it
    _check_names(names, name)
    try:
        content = _unpacked(path, f"{name}, a table,")
        # text as it is written: 01 and 1 are two names, and None, NA and null are names
        return pd.read_csv(content, sep="\t", dtype=str, keep_default_na=False, na_values=["n/a", ""])
    except BudgetError:
        raise
    except (ValueError, OverflowError, EOFError, zlib.error, pd.errors.ParserError) as error:
        raise ValueError(f"{name} cannot be read as tab-separated values ({error})") from error


def _unpacked(path: Path, place: str) -> BytesIO:
    """The text of a table, gzipped or not; BudgetError if its cells would take more memory than one file may."""
    most = allowed_bytes() // _CELL_BYTES
    with path.open("rb") as file:
        zipped = file.read(2) == b"\x1f\x8b"
    with gzip.open(path) if zipped else path.open("rb") as file:
        content = file.read(most + 1)
    check_claim(_CELL_BYTES * len(content), place, detail="(as cells)")
    return BytesIO(content)


def _check_names(columns: Sequence[str], name: str) -> None:
    twice = [column for column, count in Counter(columns).items() if count > 1 and column]
    if twice:
        raise ValueError(f"{name} has the column {twice[0]!r} more than once; take one out, or rename it")


def _check_modulation(table: pd.DataFrame, name: str) -> None:
    if "modulation" not in table:
        return
    other = np.flatnonzero(pd.to_numeric(table["modulation"], errors="coerce").to_numpy(dtype=float) != 1)
    if other.size:
        raise ValueError(
            f"{name} has modulation {table['modulation'].tolist()[other[0]]!r} in row {other[0] + 1} ({other.size} not "
            "1 in all); a pattern is the response to a stimulus, not to its modulation, so take the column out"
        )


def _check_times(events: pd.DataFrame, seconds: float, name: str) -> None:
    """Raise a ValueError for times that cannot be in a run of so many seconds; warn of events that outlast it."""
    onset, duration = events["onset"], events["duration"]
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
    gaps = np.diff(np.unique(onset))
    # where several events would go on at any time, another unit is meant
    crowded = len(gaps) >= 2 and duration.median() >= 50 and duration.median() > 5 * np.median(gaps)
    # from before the first scan to the last, at most
    long = np.flatnonzero(duration > seconds + 24)
    if long.size or crowded:
        row = long[0] if long.size else int(np.argmax(duration))
        unit = "the durations look like milliseconds, expected seconds" if crowded else "expected seconds"
        against = f"and events every {np.median(gaps):g} s" if crowded else f"in a run of {seconds:g} s"
        raise ValueError(f"{name} has duration {duration.iloc[row]:g} s in row {row + 1} {against}; {unit}")
    # scans are sampled up to one repetition before the end, and a file rounds its seconds
    outlasting = np.flatnonzero(onset + duration > seconds + 1e-3)
    if outlasting.size:
        row = outlasting[0]
        warnings.warn(
            f"{name} has an event in row {row + 1} that lasts from {onset.iloc[row]:g} to "
            f"{onset.iloc[row] + duration.iloc[row]:g} s, past the last scan at {seconds:g} s ({outlasting.size} in "
            "all); the model ends with the scans, so mend the duration if the stimulus ended before",
            UserWarning,
            stacklevel=3,
        )


def _check_twice(events: pd.DataFrame, name: str) -> None:
    """Raise a ValueError for an event of one trial type that is there twice, or while another of its type goes on."""
    by_type = events.sort_values(["trial_type", "onset"], kind="stable")
    kind, onset, duration = (by_type[column].to_numpy() for column in ("trial_type", "onset", "duration"))
    same, step = kind[1:] == kind[:-1], np.diff(onset)
    twice = np.flatnonzero(same & (step == 0))
    if twice.size:
        k = twice[0]
        raise ValueError(
            f"{name} has the event {kind[k]!r} at {onset[k]:g} s twice ({twice.size} in all), which would double its "
            "regressor; take one out"
        )
    over = np.flatnonzero(same & (duration[:-1] - step > _OVERLAP * duration[:-1]))
    if over.size:
        k = over[0]
        raise ValueError(
            f"{name} has an event {kind[k]!r} at {onset[k + 1]:g} s while that from {onset[k]:g} s lasts to "
            f"{onset[k] + duration[k]:g} s ({over.size} in all), so that its regressor would count twice; mend the "
            "durations, or name the events apart"
        )
