"""Studies of fitting: their file, their targets, one fit, and a whole study from file to report."""

import json
import re
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
import xarray as xr
from lightning_fabric import Fabric
from torch.optim.optimizer import register_optimizer_step_post_hook

import brainrdl as rdl
import small_student
from brainrdl.cli import main
from brainrdl.inference.splits import Split, stratified_splits
from brainrdl.named_models import load_named_model
from brainrdl.rdms.labelled import condense
from brainrdl.studies import load_fitted
from brainrdl.studies.brain.configuration import checked, configuration_hash, read_configuration, write_example
from brainrdl.studies.brain.inputs import load_inputs
from brainrdl.studies.brain.outcomes import load_outcome
from brainrdl.studies.brain.students import Plan, fit_student
from brainrdl.studies.brain.study import describe_plan, fit
from brainrdl.studies.brain.targets import category_target, shuffled_target, training_target
from brainrdl.studies.brain.task_networks import make_student
from brainrdl.studies.reports.fit_figures import rdm_figure
from brainrdl.studies.reports.fit_files import read_fit
from brainrdl.training.checkpoint import read_manifest
from brainrdl.training.machine import Machine
from small_study import ARMS, CATEGORIES, TRAINED, N, write_study

HERE = Path(__file__).parents[1]


@pytest.fixture
def study(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    monkeypatch.syspath_prepend(str(HERE))
    return write_study(tmp_path)


def changed(study: Mapping[str, Any], **changes: Any) -> dict[str, Any]:
    return {**json.loads(json.dumps(study)), **changes}


QUIET = Machine("cpu", "32-true", 1)


# the file


def test_the_example_is_a_study_and_is_not_written_over(tmp_path: Path) -> None:
    write_example(tmp_path / "study.yaml")
    assert read_configuration(tmp_path / "study.yaml").primary.arm == "rdl"
    with pytest.raises(
        FileExistsError, match=f"^there is a file {tmp_path}/study.yaml already; name another, or remove"
    ):
        write_example(tmp_path / "study.yaml")


def test_the_committed_study_says_what_the_issue_fixes() -> None:
    configuration = read_configuration(HERE.parent / "examples" / "human_it.yaml")
    assert configuration.seeds >= 3
    primary = configuration.primary.model_dump()
    assert primary == {
        "arm": "rdl",
        "against": "task_only",
        "fitted": "kriegeskorte2008",
        "scored": "cichy2014",
        "scheme": "stratified",
    }


def test_the_hash_is_of_what_is_said_not_of_how(study: dict[str, Any]) -> None:
    backwards = dict(reversed(study.items()))
    assert configuration_hash(checked(study)) == configuration_hash(checked(backwards))
    assert configuration_hash(checked(study)) != configuration_hash(checked(changed(study, seeds=1)))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"seedz": 3}, "the configuration: there is no field seedz; did you mean 'seeds' or 'schemes'?"),
        ({"seeds": 0}, "the configuration: seeds should be greater than or equal to 1, got 0"),
        (
            {"fit_to": ["on"]},
            "the configuration: fit_to names 'on', which is none of the studies one, two; did you mean 'one'?",
        ),
        (
            {"fit": {"layers": ["pool1"], "alphas": [-1]}},
            "the configuration: fit: alphas must be above 0, got -1.0",
        ),
        (
            {"fit": {"layers": ["pool1"], "updates": [5, 5]}},
            "the configuration: fit: updates must increase from 1 on, got 5, 5",
        ),
        (
            {"fit": {"layers": ["pool1"], "metric": "manhattan"}},
            "the configuration: fit: metric is 'manhattan'; known are: mse, sqeuclidean, euclidean, correlation, "
            "cosine",
        ),
        (
            {"fit": {"layers": ["pool1"], "alpha": 1}},
            "the configuration: there is no field fit.alpha; did you mean 'alphas'?",
        ),
        (
            {"task": None},
            "the configuration: there is neither a task to train on nor student.weights, nothing to start "
            "from: give one of the two",
        ),
        (
            {"categories": None},
            "the configuration: categories is missing: a table (.csv) of stimulus,category, which the splits follow",
        ),
    ],
)
def test_a_faulty_study_is_refused(study: dict[str, Any], change: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError) as error:
        checked(changed(study, **change))
    assert str(error.value) == message


