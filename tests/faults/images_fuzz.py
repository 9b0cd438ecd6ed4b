"""Damaged and hostile files for the readers of images and of image data sets: fuzz, flipped bits, truncations.

`fuzz(reader, executions)` for each of `READERS`, `flips(executions)` and `truncations(executions)` say what was found.
"""

import gzip
import os
import pickle
import random
import struct
import tempfile
import zlib
from collections.abc import Callable
from functools import partial
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from harness import MAX_BYTES, Case, Found, flipped, run, truncated
from PIL import Image

from brainrdl.data._pickled import read_pickled
from brainrdl.data.idx import read_idx, write_idx
from brainrdl.stimuli.image_reading import read_rgb

_SIZES = (0, 1, 2**7, 2**8 - 1, 2**15, 2**16 - 1, 2**24, 2**31 - 1, 2**31, 2**32 - 1)


# what is mutated


def _pictures() -> list[bytes]:
    rng = np.random.default_rng(0)
    colour = Image.fromarray(rng.integers(0, 256, (12, 17, 3), dtype=np.uint8))
    exif = Image.Exif()
    exif[274] = 6
    kinds: list[tuple[Image.Image, str, dict[str, Any]]] = [
        (colour, "PNG", {}),
        (colour, "PNG", {"exif": exif}),
        (colour.convert("P"), "PNG", {"transparency": 0}),
        (colour.convert("1"), "PNG", {}),
        (Image.fromarray(rng.integers(0, 2**16, (5, 7), dtype=np.uint16)), "PNG", {}),
        (colour, "PNG", {"save_all": True, "append_images": [colour.rotate(180)]}),
        (colour, "JPEG", {"exif": exif}),
        (colour, "JPEG", {"progressive": True}),
        (colour.convert("CMYK"), "JPEG", {}),
        (colour, "GIF", {}),
        (colour, "GIF", {"save_all": True, "append_images": [colour.rotate(180)]}),
        (colour, "BMP", {}),
        (colour.convert("P"), "BMP", {}),
        (colour, "TIFF", {"exif": exif}),
        (colour, "TIFF", {"compression": "tiff_lzw"}),
        (colour, "TIFF", {"compression": "tiff_adobe_deflate"}),
        (colour, "TIFF", {"compression": "jpeg"}),
        (colour.convert("1"), "TIFF", {"compression": "group4"}),
        (colour, "WEBP", {"lossless": True, "exif": exif}),
        (colour, "WEBP", {}),
        (colour, "PPM", {}),
        (colour.convert("L"), "PPM", {}),
    ]
    files = []
    for picture, kind, options in kinds:
        with BytesIO() as file:
            picture.save(file, kind, **options)
            files.append(file.getvalue())
    large = struct.pack(">IIBBBBB", 12_000, 12_000, 8, 2, 0, 0, 0)
    parts = [(b"IHDR", large), (b"IDAT", zlib.compress(bytes(10**6))), (b"IEND", b"")]
    chunks = [struct.pack(">I", len(c)) + k + c + struct.pack(">I", zlib.crc32(k + c)) for k, c in parts]
    files.append(b"\x89PNG\r\n\x1a\n" + b"".join(chunks))
    files += [b"P2 2 2 255\n1 2 # a comment\n3 4\n", b"P3 1 1 65535\n1 2 3\n", b"P1 4 1\n0101\n", b"P6 2 1 100\nabcdef"]
    return [*files, b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\nshowpage\n"]


def _arrays() -> list[bytes]:
    rng = np.random.default_rng(0)
    arrays = [rng.integers(0, 256, (3, 5, 7), dtype=np.uint8), rng.random((4, 2)), np.arange(9, dtype=np.int16)]
    files = []
    with tempfile.TemporaryDirectory() as folder:
        for array in arrays:
            write_idx(array, Path(folder, "x"))
            files.append(Path(folder, "x").read_bytes())
    return [*files, *(gzip.compress(content, mtime=0) for content in files), gzip.compress(bytes(10**6))]


class _Run:
    """A pickle that writes a canary where it is run."""

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[str]]:
        return os.mkdir, ("canary",)


def _pickles() -> list[bytes]:
    # as Python 2 wrote them: an array by its three functions, and names in bytes
    array = (
        b"cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\n(I0\ntS'b'\ntR(I1\n(I2\nI4\ntcnumpy\ndtype\n(S'u1'\n"
        b"I0\nI1\ntR(I3\nS'|'\nNNNI-1\nI-1\nI0\ntbI00\nS'abcdefgh'\ntb"
    )
    files = [b"(dS'data'\n" + array + b"sS'labels'\n(lI3\naI5\nas."]
    files += [pickle.dumps({"data": [1, 2, "c"], "labels": list(range(9))}, protocol=k) for k in (0, 1, 2, 4, 5)]
    return [*files, pickle.dumps({"data": _Run()}, protocol=2), b"\x80\x02]r\xff\xff\xff\xff."]


