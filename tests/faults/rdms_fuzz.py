"""Damaged and hostile files of RDMs and of weights: fuzz, flipped bits, truncations.

`fuzz(reader, executions)` for each of `READERS`, `flips(executions)` and `truncations(executions)`, executions for each
format that is written, say what was found.
"""

import io
import random
import tempfile
import zipfile
import zlib
from collections.abc import Callable
from functools import cache, partial
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import scipy.io
import torch
import xarray as xr
from harness import MAX_BYTES, Case, Found, flipped, mutated, mutated_json, run, truncated
from torch import nn

import brainrdl as rdl
from brainrdl.named_models import _load_weights
from brainrdl.training.checkpoint import read_manifest, save_model

TEXTS = ("csv", "json")
"""Formats whose readers are pure Python: ten times as many executions are asked of them."""

_NUMBERS = (b"NaN", b"nan", b"-1", b"1e999", b"-0.0", b"1_0", b"9" * 400, b"9" * 5000)
_SIGNS = (b'"', b'""', b",", b"\n", b"\r", b"\0", b"\\ud800", b"\xff", b"\xef\xbb\xbf", b"{}", b"[]", b"[" * 2000)
_WORDS = (*_NUMBERS, *_SIGNS, b"null", b"true", b"a" * 3000, b"brainrdl", b'"rdm":[]')


class Canary:
    """What writes a file where it is unpickled."""

    def __reduce__(self) -> tuple[Any, ...]:
        return open, ("canary", "w")


def _rdms(n_rdms: int = 3, n: int = 20) -> xr.DataArray:
    values = np.random.default_rng(0).random((n_rdms, n * (n - 1) // 2)) + 0.1
    coords = {"roi": ["V1", "V2", "IT"][:n_rdms], "session": [1, 2, 3][:n_rdms]}
    return rdl.label_rdms(values, [f"s{k}" for k in range(n)], list("abc"[:n_rdms]), "correlation", coords)


def network() -> nn.Module:
    """A small network with buffers."""
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(4, 6), nn.BatchNorm1d(6), nn.Linear(6, 3))


def _written(suffix: str, make: Callable[[Path], object]) -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, f"a.{suffix}")
        make(path)
        return path.read_bytes()


@cache
def seeds(suffix: str) -> tuple[bytes, ...]:
    """Whole files that damage begins with: ours, and other tools'."""
    rdms = _rdms()
    few = _rdms(1, 4)
    if suffix in ("safetensors", "pt"):
        return (_written(suffix, _write_weights),)
    if suffix == "73.mat":
        return (_written("mat", _matlab73),)
    ours = tuple(_written(suffix, partial(rdl.write_rdms, each)) for each in (rdms, few))
    return (*ours, *(_written(suffix, make) for make in _OTHERS.get(suffix, ())))


def _write_weights(path: Path) -> None:
    if path.suffix == ".pt":
        torch.save(network().state_dict(), path)
    else:
        save_model(network(), path, {"task": "digits", "epochs": 3})


def _assembly(path: Path, engine: str) -> None:
    array = xr.DataArray(
        np.random.default_rng(0).random((6, 3)),
        dims=("presentation", "neuroid"),
        coords={"stimulus_id": ("presentation", list("abcabc"))},
        name="data",
    )
    array.to_netcdf(path, engine=engine)


def _matlab73(path: Path) -> None:
    """A struct array as MATLAB lays it out."""
    with h5py.File(path, "w", userblock_size=512) as file:
        refs, structs = file.create_group("#refs#"), file.create_group("RDMs")
        for name, value in (("RDM", np.ones((3, 3)) - np.eye(3)), ("name", np.array([[73], [84]], np.uint16))):
            refs[name] = value
            refs[name].attrs["MATLAB_class"] = np.bytes_("double" if name == "RDM" else "char")
            cell = structs.create_dataset(name, (1, 1), dtype=h5py.ref_dtype)
            cell[0, 0] = refs[name].ref
    content = path.read_bytes()
    path.write_bytes(b"MATLAB 7.3 MAT-file".ljust(124) + b"\0\2IM" + content[128:])


def _meadows_mat(path: Path) -> None:
    scipy.io.savemat(path, {"rdmutv": np.ones((1, 3)), "stimuli": np.array(["a", "b", "c"])})


def _compressed_mat(path: Path) -> None:
    structs = np.empty((1, 2), dtype=[("RDM", object), ("name", object), ("color", object)])
    for k in range(2):
        structs[0, k] = (np.ones((3, 3)) - np.eye(3), f"r{k}", np.zeros((1, 3)))
    scipy.io.savemat(path, {"RDMs": structs}, do_compression=True)


def _pickled(path: Path) -> None:
    np.savez(path, rdm=np.ones(3), stimuli_name=np.array(list("abc")), layer_name="x", meta=np.array(Canary()))


def _subjects(path: Path) -> None:
    np.savez_compressed(path, arr_0=np.ones((2, 3, 3)) - np.eye(3))


