"""Parts of RDMs that a file holds, completed with the caller's words.

A reader gathers `Parts`: values, and what the file says about them. `complete` adds what the caller gave (`Given`)
where the file says nothing, refuses what contradicts it, and labels the result. What neither knows is asked for.
"""

import re
import warnings
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
import xarray as xr

from brainrdl.arguments import did_you_mean, name_some
from brainrdl.exchange.missing import LABELS, MissingError, missing_labels, missing_metric, missing_order
from brainrdl.exchange.seal import Seal, check_seal
from brainrdl.files.budget import check_claim
from brainrdl.ids import check_ids, difference, spelling, text_order
from brainrdl.rdms.labelled import label_rdms
from brainrdl.rdms.layout import METRICS, check_rdms
from brainrdl.rdms.plausible import check_people, check_possible, check_varied
from brainrdl.rdms.subjects import subjects_of
from brainrdl.rdms.triangles import stimuli_of

Order = Literal["row-major", "column-major"]
"""The order of the upper triangle's pairs in a vector: by row (SciPy, torch, rsatoolbox and MATLAB's `pdist` and
`squareform`), or by column (MATLAB's ``rdm(triu(true(n), 1))``; nilearn's lower triangle by row)."""

Coord = tuple[tuple[str, ...], Any]
"""A coordinate: its dimensions, its values."""


@dataclass(frozen=True)
class Given:
    """The caller's words about a file; see `read_rdms`."""

    stimuli: Iterable[str] | Mapping[int, str] | str | None = None
    metric: str | None = None
    names: Iterable[str] | str | None = None
    order: Order | None = None
    variable: str | None = None
    max_bytes: int | None = None
    subjects: Sequence[str] | str | int | None = None  # whose the RDMs are, see `brainrdl.rdms.subjects`
    # the RDMs to read, by their names and coordinates: a file with an RDM that cannot be one is read without it
    rows: Callable[[Mapping[str, Any]], Sequence[int]] | None = None

    def __post_init__(self) -> None:
        """Refuse what no file could agree with."""
        if self.variable is not None and not isinstance(self.variable, str):
            raise TypeError(f"variable is {self.variable!r}; expected the name of one, a string")
        if self.order is not None and self.order not in get_args(Order):
            raise ValueError(f"unknown order {self.order!r}; known are {', '.join(get_args(Order))}")
        if self.metric is not None and self.metric not in METRICS:
            near = did_you_mean(self.metric, METRICS)
            raise ValueError(f"unknown metric {self.metric!r}; known are {', '.join(METRICS)}{near}")


@dataclass(frozen=True)
class Parts:
    """The words of a file about its RDMs, as read and unchecked; None where it does not say."""

    values: np.ndarray  # (rdms, pairs) or (rdms, n, n)
    order: Order | None = None  # of condensed values, where the format fixes it or the file declares it
    stimuli: Sequence[str] | None = None
    names: Sequence[str] | None = None
    default_names: Sequence[str] | None = None  # where neither the file nor the caller names the RDMs
    # columns that could be the stimuli, or the names, where the file does not say which one is
    fields: Mapping[str, Sequence[str]] = field(default_factory=dict)
    name_fields: Mapping[str, Sequence[str]] = field(default_factory=dict)
    metric: str | None = None  # in this package's words
    foreign_metric: str | None = None  # in the file's words, where they are none of this package's
    coords: Mapping[str, Coord] = field(default_factory=dict)
    attrs: Mapping[str, Any] = field(default_factory=dict)  # without ``metric``
    seal: Seal | None = None  # where this package wrote the file
    beside: Mapping[str, Sequence[str]] = field(default_factory=dict)  # texts that lie beside a plain array

    @property
    def is_condensed(self) -> bool:
        """True if the values are vectors of pairs."""
        return self.values.ndim == 2

    @property
    def n_stimuli(self) -> int:
        """Number of stimuli that the values are of; ValueError if there is no such number."""
        if self.values.ndim == 3 and self.values.shape[1] == self.values.shape[2]:
            return int(self.values.shape[1])
        if self.values.ndim != 2:
            raise ValueError(f"the values have shape {self.values.shape}, expected (rdms, n(n-1)/2) or (rdms, n, n)")
        return stimuli_of(self.values.shape[1])

    def by_row(self, order: Order | None) -> np.ndarray:
        """Return the values with vectors in row-major order."""
        if not self.is_condensed or self.n_stimuli <= 3:  # up to three stimuli both orders are the same
            return self.values
        known = self.order or order
        if known is None:
            raise MissingError(missing_order(self.values.shape[1]))
        return self.values if known == "row-major" else by_row(self.values, self.n_stimuli)


