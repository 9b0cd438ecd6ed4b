"""A few trainings that are killed at random moments; `kills.py` runs the long version, with studies."""

import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="looks for its processes' handlers in /proc")


def test_trainings_that_are_killed_end_as_if_nobody_had_disturbed_them():
    command = [sys.executable, str(Path(__file__).with_name("kills.py")), "--of", "training"]
    asked = ["--kills", "3", "--terminations", "2", "--full_disks", "2"]
    # in a process of its own: it forks, and this one may have threads
    done = subprocess.run([*command, *asked], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
    lines = done.stdout.splitlines()
    assert [line.split()[0] for line in lines] == ["kills", "terminations", "full_disks"]
    assert [int(line.split()[2]) for line in lines] == [3, 2, 2]