@pytest.mark.parametrize(
    ("field", "value", "fault"),
    [
        (
            "seeds",
            True,
            "seeds: expected no switch, got True (YAML reads yes, no, on and off as true and false; a name of that "
            "kind needs quotes)",
        ),
        ("fit.alphas", [1.0, float("nan")], "fit.alphas.1 should be a finite number, got nan"),
        ("fit.learning_rate", float("inf"), "fit.learning_rate should be a finite number, got inf"),
        ("fit.alphas", [], "fit.alphas is empty; expected at least one entry"),
        ("fit.layers", "pool1", "fit.layers: expected a list, like [a, b], got 'pool1'"),
        ("fit.layers", [1], "fit.layers.0 should be a valid string, got 1"),
        ("fit.layers", ["pool1", "pool1"], "fit: layers names 'pool1' more than once"),
        ("fit.updates", [2.5], "fit.updates.0 should be a valid integer, got a number with a fractional part, got 2.5"),
        ("fit", None, "fit: expected fields, like name: value, got None"),
        ("studies", ["one"], "studies: expected fields, like name: value, got ['one']"),
        ("studies.one", "one.nc", "studies.one: expected fields, like name: value, got 'one.nc'"),
        ("studies", {2014: {"rdms": "one.nc"}}, "studies: expected names, got 2014; put quotes around it"),
        ("studies", {"": {"rdms": "one.nc"}}, "studies has an entry without a name; name it"),
        (
            "controls",
            ["a.nc"],
            "controls: expected objects92, or files of RDMs by name, like {pixels: pixels.nc}, got ['a.nc']",
        ),
        ("controls", {"size": 3}, "controls.size: expected a file, got 3"),
        ("controls", {"rdl": "a.nc"}, "controls names 'rdl', as an arm of the study is called; name it otherwise"),
        ("fit_to", ["one", "one"], "fit_to names 'one' more than once"),
        ("arms", ["rdl", "rdl"], "arms names 'rdl' more than once"),
        ("primary.against", "rdl", "primary.arm and primary.against are both 'rdl'; name two arms"),
        (
            "schemes.leave_one_category_out",
            False,
            "primary.scheme is leave_one_category_out, which schemes switches off; set "
            "schemes.leave_one_category_out: true",
        ),
        ("student.image_size", 10**6, "student.image_size should be less than or equal to 4096, got 1000000"),
        ("name", "a/b", "name should match pattern '^[A-Za-z0-9_\\-]+$', got 'a/b'"),
    ],
)
def test_a_faulty_field_is_named_with_what_it_holds(
    study: dict[str, Any], field: str, value: object, fault: str
) -> None:
    study["primary"]["scheme"] = "leave_one_category_out"
    *parts, last = field.split(".")
    place = study
    for part in parts:
        place = place[part]
    place[last] = value
    with pytest.raises(ValueError) as error:
        checked(study)
    assert str(error.value) == f"the configuration: {fault}"


def test_a_field_that_stands_twice_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.yaml"
    path.write_text("name: a\nseeds: 3\nseeds: 1\n")
    with pytest.raises(ValueError) as error:
        read_configuration(path)
    assert str(error.value) == (f"{path} is not YAML: 'seeds' stands there twice in line 3, column 1: seeds: 1 ^")


