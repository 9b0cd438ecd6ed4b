"""Tidy CSV: one row per RDM and pair.

Columns ``rdm``, ``stimulus``, ``stimulus_`` and ``dissimilarity``, then ``metric`` and the coordinates along
``rdm``. A last column, ``brainrdl``, holds the other labels in its first row. Any tool's table with the first four
columns is read (``rdm`` may be missing where there is one RDM): rows in any order, each pair once or both ways
round, all of them, unmeasured ones with an empty cell or NaN; stimuli and RDMs in order of first occurrence.

A square matrix, with ids in its first row and column or without any, is a plain array (`brainrdl.exchange.plain`).
"""

import csv
import sys
from collections import Counter
from dataclasses import replace
from itertools import zip_longest
from pathlib import Path

import numpy as np
import pandas as pd
import xarray as xr

from brainrdl.exchange.document import Document, decode_values, encode_values, to_document
from brainrdl.exchange.parts import Coord, Parts
from brainrdl.exchange.plain import from_array
from brainrdl.exchange.seal import KEY, checksum
from brainrdl.files.budget import BudgetError, Tally
from brainrdl.ids import alike, difference, spelling
from brainrdl.rdms.layout import DIMS
from brainrdl.rdms.triangles import upper_triangles

_OURS = "brainrdl"
_PER_ROW, _PER_CELL = 100, 70  # bytes of a row's list and of a cell's text
_MOST_COLUMNS = 1000
_RESERVED = (*DIMS, "dissimilarity", "metric", _OURS)


def read_parts(path: Path, max_bytes: int | None = None) -> Parts:
    """Read a table."""
    header, rows_of_cells = _cells_of(path, max_bytes)
    square = _square(header, rows_of_cells, path)
    if square is not None:
        return square
    table = _table(header, rows_of_cells, path)
    missing = [name for name in ("stimulus", "stimulus_", "dissimilarity") if name not in table]
    if missing or table.empty:
        raise ValueError(
            f"{path} lacks {', '.join(map(repr, missing)) or 'rows'}; expected the columns rdm, stimulus, stimulus_, "
            f"dissimilarity with one row per RDM and pair{spelling(missing, map(str, table.columns))}"
        )
    names = list(dict.fromkeys(table["rdm"])) if "rdm" in table else None
    row_of = {name: row for row, name in enumerate(names or ())}
    rows = table["rdm"].map(row_of).to_numpy() if names else np.zeros(len(table), int)
    ours = Document(table[_OURS].iloc[0], f"the column {_OURS!r} of {path}") if _OURS in table else None
    pairs = table[["stimulus", "stimulus_"]].to_numpy()
    stimuli = list(dict.fromkeys(pairs.reshape(-1).tolist())) if ours is None else ours.stimuli
    unknown = set(pairs.reshape(-1).tolist()) - set(stimuli)
    if unknown:
        raise ValueError(
            f"{path}: the rows name {min(unknown)!r}, which is not among the stimuli that its column {_OURS!r} lists"
            f"{spelling(sorted(unknown), stimuli)}; remove that column after editing"
        )
    values = _squares(table, rows, pairs, stimuli, names or ["(one)"], path)
    metric, attrs = _metric(table, path), {}
    coords = {str(name): _along(table[name], rows, str(name), path) for name in table.columns if name not in _RESERVED}
    if ours is not None:  # it says the types too, but the cells say what RDMs there are
        typed = ours.coords_of(names or ours.names, f"the column {_OURS!r} of {path}")
        for name, (dims, column) in typed.items():
            if dims == ("rdm",) and (name not in coords or _cells(column) != list(coords[name][1])):
                raise ValueError(
                    f"{path}: column {name!r} is not as it was written; remove the column {_OURS!r} after editing"
                )
        coords, metric, attrs = {**coords, **typed}, metric or ours.metric, ours.attrs
    # a table of fewer RDMs, or in another order, is another table, and its rows say so; without the last RDM it may as
    # well be cut off
    is_other = ours is not None and names is not None and names != ours.names and ours.names[-1] in names
    seal = None if ours is None or is_other else ours.seal
    return Parts(values, None, stimuli, names, metric=metric, coords=coords, attrs=attrs, seal=seal)


