"""Damaged files, one after the other, read by a worker that may crash, hang or fill the memory without ending the rest.

What a file became is one of: refused by a documented error, read as what was written, read as something else. What must
not be is counted by its kind in `Found`.
"""

import json
import os
import random
import resource
import signal
import sys
import tempfile
import warnings
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

GZIP = b"\x1f\x8b"
MAX_BYTES = 512 * 2**20
SECONDS = 2  # of computing, for one file
_WAITED = 120  # seconds for one file, however busy the machine is
GROWTH = 2**30  # of resident memory, over all files
_ROOM = 4 * 2**30
_SHOWN = 300


@dataclass
class Found:
    """What became of the files that were read."""

    executions: int = 0
    read: int = 0  # as if they were whole
    undocumented: list[str] = field(default_factory=list)
    slow: list[str] = field(default_factory=list)
    crashed: list[str] = field(default_factory=list)
    silent: list[str] = field(default_factory=list)  # other values than were written, and no error
    canaries: list[str] = field(default_factory=list)  # files made, or code run, by reading
    grown: int = 0  # bytes of resident memory

    @property
    def faults(self) -> list[str]:
        """Everything that must not be."""
        most = [f"the memory grew by {self.grown} bytes"] if self.grown > GROWTH else []
        return [*self.undocumented, *self.slow, *self.crashed, *self.silent, *self.canaries, *most]

    def add(self, other: "Found") -> None:
        """Count what was found elsewhere too."""
        for name in ("undocumented", "slow", "crashed", "silent", "canaries"):
            getattr(self, name).extend(getattr(other, name))
        self.executions, self.read = self.executions + other.executions, self.read + other.read
        self.grown = max(self.grown, other.grown)


@dataclass(frozen=True)
class Case:
    """A kind of file: how its name ends, how it is read, and how damage to it is made."""

    name: str  # what follows its last point is the file's suffix; .gz is added where the content is compressed
    read: Callable[[Path], Any]
    damaged: Callable[[random.Random], bytes]
    same: Callable[[Any], bool] | None = None  # as what was written; None where another content is no fault
    documented: tuple[type[Exception], ...] = (ValueError, TypeError, FileNotFoundError)


def run(case: Case, executions: int, seed: int = 0) -> Found:
    """Read `executions` damaged files."""
    found = Found()
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        (place / "here").mkdir()
        done = 0
        while done < executions:
            done = _worker(case, place, range(done, executions), seed, found)
    found.executions = executions
    return found


def _worker(case: Case, folder: Path, numbers: range, seed: int, found: Found) -> int:
    """Let a process read the files of these numbers; returns the first that is not done."""
    incoming, outgoing = os.pipe()
    sys.stdout.flush()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of a fork beside threads
        child = os.fork()
    if not child:
        try:
            os.close(incoming)
            with os.fdopen(outgoing, "w", encoding="utf-8", errors="backslashreplace") as pipe:
                _work(case, folder, numbers, seed, lambda line: (pipe.write(line + "\n"), pipe.flush()))
        finally:
            os._exit(0)
    os.close(outgoing)
    done = numbers.start
    with os.fdopen(incoming, encoding="utf-8", errors="backslashreplace") as pipe:
        for line in pipe:
            kind, _, text = line.rstrip("\n").partition(" ")
            if kind == "done":
                done += 1
            elif kind in ("read", "grown"):
                setattr(found, kind, found.read + 1 if kind == "read" else max(found.grown, int(text)))
            else:
                getattr(found, kind).append(f"{case.name} {done}: {text}")
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    if done == numbers.stop:
        return done
    if status in (-signal.SIGPROF, -signal.SIGALRM):
        found.slow.append(f"{case.name} {done}: more than {SECONDS} s of computing, or {_WAITED} of waiting")
    else:
        found.crashed.append(f"{case.name} {done}: the worker ended with {status}")
    return done + 1