def test_a_file_that_is_no_study(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError) as missing:
        read_configuration(tmp_path / "a.yaml")
    assert str(missing.value) == (
        f"there is no file {tmp_path}/a.yaml; write_example writes one to begin with, and so does brainrdl fit when "
        "init is asked for"
    )
    (tmp_path / "a.yaml").write_text("- 1\n")
    with pytest.raises(ValueError) as listed:
        read_configuration(tmp_path / "a.yaml")
    assert str(listed.value) == f"{tmp_path}/a.yaml holds a list, expected fields like name: and studies:"
    (tmp_path / "a.yaml").write_text("name: [1\n")
    with pytest.raises(ValueError, match=rf"^{tmp_path}/a.yaml is not YAML: "):
        read_configuration(tmp_path / "a.yaml")


# what it names


def test_stimuli_and_rows_must_be_the_same(study: dict[str, Any], tmp_path: Path) -> None:
    (tmp_path / "images" / "cup.png").unlink()
    with pytest.raises(ValueError) as error:
        load_inputs(checked(study))
    assert str(error.value) == (
        f"{tmp_path}/one.nc and the stimuli differ: no image for 'cup'; nothing is left out unasked: take the same "
        "stimuli in both (brainrdl.select_stimuli)"
    )


def test_a_category_for_every_stimulus(study: dict[str, Any], tmp_path: Path) -> None:
    table = pd.read_csv(tmp_path / "categories.csv")
    table[table["stimulus"] != "cup"].to_csv(tmp_path / "categories.csv", index=False)
    with pytest.raises(ValueError) as error:
        load_inputs(checked(study))
    assert str(error.value) == f"{tmp_path}/categories.csv has no category for 1 of 18 stimuli: 'cup'"


def test_an_unknown_region(study: dict[str, Any], tmp_path: Path) -> None:
    study["studies"]["one"]["roi"] = "V4"
    with pytest.raises(ValueError) as error:
        load_inputs(checked(study))
    assert str(error.value) == f"{tmp_path}/one.nc has no region 'V4'; it has IT"


def test_rows_in_another_order_are_joined_by_id(study: dict[str, Any], tmp_path: Path) -> None:
    before = load_inputs(checked(study)).studies["one"]
    rdms = rdl.read_rdms(tmp_path / "one.nc")
    rdl.write_rdms(rdl.select_stimuli(rdms, rdms["stimulus"].values[::-1].tolist()), tmp_path / "one.nc")
    xr.testing.assert_equal(load_inputs(checked(study)).studies["one"], before)


def test_stimuli_become_what_the_task_images_are(study: dict[str, Any]) -> None:
    inputs = load_inputs(checked(study))
    images, ids = inputs.stimuli.batch()
    assert images.shape == (N, 1, 8, 8)
    assert ids == tuple(sorted(name for names in CATEGORIES.values() for name in names))
    assert inputs.thumbnails.shape == (N, 32, 32, 3)
    assert inputs.task is not None
    # set aside for validation are the last training images, and they are not trained on
    assert not set(inputs.task.training.ids) & set(inputs.task.validation.ids)


# targets


def target() -> tuple[xr.DataArray, dict[str, str]]:
    rng = np.random.default_rng(1)
    ids = [f"{category}{number}" for category in "ab" for number in range(4)]
    rdms = rdl.label_rdms(rng.random((2, 28)), ids, ["x", "y"], "correlation", {"subject": ["x", "y"]})
    return rdms, {stimulus: stimulus[0] for stimulus in ids}


def test_a_training_target_holds_no_other_stimuli() -> None:
    rdms, _ = target()
    split = Split("s", "1", ("a0", "b1", "a3"), ("a1", "a2", "b0"))
    assert training_target(rdms, split)["stimulus"].values.tolist() == ["a0", "b1", "a3"]


def test_the_category_target_is_the_mean_of_each_block() -> None:
    rdms, categories = target()
    found = category_target(rdms, categories)
    for before, after in zip(rdms.values, found.values, strict=True):
        within = before[:4, :4][np.triu_indices(4, 1)].mean()
        np.testing.assert_allclose(after[:4, :4][np.triu_indices(4, 1)], within, atol=1e-12)
        np.testing.assert_allclose(after[:4, 4:], before[:4, 4:].mean(), atol=1e-12)
    assert found.attrs["metric"] == "correlation"


