"""Fits that several processes make side by side."""

import json
import multiprocessing
import threading
import time
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from safetensors.torch import load_file

from brainrdl.studies.brain.arms import arms_of
from brainrdl.studies.brain.configuration import checked
from brainrdl.studies.brain.study import _folds, _open_runs, _splits, fit
from brainrdl.studies.brain.tasks import fit_tasks
from brainrdl.studies.folder import HeldError, locked
from brainrdl.studies.jobs import beside, make_all
from brainrdl.training.checkpoint import read_manifest
from brainrdl.training.machine import Machine
from small_study import write_study

HERE = Path(__file__).parents[1]
ONE_THREAD = Machine("cpu", "32-true", 1)


@pytest.fixture
def study(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    # further processes get the path from this one
    monkeypatch.syspath_prepend(str(HERE))
    study = write_study(tmp_path)
    study["schemes"] |= {"leave_one_category_out": False}
    return study | {"arms": ["size", "hue", "mixture", "untrained", "task_only", "frrsa", "rdl", "rdl_category"]}


def quiet(line: str) -> None:
    """Say nothing."""


def assert_same_files(first: Path, second: Path) -> None:
    """Every file but locks and notes of calls is in both folders, and the same but for times."""
    names = [
        sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file() and path.name != ".lock")
        for folder in (first, second)
    ]
    assert names[0] == names[1]
    for name in names[0]:
        a, b = first / name, second / name
        if name == "manifest.json":
            contents = [json.loads(path.read_text()) for path in (a, b)]
            for content in contents:
                del content["created"], content["calls"]
            assert contents[0] == contents[1]
        elif a.suffix == ".npz":
            with np.load(a) as arrays, np.load(b) as others:
                assert arrays.files == others.files
                for array in arrays.files:
                    assert arrays[array].tobytes() == others[array].tobytes(), name
        elif a.suffix == ".safetensors":  # whose header lists its entries in any order
            assert read_manifest(a) == read_manifest(b), name
            tensors, others = load_file(a), load_file(b)
            assert list(tensors) == list(others)
            assert all(tensors[key].equal(others[key]) for key in tensors), name
        elif a.suffix != ".html" and name != "calls.json":
            assert a.read_bytes() == b.read_bytes(), name


def test_a_study_of_two_processes_is_that_of_one(
    study: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    configuration = checked(study)
    fit(configuration, tmp_path / "one", machine=ONE_THREAD, log=quiet)
    lines: list[str] = []
    fit(configuration, tmp_path / "two", machine=ONE_THREAD, jobs=2, log=lines.append)
    assert_same_files(tmp_path / "one", tmp_path / "two")
    # two splits, two seeds, a head and two students; the head in two random splits more
    assert [line for line in lines if line.startswith("[16/16] ")]
    assert not multiprocessing.active_children()
    # where all is made, no process is started
    monkeypatch.setattr(multiprocessing, "get_context", lambda method: pytest.fail("a process was to be started"))
    fit(configuration, tmp_path / "two", machine=ONE_THREAD, jobs=2, log=quiet)
    pd.testing.assert_frame_equal(
        pd.read_csv(tmp_path / "one" / "scores.csv"), pd.read_csv(tmp_path / "two" / "scores.csv")
    )


def test_further_processes_make_all_fits(study: dict[str, Any], tmp_path: Path) -> None:
    study |= {"arms": ["size", "hue", "task_only", "rdl"], "seeds": 1}
    study["schemes"] |= {"random": 0}
    configuration = checked(study)
    out = tmp_path / "out"
    open_runs = partial(_open_runs, configuration, out, None, ONE_THREAD)
    runs = open_runs()
    tasks = fit_tasks(
        runs, arms_of(configuration, runs.inputs), _folds(configuration, _splits(configuration, runs.inputs))
    )
    assert [task.name for task in tasks] == [
        "rdl-seed0 of one, stratified, fold-1",
        "rdl-seed0 of one, stratified, fold-2",
    ]
    with beside(2, open_runs, tasks):  # and nothing is made here
        until = time.monotonic() + 120
        while not all(task.done(runs) for task in tasks):
            assert time.monotonic() < until, "waited for two minutes"
            time.sleep(0.05)


def test_a_fit_that_another_process_holds_is_left_for_later(study: dict[str, Any], tmp_path: Path) -> None:
    study |= {"arms": ["task_only", "frrsa", "rdl"], "seeds": 2}
    study["schemes"] |= {"random": 0}
    torch.set_num_threads(1)
    configuration = checked(study)
    runs = _open_runs(configuration, tmp_path / "out", None, ONE_THREAD)
    arms = arms_of(configuration, runs.inputs)
    tasks = fit_tasks(runs, arms, _folds(configuration, _splits(configuration, runs.inputs)))[:2]
    made: list[int] = []
    with locked(tmp_path / "out" / ".locks" / "fits" / "one" / "stratified" / "fold-1" / "frrsa-seed0"):
        with pytest.raises(HeldError):
            runs.run(tasks[0])
        waiting = threading.Thread(
            target=make_all, args=(runs, tasks), kwargs={"done": lambda task: made.append(task.seed)}
        )
        waiting.start()
        until = time.monotonic() + 120
        while not made:
            assert time.monotonic() < until, "waited for two minutes"
            time.sleep(0.05)
        assert made == [1]
    waiting.join(timeout=60)
    assert made == [1, 0]


def test_jobs_below_one_are_refused(study: dict[str, Any], tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"^jobs must be at least 1, got 0$"):
        fit(checked(study), tmp_path / "out", jobs=0, log=quiet)


def test_a_gpu_that_is_not_there_is_named(
    study: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(
        ValueError, match=r"^device is 'cuda', and torch finds no CUDA device here; take 'cpu' or 'auto'$"
    ):
        fit(checked(study), tmp_path / "out", machine=Machine("cuda"), log=quiet)
    assert not (tmp_path / "out").exists()
