"""Locks between processes."""

import errno
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from brainrdl.files.locks import HeldError, NoLocksError, locked_file
from small_network import raises

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such locks")


def test_a_second_holder_is_refused_and_the_next_one_is_not(tmp_path):
    path = tmp_path / "lock"
    held = "the first one is at it"
    with locked_file(path, held), raises(HeldError, held), locked_file(path, held):
        raise AssertionError
    with locked_file(path, "nobody"):
        assert path.exists()
    assert path.exists()


def test_a_lock_is_removed_where_asked(tmp_path):
    with locked_file(tmp_path / "lock", "", remove=True):
        pass
    assert os.listdir(tmp_path) == []


def test_a_lock_ends_with_the_process_however_that_ends(tmp_path):
    path = tmp_path / "lock"
    code = (
        "import os, sys; from pathlib import Path; from brainrdl.files.locks import locked_file\n"
        "with locked_file(Path(sys.argv[1]), '', remove=True):\n"
        "    print('locked', flush=True); sys.stdin.read()"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    with process:
        assert process.stdout.readline() == "locked\n"
        with raises(HeldError, "held"), locked_file(path, "held"):
            raise AssertionError
        process.kill()
    assert path.exists()
    with locked_file(path, "held", remove=True):
        assert path.exists()
    assert not path.exists()


def test_a_forked_child_does_not_hold_the_lock_of_a_killed_process(tmp_path):
    path = tmp_path / "lock"
    code = (
        "import os, sys, time; from pathlib import Path; from brainrdl.files.locks import locked_file\n"
        "with locked_file(Path(sys.argv[1]), ''):\n"
        "    child = os.fork()\n"  # lives on for a while, as a loader's worker does
        "    os.write(1, f'{child or \"child\"}\\n'.encode()); time.sleep(20)"
    )
    process = subprocess.Popen([sys.executable, "-c", code, str(path)], stdout=subprocess.PIPE, text=True)
    with process:
        said = [process.stdout.readline().strip() for _ in range(2)]
        process.kill()
        process.wait()
        child = next(int(word) for word in said if word != "child")
        try:
            with locked_file(path, "held"):
                os.kill(child, 0)  # it lives
        finally:
            os.kill(child, signal.SIGKILL)


def test_a_child_that_is_just_forked_does_not_hold_the_lock(tmp_path):
    path = tmp_path / "lock"
    for _ in range(20):
        with locked_file(path, "held"):
            child = os.fork()
            if child == 0:
                os._exit(0)
        try:
            with locked_file(path, "held"):
                pass
        finally:
            os.waitpid(child, 0)


def test_a_lock_that_is_removed_while_one_waits_is_made_anew(tmp_path, monkeypatch):
    import fcntl

    path, flock, locks = tmp_path / "lock", fcntl.flock, []

    def removed_first(file, how):
        if not locks:
            path.unlink()
        locks.append(how)
        return flock(file, how)

    monkeypatch.setattr(fcntl, "flock", removed_first)
    with locked_file(path, "held"):
        assert len(locks) == 2
        with raises(HeldError, "held"), locked_file(path, "held"):
            raise AssertionError


@pytest.mark.parametrize("number", [errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOSYS])
def test_a_file_system_without_locks(tmp_path, monkeypatch, number):
    def none(file, how):
        raise OSError(number, "none")

    monkeypatch.setattr("fcntl.flock", none)
    with pytest.raises(NoLocksError) as error, locked_file(tmp_path / "lock", "held"):
        raise AssertionError
    assert (error.value.errno, error.value.filename) == (number, str(tmp_path / "lock"))


def test_a_file_that_cannot_be_made(tmp_path):
    with pytest.raises(FileNotFoundError), locked_file(Path(tmp_path, "none", "lock"), "held"):
        raise AssertionError
