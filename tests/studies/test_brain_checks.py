"""What a study refuses before its first update, and what it makes of files that changed or are damaged."""

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import xarray as xr
from lightning_fabric import Fabric
from PIL import Image

import brainrdl as rdl
from brainrdl.inference.splits import stratified_splits
from brainrdl.studies.brain.arms import arms_of, outcomes
from brainrdl.studies.brain.checks import checksums
from brainrdl.studies.brain.configuration import checked
from brainrdl.studies.brain.inputs import load_inputs
from brainrdl.studies.brain.outcomes import Outcome, load_outcome, save_outcome
from brainrdl.studies.brain.runs import FitRuns
from brainrdl.studies.brain.scores import score_scheme
from brainrdl.studies.brain.study import Machine, describe_plan, fit
from brainrdl.studies.brain.task_networks import make_student
from brainrdl.studies.inputs import CardRequest, read_inputs
from small_study import write_study

HERE = Path(__file__).parents[1]
QUIET = Machine("cpu", "32-true", 1)


@pytest.fixture
def study(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    monkeypatch.syspath_prepend(str(HERE))
    return write_study(tmp_path)


def refused(study: dict[str, Any]) -> str:
    with pytest.raises((ValueError, FileNotFoundError)) as error:
        describe_plan(checked(study))
    return str(error.value)


def small(study: dict[str, Any]) -> dict[str, Any]:
    """As little as there can be of it."""
    study |= {"seeds": 1, "arms": ["size", "untrained", "task_only", "frrsa", "rdl"]}
    study["schemes"] |= {"leave_one_category_out": False, "random": 0}
    study["fit"] |= {"alphas": [1.0], "updates": [2]}
    return study


def rewrite(path: Path, change: Callable[[xr.DataArray], xr.DataArray]) -> None:
    rdl.write_rdms(change(rdl.read_rdms(path)), path)


def categories(folder: Path, change: Callable[[pd.DataFrame], pd.DataFrame]) -> None:
    change(pd.read_csv(folder / "categories.csv", keep_default_na=False)).to_csv(folder / "categories.csv", index=False)


# before the first update


def test_one_measurement_in_two_studies_is_refused(study: dict[str, Any], tmp_path: Path) -> None:
    before = json.loads(json.dumps(study))
    # one person of study one among those of study two, under another name and in another unit
    own = rdl.read_rdms(tmp_path / "one.nc").isel(rdm=[1])
    rewrite(
        tmp_path / "two.nc",
        lambda rdms: rdms.copy(data=np.concatenate([rdms.values[:2], own.values / 2])),
    )
    end = "what is fitted to it would be scored against itself: name other RDMs"
    assert refused(study) == (
        f"studies.one and studies.two hold the same measurement, of subject 'one-1' and as 'two-2'; {end}"
    )
    before["studies"].pop("two")
    before["early_visual"]["rdms"] = before["studies"]["one"]["rdms"]
    before["primary"] |= {"scored": "one"} if "scored" in before["primary"] else {}
    assert refused(before) == (
        f"studies.one and early_visual hold the same measurement, of subject 'one-0' and as 'one-0'; {end}"
    )


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        (
            "fit.layers",
            ["pool1", "pol2"],
            "small_student:make cannot be asked for fit.layers pool1, pol2 on stimuli of shape (1, 8, 8): Sequential "
            "has no layer 'pol2'; did you mean 'pool2' or 'pool1'?",
        ),
        (
            "fit.unfrozen",
            ["conv9"],
            "fit.unfrozen names 'conv9', with which no parameter of small_student:make begins; they are "
            "conv1.0.weight, conv1.0.bias, conv1.1.weight, conv1.1.bias, conv2.0.weight, conv2.0.bias, linear.weight, "
            "linear.bias",
        ),
        (
            "student.image_size",
            7,
            "small_student:make cannot be asked for fit.layers pool1, pool2 on stimuli of shape (1, 7, 7): mat1 and "
            "mat2 shapes cannot be multiplied (2x12 and 48x10); student.image_size is the size of the stimuli: give "
            "the one that the network takes",
        ),
        (
            "student.model",
            "small_student:make_two",
            "small_student:make_two returns for an image (2,), and the task has 10 classes; expected at least (10,)",
        ),
        (
            "fit.stimuli_per_update",
            6,
            "fit.stimuli_per_update is 6, and split 'inner-1' of scheme 'inner' has 4 training stimuli; lower it, or "
            "leave it out to show all of them",
        ),
        (
            "schemes.inner",
            4,
            "schemes.inner is 4, too many for split 'fold-1' of scheme 'stratified': split 'inner-2' of scheme "
            "'inner' holds out 2 of 9 stimuli; at least 3 must be held out and 3 left to fit: split into fewer or "
            "larger parts",
        ),
        (
            "schemes.stratified",
            10,
            "schemes.stratified cannot be had of these stimuli: split 'fold-1' of scheme 'stratified' holds out 2 of "
            "18 stimuli; at least 3 must be held out and 3 left to fit: split into fewer or larger parts",
        ),
        (
            "task.limit",
            20,
            "task.validation sets 100 of 1000 images of digits aside, and task.limit takes 20 of the rest: fewer are "
            "left to train on than a batch of 50 (task.batch_size, fit.task_batch); change one of them",
        ),
    ],
)
def test_what_would_fail_hours_later_is_refused_at_once(
    study: dict[str, Any], field: str, value: object, message: str
) -> None:
    part, name = field.split(".")
    study[part][name] = value
    found = refused(study)
    assert found.replace("addmm: ", "") == message  # torch's word for the product, in some of its versions


