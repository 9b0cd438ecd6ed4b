"""One number of threads for a study, and the same when it is resumed."""

import json

import pytest
import torch

from brainrdl import threads
from brainrdl.studies import study_threads
from brainrdl.studies.study_threads import set_threads

CPU = torch.device("cpu")


@pytest.fixture
def eight(monkeypatch):
    """A machine of 8 cores whose threads pay twofold; the numbers that torch was set to."""
    used = [8]
    for variable in ("OMP_NUM_THREADS", "MKL_NUM_THREADS"):
        monkeypatch.delenv(variable, raising=False)
    for module in (threads, study_threads):
        monkeypatch.setattr(module, "usable_cores", lambda: 8)
    monkeypatch.setattr(threads, "gain_of", lambda number: 2.0)
    monkeypatch.setattr(torch, "get_num_threads", lambda: used[-1])
    monkeypatch.setattr(torch, "set_num_threads", used.append)
    return used


def folder(path, *numbers):
    calls = [{"seconds": 1.0, "threads": number} for number in numbers]
    (path / "calls.json").write_text(json.dumps(calls), encoding="utf-8")
    return path


@pytest.mark.parametrize(
    ("asked", "before", "processes", "number", "said"),
    [
        (3, [5], 2, 3, []),
        (None, [5, 2], 1, 2, ["2 CPU threads: as in the study that is resumed"]),
        (None, [9], 1, 8, ["8 CPU threads: measured to be 2 times as fast as one"]),
        (None, [], 2, 4, ["4 CPU threads: measured to be 2 times as fast as one"]),
        (None, [], 8, 1, []),
    ],
)
def test_a_study_has_one_number_of_threads(eight, tmp_path, asked, before, processes, number, said):
    lines = []
    assert set_threads(asked, CPU, folder(tmp_path, *before), processes=processes, log=lines.append) == number
    assert eight[-1] == number
    assert lines == said


def test_on_a_gpu_processes_share_torchs_number(eight, tmp_path):
    assert set_threads(None, torch.device("cuda"), tmp_path, processes=4, log=pytest.fail) == 2