TEXTS = ("idx", "pickles")
"""Readers that are pure Python: ten times as many executions are asked of them."""

READERS: dict[str, tuple[Callable[[], list[bytes]], Callable[[Path], Any], tuple[type[Exception], ...]]] = {
    "images": (_pictures, lambda path: read_rgb(path, MAX_BYTES), (OSError, ValueError)),
    "idx": (_arrays, lambda path: read_idx(path, max_bytes=MAX_BYTES), (ValueError,)),
    "pickles": (_pickles, read_pickled, (ValueError,)),
}
"""Reader → its corpus, the call, and the errors that it documents."""


def mutated(corpus: list[bytes], rng: random.Random) -> bytes:
    """Damage one file of the corpus."""
    content = bytearray(rng.choice(corpus))
    for _ in range(rng.choice((1, 1, 1, 2, 3, 8))):
        at = rng.randrange(len(content) + 1)
        way = rng.randrange(7)
        if way == 0 and content:
            content[at % len(content)] ^= 1 << rng.randrange(8)
        elif way == 1 and content:
            content[at % len(content)] = rng.choice((0, 1, 127, 128, 255, rng.randrange(256)))
        elif way == 2:
            del content[at:]
        elif way == 3:
            del content[at : at + rng.randrange(1, 40)]
        elif way == 4:
            content[at:at] = rng.choice((content[at : at + 40], rng.randbytes(rng.randrange(1, 40))))
        elif way == 5:
            content[at : at + 4] = struct.pack(rng.choice("<>") + "I", rng.choice(_SIZES))
        else:
            other = rng.choice(corpus)
            start = rng.randrange(len(other) + 1)
            content[at:] = other[start : start + rng.randrange(1, 4096)]
    if content[:4] == b"\x89PNG" and rng.random() < 0.7:
        _mend_png(content)
    return bytes(content)


def _mend_png(content: bytearray) -> None:
    """Make the checksums of a PNG right, so that what is damaged is looked at."""
    at = 8
    while at + 12 <= len(content):
        (length,) = struct.unpack(">I", content[at : at + 4])
        end = at + 8 + length
        if end + 4 > len(content):
            return
        content[end : end + 4] = struct.pack(">I", zlib.crc32(content[at + 4 : end]))
        at = end + 4


def fuzz(reader: str, executions: int, seed: int = 0) -> Found:
    """Read `executions` mutated files with one of `READERS`."""
    make, read, documented = READERS[reader]
    corpus = make()
    return run(Case(reader, read, lambda rng: mutated(corpus, rng), documented=documented), executions, seed)


# formats with a checksum: what is damaged must not be read as other values


def _sound() -> dict[str, tuple[bytes, Callable[[Path], Any], np.ndarray]]:
    values = np.random.default_rng(0).integers(0, 256, (20, 30, 3), dtype=np.uint8)
    red = Image.new("RGB", (64, 64), "red")  # its compressed form is so short that its own checksum is not looked at
    with tempfile.TemporaryDirectory() as folder:
        write_idx(values, Path(folder, "x.gz"))
        Image.fromarray(values).save(Path(folder, "noise.png"))
        red.save(Path(folder, "flat.png"))
        idx, noise, flat = (Path(folder, name).read_bytes() for name in ("x.gz", "noise.png", "flat.png"))

    def read(path: Path) -> Any:
        return np.asarray(read_rgb(path))

    return {
        "idx": (idx, read_idx, values),
        "noise.png": (noise, read, values),
        "flat.png": (flat, read, np.asarray(red)),
    }


def _compared(damage: Callable[[bytes, random.Random], bytes], executions: int, seed: int) -> Found:
    found = Found()
    for name, (content, read, values) in _sound().items():
        damaged, same = partial(damage, content), partial(np.array_equal, values)
        found.add(run(Case(name, read, damaged, same, (OSError, ValueError)), executions, seed))
    return found


def flips(executions: int, seed: int = 0) -> Found:
    """Flip one bit of a whole file, `executions` times a format that has a checksum (gzipped IDX, PNG)."""
    return _compared(flipped, executions, seed)


def truncations(executions: int, seed: int = 0) -> Found:
    """Cut a whole file off, `executions` times a format."""
    return _compared(truncated, executions, seed)