def test_two_stimuli_may_not_be_one_image(study: dict[str, Any], tmp_path: Path) -> None:
    shutil.copy(tmp_path / "images" / "cup.png", tmp_path / "images" / "jar.png")
    assert refused(study) == (
        "stimuli 'cup' and 'jar' are the same image to the network: fitted to one, it would be scored on the other; "
        "leave one out, or raise student.image_size if they differ in what that takes away"
    )


def test_nor_on_a_card(study: dict[str, Any], tmp_path: Path) -> None:
    shutil.copy(tmp_path / "images" / "cup.png", tmp_path / "images" / "jar.png")
    request = CardRequest("small_student:make", ("pool1",), tmp_path / "images", tmp_path / "one.nc")
    with pytest.raises(ValueError) as error:
        read_inputs(request)
    assert str(error.value) == (
        "stimuli 'cup' and 'jar' are the same image to the network: fitted to one, it would be scored on the other; "
        "leave one out of the images and the RDMs"
    )


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (
            ("a b", "a-b", "c"),
            "the splits of scheme 'leave_one_category_out': 'a b' and 'a-b' would be kept in one file; rename one of "
            "them",
        ),
        (
            ("Face", "face", "c"),
            "the splits of scheme 'leave_one_category_out': 'Face' and 'face' would be kept in one file; rename one "
            "of them",
        ),
        (
            ("x" * 101, "b", "c"),
            f"the splits of scheme 'leave_one_category_out': {'x' * 101!r} is too long for the name of a file; "
            "shorten it",
        ),
    ],
)
def test_two_splits_are_never_kept_in_one_file(
    study: dict[str, Any], tmp_path: Path, names: tuple[str, ...], message: str
) -> None:
    categories(tmp_path, lambda table: table.assign(category=np.repeat(names, 6)))
    assert refused(study) == message


@pytest.mark.parametrize(
    ("of", "message"),
    [
        (
            [f"category {number}" for number in range(18)],
            "the training stimuli of split 'fold-1' of scheme 'stratified' are of a category each, so that a shuffle "
            "within categories leaves the brain's RDM as it is; leave rdl_within_shuffle out of arms, or take larger "
            "categories",
        ),
        (
            ["a"] * 9 + ["b"] * 9,
            "the training stimuli of split 'a' of scheme 'leave_one_category_out' are of one category, so that a "
            "category target is constant; leave rdl_category out of arms, or schemes.leave_one_category_out",
        ),
        (
            ["one"] + ["a"] * 9 + ["b"] * 8,
            "schemes.leave_one_category_out cannot be had of these stimuli: split 'one' of scheme "
            "'leave_one_category_out' holds out 1 of 18 stimuli; at least 3 must be held out and 3 left to fit: split "
            "into fewer or larger parts",
        ),
    ],
)
def test_categories_that_make_no_control_or_split(
    study: dict[str, Any], tmp_path: Path, of: list[str], message: str
) -> None:
    study["schemes"]["leave_one_category_out"] = len(set(of)) < 18
    categories(tmp_path, lambda table: table.assign(category=of))
    assert refused(study) == message


