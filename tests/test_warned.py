"""Every warning is in the file or manifest of what was made while it was given."""

import json
import warnings
from dataclasses import replace
from pathlib import Path

import nibabel
import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

import brainrdl as rdl
from brainrdl import cli
from brainrdl.fmri import Simulation, rdms_from_bids, simulate_bids
from brainrdl.studies import brain
from brainrdl.studies.brain.configuration import checked
from brainrdl.studies.brain.study import fit
from brainrdl.studies.folder import calls_of, warnings_of
from brainrdl.studies.paper.digits import digits_study
from brainrdl.studies.paper.recipe import override
from brainrdl.studies.paper.reproduce import reproduce
from brainrdl.studies.paper.study import Request
from brainrdl.studies.scans import make_rdms
from brainrdl.training.machine import Machine
from brainrdl.warned import warnings_given, warnings_in, with_warnings
from small_network import brain_term, loader, network, stimuli
from small_study import write_study

ANY = "."  # the whole messages are compared below
FLAT = "layer '1' returns a pattern that is constant over units to stimuli 'c'; their correlation distances are NaN"


def rdms(n=1, ids="abcd", seed=0, **attrs):
    values = np.random.default_rng(seed).random((n, len(ids) * (len(ids) - 1) // 2))
    return rdl.label_rdms(values, list(ids), [f"r{k}" for k in range(n)], "correlation").assign_attrs(attrs)


def test_warnings_are_collected_once_each_and_shown_as_ever():
    def warned():
        with warnings_given() as outer, warnings_given() as inner:
            for text in ("a", "b", "a"):
                warnings.warn(text, stacklevel=1)
        assert inner == outer == ["a", "b"]

    for _ in range(2):  # a second time too, where Python's own memory would leave them out
        with pytest.warns(UserWarning, match=ANY) as outside:
            warned()
        assert [str(warning.message) for warning in outside] == ["a", "b", "a"]
    with warnings_given() as given, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        warnings.warn("not given", stacklevel=1)
    assert given == []


def test_warnings_lie_in_the_provenance_and_stay_there_when_rdms_are_joined(tmp_path):
    one, two = rdms(provenance='{"a": 1}'), rdms(provenance='{"b": 1}').assign_coords(rdm=["r9"])
    assert with_warnings(one, []) is one
    first = with_warnings(one, ["x", "y"])
    assert json.loads(first.attrs["provenance"]) == {"a": 1, "warnings": ["x", "y"]}
    joined = with_warnings(rdl.concat_rdms([first, two]), ["y", "z"])
    further = rdl.concat_rdms([joined, rdms().assign_coords(rdm=["r10"])])
    rdl.write_rdms(further, tmp_path / "all.nc")
    assert warnings_in(rdl.read_rdms(tmp_path / "all.nc")) == ["x", "y", "z"]
    assert json.loads(with_warnings(rdms(), ["x"]).attrs["provenance"]) == {"warnings": ["x"]}


def flat_for_c():
    """A layer whose answer to stimulus c is constant."""
    images = torch.rand(4, 8)
    images[2] = 0.1
    return nn.Sequential(nn.Identity(), nn.Identity()), rdl.StimulusSet.from_arrays(images, list("abcd"))


def test_layer_rdms():
    model, images = flat_for_c()
    with pytest.warns(UserWarning, match=ANY):
        found = rdl.layer_rdms(model, images, ["1"], "correlation")
    assert warnings_in(found) == [FLAT]
    assert "warnings" not in json.loads(rdl.layer_rdms(model, images, ["1"]).attrs["provenance"])


def test_a_training_and_one_that_is_resumed(tmp_path):
    def fitted(epochs, stop):
        def validation(model):
            if stop:
                raise KeyError
            return {}

        trainer = rdl.Trainer(network(), task_loss=loud)
        return trainer.fit(loader(), epochs=epochs, checkpoint=tmp_path / "run", validation=validation)

    def loud(output, labels):
        if calls := said:
            warnings.warn(calls.pop(), stacklevel=1)
        return nn.functional.cross_entropy(output, labels)

    said = ["second", "first"]
    with pytest.warns(UserWarning, match=ANY), pytest.raises(KeyError):
        # within the epoch: the checkpoint behind each update holds those given so far
        rdl.Trainer(network(), task_loss=loud).fit(
            loader(), epochs=2, checkpoint=tmp_path / "run", checkpoint_every=1, validation=lambda model: {}[model]
        )
    assert torch.load(tmp_path / "run", weights_only=True)["warnings"] == ["first", "second"]
    said.append("third")
    with pytest.warns(UserWarning, match=ANY):
        history = fitted(2, False)
    assert history.attrs["warnings"] == ["first", "second", "third"]
    assert fitted(2, False).attrs["warnings"] == ["first", "second", "third"]


def test_a_training_that_was_warned_of_nothing():
    history = rdl.Trainer(network(), [brain_term()]).fit(loader(), epochs=1, stimuli=stimuli())
    assert history.attrs["warnings"] == []


def flat_network():
    """A network that answers a black image with a constant pattern."""
    torch.manual_seed(0)
    return nn.Sequential(nn.Flatten(), nn.Linear(192, 5, bias=False))


@pytest.fixture
def images(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(str(Path(__file__).parent))
    folder = tmp_path / "images"
    folder.mkdir()
    for number, name in enumerate("abcd"):
        Image.new("RGB", (8, 8), (60 * number, 10 * number, 20 * number)).save(folder / f"{name}.png")
    return folder


BLACK = "layer '1' returns a pattern that is constant over units to stimuli 'a'; their correlation distances are NaN"


def test_the_commands_about_rdms(tmp_path, images, capsys):
    options = ["--model", "test_warned:flat_network", "--layers", "1", "--stimuli", images, "--metric", "correlation"]
    with pytest.warns(UserWarning, match=ANY):
        assert cli.main(["rdms", "network", *map(str, options), "-o", str(tmp_path / "a.nc")]) == 0
    assert warnings_in(rdl.read_rdms(tmp_path / "a.nc")) == [BLACK]
    # to another format, and on into what is made of it
    assert cli.main(["convert", str(tmp_path / "a.nc"), str(tmp_path / "b.h5")]) == 0
    assert warnings_in(rdl.read_rdms(tmp_path / "b.h5")) == [BLACK]


def test_compare(tmp_path, capsys):
    for seed, (name, given) in enumerate((("model", ["model made badly"]), ("data", ["data made badly"]))):
        made = with_warnings(rdms(1, "abcdefgh", seed), given).assign_coords(rdm=[name])
        rdl.write_rdms(made, tmp_path / f"{name}.nc")
    files = [str(tmp_path / name) for name in ("model.nc", "data.nc")]
    assert cli.main(["compare", *files, "-o", str(tmp_path / "out")]) == 0
    assert "model made badly\ndata made badly\n" in capsys.readouterr().out


def test_scans(tmp_path):
    rng = np.random.default_rng(0)
    points = rng.normal(size=(1, 5, 8))
    i, j = np.triu_indices(5, 1)
    planted = rdl.label_rdms(np.square(points[:, i] - points[:, j]).mean(axis=2), list("abcde"), ["V1"], "mse")
    masks = simulate_bids(
        tmp_path / "bids", planted, simulation=Simulation(subjects=2, runs=2, repeats=2, side=3, snr=4)
    )
    load = nibabel.load
    said = []

    def loud(path, *args, **kwargs):
        warnings.warn(f"the header of sub-{str(path).partition('sub-')[2][:2]} is odd", stacklevel=1)
        said.append(path)
        return load(path, *args, **kwargs)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(nibabel, "load", loud)
        with pytest.warns(UserWarning, match=ANY):
            found = rdms_from_bids(tmp_path / "bids", "sim", masks)
        with pytest.warns(UserWarning, match=ANY):
            report = make_rdms(tmp_path / "bids", "sim", masks, tmp_path / "out.nc", log=lambda line: None)
    assert said
    expected = {"the header of sub-01 is odd", "the header of sub-02 is odd"}
    assert expected <= set(warnings_in(found))
    assert expected <= set(warnings_in(rdl.read_rdms(tmp_path / "out.nc")))
    assert "the header of sub-02 is odd" in report.read_text()
    # what was done before has been warned of before
    make_rdms(tmp_path / "bids", "sim", masks, tmp_path / "out.nc", log=lambda line: None)
    assert expected <= set(warnings_in(rdl.read_rdms(tmp_path / "out.nc")))


def small(study):
    study |= {"seeds": 1, "arms": ["mixture", "task_only", "rdl"]}
    study["schemes"] |= {"leave_one_category_out": False, "random": 0}
    study["fit"] |= {"layers": ["pool1"], "alphas": [0.5], "updates": [2]}
    return study


def test_a_study_fitted_to_a_brain(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(str(Path(__file__).parent))
    study = checked(small(write_study(tmp_path)))
    load = brain.study.load_inputs

    def loud(*args):
        warnings.warn("the images are odd", stacklevel=1)
        return load(*args)

    monkeypatch.setattr(brain.study, "load_inputs", loud)
    for _ in range(2):
        with pytest.warns(UserWarning, match=ANY):
            fit(study, tmp_path / "out", machine=Machine("cpu", "32-true", 1), log=lambda line: None)
    calls = calls_of(tmp_path / "out")
    assert [call["warnings"] for call in calls] == [["the images are odd"]] * 2
    manifest = json.loads((tmp_path / "out" / "manifest.json").read_text())
    assert manifest["warnings"] == ["the images are odd"]
    assert manifest["calls"] == calls
    assert warnings_of([{"seconds": 1.0}]) == {}


def test_a_papers_study(tmp_path, monkeypatch):
    study = digits_study()

    def loud(request):
        warnings.warn("the digits are odd", stacklevel=1)
        return study.load(request)

    request = Request(tmp_path / "out", arms=("plain",), limit_train=100, limit_teacher=200, tries=1, device="cpu")
    recipe = override(study.recipe, ["epochs=1", "teacher_epochs=1"])
    with pytest.warns(UserWarning, match=ANY):
        reproduce(replace(study, load=loud), request, recipe, log=lambda line: None)
    manifest = json.loads((tmp_path / "out" / "manifest.json").read_text())
    assert manifest["warnings"] == ["the digits are odd"]
