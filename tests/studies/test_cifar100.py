"""The CIFAR-100 study, on real images: every arm for a few steps, and the study as a whole in miniature."""

import dataclasses
import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
import xarray as xr
from lightning_fabric import Fabric
from torch import nn

from brainrdl import cli
from brainrdl.data import LabelledImages
from brainrdl.identity import differences
from brainrdl.studies.paper.cifar100 import cifar100_study
from brainrdl.studies.paper.reproduce import reproduce
from brainrdl.studies.paper.study import Request, Splits, frozen, plan
from brainrdl.studies.paper.training import Context, initialised, train

STUDY = cifar100_study()
ARMS = tuple(arm.name for arm in STUDY.arms if arm.name != "teacher")
RECIPE = dataclasses.replace(STUDY.recipe, epochs=2, teacher_epochs=1, batch_size=20, n_pairs=60, learning_rate=0.1)
# the distances of a teacher of two updates are no measure for α₀
ABSOLUTE = dataclasses.replace(RECIPE, relative=False)


def quiet(line: str) -> None:
    """Say nothing."""


def request(out: Path, **changes: object) -> Request:
    small = Request(out, limit_train=100, limit_teacher=40, tries=1, test_limit=30, alphas=(0.001,), threads=1)
    return dataclasses.replace(small, **changes)  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def splits(cifar10: tuple[LabelledImages, LabelledImages], cifar100: tuple[LabelledImages, LabelledImages]) -> Splits:
    """40,000 images of CIFAR-100 to choose on, 100 to train on; the fixtures restored the files."""
    return STUDY.load(request(Path()))


@pytest.fixture(scope="module")
def teacher(splits: Splits) -> nn.Sequential:
    """Untrained, but batch normalisation knows the means and variances that a trained one would."""
    network = initialised(STUDY.networks(splits)["teacher"], 5)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = 1.0
    with torch.no_grad():
        network(STUDY.batches.tensor(splits.students.training.take(range(40))))
    return network.eval()


def context(splits: Splits, teacher: nn.Sequential, network: str, seed: int = 0) -> Context:
    final = splits.students.final
    assert final is not None
    return Context(
        recipe=RECIPE,
        model=STUDY.networks(splits)[network],
        training=final.take(range(40)),
        validation=None,
        unlabelled=None,
        teacher=teacher,
        batches=STUDY.batches,
        fabric=Fabric(accelerator="cpu", devices=1),
        seed=seed,
    )


@pytest.mark.parametrize("name", ARMS)
def test_every_arm_trains_for_a_few_steps_and_leaves_the_teacher_as_it_was(
    name: str, splits: Splits, teacher: nn.Sequential, tmp_path: Path
) -> None:
    before = {key: value.clone() for key, value in teacher.state_dict().items()}
    arm = STUDY.arm(name)
    student, history = train(arm, context(splits, teacher, arm.network), arm.candidates[0], tmp_path)
    assert len(history) == 2
    assert "validation_error" not in history
    assert all(torch.isfinite(parameter).all() for parameter in student.parameters())
    classes = student(torch.zeros(1, 3, 32, 32)).shape[1]
    assert classes == 100
    for key, value in teacher.state_dict().items():
        assert torch.equal(value, before[key]), key


def test_the_arms_and_their_baselines_are_those_of_the_paper_and_its_controls() -> None:
    found = {arm.name: (arm.network, arm.baseline, arm.taught) for arm in STUDY.arms}
    readout = dict.fromkeys(("rdl", "rdl_corr", "rkd", "sp", "cka"), ("readout", "plain_readout", True))
    assert found == readout | {
        "plain": ("student", None, False),
        "plain_readout": ("readout", None, False),
        "plain_narrow": ("teacher_readout", None, False),
        "teacher": ("teacher", None, False),
        "finetuning": ("teacher_readout", "plain", True),
        "finetuning_replaced": ("student", "plain", True),
        "deep_supervision": ("student", "plain", False),
        "hints": ("student", "plain", True),
        "kd": ("student", "plain", True),
    }
    rows = [row.name for row in plan(STUDY, Request(Path(), arms=("plain", "teacher", "rdl")))]
    assert rows == ["plain-seed0", "teacher-cifar10-seed0", "rdl-cifar10-seed0"]


def test_fine_tuning_keeps_the_teachers_ten_units_and_replacing_does_not(
    splits: Splits, teacher: nn.Sequential, tmp_path: Path
) -> None:
    networks, own = STUDY.networks(splits), teacher.state_dict()
    for name, fresh in (("finetuning", {"readout"}), ("finetuning_replaced", {"mlp3_2"})):
        arm = STUDY.arm(name)
        student = initialised(networks[arm.network], 1)
        assert arm.prepare is not None
        assert arm.prepare(student, context(splits, teacher, arm.network), {}, tmp_path) is None
        copied = {key for key, value in student.state_dict().items() if torch.equal(value, own.get(key, value + 1))}
        # of the fresh layer only the batch counter is the same
        left = {key for key in student.state_dict() if key not in copied}
        assert {key.split(".")[0] for key in left} == fresh
    assert networks["teacher_readout"]().get_submodule("readout").weight.shape == (100, 10)


