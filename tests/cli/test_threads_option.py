"""``--threads``: what a command computes with, and what it leaves behind."""

import os

import pytest
import torch

from brainrdl.cli import main
from brainrdl.cli._threads import using_threads
from brainrdl.threads import said_by


def test_a_command_computes_on_the_threads_that_it_was_given(monkeypatch):
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    with using_threads(3):
        assert torch.get_num_threads() == 3
        assert said_by() == "OMP_NUM_THREADS"
    assert torch.get_num_threads() == 1
    assert "OMP_NUM_THREADS" not in os.environ


def test_what_the_environment_said_is_restored(monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "2")
    with pytest.raises(KeyError), using_threads(3):
        raise KeyError
    assert os.environ["OMP_NUM_THREADS"] == "2"


@pytest.mark.parametrize(
    "command",
    [
        ["card", "m:f", "--stimuli", "s", "--rdms", "r", "--layers", "a", "-o", "o"],
        ["compare", "a.nc", "b.nc"],
        ["convert", "a.nc", "b.nc"],
        ["plot", "a.nc", "-o", "a.png"],
        ["rdms", "network", "--model", "m:f"],
        ["rdms", "fmri", "bids", "--task", "t", "--roi", "a=b"],
        ["reproduce", "digits", "--out", "o"],
        ["fit", "study.yaml", "-o", "o"],
    ],
)
def test_every_command_that_computes_takes_a_number_of_threads(command, capsys):
    assert main([*command, "--threads", "0"]) == 2
    assert capsys.readouterr().err == "brainrdl: --threads must be at least 1, got 0\n"
