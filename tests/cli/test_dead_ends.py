"""Whoever types a command has a way on: nothing that it asks for can be given in Python alone."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import rsatoolbox
import torch
from torch import nn

import brainrdl as rdl
from brainrdl import cli
from brainrdl.cli._words import in_the_shells_words
from brainrdl.data.objects92 import IDS as IDS92
from brainrdl.studies.brain.configuration import checked, configuration_hash
from real_data import data_dir
from small_study import write_study

IDS = [f"s{k}" for k in range(6)]


def small() -> nn.Module:
    """A network for ``package.module:factory``."""
    torch.manual_seed(0)
    return nn.Sequential(nn.AvgPool2d(35), nn.Flatten(), nn.Linear(75, 4))


def run(*arguments: object) -> int:
    return cli.main([str(argument) for argument in arguments])


def failed(capsys: pytest.CaptureFixture[str], *arguments: object) -> str:
    assert run(*arguments) == 2
    (line,) = capsys.readouterr().err.splitlines()
    return line.removeprefix("brainrdl: ")


def write(path: Path, names: list[str], seed: int, **coords: object) -> Path:
    values = np.random.default_rng(seed).random((len(names), 15))
    rdl.write_rdms(rdl.label_rdms(values, IDS, names, "correlation", coords or None), path)
    return path


def test_networks_with_layers_of_one_name(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    a = write(tmp_path / "a.nc", ["layer1"], 0, model="torchvision:resnet18")
    b = write(tmp_path / "b.nc", ["layer1"], 1, model="torchvision:alexnet")
    c = write(tmp_path / "c.nc", ["layer1"], 2, model="torchvision:alexnet")
    brain = write(tmp_path / "brain.nc", ["IT"], 3)
    assert run("compare", a, b, brain, "--resamples", 5) == 0
    shown = capsys.readouterr().out
    assert "resnet18 layer1" in shown
    assert "alexnet layer1" in shown
    assert failed(capsys, "compare", b, c, brain, "--resamples", 5) == (
        "labels along 'rdm' must be unique, but these occur more than once: 'layer1'; give --prefix P,Q, a word for "
        "each file of models, which comes before the names of its RDMs"
    )
    assert run("compare", b, c, brain, "--resamples", 5, "--prefix", "old,new") == 0
    shown = capsys.readouterr().out
    assert "old layer1" in shown
    assert "new layer1" in shown
    for prefix, message in (
        ("old", "--prefix gives 1 words for 2 files of models; give one for each"),
        ("old,old", "--prefix gives old,old, one word twice; give each file of models its own"),
    ):
        assert failed(capsys, "compare", b, c, brain, "--prefix", prefix) == message


def test_unnamed_people(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model = write(tmp_path / "model.nc", ["fc"], 0)
    people = write(tmp_path / "people.nc", ["x", "y"], 1)
    assert failed(capsys, "compare", model, people) == (
        f"{people}: names no subjects, of whom each has one of its 2 RDMs; give --subjects, a text file of "
        "names or a number"
    )
    assert run("compare", model, people, "--subjects", 2, "--resamples", 5) == 0
    wrong = f"{people}: holds 2 RDMs, but subjects names 3; give one for each RDM, in the file's order"
    assert failed(capsys, "compare", model, people, "--subjects", 3) == wrong
    assert failed(capsys, "info", people, "--subjects", 3) == wrong
    (tmp_path / "who.txt").write_text("ann\nbob\n", encoding="utf-8")
    assert run("info", people, "--subjects", tmp_path / "who.txt") == 0
    assert "coordinates: subject" in capsys.readouterr().out
    assert run("convert", people, tmp_path / "named.nc", "--subjects", tmp_path / "who.txt") == 0
    assert rdl.read_rdms(tmp_path / "named.nc")["subject"].values.tolist() == ["ann", "bob"]
    capsys.readouterr()
    assert failed(capsys, "compare", model, tmp_path / "named.nc", "--subjects", 2) == (
        f"{tmp_path / 'named.nc'}: names its subjects already, 'ann', 'bob'; leave subjects out"
    )


def test_all_files_are_told_at_once_what_they_lack(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rng = np.random.default_rng(0)
    for name in ("model", "people"):
        np.save(tmp_path / f"{name}.npy", rng.random((2, 15)))
    files = tmp_path / "model.npy", tmp_path / "people.npy"
    lacks = (
        "does not hold the stimulus ids; give --stimuli, a text file with 6 lines in the file's order; and it does not "
        "say by a known name what the distances are; give --metric, one of mse, sqeuclidean, euclidean, correlation, "
        "cosine, mahalanobis, crossnobis, undeclared ('undeclared' where it is not known); and it holds vectors of 15 "
        "pairs, but not their order; give --order: 'row-major' for SciPy's and MATLAB's squareform, 'column-major' for "
        "MATLAB's rdm(triu(true(n), 1)) and nilearn's lower triangles"
    )
    asked = "give --subjects, a text file of names or a number"
    people = f"and it names no subjects, of whom each has one of its 2 RDMs; {asked}"
    assert failed(capsys, "compare", *files) == f"{files[0]}: {lacks}; {files[1]}: {lacks}; {people}"
    (tmp_path / "ids.txt").write_text("\n".join(IDS), encoding="utf-8")
    given = ("--stimuli", tmp_path / "ids.txt", "--metric", "mse", "--order", "row-major", "--subjects", 2)
    assert run("compare", *files, *given, "--resamples", 5) == 0


def test_model_files_of_other_stimuli_are_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    a, b, brain = (write(tmp_path / f"{name}.nc", [name], k) for k, name in enumerate(("a", "b", "IT")))
    assert run("convert", b, tmp_path / "less.nc", "--keep", tmp_path / "few.txt") == 2
    assert capsys.readouterr().err == (
        f"brainrdl: there is no file {tmp_path / 'few.txt'}; --keep names a text file with one id a line\n"
    )
    (tmp_path / "few.txt").write_text("s4\ns0\ns1\n", encoding="utf-8")
    assert run("convert", b, tmp_path / "less.nc", "--keep", tmp_path / "few.txt") == 0
    assert rdl.read_rdms(tmp_path / "less.nc").identical(rdl.select_stimuli(rdl.read_rdms(b), ["s4", "s0", "s1"]))
    capsys.readouterr()
    assert failed(capsys, "compare", a, tmp_path / "less.nc", brain) == (
        f"{tmp_path / 'less.nc'} has other stimuli than {a}: it lacks 's2', 's3', 's5'; --shared compares just those "
        "that all files hold"
    )


def test_some_rdms_of_a_file_are_selected(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    brains = write(tmp_path / "a.nc", list("abcd"), 0, subject=["1", "2"] * 2, layer=["x", "x", "y", "y"])
    model = write(tmp_path / "m.nc", ["fc"], 1)
    assert failed(capsys, "compare", model, brains) == (
        "there are 2 RDMs of subject '1', '2', expected one each; they differ in 'layer': write those that are meant "
        "into a file of their own: brainrdl convert A B --select roi=IT, or rdm!=NAME"
    )
    assert run("convert", brains, tmp_path / "y.nc", "--select", "layer=y", "--select", "subject=2") == 0
    assert rdl.read_rdms(tmp_path / "y.nc")["rdm"].values.tolist() == ["d"]
    capsys.readouterr()
    for text, message in (
        (
            "time=1",
            f"{brains}: --select takes NAME=VALUE or NAME!=VALUE with one of rdm, subject, layer, the RDMs' "
            "coordinates; got 'time=1'",
        ),
        ("layer=z", f"{brains}: --select layer=z: no RDM has that value; there are 'x', 'y'"),
    ):
        assert failed(capsys, "convert", brains, tmp_path / "z.nc", "--select", text) == message


def test_scores_that_are_not_defined_are_drawn_as_such(tmp_path: Path) -> None:
    values = np.random.default_rng(0).random((2, 15))
    values[0, 8:] = values[1, :8] = np.nan
    for name, row in (("model", 0), ("brain", 1)):
        rdms = rdl.label_rdms(values[[row]], IDS, [name], "correlation")
        rdl.write_rdms(rdms, tmp_path / f"{name}.nc")
    out = tmp_path / "out"
    assert run("compare", tmp_path / "model.nc", tmp_path / "brain.nc", "-o", out, "--resamples", 5) == 0
    assert sorted(path.name for path in out.iterdir()) == ["contrasts.csv", "scores.csv", "scores.png"]
    # three stimuli: every resample gives one score, so that there is no interval
    for name in ("model", "brain"):
        rdms = rdl.label_rdms(np.random.default_rng(len(name)).random((1, 3)), IDS[:3], [name], "correlation")
        rdl.write_rdms(rdms, tmp_path / f"{name}.nc")
    assert run("compare", tmp_path / "model.nc", tmp_path / "brain.nc", "-o", out, "--resamples", 5) == 0


def test_rdms_of_the_92_images(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = data_dir("kriegeskorte92/Kriegeskorte_Neuron2008_supplementalData.mat")
    monkeypatch.syspath_prepend(str(Path(__file__).parent))
    monkeypatch.delenv("BRAINRDL_DATA")
    given = ("rdms", "network", "--model", "test_dead_ends:small", "--stimuli", "objects92")
    assert failed(capsys, *given) == "--layers, --out are needed, unless --list-layers is asked for"
    assert failed(capsys, *given, "--layers", "2", "-o", tmp_path / "a.nc") == (
        "there is no folder to look for the 92 images in: give --data-dir or set the environment variable BRAINRDL_DATA"
    )
    assert run(*given, "--list-layers", "--data-dir", folder) == 0
    assert capsys.readouterr().out == "0  3 × 5 × 5\n1  75\n2  4\n"
    assert run(*given, "--layers", "2", "--data-dir", folder, "-o", tmp_path / "a.nc") == 0
    assert rdl.read_rdms(tmp_path / "a.nc")["stimulus"].values.tolist() == list(IDS92)
    capsys.readouterr()
    assert failed(capsys, *given, "--layers", "9", "--data-dir", folder, "-o", tmp_path / "b.nc") == (
        "Sequential has no layer '9'; --list-layers shows them all"
    )


@pytest.mark.parametrize(
    ("command", "options", "message", "shown"),
    [
        ("rdms", ["list_layers"], "; list_layers(model) lists them all", "; --list-layers shows them all"),
        (
            "card",
            [],
            "; list_layers(model) lists them all",
            "; brainrdl rdms network --model M --list-layers shows them all",
        ),
        (
            "fit",
            [],
            "there are: 'rdm'; add it: rdms.assign_coords(subject=('rdm', [...]))",
            "there are: 'rdm'; say whose the RDMs are by subjects: below rdms:, how many people or a text file of "
            "names",
        ),
        ("fit", [], "several regions, A, B; name one: roi=", "several regions, A, B; name one by roi: below rdms:"),
        ("card", ["roi"], "several regions, A, B; name one: roi=", "several regions, A, B; name one: roi="),
        ("card", [], "give stimuli=, 4 strings", "give --rdms-stimuli, 4 strings"),
        ("fit", [], "give metric=, one of mse", "give metric: below rdms:, one of mse"),
        (
            "fit",
            [],
            "there is no file a.yaml; write_example writes one to begin with, and so does brainrdl fit when init is "
            "asked for",
            "there is no file a.yaml; --init writes one to begin with",
        ),
    ],
)
def test_what_is_advised_can_be_typed(command: str, options: list[str], message: str, shown: str) -> None:
    assert in_the_shells_words(message, command, options) == shown


def test_warnings_speak_of_options(tmp_path: Path) -> None:
    # a network without weights, and then a folder without images
    (tmp_path / "no").mkdir()
    rdms = write(tmp_path / "a.nc", ["x"], 0)
    given = ("--stimuli", tmp_path / "no", "--rdms", rdms, "--layers", "features", "-o", tmp_path / "out")
    command = [sys.executable, "-m", "brainrdl", "card", "torchvision:alexnet", *map(str, given)]
    told = subprocess.run(command, capture_output=True, text=True, check=False)  # recorded, a warning is not printed
    assert told.returncode == 2
    assert told.stderr.splitlines()[0] == (
        "brainrdl: warning: torchvision:alexnet has random weights: none were named; give --weights a file or one of "
        "torchvision's names, such as 'DEFAULT'"
    )


def test_a_download_is_offered_where_there_is_one(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BRAINRDL_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("BRAINRDL_DATA", raising=False)
    for study, offered in (("digits", False), ("mnist", True), ("cifar100", True)):
        with pytest.raises(SystemExit):
            run("reproduce", study, "--help")
        assert ("--download" in capsys.readouterr().out) == offered
    assert failed(capsys, "reproduce", "mnist", "-o", tmp_path / "out", "--seeds", 1) == (
        "there is no folder to look for MNIST in: give --data-dir or set the environment variable BRAINRDL_DATA, or "
        "fetch the files with --download"
    )
    with pytest.raises(SystemExit):
        run("fit", "--help")
    assert "--download" in capsys.readouterr().out


def test_a_study_reads_files_of_other_tools(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from brainrdl.studies.brain.inputs import load_inputs

    monkeypatch.syspath_prepend(str(Path(__file__).parents[1]))
    content = write_study(tmp_path)
    known = load_inputs(checked(content)).studies["one"]
    before = configuration_hash(checked(content))
    bare = rdl.read_rdms(content["studies"]["one"]["rdms"])
    bare = bare.isel(rdm=np.flatnonzero(bare["roi"].values == content["studies"]["one"]["roi"]))
    np.save(tmp_path / "one.npy", bare.values)
    (tmp_path / "ids.txt").write_text("\n".join(bare["stimulus"].values), encoding="utf-8")
    words = {"stimuli": str(tmp_path / "ids.txt"), "metric": bare.attrs["metric"], "subjects": bare.sizes["rdm"]}
    changed = {**content, "studies": {**content["studies"], "one": {"rdms": str(tmp_path / "one.npy"), **words}}}
    read = load_inputs(checked(changed)).studies["one"]
    assert read["subject"].values.tolist() == [f"S{k + 1}" for k in range(bare.sizes["rdm"])]
    assert sorted(map(bytes, read.values)) == sorted(map(bytes, known.values))
    assert configuration_hash(checked(content)) == before != configuration_hash(checked(changed))


def test_absent_controls_are_none(tmp_path: Path) -> None:
    content = write_study(tmp_path)
    for absent in ({}, {"controls": None}):
        bare = {name: value for name, value in content.items() if name != "controls"} | absent
        assert checked(bare).controls == {}
        assert checked({**bare, "stimuli": "objects92"}).controls == "objects92"


def test_an_rdm_without_a_measured_pair_is_left_out(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    values = np.random.default_rng(0).random((3, 6))
    values[1] = np.nan
    people = {"subject": ["ann", "bob", "cy"]}
    labels = {"pattern_descriptors": {"stimulus": list("abcd")}, "dissimilarity_measure": "correlation"}
    rsatoolbox.rdm.RDMs(values, rdm_descriptors=people, **labels).save(tmp_path / "a.h5")
    assert failed(capsys, "convert", tmp_path / "a.h5", tmp_path / "b.nc") == (
        f"{tmp_path / 'a.h5'}: no pair is measured (all are NaN) in RDM 'bob'; leave it out: brainrdl convert A B "
        "--select rdm!=NAME"
    )
    assert run("convert", tmp_path / "a.h5", tmp_path / "b.nc", "--select", "rdm!=bob") == 0
    assert (
        run("convert", tmp_path / "a.h5", tmp_path / "c.nc", "--select", "subject=cy", "--select", "subject=ann") == 0
    )
    found = rdl.read_rdms(tmp_path / "b.nc")
    assert found["subject"].values.tolist() == ["ann", "cy"]
    np.testing.assert_array_equal(found.values[:, 0, 1:], values[[0, 2], :3])
    assert rdl.read_rdms(tmp_path / "c.nc").identical(found)
    # of a file of our own too, whose seal is of all its RDMs; and with subjects that are given for all of them
    assert run("convert", tmp_path / "b.nc", tmp_path / "d.nc", "--select", "rdm!=ann") == 0
    assert rdl.read_rdms(tmp_path / "d.nc").identical(found.isel(rdm=[1]))
    np.save(tmp_path / "e.npy", values)
    given = ["--stimuli", tmp_path / "ids.txt", "--metric", "mse", "--order", "row-major", "--subjects", "3"]
    (tmp_path / "ids.txt").write_text("a\nb\nc\nd\n")
    assert run("convert", tmp_path / "e.npy", tmp_path / "e.nc", *given, "--select", "subject!=S2") == 0
    assert rdl.read_rdms(tmp_path / "e.nc")["subject"].values.tolist() == ["S1", "S3"]
    assert failed(
        capsys, "convert", tmp_path / "b.nc", tmp_path / "f.nc", "--select", "rdm=cy", "--select", "rdm!=cy"
    ) == (f"{tmp_path / 'b.nc'}: --select rdm=cy --select rdm!=cy leaves no RDM; leave one of them out")


@pytest.mark.parametrize(
    ("arguments", "end"),
    [
        (
            ["compare", "a", "b", "--methode", "corr"],
            "unrecognized arguments: --methode corr; did you mean '--method'?",
        ),
        (["rdms", "network", "--modle", "a", "--model", "b"], "--modle a; did you mean '--model'?"),
        (["compare", "a", "b", "--method", "pearson"], "'tau-a', 'tau-b', 'mse'); did you mean 'corr'?"),
        (["info", "a", "--stimuli", "b"], "unrecognized arguments: --stimuli b"),
    ],
)
def test_an_option_that_is_none_is_met_by_its_neighbour(
    arguments: list[str], end: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        cli.main(arguments)
    assert capsys.readouterr().err.endswith(f"{end}\n")


def test_what_another_tool_calls_a_metric(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    np.save(tmp_path / "a.npy", np.ones((4, 4)) - np.eye(4))
    assert failed(capsys, "convert", tmp_path / "a.npy", tmp_path / "b.nc", "--metric", "Pearson") == (
        "unknown metric 'Pearson'; known are mse, sqeuclidean, euclidean, correlation, cosine, mahalanobis, "
        "crossnobis, undeclared; did you mean 'correlation'?"
    )
    assert failed(capsys, "convert", tmp_path / "a.npy", tmp_path / "b.nc", "--metric", "mse", "--stimuli", "ids") == (
        f"{tmp_path / 'a.npy'}: has no field 'ids' that could hold the stimulus ids, nor is there a text file of that "
        "name, and has none to choose from"
    )
    np.savez(tmp_path / "a.npz", one=np.ones((4, 4)), two=np.ones((4, 4)))
    assert failed(capsys, "info", tmp_path / "a.npz") == (
        f"{tmp_path / 'a.npz'} holds neither 'rdm' (Net2Brain's model form) nor 'arr_0' (its brain form); choose an "
        "array by --variable, of 'one' (4 × 4), 'two' (4 × 4)"
    )
