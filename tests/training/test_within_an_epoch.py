"""Checkpoints within an epoch: on request, and where the process is asked to end."""

import os
import signal
import threading
import time
from pathlib import Path

import pandas as pd
import pytest
import torch
from test_trainer import SCENARIOS, Interrupted, InterruptionError, interrupt, run
from torch.utils.data import DataLoader, TensorDataset

import brainrdl as rdl
from brainrdl.training import keeping as _keeping
from brainrdl.training.keeping import Every, Keeper, read_every
from brainrdl.training.stopping import StopRequest, stop_signals
from small_network import assert_same, assert_same_history, brain_term, data, loader, network, raises, stimuli, weights


def progress(path):
    state = torch.load(path, weights_only=True)
    return len(state["history"]), None if state["progress"] is None else state["progress"]["updates"]


def fit(scenario, checkpoint=None, at=None, stop=interrupt, every=None, epochs=3):
    """One run; with `at`, `stop` is called while the batch of that (epoch, update) is read."""
    terms, made, fitted = SCENARIOS[scenario]()
    student, task = network(), loader()
    if at is not None:
        # where there are terms on the task stream, their set-up is a pass before the first epoch's
        first = int(any(term.stream == "task" for term in terms))
        task = Interrupted(task, first + at[0], at[1], stop)
    history = rdl.Trainer(student, terms, **made).fit(
        task, epochs=epochs, checkpoint=checkpoint, checkpoint_every=every, seed=5, **fitted
    )
    return weights(student), history, [weights(term.heads) for term in terms]


def assert_same_run(a, b):
    assert_same(a[0], b[0])
    assert_same_history(a[1], b[1])
    for left, right in zip(a[2], b[2], strict=True):
        assert_same(left, right)


@pytest.mark.parametrize("at", [(0, 1), (1, 3)])
@pytest.mark.parametrize("scenario", list(SCENARIOS))
def test_a_run_goes_on_within_its_epoch(tmp_path, scenario, at):
    path = tmp_path / "run"
    with pytest.raises(InterruptionError):
        fit(scenario, path, at, every=1)
    assert progress(path) == at
    torch.manual_seed(123)  # another process is in another state
    assert_same_run(fit(scenario, path), fit(scenario))
    assert progress(path) == (3, None)


def test_a_run_that_is_interrupted_at_every_update(tmp_path):
    path, expected = tmp_path / "run", fit("stimuli", epochs=2)
    for done in range(1, 8):
        # each attempt makes one update; the epoch's other batches it reads again
        epoch, update = divmod(done, 4)
        with pytest.raises(InterruptionError):
            # one that resumes reads the first batches before, in a pass of its own
            passes = 0 if done == 1 else 1
            fit("stimuli", path, (passes, update) if update else (passes + 1, 0), every=1, epochs=2)
        assert progress(path) == (epoch, update or None)
    assert_same_run(fit("stimuli", path, epochs=2), expected)


class Breaks(rdl.Term):
    """Weighs nothing, and breaks off in one update."""

    name = "breaks"

    def __init__(self, at):
        super().__init__(["one"], alpha=0.0, stream="stimuli")
        self.at, self.updates = at, 0

    def __call__(self, features, batch, generator):
        if self.updates == self.at:
            raise InterruptionError
        self.updates += 1
        return {"one": features["one"].sum()}


def alone(path, at, **options):
    student = network()
    stream = rdl.StimulusStream(stimuli(), batch_size=3, steps=5)
    history = rdl.Trainer(student, [brain_term(n_pairs=3), Breaks(at)]).fit(
        None, stimuli=stream, epochs=2, checkpoint=path, **options
    )
    return weights(student), history, []


def test_a_run_without_a_task_goes_on_within_its_epoch(tmp_path):
    path = tmp_path / "run"
    with pytest.raises(InterruptionError):
        alone(path, 8, checkpoint_every=1)
    assert progress(path) == (1, 3)
    assert_same_run(alone(path, 8), alone(None, -1))  # the same term, which counts from the resumed update on


def test_the_last_two_checkpoints_are_kept(tmp_path):
    path = tmp_path / "run"
    with pytest.raises(InterruptionError):
        fit("plain", path, (1, 3), every=2)
    assert progress(path) == (1, 2)
    assert progress(tmp_path / "run.previous") == (1, None)
    os.replace(tmp_path / "run.previous", path)
    assert_same_run(fit("plain", path), fit("plain"))