def _lists_in_groups(path: Path) -> None:
    with h5py.File(path, "w") as file:
        file["dissimilarities"] = np.ones((1, 3))
        file["pattern_descriptors/stimulus/0"], file["pattern_descriptors/stimulus/1"] = "a", "b"
        file["pattern_descriptors/stimulus/2"] = "c"
        file["rdm_descriptors/name"] = h5py.SoftLink("/pattern_descriptors/stimulus")
        file["descriptors/far"] = h5py.ExternalLink("/etc/hostname", "/x")
        file.attrs["dissimilarity_measure"] = "correlation"


def _table(path: Path) -> None:
    path.write_text("stimulus,stimulus_,dissimilarity\na,b,1\na,c,\nb,c,3\n", "utf-8")


_OTHERS: dict[str, tuple[Callable[[Path], None], ...]] = {
    "nc": (partial(_assembly, engine="h5netcdf"), partial(_assembly, engine="scipy")),
    "h5": (_lists_in_groups,),
    "npz": (_pickled, _subjects),
    "mat": (_meadows_mat, _compressed_mat),
    "csv": (_table,),
}


def _read_rdms(path: Path) -> xr.DataArray:
    """Read RDMs, with what other tools' files do not say where that is asked for."""
    lacking: dict[str, Any] = {}
    while True:
        try:
            return rdl.read_rdms(path, max_bytes=MAX_BYTES, **lacking)
        except ValueError as error:
            if "but names names 2" in str(error):
                lacking["names"] = ["x"]
                continue
            asked = [word for word in _LACKING if f"give {word}=" in str(error) and word not in lacking]
            if not asked:
                raise
            lacking[asked[0]] = _LACKING[asked[0]]


def _read_weights(path: Path) -> nn.Module:
    model = nn.Sequential(nn.Linear(4, 6), nn.BatchNorm1d(6), nn.Linear(6, 3))
    _load_weights(model, path)
    if path.suffix == ".safetensors":
        read_manifest(path)
    return model


def _same_weights(model: nn.Module) -> bool:
    pairs = zip(model.state_dict().values(), network().state_dict().values(), strict=True)
    return all(torch.equal(found, written) for found, written in pairs)


_LACKING = {"stimuli": list("abc"), "names": ["x", "y"], "metric": "correlation", "order": "row-major"}
READERS = ("nc", "h5", "npz", "mat", "73.mat", "json", "csv", "safetensors", "pt")
WRITTEN = ("nc", "h5", "npz", "mat", "json", "csv", "safetensors")


def fuzz(reader: str, executions: int) -> Found:
    """Read files with anything changed in them."""
    weights = reader in ("safetensors", "pt")
    read = _read_weights if weights else _read_rdms
    return run(Case(reader, read, lambda draw: _mutated(reader, draw)), executions)


def flips(executions: int, formats: tuple[str, ...] = WRITTEN) -> Found:
    """Read files of ours with one bit turned: `executions` of each format, three RDMs of 20 stimuli or a network."""
    return _ours(flipped, executions, formats)


def truncations(executions: int, formats: tuple[str, ...] = WRITTEN) -> Found:
    """Read beginnings of files of ours: `executions` of each format."""
    return _ours(truncated, executions, formats)


def _ours(damage: Callable[[bytes, random.Random], bytes], executions: int, formats: tuple[str, ...]) -> Found:
    found = Found()
    for suffix in formats:
        whole = seeds(suffix)[0]
        if suffix == "safetensors":
            case = Case(suffix, _read_weights, lambda draw, whole=whole: damage(whole, draw), _same_weights)
        else:
            rdms = _rdms()
            read = partial(rdl.read_rdms, max_bytes=MAX_BYTES)
            case = Case(suffix, read, lambda draw, whole=whole: damage(whole, draw), rdms.identical)
        found.add(run(case, executions))
    return found


def _mutated(reader: str, draw: random.Random) -> bytes:
    whole = draw.choice(seeds(reader))
    words = _WORDS if reader in TEXTS else ()
    if reader == "json" and draw.random() < 0.3:
        return mutated_json(whole, draw)
    if reader == "npz" and draw.random() < 0.7:
        return _mutated_members(whole, draw)
    if reader == "mat" and draw.random() < 0.5:
        return _mutated_variables(whole, draw)
    return mutated(whole, draw, words)


def _mutated_members(whole: bytes, draw: random.Random) -> bytes:
    """An archive whose members are changed, and its CRCs with them."""
    made = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(whole)) as old, zipfile.ZipFile(made, "w", draw.choice((0, 8))) as new:
        new.comment = old.comment
        for info in old.infolist():
            content = old.read(info)
            new.writestr(info.filename, mutated(content, draw) if draw.random() < 0.5 else content)
    return made.getvalue()


def _mutated_variables(whole: bytes, draw: random.Random) -> bytes:
    """A MATLAB file whose variables are changed and then compressed."""
    inner = whole[128:]
    if inner[0] == 15:
        inner = zlib.decompress(inner[8:])
    packed = zlib.compress(mutated(inner, draw))
    return whole[:128] + (15).to_bytes(4, "little") + len(packed).to_bytes(4, "little") + packed