def test_choices_hold_10_000_images_out_and_the_final_training_does_not(splits: Splits) -> None:
    students = splits.students
    assert students.final is not None
    assert (len(students.training), len(students.validation), len(students.final)) == (100, 10_000, 100)
    assert not set(students.training.ids) & set(students.validation.ids)
    assert np.bincount(students.final.labels.numpy(), minlength=100).tolist() == [1] * 100
    whole = STUDY.load(request(Path(), limit_train=None)).students
    assert whole.final is not None
    assert (len(whole.training), len(whole.final)) == (40_000, 50_000)
    assert set(whole.training.ids) | set(whole.validation.ids) == set(whole.final.ids)
    literal = STUDY.load(request(Path(), limit_train=None, train_size=40_000)).students
    assert (len(literal.training), literal.final) == (40_000, None)
    own = splits.teacher("cifar10", 40, students.training)
    assert own.final is not None
    assert (len(own.training), len(own.validation), len(own.final)) == (40, 10_000, 40)
    assert own.final.ids[0].startswith("cifar10-train-")


@pytest.mark.parametrize(("limit", "size", "largest"), [(99, 50_000, "50,000"), (40_001, 40_000, "40,000")])
def test_too_few_or_too_many_images_are_refused(splits: Splits, limit: int, size: int, largest: str) -> None:
    with pytest.raises(ValueError) as error:
        STUDY.load(request(Path(), limit_train=limit, train_size=size))
    assert str(error.value) == (
        f"limit_train= and limit_teacher= must lie between the number of classes (100) and the size of the training "
        f"set ({largest}), got {limit}"
    )


def test_the_teachers_size_is_checked_before_any_training(splits: Splits) -> None:
    with pytest.raises(ValueError) as error:
        STUDY.load(request(Path(), limit_teacher=9))
    assert str(error.value) == (
        "limit_train= and limit_teacher= must lie between the number of classes (10) and the size of the training "
        "set (50,000), got 9"
    )


def test_a_study_is_not_gone_on_with_in_another_precision(splits: Splits, tmp_path: Path) -> None:
    """``auto`` is what the device decided: on another one the same request would mix precisions in one table."""
    asked = request(tmp_path, precision="auto")
    found = {
        precision: frozen(STUDY, RECIPE, asked, splits, Fabric(accelerator="cpu", devices=1, precision=precision))
        for precision in ("32-true", "bf16-mixed")
    }
    assert differences(found["32-true"], found["bf16-mixed"]) == ["precision is '32-true' there and 'bf16-mixed' here"]


def test_a_miniature_study_is_killed_and_resumed_to_the_same_end(
    splits: Splits, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    arms = ("plain_readout", "teacher", "rdl")
    out = tmp_path / "whole"
    reproduce(STUDY, request(out, arms=arms), ABSOLUTE, log=quiet)
    results = pd.read_csv(out / "results.csv").set_index("row")
    assert results["dataset"].to_dict() == {
        "plain_readout-seed0": "cifar100",
        "teacher-cifar10-seed0": "cifar10",
        "rdl-cifar10-seed0": "cifar100",
    }
    assert results["validation_error"].isna().all()
    assert results["train_size"].tolist() == [100, 40, 100]
    with np.load(out / "correctness.npz") as own, np.load(out / "correctness-teachers.npz") as teachers:
        assert set(own.files) == {"ids", "plain_readout-seed0", "rdl-cifar10-seed0"}
        assert set(teachers.files) == {"ids", "teacher-cifar10-seed0"}
        assert own["ids"][0].startswith("cifar100-test-")
        assert teachers["ids"][0].startswith("cifar10-test-")
    with xr.open_dataarray(out / "output.nc", engine="h5netcdf") as output:
        assert output["model"].item() == "teacher (cifar10)"
    assert json.loads((out / "manifest.json").read_text())["baselines"]["rdl"] == "plain_readout"
    page = (out / "report.html").read_text()
    assert "Figure 1b" in page
    assert "28.77" in page

    class Killed(BaseException):
        """As a kill would end it: nothing of ours catches it."""

    from brainrdl.training.run import TrainingRun

    whole_epoch = TrainingRun.epoch

    def dies(self: TrainingRun, epoch: int, *rest: object) -> dict[str, float]:
        if epoch == 1 and any(term.name == "rdl" for term in self.setup.terms):
            raise Killed
        return whole_epoch(self, epoch, *rest)  # type: ignore[arg-type]

    resumed = tmp_path / "resumed"
    monkeypatch.setattr(TrainingRun, "epoch", dies)
    with pytest.raises(Killed):
        reproduce(STUDY, request(resumed, arms=arms), ABSOLUTE, log=quiet)
    assert (resumed / "runs" / "rdl-cifar10-seed0" / "checkpoint.pt").exists()
    monkeypatch.undo()
    reproduce(STUDY, request(resumed, arms=arms), ABSOLUTE, log=quiet)
    again = pd.read_csv(resumed / "results.csv").set_index("row")
    pd.testing.assert_frame_equal(again.drop(columns="seconds"), results.drop(columns="seconds"))
    weights = [
        {line["row"]: line["weights"] for line in json.loads((folder / "results.json").read_text())["rows"]}
        for folder in (out, resumed)
    ]
    assert weights[0] == weights[1]


def test_the_command_has_no_options_that_the_study_lacks(capsys: pytest.CaptureFixture[str]) -> None:
    for option, value in (("--labels", "100"), ("--teacher", "cifar10")):
        with pytest.raises(SystemExit):
            cli.main(["reproduce", "cifar100", "--out", "x", option, value])
        assert f"unrecognized arguments: {option} {value}" in capsys.readouterr().err
