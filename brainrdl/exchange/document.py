"""Labels as JSON: what a format has no place for, added to it under our own name.

The text is plain ASCII, so that formats which know no other letters hold it too.
"""

import json
import math
import re
from collections.abc import Mapping, Sequence
from typing import Any, final

import numpy as np
import xarray as xr

from brainrdl.exchange.parts import Coord
from brainrdl.exchange.seal import seal_of
from brainrdl.rdms.layout import DIMS

_VERSION = 1
_TYPES = re.compile(r"str|bool|u?int(8|16|32|64)|float(16|32|64)|(datetime64|timedelta64)\[[A-Za-zμ]+\]")


def to_document(rdms: xr.DataArray, **more: str) -> str:
    """Write ids, names, attributes and coordinates, all but the distances, and what else, as one line of JSON."""
    return json.dumps(
        {
            "version": _VERSION,
            **more,
            "stimuli": rdms["stimulus"].values.tolist(),
            "names": rdms["rdm"].values.tolist(),
            "attrs": {name: encode_number(value) for name, value in rdms.attrs.items()},
            "coords": {
                str(name): {"dims": coord.dims[0], **encode_values(coord)}
                for name, coord in rdms.coords.items()
                if name not in DIMS
            },
        },
        allow_nan=False,  # which no other reader of JSON would take
    )


@final
class Document:
    """The labels that `to_document` wrote; ValueError for another text, or a later version's."""

    def __init__(self, text: str, place: str) -> None:
        content = load_document(text, place)
        try:
            self.stimuli = [str(stimulus) for stimulus in content["stimuli"]]
            self.names = [str(name) for name in content["names"]]
            self.attrs = {str(name): decode_number(value) for name, value in content["attrs"].items()}
            self.metric = str(self.attrs.pop("metric"))
            self.seal = seal_of(content, place)
            self.coords: dict[str, tuple[tuple[str, ...], np.ndarray]] = {
                str(name): ((str(coord["dims"]),), decode_values(coord)) for name, coord in content["coords"].items()
            }
            if any(dims == ("rdm",) and len(values) != len(self.names) for dims, values in self.coords.values()):
                raise ValueError("a coordinate's length")
        except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
            raise damaged(place) from error

    def coords_of(self, names: Sequence[str], place: str) -> dict[str, Coord]:
        """Return the coordinates for RDMs of these names, which another program may have reordered or left out."""
        unknown = sorted(set(names) - set(self.names))
        if unknown:
            raise ValueError(
                f"RDM {unknown[0]!r} is not among those that {place} describes; remove it after renaming or adding "
                "RDMs, and give the labels when reading"
            )
        rows = [self.names.index(name) for name in names]
        return {
            name: (dims, values[rows]) if dims == ("rdm",) else (dims, values)
            for name, (dims, values) in self.coords.items()
        }


def load_document(text: str, place: str) -> dict[str, Any]:
    """Parse JSON of ours and check its version."""
    try:
        content = json.loads(text)
        version = content["version"]
    except (KeyError, TypeError, ValueError, RecursionError) as error:
        raise damaged(place) from error
    if version != _VERSION:
        raise ValueError(f"{place} is of version {version!r}, this brainrdl reads {_VERSION}; use a newer brainrdl")
    return dict(content)


def dump_document(content: Mapping[str, Any]) -> str:
    """Write JSON of ours, with the version."""
    return json.dumps({"version": _VERSION, **content}, allow_nan=False)


def damaged(place: str) -> ValueError:
    """Say that our own JSON cannot be understood."""
    return ValueError(f"{place} is damaged: it is not the JSON that write_rdms puts there; write the file again")


def is_type(kind: Any) -> bool:
    """True if `encode_values` gives a type this name."""
    return isinstance(kind, str) and _TYPES.fullmatch(kind) is not None


def encode_values(coord: xr.DataArray) -> dict[str, Any]:
    """Encode a coordinate's values with their type; TypeError for a type that JSON numbers cannot hold."""
    values = coord.values
    if values.dtype.kind in "OUT":
        return {"type": "str", "values": [str(value) for value in values.tolist()]}
    name = str(values.dtype.newbyteorder("="))
    if not _TYPES.fullmatch(name):
        raise TypeError(f"coordinate {coord.name!r} is of type {name}, which only memory can hold; convert it")
    if values.dtype.kind in "Mm":
        return {"type": name, "values": values.astype(np.int64).tolist()}
    if values.dtype.kind == "f":
        return {"type": name, "values": [encode_number(value) for value in values.astype(np.float64).tolist()]}
    return {"type": name, "values": values.tolist()}


def decode_values(coord: Mapping[str, Any]) -> np.ndarray:
    """Decode what `encode_values` wrote."""
    kind, values = coord["type"], coord["values"]
    if not is_type(kind) or not isinstance(values, list):
        raise ValueError(f"unknown type {kind!r}")
    if kind == "str":
        return np.array([str(value) for value in values], dtype=np.str_)
    return np.array([decode_number(value) for value in values], dtype=np.int64 if "time" in kind else None).astype(kind)


def encode_number(value: Any) -> Any:
    """Turn NumPy's numbers into Python's, and those that JSON lacks (NaN, ±inf) into ``{"float": text}``."""
    plain = value.item() if isinstance(value, np.generic) else value
    return {"float": str(plain)} if isinstance(plain, float) and not math.isfinite(plain) else plain


def decode_number(value: Any) -> Any:
    """Undo `encode_number`."""
    return float(value["float"]) if isinstance(value, dict) else value