def test_a_batch_that_draws_as_it_is_read_is_the_same_behind_a_resume(tmp_path):
    class Noisy(TensorDataset):
        def __getitem__(self, k):
            image, label = super().__getitem__(k)
            return image + torch.randn(4), label

    def noisy(checkpoint, at):
        student = network()
        task = Interrupted(DataLoader(Noisy(*data()), batch_size=6, shuffle=True), *at, interrupt)
        history = rdl.Trainer(student).fit(task, epochs=2, checkpoint=checkpoint, checkpoint_every=1)
        return weights(student), history, []

    path = tmp_path / "run"
    with pytest.raises(InterruptionError):
        noisy(path, (1, 2))
    assert_same_run(noisy(path, (-1, -1)), noisy(tmp_path / "other", (-1, -1)))


# how often


@pytest.mark.parametrize(
    ("asked", "every"),
    [
        (None, Every()),
        (1, Every(1)),
        ("500", Every(500)),
        ("1 update", Every(1)),
        ("20 updates", Every(20)),
        ("10 min", Every(seconds=600.0)),
        ("0.5 minutes", Every(seconds=30.0)),
        ("1minute", Every(seconds=60.0)),
    ],
)
def test_updates_or_minutes(asked, every):
    assert read_every(asked, "run") == every


@pytest.mark.parametrize("asked", [0, -3, True, 2.5, "often", "0 min", "0", "2.5 updates", "10 h", "", [1]])
def test_neither_updates_nor_minutes(asked):
    with raises(
        ValueError,
        f"checkpoint_every must be a number of updates, at least 1, or of minutes, such as '10 min', got {asked!r}",
    ):
        rdl.Trainer(network()).fit(loader(), epochs=1, checkpoint="run", checkpoint_every=asked)


def test_how_often_without_a_checkpoint():
    with raises(
        ValueError,
        "checkpoint_every=3 says how often a checkpoint is written within an epoch, and there is none; give "
        "checkpoint=, or leave it out",
    ):
        rdl.Trainer(network()).fit(loader(), epochs=1, checkpoint_every=3)


def test_minutes_are_counted_from_the_last_checkpoint(monkeypatch):
    now, written = [0.0], []
    monkeypatch.setattr(_keeping.time, "monotonic", lambda: now[0])
    keeper = Keeper(lambda path, rows: written.append(now[0]), Path("run"), Every(seconds=60.0), StopRequest({}))
    for now[0] in (30.0, 59.0, 61.0, 100.0, 120.0, 122.0):
        if keeper.due():
            keeper.write()
    assert written == [61.0, 122.0]


# a process that is asked to end


def ask(number):
    def stop():
        os.kill(os.getpid(), number)

    return stop


@pytest.fixture
def handled():
    """Handlers of the user's, and what they were called with."""
    calls = []
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}

    def handler(number, frame):
        calls.append(number)

    for number in before:
        signal.signal(number, handler)
    yield calls
    assert all(signal.getsignal(number) is handler for number in before)
    for number, old in before.items():
        signal.signal(number, old)


