"""CPU threads: what was said counts, little work takes one, and much what pays."""

import os
import subprocess
import sys

import pytest
import torch

import brainrdl as rdl
from brainrdl import threads
from brainrdl.features.work import work_of
from brainrdl.threads import LITTLE, Threads, choose_threads, limited, one_unless_said, said_by, settled
from brainrdl.training.fit_threads import FitThreads
from small_network import loader, network, raises

CPU = torch.device("cpu")


@pytest.fixture
def eight(monkeypatch):
    """A machine of 8 cores, of which nothing was said; the numbers that torch was set to."""
    used = [8]
    for variable in ("OMP_NUM_THREADS", "MKL_NUM_THREADS"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setattr(threads, "usable_cores", lambda: 8)
    monkeypatch.setattr("brainrdl.training.fit_threads.usable_cores", lambda: 8)
    monkeypatch.setattr(threads, "gain_of", lambda number: pytest.fail("measured"))
    monkeypatch.setattr(torch, "get_num_threads", lambda: used[-1])
    monkeypatch.setattr(torch, "set_num_threads", used.append)
    return used


def test_what_was_asked_for_counts_most(eight, monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "2")
    assert choose_threads(5, work=1.0, processes=3) == Threads(5, "as asked for")
    with raises(ValueError, "threads must be at least 1, got 0"):
        choose_threads(0)


def test_what_the_environment_says_is_left(eight, monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "8")
    assert choose_threads(work=1.0) == Threads(8, "as OMP_NUM_THREADS says")
    assert choose_threads(work=1.0, processes=3) == Threads(2, "as OMP_NUM_THREADS says")


@pytest.mark.parametrize(
    ("number", "said"), [(8, None), (4, None), (3, "torch.set_num_threads"), (16, "torch.set_num_threads")]
)
def test_a_number_that_torch_does_not_take_by_itself_was_set(eight, number, said):
    eight.append(number)
    assert said_by() == said


def test_one_core_for_each_process_leaves_no_choice(eight):
    assert choose_threads(processes=8) == Threads(1, "there is one core for each process")


def test_little_work_takes_one_thread_unmeasured(eight):
    assert choose_threads(work=0.35 * LITTLE) == Threads(1, "35 million multiply-adds at a time are too few to share")


@pytest.mark.parametrize(
    ("gain", "expected"),
    [
        (0.125, "1 CPU thread: 8 threads were measured to be 0.12 times as fast as one"),
        (1.2, "1 CPU thread: 8 threads were measured to be 1.2 times as fast as one"),
        (5.51, "8 CPU threads: measured to be 5.5 times as fast as one"),
    ],
)
@pytest.mark.parametrize("work", [None, LITTLE])
def test_much_work_takes_what_pays(eight, monkeypatch, gain, expected, work):
    monkeypatch.setattr(threads, "gain_of", {8: gain}.get)
    assert str(choose_threads(work=work)) == expected


def test_the_measurement_leaves_no_trace():
    state = torch.random.get_rng_state()
    threads.gain_of.cache_clear()
    assert threads.gain_of(1) > 0
    assert threads.gain_of.cache_info().currsize == 1
    assert torch.equal(state, torch.random.get_rng_state())
    assert torch.get_num_threads() == 1


def test_torchs_number_comes_back_however_a_block_ends(eight):
    with pytest.raises(KeyError), limited(3):
        assert eight[-1] == 3
        raise KeyError
    assert eight[-1] == 8
    with one_unless_said():
        assert eight[-1] == 1
    eight.append(3)
    with one_unless_said():
        assert eight[-1] == 3
    assert settled() == Threads(3, "as torch.set_num_threads says")


class Odd(torch.nn.Module):
    """Counts, draws, and forgets: what a look must leave as it was."""

    def __init__(self):
        super().__init__()
        self.conv, self.norm = torch.nn.Conv2d(3, 4, 3, padding=1), torch.nn.BatchNorm2d(4)
        self.seen = 0

    def forward(self, x):
        self.seen += 1
        return self.norm(self.conv(x + torch.rand(1)))


def test_the_work_is_estimated_on_a_copy():
    model, images = Odd().train(), torch.rand(5, 3, 8, 8)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    state = torch.random.get_rng_state()
    assert work_of(model, images) == 5 * (4 * 8 * 8) * (3 * 3 * 3)
    assert torch.equal(state, torch.random.get_rng_state())
    assert model.seen == 0
    assert model.training
    for name, value in model.state_dict().items():
        assert torch.equal(before[name], value)


def test_a_network_that_cannot_be_looked_at_counts_by_its_weights():
    class Refuses(torch.nn.Linear):
        def forward(self, x):
            raise RuntimeError("no")

    assert work_of(Refuses(3, 4, bias=False), torch.rand(5, 3)) == 60


def test_a_small_fit_takes_one_thread_and_gives_torchs_back(eight):
    history = rdl.Trainer(network()).fit(loader(), epochs=1)
    chosen = history.attrs["threads"]
    assert chosen["number"] == 1
    assert chosen["why"].endswith("million multiply-adds at a time are too few to share")
    assert eight[-1] == 8
    assert set(eight) == {8, 1}


def test_a_fit_takes_what_the_trainer_was_told(eight):
    history = rdl.Trainer(network(), threads=3).fit(loader(), epochs=1)
    assert history.attrs["threads"] == {"number": 3, "why": "as asked for"}
    assert eight == [8, 3, 8]
    with raises(ValueError, "threads must be at least 1, got 0"):
        rdl.Trainer(network(), threads=0)


def test_a_resumed_fit_takes_the_number_of_its_checkpoint(eight, tmp_path):
    rdl.Trainer(network(), threads=3).fit(loader(), epochs=1, checkpoint=tmp_path / "run")
    state = torch.load(tmp_path / "run", weights_only=True)
    assert state["threads"] == 3
    fit = FitThreads(None, CPU)
    with fit:
        fit.resume(state["threads"])
        fit.decide([network()], [torch.rand(2, 3, 8, 8)])
        assert fit.chosen == Threads(3, "as in the training that is resumed")
        assert eight[-1] == 3
    assert eight[-1] == 8


@pytest.mark.parametrize(("asked", "stored"), [(2, 3), (None, 9), (None, None)])
def test_what_is_said_or_cannot_be_had_outdoes_the_checkpoint(eight, asked, stored):
    fit = FitThreads(asked, CPU)
    fit.resume(stored)
    assert fit.chosen == (Threads(2, "as asked for") if asked else None)


def test_a_gpu_leaves_torchs_number(eight):
    assert FitThreads(None, torch.device("cuda")).chosen == Threads(8, "torch's own number, as a GPU computes")


@pytest.mark.skipif(threads.usable_cores() < 2, reason="one core leaves no choice")
@pytest.mark.parametrize(("before", "expected"), [({}, 1), ({"OMP_NUM_THREADS": "2"}, 2)])
def test_a_script_that_says_nothing_trains_a_small_network_on_one_thread(before, expected):
    code = (
        "import torch, brainrdl as rdl; m = torch.nn.Linear(4, 2); b = [(torch.rand(8, 4), torch.zeros(8).long())]; "
        "h = rdl.Trainer(m).fit(b, epochs=1); print(h.attrs['threads']['number'])"
    )
    said = ("OMP_NUM_THREADS", "MKL_NUM_THREADS")
    environment = {name: value for name, value in os.environ.items() if name not in said} | before
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert done.stdout.split() == [str(expected)]