def test_a_category_may_be_called_none_but_not_nothing(study: dict[str, Any], tmp_path: Path) -> None:
    categories(tmp_path, lambda table: table.replace({"category": {"flat": "None"}}))
    assert load_inputs(checked(study)).categories["disc"] == "None"
    categories(tmp_path, lambda table: table.assign(category=["", *table["category"][1:]]))
    assert refused(study) == f"{tmp_path}/categories.csv: line 2 lacks a stimulus or its category"
    (tmp_path / "categories.csv").write_text("")
    assert refused(study) == (f"{tmp_path}/categories.csv has the columns none; expected stimulus and category")


def constant(rdms: xr.DataArray) -> xr.DataArray:
    values = rdms.values.copy()
    values[1] = 1 - np.eye(len(values[1]))
    return rdms.copy(data=values)


def unmeasured(rdms: xr.DataArray) -> xr.DataArray:
    """The first subject has seen nothing but four stimuli."""
    values = rdms.values.copy()
    values[0, 4:], values[0, :, 4:] = np.nan, np.nan
    values[0][np.diag_indices(len(values[0]))] = 0
    return rdms.copy(data=values)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda rdms: rdms.drop_vars("subject"),
            "studies.one, FOLDER/one.nc: no coordinate 'subject' along 'rdm' to tell subjects apart; there are: "
            "'rdm', 'roi'; add it: rdms.assign_coords(subject=('rdm', [...]))",
        ),
        (
            constant,
            "studies.one, FOLDER/one.nc: the 153 measured distances of subject 'one-1' do not vary, so that nothing "
            "can be compared with them; leave the subject out",
        ),
        (
            unmeasured,
            "studies.one: subject 'one-0' has 0 measured pairs of those that are chosen by in split 'fold-1' of scheme "
            "'stratified' (inner-1); choices need at least 2",
        ),
    ],
)
def test_rdms_that_cannot_be_scored(
    study: dict[str, Any], tmp_path: Path, change: Callable[[xr.DataArray], xr.DataArray], message: str
) -> None:
    rewrite(tmp_path / "one.nc", change)
    assert refused(study).replace(str(tmp_path), "FOLDER") == message


def test_a_mixture_needs_complete_controls(study: dict[str, Any], tmp_path: Path) -> None:
    rewrite(tmp_path / "hue.nc", unmeasured)
    study["schemes"]["stratified"] = 2
    assert refused(study) == (
        "controls.hue has 147 unmeasured pairs, and a mixture needs all of them; complete it, or leave mixture out of "
        "arms"
    )


# data that change


def test_checksums_are_of_what_is_in_the_files_not_of_its_order(study: dict[str, Any], tmp_path: Path) -> None:
    before = checksums(checked(study), load_inputs(checked(study)))
    rewrite(
        tmp_path / "one.nc",
        lambda rdms: rdl.select_stimuli(rdms, rdms["stimulus"].values[::-1].tolist()).isel(rdm=[2, 0, 1]),
    )
    categories(tmp_path, lambda table: table[::-1])
    backwards = dict(reversed(study.items()))
    assert checksums(checked(backwards), load_inputs(checked(backwards))) == before


def test_a_study_goes_on_with_the_data_it_began_with(study: dict[str, Any], tmp_path: Path) -> None:
    small(study)
    rdl.save_model(make_student(checked(study), 5), tmp_path / "weights.safetensors")
    study["student"]["weights"] = str(tmp_path / "weights.safetensors")
    fit(checked(study), tmp_path / "out", machine=QUIET, log=lambda line: None)
    manifest = json.loads((tmp_path / "out" / "manifest.json").read_text())
    assert manifest["inputs"] == checksums(checked(study), load_inputs(checked(study)))

    rewrite(tmp_path / "one.nc", lambda rdms: rdms.copy(data=rdms.values / 2))
    rewrite(tmp_path / "size.nc", lambda rdms: rdms.copy(data=rdms.values * 2))
    Image.open(tmp_path / "images" / "cup.png").rotate(90).save(tmp_path / "images" / "cup.png")
    categories(tmp_path, lambda table: table.replace({"category": {"flat": "even"}}))
    rdl.save_model(make_student(checked(study | {"seeds": 1}), 6, trained=False), tmp_path / "weights.safetensors")
    with pytest.raises(ValueError) as error:
        fit(checked(study), tmp_path / "out", machine=QUIET, log=lambda line: None)
    files = f"stimuli ({tmp_path}/images), categories ({tmp_path}/categories.csv), student "
    files += f"({study['student']['model']}, {tmp_path}/weights.safetensors), "
    files += f"controls ({{'size': '{tmp_path}/size.nc', 'hue': '{tmp_path}/hue.nc'}})"
    assert str(error.value) == (
        f"{tmp_path}/out holds a study of other data, which have changed since it began: {files}, studies.one "
        f"({tmp_path}/one.nc). Restore them to resume it, or give another out="
    )