@pytest.mark.parametrize(("number", "status"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
@pytest.mark.parametrize("scenario", ["stimuli", "validated"])
@pytest.mark.parametrize("at", [(0, 0), (1, 2), (1, 3)])
def test_a_process_that_is_asked_to_end_does_so_behind_the_update(tmp_path, handled, number, status, scenario, at):
    path, student = tmp_path / "run", network()
    assert hooks_and_modes(student) == (0, True)
    with pytest.raises(SystemExit) as ended:
        fit(scenario, path, at, ask(number))
    assert ended.value.code == status
    assert handled == [number]
    assert progress(path) == (at[0], at[1] + 1)
    assert_same_run(fit(scenario, path), fit(scenario))


def hooks_and_modes(model):
    hooks = sum(len(m._forward_hooks) + len(m._forward_pre_hooks) for m in model.modules())
    return hooks, all(m.training for m in model.modules())


def test_ctrl_c_is_pythons_own_where_the_user_has_no_handler(tmp_path):
    path, before = tmp_path / "run", signal.getsignal(signal.SIGINT)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with pytest.raises(KeyboardInterrupt) as stopped:
            fit("plain", path, (1, 1), ask(signal.SIGINT))
    finally:
        signal.signal(signal.SIGINT, before)
    assert stopped.value.__context__ is None
    assert progress(path) == (1, 2)
    assert_same_run(fit("plain", path), fit("plain"))


@pytest.mark.usefixtures("handled")
def test_ctrl_c_twice_does_not_wait_for_the_update(tmp_path):
    path = tmp_path / "run"

    def stop():
        os.kill(os.getpid(), signal.SIGINT)
        os.kill(os.getpid(), signal.SIGINT)

    with pytest.raises(SystemExit):
        fit("plain", path, (1, 1), stop)
    assert progress(path) == (1, None)
    assert_same_run(fit("plain", path), fit("plain"))


def test_a_signal_that_is_ignored_stays_ignored(tmp_path):
    before = signal.signal(signal.SIGTERM, signal.SIG_IGN)
    try:
        fit("plain", tmp_path / "run", (1, 1), ask(signal.SIGTERM))
    finally:
        signal.signal(signal.SIGTERM, before)
    assert progress(tmp_path / "run") == (3, None)


def test_without_a_checkpoint_a_signal_does_what_it_did(handled):
    fit("plain", None, (1, 1), ask(signal.SIGTERM))
    assert handled == [signal.SIGTERM]  # at once, and the training went on


def test_a_validation_is_not_waited_for(tmp_path, handled):
    path, looked = tmp_path / "run", []

    def validate(student, stop):
        looked.append(stop)
        if stop and len(looked) == 2:
            os.kill(os.getpid(), signal.SIGTERM)
            looked.append("waited")
        return {"bias": student.out.bias.sum().item()}

    def run_with(stop, checkpoint):
        student = network()
        history = rdl.Trainer(student).fit(
            loader(), epochs=3, validation=lambda model: validate(model, stop), checkpoint=checkpoint
        )
        return weights(student), history, []

    with pytest.raises(SystemExit):
        run_with(True, path)
    assert looked == [True, True]
    assert handled == [signal.SIGTERM]
    assert progress(path) == (1, 4)
    assert_same_run(run_with(False, path), run_with(False, None))


def test_a_loader_that_fails_because_its_workers_were_ended(tmp_path, handled):
    class Fails:
        passes = 0

        def __len__(self):
            return 4

        def __iter__(self):
            Fails.passes += 1
            for k, batch in enumerate(loader()):
                if (Fails.passes, k) == (2, 2):
                    os.kill(os.getpid(), signal.SIGINT)
                    raise RuntimeError("DataLoader worker exited unexpectedly")
                yield batch

    def run_of(task, path):
        student = network()
        history = rdl.Trainer(student).fit(task, epochs=2, checkpoint=path)
        return weights(student), history, []

    path = tmp_path / "run"
    with pytest.raises(SystemExit) as ended:
        run_of(Fails(), path)
    assert (ended.value.code, handled, progress(path)) == (130, [signal.SIGINT], (1, 2))
    assert_same_run(run_of(loader(), path), run_of(loader(), None))


def test_an_error_does_not_swallow_the_signal(tmp_path, handled):
    x, y = data(6)
    x[0, 0] = torch.nan

    class Spoilt:
        def __len__(self):
            return 1

        def __iter__(self):
            os.kill(os.getpid(), signal.SIGTERM)
            yield x, y

    with pytest.raises(SystemExit) as ended:
        rdl.Trainer(network()).fit(Spoilt(), epochs=1, checkpoint=tmp_path / "run")
    assert ended.value.code == 143
    assert isinstance(ended.value.__context__, FloatingPointError)
    assert handled == [signal.SIGTERM]


def test_a_signal_behind_the_last_update_ends_the_process_too(tmp_path, handled):
    path = tmp_path / "run"
    with pytest.raises(SystemExit):
        fit("plain", path, (2, 3), ask(signal.SIGTERM))
    assert progress(path) == (2, 4)
    assert_same_run(fit("plain", path), fit("plain"))
    assert handled == [signal.SIGTERM]


def test_a_training_outside_the_main_thread_leaves_signals_alone(tmp_path, handled):
    got = []
    thread = threading.Thread(target=lambda: got.append(fit("plain", tmp_path / "run")))
    thread.start()
    thread.join()
    assert_same_run(got[0], fit("plain"))
    assert handled == []


def test_a_forked_child_is_ended_as_it_would_be():
    wait, ready = os.pipe()
    with stop_signals(True) as stop, stop.waiting():
        child = os.fork()
        if child == 0:
            os.write(ready, b"!")
            for _ in range(1000):
                time.sleep(0.01)
            os._exit(1)
        os.read(wait, 1)
        os.kill(child, signal.SIGTERM)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGTERM
        assert not stop.asked
    os.close(wait)
    os.close(ready)


# a file of before


def test_a_checkpoint_of_an_earlier_version_is_resumed(tmp_path):
    path = tmp_path / "run"
    path.write_bytes(Path(__file__).with_name("checkpoint-0.1.ckpt").read_bytes())
    assert set(torch.load(path, weights_only=True)) == {
        *("configuration", "student", "heads", "optimizer", "scheduler", "random", "stimuli", "history"),
    }
    expected, history, _ = run("stimuli")
    with pytest.warns(UserWarning, match="was written by a version that noted no checksums"):
        got, resumed, _ = run("stimuli", path)
    # not bitwise: its first two epochs are another processor's
    torch.testing.assert_close(got, expected)
    pd.testing.assert_frame_equal(resumed.drop(columns="seconds"), history.drop(columns="seconds"))