def by_row(values: np.ndarray, n: int) -> np.ndarray:
    """Bring vectors (rdms, n(n-1)/2) from column-major into row-major order of the upper triangle."""
    j, i = np.tril_indices(n, -1)  # pairs i < j, sorted by column j
    position = np.empty((n, n), dtype=np.intp)
    position[i, j] = np.arange(len(i))
    ordered: np.ndarray = values[:, position[np.triu_indices(n, 1)]]
    return ordered


def complete(parts: Parts, given: Given, path: object) -> xr.DataArray:
    """Label a file's RDMs, with the caller's words where it says nothing; every message begins with `path`."""
    try:
        if given.order is not None and parts.order not in (None, given.order) and parts.is_condensed:
            raise ValueError(
                f"lists pairs in {parts.order} order, but the order {given.order!r} was given; leave it out"
            )
        if parts.values.dtype.kind not in "biuf":
            raise ValueError(f"the distances are of type {parts.values.dtype}; expected real numbers")
        n, n_rdms = parts.n_stimuli, len(parts.values)
        check_claim(n_rdms * n * n * 8, "its RDMs, as squares,", given.max_bytes)
        default = _default_names(parts, path)
        _check_complete(parts, given, n, default)
        values = parts.by_row(given.order)
        coords = dict(parts.coords)
        ids = _resolve("stimuli", given.stimuli, parts.stimuli, parts.fields, n)
        if parts.stimuli is None:
            _check_beside(ids, parts.beside)
        if parts.stimuli is not None and list(parts.stimuli) != list(ids):
            coords["stimulus_in_file"] = (("stimulus",), list(parts.stimuli))
        called = default if given.names is None else given.names
        names = _resolve("names", called, parts.names, parts.name_fields, n_rdms)
        if parts.names is not None and list(parts.names) != list(names):
            coords["name_in_file"] = (("rdm",), list(parts.names))
        metric = _metric(parts, given)
        _check_coords(coords, n)
        along = along_rdm(coords)
        people = None if given.subjects is None else subjects_of(given.subjects, n_rdms, along)
        named = {"rdm": names, **along} if people is None else {"rdm": names, **along, "subject": people}
        rows = list(range(n_rdms) if given.rows is None else given.rows(named))
        if (
            given.rows is not None and parts.seal is None
        ):  # a seal is of the whole file, which was valid when it was written
            values, names, coords = values[rows], [names[row] for row in rows], _of_rows(coords, rows)
            along, people = along_rdm(coords), people and [people[row] for row in rows]
        if "standard_error" in coords:
            along["standard_error"] = coords["standard_error"][1]
        others = {name: coord for name, coord in coords.items() if coord[0] in (("stimulus",), ("stimulus_",))}
        try:
            # labelled as undeclared, since the attributes have a say in whether negative values are meant
            rdms = label_rdms(values, ids, names, "undeclared", along)
            rdms = check_rdms(rdms.assign_coords(others).assign_attrs({**parts.attrs, "metric": metric}))
        except TypeError as error:  # of a file's content, which no caller's type can mend
            raise ValueError(str(error)) from error
        check_seal(rdms, parts.seal)
        if people is not None:  # after the seal, which is of what the file says
            rdms = rdms.assign_coords(subject=("rdm", people))
        if len(rows) < rdms.sizes["rdm"]:
            rdms = rdms.isel(rdm=rows)
        check_possible(rdms)
        check_varied(rdms)
    except (TypeError, ValueError) as error:
        raise type(error)(f"{path}: {error}") from error
    try:
        check_people(rdms)
    except ValueError as error:  # whoever reads them may leave one out; what counts people refuses them
        warnings.warn(f"{path}: {error}", stacklevel=3)
    return rdms


def along_rdm(coords: Mapping[str, Coord]) -> dict[str, Any]:
    """Values of the coordinates along ``rdm``."""
    return {name: values for name, (dims, values) in coords.items() if dims == ("rdm",)}


def _of_rows(coords: Mapping[str, Coord], rows: Sequence[int]) -> dict[str, Coord]:
    """The coordinates of some of the RDMs."""
    return {
        name: (dims, np.asarray(values)[list(rows)] if dims[:1] == ("rdm",) else values)
        for name, (dims, values) in coords.items()
    }


