"""rsatoolbox: its RDMs in memory, and its HDF5 files.

Both are one dictionary: ``dissimilarities`` (condensed, row-major), ``dissimilarity_measure``, and descriptors
of the array, of the RDMs and of the patterns (stimuli). Ours go where its own functions find them and keep them
aligned: ids as the pattern descriptor ``stimulus``, names as the RDM descriptor ``rdm``, coordinates and
attributes as descriptors of their own names; one more descriptor, ``brainrdl``, holds their types.

Its words for metrics: what it calls ``squared euclidean``, and in places ``euclidean``, is the mean over channels
of squared differences, our ``mse``; its ``squared mahalanobis`` is our ``mahalanobis``.
"""

import io
import json
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import h5py
import numpy as np
import xarray as xr

from brainrdl.exchange.document import damaged, dump_document, encode_values, is_type, load_document
from brainrdl.exchange.hdf5 import read_group, read_hdf5, write_group
from brainrdl.exchange.missing import PLAIN, MissingError
from brainrdl.exchange.parts import Coord, Given, Parts, as_labels, complete, with_texts
from brainrdl.exchange.plain import from_array, pick, possible, shapes
from brainrdl.exchange.seal import KEY, checksum, seal_of
from brainrdl.rdms.labelled import condense
from brainrdl.rdms.layout import DIMS

if TYPE_CHECKING:
    from rsatoolbox.rdm import RDMs

_THEIR_NAMES = {
    "mse": "squared euclidean",
    "mahalanobis": "squared mahalanobis",
    # theirs is the mean of squares; these two must not be taken for it
    "euclidean": "root of summed squares",
    "sqeuclidean": "summed squares",
}
_OUR_NAMES = {
    **{theirs: ours for ours, theirs in _THEIR_NAMES.items()},
    "euclidean": "mse",
    "mahalanobis": "mahalanobis",
    "crossnobis": "crossnobis",
    "correlation": "correlation",
    "cosine": "cosine",
    "undeclared": "undeclared",
}
_OURS = "brainrdl"


def to_rsatoolbox(rdms: xr.DataArray) -> "RDMs":
    """Turn labelled RDMs into rsatoolbox's.

    Parameters
    ----------
    rdms : DataArray (rdm, stimulus, stimulus_)
        Labelled RDMs.

    Returns
    -------
    rsatoolbox.rdm.RDMs
        Ids are the pattern descriptor ``stimulus``, names the RDM descriptor ``rdm``; coordinates and attributes
        are descriptors too. ``mse`` is called ``squared euclidean``, as rsatoolbox does.

    Raises
    ------
    ImportError
        If rsatoolbox is not installed.
    TypeError, ValueError
        If there are standard errors, which it has no place for, or `rdms` is not labelled RDMs.

    Examples
    --------
    >>> import numpy as np, brainrdl as rdl
    >>> rdms = rdl.label_rdms(np.array([[0.2, 1.3, 1.1]]), ["face", "body", "house"], ["IT"], "mse")
    >>> theirs = rdl.to_rsatoolbox(rdms)
    >>> theirs.dissimilarity_measure, theirs.pattern_descriptors["stimulus"]
    ('squared euclidean', ['face', 'body', 'house'])
    >>> rdl.from_rsatoolbox(theirs).identical(rdms)
    True
    """
    try:
        from rsatoolbox.rdm import RDMs
    except ImportError as error:
        raise ImportError(
            "to_rsatoolbox makes objects of rsatoolbox, which is not installed: pip install rsatoolbox"
        ) from error
    content = _to_dict(rdms)
    return RDMs(
        dissimilarities=content["dissimilarities"],
        dissimilarity_measure=content["dissimilarity_measure"],
        descriptors=content["descriptors"],
        rdm_descriptors={name: values.tolist() for name, values in content["rdm_descriptors"].items()},
        pattern_descriptors={name: values.tolist() for name, values in content["pattern_descriptors"].items()},
    )


def from_rsatoolbox(
    rdms: "RDMs",
    *,
    stimuli: Sequence[str] | str | None = None,
    metric: str | None = None,
    names: Sequence[str] | str | None = None,
) -> xr.DataArray:
    """Label rsatoolbox's RDMs.

    Parameters
    ----------
    rdms : rsatoolbox.rdm.RDMs
        Its RDMs.
    stimuli, metric, names
        What they lack, as in `read_rdms`; a string for `stimuli` or `names` names the descriptor that holds them.

    Returns
    -------
    DataArray (rdm, stimulus, stimulus_)

    Raises
    ------
    TypeError, ValueError
        As `read_rdms`.

    Examples
    --------
    >>> import numpy as np, brainrdl as rdl
    >>> from rsatoolbox.rdm import RDMs
    >>> theirs = RDMs(
    ...     np.array([[0.2, 1.3, 1.1]]),
    ...     dissimilarity_measure="correlation",
    ...     pattern_descriptors={"conds": ["face", "body", "house"]},
    ... )
    >>> rdl.from_rsatoolbox(theirs, names=["IT"]).sel(rdm="IT", stimulus="face", stimulus_="house").item()
    1.3
    """
    if not hasattr(rdms, "to_dict") or not hasattr(rdms, "dissimilarities"):
        raise TypeError(f"expected rsatoolbox.rdm.RDMs, got a {type(rdms).__name__}")
    place = "rsatoolbox's RDMs"
    return complete(_from_dict(rdms.to_dict(), place), Given(stimuli, metric, names), place)


