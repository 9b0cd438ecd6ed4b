import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import brainrdl as rdl
from brainrdl import cli
from brainrdl.terminal import one_line, printable, say

HOSTILE = "a\x1b[31mred\x9b\u202etxt\u2066\u200b\ufeff\x07\x7f\r"


def test_what_a_name_could_do_to_a_terminal_is_written_out() -> None:
    assert one_line(HOSTILE) == r"a\x1b[31mred\x9b\u202etxt\u2066\u200b\ufeff\x07\x7f\r"
    assert one_line("two\nlines\u2028\udc80") == r"two\nlines\u2028\udc80"
    assert printable("a\tb\r\nc\x1b") == "a\tb\\r\nc\\x1b"


def test_letters_of_any_script_stay() -> None:
    for text in ("Gesicht-ä", "顔", "وجه", "чаша", "0.3 × 2 – α", "🙂", "n̈"):
        assert printable(text) == one_line(text) == text


def test_say_prints_on_stdout_or_stderr(capsys: pytest.CaptureFixture[str]) -> None:
    say("a\x1b")
    say("b\u202e", error=True)
    assert capsys.readouterr() == ("a\\x1b\n", "b\\u202e\n")


@pytest.fixture
def hostile(tmp_path: Path) -> Path:
    """RDMs whose every name holds a control sequence, one of them a line of its own."""
    path = tmp_path / "rdms.nc"
    ids = [f"{name}{HOSTILE}" for name in "abc"]
    rdms = rdl.label_rdms(np.array([[0.2, 1.3, 1.1]]), ids, [f"IT{HOSTILE}"], "correlation")
    rdl.write_rdms(rdms.assign_attrs({"note\x1b[2J": "x\x1b[2J\nmetric: forged"}), path)
    return path


def test_info_prints_no_control_sequence_of_a_file(hostile: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["info", str(hostile)]) == 0
    shown = capsys.readouterr().out
    assert shown == printable(shown)
    lines = shown.splitlines()
    assert lines[-1] == r"note\x1b[2J: x\x1b[2J metric: forged"
    assert len(lines) == 6


def test_nor_does_any_other_command_or_error(hostile: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    copy, odd = tmp_path / "c\x1b]0;title\x07.nc", tmp_path / "d\x1b\n\u202e.nc"
    assert cli.main(["convert", str(hostile), str(copy)]) == 0
    assert cli.main(["compare", str(hostile), str(copy)]) == 0
    assert cli.main(["info", str(odd)]) == 2
    with pytest.raises(SystemExit):
        cli.main(["info", str(hostile), str(copy)])
    out, err = capsys.readouterr()
    assert (out, err) == (printable(out), printable(err))
    assert rf"brainrdl info: error: unrecognized arguments: {tmp_path}/c\x1b]0;title\x07.nc" in err
    assert rf"{tmp_path}/d\x1b \u202e.nc" in err


def test_a_warning_is_printed_as_an_error_is(tmp_path: Path) -> None:
    code = (
        "import sys, warnings, lightning_fabric\n"  # which has a format of its own
        "from brainrdl import cli\n"
        "from brainrdl.cli import info\n"
        "info._run = lambda *_: warnings.warn('of \\x1b[2J\\n a name') or 0\n"
        "sys.exit(cli.main(['info', 'a.nc']))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert (done.stdout, done.stderr) == ("", "brainrdl: warning: of \\x1b[2J a name\n")
