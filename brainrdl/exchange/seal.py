"""The seal of a file of RDMs: a checksum of what was written, kept in the file, and compared with what is read.

It is of the content (distances, ids, names, coordinates, attributes), not of the bytes around it, so that it means the
same in every format. Another program's file has none, and one that another program writes anew loses it.
"""

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import xarray as xr

from brainrdl.rdms.layout import DIMS
from brainrdl.rdms.triangles import upper_triangles

KEY = "brainrdl_sha256"
"""Name of the attribute or key that holds a seal, where a format has named ones."""


@dataclass(frozen=True)
class Seal:
    """A checksum as a file states it, and where: ``the attribute 'brainrdl_sha256'``."""

    sha256: str
    place: str


def checksum(rdms: xr.DataArray) -> str:
    """Hash labelled RDMs, as they are read back: SHA-256, hexadecimal."""
    distances = upper_triangles(rdms.values).astype("<f8")
    distances[np.isnan(distances)] = np.nan  # one NaN for all that there are, whose bits formats do not keep
    labels = {
        "metric and others": {str(name): _plain(value) for name, value in rdms.attrs.items()},
        "coordinates": {
            str(name): [list(map(str, coord.dims)), _values(coord.values)]
            for name, coord in rdms.coords.items()
            if name not in DIMS
        },
        **{dim: [str(value) for value in rdms[dim].values.tolist()] for dim in DIMS[:2]},
    }
    hashed = hashlib.sha256(json.dumps(labels, sort_keys=True).encode())
    hashed.update((distances + 0.0).tobytes())  # -0.0 as 0.0
    return hashed.hexdigest()


def check_seal(rdms: xr.DataArray, seal: Seal | None) -> None:
    """Raise a ValueError unless the RDMs that were read are those that were sealed; without a seal all is well."""
    if seal is not None and checksum(rdms) != seal.sha256:
        raise ValueError(
            "its distances or labels are not those that were written (their SHA-256 is another), so that the file was "
            f"damaged or edited; put a copy in its place, or, where it was edited on purpose, remove {seal.place}"
        )


def seal_of(content: Mapping[str, Any], place: str = f"the attribute {KEY!r}") -> Seal | None:
    """Find a seal among a file's attributes or keys."""
    return Seal(str(content[KEY]), place) if KEY in content else None


def seal_text(rdms: xr.DataArray) -> bytes:
    """Write the seal for a place that holds a line of text (111 bytes at most with what a MATLAB file begins with)."""
    return f"written by brainrdl, sha256 {checksum(rdms)}".encode()


def seal_in_text(text: bytes, place: str) -> Seal | None:
    """Find the seal in such a line."""
    found = re.search(rb"brainrdl, sha256 ([0-9a-f]{64})", text)
    return None if found is None else Seal(found[1].decode(), place)


def _values(values: np.ndarray) -> list[Any]:
    """Values whatever type a format gave them: numbers by their value, times by their nanosecond."""
    kind = values.dtype.kind
    if kind in "Mm":
        seconds = values.astype(f"{kind}8[s]")
        rest = (values - seconds).astype("m8[ns]")
        return [seconds.astype(np.int64).ravel().tolist(), rest.astype(np.int64).ravel().tolist()]
    if kind == "f":
        return [repr(value) for value in values.astype(np.float64).ravel().tolist()]
    return [_plain(value) for value in values.ravel().tolist()]


def _plain(value: Any) -> Any:
    value = value.item() if isinstance(value, np.generic) else value
    return repr(value) if isinstance(value, float) else value if isinstance(value, int) else str(value)