@pytest.mark.parametrize("within", [True, False])
def test_a_shuffled_target_moves_whole_stimuli(within: bool) -> None:
    rdms, categories = target()
    found = shuffled_target(rdms, categories if within else None, 3)
    for before, after in zip(condense(rdms), condense(found), strict=True):
        assert np.sort(before).tolist() == np.sort(after).tolist()
    assert not np.array_equal(found.values, rdms.values)
    if within:  # the blocks keep their distances
        np.testing.assert_allclose(np.sort(found.values[0, :4, 4:].ravel()), np.sort(rdms.values[0, :4, 4:].ravel()))
    order = rdms["stimulus"].values[::-1].tolist()
    again = shuffled_target(rdl.select_stimuli(rdms, order), categories if within else None, 3)
    xr.testing.assert_equal(rdl.select_stimuli(again, rdms["stimulus"].values.tolist()), found)


# one fit


def test_a_student_moves_toward_its_target_and_only_what_is_unfrozen(study: dict[str, Any]) -> None:
    study["fit"] |= {"unfrozen": ["conv2"], "updates": [5, 40], "learning_rate": 0.05}
    configuration = checked(study)
    inputs = load_inputs(configuration)
    split = stratified_splits(inputs.categories, 2)[0]
    student = make_student(configuration, 0)
    before = {name: value.clone() for name, value in student.named_parameters()}
    found = fit_student(
        student,
        training_target(inputs.studies["one"], split),
        Plan("pool2", 5.0, (5, 40), 0),
        configuration=configuration,
        inputs=inputs,
        fabric=Fabric(accelerator="cpu", devices=1),
    )
    moved = {name.partition(".")[0] for name, value in student.named_parameters() if not value.equal(before[name])}
    assert moved == {"conv2"}
    assert [snapshot.updates for snapshot in found.snapshots] == [5, 40]
    assert found.fitted_to == split.training
    assert found.history["update"].tolist() == list(range(5, 41, 5))
    assert found.history["rdm_loss"].iloc[-1] < 0.8 * found.history["rdm_loss"].iloc[0]
    model = rdl.layer_rdms(found.model, inputs.stimuli, ["pool2"], "correlation")
    np.testing.assert_allclose(found.snapshots[-1].rdms["pool2"], condense(model)[0], atol=1e-12)


@pytest.mark.parametrize("size", [None, 4, N - 1])
def test_the_brain_alone_can_be_fitted(study: dict[str, Any], tmp_path: Path, size: int | None) -> None:
    rdl.save_model(make_student(checked(study), 5), tmp_path / "w.safetensors")
    study["student"] |= {"weights": str(tmp_path / "w.safetensors")}
    study |= {"task": None}
    study["fit"] |= {"norm": "own", "stimuli_per_update": size}
    configuration = checked(study)
    inputs = load_inputs(configuration)
    # without a task nothing says that the network takes grey images
    grey = torch.rand(N, 1, 8, 8)
    stimuli = rdl.StimulusSet.from_arrays(grey, inputs.stimuli.ids)
    inputs = type(inputs)(**{**vars(inputs), "stimuli": stimuli})
    steps: list[object] = []
    hook = register_optimizer_step_post_hook(lambda optimizer, *_: steps.append(optimizer))
    try:
        found = fit_student(
            make_student(configuration, 0),
            inputs.studies["one"],
            Plan("pool2", 1.0, (2, 6, 10), 0),
            configuration=configuration,
            inputs=inputs,
            fabric=Fabric(accelerator="cpu", devices=1),
        )
    finally:
        hook.remove()
    # whatever a pass over the stimuli takes
    assert len(steps) == 10
    assert [snapshot.updates for snapshot in found.snapshots] == [2, 6, 10]
    assert found.history["update"].tolist() == [2, 4, 6, 8, 10]
    assert np.isnan(found.snapshots[0].task_error)


