"""Kill trainings and studies at random moments, resume them, and compare their end with that of an undisturbed one.

    python tests/faults/kills.py [--kills 50] [--terminations 20] [--full_disks 20] [--seed 0]

`kills` sends SIGKILL, `terminations` SIGTERM, `full_disks` lets no file grow any more from some moment on. Nothing may
be lost but the update under way, and the end must be bitwise that of the process that nobody disturbed.
"""

import argparse
import os
import random
import resource
import select
import shutil
import signal
import sys
import tempfile
import time
import traceback
import warnings
from collections.abc import Callable, Sequence
from contextlib import redirect_stderr, redirect_stdout, suppress
from dataclasses import dataclass, field
from functools import cache, partial
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
sys.path[:0] = [place for place in (str(HERE), str(HERE.parent)) if place not in sys.path]

import torch  # noqa: E402 - behind the path
from killable import EVERYTHING, Killable  # noqa: E402

_LONGEST = 600  # seconds for a process that nobody disturbs


@dataclass
class Found:
    """What became of the processes that were disturbed."""

    executions: int = 0
    read: int = 0  # ends that were compared
    faults: list[str] = field(default_factory=list)
    lost: int = 0  # updates under way that had to be made again
    started: list[int] = field(default_factory=list)  # processes

    def add(self, other: "Found") -> None:
        """Count what was found elsewhere too."""
        self.executions, self.read = self.executions + other.executions, self.read + other.read
        self.faults, self.lost = self.faults + other.faults, self.lost + other.lost


def kills(executions: int, what: Sequence[Killable] = EVERYTHING, seed: int = 0) -> Found:
    """Send SIGKILL."""
    return _shared(executions, what, lambda each, n: _disturbed(each, n, seed, signal.SIGKILL))


def terminations(executions: int, what: Sequence[Killable] = EVERYTHING, seed: int = 0) -> Found:
    """Send SIGTERM."""
    return _shared(executions, what, lambda each, n: _disturbed(each, n, seed, signal.SIGTERM))


def full_disks(executions: int, what: Sequence[Killable] = EVERYTHING, seed: int = 0) -> Found:
    """Let no file grow any more."""
    return _shared(executions, what, lambda each, n: _disturbed(each, n, seed, None))


def _shared(executions: int, what: Sequence[Killable], run: Callable[[Killable, int], Found]) -> Found:
    found = Found()
    for k, each in enumerate(what):
        share = executions * (k + 1) // len(what) - executions * k // len(what)
        if share:
            found.add(run(each, share))
    return found


@dataclass
class _Process:
    number: int
    pipes: dict[int, str]
    said: bytes = b""  # u behind each update, e at the end
    printed: bytes = b""

    def wait(self, seconds: float, until: Callable[[], bool] = lambda: False) -> int | None:
        """Wait for the end or something else; the exit status, None where it goes on."""
        deadline = time.monotonic() + seconds
        while not until():
            left = deadline - time.monotonic()
            if left <= 0:
                return None
            for pipe in select.select(list(self.pipes), [], [], min(left, 0.01))[0]:
                name, text = self.pipes[pipe], os.read(pipe, 4096)
                setattr(self, name, getattr(self, name) + text)
                # the work's own: a worker of its loader may hold the other one for a while
                if not text and name == "said":
                    return self._ended()
                if not text:
                    os.close(pipe)
                    del self.pipes[pipe]
        return None

    def _ended(self) -> int:
        for pipe, name in self.pipes.items():
            while name == "printed" and select.select([pipe], [], [], 0)[0] and (text := os.read(pipe, 4096)):
                self.printed += text
            os.close(pipe)
        return os.waitstatus_to_exitcode(os.waitpid(self.number, 0)[1])

    @property
    def last(self) -> str:
        """What it printed last."""
        return " | ".join(self.printed.decode(errors="replace").splitlines()[-6:])


def _start(what: Killable, folder: Path) -> _Process:
    """Do the work in a process of its own."""
    sys.stdout.flush()
    (pipe, say), (printed, out) = os.pipe(), os.pipe()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of a fork beside threads
        child = os.fork()
    if child:
        os.close(say)
        os.close(out)
        return _Process(child, {pipe: "said", printed: "printed"})
    status = 1
    try:
        os.setpgid(0, 0)  # with its loader's workers, of which one may outlive it
        os.register_at_fork(after_in_child=partial(os.close, say))  # a loader's worker does not hold it
        for each in (1, 2):
            os.dup2(out, each)
        torch.set_num_threads(1)
        status = what.work(folder, lambda: os.write(say, b"u"))
        os.write(say, b"" if status else b"e")
    except SystemExit as ended:
        status = int(ended.code)
    except OSError as error:  # what a training raises where the disk is full
        print(f"{type(error).__name__}: {error}", flush=True)
        status = 2
    except BaseException:
        traceback.print_exc()
        sys.stderr.flush()
    finally:
        os._exit(status)