def _check_complete(parts: Parts, given: Given, n: int, default: Sequence[str] | None) -> None:
    """Ask for all that a file lacks in one error: a way in pieces is as many calls as there are pieces."""
    missing = []
    if given.stimuli is None and parts.stimuli is None:
        missing.append(missing_labels("stimuli", parts.fields, n))
    if given.names is parts.names is default is None:
        missing.append(missing_labels("names", parts.name_fields, len(parts.values)))
    if given.metric is None and parts.metric is None:
        missing.append(missing_metric(parts.foreign_metric))
    if given.order is None and parts.order is None and parts.is_condensed and n > 3:
        missing.append(missing_order(parts.values.shape[1]))
    if missing:
        raise MissingError("; and it ".join(missing))


def _default_names(parts: Parts, path: object) -> Sequence[str] | None:
    """Names of RDMs that their file does not name: the variable's or the file's own, numbered where there are several.

    Unlike the id of a stimulus, to which an image is joined, such a name is taken for nothing else.
    """
    column = column_of_names(parts)
    if column is not None or parts.default_names is not None or parts.names is not None or not isinstance(path, Path):
        return column or parts.default_names
    return numbered(path.stem, len(parts.values))


def column_of_names(parts: Parts) -> Sequence[str] | None:
    """The column ``name``, or the only one of texts that there is, if the file has no names and it tells RDMs apart."""
    columns = parts.name_fields
    column = columns.get("name", next(iter(columns.values())) if len(columns) == 1 else [])
    return column if parts.names is None and len(set(column)) == len(parts.values) else None


def numbered(name: str, count: int) -> list[str]:
    """Names of `count` RDMs that have one in common: ``name``, or ``name-1``, ``name-2`` …"""
    return [name] if count == 1 else [f"{name}-{number}" for number in range(1, count + 1)]


def _check_beside(ids: Sequence[str], beside: Mapping[str, Sequence[str]]) -> None:
    """Refuse ids in another order than a variable of the same file lists them in."""
    for name, listed in beside.items():
        if len(listed) == len(ids) and list(listed) != list(ids) and set(listed) == set(ids):
            first = next(i for i, (a, b) in enumerate(zip(ids, listed, strict=True)) if a != b)
            raise ValueError(
                f"stimuli are given in another order than the file's variable {name!r} lists them in, first at "
                f"position {first}: {ids[first]!r} was given, the file has {listed[first]!r}; give them in its order"
            )


def _check_coords(coords: Mapping[str, Coord], n: int) -> None:
    for name, (dims, values) in coords.items():
        if name == "standard_error" or dims == ("rdm",):
            continue
        if dims not in (("stimulus",), ("stimulus_",)):
            raise ValueError(
                f"the coordinate {name!r} lies along {dims}; expected ('rdm',), ('stimulus',) or ('stimulus_',)"
            )
        if len(values) != n:
            raise ValueError(f"the coordinate {name!r} has {len(values)} values along {dims[0]!r}, expected {n}")


def _resolve(
    what: str,
    given: Iterable[str] | Mapping[int, str] | str | None,
    stated: Sequence[str] | None,
    fields: Mapping[str, Sequence[str]],
    count: int,
) -> Sequence[str]:
    """Return the ids or names: the file's, or the caller's where it has none that can serve."""
    labels, axis = LABELS[what], "stimuli" if what == "stimuli" else "RDMs"
    if isinstance(given, str):
        return check_ids(_field(given, what, labels, stated, fields), what)
    answer = None if given is None else check_ids(_by_row(given, what) if isinstance(given, Mapping) else given, what)
    if answer is not None and len(answer) != count:
        raise ValueError(
            f"holds {count} {axis}, but {what} names {len(answer)}; give one for each, in the file's order"
        )
    if stated is None:
        if answer is not None:
            if what == "stimuli" and not isinstance(given, Mapping):
                _check_order(answer)
            return answer
        raise MissingError(missing_labels(what, fields, count))
    if len(stated) != count:
        raise ValueError(f"holds {count} {axis}, but {len(stated)} of {labels}; the file contradicts itself")
    copies = [name for name, times in Counter(stated).items() if times > 1]
    if answer is None:
        if copies:
            raise ValueError(
                f"{labels} must be unique, but the file has these more than once: {name_some(copies)}; give others in "
                f"their place by {what}=, in the file's order"
            )
        return check_ids(stated, what)
    if list(answer) != list(stated) and not copies:  # labels that repeat cannot serve, so that others are welcome
        first = next(i for i, (a, b) in enumerate(zip(answer, stated, strict=True)) if a != b)
        apart = difference(answer[first], stated[first])
        raise ValueError(
            f"{what} contradicts the file, first at position {first}: {answer[first]!r} was given, the file has "
            f"{stated[first]!r}{f' (they differ in {apart})' if apart else ''}; leave {what} out, and rename afterwards"
        )
    return answer


