import os
import signal
import subprocess
import sys
import time
from hashlib import sha256 as hashlib_sha256

import pandas as pd
import pytest

from brainrdl.files import store as _files
from brainrdl.files.store import atomic_path, keep_beside, sha256, write_json, write_table


def test_a_table_is_written_whole(tmp_path):
    path = tmp_path / "new" / "table.csv"
    write_table(pd.DataFrame({"a": [1, 2], "b": [0.5, None]}, index=[7, 8]), path)
    assert path.read_bytes() == b"a,b\n1,0.5\n2,\n"
    assert list(path.parent.iterdir()) == [path]


def test_a_table_is_written_with_its_index_where_asked(tmp_path):
    write_table(pd.DataFrame({"a": [1]}, index=pd.Index(["x"], name="id")), tmp_path / "t.csv", index=True)
    assert (tmp_path / "t.csv").read_bytes() == b"id,a\nx,1\n"


@pytest.mark.parametrize("content", [b"", b"abc", bytes(range(256)) * 9000])
def test_bytes_have_one_digest_in_however_many_parts_they_come(content):
    assert sha256(content) == sha256(content[:5], content[5:]) == hashlib_sha256(content).hexdigest()


# what killed writers leave behind


def dead():
    """The number of a process that is no more."""
    with subprocess.Popen([sys.executable, "-c", ""]) as process:
        process.wait()
    return process.pid


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no SIGKILL")
def test_the_temporary_file_of_a_killed_writer_goes_with_the_next_write(tmp_path):
    path = tmp_path / "table.csv"
    code = (
        "import os, signal, sys; from brainrdl.files.store import atomic_path\n"
        "with atomic_path(sys.argv[1]) as temporary:\n"
        "    temporary.write_text('half'); os.kill(os.getpid(), signal.SIGKILL)"
    )
    for _ in range(2):
        assert subprocess.run([sys.executable, "-c", code, str(path)]).returncode == -signal.SIGKILL
        (left,) = tmp_path.iterdir()
        assert left.read_text() == "half"
    write_table(pd.DataFrame({"a": [1]}), path)
    assert list(tmp_path.iterdir()) == [path]


def test_any_write_into_the_folder_removes_what_killed_writers_left(tmp_path):
    (tmp_path / f".other.nc.{dead()}-{_files._host()}.tmp").touch()
    (tmp_path / f".run.{dead()}.tmp").touch()  # as earlier versions named theirs
    write_json({}, tmp_path / "run")
    assert os.listdir(tmp_path) == ["run"]


def test_files_that_somebody_may_be_writing_stay(tmp_path):
    gone, alive = dead(), os.getppid()
    elsewhere = f".run.{gone}-00000000.tmp"
    kept = [
        f".run.{alive}-{_files._host()}.tmp",
        elsewhere,  # another machine's
        f".run.{alive}.tmp",
        # of another name, or none of ours
        f".other.{gone}.tmp",
        f"run.{gone}-{_files._host()}.tmp",
        ".run.tmp",
        f".run.{gone}-{_files._host()}.tmp.nc",
    ]
    for name in kept:
        (tmp_path / name).write_text("precious")
    (tmp_path / f".folder.{gone}-{_files._host()}.tmp").mkdir()
    write_json({}, tmp_path / "run")
    assert {path.name for path in tmp_path.iterdir()} == {*kept, "run", f".folder.{gone}-{_files._host()}.tmp"}
    # nobody writes for days without writing
    long_ago = time.time() - 2 * 24 * 3600
    os.utime(tmp_path / elsewhere, (long_ago, long_ago))
    write_json({}, tmp_path / "run")
    assert not (tmp_path / elsewhere).exists()


def test_a_second_name_of_a_file_is_not_written_over(tmp_path):
    # a process that was killed between link and rename, and whose number another one has got
    path, older = tmp_path / "run", tmp_path / "run.previous"
    path.write_text("precious")
    os.link(path, tmp_path / f".run.previous.{os.getpid()}-{_files._host()}.tmp")
    os.link(path, tmp_path / f".run.{os.getpid()}-{_files._host()}.tmp")
    keep_beside(path, older)
    with atomic_path(path) as temporary:
        temporary.write_text("new")
    assert (path.read_text(), older.read_text()) == ("new", "precious")
    assert sorted(os.listdir(tmp_path)) == ["run", "run.previous"]


@pytest.mark.parametrize("links", [True, False])
def test_a_file_is_kept_beside(tmp_path, monkeypatch, links):
    if not links:
        monkeypatch.setattr(os, "link", lambda *paths: (_ for _ in ()).throw(OSError(1, "no links here")))
    path, older = tmp_path / "run", tmp_path / "run.previous"
    for content in ("one", "two", "three"):
        path.write_text(content) if not path.exists() else None
        keep_beside(path, older)
        with atomic_path(path) as temporary:
            temporary.write_text(content)
    assert (path.read_text(), older.read_text()) == ("three", "two")
    assert sorted(os.listdir(tmp_path)) == ["run", "run.previous"]


@pytest.mark.skipif(sys.platform == "win32", reason="Windows limits no files")
def test_a_full_disk_is_an_error_in_every_format(tmp_path):
    code = (
        "import resource, sys; import numpy as np; import brainrdl as rdl\n"
        "rdms = rdl.label_rdms(np.random.default_rng(0).random((5, 190)), map(str, range(20)), list('abcde'), 'mse')\n"
        "for room in (3_000, 500):\n"
        "    resource.setrlimit(resource.RLIMIT_FSIZE, (room, resource.RLIM_INFINITY))\n"
        "    for path in sys.argv[1:]:\n"
        "        try: rdl.write_rdms(rdms, path)\n"
        "        except OSError as error: print(error)"
    )
    paths = [str(tmp_path / f"rdms.{suffix}") for suffix in ("nc", "h5", "npz", "mat", "json", "csv")]
    done = subprocess.run([sys.executable, "-c", code, *paths], capture_output=True, text=True)
    # HDF5 ends the process where it cannot write to its file
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines() == 2 * [f"[Errno 27] File too large: '{path}'" for path in paths]
    assert list(tmp_path.iterdir()) == []
