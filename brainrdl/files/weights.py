"""Files of weights, compared with the checksums that they carry before their values are used.

safetensors has none of its own, so that `save_model` adds a SHA-256 of each tensor and of the manifest. torch's ``.pt``
is a zip archive with a CRC-32 of each part, at which torch's reader does not look.
"""

import json
import zipfile
import zlib
from collections.abc import Iterable, Mapping
from hashlib import sha256
from pathlib import Path
from typing import final

from safetensors import safe_open
from torch import Tensor

from brainrdl.files.budget import BudgetError, check_claim
from brainrdl.identity import digest


@final
class DamagedWeightsError(ValueError):
    """A file of weights is not what its checksums say."""


_MOST_HEADER = 2**24
_MANIFEST = ""  # the name that no tensor has


def safetensors_metadata(state: Mapping[str, Tensor], manifest: str) -> dict[str, str]:
    """Make the metadata of a safetensors file: the manifest, and the digests of all that is in it."""
    digests = {name: digest([(name, value)]) for name, value in state.items()} | {_MANIFEST: _digest_of(manifest)}
    return {"manifest": manifest, "digests": json.dumps(digests, sort_keys=True)}


def check_safetensors(path: str | Path, *, tensors: bool = True) -> dict[str, str]:
    """Return a safetensors file's metadata, once it is found to hold what was written; of the manifest at least.

    DamagedWeightsError if something in it is not what its digest says. Another tool's file, which has none, passes.
    """
    _check_header(path)
    with safe_open(str(path), framework="pt") as file:
        metadata: dict[str, str] = file.metadata() or {}
        if "digests" not in metadata:
            return metadata
        names = list(file.keys()) if tensors else []
        found = {name: digest([(name, file.get_tensor(name))]) for name in names}
    found[_MANIFEST] = _digest_of(metadata.get("manifest", ""))
    _compare(path, found, metadata["digests"])
    return metadata


def _check_header(path: str | Path) -> None:
    """Raise a DamagedWeightsError for a header of a size that no network needs, whose entries would become objects."""
    with open(path, "rb") as file:
        size = int.from_bytes(file.read(8), "little")
    if _MOST_HEADER < size <= Path(path).stat().st_size:  # of one larger than the file, safetensors says so
        raise DamagedWeightsError(
            f"{path} has a header of {size} bytes, more than the {_MOST_HEADER} that names and shapes of a network's "
            "weights take; it is damaged, or holds something else"
        )


def check_archive(path: str | Path) -> None:
    """Raise a DamagedWeightsError if a part of torch's archive is not what its CRC-32 says; other files pass."""
    try:
        with zipfile.ZipFile(path) as archive:
            # torch compresses nothing, but would read what somebody else has
            check_claim(sum(part.file_size for part in archive.infolist()), f"{path}: its content")
            damaged = archive.testzip()
    except BudgetError as error:
        raise DamagedWeightsError(str(error)) from None
    except (zipfile.BadZipFile, zlib.error, EOFError, OSError, RuntimeError, ValueError):
        return  # no archive (torch's older form), or one that torch will not read either
    if damaged is not None:
        raise DamagedWeightsError(
            f"{path} is damaged: {damaged!r} in it is not what was written there (its CRC-32 differs); put a copy in "
            "its place, or save the weights anew (with torch.serialization.set_crc32_options(True), the default)"
        )


def _compare(path: str | Path, found: Mapping[str, str], written: str) -> None:
    try:
        digests = json.loads(written)
        names: Iterable[str] = [name for name, value in found.items() if digests.get(name) != value]
    except (ValueError, AttributeError, RecursionError):
        names = ["digests"]
    first = next(iter(names), None)
    if first is not None:
        what = repr(first) if first else "its manifest"
        raise DamagedWeightsError(
            f"{path} is damaged: {what} is not what was written there; put a copy in its place, or save the model anew"
        )


def _digest_of(text: str) -> str:
    return sha256(text.encode()).hexdigest()
