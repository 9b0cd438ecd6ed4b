"""Nothing that a file says makes a terminal do anything."""

import io
import re
import sys

import h5py
import pytest

import brainrdl as rdl
from brainrdl.cli import main
from brainrdl.cli._terminal import Printable, above_bars, printable, wipe_bars, without_progress
from brainrdl.progress import Bar
from labelled_rdms import one

EVIL = "\x1b]0;owned\x07\x1b[31mred\r\u202etxt"
SHOWN = r"\x1b]0;owned\x07\x1b[31mred\r\u202etxt"


def test_what_a_terminal_obeys_is_written_out():
    assert printable(EVIL) == SHOWN
    assert printable("α – β\tγ\n") == "α – β\tγ\n"
    assert printable("\x9b2J\x00\x7f") == r"\x9b2J\x00\x7f"


def test_progress_bars_keep_what_moves_them():
    stream = io.StringIO()
    written = Printable(stream, progress=True)
    written.write("\r10 %\x1b[A\x1b[2J")
    assert stream.getvalue() == "\r10 %\x1b[A\\x1b[2J"


def test_warnings_stand_above_a_bar_and_an_error_takes_it_away(monkeypatch):
    class Terminal(io.StringIO):
        def isatty(self):
            return True

    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    with Bar(2, "fits"):
        with above_bars():
            terminal.write("a warning\n")
        wipe_bars()
        terminal.write("an error\n")
    shown = terminal.getvalue()
    assert without_progress(shown) == ["a warning", "an error"]
    assert re.search(r"\r +\ra warning\n\rfits: +0%[^\n]*\r +\r+an error\n$", shown)


def test_lines_of_a_log_are_told_from_what_is_said():
    shown = f"fits: {Bar(4, done=1).line(5.0)}\nbrainrdl: warning: 5 % of voxels\n{Bar(4, 'a').line(9.0)}\n"
    assert without_progress(shown) == ["brainrdl: warning: 5 % of voxels"]


def test_names_of_a_file_are_printed_escaped(tmp_path, capsys):
    path = tmp_path / "a.h5"
    rdl.write_rdms(one(**{"a\x1b[2Jb": 1}).assign_attrs(note=EVIL), path)
    assert main(["info", str(path)]) == 0
    out = capsys.readouterr().out
    assert "coordinates: a\\x1b[2Jb\n" in out
    assert "note: \\x1b]0;owned\\x07\\x1b[31mred \u202etxt".replace("\u202e", "\\u202e") in out
    assert "\x1b" not in out


def test_errors_and_warnings_are_printed_escaped(tmp_path, capsys):
    path = tmp_path / "a.h5"
    with h5py.File(path, "w") as file:
        file["x\x1b[2J"] = 1
    assert main(["info", str(path)]) == 2
    err = capsys.readouterr().err
    assert "\x1b" not in err
    assert r"\x1b[2J" in err


def test_the_streams_are_the_same_afterwards(capsys):
    import sys

    before = sys.stdout, sys.stderr
    with pytest.raises(SystemExit):
        main(["--version"])
    assert (sys.stdout, sys.stderr) == before
    assert capsys.readouterr().out.startswith("brainrdl ")