def read_parts(path: Path, variable: str | None = None, max_bytes: int | None = None) -> Parts:
    """Read an HDF5 file that rsatoolbox, or `write`, wrote, or a plain array of an HDF5 file by its name."""
    content = read_hdf5(path, read_group, max_bytes)
    if variable is None:
        return _from_dict(content, str(path))
    if KEY in content:  # one of ours, whose seal is of the whole
        complete(_from_dict(content, str(path)), Given(), path)
    name = variable.strip("/").replace("/", ".")  # as HDF5 writes a place in a group
    parts = from_array(pick(content, name, str(path)), f"the variable {variable!r} of {path}", variable)
    return with_texts(parts, content)


def write(rdms: xr.DataArray, path: Path) -> None:
    """Write an HDF5 file that `rsatoolbox.rdm.load_rdm` reads."""
    content = _to_dict(rdms)
    made = io.BytesIO()  # by way of memory: on a full disk the HDF5 library crashes
    # the newer layout takes attributes of more than 64 KiB
    with h5py.File(made, "w", libver=("v108", "v110")) as file:
        write_group(file, {**content, KEY: checksum(rdms)})  # where its own reader neither looks nor keeps it
    path.write_bytes(made.getbuffer())


def _to_dict(rdms: xr.DataArray) -> dict[str, Any]:
    """Labelled RDMs as rsatoolbox's dictionary."""
    distances = condense(rdms)
    metric = rdms.attrs.get("metric", "")
    rows = {"rdm": np.asarray(rdms["rdm"].values.tolist())}
    patterns = {"stimulus": np.asarray(rdms["stimulus"].values.tolist())}
    types = {}
    for key, coord in rdms.coords.items():
        if key in DIMS:
            continue
        name, encoded = str(key), encode_values(coord)
        types[name] = {"dims": coord.dims[0], "type": encoded["type"]}
        native = np.asarray(encoded["values"]) if coord.dtype.kind in "OUTMm" else coord.values
        (rows if coord.dims == ("rdm",) else patterns)[name] = native
    attrs = {name: value for name, value in rdms.attrs.items() if name != "metric"}
    return {
        "dissimilarities": distances,
        "dissimilarity_measure": _THEIR_NAMES.get(metric, metric),
        "descriptors": {
            **{name: str(value) if isinstance(value, str) else value for name, value in attrs.items()},
            _OURS: dump_document({"coords": types}),
        },
        "rdm_descriptors": rows,
        "pattern_descriptors": patterns,
    }


def _from_dict(content: Mapping[str, Any], place: str) -> Parts:
    values = content.get("dissimilarities")
    if not isinstance(values, np.ndarray):
        way = (
            f"; choose a plain array by variable=, of {shapes(content, found)}" if (found := possible(content)) else ""
        )
        message = (
            f"{place} holds no 'dissimilarities', as files of RDMs that rsatoolbox wrote do; there are: "
            f"{', '.join(map(repr, content)) or 'none'}{way}"
        )
        raise MissingError(message, PLAIN) if way else ValueError(message)
    descriptors, rows, patterns = (
        _mapping(content.get(kind), kind, place) for kind in ("descriptors", "rdm_descriptors", "pattern_descriptors")
    )
    types = _types(descriptors.pop(_OURS, None), f"the descriptor {_OURS!r} of {place}")
    rows, patterns = ({name: _listed(column) for name, column in columns.items()} for columns in (rows, patterns))
    coords: dict[str, Coord] = {}
    name_fields, fields = _string_columns(rows, place), _string_columns(patterns, place)
    if names := name_fields.get("rdm"):
        rows.pop("rdm")
    own = "stimulus" if "stimulus" in fields or len(fields) != 1 else next(iter(fields))  # the only labels there are
    if stimuli := fields.get(own):
        patterns.pop(own)
    for kind, dim, columns in (("rdm", "rdm", rows), ("pattern", "stimulus", patterns)):
        for name, column in columns.items():
            declared = types.get(name, {})
            if _is_array_each(column):
                warnings.warn(
                    f"{place}: the descriptor {name!r} holds an array for each, as rsatoolbox keeps a noise precision, "
                    "which labelled RDMs have no place for; it is left out",
                    stacklevel=4,
                )
                continue
            typed = _column(column, declared.get("type"), name, place)
            if name == "index" and not declared:
                if np.array_equal(typed, np.arange(len(typed))):
                    continue  # rsatoolbox's own numbering
                name = f"{kind}_index"
            if name in DIMS:  # numbers, which are not labels
                name = f"{kind}_{name}"
            if name in coords:
                raise ValueError(f"{place} has both an RDM and a pattern descriptor {name!r}; rename one of them")
            along = declared.get("dims", dim)
            if along not in (("rdm",) if dim == "rdm" else ("stimulus", "stimulus_")):
                raise damaged(f"the descriptor {_OURS!r} of {place}")
            coords[name] = ((along,), typed)
    measure = content.get("dissimilarity_measure")
    measure = None if measure is None else _text(measure, "dissimilarity_measure", place)
    attrs = {name: _attribute(value, name, place) for name, value in descriptors.items() if value is not None}
    metric = _OUR_NAMES.get(measure.lower()) if measure else None
    if measure and metric is None:
        attrs["dissimilarity_measure"] = measure
    return Parts(
        values=values,
        order="row-major",
        stimuli=stimuli,
        names=names,
        fields=fields,
        name_fields=name_fields,
        metric=metric,
        foreign_metric=measure,
        coords=coords,
        attrs=attrs,
        seal=seal_of(content),
    )


