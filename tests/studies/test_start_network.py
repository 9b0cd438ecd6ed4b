"""The network that heads sit on and fits begin with, as an arm; a study that gains it; losses along a fit."""

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from lightning_fabric import Fabric

import brainrdl as rdl
from brainrdl.studies.brain.arms import arms_of
from brainrdl.studies.brain.configuration import Configuration, checked, configuration_hash
from brainrdl.studies.brain.course import Course, followed
from brainrdl.studies.brain.inputs import load_inputs
from brainrdl.studies.brain.scores import contrasts_of
from brainrdl.studies.brain.students import Plan, fit_student
from brainrdl.studies.brain.study import fit
from brainrdl.studies.brain.task_networks import make_student
from brainrdl.studies.folder import claimed
from brainrdl.studies.reports.fit_files import read_fit
from brainrdl.studies.reports.fit_findings import about_baselines, findings
from brainrdl.training.machine import Machine
from fitted_study import ARMS, make_fit
from small_study import write_study

HERE = Path(__file__).parents[1]
QUIET = Machine("cpu", "32-true", 1)


@pytest.fixture
def study(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    monkeypatch.syspath_prepend(str(HERE))
    return write_study(tmp_path)


def heads_alone(study: dict[str, Any], *arms: str) -> Configuration:
    primary = {"arm": "frrsa", "against": "task_only", "fitted": "one", "scored": "two"}
    schemes = {"stratified": 2, "leave_one_category_out": False, "random": 0, "inner": 2}
    settings = {"arms": ["task_only", "frrsa", *arms], "primary": primary, "schemes": schemes, "early_visual": None}
    return checked({**study, **settings, "seeds": 1, "controls": {}})


def test_a_study_that_gains_the_start_network_keeps_what_it_has(study: dict[str, Any], tmp_path: Path) -> None:
    out = tmp_path / "out"
    fit(heads_alone(study), out, machine=QUIET, log=lambda line: None)
    before = {path: path.stat().st_mtime_ns for path in [*(out / "fits").rglob("*.npz"), *out.rglob("*.safetensors")]}
    old = pd.read_csv(out / "scores.csv")
    more = heads_alone(study, "start")
    fit(more, out, machine=QUIET, log=lambda line: None)
    assert {path: path.stat().st_mtime_ns for path in before} == before
    new = pd.read_csv(out / "scores.csv")
    pd.testing.assert_frame_equal(new[new["arm"] != "start"].reset_index(drop=True), old)
    noted = json.loads((out / "study.json").read_text())
    assert (noted["configuration"]["arms"], noted["hash"]) == (
        ["task_only", "frrsa", "start"],
        configuration_hash(more),
    )

    # the network of the heads: its task error is theirs, and the heads are held against it
    errors = new.groupby("arm")["task_error"].unique().map(list)
    assert errors["start"] == errors["frrsa"] != errors["task_only"]
    contrasts = pd.read_csv(out / "contrasts.csv")
    pairs = contrasts[["a", "b"]].drop_duplicates().to_numpy().tolist()
    assert pairs == [["frrsa", "task_only"], ["frrsa", "start"], ["task_only", "start"]]
    rdms = read_fit(out).rdms
    assert rdms is not None
    assert rdms["rdm"].values.tolist() == [
        "brain: one",
        "brain: two",
        "before: start",
        "after: task_only",
        "after: frrsa",
    ]

    # an arm that is gone is another study
    with pytest.raises(ValueError, match=re.escape("holds a study with another configuration: configuration.arms")):
        fit(heads_alone(study), out, machine=QUIET, log=lambda line: None)


def test_a_refused_study_does_not_gain_arms(tmp_path: Path) -> None:
    def with_more(there: dict[str, Any], present: dict[str, Any]) -> dict[str, Any]:
        return {**there, "arms": present["arms"]}

    with claimed(tmp_path / "out", {"arms": ["a"], "seeds": 1}):
        pass
    with pytest.raises(ValueError, match="another configuration: seeds"):  # noqa: SIM117
        with claimed(tmp_path / "out", {"arms": ["a", "b"], "seeds": 2}, grown=with_more):
            pass
    assert json.loads((tmp_path / "out" / "study.json").read_text()) == {"arms": ["a"], "seeds": 1}


def test_heads_are_held_against_the_network_that_they_sit_on() -> None:
    configuration = checked(
        {
            "name": "a",
            "title": "a",
            "stimuli": "objects92",
            "studies": {"one": {"rdms": "one.nc"}},
            "fit_to": ["one"],
            "task": {"data": "digits"},
            "fit": {"layers": ["pool1"]},
            "primary": {"fitted": "one", "scored": "one"},
        }
    )
    arms = ["untrained", "start", "task_only", "low_rank", "rdl", "rdl_category"]
    assert contrasts_of(configuration, arms) == [
        ("rdl", "task_only"),
        ("rdl", "start"),
        ("rdl", "rdl_category"),
        ("low_rank", "start"),
        ("rdl_category", "task_only"),
        ("task_only", "start"),
        ("task_only", "untrained"),
    ]
    # a study that leaves it out has what it had
    arms.remove("start")
    assert ("low_rank", "task_only") in contrasts_of(configuration, arms)
    # and from the other end, one contrast is one, whichever way round
    turned = configuration.model_copy(
        update={"primary": configuration.primary.model_copy(update={"arm": "start", "against": "task_only"})}
    )
    pairs = contrasts_of(turned, ["start", "task_only"])
    assert pairs == [("start", "task_only")]


@pytest.mark.parametrize(
    ("against", "there", "gone"), [("task_only", "task_only", "start"), ("start", "start", "task_only")]
)
def test_without_a_task_the_network_stands_in_the_tables_once(
    study: dict[str, Any], tmp_path: Path, against: str, there: str, gone: str
) -> None:
    weights = tmp_path / "weights.safetensors"
    rdl.save_model(make_student(checked(study), 0), weights, {})
    student = {**study["student"], "weights": str(weights)}
    primary = {**study["primary"], "against": against}
    configuration = checked({**study, "task": None, "student": student, "primary": primary, "arms": []})
    names = [arm.name for arm in arms_of(configuration, load_inputs(configuration))]
    assert there in names
    assert gone not in names


def test_the_findings_hold_the_task_s_cost_against_both_networks(tmp_path: Path) -> None:
    with_start = dict(ARMS)
    with_start["start"] = (0.21, 0.08, 0.10)
    study = read_fit(make_fit(tmp_path / "new", arms=with_start, rdms=False, thumbnails=False))
    assert findings(study)[3] == (
        "Task error: 15.00 % start network, 15.00 % task only, 17.00 % RDL (means over seeds and splits)."
    )
    assert about_baselines(study) == (
        "The start network is the one from which all fits start and on which the heads are fitted; task only is that "
        "network trained further on the task alone, for as many updates as RDL."
    )
    older = read_fit(make_fit(tmp_path / "old", rdms=False, thumbnails=False))
    assert findings(older)[3] == (
        "Task error: 15.00 % start network (as scored with its heads), 15.00 % task only, 17.00 % RDL (means over "
        "seeds and splits)."
    )
    assert about_baselines(older) == (
        "Task only is the start network trained further on the task alone, for as many updates as RDL. The study did "
        "not score the start network itself, on which its heads are fitted: the difference of a head from task only is "
        "its gain minus that of further training, not the gain of a head over no head."
    )


# losses along a fit


def test_means_of_stretches_are_told_from_means_so_far() -> None:
    course = Course()
    values = np.array([5.0, 3.0, 4.0, 2.0, 1.0, 6.0])
    for done in (2, 4, 6):  # one epoch of six updates
        course.log_metrics({"task_loss": values[:done].mean(), "rdm": values[:done:4].mean()}, step=done)
    course.log_metrics({"epoch": 0, "task_loss": 99.0}, step=6)
    assert course.over_stretches("task_loss", [2, 4, 6], in_epoch=6) == pytest.approx([4.0, 3.0, 3.5])
    # with every fourth update there is none in the second stretch
    assert course.over_stretches("rdm", [2, 4, 6], in_epoch=6, every=4) == pytest.approx(
        [5.0, np.nan, 1.0], nan_ok=True
    )
    assert course.over_stretches("other", [2, 4, 6], in_epoch=6) == pytest.approx([np.nan] * 3, nan_ok=True)
    # epochs of two updates: what is logged begins anew in each
    course = Course()
    for done in (2, 4, 6):
        course.log_metrics({"task_loss": values[done - 2 : done].mean()}, step=done)
    assert course.over_stretches("task_loss", [2, 4, 6], in_epoch=2) == pytest.approx([4.0, 3.0, 3.5])


def test_a_final_fit_keeps_its_losses_at_every_length_and_is_the_same_fit(study: dict[str, Any]) -> None:
    study["fit"]["updates"] = [2, 4, 8]
    configuration = checked(study)
    inputs = load_inputs(configuration)
    fabric = Fabric(accelerator="cpu", devices=1)
    found = fit_student(
        make_student(configuration, 0),
        inputs.studies["one"],
        Plan("pool1", 1.0, (8,), 0),
        configuration=configuration,
        inputs=inputs,
        fabric=fabric,
    )
    assert found.history["update"].tolist() == [2, 4, 6, 8]
    assert found.history[["task_loss", "rdm_loss"]].notna().all(axis=None)
    assert fabric.loggers == []


def test_what_follows_a_fabric_leaves_it_as_it_was() -> None:
    fabric = Fabric(accelerator="cpu", devices=1)
    with pytest.raises(RuntimeError), followed(fabric):
        raise RuntimeError("a training that died")
    assert fabric.loggers == []
