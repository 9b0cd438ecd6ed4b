"""Damaged and hostile files for the readers of images and of image data sets: fuzz, flipped bits, truncations.

`fuzz(reader, executions)` for each of `READERS`, `flips(executions)` and `truncations(executions)` say what was found.
A worker reads the files, so that one that crashes, hangs or fills the memory is counted and the rest goes on.
"""

import gzip
import json
import os
import pickle
import random
import resource
import signal
import struct
import subprocess
import sys
import tempfile
import warnings
import zlib
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

import brainrdl
from brainrdl.data._pickled import read_pickled
from brainrdl.data.idx import read_idx, write_idx
from brainrdl.stimuli.image_reading import read_rgb

MAX_BYTES = 512 * 2**20
SECONDS = 2  # of computing, for one file
_WAITED = 120  # for one file, however busy the machine is
_ROOM = 4 * 2**30
_SIZES = (0, 1, 2**7, 2**8 - 1, 2**15, 2**16 - 1, 2**24, 2**31 - 1, 2**31, 2**32 - 1)


@dataclass
class Found:
    """What became of the files that were read."""

    executions: int = 0
    read: int = 0  # as if they were whole
    undocumented: list[str] = field(default_factory=list)
    slow: list[str] = field(default_factory=list)
    crashed: list[str] = field(default_factory=list)
    silent: list[str] = field(default_factory=list)  # other values than were written, and no error
    canaries: int = 0
    grown: int = 0  # bytes of resident memory

    @property
    def faults(self) -> list[str]:
        """Everything that must not be."""
        most = [f"the memory grew by {self.grown} bytes"] if self.grown > 2**30 else []
        ran = ["a canary was run"] if self.canaries else []
        return [*self.undocumented, *self.slow, *self.crashed, *self.silent, *most, *ran]

    def __str__(self) -> str:
        """One line of figures."""
        counts = {name: len(getattr(self, name)) for name in ("undocumented", "slow", "crashed", "silent")}
        figures = ", ".join(f"{name} {count}" for name, count in counts.items())
        return (
            f"{self.executions} files, read {self.read}, {figures}, canaries run {self.canaries}, memory grew by "
            f"{self.grown / 2**20:.0f} MiB"
        )


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


READERS: dict[str, tuple[Callable[[], list[bytes]], Callable[[Path], Any], tuple[type[Exception], ...]]] = {
    "images": (_pictures, lambda path: read_rgb(path, MAX_BYTES), (OSError, ValueError)),
    "idx": (_arrays, lambda path: read_idx(path, max_bytes=MAX_BYTES), (ValueError,)),
    "pickles": (_pickles, read_pickled, (ValueError,)),
}
"""Reader → its corpus, the call, and the errors that it documents."""


def mutated(corpus: list[bytes], seed: int) -> bytes:
    """Damage one file of the corpus, in a way that the seed decides."""
    rng = random.Random(seed)
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
    """Read `executions` mutated files with one of `READERS`, in workers."""
    found = Found(executions=executions)
    with tempfile.TemporaryDirectory() as folder:
        first = seed
        while first < seed + executions:
            first = _worked(reader, first, seed + executions, Path(folder), found)
        found.canaries = int(Path(folder, "canary").exists())
    return found


def _worked(reader: str, first: int, stop: int, folder: Path, found: Found) -> int:
    """Let a worker read from seed `first` on; returns the seed to go on with."""
    paths = [str(Path(brainrdl.__file__).parents[1]), os.environ.get("PYTHONPATH", "")]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, paths))}
    command = [sys.executable, str(Path(__file__).resolve()), reader, str(first), str(stop)]
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    at = int((folder / "at").read_text())
    for line in done.stdout.splitlines():
        said = json.loads(line)
        found.read += said.get("read", 0)
        found.grown = max(found.grown, said.get("grown", 0))
        found.undocumented += said.get("undocumented", [])
    if done.returncode == 0:
        return stop
    kind = found.slow if -done.returncode in (signal.SIGPROF, signal.SIGALRM) else found.crashed
    kind.append(f"{reader}, seed {at}: the worker ended with {done.returncode}: {done.stderr[-300:]}")
    return at + 1


