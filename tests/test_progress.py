"""What is shown of work that takes long: a bar that fits the terminal, plain lines in a log."""

import io
import os
import re
import struct
import sys
import threading
from collections.abc import Callable
from contextlib import suppress

import pytest
import torch

import brainrdl as rdl
from brainrdl import progress
from brainrdl.progress import Bar, log, time_left, track, without_bars


def in_a_terminal(columns: int, show: Callable[[], object], monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The lines that are shown, one after the other, on the stderr of a terminal so wide."""
    fcntl, pty, termios = (pytest.importorskip(name) for name in ("fcntl", "pty", "termios"))
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24 * (columns > 0), columns, 0, 0))
    parts: list[bytes] = []

    def read() -> None:
        with suppress(OSError):  # the other end is closed
            while part := os.read(ours, 65536):
                parts.append(part)

    reader = threading.Thread(target=read)
    reader.start()
    with os.fdopen(theirs, "w") as terminal, monkeypatch.context() as patch:
        patch.setattr(sys, "stderr", terminal)
        show()
    reader.join()
    os.close(ours)
    return [line for line in re.split(r"[\r\n]+", b"".join(parts).decode()) if line.strip()]


def train() -> None:
    """Train toward six layers: more losses than fit."""
    student = torch.nn.Sequential(torch.nn.Flatten(), *(torch.nn.Linear(4, 4) for _ in range(6)), torch.nn.Linear(4, 2))
    teacher = rdl.NetworkTeacher(torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(4, 4)), ["1"])
    term = rdl.RDLTerm(teacher, {str(k): "1" for k in range(1, 7)}, alpha=0.1)
    loader = [(torch.randn(8, 1, 2, 2), torch.arange(8) % 2)] * 4
    rdl.Trainer(student, [term]).fit(loader, epochs=3, validation=loader, log_every=1)


@pytest.mark.parametrize(
    ("columns", "shown"),
    [
        (80, ["val. error", "task_loss"]),
        (60, ["val. error"]),
        (0, ["val. error", "task_loss"]),  # a terminal that does not say how large it is
    ],
)
def test_a_bar_fits_the_terminal_and_has_the_validation_error(
    columns: int, shown: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    lines = in_a_terminal(columns, train, monkeypatch)
    assert lines
    assert max(map(len, lines)) <= (columns or 80)
    bar, *values = lines[-1].split(", ")
    assert re.fullmatch(r"epoch 3/3: 100%\|█+\| \d\d:\d\d<\d\d:\d\d", bar)
    # losses that do not fit are left out whole
    assert [value.rpartition(" ")[0] for value in (value.removesuffix(" %") for value in values)] == shown


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Seconds that have passed, which a test sets."""
    passed = [0.0]
    monkeypatch.setattr(progress.time, "perf_counter", lambda: passed[0])
    return passed


def test_a_log_has_a_line_now_and_then(clock: list[float], capsys: pytest.CaptureFixture[str]) -> None:
    with Bar(100, "fits") as bar:
        bar.lead(["val. error 5.1 %"])
        for _ in range(100):
            clock[0] += 2
            bar.advance()
    written = capsys.readouterr().err
    lines = written.splitlines()
    assert lines[0] == "fits: 2 % in 00:04, about 03:16 left, val. error 5.1 %"
    assert "\r" not in written
    assert "\x1b" not in written
    # at most every three seconds, later every twentieth of the time so far
    assert 25 < len(lines) < 45


def test_a_log_says_nothing_of_what_is_done_at_once(clock: list[float], capsys: pytest.CaptureFixture[str]) -> None:
    for _ in track(range(3), "quick", total=3):
        clock[0] += 0.9
    assert capsys.readouterr().err == ""


def test_what_was_done_before_does_not_count_as_speed(clock: list[float], capsys: pytest.CaptureFixture[str]) -> None:
    with Bar(100, done=90) as bar:
        clock[0] += 10
        bar.advance(5)
    assert capsys.readouterr().err == "95 % in 00:10, about 00:10 left\n"


def test_more_than_the_total_makes_the_total_grow(clock: list[float], capsys: pytest.CaptureFixture[str]) -> None:
    with Bar(4) as bar:
        clock[0] += 10
        bar.advance(8)
    assert capsys.readouterr().err == "100 % in 00:10, about 00:00 left\n"


def test_nothing_is_known_of_the_time_left_before_a_step_is_done() -> None:
    assert time_left(0, 5, 3.0) == "time left unknown"
    assert time_left(2, 6, 60.0) == "about 03:00 left"


def test_a_line_goes_above_the_bar(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    monkeypatch.setattr(sys, "stdout", terminal)
    with Bar(2, "fits") as bar:
        log("first \x1b[2J")
        bar.advance()
    written = terminal.getvalue()
    # the bar is wiped before, and drawn again behind it
    assert re.search(r"\r +\rfirst \\x1b\[2J\n\rfits: +0%", written)


def test_no_bar_where_none_is_wanted(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    with without_bars():
        with Bar(2, "fits") as bar:
            bar.advance()
        assert os.environ["TQDM_DISABLE"] == "1"
    assert terminal.getvalue() == ""
    assert "TQDM_DISABLE" not in os.environ


def test_lines_within_a_step_come_late(clock: list[float], capsys: pytest.CaptureFixture[str]) -> None:
    with Bar(2, "fits"):
        for _ in track(range(15), "epochs", total=15):
            clock[0] += 5
    assert capsys.readouterr().err.splitlines()[0] == "epochs: 80 % in 01:00, about 00:15 left"


def test_what_is_done_within_the_delay_is_not_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    assert list(track(range(3), "bootstrap", total=3, delay=30)) == [0, 1, 2]
    assert not terminal.getvalue().strip()
