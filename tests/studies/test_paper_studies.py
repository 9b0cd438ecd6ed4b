"""The harness of the studies, on the digits study in miniature."""

import dataclasses
import errno
import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
import xarray as xr
from lightning_fabric import Fabric
from torch.optim.optimizer import register_optimizer_step_post_hook

import brainrdl
from brainrdl import cli
from brainrdl.data import load_digits
from brainrdl.data.batches import Batches
from brainrdl.models import mnist_cnn
from brainrdl.rdms.layout import check_rdms
from brainrdl.studies.brain.configuration import write_example
from brainrdl.studies.folder import locked
from brainrdl.studies.paper import runs as runs_module, score as score_module
from brainrdl.studies.paper.arms import paper_arms
from brainrdl.studies.paper.digits import digits_study
from brainrdl.studies.paper.mnist import mnist_study
from brainrdl.studies.paper.recipe import Recipe, format_overrides, override, recipe_from
from brainrdl.studies.paper.replay import replay
from brainrdl.studies.paper.reproduce import reproduce
from brainrdl.studies.paper.study import Request, Row, labelled_subset, plan
from brainrdl.studies.paper.training import Arm, Context, initialised, train
from brainrdl.studies.reports.paper_files import read_study
from brainrdl.studies.reports.settings import settings_table

RECIPE = dataclasses.replace(digits_study().recipe, epochs=3, teacher_epochs=3, batch_size=10)


def quiet(line: str) -> None:
    """Say nothing."""


def request(out: Path, **changes: object) -> Request:
    small = Request(out, limit_train=150, limit_teacher=200, tries=1, alphas=(0.1,), device="cpu")
    return dataclasses.replace(small, **changes)  # type: ignore[arg-type]


