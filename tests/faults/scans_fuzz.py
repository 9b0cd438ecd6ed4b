"""Damaged and hostile files for the readers of fMRI: fuzz, flipped bits, truncations.

`fuzz(reader, executions)` for each of `READERS`, `flips(executions)` and `truncations(executions)` say what was found.
"""

import gzip
import json
import random
import struct
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pandas as pd
from harness import GZIP, MAX_BYTES, Case, Found, flipped, mutated_json, run, truncated

from brainrdl.fmri.confounds import choose_confounds
from brainrdl.fmri.events import read_confounds, read_events, read_table
from brainrdl.fmri.images import open_image, read_volumes
from brainrdl.fmri.sidecars import read_sidecar, repetition_time, slice_time

_INTEGERS = (0, 1, 2, 127, 255, 348, 540, 32767, 65535, 2**31 - 1, 2**31, 2**32 - 1)
_FLOATS = (0.0, -1.0, 1e-38, 352.0, 3e38, float("inf"), float("-inf"), float("nan"))
_TEXTS = (
    b"n/a",
    b"-1",
    b"1e400",
    b"nan",
    b"\t",
    b"\n",
    b"\t" * 500,
    b'"',
    b"\x00",
    b"\xff\xfe",
    b"9" * 400,
    b"\xef\xbb\xbf",
)


# what is mutated


def _bytes_of(image: Any, suffix: str) -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, f"image{suffix}")
        nibabel.save(image, path)
        return path.read_bytes()


def _images() -> list[bytes]:
    rng = np.random.default_rng(0)
    affine = np.diag([3.0, 3, 3, 1])
    files = []
    for dtype in ("u1", "i2", "f4", "f8"):
        values = (100 + 20 * rng.standard_normal((3, 2, 2, 9))).astype(dtype)
        kinds = (nibabel.Nifti1Image, nibabel.Nifti2Image)
        files += [_bytes_of(kind(values, affine), ".nii") for kind in kinds]
    scaled = nibabel.Nifti1Image(values.astype("i2"), affine)
    scaled.header.set_slope_inter(0.5, 10)
    with_extension = nibabel.Nifti1Image(values, affine)
    with_extension.header.extensions.append(nibabel.nifti1.Nifti1Extension("comment", b"x" * 40))
    swapped = nibabel.Nifti1Image(values, affine, nibabel.Nifti1Header(endianness=">"))
    files += [_bytes_of(image, ".nii") for image in (scaled, with_extension, swapped)]
    files += [gzip.compress(content, mtime=0) for content in files]
    # a header that claims terabytes, and gzip that claims far more than it holds
    claims = bytearray(files[0])
    struct.pack_into("<8h", claims, 40, 4, 32767, 32767, 32767, 32767, 1, 1, 1)
    return [*files, bytes(claims), gzip.compress(bytes(claims), mtime=0), gzip.compress(bytes(50 * 10**6), mtime=0)]


def _events() -> list[bytes]:
    whole = b"onset\tduration\ttrial_type\n0\t2\tface\n10\t2\thouse\n20\t2\tface\n30\t2\thouse\n"
    odd = b"onset\tduration\ttrial_type\tmodulation\n0.5\t1e0\t01\t1\n12\t0\t1\t1\n24\t3\t NA\t1\n"
    return [whole, odd, whole.replace(b"\n", b"\r\n"), b"\xef\xbb\xbf" + whole, whole.decode().encode("utf-16"), b""]


def _confounds() -> list[bytes]:
    rng = np.random.default_rng(0)
    names = [f"{kind}_{axis}" for kind in ("trans", "rot") for axis in "xyz"]
    table = pd.DataFrame(rng.normal(size=(9, 6)), columns=names)
    table["trans_x_derivative1"] = table["trans_x"].diff()
    table["cosine00"] = np.cos(np.arange(9))
    table["global_signal"] = np.nan
    table["non_steady_state_outlier00"] = (np.arange(9) == 0).astype(float)
    return [table.to_csv(sep="\t", index=False, na_rep="n/a").encode(), b"other\n" + b"1\n" * 9]


def _sidecars() -> list[bytes]:
    timing = {"RepetitionTime": 2.0, "SliceTiming": [0, 0.5, 1.0, 1.5], "SliceTimingCorrected": False}
    return [
        *(json.dumps(content).encode() for content in ({"RepetitionTime": 2.0, "StartTime": 1.0}, timing)),
        b'{"RepetitionTime": 1e999}',
        b"[" * 5000,
        b'{"RepetitionTime": ' + b"9" * 5000 + b"}",
        b'{"a":' * 3000,
    ]


def _read_image(path: Path) -> Any:
    return read_volumes(open_image(path, MAX_BYTES))