@cache
def _undisturbed(what: Killable) -> tuple[Any, float]:
    """The end of the work where nobody disturbs it, and the seconds it takes from its first update on."""
    with tempfile.TemporaryDirectory() as place:
        # first here, so that what is loaded on the way is there in all processes to come
        for name in ("here", "there"):
            Path(place, name).mkdir()
        with open(os.devnull, "w") as nothing, redirect_stdout(nothing), redirect_stderr(nothing):
            assert what.work(Path(place, "here"), lambda: None) == 0
        process = _start(what, Path(place, "there"))
        status = process.wait(_LONGEST, lambda: _is_under_way(what, process))
        start = time.monotonic()
        status = process.wait(_LONGEST) if status is None else status
        assert status == 0, f"{what.name} ended with {status}: {process.last}"
        seconds, end = time.monotonic() - start, what.end(Path(place, "there"))
        assert end == what.end(Path(place, "here"))
        return end, seconds


def _is_under_way(what: Killable, process: _Process) -> bool:
    return what.updates is None or b"u" in process.said


def _disturbed(what: Killable, executions: int, seed: int, number: signal.Signals | None) -> Found:
    """Disturb and resume until it was done so many times."""
    expected, seconds = _undisturbed(what)
    draw, found = random.Random(f"{what.name} {number} {seed}"), Found()
    place = Path(tempfile.mkdtemp())
    folder = place / "disturbed"
    while found.executions < executions:
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        ended = False
        while not ended and found.executions < executions:
            # a part of the whole, so that most runs are disturbed several times
            ended = _disturb(what, folder, draw, draw.uniform(0, seconds / 2), number, found)
        faults = len(found.faults)
        last = None if ended else _start(what, folder)
        if last is not None and (status := last.wait(_LONGEST)) != 0:
            found.faults.append(f"{what.name}: resumed, it ended with {status}: {last.last}")
        elif (end := what.end(folder)) != expected:
            differing = [key for key in expected if end.get(key) != expected[key]]
            found.faults.append(f"{what.name}: another end, in {', '.join(differing)}: {_difference(end, expected)}")
        found.read += faults == len(found.faults)
    # not earlier: a worker that is left must not keep the next process from its checkpoint
    for group in found.started:
        with suppress(ProcessLookupError):
            os.killpg(group, signal.SIGKILL)
    shutil.rmtree(place)
    return found


def _disturb(
    what: Killable, folder: Path, draw: random.Random, seconds: float, number: signal.Signals | None, found: Found
) -> bool:
    """Disturb one process, and note what it left; True if it was faster."""
    before = 0 if what.updates is None else what.updates(folder)
    process = _start(what, folder)
    # some at once, before there is an update; SIGTERM not before it is heard, since nothing is under way
    at_once = draw.random() < 0.1
    heard = number != signal.SIGTERM
    status = process.wait(
        _LONGEST,
        lambda: (at_once or _is_under_way(what, process)) and (heard or _catches(process.number, signal.SIGTERM)),
    )
    status = process.wait(seconds * (0.1 if at_once else 1)) if status is None else status
    if status is None:
        if number is None:
            size = draw.choice((0, 500, 3_000, 20_000))
            resource.prlimit(process.number, resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))
        else:
            os.kill(process.number, number)
        status = process.wait(_LONGEST)
    found.started.append(process.number)
    if status == 0 or b"e" in process.said:
        return True
    found.executions += 1
    wanted = {signal.SIGKILL: -9, signal.SIGTERM: 143, None: 2}[number]
    if status != wanted:
        found.faults.append(f"{what.name}: ended with {status}, not {wanted}: {process.last}")
    if what.updates is not None:
        lost = before + process.said.count(b"u") - what.updates(folder)
        found.lost += lost
        # the update behind which it was asked to end is on the disk
        if not 0 <= lost <= (number != signal.SIGTERM):
            found.faults.append(f"{what.name}: {lost} updates were lost")
    return False


def _catches(process: int, number: int) -> bool:
    with suppress(FileNotFoundError):
        lines = Path(f"/proc/{process}/status").read_text().splitlines()
        caught = next((int(line.split()[1], 16) for line in lines if line.startswith("SigCgt")), 0)
        return bool(caught >> (number - 1) & 1)
    return False


def _difference(end: Any, expected: Any) -> str:
    files = set(end["files"]) ^ set(expected["files"])
    return f"files {sorted(files)}" if files else "the same files"


def main() -> int:
    """Run what is asked, print the figures; the exit status is 1 if anything was found."""
    parser = argparse.ArgumentParser(description=__doc__)
    names = [each.name for each in EVERYTHING]
    for kind, number in (("kills", 50), ("terminations", 20), ("full_disks", 20)):
        parser.add_argument(f"--{kind}", type=int, default=number)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--of", nargs="*", choices=names, default=names)
    options = parser.parse_args()
    what = [each for each in EVERYTHING if each.name in options.of]
    failed = False
    for kind in (kills, terminations, full_disks):
        for each in what:
            asked = getattr(options, kind.__name__)
            share = asked * (what.index(each) + 1) // len(what) - asked * what.index(each) // len(what)
            if not share:
                continue
            start = time.monotonic()
            found = kind(share, (each,), options.seed)
            print(
                f"{kind.__name__:<13}{each.name:<23}{found.executions:>4} disturbed{found.read:>4} ends compared"
                f"{found.lost:>4} updates made again{len(found.faults):>4} faults{time.monotonic() - start:>6.0f} s",
                flush=True,
            )
            for fault in found.faults[:10]:
                print(f"    {fault}", flush=True)
            failed |= bool(found.faults)
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