def comparable(folder: Path) -> pd.DataFrame:
    return pd.read_csv(folder / "results.csv").drop(columns="seconds")


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A miniature study of all arms and two seeds."""
    torch.set_num_threads(1)
    out = tmp_path_factory.mktemp("digits") / "out"
    reproduce(digits_study(), request(out, seeds=2), RECIPE, log=quiet)
    return out


def test_every_arm_and_seed_has_a_row_with_all_columns(finished: Path) -> None:
    results = pd.read_csv(finished / "results.csv")
    assert (
        list(results.columns)
        == (
            "row arm seed dataset train_size labels teacher teacher_size teacher_seed validation_error test_error "
            "alpha0 epochs updates device precision seconds"
        ).split()
    )
    assert (
        list(results["row"].str.rsplit("-", n=1).str[0].unique())
        == (
            "plain teacher-clean finetuning-clean deep_supervision hints-clean rdl-clean rdl_corr-clean kd-clean "
            "rkd-clean sp-clean cka-clean"
        ).split()
    )
    assert (results.groupby("arm")["seed"].apply(list).apply(lambda seeds: seeds == [0, 1])).all()
    assert results["labels"].isna().all()
    taught = results["teacher"].notna()
    assert (results.loc[taught, "teacher_seed"] == results.loc[taught, "seed"]).all()
    assert results.loc[~taught, ["teacher_size", "teacher_seed"]].isna().all(axis=None)
    assert (results.loc[results["arm"] != "teacher", "updates"] == 3 * 15).all()
    assert (results["test_error"].between(0, 100) & results["validation_error"].between(0, 100)).all()


def test_files_agree_with_each_other(finished: Path) -> None:
    results = pd.read_csv(finished / "results.csv").set_index("row")
    with np.load(finished / "correctness.npz", allow_pickle=False) as correct:
        assert set(correct.files) == {"ids", *results.index}
        assert len(set(correct["ids"])) == 500
        for row in results.index:
            assert results.loc[row, "test_error"] == pytest.approx(100 * (1 - correct[row].mean()), abs=1e-12)
    recorded = json.loads((finished / "results.json").read_text())
    assert [line["row"] for line in recorded["rows"]] == list(results.index)
    assert recipe_from(recorded["recipe"]) == RECIPE
    histories = pd.read_csv(finished / "histories.csv")
    assert set(histories["row"]) == set(results.index)
    last = histories.groupby("row").last()["validation_error"]
    assert np.allclose(last[results.index], results["validation_error"])
    hints = histories[histories["row"] == "hints-clean-seed0"]
    assert list(hints["epoch"]) == [0, 1, 2]
    assert hints["hint/pool2"].notna().tolist() == [True, False, False]
    assert "report.html" in {path.name for path in finished.iterdir()}


def test_geometry_is_measured_against_the_seeds_own_teacher(finished: Path) -> None:
    from brainrdl.data import to_float
    from brainrdl.features.recorder import capture
    from brainrdl.studies.paper.runs import read_run

    geometry = pd.read_csv(finished / "geometry.csv").set_index(["row", "layer"])
    _, validation, _ = load_digits()
    images = to_float(validation.images, validation.top)
    seen = {}
    for row in ("plain-seed1", "teacher-clean-seed1"):
        run = read_run(finished / "runs" / row, lambda: mnist_cnn(10, image_size=8))
        assert run is not None
        assert run.model is not None
        seen[row] = capture(run.model, ["fc"], images)[1]["fc"].detach().double()
    pairs = [torch.pdist(features).square() / features.shape[1] for features in seen.values()]
    assert geometry.loc[("plain-seed1", "fc"), "e_aux"] == pytest.approx(
        (pairs[0] - pairs[1]).square().mean().item(), rel=1e-5
    )


def test_figure_rdms_are_labelled_and_complete(finished: Path) -> None:
    rdms = check_rdms(xr.load_dataarray(finished / "rdms.nc", engine="h5netcdf"))
    assert rdms.attrs["metric"] == "euclidean"
    assert rdms.sizes["stimulus"] == 100
    classes = json.loads(rdms.attrs["provenance"])["classes"]
    assert classes == [str(digit) for digit in range(10) for _ in range(10)]
    target = rdms.isel(rdm=(rdms["layer"] == "labels").values.argmax())
    assert target.values[0, 9] == 0
    assert target.values[0, 10] == pytest.approx(np.sqrt(2))
    assert set(rdms["layer"].values) == {"pixels", "pool1", "pool2", "fc", "softmax", "labels"}


def test_unscored_runs_leave_the_test_set_closed_until_a_call_that_scores(tmp_path: Path, finished: Path) -> None:
    study = digits_study()

    def load(request: Request) -> Any:
        def opened() -> Any:
            raise AssertionError("the test set was opened")

        return dataclasses.replace(study.load(request), test=opened)

    arms = ("plain", "rdl")
    closed = request(tmp_path / "out", arms=arms, unscored=True)
    said: list[str] = []
    assert reproduce(dataclasses.replace(study, load=load), closed, RECIPE, log=said.append) is None
    assert said[-1] == "all runs are done; the test set stays closed until a call that is not unscored"
    assert {path.name for path in closed.out.iterdir()} == {".lock", "study.json", "calls.json", "runs", "tries"}
    made = {path: path.stat().st_mtime_ns for path in closed.out.glob("runs/*/model.safetensors")}
    report = reproduce(study, dataclasses.replace(closed, unscored=False), RECIPE, log=quiet)
    assert report == closed.out / "report.html"
    assert {path: path.stat().st_mtime_ns for path in made} == made
    # the very runs of a study that was scored at once
    rows = ["plain-seed0", "rdl-clean-seed0"]
    both = [comparable(folder).set_index("row").loc[rows] for folder in (closed.out, finished)]
    pd.testing.assert_frame_equal(*both)


def test_a_second_call_trains_nothing_and_changes_nothing(finished: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in finished.glob("runs/*/*")}
    results = (finished / "results.csv").read_text()
    reproduce(digits_study(), request(finished, seeds=2), RECIPE, log=quiet)
    assert {path: path.stat().st_mtime_ns for path in finished.glob("runs/*/*")} == before
    assert (finished / "results.csv").read_text() == results


def test_another_configuration_is_refused_in_the_same_folder(finished: Path) -> None:
    with pytest.raises(ValueError) as error:
        reproduce(digits_study(), request(finished, seeds=2), dataclasses.replace(RECIPE, epochs=4), log=quiet)
    assert str(error.value) == (
        f"{finished} holds a study with another configuration: recipe.epochs is 3 there and 4 here. Ask for the same "
        "to resume it, or give another out="
    )


def test_replay_gives_the_row_bitwise(finished: Path, tmp_path: Path) -> None:
    said: list[str] = []
    same = replay(
        digits_study(), finished / "results.json", "rdl-clean-seed1", request(tmp_path / "again"), log=said.append
    )
    assert same
    assert said[-1] == "bitwise the same weights"


def test_a_replay_starts_from_nothing_and_writes_nowhere_else(finished: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError) as error:
        replay(digits_study(), finished / "results.json", "plain-seed0", request(finished), log=quiet)
    assert str(error.value) == (f"{finished} is not empty; a row is repeated from scratch, so give another out=")
    recorded = json.loads((finished / "results.json").read_text())
    recorded["choices"]["../evil"] = []
    source = tmp_path / "results.json"
    source.write_text(json.dumps(recorded))
    with pytest.raises(ValueError) as error:
        replay(digits_study(), source, "plain-seed0", request(tmp_path / "again"), log=quiet)
    assert str(error.value) == f"{source} names a choice '../evil', which is not the name of an arm"
    assert not (tmp_path / "again" / "evil").exists()


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        (
            {"weights": "0", "test_error": 0.2},
            "other weights (recorded on cpu with 1 threads); test errors differ by more than 0.60 points",
        ),
        ({"test_error": 0.2}, "bitwise the same weights, but another test error; {source} has been changed"),
    ],
)
def test_replay_notices_another_result(finished: Path, tmp_path: Path, changed: dict[str, object], said: str) -> None:
    source, lines = tmp_path / "results.json", []
    rewrite(finished / "results.json", source, lambda file: file["rows"][0].update(changed))
    assert not replay(digits_study(), source, "plain-seed0", request(tmp_path / "again"), log=lines.append)
    assert lines[-1] == said.replace("{source}", str(source))


def test_a_replay_computes_on_as_many_threads_as_the_row(
    finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source, used = tmp_path / "results.json", []
    rewrite(finished / "results.json", source, lambda file: file["rows"][0].update(threads=7))
    monkeypatch.setattr("brainrdl.studies.paper.replay.use_threads", used.append)
    for threads in (None, 3):
        # refused behind the threads, as the folder is not empty
        with pytest.raises(ValueError):
            replay(digits_study(), source, "plain-seed0", request(tmp_path, threads=threads), log=quiet)
    assert used == [7, 3]


def rewrite(source: Path, target: Path, change: Callable[[Any], object]) -> None:
    """Write a JSON file again, changed."""
    value = json.loads(source.read_text())
    change(value)
    target.write_text(json.dumps(value))


def rows_of(file: Any) -> str:
    return ", ".join(line["row"] for line in file["rows"])


def test_a_study_from_before_warm_up_and_clipping_goes_on_and_is_repeated(finished: Path, tmp_path: Path) -> None:
    def before(file: Any) -> None:
        assert (file["recipe"].pop("warmup"), file["recipe"].pop("clip")) == (None, None)

    old = shutil.copytree(finished, tmp_path / "old")
    rewrite(old / "study.json", old / "study.json", before)
    rewrite(old / "results.json", old / "results.json", before)
    assert replay(digits_study(), old / "results.json", "plain-seed0", request(tmp_path / "again"), log=quiet)
    reproduce(digits_study(), request(old, seeds=2), RECIPE, log=quiet)
    pd.testing.assert_frame_equal(comparable(old), comparable(finished))
    with pytest.raises(ValueError) as error:
        reproduce(digits_study(), request(old, seeds=2), dataclasses.replace(RECIPE, clip=1.0), log=quiet)
    assert str(error.value) == (
        f"{old} holds a study with another configuration: recipe.clip is None there and 1.0 here. Ask for the same to "
        "resume it, or give another out="
    )


def test_a_clipped_and_warmed_run_is_another_and_comes_out_again(tmp_path: Path) -> None:
    recipe = dataclasses.replace(RECIPE, warmup=1, clip=0.5)
    for name, one in (("off", RECIPE), ("on", recipe)):
        asked = request(tmp_path / name, seeds=1, arms=("plain",))
        reproduce(digits_study(), asked, one, log=quiet)
    off, on = (json.loads((tmp_path / name / "results.json").read_text())["rows"][0] for name in ("off", "on"))
    assert off["weights"] != on["weights"]
    rates = pd.read_csv(tmp_path / "on" / "histories.csv")["lr"]
    np.testing.assert_allclose(rates, RECIPE.learning_rate * np.array([1 / 2, 2 / 3, 1 / 3]))
    assert replay(digits_study(), tmp_path / "on/results.json", "plain-seed0", request(tmp_path / "again"), log=quiet)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda file: file.pop("rows"), "{source} lacks 'rows'; it is damaged, or of another version"),
        (
            lambda file: file["request"].pop("alphas"),
            "the request in {source} lacks 'alphas'; it is damaged, or of another version",
        ),
        (
            lambda file: file["rows"][0].pop("weights"),
            "the row 'plain-seed0' in {source} lacks 'weights'; it is damaged, or of another version",
        ),
        (
            lambda file: file["recipe"].pop("epochs"),
            "{source}: the recipe's fields differ in epochs; another version?",
        ),
        (
            lambda file: file["recipe"].update(epochs="many"),
            "{source}: the recipe holds a value of another type: '<' not supported between instances of 'str' and "
            "'int'",
        ),
        (
            lambda file: (file.update(rows=file["rows"][:2]), file["rows"][0].update(died="loss", test_error=None)),
            "plain-seed0 diverged (loss), so {source} has no test error to reproduce; repeat one of: plain-seed1",
        ),
    ],
)
def test_a_file_that_cannot_be_replayed_is_refused(
    finished: Path, tmp_path: Path, change: Callable[[Any], object], message: str
) -> None:
    source, out = tmp_path / "results.json", tmp_path / "again"
    rewrite(finished / "results.json", source, change)
    with pytest.raises(ValueError) as error:
        replay(digits_study(), source, "plain-seed0", request(out), log=quiet)
    assert str(error.value) == message.replace("{source}", str(source))
    assert not out.exists()


def test_killed_inside_an_epoch_it_resumes_to_the_same_results(tmp_path: Path) -> None:
    arguments = "reproduce digits --limit-train 150 --limit-teacher 200 --alphas 0.1 --seeds 1 --epochs 60".split()
    arguments += "--teacher-epochs 1 --arms plain,rdl --device cpu --set batch_size=50 --out".split()
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "brainrdl", *arguments]
    killed, whole = tmp_path / "killed", tmp_path / "whole"
    process = subprocess.Popen([*command, str(killed)], env=environment, stdout=subprocess.DEVNULL)
    checkpoint = killed / "runs" / "rdl-clean-seed0" / "checkpoint.pt"
    deadline = time.monotonic() + 120
    while not checkpoint.exists():
        assert process.poll() is None, "the run ended before it could be killed"
        assert time.monotonic() < deadline, "the run never came to its second arm"
        time.sleep(0.005)
    with pytest.raises(BlockingIOError) as error, locked(killed):
        pass
    assert str(error.value) == (f"another process works in {killed}; wait until it is done, or give another out=")
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not (killed / "results.csv").exists()
    assert checkpoint.exists(), "the arm was already finished"
    for out in (killed, whole):
        subprocess.run([*command, str(out)], env=environment, check=True, stdout=subprocess.DEVNULL)
    pd.testing.assert_frame_equal(comparable(killed), comparable(whole))
    weights = [json.loads((out / "results.json").read_text())["rows"][1]["weights"] for out in (killed, whole)]
    assert weights[0] == weights[1]
    calls = json.loads((killed / "manifest.json").read_text())["calls"]
    assert [call["command"] for call in calls.values()] == [shlex.join(["brainrdl", *arguments, str(killed)])] * 2


def test_the_test_set_is_opened_after_all_training(tmp_path: Path) -> None:
    study = digits_study()
    order: list[str] = []

    def load(asked: Request) -> object:
        splits = study.load(asked)

        def test() -> object:
            order.append("test")
            return splits.test()

        return dataclasses.replace(splits, test=test)

    watched = dataclasses.replace(study, load=load)  # type: ignore[arg-type]
    reproduce(watched, request(tmp_path / "out", arms=("plain", "rdl")), RECIPE, log=order.append)
    trained = [i for i, line in enumerate(order) if "validation error" in line]
    assert len(trained) == 3
    assert max(trained) < order.index("test")


def test_choices_are_made_on_validation_and_the_best_is_taken(tmp_path: Path) -> None:
    out = tmp_path / "out"
    reproduce(digits_study(), request(out, tries=2, alphas=(0.1, 0.03), arms=("plain", "rdl")), RECIPE, log=quiet)
    tries = pd.read_csv(out / "tries.csv")
    assert set(tries["arm"]) == {"plain", "teacher", "rdl"}
    for _, group in tries.groupby("arm"):
        assert len(group) == 2
        assert group["chosen"].sum() == 1
        ordered = group.sort_values(["validation_error", "validation_loss"])
        assert ordered.iloc[0]["chosen"]
    setting = json.loads(tries[(tries["arm"] == "rdl") & tries["chosen"]]["setting"].item())
    recorded = {line["row"]: line["setting"] for line in json.loads((out / "results.json").read_text())["rows"]}
    plain = json.loads(tries[(tries["arm"] == "plain") & tries["chosen"]]["setting"].item())
    assert recorded["rdl-clean-seed0"] == {**plain, **setting}


def test_label_runs_use_no_hidden_label(tmp_path: Path) -> None:
    out = tmp_path / "out"
    asked = request(out, labels=(20, 40), teachers=("clean", "labels"), arms=("plain", "teacher", "rdl", "kd"))
    reproduce(digits_study(), asked, dataclasses.replace(RECIPE, updates=6), log=quiet)
    results = pd.read_csv(out / "results.csv").set_index("row")
    assert list(results.index) == [
        "teacher-clean-seed0",
        *(
            f"{arm}labels{n}-seed0"
            for n in (20, 40)
            for arm in ("plain-", "teacher-labels-", "rdl-clean-", "rdl-labels-", "kd-clean-", "kd-labels-")
        ),
    ]
    assert results.loc["rdl-labels-labels20-seed0", ["train_size", "labels", "updates"]].tolist() == [20, 20, 6]
    training, _, _ = load_digits()
    labelled, rest = labelled_subset(training, 40)
    assert not set(labelled.ids) & set(rest.ids)
    assert set(labelled.ids) | set(rest.ids) == set(training.ids)
    assert torch.bincount(labelled.labels).tolist() == [4] * 10
    fewer, _ = labelled_subset(training, 20)
    assert torch.bincount(fewer.labels).tolist() == [2] * 10


def test_shorter_trials_with_few_labels_take_their_share_of_the_updates(tmp_path: Path) -> None:
    asked = request(tmp_path / "out", labels=(20,), arms=("plain",), tries=2, unscored=True)
    reproduce(digits_study(), asked, dataclasses.replace(RECIPE, updates=9, choice_epochs=1), log=quiet)
    updates = {
        path.parent.relative_to(asked.out).as_posix(): json.loads(path.read_text())["updates"]
        for path in asked.out.rglob("run.json")
    }
    assert updates == {"tries/plain-labels20/0": 3, "tries/plain-labels20/1": 3, "runs/plain-labels20-seed0": 9}


@pytest.mark.parametrize("name", ["plain", "hints"])
def test_every_method_gets_the_same_number_of_updates_with_few_labels(
    context: Context, tmp_path: Path, name: str
) -> None:
    labelled, rest = labelled_subset(context.training, 20)
    recipe = dataclasses.replace(RECIPE, updates=10, hint_share=0.3)
    few = dataclasses.replace(context, recipe=recipe, training=labelled, unlabelled=rest, validation=None)
    steps: list[object] = []
    hook = register_optimizer_step_post_hook(lambda optimizer, *_: steps.append(optimizer))
    try:
        train(arm_named(name), few, {"alpha0": 1.0}, tmp_path)
    finally:
        hook.remove()
    # 10 updates in 3 epochs: 4 in each, hints' first stage among them
    assert len(steps) == 12
    asked = request(tmp_path / "out", labels=(20,), arms=(name,), unscored=True)
    reproduce(digits_study(), asked, recipe, log=quiet)
    (record,) = (path for path in asked.out.glob("runs/*labels20*/run.json"))
    assert json.loads(record.read_text())["updates"] == 12


@pytest.mark.parametrize(("at", "chosen_at"), [(40, {"labels40"}), (145, {"labels20", "labels30"})])
def test_calls_with_other_numbers_of_labels_share_a_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, at: int, chosen_at: set[str]
) -> None:
    monkeypatch.setattr(runs_module, "_LABELS_FOR_CHOICE", at)
    out = tmp_path / "out"
    for labels in ((20,), (30,), ()):
        asked = request(out, labels=labels, arms=("plain",), tries=2)
        said: list[str] = []
        reproduce(digits_study(), asked, dataclasses.replace(RECIPE, epochs=1, updates=2), log=said.append)
        assert said[-1].startswith("all runs are done")
    names = ["plain-seed0", "plain-labels20-seed0", "plain-labels30-seed0"]
    assert list(pd.read_csv(out / "results.csv")["row"]) == names
    study = read_study(out)
    told = settings_table(study, study.results)
    few = told[told["labels"].notna()]
    assert few["tried_labels"].tolist() == ([40, 40] if at == 40 else [20, 30])
    # once for all numbers, or where so many labels leave no batch without one of 150 images, each its own
    assert {path.parent.name for path in out.glob("tries/*/choice.json")} == {
        "plain",
        *(f"plain-{labels}" for labels in chosen_at),
    }


def test_no_teacher_is_trained_to_measure_an_untaught_run(tmp_path: Path) -> None:
    out = tmp_path / "out"
    reproduce(digits_study(), request(out, arms=("plain",), seeds=2), RECIPE, log=quiet)
    said: list[str] = []
    reproduce(digits_study(), request(out, arms=("rdl",)), RECIPE, log=said.append)
    assert said[-1].startswith("all runs are done")
    geometry = pd.read_csv(out / "geometry.csv")
    assert list(geometry["row"].drop_duplicates()) == ["plain-seed0", "rdl-clean-seed0"]


def test_hidden_labels_do_not_reach_a_label_run(tmp_path: Path) -> None:
    """Shuffling the labels that should be hidden changes nothing in the trained student."""
    training, validation, _ = load_digits()
    labelled, rest = labelled_subset(training.take(range(200)), 50)
    arm = next(arm for arm in paper_arms() if arm.name == "rdl")
    weights = []
    for hidden in (rest, dataclasses.replace(rest, labels=rest.labels.flip(0))):
        context = Context(
            recipe=dataclasses.replace(RECIPE, updates=6),
            model=lambda: mnist_cnn(10, image_size=8),
            training=labelled,
            validation=validation,
            unlabelled=hidden,
            teacher=initialised(lambda: mnist_cnn(10, image_size=8), 7),
            batches=Batches(),
            fabric=Fabric(accelerator="cpu", devices=1),
            seed=0,
        )
        student, _ = train(arm, context, {"alpha0": 1.0}, tmp_path / str(len(weights)))
        weights.append(torch.cat([p.flatten() for p in student.parameters()]))
    assert torch.equal(*weights)


@pytest.fixture
def context() -> Context:
    training, validation, _ = load_digits()
    make = lambda: mnist_cnn(10, image_size=8)  # noqa: E731
    fabric = Fabric(accelerator="cpu", devices=1)
    return Context(
        recipe=RECIPE,
        model=make,
        training=training.take(range(150)),
        validation=validation,
        unlabelled=None,
        teacher=initialised(make, 5),
        batches=Batches(),
        fabric=fabric,
        seed=0,
    )


def arm_named(name: str) -> Arm:
    return next(arm for arm in paper_arms() if arm.name == name)


def test_finetuning_starts_with_the_teachers_weights(context: Context, tmp_path: Path) -> None:
    arm = arm_named("finetuning")
    student = context.model()
    assert context.teacher is not None
    assert arm.prepare is not None
    assert arm.prepare(student, context, {"learning_rate_factor": 1.0}, tmp_path) is None
    for name, value in student.state_dict().items():
        assert torch.equal(value, context.teacher.state_dict()[name])


def test_hint_stage_trains_only_what_lies_up_to_the_hint(context: Context, tmp_path: Path) -> None:
    arm = arm_named("hints")
    student = initialised(context.model, 0)
    before = {name: value.clone() for name, value in student.state_dict().items()}
    assert arm.prepare is not None
    history = arm.prepare(student, context, {"alpha0": 1.0}, tmp_path)
    assert history is not None
    assert list(history.columns[:2]) == ["epoch", "hint/pool2"]
    changed = {name for name, value in student.state_dict().items() if not torch.equal(value, before[name])}
    assert changed == {"conv1.0.weight", "conv1.0.bias", "conv2.0.weight", "conv2.0.bias"}


def test_paired_arms_share_initialisation_and_data_order(context: Context) -> None:
    first, second = initialised(context.model, 3), initialised(context.model, 3)
    assert all(torch.equal(a, b) for a, b in zip(first.parameters(), second.parameters(), strict=True))
    other = initialised(context.model, 4)
    assert not torch.equal(next(iter(first.parameters())), next(iter(other.parameters())))


def test_a_run_that_dies_is_recorded_and_the_study_goes_on(tmp_path: Path) -> None:
    out = tmp_path / "out"
    recipe = dataclasses.replace(RECIPE, relative=False)
    reproduce(digits_study(), request(out, arms=("plain", "rdl"), alphas=(1e30,)), recipe, log=quiet)
    results = pd.read_csv(out / "results.csv").set_index("row")
    assert np.isnan(results.loc["rdl-clean-seed0", "test_error"])
    assert results.loc["plain-seed0", "test_error"] >= 0
    manifest = json.loads((out / "manifest.json").read_text())
    assert manifest["notes"] == ["Runs that diverged (a loss was not finite): rdl-clean-seed0."]


def test_one_teacher_serves_all_seeds(tmp_path: Path) -> None:
    out = tmp_path / "out"
    asked = request(out, arms=("teacher", "rdl"), seeds=2, one_teacher=True)
    reproduce(digits_study(), asked, RECIPE, log=quiet)
    results = pd.read_csv(out / "results.csv")
    assert results["row"].tolist() == ["teacher-clean-seed0", "rdl-clean-seed0", "rdl-clean-seed1"]
    assert results["teacher_seed"].tolist() == [0, 0, 0]
    assert not (out / "runs" / "teacher-clean-seed1").exists()
    assert json.loads((out / "manifest.json").read_text())["notes"] == [
        "One teacher of each kind serves all seeds: intervals over seeds are conditional on it."
    ]


def test_a_run_whose_weights_end_up_not_finite_has_died(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def trained(arm: Arm, *arguments: Any) -> Any:
        student, history = train(arm, *arguments)
        if arm.name == "deep_supervision":
            next(student.parameters()).data[0] = float("nan")
        return student, history

    monkeypatch.setattr(runs_module, "train", trained)
    out = tmp_path / "out"
    reproduce(digits_study(), request(out, arms=("plain", "deep_supervision")), RECIPE, log=quiet)
    results = pd.read_csv(out / "results.csv").set_index("row")
    assert results["test_error"].isna().to_dict() == {"plain-seed0": False, "deep_supervision-seed0": True}
    record = json.loads((out / "runs" / "deep_supervision-seed0" / "run.json").read_text())
    assert record["died"] == "its weights are not finite after the last update"


def test_a_run_made_again_is_scored_again(tmp_path: Path) -> None:
    out = tmp_path / "out"
    asked = request(out, arms=("plain",))
    reproduce(digits_study(), asked, RECIPE, log=quiet)
    before = comparable(out)
    folder = out / "runs" / "plain-seed0"
    np.savez_compressed(folder / "test.npz", correct=np.zeros(500, dtype=bool))
    (folder / "run.json").unlink()
    reproduce(digits_study(), asked, RECIPE, log=quiet)
    pd.testing.assert_frame_equal(comparable(out), before)


def test_a_choice_that_is_gone_is_made_again_from_its_tries(tmp_path: Path) -> None:
    out, said = tmp_path / "out", []
    asked = request(out, arms=("plain",), tries=2, alphas=())
    reproduce(digits_study(), asked, RECIPE, log=quiet)
    before = (out / "tries.csv").read_text()
    (out / "tries" / "plain" / "choice.json").unlink()
    reproduce(digits_study(), asked, RECIPE, log=said.append)
    assert (out / "tries.csv").read_text() == before
    assert not [line for line in said if "epochs" in line]


def test_a_try_of_another_setting_is_not_taken_for_one_that_is_asked_for(tmp_path: Path) -> None:
    out = tmp_path / "out"
    asked = request(out, arms=("plain",), tries=2, alphas=(), unscored=True)
    reproduce(digits_study(), asked, RECIPE, log=quiet)
    (out / "tries" / "plain" / "choice.json").unlink()
    path = out / "tries" / "plain" / "1" / "run.json"
    record = json.loads(path.read_text(encoding="utf-8"))
    now = ", ".join(f"{knob} {value:g}" for knob, value in record["setting"].items())
    path.write_text(json.dumps({**record, "setting": {"weight_decay": 0.25}}), encoding="utf-8")
    expected = f"{path.parent} holds a run with weight_decay 0.25, where {now} is asked for now"
    with pytest.raises(ValueError, match=re.escape(expected)):
        reproduce(digits_study(), asked, RECIPE, log=quiet)
    shutil.rmtree(path.parent)
    reproduce(digits_study(), asked, RECIPE, log=quiet)
    assert json.loads(path.read_text(encoding="utf-8"))["setting"] == record["setting"]


def test_every_call_is_in_the_manifest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out = tmp_path / "out"
    for command, arms in (("first", ("plain",)), ("second", ("plain", "kd"))):
        if command == "second":  # as if it were stopped before it is scored
            monkeypatch.setattr("brainrdl.studies.paper.reproduce.write_results", stopped)
            with pytest.raises(KeyboardInterrupt):
                reproduce(digits_study(), request(out, arms=arms), RECIPE, command="stopped", log=quiet)
            monkeypatch.undo()
        reproduce(digits_study(), request(out, arms=arms), RECIPE, command=command, log=quiet)
    manifest = json.loads((out / "manifest.json").read_text())
    calls = list(manifest["calls"].values())
    assert [(call["command"], call["device"], call["threads"]) for call in calls] == [
        (command, "cpu", 1) for command in ("first", "stopped", "second")
    ]
    assert all(call["seconds"] > 0 for call in calls)
    assert manifest["duration_seconds"] == pytest.approx(sum(call["seconds"] for call in calls), abs=0.05)
    assert manifest["hardware"]["trained_on"] == {"cpu": 3}  # plain, kd and its teacher


def stopped(*arguments: object) -> None:
    """Stop as Control-C does."""
    raise KeyboardInterrupt


@pytest.mark.parametrize(
    ("changes", "settings", "message"),
    [
        ({"tries": 5}, [], "tries is 5, but there are 4 settings to try for 'plain'; ask for at most that many"),
        ({}, ["layers=pool1,pol2"], "layers names 'pol2', which the network has not; did you mean 'pool2' or 'pool1'?"),
        ({}, ["hint_layer=retina"], "hint_layer names 'retina', which the network has not; did you mean 'linear'?"),
        ({"alphas": (float("nan"),)}, [], "alphas must be finite numbers of at least 0, got nan"),
        (
            {"limit_train": 101},
            [],
            "101 images in batches of 10 leave a last batch of one, without distances; change limit_train= or the "
            "recipe's batch_size",
        ),
        (
            {"labels": (21,)},
            [],
            "21 images in batches of 10 leave a last batch of one, without distances; change labels= or the recipe's "
            "batch_size",
        ),
        (
            {"limit_train": 200, "labels": (150,)},
            ["batch_size=100"],
            "labels is 150, and leaves 50 of 200 training images without a label, less than a batch of 100; ask for "
            "fewer, raise limit_train=, or change the recipe's batch_size",
        ),
        (
            {"limit_train": 1001},
            [],
            "limit_train must lie between the number of classes (10) and the number of training images (1000), got "
            "1001",
        ),
        ({"alphas": (-1.0,)}, [], "alphas must be finite numbers of at least 0, got -1"),
        (
            {},
            ["hint_layer=fc.0"],
            "hint_layer must be a child of the student, one of conv1, pool1, conv2, pool2, flatten, fc, dropout, "
            "linear, got 'fc.0'",
        ),
        (
            {},
            ["epochs=1"],
            "stage 1 of hints takes 1 of 1 epochs (hint_share 0.2) and leaves none for stage 2; ask for more epochs, "
            "lower hint_share, or leave hints out of arms=",
        ),
        (
            {},
            ["hint_share=0.9"],
            "stage 1 of hints takes 3 of 3 epochs (hint_share 0.9) and leaves none for stage 2; ask for more epochs, "
            "lower hint_share, or leave hints out of arms=",
        ),
        (
            {},
            ["epochs=9", "choice_epochs=2", "hint_share=0.8"],
            "stage 1 of hints takes 2 of 2 epochs (hint_share 0.8) and leaves none for stage 2; ask for more epochs, "
            "lower hint_share, or leave hints out of arms=",
        ),
        (
            {"labels": (20, 150)},
            [],
            "labels must lie between the number of classes (10) and the number of training images less one (149), "
            "got 150",
        ),
    ],
)
def test_what_would_fail_late_fails_before_anything_is_written(
    tmp_path: Path, changes: dict[str, object], settings: list[str], message: str
) -> None:
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        reproduce(digits_study(), request(tmp_path, **changes), override(RECIPE, settings), log=quiet)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("file", "content", "message"),
    [
        (
            "study.json",
            "{",
            "{path} is damaged (Expecting property name enclosed in double quotes: line 1 column 2 (char 1)); "
            "restore it, or give another out=",
        ),
        (
            "scored.json",
            "{",
            "{path} is damaged (Expecting property name enclosed in double quotes: line 1 column 2 (char 1)); "
            "restore it, or remove it to have it made again",
        ),
        ("runs/plain-seed0/run.json", "[]", "{path} holds a list, expected a dict; it is another file"),
        (
            "runs/plain-seed0/run.json",
            "{}",
            "{path} lacks 'arm', 'died', 'epochs', 'history', 'labels', 'seconds', 'seed', 'setting', 'teacher', "
            "'weights'; it is damaged, or of another version",
        ),
        (
            "runs/plain-seed0/history.csv",
            "epoch\n0\n",
            "{path} is not the history that the run was finished with; remove {folder} to make the run again",
        ),
        (
            "tries/plain/choice.json",
            "[]",
            "{path} marks 0 settings as chosen, expected 1; remove it to choose again",
        ),
        (
            "tries/plain/choice.json",
            "[{}]",
            "an entry of {path} lacks 'chosen', 'setting'; it is damaged, or of another version",
        ),
        (
            "runs/plain-seed0/test.npz",
            "",
            "{path} is damaged (EOFError: No data left in file); remove it to have the run scored again",
        ),
        (
            "runs/plain-seed0/test.npz",
            "PK\x03\x04",
            "{path} is damaged (BadZipFile: File is not a zip file); remove it to have the run scored again",
        ),
    ],
)
def test_a_damaged_file_is_named(finished: Path, tmp_path: Path, file: str, content: str, message: str) -> None:
    out = tmp_path / "out"
    shutil.copytree(finished, out)
    path = out / file
    path.write_text(content)
    with pytest.raises(ValueError) as error:
        reproduce(digits_study(), request(out, seeds=2), RECIPE, log=quiet)
    assert str(error.value) == message.replace("{path}", str(path)).replace("{folder}", str(path.parent))


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        (
            {"wrong": np.zeros(3)},
            "{path} is damaged (KeyError: 'correct is not a file in the archive'); remove it to have the run scored "
            "again",
        ),
        (
            {"correct": np.zeros(3)},
            "{path} holds float64 of shape (3,), expected bool of shape (500,), one per test image; remove it to have "
            "the run scored again",
        ),
    ],
)
def test_answers_of_another_kind_are_refused(tmp_path: Path, arrays: dict[str, Any], message: str) -> None:
    path = tmp_path / "test.npz"
    np.savez_compressed(path, allow_pickle=False, **arrays)
    with pytest.raises(ValueError) as error:
        score_module._read_answers(path, 500)
    assert str(error.value) == message.replace("{path}", str(path))


def test_a_history_cut_off_in_its_last_line_is_noticed(finished: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    shutil.copytree(finished, out)
    path = out / "runs" / "plain-seed0" / "history.csv"
    path.write_text(path.read_text()[:-8])
    assert len(pd.read_csv(path)) == 3
    with pytest.raises(ValueError) as error:
        reproduce(digits_study(), request(out, seeds=2), RECIPE, log=quiet)
    assert str(error.value) == (
        f"{path} is not the history that the run was finished with; remove {path.parent} to make the run again"
    )


def test_runs_without_their_configuration_are_refused(finished: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    shutil.copytree(finished, out)
    (out / "study.json").unlink()
    with pytest.raises(ValueError) as error:
        reproduce(digits_study(), request(out, seeds=2), RECIPE, log=quiet)
    assert str(error.value) == (
        f"{out} holds runs, but study.json, which says how they were made, is gone; restore it, or give another out="
    )


def test_two_calls_in_one_folder_are_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "out"
    with locked(out):
        arguments = ["reproduce", "digits", "--out", str(out), "--arms", "plain", "--tries", "1"]
        assert cli.main(arguments) == 2
    assert capsys.readouterr().err == (
        f"brainrdl: another process works in {out}; wait until it is done, or give another --out\n"
    )
    assert [path.name for path in out.iterdir()] == [".lock"]


def test_other_weights_than_were_trained_are_noticed(finished: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    shutil.copytree(finished, out)
    folder = out / "runs" / "plain-seed0"
    shutil.copy(out / "runs" / "plain-seed1" / "model.safetensors", folder)
    with pytest.raises(ValueError) as error:
        reproduce(digits_study(), request(out, seeds=2), RECIPE, log=quiet)
    assert str(error.value) == (
        f"{folder / 'model.safetensors'} holds other weights than the run was finished with; remove {folder} to make "
        "the run again"
    )


def test_runs_added_after_the_test_set_was_opened_are_named(tmp_path: Path) -> None:
    out = tmp_path / "out"
    reproduce(digits_study(), request(out, arms=("plain",)), RECIPE, log=quiet)
    assert json.loads((out / "manifest.json").read_text())["notes"] == []
    reproduce(digits_study(), request(out, arms=("plain", "deep_supervision")), RECIPE, log=quiet)
    assert json.loads((out / "manifest.json").read_text())["notes"] == [
        "Runs added by a later call, after the test set had first been scored: deep_supervision-seed0."
    ]


def test_rows_are_planned_in_order_and_once() -> None:
    rows = plan(mnist_study(), Request(Path(), seeds=2, arms=("plain", "teacher", "rdl"), labels=(100, 300)))
    assert [row.name for row in rows][:6] == [
        "plain-labels100-seed0",
        "plain-labels100-seed1",
        "teacher-paper-seed0",
        "teacher-paper-seed1",
        "teacher-clean-seed0",
        "teacher-clean-seed1",
    ]
    assert len(rows) == len(set(rows)) == 2 * 2 + 2 * 2 + 2 * 2 * 2
    assert Row("rdl", 0, "clean", 1000).name == "rdl-clean-labels1000-seed0"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"arms": ("rdll",)}, "the digits study has no arm 'rdll'; did you mean 'rdl' or 'rkd' or 'rdl_corr'?"),
        ({"teachers": ("paper",)}, "the digits study has no teacher 'paper'; it has: clean, labels"),
        (
            {"teachers": ("labels",)},
            "the 'labels' teacher is trained on the labelled images alone: say how many, labels=",
        ),
        ({"seeds": 0}, "seeds must be at least 1, got 0"),
        ({"tries": 0}, "tries must be at least 1, got 0"),
    ],
)
def test_impossible_requests_are_refused(changes: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        plan(digits_study(), request(Path(), **changes))


@pytest.mark.parametrize("n", [9, 200])
def test_impossible_numbers_of_labels_are_refused(n: int) -> None:
    training, _, _ = load_digits()
    with pytest.raises(ValueError) as error:
        labelled_subset(training.take(range(200)), n)
    assert str(error.value) == (
        f"labels must lie between the number of classes (10) and the number of training images less one (199), got {n}"
    )


def test_a_recipe_is_spelled_as_it_is_set() -> None:
    changed = Recipe(choice_epochs=3, layers=("fc",), relative=False, n_pairs=None, learning_rate=0.123)
    assert override(Recipe(), format_overrides(changed)) == changed


def test_recipe_fields_are_set_by_their_type() -> None:
    recipe = override(Recipe(), ["n_pairs=none", "layers=pool2,fc", "relative=false", "learning_rate=1e-2", "epochs=7"])
    assert (recipe.n_pairs, recipe.layers, recipe.relative, recipe.learning_rate, recipe.epochs) == (
        None,
        ("pool2", "fc"),
        False,
        0.01,
        7,
    )


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        (
            "tempature=3",
            "set takes FIELD=VALUE with a field of the recipe, got 'tempature=3'; "
            "did you mean 'temperature' or 'updates'?",
        ),
        ("layers", "set takes FIELD=VALUE, got 'layers' without a value"),
        ("layers=fc,pool1,fc", "layers names 'fc' more than once"),
        ("supervised_layers=fc,fc", "supervised_layers names 'fc' more than once"),
        ("temperature=inf", "temperature must be a finite number above 0, got inf"),
        ("temperature=nan", "temperature must be a finite number above 0, got nan"),
        ("epochs=many", "epochs is of type int, got 'many'"),
        ("relative=1", "relative is true or false, got '1'"),
        ("epochs=0", "epochs must be at least 1, got 0"),
        ("batch_size=1", "batch_size must be at least 2, for distances, got 1"),
        ("choice_epochs=0", "choice_epochs must be at least 1 or none, got 0"),
        ("warmup=0", "warmup must be none, or at least 1 and below the epochs of the shortest training (20), got 0"),
        ("warmup=20", "warmup must be none, or at least 1 and below the epochs of the shortest training (20), got 20"),
        ("clip=0", "clip must be none or a finite number above 0, got 0.0"),
        ("clip=nan", "clip must be none or a finite number above 0, got nan"),
        ("learning_rate=-1", "learning_rate must be above 0, got -1.0"),
        ("hint_share=1", "hint_share must lie between 0 and 1, got 1.0"),
        ("schedule=fast", "unknown schedule 'fast'; known are: linear, constant, cosine"),
        ("supervision_schedule=x", "unknown supervision_schedule 'x'; known are: paper, linear"),
    ],
)
def test_impossible_recipes_are_refused(setting: str, message: str) -> None:
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        override(Recipe(), [setting])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--seeds", "1"], "--out is needed: the output folder"),
        (["--out", "x", "--limit-train", "0"], "--limit-train must be at least 1, got 0"),
        (
            ["--out", "x", "--alphas", "1,2", "--tries", "3"],
            "--alphas gives 2 values and --tries 3: every arm gets as many tries, so give as many values",
        ),
        (["--replay", "row"], "--replay takes results.json:ROW, got 'row'"),
        (["--replay", "nowhere.json:row"], "there is no file nowhere.json"),
        (
            ["--replay", "x/results.json:row", "--seeds", "3", "--set", "epochs=3", "--threads", "1", "--one-teacher"],
            "--replay repeats a row as x/results.json says; leave out --seeds, --one-teacher, --set",
        ),
    ],
)
def test_command_line_says_what_is_wrong(
    arguments: list[str],
    message: str,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    assert cli.main(["reproduce", "digits", *arguments]) == 2
    assert capsys.readouterr().err == f"brainrdl: {message}\n"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--labels", "abc"], "--labels: whole numbers like 100,300 are expected, got 'abc'"),
        (["--labels", "1.5"], "--labels: whole numbers like 100,300 are expected, got '1.5'"),
        (["--alphas", "a,b"], "--alphas: numbers like 0.3,1 are expected, got 'a,b'"),
        (["--alphas", ""], "--alphas: a list like A,B is expected, got ''"),
    ],
)
def test_lists_of_numbers_are_checked(arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        cli.main(["reproduce", "digits", *arguments])
    assert capsys.readouterr().err.splitlines()[-1] == f"brainrdl reproduce digits: error: argument {message}"


def test_the_recipes_fields_are_in_the_help(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        cli.main(["reproduce", "digits", "--help"])
    told = capsys.readouterr().out.split()
    assert set(format_overrides(digits_study().recipe)) <= set(told)


def test_the_version_is_the_packages(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        cli.main(["--version"])
    assert capsys.readouterr().out == f"brainrdl {version('brainrdl')}\n"
    assert brainrdl.__version__ == version("brainrdl")
    with pytest.raises(AttributeError, match=r"^module 'brainrdl' has no attribute 'rmd'$"):
        _ = brainrdl.rmd


def test_a_fault_of_ours_shows_where_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def faulty(*arguments: object, **options: object) -> None:
        raise RuntimeError("shapes differ")

    monkeypatch.setattr("brainrdl.studies.paper.reproduce.reproduce", faulty)
    with pytest.raises(RuntimeError, match=r"^shapes differ$"):
        cli.main(["reproduce", "digits", "--out", str(tmp_path / "out")])


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["reproduce", "digits", "--out", "out"], "stopped; the same command resumes from here"),
        (["reproduce", "digits", "--replay", "results.json:row"], "stopped"),
        (["fit", "study.yaml"], "stopped; the same command resumes from here"),
        (["fit", "study.yaml", "--check"], "stopped"),
        (["info", "rdms.nc"], "stopped"),
    ],
)
def test_who_interrupts_is_told_whether_it_goes_on(
    arguments: list[str],
    said: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    write_example(Path("study.yaml"))  # a file that is missing is told before anything is begun
    monkeypatch.setattr("brainrdl.cli.reproduce._run", stopped)
    monkeypatch.setattr("brainrdl.cli.info._run", stopped)
    monkeypatch.setattr("brainrdl.cli.fit._run", stopped)
    assert cli.main(arguments) == 130
    assert capsys.readouterr().err == f"\nbrainrdl: {said}\n"


def test_a_full_disk_is_reported_in_a_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def full(*arguments: object, **options: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device", "out/results.csv")

    monkeypatch.setattr("brainrdl.studies.paper.reproduce.reproduce", full)
    assert cli.main(["reproduce", "digits", "--out", str(tmp_path / "out")]) == 2
    assert capsys.readouterr().err == "brainrdl: [Errno 28] No space left on device: 'out/results.csv'\n"


def test_a_foreign_folder_is_not_written_into(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("precious")
    with pytest.raises(ValueError) as error:
        reproduce(digits_study(), request(tmp_path, arms=("plain",)), RECIPE, log=quiet)
    assert str(error.value) == f"{tmp_path} is not empty and holds no study; give another out="


@pytest.mark.parametrize("below", ["", "deeper/down"])
def test_a_file_in_the_place_of_the_folder_is_named(tmp_path: Path, below: str) -> None:
    file = tmp_path / "notes.txt"
    file.write_text("mine")
    expected = f"{file} is a file, and a study needs a folder; give another out="
    with pytest.raises(ValueError, match=re.escape(expected)):
        reproduce(digits_study(), request(file / below, arms=("plain",)), RECIPE, log=quiet)
    assert file.read_text() == "mine"