def _work(case: Case, folder: Path, numbers: range, seed: int, say: Callable[[str], object]) -> None:
    os.chdir(folder / "here")
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)  # C libraries write there what they think of a file
    sys.path.insert(0, "")  # so that a file could name a module of its own
    warnings.simplefilter("ignore")
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    room = pages * resource.getpagesize() + _ROOM
    resource.setrlimit(resource.RLIMIT_AS, (room, room))
    signal.signal(signal.SIGPROF, signal.SIG_DFL)
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    with suppress(BaseException):  # so that what the first reading loads is there
        case.read(folder / f"none.{case.name.rpartition('.')[2]}")
    before = _peak()
    for number in numbers:
        content = case.damaged(random.Random(f"{seed} {number}"))
        path = folder / (f"case.{case.name.rpartition('.')[2]}" + ".gz" * content.startswith(GZIP))
        path.write_bytes(content)
        _read(case, path, say)
        made = [each.name for each in Path().iterdir()]
        if made:
            say(f"canaries {made}")
            for name in made:
                Path(name).unlink()
        say(f"grown {_peak() - before}")
        say("done")


def _read(case: Case, path: Path, say: Callable[[str], object]) -> None:
    start = os.times()
    signal.setitimer(signal.ITIMER_PROF, SECONDS + 1)
    signal.alarm(_WAITED)
    try:
        result = case.read(path)
    except case.documented as error:
        text = " ".join(str(error).split())
        if path.name not in text:
            say(f"undocumented {type(error).__name__} without the file's name: {text[:_SHOWN]}")
    except BaseException as error:
        say(f"undocumented {type(error).__name__}: {' '.join(str(error).split())[:_SHOWN]}")
    else:
        say("read")
        if case.same is not None and not case.same(result):
            say("silent other content than was written")
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.alarm(0)
    end = os.times()
    used = sum(end[:4]) - sum(start[:4])
    if used > SECONDS:
        say(f"slow {used:.1f} s of computing")


def _peak() -> int:
    """Most bytes of resident memory so far, of this process or one that it started."""
    return 1024 * max(resource.getrusage(who).ru_maxrss for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))


# damage


def flipped(content: bytes, draw: random.Random) -> bytes:
    """One bit turned."""
    damaged = bytearray(content)
    bit = draw.randrange(8 * len(content))
    damaged[bit // 8] ^= 1 << bit % 8
    return bytes(damaged)


def truncated(content: bytes, draw: random.Random) -> bytes:
    """The beginning of a file, of any length but the whole."""
    return content[: draw.randrange(len(content))]


_NUMBERS = (0, 1, 2, 2**7, 2**8 - 1, 2**15, 2**16 - 1, 2**24, 2**31 - 1, 2**31, 2**32 - 1, 2**62, 2**64 - 1)


def mutated(content: bytes, draw: random.Random, words: tuple[bytes, ...] = ()) -> bytes:
    """A few bytes, numbers, words or pieces changed, put in, taken out or doubled."""
    damaged = bytearray(content)
    for _ in range(draw.choice((1, 1, 1, 2, 3, 5, 9))):
        at = draw.randrange(len(damaged) + 1)
        size = draw.choice((1, 2, 4, 8, 8, 30))
        match draw.randrange(8 if words else 6):
            case 0 | 1 if at < len(damaged):
                damaged[at] ^= 1 << draw.randrange(8)
            case 2:
                width = draw.choice((1, 2, 4, 8))
                number = draw.choice(_NUMBERS) % 2 ** (8 * width)
                damaged[at : at + width] = number.to_bytes(width, draw.choice(("little", "big")))
            case 3:
                damaged[at : at + size] = draw.randbytes(draw.choice((size, size, 0)))
            case 4:
                other = draw.randrange(len(damaged) + 1)
                damaged[at : at + size] = damaged[other : other + size]
            case 5:
                del damaged[at + draw.choice((0, len(damaged))) :]
                damaged = damaged or bytearray(b"\0")
            case _:
                word = draw.choice(words or (b"\0",))
                damaged[at : at + draw.choice((0, 1, len(word)))] = word
    return bytes(damaged)


def mutated_json(whole: bytes, draw: random.Random) -> bytes:
    """JSON in which a value has become another."""
    content = json.loads(whole)
    place: Any = content
    while True:
        keys = list(place) if isinstance(place, dict) else list(range(len(place)))
        if not keys:
            break
        key = draw.choice(keys)
        if isinstance(place[key], dict | list) and draw.random() < 0.8:
            place = place[key]
            continue
        place[key] = draw.choice((None, True, -1, 0.5, 10**400, "", "x" * 99, [], {}, [[]], [1, "a"], {"a": 1}))
        break
    return json.dumps(content).encode()
