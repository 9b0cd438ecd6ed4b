"""Damaged and hostile files for the readers of fMRI: fuzz, flipped bits, truncations.

`fuzz(reader, executions)` for each of `READERS`, `flips(executions)` and `truncations(executions)` say what was found.
A worker reads the files, so that one that crashes, hangs or fills the memory is counted and the rest goes on.

    python tests/faults/scans_fuzz.py 20000
"""

import gzip
import json
import os
import random
import resource
import signal
import struct
import subprocess
import sys
import tempfile
import warnings
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pandas as pd

import brainrdl
from brainrdl.fmri.confounds import choose_confounds
from brainrdl.fmri.events import read_confounds, read_events, read_table
from brainrdl.fmri.images import open_image, read_volumes
from brainrdl.fmri.sidecars import read_sidecar, repetition_time, slice_time

MAX_BYTES = 512 * 2**20
SECONDS = 2  # of computing, for one file
_WAITED = 120  # for one file, however busy the machine is
_ROOM = 6 * 2**30
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


@dataclass
class Found:
    """What became of the files that were read."""

    executions: int = 0
    read: int = 0  # as if they were whole
    undocumented: list[str] = field(default_factory=list)
    slow: list[str] = field(default_factory=list)
    crashed: list[str] = field(default_factory=list)
    silent: list[str] = field(default_factory=list)  # other values than were written, and no error
    grown: int = 0  # bytes of resident memory

    @property
    def faults(self) -> list[str]:
        """Everything that must not be."""
        most = [f"the memory grew by {self.grown} bytes"] if self.grown > 2**30 else []
        return [*self.undocumented, *self.slow, *self.crashed, *self.silent, *most]

    def __str__(self) -> str:
        """One line of figures."""
        counts = {name: len(getattr(self, name)) for name in ("undocumented", "slow", "crashed", "silent")}
        figures = ", ".join(f"{name} {count}" for name, count in counts.items())
        return f"{self.executions} files, read {self.read}, {figures}, memory grew by {self.grown / 2**20:.0f} MiB"


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
    "nifti": (_images, _read_image, "image.nii"),
    "events": (_events, lambda path: read_events(path, n_scans=50, t_r=2.0), "events.tsv"),
    "confounds": (_confounds, _read_confounds, "confounds.tsv"),
    "sidecars": (_sidecars, _read_sidecar, "bold.json"),
}
"""Reader → its corpus, the call, and the name of the file."""

DOCUMENTED = (OSError, ValueError)


def mutated(corpus: list[bytes], seed: int) -> bytes:
    """Damage one file of the corpus, in a way that the seed decides."""
    rng = random.Random(seed)
    content = bytearray(rng.choice(corpus))
    # what is damaged before it is compressed passes gzip's checksum
    packed = content[:2] == b"\x1f\x8b" and rng.random() < 0.7
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
    """Read `executions` mutated files with one of `READERS`, in workers."""
    found = Found(executions=executions)
    with tempfile.TemporaryDirectory() as folder:
        first = seed
        while first < seed + executions:
            first = _worked(reader, first, seed + executions, Path(folder), found)
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
        found.read += said["read"]
        found.grown = max(found.grown, said["grown"])
        found.undocumented += said["undocumented"]
    if done.returncode == 0:
        return stop
    kind = found.slow if -done.returncode in (signal.SIGPROF, signal.SIGALRM) else found.crashed
    kind.append(f"{reader}, seed {at}: the worker ended with {done.returncode}: {done.stderr[-300:]}")
    return at + 1


def _work(reader: str, first: int, stop: int) -> None:
    """Read mutated files of some seeds in this process; the system ends it where one takes too long."""
    warnings.simplefilter("ignore")
    make, read, name = READERS[reader]
    corpus = make()
    # the package's own imports are no memory of a file
    for content in corpus:
        with suppress(*DOCUMENTED):
            read(_put(content, name))
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
            path = _put(mutated(corpus, seed), name)
            signal.setitimer(signal.ITIMER_PROF, SECONDS)
            signal.setitimer(signal.ITIMER_REAL, _WAITED)
            try:
                read(path)
                n_read += 1
            except DOCUMENTED as error:
                if str(path) not in str(error):
                    undocumented.append(f"{reader}, seed {seed}: does not name the file: {error}")
            except Exception as error:
                undocumented.append(f"{reader}, seed {seed}: {type(error).__name__}: {error}")
            signal.setitimer(signal.ITIMER_PROF, 0)
            signal.setitimer(signal.ITIMER_REAL, 0)
    grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024
    print(json.dumps({"read": n_read, "grown": grown, "undocumented": undocumented}))


def _put(content: bytes, name: str) -> Path:
    path = Path(name + ".gz" if content[:2] == b"\x1f\x8b" else name)
    path.write_bytes(content)
    return path


# compressed images have a checksum: what is damaged must not be read as other values


def _compared(damage: Callable[[bytes, random.Random], bytes], executions: int, seed: int) -> Found:
    found, rng = Found(), random.Random(seed)
    values = 100 + 20 * np.random.default_rng(0).standard_normal((4, 4, 2, 30))
    image = nibabel.Nifti1Image(values.astype(np.float32), np.diag([3.0, 3, 3, 1]))
    with tempfile.TemporaryDirectory() as folder:
        for suffix in (".nii.gz", ".nii"):
            path = Path(folder, f"image{suffix}")
            nibabel.save(image, path)
            content, right = path.read_bytes(), _what(path)
            if suffix == ".nii" and damage is _flipped:
                continue  # nothing tells a bit of it from another
            for number in range(executions):
                path.write_bytes(damage(content, rng))
                found.executions += 1
                try:
                    got = _what(path)
                except DOCUMENTED:
                    continue
                found.read += 1
                if got != right:
                    found.silent.append(f"{suffix}, number {number}")
    return found


def _what(path: Path) -> tuple[bytes, bytes, Any]:
    opened = open_image(path)
    return read_volumes(opened).tobytes(), opened.affine.tobytes(), opened.header.get_zooms()


def _flipped(content: bytes, rng: random.Random) -> bytes:
    damaged = bytearray(content)
    damaged[rng.randrange(len(damaged))] ^= 1 << rng.randrange(8)
    return bytes(damaged)


def flips(executions: int, seed: int = 0) -> Found:
    """Flip one bit of a compressed image, `executions` times."""
    return _compared(_flipped, executions, seed)


def truncations(executions: int, seed: int = 0) -> Found:
    """Cut an image off, `executions` times compressed and not."""
    return _compared(lambda content, rng: content[: rng.randrange(len(content))], executions, seed)


def main(executions: int) -> int:
    """Print the figures of a long run as they come; the number of faults."""
    steps = {"flips": lambda: flips(executions), "truncations": lambda: truncations(min(executions, 1000))}
    steps |= {reader: partial(fuzz, reader, executions) for reader in READERS}
    faults = 0
    for name, step in steps.items():
        figures = step()
        print("\n".join([f"{name}: {figures}", *figures.faults[:20]]), flush=True)
        faults += len(figures.faults)
    return faults


if __name__ == "__main__":
    if len(sys.argv) == 4:
        _work(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))
    else:
        sys.exit(min(main(int(sys.argv[1])), 1))