def _read_confounds(path: Path) -> Any:
    table = choose_confounds(read_table(path, str(path)), ("motion", "high_pass"), str(path))
    return read_confounds(table, n_scans=9, name=str(path))


def _read_sidecar(path: Path) -> Any:
    sidecars = [read_sidecar(path)]
    t_r = repetition_time(sidecars, path, "run")
    return slice_time(sidecars, sidecars, t_r, is_raw=True)


READERS: dict[str, tuple[Callable[[], list[bytes]], Callable[[Path], Any], str]] = {
    "nifti": (_images, _read_image, "nii"),
    "events": (_events, lambda path: read_events(path, n_scans=50, t_r=2.0), "tsv"),
    "confounds": (_confounds, _read_confounds, "tsv"),
    "sidecars": (_sidecars, _read_sidecar, "json"),
}
"""Reader → its corpus, the call, and the file's suffix."""

TEXTS = ("events", "confounds", "sidecars")
"""Readers that are pure Python: ten times as many executions are asked of them."""

DOCUMENTED = (OSError, ValueError)


def mutated(corpus: list[bytes], rng: random.Random) -> bytes:
    """Damage one file of the corpus."""
    content = bytearray(rng.choice(corpus))
    # what is damaged before it is compressed passes gzip's checksum
    packed = content[:2] == GZIP and rng.random() < 0.7
    if packed:
        content = bytearray(gzip.decompress(content))
    for _ in range(rng.choice((1, 1, 1, 2, 3, 8))):
        # headers matter most
        at = rng.randrange(min(len(content), 600) + 1) if rng.random() < 0.8 else rng.randrange(len(content) + 1)
        way = rng.randrange(8)
        if way == 0 and content:
            content[at % len(content)] ^= 1 << rng.randrange(8)
        elif way == 1:
            del content[at:]
        elif way == 2:
            del content[at : at + rng.randrange(1, 40)]
        elif way == 3:
            content[at:at] = rng.choice((content[at : at + 40], rng.randbytes(rng.randrange(1, 40))))
        elif way == 4:
            content[at : at + 4] = struct.pack(rng.choice("<>") + "I", rng.choice(_INTEGERS))
        elif way == 5:
            content[at : at + 4] = struct.pack(rng.choice("<>") + "f", rng.choice(_FLOATS))
        elif way == 6:
            content[at:at] = rng.choice(_TEXTS)
        else:
            other = rng.choice(corpus)
            start = rng.randrange(len(other) + 1)
            content[at:] = other[start : start + rng.randrange(1, 4096)]
    return gzip.compress(bytes(content), 1, mtime=0) if packed else bytes(content)


def fuzz(reader: str, executions: int, seed: int = 0) -> Found:
    """Read `executions` mutated files with one of `READERS`."""
    make, read, suffix = READERS[reader]
    corpus = make()

    def damaged(rng: random.Random) -> bytes:
        # bytes changed in a JSON text seldom leave one
        return (
            mutated_json(corpus[rng.randrange(2)], rng)
            if suffix == "json" and rng.random() < 0.3
            else mutated(corpus, rng)
        )

    return run(Case(f"{reader}.{suffix}", read, damaged, documented=DOCUMENTED), executions, seed)


# compressed images have a checksum: what is damaged must not be read as other values


def _image(suffix: str) -> tuple[bytes, Any]:
    values = 100 + 20 * np.random.default_rng(0).standard_normal((4, 4, 2, 30))
    image = nibabel.Nifti1Image(values.astype(np.float32), np.diag([3.0, 3, 3, 1]))
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, f"image{suffix}")
        nibabel.save(image, path)
        return path.read_bytes(), _what(path)


def _what(path: Path) -> tuple[bytes, bytes, Any]:
    opened = open_image(path)
    return read_volumes(opened).tobytes(), opened.affine.tobytes(), opened.header.get_zooms()


def _compared(damage: Callable[[bytes, random.Random], bytes], suffix: str, executions: int, seed: int) -> Found:
    content, right = _image(suffix)
    case = Case("image.nii", _what, partial(damage, content), lambda got: got == right, DOCUMENTED)
    return run(case, executions, seed)


def flips(executions: int, seed: int = 0) -> Found:
    """Flip one bit of a compressed image, `executions` times; in others nothing tells a bit from another."""
    return _compared(flipped, ".nii.gz", executions, seed)


def truncations(executions: int, seed: int = 0) -> Found:
    """Cut an image off, `executions` times compressed and not."""
    found = _compared(truncated, ".nii.gz", executions, seed)
    found.add(_compared(truncated, ".nii", executions, seed))
    return found