def test_with_given_weights_the_untrained_network_is_still_untrained(study: dict[str, Any], tmp_path: Path) -> None:
    plain = checked(small(study))
    rdl.save_model(make_student(plain, 5), tmp_path / "weights.safetensors")
    study["student"]["weights"] = str(tmp_path / "weights.safetensors")
    configuration = checked(study)
    weight = "linear.weight"
    given = make_student(configuration, 0).state_dict()[weight]
    untrained = make_student(configuration, 0, trained=False).state_dict()[weight]
    assert given.equal(make_student(plain, 5).state_dict()[weight])
    assert untrained.equal(make_student(plain, 0).state_dict()[weight])


# files that are damaged, or of another fit


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, Any], Path]:
    """A study that is done."""
    folder = tmp_path_factory.mktemp("finished")
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(HERE))
        study = small(write_study(folder))
        fit(checked(study), folder / "out", machine=QUIET, log=lambda line: None)
    return study, folder / "out"


FOLD = "one/stratified/fold-"


@pytest.mark.parametrize(
    ("file", "content", "message"),
    [
        (
            "networks/task-seed0.safetensors",
            b"",
            "OUT/networks/task-seed0.safetensors is damaged (Error while deserializing header: header too small); "
            "remove it to have the network trained again",
        ),
        (
            f"fits/{FOLD}1/rdl-seed0.npz",
            b"",
            f"OUT/fits/{FOLD}1/rdl-seed0.npz is damaged (No data left in file); remove it to have the fit made again",
        ),
        (
            f"fits/{FOLD}1/rdl-seed0.npz",
            f"fits/{FOLD}2/rdl-seed0.npz",
            f"fits/{FOLD}1/rdl-seed0.npz holds another fit: rdl, seed 0, of 9 stimuli; expected rdl, seed 0, of the 9 "
            "training stimuli of split 'fold-1'; remove it to have the fit made again",
        ),
        (
            f"choices/{FOLD}1/rdl.json",
            b"[",
            f"OUT/choices/{FOLD}1/rdl.json is damaged (Expecting value: line 2 column 1 (char 1)); restore it, or "
            "remove it to have it made again",
        ),
        (
            f"choices/{FOLD}1/rdl.json",
            b"[]",
            f"OUT/choices/{FOLD}1/rdl.json says of none of 0 tries that it was chosen; remove it to choose again",
        ),
        (
            f"choices/{FOLD}1/rdl.json",
            f"choices/{FOLD}2/rdl.json",
            f"choices/{FOLD}1/rdl.json is of another split, [['one', 'stratified', 'fold-2']]; remove it to choose "
            "again",
        ),
        (
            f"choices/{FOLD}1/frrsa-seed0.json",
            b"{}",
            f"OUT/choices/{FOLD}1/frrsa-seed0.json holds a dict, expected a list; it is another file",
        ),
    ],
)
def test_a_damaged_file_is_named(
    finished: tuple[dict[str, Any], Path],
    monkeypatch: pytest.MonkeyPatch,
    file: str,
    content: bytes | str,
    message: str,
) -> None:
    study, out = finished
    monkeypatch.syspath_prepend(str(HERE))
    whole = (out / file).read_bytes()
    (out / file).write_bytes(content if isinstance(content, bytes) else (out / content).read_bytes())
    try:
        with pytest.raises(ValueError) as error:
            fit(checked(study), out, machine=QUIET, log=lambda line: None)
    finally:
        (out / file).write_bytes(whole)
    found = str(error.value).replace(str(out), "OUT")
    assert found.replace("line 1 column 2", "line 2 column 1") == message  # of the same place, in some Pythons


def test_any_change_of_a_kept_fit_is_noticed(tmp_path: Path) -> None:
    path = tmp_path / "fit.npz"
    history = pd.DataFrame({"update": [1, 2], "task_loss": [0.5, 0.25]})
    save_outcome(Outcome("rdl", 1, np.arange(3.0), ("a", "b", "c"), "pool1", {"alpha0": 1.0}, 5.0, history), path)
    whole, rng = path.read_bytes(), np.random.default_rng(0)
    as_written = load_outcome(path)
    for _ in range(300):
        broken = bytearray(whole)
        broken[rng.integers(len(whole))] ^= 1 << rng.integers(8)
        path.write_bytes(broken[: rng.integers(len(whole))] if rng.random() < 0.3 else broken)
        try:
            found = load_outcome(path)
        except ValueError as error:
            assert str(error).startswith(f"{path} is damaged (")  # noqa: PT017 - what does not fail is looked at too
        else:  # the bit meant nothing
            assert found.rdm.tolist() == as_written.rdm.tolist()
            assert (found.arm, found.seed, found.fitted_to) == ("rdl", 1, ("a", "b", "c"))