def _cells_of(path: Path, max_bytes: int | None) -> tuple[list[str], list[list[str]]]:
    """The first row, and the others, each as long as the first."""
    before = csv.field_size_limit(min(sys.maxsize, 2**31 - 1))  # our own column holds all labels in one cell
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.reader(file, strict=True)
            header = next(reader, [])
            _check_separator(header, path)
            tally = Tally(str(path), max_bytes)
            tally.add(path.stat().st_size)
            rows = []
            for row in reader:
                if row and len(row) != len(header):
                    raise _ShapeError(
                        f"{path}: the row that ends in line {reader.line_num} has {len(row)} cells, the header "
                        f"{len(header)}; the file is cut off, or a comma is too many or too few"
                    )
                if row:
                    tally.add(_PER_ROW + _PER_CELL * len(row))
                    rows.append(row)
    except (_ShapeError, BudgetError):
        raise
    except (csv.Error, ValueError) as error:
        raise ValueError(f"{path} is not a CSV table in UTF-8, or is cut off; write it again") from error
    finally:
        csv.field_size_limit(before)
    return header, rows


def _table(header: list[str], rows: list[list[str]], path: Path) -> pd.DataFrame:
    """The cells as text."""
    if len(header) > _MOST_COLUMNS:
        raise ValueError(f"{path} has {len(header)} columns, expected at most {_MOST_COLUMNS}; keep those of the RDMs")
    odd = [name for name, count in Counter(header).items() if not name or count > 1]
    if odd:
        what = f"several columns named {odd[0]!r}" if odd[0] else "a column without a name"
        raise ValueError(f"{path} has {what}; give each column a name of its own")
    return pd.DataFrame(rows, columns=header, dtype=object)


def _check_separator(header: list[str], path: Path) -> None:
    """Refuse a table whose cells are separated as spreadsheets of many languages do, by name."""
    separators = {";": "semicolons", "\t": "tabs"}
    found = next((mark for mark in separators if len(header) == 1 and mark in header[0]), None)
    if found is not None:
        raise _ShapeError(
            f"{path} separates its cells by {separators[found]}; expected commas, and points in numbers: write it "
            f"again, in Python pandas.read_csv(path, sep={found!r}, decimal=…).to_csv(path, index=False)"
        )


def _square(header: list[str], rows: list[list[str]], path: Path) -> Parts | None:
    """A square matrix of numbers, with labels before rows and columns, above the columns, or without; or None."""
    labels: list[str] | None = None
    # the first row and column of a symmetric matrix are the same too; beside an empty diagonal, counts are labels
    bare = all(map(_is_number, header[1:])) and (_is_number(header[0]) or not all(map(str.isdecimal, header[1:])))
    if len(rows) > 1 and not bare and [row[0] for row in rows] == header[1:]:
        labels, cells = header[1:], [row[1:] for row in rows]
    elif len(rows) + 1 == len(header) > 1 and bare:
        cells = [header, *rows]
    elif len(rows) == len(header) > 1 and all(_is_number(cell) or not cell for row in rows for cell in row):
        labels, cells = header, rows
    else:
        return None
    array = np.array([[_number(cell, path) for cell in row] for row in cells])
    # pandas' own numbering, of a matrix that had no labels, is none of stimuli
    ids = None if labels == [str(place) for place in range(len(cells))] else labels
    return replace(from_array(array, str(path), path.stem), stimuli=ids)


def _is_number(cell: str) -> bool:
    try:
        float(cell)
    except ValueError:
        return False
    return True


class _ShapeError(ValueError):
    pass


