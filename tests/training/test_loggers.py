"""Fabric's loggers hold what they were given when a training has ended, however it ended."""

import os
import signal
import warnings

import pandas as pd
import pytest
from lightning_fabric import Fabric
from lightning_fabric.loggers import CSVLogger, Logger
from torch.nn.functional import cross_entropy

import brainrdl as rdl
from small_network import loader, network, raises


class Board(Logger):
    """Like TensorBoard's: what is logged is written when it is flushed, and a closed file is opened again."""

    name, version = "board", 0

    def __init__(self, *, fails=False):
        self.held, self.written, self.ended, self.fails = [], [], [], fails

    def log_metrics(self, metrics, step=None):
        self.held.append(step)

    def log_hyperparams(self, *args, **options):
        raise AssertionError

    def save(self):
        if self.fails:
            raise OSError(28, "No space left on device")
        self.written += self.held
        self.held = []

    def finalize(self, status):
        self.save()
        self.ended.append(status)


def train(loggers, *, epochs=3, log_every=2, **options):
    made = {"task_loss": options.pop("task_loss")} if "task_loss" in options else {}
    fabric = Fabric(accelerator="cpu", devices=1, loggers=loggers)
    return rdl.Trainer(network(), fabric=fabric, **made).fit(loader(), epochs=epochs, log_every=log_every, **options)


def rows(folder):
    return pd.read_csv(folder / "lightning_logs" / "version_0" / "metrics.csv")


def test_a_file_of_metrics_has_all_rows(tmp_path):
    history = train(CSVLogger(tmp_path), validation=loader(12))
    table = rows(tmp_path)
    assert table["step"].tolist() == [2, 4, 4, 6, 8, 8, 10, 12, 12]
    of_epochs = table[table["epoch"].notna()].reset_index(drop=True)
    pd.testing.assert_frame_equal(of_epochs[list(history)], history, check_dtype=False, check_exact=False)


def test_so_has_one_of_two_trainings(tmp_path):
    logger, board = CSVLogger(tmp_path), Board()
    train([logger, board], epochs=1)
    train([logger, board], epochs=2, validation=loader(12))  # with columns of its own
    assert rows(tmp_path)["step"].tolist() == [2, 4, 4, 2, 4, 4, 6, 8, 8]
    assert rows(tmp_path)["validation_error"].notna().tolist() == [False] * 5 + [True, False, False, True]
    assert board.written == rows(tmp_path)["step"].tolist()
    assert board.ended == ["success", "success"]


class Failing:
    """A loss that fails at one of its calls."""

    def __init__(self, at, fail):
        self.calls, self.at, self.fail = 0, at, fail

    def __call__(self, output, labels):
        self.calls += 1
        if self.calls == self.at:
            self.fail()
        return cross_entropy(output, labels)


class BrokenError(Exception):
    pass


def broken():
    raise BrokenError


def pressed():
    raise KeyboardInterrupt


@pytest.mark.parametrize(
    ("fail", "error", "status"), [(broken, BrokenError, "failed"), (pressed, KeyboardInterrupt, "aborted")]
)
def test_a_training_that_fails_leaves_the_rows_until_then(fail, error, status, tmp_path):
    board = Board()
    with pytest.raises(error):
        train([CSVLogger(tmp_path), board], task_loss=Failing(8, fail))
    assert rows(tmp_path)["step"].tolist() == board.written == [2, 4, 4, 6]
    assert board.ended == [status]


def test_a_loss_that_is_not_finite_does_too(tmp_path):
    losses = []

    def loss(output, labels):
        losses.append(1)
        return cross_entropy(output, labels) * (float("nan") if len(losses) == 8 else 1)

    with pytest.raises(FloatingPointError, match="task_loss is nan"):
        train(CSVLogger(tmp_path), task_loss=loss)
    assert rows(tmp_path)["step"].tolist() == [2, 4, 4, 6]


def test_a_training_that_is_asked_to_end_does_too(tmp_path, monkeypatch):
    board = Board()

    def ask():
        os.kill(os.getpid(), signal.SIGTERM)

    with pytest.raises(SystemExit):
        before = signal.signal(signal.SIGTERM, signal.default_int_handler)
        try:
            train([CSVLogger(tmp_path), board], task_loss=Failing(8, ask), checkpoint=tmp_path / "run")
        except KeyboardInterrupt as error:
            raise SystemExit from error
        finally:
            signal.signal(signal.SIGTERM, before)
    assert rows(tmp_path)["step"].tolist() == board.written == [2, 4, 4, 6, 8]
    assert board.ended == ["aborted"]


def test_an_epoch_is_on_disk_before_the_next(tmp_path):
    seen = []

    def look(student):
        seen.append(len(rows(tmp_path)) if (tmp_path / "lightning_logs" / "version_0" / "metrics.csv").exists() else 0)
        return {}

    train(CSVLogger(tmp_path), epochs=3, log_every=4, validation=look)
    assert seen == [0, 2, 4]


def test_a_logger_that_is_listed_twice_is_closed_once():
    board = Board()
    train([board, board], epochs=1)
    assert board.ended == ["success"]


def test_a_logger_that_cannot_write_costs_no_training():
    board = Board(fails=True)
    with warnings.catch_warnings(record=True) as given:
        warnings.simplefilter("always")
        history = train([board, other := Board()], epochs=2)
    assert len(history) == 2
    assert other.ended == ["success"]
    text = (
        "the Board could not write what it holds (OSError: [Errno 28] No space left on device); what it was given last "
        "may be missing from its files"
    )
    assert [str(warning.message) for warning in given] == 3 * [text]
    assert history.attrs["warnings"] == [text]


def test_nor_the_error_of_one_that_failed():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with pytest.raises(BrokenError):
            train(Board(fails=True), task_loss=Failing(2, broken))


def test_a_training_that_is_refused_touches_no_logger(tmp_path):
    board = Board()
    with raises(ValueError, "epochs and log_every must be at least 1, got 0 and 2"):
        train([CSVLogger(tmp_path), board], epochs=0)
    assert board.ended == []
    assert list(tmp_path.iterdir()) == []
