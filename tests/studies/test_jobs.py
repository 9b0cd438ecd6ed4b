"""Runs that several processes make side by side."""

import dataclasses
import errno
import json
import multiprocessing
import os
import pickle
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
import torch

from brainrdl.studies.folder import HeldError, locked
from brainrdl.studies.jobs import beside, make_all
from brainrdl.studies.paper import runs as runs_module
from brainrdl.studies.paper.cifar100 import cifar100_study
from brainrdl.studies.paper.digits import digits_study
from brainrdl.studies.paper.mnist import mnist_study
from brainrdl.studies.paper.reproduce import _open_runs, reproduce
from brainrdl.studies.paper.runs import StudyRuns, read_run
from brainrdl.studies.paper.study import Request, Row, plan

RECIPE = dataclasses.replace(digits_study().recipe, epochs=1, teacher_epochs=1, batch_size=10)


def small(out: Path, **changes: object) -> Request:
    request = Request(out, limit_train=60, limit_teacher=60, arms=("plain", "teacher", "sp"), tries=2, device="cpu")
    return dataclasses.replace(request, seeds=2, threads=1, unscored=True, **changes)  # type: ignore[arg-type]


def made(folder: Path) -> dict[str, tuple[str, str]]:
    """The weights and the setting of every run and try."""
    records = {path: json.loads(path.read_text()) for path in folder.glob("**/run.json")}
    return {str(path.relative_to(folder)): (r["weights"], r["setting"]) for path, r in records.items()}


def quiet(line: str) -> None:
    """Say nothing."""


@pytest.fixture
def one_by_one(tmp_path: Path) -> Path:
    torch.set_num_threads(1)
    reproduce(digits_study(), small(tmp_path / "one"), RECIPE, log=quiet)
    return tmp_path / "one"