# before anything is trained


def test_a_network_with_a_transform_gets_its_own_normalisation(study: dict[str, Any], tmp_path: Path) -> None:
    network = load_named_model("torchvision:squeezenet1_1", untrained=True).model
    rdl.save_model(network, tmp_path / "w.safetensors")
    study |= {"task": None, "early_visual": None, "arms": ["task_only", "rdl"]}
    study["student"] = {"model": "torchvision:squeezenet1_1", "weights": str(tmp_path / "w.safetensors")}
    study["fit"]["layers"] = ["features.3"]
    with pytest.raises(ValueError) as error:
        describe_plan(checked(study))
    assert str(error.value) == (
        "student.image_size is 32, and torchvision:squeezenet1_1 has a transform of its own, with a size and a "
        "normalisation; write image_size: null to use it, or name a function of yours that returns the network and the "
        "transform that you want"
    )
    study["student"]["image_size"] = None
    describe_plan(checked(study))
    images, _ = load_inputs(checked(study)).stimuli.batch([0])
    assert images.shape == (1, 3, 224, 224)
    assert images.min() < -0.5


# a whole study


def test_a_study_from_its_file_to_its_report(
    study: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    told: list[str] = []
    report = fit(checked(study), out, machine=QUIET, command="brainrdl fit small.yaml", log=told.append)
    assert report == out / "report.html"
    scores = pd.read_csv(out / "scores.csv")
    assert set(scores["arm"]) == {*ARMS, *TRAINED}
    assert set(scores["score"]) == {"raw", "partial", "within_category"}
    assert set(scores["scored_study"]) == {"one", "two"}
    counts = scores.groupby("scheme")["split"].nunique().to_dict()
    assert counts == {"stratified": 2, "leave_one_category_out": 3, "random": 2}
    # nine stimuli are held out, and six of a category: so many pairs, and never one more
    assert scores.groupby("scheme")["n_pairs"].unique().map(list).to_dict() == {
        "stratified": [36],
        "leave_one_category_out": [15],
        "random": [36],
    }
    assert not {*TRAINED} & set(scores.loc[scores["scheme"] == "random", "arm"])
    manifest = json.loads((out / "manifest.json").read_text())
    assert manifest["configuration_hash"] == configuration_hash(checked(study))
    contrasts = pd.read_csv(out / "contrasts.csv")
    primary = contrasts[contrasts["primary"]]
    assert primary[["a", "b", "scored_study", "scheme"]].drop_duplicates().to_numpy().tolist() == [
        ["rdl", "task_only", "two", "stratified"]
    ]
    assert sorted(primary["score"]) == ["partial", "raw", "within_category"]

    # the page: the study's own controls stand before their mixture, and what has no steps is told without
    text = report.read_text(encoding="utf-8")
    arms = text.index("what it is")
    assert text.index(">size<", arms) < text.index(">hue<", arms) < text.index(">mixture of controls<", arms)
    assert "A control RDM that the study&#39;s file names." in text
    assert "ridge" in text
    assert not re.search(r"ridge [\d.]+, \d+ steps", text)
    titles = [axes.get_title() for axes in rdm_figure(read_fit(out).rdms).axes]
    assert {"before: start network", "after: task only", "after: RDL"} <= set(titles)

    # what was fitted to the brain is left, and answers as it was scored
    kept = sorted(str(path.relative_to(out / "models")) for path in (out / "models").rglob("*.safetensors"))
    places = ["leave_one_category_out/flat", "leave_one_category_out/long", "leave_one_category_out/round"]
    places += ["stratified/fold-1", "stratified/fold-2"]
    assert kept == [f"one/{place}/rdl-seed{seed}.safetensors" for place in places for seed in (0, 1)]
    stimuli = load_inputs(checked(study)).stimuli
    for name in kept:
        manifest = read_manifest(out / "models" / name)
        outcome = load_outcome(out / "fits" / name.replace("safetensors", "npz"))
        fitted = load_fitted(out / "models" / name, factory=small_student.make)
        rdms = rdl.layer_rdms(fitted, stimuli, [manifest["layer"]], "correlation")
        np.testing.assert_allclose(condense(rdms)[0], outcome.rdm, atol=1e-12)
        assert manifest["fitted_to"] == list(outcome.fitted_to)
        assert set(manifest["held_out"]) == {*stimuli.ids} - {*outcome.fitted_to}
        assert manifest["configuration_hash"] == configuration_hash(checked(study))
        assert (manifest["setting"], manifest["task_error"]) == (outcome.setting, outcome.task_error)

    # again: nothing is fitted twice, and everything is the same
    before = {path: path.stat().st_mtime_ns for path in (out / "fits").rglob("*.npz")}
    again: list[str] = []
    fit(checked(study), out, machine=QUIET, command="brainrdl fit small.yaml", log=again.append)
    assert {path: path.stat().st_mtime_ns for path in (out / "fits").rglob("*.npz")} == before
    pd.testing.assert_frame_equal(pd.read_csv(out / "scores.csv"), scores)
    assert not [line for line in again if "task error" in line]

    # fits that are lost are made again, bitwise
    lost = sorted((out / "fits").rglob("rdl-seed1.npz"))[0]
    lost.unlink()
    fit(checked(study), out, machine=QUIET, command="brainrdl fit small.yaml", log=again.append)
    pd.testing.assert_frame_equal(pd.read_csv(out / "scores.csv"), scores)

    # another configuration does not get in
    with pytest.raises(ValueError, match="holds a study with another configuration: "):
        fit(checked(changed(study, resamples=200)), out, machine=QUIET)


def test_a_file_that_holds_no_fitted_network(tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    with pytest.raises(FileNotFoundError) as missing:
        load_fitted(path)
    assert str(missing.value) == (
        f"there is no file {path}; brainrdl fit leaves models/<study>/<scheme>/<split>/rdl-seed<n>.safetensors in its "
        "folder"
    )
    rdl.save_model(torch.nn.Linear(2, 1), path)
    with pytest.raises(ValueError) as other:
        load_fitted(path)
    assert str(other.value) == f"{path} holds no network that brainrdl fit fitted; load_model opens others"
    path.write_bytes(b"nothing")
    with pytest.raises(ValueError, match=rf"^{path} is not a safetensors file, or is damaged: "):
        load_fitted(path)
    for student in ({"modell": "x"}, {"model": ["os:abort"]}, ["os:abort"], None):
        rdl.save_model(torch.nn.Linear(2, 1), path, {"student": student, "fitted_to": []})
        with pytest.raises(ValueError) as unnamed:
            load_fitted(path)
        assert str(unnamed.value) == f"{path} does not say which network was fitted (student.model); give factory="


def _named(path: Path, model: str, network: torch.nn.Module) -> Path:
    rdl.save_model(network, path, {"student": {"model": model}, "fitted_to": []})
    return path


@pytest.mark.parametrize(
    "model",
    [
        "stranger:net",
        "os:abort",
        "brainrdl.models:deepcopy",
        "brainrdl.models:_convolution",
        "brainrdl.models:nn",
        "brainrdl.models:nin.__code__",
        "brainrdl.named_models:load_named_model",
        "torchvision:fasterrcnn_resnet50_fpn",  # which would download weights
        "torchvision:../stranger",
        "stranger",
        "",
    ],
)
def test_a_fitted_networks_file_runs_no_code(model: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "stranger.py").write_text(
        "from pathlib import Path\nPath('ran').touch()\ndef net(): Path('ran').touch()\n"
    )
    monkeypatch.chdir(tmp_path)
    path = _named(tmp_path / "a.safetensors", model, torch.nn.Linear(2, 2))
    with pytest.raises(ValueError) as refused:
        load_fitted(path)
    assert str(refused.value) == (
        f"{path} was fitted from {model!r}, and a file may not name code that is run: by name, only the networks of "
        "brainrdl.models and the classifiers of torchvision are made; if you trust that function, import it and give "
        "it as factory="
    )
    assert not (tmp_path / "ran").exists()
    assert "stranger" not in sys.modules


def test_a_fitted_network_of_another_function_is_made_by_the_caller(tmp_path: Path) -> None:
    network = torch.nn.Linear(2, 2)
    path = _named(tmp_path / "a.safetensors", "stranger:net", network)
    for factory in (lambda: torch.nn.Linear(2, 2), lambda: (torch.nn.Linear(2, 2), None)):
        assert torch.equal(load_fitted(path, factory=factory).weight, network.weight)
    with pytest.raises(TypeError, match=r"^factory is a Linear; expected a function that makes a module"):
        load_fitted(path, factory=network)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "model", ["brainrdl.models:mnist_cnn", "brainrdl.models:cifar_cnn", "torchvision:squeezenet1_1"]
)
def test_fitted_networks_of_the_package_and_of_torchvision_load_by_name(model: str, tmp_path: Path) -> None:
    network = load_named_model(model, untrained=True).model
    found = load_fitted(_named(tmp_path / "a.safetensors", model, network))
    assert not found.training
    assert all(torch.equal(value, network.state_dict()[name]) for name, value in found.state_dict().items())


def test_the_same_whatever_the_order_of_images_and_rows(study: dict[str, Any], tmp_path: Path) -> None:
    study |= {"seeds": 1, "arms": ["mixture", "task_only", "rdl"]}
    study["schemes"] |= {"leave_one_category_out": False, "random": 0}
    fit(checked(study), tmp_path / "a", machine=QUIET, log=lambda line: None)
    for name in ("one", "two"):
        rdms = rdl.read_rdms(tmp_path / f"{name}.nc")
        rdl.write_rdms(rdl.select_stimuli(rdms, rdms["stimulus"].values[::-1].tolist()), tmp_path / f"{name}.nc")
    fit(checked(study), tmp_path / "b", machine=QUIET, log=lambda line: None)
    pd.testing.assert_frame_equal(
        pd.read_csv(tmp_path / "a" / "scores.csv"), pd.read_csv(tmp_path / "b" / "scores.csv")
    )


def test_the_command(study: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["fit", str(tmp_path / "new.yaml"), "--init"]) == 0
    assert capsys.readouterr().out == f"written: {tmp_path}/new.yaml\n"
    path = tmp_path / "study.yaml"
    path.write_text(json.dumps(study))  # JSON is YAML
    assert main(["fit", str(path), "--check"]) == 0
    told = capsys.readouterr().out
    *plan, hours = told.splitlines()
    assert "\n".join(plan) == describe_plan(checked(study))
    assert hours.startswith("time: about ")
    assert "study two: 3 RDMs, scored" in told
    assert "splits: 2 stratified, 3 leave_one_category_out, 2 random" in told
    assert main(["fit", str(path), "--threads", "0"]) == 2
    assert capsys.readouterr().err == "brainrdl: --threads must be at least 1, got 0\n"


def test_arms_that_cannot_be_run(study: dict[str, Any]) -> None:
    configuration = checked(changed(study, arms=["rdl", "monkey_it"]))
    with pytest.raises(ValueError) as unknown:
        describe_plan(configuration)
    assert str(unknown.value) == (
        "arms names 'monkey_it', which this study cannot run; it can: size, hue, mixture, untrained, start, task_only, "
        "frrsa, gains, low_rank, readout, rdl, rdl_category, rdl_within_shuffle, rdl_global_shuffle, rdl_early_visual"
    )
    with pytest.raises(ValueError) as lacking:
        describe_plan(checked(changed(study, arms=["rdl"])))
    assert str(lacking.value) == "arms lacks 'task_only', which the primary contrast needs; add it"