def _mapping(given: Any, kind: str, place: str) -> dict[str, Any]:
    if given is not None and not isinstance(given, Mapping):
        raise ValueError(f"{place}: {kind!r} is not a group of descriptors; the file is damaged: write it again")
    return dict(given or {})


def _types(ours: Any, place: str) -> dict[str, Any]:
    """Dimension and type of each coordinate, as `_to_dict` noted them."""
    if ours is None:
        return {}
    types = load_document(_text(ours, _OURS, place), place).get("coords", {})
    if not isinstance(types, dict) or not all(
        isinstance(declared, dict) and is_type(declared.get("type")) for declared in types.values()
    ):
        raise damaged(place)
    return types


def _listed(column: Any) -> Any:
    """A list that was no array, which rsatoolbox writes as a group by position."""
    if isinstance(column, Mapping) and all(key.isdigit() for key in column):
        return [column[key] for key in sorted(column, key=int)]
    return column


def _text(value: Any, name: str, place: str) -> str:
    value = value.item() if isinstance(value, np.ndarray) and value.ndim == 0 else value  # as HDF5 gives a string
    if not isinstance(value, str | bytes):
        raise ValueError(f"{place}: {name!r} is not text; the file is damaged: write it again")
    return as_labels([value], f"{place}: {name!r}")[0]


def _string_columns(columns: Mapping[str, Any], place: str) -> dict[str, list[str]]:
    """Those columns whose values are all strings."""
    lists = {name: np.asarray(column, dtype=object) for name, column in columns.items() if not _is_array_each(column)}
    return {
        name: as_labels(column.tolist(), f"{place}: descriptor {name!r}")
        for name, column in lists.items()
        if column.ndim == 1 and all(isinstance(value, str | bytes) for value in column.tolist())
    }


def _is_array_each(column: Any) -> bool:
    """True of a descriptor whose every value is an array of numbers, of one size or several, or None."""
    is_list = isinstance(column, list | tuple) or (isinstance(column, np.ndarray) and column.ndim > 0)
    values = list(column) if is_list else []
    arrays = [value for value in values if value is not None]
    return bool(arrays) and all(isinstance(value, np.ndarray | list) and np.ndim(value[:1]) for value in arrays)


def _column(column: Any, kind: str | None, name: str, place: str) -> np.ndarray:
    values = np.asarray(column)
    if values.ndim != 1 or values.dtype.kind not in "biufSUOTMm":
        raise ValueError(
            f"{place} has a descriptor {name!r} that holds no single value each, so it cannot become a coordinate; "
            "remove it"
        )
    if values.dtype.kind in "SO":
        if not all(isinstance(value, str | bytes) for value in values.tolist()):
            raise ValueError(f"{place} has a descriptor {name!r} that mixes types; convert them to one type")
        values = np.array(as_labels(values.tolist(), f"{place}: descriptor {name!r}"), dtype=np.str_)
    try:
        return values if kind in (None, "str") else values.astype(kind)
    except (TypeError, ValueError) as error:
        raise ValueError(
            f"{place} has a descriptor {name!r} whose values are not of the type {kind} that its {_OURS!r} notes; "
            "write the file again"
        ) from error


def _attribute(value: Any, name: str, place: str) -> Any:
    """A descriptor as a scalar or string: what else it may be becomes JSON."""
    value = np.asarray(value).tolist() if not isinstance(value, Mapping | str | bytes) else value
    if isinstance(value, str | bytes):
        return _text(value, name, place)
    is_number = isinstance(value, int | float) and not isinstance(value, bool)  # a bool is an int, and none of ours
    return value if is_number else json.dumps(value, default=str)