def test_names_lead_nowhere(study: dict[str, Any], tmp_path: Path) -> None:
    configuration = checked(study)
    runs = FitRuns(configuration, load_inputs(configuration), None, tmp_path)  # type: ignore[arg-type]
    split = stratified_splits(runs.inputs.categories, 2)[0]
    named = type(split)("s", "../a b", split.training, split.held_out)
    assert runs.place("..", named) == "%2E%2E/s/%2E%2E%2Fa-b"


# scores


def test_a_network_that_collapsed_takes_no_pairs_from_others(study: dict[str, Any]) -> None:
    configuration = checked(study)
    inputs = load_inputs(configuration)
    splits = stratified_splits(inputs.categories, 2)
    rng = np.random.default_rng(0)
    models = {arm: rng.random(153) for arm in ("rdl", "task_only")}

    def scored(collapsed: np.ndarray) -> tuple[pd.DataFrame, list[dict[str, Any]]]:
        folds = {
            split: [
                Outcome("rdl", 0, np.where(collapsed, np.nan, models["rdl"]), split.training, "pool1"),
                Outcome("task_only", 0, models["task_only"], split.training, "pool1"),
            ]
            for split in splits
        }
        found = score_scheme(folds, configuration, inputs, fitted="one", scored="two")
        return found.scores.set_index(["arm", "split", "score"]).sort_index(), found.collapsed

    table, told = scored(np.zeros(153, dtype=bool))
    dead, died = scored(np.ones(153, dtype=bool))
    assert not told
    assert [one["pairs"] for one in died] == [153, 153]
    assert set(dead["n_pairs"]) == {36}
    pd.testing.assert_frame_equal(table.loc[["task_only"]], dead.loc[["task_only"]])
    values = dead.loc["rdl", "value"].groupby("score").agg(list)
    assert np.isnan([values["raw"], values["partial"], values["within_category"]]).all()


# leaks


def test_nothing_of_held_out_pairs_reaches_a_fit_or_a_choice(study: dict[str, Any], tmp_path: Path) -> None:
    study |= {"seeds": 1}  # the slower heads have tests of their own
    configuration = checked(study)
    inputs = load_inputs(configuration)
    split = stratified_splits(inputs.categories, 2)[0]
    rng = np.random.default_rng(5)

    def other(rdms: xr.DataArray) -> xr.DataArray:
        """Other distances wherever one of the two stimuli is held out."""
        seen = rdms["stimulus"].isin(split.training).to_numpy()
        noise = rng.random(rdms.shape)
        noise = (noise + noise.swapaxes(1, 2)) * (1 - np.eye(len(seen)))
        return rdms.copy(data=np.where(seen[:, None] & seen, rdms.values, noise))

    changed = replace(
        inputs,
        studies={name: other(rdms) for name, rdms in inputs.studies.items()},
        early_visual=other(inputs.early_visual),
    )
    told: list[str] = []
    found = []
    for name, read in (("as-it-is", inputs), ("changed", changed)):
        runs = FitRuns(configuration, read, Fabric(accelerator="cpu", devices=1), tmp_path / name, told.append)
        found.append(list(outcomes(runs, arms_of(configuration, read), "one", split)))
    assert [(one.arm, one.layer, one.setting) for one in found[0]] == [
        (one.arm, one.layer, one.setting) for one in found[1]
    ]
    assert [one.arm for one in found[0]] == study["arms"]
    for before, after in zip(*found, strict=True):
        np.testing.assert_array_equal(before.rdm, after.rdm, err_msg=before.arm)
    tables = [sorted((tmp_path / name / "choices").rglob("*.json")) for name in ("as-it-is", "changed")]
    assert [path.read_text() for path in tables[0]] == [path.read_text() for path in tables[1]]


def test_task_images_of_a_size_that_the_network_does_not_take(study: dict[str, Any]) -> None:
    # stimuli are brought to student.image_size, task images are what they are
    study["student"]["image_size"] = 16
    study["student"]["model"] = "small_student:make_large"
    assert refused(study).startswith(
        "small_student:make_large cannot be asked for fit.layers pool1, pool2 on images of digits of shape (1, 8, 8): "
    )
