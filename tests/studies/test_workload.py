"""What is left to do of a study is counted, so that its bar ends at 100 %; and estimated before it begins."""

import re
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from brainrdl.progress import Bar
from brainrdl.studies.brain import study as brain
from brainrdl.studies.brain.arms import arms_of
from brainrdl.studies.brain.configuration import checked
from brainrdl.studies.brain.inputs import load_inputs
from brainrdl.studies.brain.workload import Workload, workload
from brainrdl.studies.paper import reproduce as paper
from brainrdl.studies.paper.digits import digits_study
from brainrdl.studies.paper.study import Request
from small_study import write_study

CPU = brain.Machine("cpu", "32-true", 1)


class Recorded:
    """A bar that remembers its total and what was done of it."""

    made: list["Recorded"]

    def __init__(self, total: float, label: str = "", **_: object) -> None:
        self.total, self.label, self.done = total, label, 0.0
        self.made.append(self)

    def __enter__(self) -> "Recorded":
        return self

    def __exit__(self, *error: object) -> None:
        pass

    def advance(self, n: float) -> None:
        self.done += n


@pytest.fixture
def bars(monkeypatch: pytest.MonkeyPatch) -> list[Recorded]:
    Recorded.made = []
    monkeypatch.setattr(brain, "Bar", Recorded)
    monkeypatch.setattr(paper, "Bar", Recorded)
    return Recorded.made


@pytest.fixture
def study(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    monkeypatch.syspath_prepend(str(Path(__file__).parent.parent))
    schemes = {"stratified": 2, "leave_one_category_out": False, "random": 1, "inner": 2}
    arms = ["size", "hue", "task_only", "frrsa", "rdl", "rdl_category"]
    return {**write_study(tmp_path), "schemes": schemes, "arms": arms}


def test_the_bar_of_a_fit_ends_at_its_total(study: dict[str, Any], tmp_path: Path, bars: list[Recorded]) -> None:
    configuration, out = checked(study), tmp_path / "out"
    inputs = load_inputs(configuration)
    folds = brain._folds(configuration, brain._splits(configuration, inputs))
    count = lambda folder: workload(configuration, inputs, arms_of(configuration, inputs), folds, folder)  # noqa: E731
    # two seeds; a choice is two inner folds × two α; α and number of updates are chosen in the two stratified splits
    assert count(None) == Workload(task=36, task_only=8, choices=32, fits=32, heads=6, epochs=2, tries=20, finals=8)
    brain.fit(configuration, out, machine=CPU, log=lambda line: None)
    assert [(bar.label, bar.total, bar.done) for bar in bars] == [("fits", 132, 132)]
    assert count(out) == Workload()
    (out / "fits/one/stratified/fold-1/rdl-seed1.npz").unlink()
    assert count(out) == Workload(fits=4, finals=1)


def test_an_estimate_leaves_nothing(
    study: dict[str, Any], tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    before, state = sorted(tmp_path.rglob("*")), torch.get_rng_state()
    *_, hours = brain.describe_plan(checked(study), machine=CPU).splitlines()
    seconds = r"\d+ s|\d+ min|[\d.]+ h"
    number = r"[\de.-]+ s"
    assert re.fullmatch(
        rf"time: about ({seconds}) in one process on this machine, from updates timed just now: task networks "
        rf"\(36 updates of {number}\) ({seconds}); the task alone \(8 updates of {number}\) ({seconds}); "
        rf"hyperparameter selection in inner folds \(32 updates of {number}\) ({seconds}); "
        rf"final fits \(32 updates of {number}\) ({seconds}); "
        rf"scoring ({seconds})\. Counted with the most updates that may be selected, evaluations included; not "
        r"counted: 6 heads to be fitted, and figures",
        hours,
    )
    assert sorted(tmp_path.rglob("*")) == before
    assert torch.equal(torch.get_rng_state(), state)
    assert capfd.readouterr().err == ""


def test_the_bar_of_a_papers_study_ends_at_its_total(tmp_path: Path, bars: list[Recorded]) -> None:
    study = digits_study()
    recipe = replace(study.recipe, epochs=2, teacher_epochs=3, choice_epochs=1, batch_size=10)
    request = Request(tmp_path, limit_train=60, limit_teacher=60, arms=("sp",), tries=2, device="cpu")
    request = replace(request, seeds=2, threads=1, unscored=True)
    for _ in range(2):
        paper.reproduce(study, request, recipe, log=lambda line: None)
    # two tries each of plain, sp and the teacher, an epoch each; two teachers; two students
    assert [(bar.label, bar.total, bar.done) for bar in bars] == [("digits", 16, 16), ("digits", 0, 0)]
    assert Bar(0).line(1.0) == "100 % in 00:01, time left unknown"