def write(rdms: xr.DataArray, path: Path) -> None:
    """Write a table."""
    n, n_rdms = rdms.sizes["stimulus"], rdms.sizes["rdm"]
    i, j = np.triu_indices(n, 1)
    ids = np.array(rdms["stimulus"].values.tolist(), dtype=object)
    columns: dict[str, object] = {
        "rdm": np.repeat(np.array(rdms["rdm"].values.tolist(), dtype=object), len(i)),
        "stimulus": np.tile(ids[i], n_rdms),
        "stimulus_": np.tile(ids[j], n_rdms),
        "dissimilarity": upper_triangles(rdms.values).reshape(-1),
        "metric": rdms.attrs["metric"],
    }
    for key, coord in rdms.coords.items():
        name = str(key)
        if name in ("metric", _OURS):
            raise ValueError(f"a tidy table has a column {name!r} of its own; rename the coordinate: rdms.rename(...)")
        if coord.dims == ("rdm",) and name != "rdm":
            columns[name] = np.repeat(np.array(_cells(decode_values(encode_values(coord))), dtype=object), len(i))
    table = pd.DataFrame(columns)
    table[_OURS] = [to_document(rdms, **{KEY: checksum(rdms)})] + [""] * (len(table) - 1)
    # repr gives a float back exactly; quotes keep an id that looks like a number or holds a line break what it is
    table.to_csv(path, index=False, na_rep="NaN", quoting=csv.QUOTE_NONNUMERIC, lineterminator="\n", encoding="utf-8")


def _squares(
    table: pd.DataFrame, rows: np.ndarray, pairs: np.ndarray, stimuli: list[str], names: list[str], path: Path
) -> np.ndarray:
    n = len(stimuli)
    row_of = {stimulus: position for position, stimulus in enumerate(stimuli)}
    i = np.array([row_of[stimulus] for stimulus in pairs[:, 0]])
    j = np.array([row_of[stimulus] for stimulus in pairs[:, 1]])
    distances = np.array([_number(cell, path) for cell in table["dissimilarity"]])
    places, count = np.unique((rows * n + i) * n + j, return_counts=True)
    if (count > 1).any():
        (k, a), b = divmod(int(places[count > 1][0]) // n, n), int(places[count > 1][0]) % n
        raise ValueError(
            f"{path}: stimuli {stimuli[a]!r} and {stimuli[b]!r} of RDM {names[k]!r} have several rows; expected one"
        )
    # before room is made for all pairs: a few rows can name stimuli enough to fill any memory
    there = np.unique(((rows * n + np.minimum(i, j)) * n + np.maximum(i, j))[i != j]).tolist()
    expected = ((k, a, b) for k in range(len(names)) for a in range(n) for b in range(a + 1, n))
    # both in one order, so that the first difference is the first pair without a row
    together = zip_longest(expected, there)
    absent = next((pair for pair, key in together if pair and (pair[0] * n + pair[1]) * n + pair[2] != key), None)
    if absent is not None:
        if same := alike(stimuli, case=True):
            raise ValueError(
                f"{path} names stimuli {same[0]!a} and {same[1]!a}, which differ in {difference(*same)} alone, and has "
                "no row for some of their pairs; give each stimulus one spelling"
            )
        k, a, b = absent
        raise ValueError(
            f"{path}: stimuli {stimuli[a]!r} and {stimuli[b]!r} of RDM {names[k]!r} have no row; add one, with NaN "
            "where unmeasured"
        )
    values = np.zeros((len(names), n, n))
    values[rows, j, i] = distances
    values[rows, i, j] = distances  # last, so that a pair given both ways round stays as the table has it
    return values


def _number(cell: str, path: Path) -> float:
    try:
        if "_" in cell:  # which Python alone takes for a separator
            raise ValueError
        return float(cell) if cell else float("nan")
    except ValueError:
        raise ValueError(f"{path}: dissimilarity is {cell!r}; expected a number, or nothing where unmeasured") from None


def _metric(table: pd.DataFrame, path: Path) -> str | None:
    if "metric" not in table:
        return None
    metrics = list(dict.fromkeys(table["metric"]))
    if len(metrics) > 1:
        raise ValueError(f"{path}: metrics differ, {metrics[0]!r} and {metrics[1]!r}; keep one per file")
    return metrics[0] or None


def _along(column: pd.Series, rows: np.ndarray, name: str, path: Path) -> Coord:
    values = column.to_numpy()
    firsts = np.unique(rows, return_index=True)[1]
    if (values != values[firsts][rows]).any():
        raise ValueError(
            f"{path}: column {name!r} differs within an RDM; expected one value for each RDM, so remove it"
        )
    return ("rdm",), values[firsts].astype(str)


def _cells(values: np.ndarray) -> list[str]:
    return [str(value) for value in (values.astype(str) if values.dtype.kind in "Mm" else values).tolist()]