def _field(
    name: str, what: str, labels: str, stated: Sequence[str] | None, fields: Mapping[str, Sequence[str]]
) -> Sequence[str]:
    """The field of that name; ``stimulus`` and ``rdm`` are those that hold the file's own labels, in every format."""
    own = "stimulus" if what == "stimuli" else "rdm"
    if name in fields:
        return fields[name]
    if name == own and stated is not None:
        return stated
    others = [field for field in fields if fields[field] is not stated]
    there = f"; there are {name_some(fields)}{spelling([name], fields)}" if others else ", and has none to choose from"
    raise ValueError(f"has no field {name!r} that could hold {labels}{there}")


def _by_row(given: Mapping[int, str], what: str) -> list[str]:
    """Ids by their row, counted from 0."""
    if sorted(given) != list(range(len(given))):
        raise ValueError(
            f"{what} is a mapping, and its keys are not the rows 0 to {len(given) - 1}; give dict(enumerate(ids))"
        )
    return [given[row] for row in range(len(given))]


def _check_order(ids: Sequence[str]) -> None:
    """Ask for the file's order where that of the ids may be none but the alphabet's.

    A folder is listed img1, img10, img2; whoever numbers images, and saves rows, counts img1, img2, img3.
    """
    if found := text_order(ids):
        place, by_number = found
        raise ValueError(
            f"has no ids, and stimuli= gives them in the order of text, which the file may not have: position {place} "
            f"is {ids[place]!r} in the order of text and {by_number!r} in that of numbers; give the ids in the file's "
            "order, or, where its rows follow the text, by row: stimuli=dict(enumerate(ids)), on the command line "
            "--as-listed"
        )


def _metric(parts: Parts, given: Given) -> str:
    if parts.metric is None:
        if given.metric is None:
            raise MissingError(missing_metric(parts.foreign_metric))
        return given.metric
    if given.metric not in (None, parts.metric):
        raise ValueError(
            f"the metric {given.metric!r} contradicts the file, which says {parts.metric!r}; leave the metric out"
        )
    return parts.metric


def as_labels(values: Iterable[Any], place: str) -> list[str]:
    """Read labels: text as it is, bytes as UTF-8, whole numbers as their digits; ValueError for anything else."""
    labels = []
    for value in values:
        if isinstance(value, bytes):
            try:
                value = value.decode()
            except UnicodeDecodeError as error:
                raise ValueError(
                    f"{place} holds {value!r}, which is not UTF-8; write the file again in UTF-8"
                ) from error
        if isinstance(value, bool) or not isinstance(value, str | int):
            raise ValueError(
                f"{place} holds {value!r}, of type {type(value).__name__}; expected strings, which alone are labels: "
                "convert them where the file was made"
            )
        labels.append(str(value))
    return labels


def texts_of(value: Any) -> list[str] | None:
    """Read a variable as a list of texts: strings, an array or a cell array of them; None for anything else."""
    if isinstance(value, np.ndarray):
        value = value.reshape(-1).tolist()
    if not isinstance(value, list) or not value:
        return None
    # a cell holds the rows of a char matrix, here one
    texts = [cell[0] if isinstance(cell, list) and len(cell) == 1 else cell for cell in value]
    texts = [text.decode(errors="replace") if isinstance(text, bytes) else text for text in texts]
    return texts if all(isinstance(text, str) for text in texts) else None


def with_texts(parts: Parts, variables: Mapping[str, Any]) -> Parts:
    """Note the texts among a file's variables, which may be the ids of a plain array beside them."""
    found = {name: texts for name, value in variables.items() if (texts := texts_of(value)) is not None}
    return replace(parts, beside=found)


def unpadded(texts: Iterable[str]) -> list[str]:
    """Strip the spaces with which MATLAB fills the rows of a char matrix."""
    return [text.rstrip(" \0") for text in texts]


def toolbox_coords(names: Sequence[str]) -> dict[str, Coord]:
    """Read ROI, subject and session from names in the MATLAB RSA toolbox's form, ``ROI | subject | Session: 1``."""
    found = [re.fullmatch(r"(.+?) \| (.+?) \| Session: ?(\d+)", name) for name in names]
    if not all(found):
        return {}
    columns = zip(*(match.groups() for match in found if match), strict=True)
    roi, subject, session = (list(column) for column in columns)
    return {
        "roi": (("rdm",), roi),
        "subject": (("rdm",), subject),
        "session": (("rdm",), [int(number) for number in session]),
    }
