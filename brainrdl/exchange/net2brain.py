"""Net2Brain's .npz files.

Its *model* form is one RDM per file, as its `LayerRDM` saves it: ``rdm`` (condensed, row-major), ``stimuli_name``,
``layer_name``, ``meta``. Its own files hold ``meta`` as a pickled dictionary, which is not opened; ours hold it as
JSON. Its *brain* form is ``arr_0`` (subjects, n, n) or (subjects, times, n, n), without any labels; ours add
``brainrdl``, which its readers do not look at.
"""

import json
import warnings
import zipfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import xarray as xr

from brainrdl.exchange.document import Document, to_document
from brainrdl.exchange.missing import PLAIN, MissingError
from brainrdl.exchange.npz import Npz
from brainrdl.exchange.parts import Coord, Parts, as_labels, with_texts
from brainrdl.exchange.plain import from_array, likely, pick, possible, shapes
from brainrdl.exchange.seal import seal_in_text, seal_text
from brainrdl.rdms.triangles import upper_triangles

# their 'pearson' standardises units over stimuli first, so it is not our correlation
_SHARED_METRICS = ("euclidean", "cosine", "correlation")
_OURS = "brainrdl"
_MODEL = ("rdm", "stimuli_name", "layer_name", "meta")
_BRAIN = ("arr_0", _OURS)


def read_parts(path: Path, variable: str | None = None, max_bytes: int | None = None) -> Parts:
    """Read an .npz file of either form, or a plain array of one by its name."""
    members = Npz(path, max_bytes)
    if variable is not None:
        found = pick({name: name for name in members.names}, variable, str(path))
        parts = from_array(members[found], f"the variable {variable!r} of {path}", variable)
        return with_texts(parts, {name: members[name] for name in members.names if name not in members.objects})
    own = _MODEL if "rdm" in members else _BRAIN if "arr_0" in members else ()
    others = members.read(name for name in members.names if name not in (*own, *members.objects))
    if own:
        if passed_over := likely(others):
            raise MissingError(
                f"{path} holds several arrays that could be the RDMs: {own[0]!r} and {shapes(others, passed_over)}; "
                "choose one by variable=",
                PLAIN,
            )
        parts = _read_model(members) if own is _MODEL else _read_brain(members)
        return replace(parts, seal=seal_in_text(members.comment, "the archive's comment"))
    if len(others) == 1 and possible(others):
        name = next(iter(others))
        return from_array(others[name], f"the array {name!r} of {path}", name)
    message = (
        f"{path} holds neither 'rdm' (Net2Brain's model form) nor 'arr_0' (its brain form); choose an array by "
        f"variable=, of {shapes(others, others) or 'none'}"
    )
    raise MissingError(message, PLAIN) if possible(others) else ValueError(message)


def _read_model(members: Npz) -> Parts:
    values = members["rdm"]
    values = values[None] if values.ndim in (1, 2) else values
    stimuli = _strings(members, "stimuli_name")
    layer = _strings(members, "layer_name")
    meta = _meta(members)
    if _OURS in meta:
        ours = Document(meta[_OURS], f"'meta' of {members.path}")
        coords = ours.coords_of(layer or ours.names, f"'meta' of {members.path}")
        return Parts(values, "row-major", stimuli, layer, metric=ours.metric, coords=coords, attrs=ours.attrs)
    distance = meta.get("distance")
    metric, foreign = distance if distance in _SHARED_METRICS else None, None if distance is None else str(distance)
    named = {"stimuli_name": stimuli} if stimuli else {}
    name_fields = {"layer_name": layer} if layer else {}
    return Parts(
        values,
        "row-major",
        stimuli,
        layer,
        fields=named,
        name_fields=name_fields,
        metric=metric,
        foreign_metric=foreign,
    )


def _read_brain(members: Npz) -> Parts:
    values = members["arr_0"]
    coords: dict[str, Coord] = {}
    if values.ndim == 4:
        n_subjects, n_times = values.shape[:2]
        values = values.reshape(-1, *values.shape[2:])
        coords = {
            "subject_index": (("rdm",), np.repeat(np.arange(n_subjects), n_times)),
            "time_index": (("rdm",), np.tile(np.arange(n_times), n_subjects)),
        }
    elif values.ndim == 2 and values.shape[0] == values.shape[1]:
        values = values[None]
    if _OURS in members:
        ours = Document(str(members[_OURS]), f"{_OURS!r} of {members.path}")
        return Parts(values, None, ours.stimuli, ours.names, metric=ours.metric, coords=ours.coords, attrs=ours.attrs)
    return Parts(values, coords=coords)


def _strings(members: Npz, name: str) -> list[str] | None:
    if name not in members or name in members.objects:  # None is pickled too
        return None
    return as_labels(np.atleast_1d(members[name]).tolist(), f"{members.path}: {name!r}")


def _meta(members: Npz) -> dict[str, str]:
    if "meta" in members.objects:
        warnings.warn(
            f"{members.path}: 'meta' is pickled and was not opened, so that the metric it may name has to be given",
            stacklevel=2,
        )
        return {}
    if "meta" not in members:
        return {}
    try:
        meta = json.loads(str(members["meta"]))
    except ValueError:  # another tool's text, which says nothing that is needed
        return {}
    return meta if isinstance(meta, dict) else {}


def write(rdms: xr.DataArray, path: Path) -> None:
    """Write one RDM in the model form, several in the brain form."""
    document = to_document(rdms)
    with path.open("wb") as file:
        if rdms.sizes["rdm"] > 1:
            np.savez(file, arr_0=rdms.values, brainrdl=np.array(document))
        else:
            np.savez(
                file,
                rdm=upper_triangles(rdms.values)[0],
                stimuli_name=np.array(rdms["stimulus"].values.tolist()),
                layer_name=np.array(rdms["rdm"].values.tolist()[0]),
                meta=np.array(json.dumps({"distance": rdms.attrs["metric"], _OURS: document})),
            )
    with zipfile.ZipFile(path, "a") as archive:  # where no reader looks, and none keeps it
        archive.comment = seal_text(rdms)