def _work(reader: str, first: int, stop: int) -> None:
    """Read mutated files of some seeds in this process; the system ends it where one takes too long."""
    warnings.simplefilter("ignore")
    make, read, documented = READERS[reader]
    corpus, path = make(), Path("file")
    # the package's own imports are no memory of a file
    for content in corpus:
        path.write_bytes(content)
        with suppress(*documented):
            read(path)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    resource.setrlimit(resource.RLIMIT_AS, (_ROOM, _ROOM))
    signal.signal(signal.SIGPROF, signal.SIG_DFL)
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    n_read, undocumented = 0, []
    with open("at", "w") as at:
        for seed in range(first, stop):
            at.seek(0)
            at.write(f"{seed:12}")
            at.flush()
            path.write_bytes(mutated(corpus, seed))
            signal.setitimer(signal.ITIMER_PROF, SECONDS)
            signal.setitimer(signal.ITIMER_REAL, _WAITED)
            try:
                read(path)
                n_read += 1
            except documented as error:
                if not str(error).startswith(str(path)):
                    undocumented.append(f"{reader}, seed {seed}: does not name the file: {error}")
            except Exception as error:
                undocumented.append(f"{reader}, seed {seed}: {type(error).__name__}: {error}")
            signal.setitimer(signal.ITIMER_PROF, 0)
            signal.setitimer(signal.ITIMER_REAL, 0)
    grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024
    print(json.dumps({"read": n_read, "grown": grown, "undocumented": undocumented}))


# formats with a checksum: what is damaged must not be read as other values


def _sound() -> dict[str, tuple[bytes, Callable[[Path], Any]]]:
    values = np.random.default_rng(0).integers(0, 256, (20, 30, 3), dtype=np.uint8)
    with tempfile.TemporaryDirectory() as folder:
        write_idx(values, Path(folder, "x.gz"))
        Image.fromarray(values).save(Path(folder, "noise.png"))
        # whose compressed form is so short that its own checksum is not looked at
        Image.new("RGB", (64, 64), "red").save(Path(folder, "flat.png"))
        idx, *pngs = (Path(folder, name).read_bytes() for name in ("x.gz", "noise.png", "flat.png"))

    def read(path: Path) -> Any:
        return np.asarray(read_rgb(path))

    return {"idx.gz": (idx, read_idx), "noise.png": (pngs[0], read), "flat.png": (pngs[1], read)}


def _compared(damage: Callable[[bytes, random.Random], bytes], executions: int, seed: int) -> Found:
    found = Found()
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for name, (content, read) in _sound().items():
            path, rng = Path(folder, name), random.Random(seed)
            path.write_bytes(content)
            right = read(path)
            for number in range(executions):
                path.write_bytes(damage(content, rng))
                found.executions += 1
                try:
                    got = read(path)
                except (OSError, ValueError):
                    continue
                found.read += 1
                if not np.array_equal(got, right):
                    found.silent.append(f"{name}, number {number}")
    return found


def flips(executions: int, seed: int = 0) -> Found:
    """Flip one bit of a whole file, `executions` times a format that has a checksum (gzipped IDX, PNG)."""

    def flipped(content: bytes, rng: random.Random) -> bytes:
        damaged = bytearray(content)
        damaged[rng.randrange(len(damaged))] ^= 1 << rng.randrange(8)
        return bytes(damaged)

    return _compared(flipped, executions, seed)


def truncations(executions: int, seed: int = 0) -> Found:
    """Cut a whole file off, `executions` times a format."""
    return _compared(lambda content, rng: content[: rng.randrange(len(content))], executions, seed)


if __name__ == "__main__":
    _work(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))