def test_several_processes_make_what_one_makes(
    one_by_one: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    request = small(tmp_path / "two")
    rows = plan(digits_study(), request)
    with beside(2, partial(_open_runs, digits_study(), RECIPE, request), rows):  # and nothing is made here
        wait_until(lambda: all((request.out / "runs" / row.name / "run.json").exists() for row in rows))
    assert made(request.out) == made(one_by_one)
    begun = [line.split(":")[0] for line in capfd.readouterr().out.splitlines() if " epochs" in line]
    assert sorted(begun) == sorted(str(Path(name).parent) for name in made(one_by_one))  # each once


def test_a_study_of_several_processes_is_that_of_one(one_by_one: Path, tmp_path: Path) -> None:
    said: list[str] = []
    reproduce(digits_study(), small(tmp_path / "three", jobs=3), RECIPE, log=said.append)
    assert made(tmp_path / "three") == made(one_by_one)
    assert [line for line in said if line.startswith("[")][-1].startswith("[6/6] ")
    assert not multiprocessing.active_children()


def test_where_all_is_made_no_process_is_started(one_by_one: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(multiprocessing, "get_context", lambda method: pytest.fail("a process was to be started"))
    reproduce(digits_study(), small(one_by_one, jobs=3), RECIPE, log=quiet)
    with pytest.raises(pytest.fail.Exception, match="to be started"):
        reproduce(digits_study(), small(one_by_one, jobs=2, arms=("plain", "kd")), RECIPE, log=quiet)


def wait_until(condition: Callable[[], bool]) -> None:
    until = time.monotonic() + 120
    while not condition():
        assert time.monotonic() < until, "waited for two minutes"
        time.sleep(0.05)


def test_a_run_that_another_process_holds_is_left_for_later(tmp_path: Path) -> None:
    runs = _open_runs(digits_study(), RECIPE, small(tmp_path, tries=1, arms=("plain",)))
    held, free = Row("plain", 0), Row("plain", 1)
    order = []
    with locked(tmp_path / "runs" / held.name):
        with pytest.raises(HeldError):
            runs.run(held)
        waiting = threading.Thread(target=make_all, args=(runs, [held, free]), kwargs={"done": order.append})
        waiting.start()
        wait_until(lambda: bool(order))
        time.sleep(0.5)
        assert order == [free]
    waiting.join(timeout=60)
    assert order == [free, held]


def test_a_try_that_another_process_holds_keeps_none_of_the_others_up(tmp_path: Path) -> None:
    runs = _open_runs(digits_study(), RECIPE, small(tmp_path, arms=("plain",)))
    with locked(tmp_path / "tries" / "plain" / "0"), pytest.raises(HeldError):
        runs.run(Row("plain", 0))
    assert (tmp_path / "tries" / "plain" / "1" / "run.json").exists()
    assert not (tmp_path / "tries" / "plain" / "choice.json").exists()


def test_what_another_process_finished_meanwhile_is_not_made_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    said: list[str] = []
    request = small(tmp_path, tries=1, arms=("plain",))
    row = Row("plain", 0)
    StudyRuns.run(_open_runs(digits_study(), RECIPE, request), row)
    looks = []

    def late(folder: Path, make: object) -> object:
        """As if the run were finished between the first look and the lock."""
        looks.append(folder)
        return None if len(looks) == 1 else read_run(folder, make)  # type: ignore[arg-type]

    monkeypatch.setattr(runs_module, "read_run", late)
    runs = _open_runs(digits_study(), RECIPE, request)
    monkeypatch.setattr(runs, "log", said.append)
    runs.run(row)
    assert len(looks) == 2
    assert not said


def test_without_locks_several_processes_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def none(*arguments: object) -> None:
        raise OSError(errno.ENOLCK, "no locks available")

    monkeypatch.setattr("fcntl.flock", none)
    runs = _open_runs(digits_study(), RECIPE, small(tmp_path, tries=1, arms=("plain",), jobs=2))
    with pytest.raises(OSError, match=r"is on a file system without locks, which jobs= needs; leave it out$"):
        runs.run(Row("plain", 0))


def test_waiting_is_said_once(tmp_path: Path) -> None:
    said: list[str] = []
    runs = _open_runs(digits_study(), RECIPE, small(tmp_path, tries=1, arms=("plain",)))
    row = Row("plain", 0)
    with locked(tmp_path / "runs" / row.name):
        waiting = threading.Thread(target=make_all, args=(runs, [row]), kwargs={"log": said.append})
        waiting.start()
        time.sleep(1)
    waiting.join(timeout=60)
    assert said == ["waiting for what other processes are making, plain-seed0 or what it needs first"]


def fail() -> StudyRuns:
    raise RuntimeError("this process is lost")


def test_a_process_that_is_lost_leaves_its_runs_to_the_others(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    request = small(tmp_path, tries=1, arms=("plain",))
    rows = plan(digits_study(), request)
    with beside(1, fail, rows):
        wait_until(lambda: not multiprocessing.active_children())
        make_all(_open_runs(digits_study(), RECIPE, request), rows)
    assert (tmp_path / "runs" / "plain-seed1" / "run.json").exists()
    assert "this process is lost" in capfd.readouterr().err


@pytest.mark.parametrize("make", [digits_study, mnist_study, cifar100_study])
def test_every_study_reaches_another_process(make: object) -> None:
    study = make()  # type: ignore[operator]
    assert [arm.name for arm in pickle.loads(pickle.dumps(study)).arms] == [arm.name for arm in study.arms]


def test_jobs_below_one_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"^jobs must be at least 1, got 0$"):
        reproduce(digits_study(), small(tmp_path, jobs=0), RECIPE, log=quiet)


def test_on_windows_there_is_one_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.platform", "win32")
    with (
        pytest.raises(ValueError, match=r"^jobs needs file locks as Unix has them; leave it out$"),
        beside(1, fail, []),
    ):
        pass


def test_one_process_needs_no_locks_of_that_kind(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.platform", "win32")
    with beside(0, partial(fail), []):
        pass


def never_ready() -> StudyRuns:
    time.sleep(300)
    raise AssertionError("nobody ended this process")


@pytest.mark.skipif(sys.platform == "win32", reason="signals")
def test_the_processes_end_with_a_command_that_is_killed() -> None:
    script = (
        "import multiprocessing, time, test_jobs\n"
        "with test_jobs.beside(1, test_jobs.never_ready, []):\n"
        "    print(multiprocessing.active_children()[0].pid, flush=True)\n"
        "    time.sleep(300)\n"
    )
    command = subprocess.Popen(
        [sys.executable, "-c", script], cwd=Path(__file__).parent, stdout=subprocess.PIPE, text=True
    )
    assert command.stdout is not None
    beside_it = int(command.stdout.readline())
    assert alive(beside_it)
    command.kill()
    command.wait()
    command.stdout.close()
    wait_until(lambda: not alive(beside_it))


def alive(process: int) -> bool:
    """Whether a process runs; what is dead and not yet collected does not."""
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    status = Path(f"/proc/{process}/status")
    return not (status.exists() and "State:\tZ" in status.read_text())
