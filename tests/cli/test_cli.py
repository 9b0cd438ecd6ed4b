"""The commands about RDMs, as typed."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import scipy.io
import torch
from PIL import Image
from torch import nn

import brainrdl as rdl
from brainrdl import cli

IDS = [f"bild-ä{k}" for k in range(6)]


def tiny() -> nn.Module:
    """A network for ``package.module:factory``."""
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(4 * 36, 5))


def run(*arguments: object) -> int:
    return cli.main([str(argument) for argument in arguments])


def rdms(names: list[str], seed: int, **coords: object) -> object:
    values = np.random.default_rng(seed).random((len(names), 15))
    return rdl.label_rdms(values, IDS, names, "correlation", coords or None)


def failed(capsys: pytest.CaptureFixture[str], *arguments: object) -> str:
    """The one line that a command ends with, having refused."""
    assert run(*arguments) == 2
    captured = capsys.readouterr()
    (line,) = captured.err.splitlines()
    return line


@pytest.fixture
def images(tmp_path: Path) -> Path:
    folder = tmp_path / "images"
    folder.mkdir()
    for k, name in enumerate(IDS):
        Image.new("RGB", (8, 8), (40 * k, 200 - 30 * k, 10 + 5 * k)).save(folder / f"{name}.png")
    return folder


def test_convert_and_info(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source, target = tmp_path / "a.nc", tmp_path / "b.h5"
    rdl.write_rdms(rdms(["IT", "V1"], 0), source)  # type: ignore[arg-type]
    assert run("convert", source, target) == 0
    assert "2 RDMs of 6 stimuli" in capsys.readouterr().out
    pd.testing.assert_frame_equal(
        rdl.read_rdms(target).to_dataframe("d").reset_index(), rdl.read_rdms(source).to_dataframe("d").reset_index()
    )
    assert run("info", target) == 0
    shown = capsys.readouterr().out.splitlines()
    assert shown[0] == str(target)
    assert shown[2] == "metric: correlation"
    message = failed(capsys, "convert", source, target)
    assert message == f"brainrdl: {target} exists; name another file, or replace it with --force"
    before = target.read_bytes()
    rdl.write_rdms(rdms(["V4"], 1), source)  # type: ignore[arg-type]
    assert failed(capsys, "convert", source, target, "--force", "--metric", "mse").endswith("leave the metric out")
    assert target.read_bytes() == before
    assert run("convert", source, target, "--force") == 0
    assert rdl.read_rdms(target).identical(rdl.read_rdms(source))


def test_only_rdms_are_replaced_by_rdms(
    tmp_path: Path, images: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(str(Path(__file__).parent))
    out = tmp_path / "out.csv"
    network = ("rdms", "network", "--stimuli", images, "--model", "test_cli:tiny", "--layers", "0", "-o", out)
    assert run(*network) == 0
    first = rdl.read_rdms(out)
    assert run(*network, "--metric", "euclidean") == 0
    assert (first.attrs["metric"], rdl.read_rdms(out).attrs["metric"]) == ("mse", "euclidean")
    out.write_text("subject,age\n1,30\n", encoding="utf-8")
    capsys.readouterr()
    brains = tmp_path / "brains.nc"
    brains.write_bytes(b"")
    mask = tmp_path / "a.nii"
    mask.write_bytes(b"")
    for path, arguments in (
        (out, network),
        (brains, ("rdms", "fmri", tmp_path, "--task", "rest", "--roi", f"A={mask}", "-o", brains)),
    ):
        before = path.read_bytes()
        assert failed(capsys, *arguments) == (
            f"brainrdl: {path} exists and is not a file of labelled RDMs that could be made again, so it is not "
            "replaced; name another file, or remove it first"
        )
        assert path.read_bytes() == before


def test_a_reader_that_has_seen_enough_is_not_a_fault(tmp_path: Path) -> None:
    rdl.write_rdms(rdms(["IT"], 0), tmp_path / "a.nc")  # type: ignore[arg-type]
    command = [sys.executable, "-m", "brainrdl", "info", str(tmp_path / "a.nc")]
    buffered = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=buffered) as process:
        assert process.stdout is not None
        process.stdout.close()
        assert process.stderr is not None
        told = process.stderr.read()
    assert (process.returncode, told) == (0, b"")


def test_standard_errors_are_left_out_only_when_asked(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    errors = np.ones((1, 6, 6)) - np.eye(6)
    given = rdms(["IT"], 0).assign_coords(standard_error=(("rdm", "stimulus", "stimulus_"), errors))  # type: ignore[attr-defined]
    rdl.write_rdms(given, tmp_path / "a.nc")
    message = failed(capsys, "convert", tmp_path / "a.nc", tmp_path / "b.h5")
    assert message == (
        f"brainrdl: {tmp_path / 'a.nc'} has standard errors, and .h5 files have no place for them; convert to .nc, or "
        "leave them out with --drop-standard-errors"
    )
    assert run("convert", tmp_path / "a.nc", tmp_path / "b.h5", "--drop-standard-errors") == 0
    assert "standard_error" not in rdl.read_rdms(tmp_path / "b.h5").coords
    assert run("convert", tmp_path / "a.nc", tmp_path / "b.nc") == 0
    assert "standard_error" in rdl.read_rdms(tmp_path / "b.nc").coords


def test_compare_gives_a_file_only_what_it_lacks(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    values = np.random.default_rng(0).random((6, 6))
    scipy.io.savemat(tmp_path / "models.mat", {"RDMs": {"RDM": (values + values.T) * (1 - np.eye(6)), "name": "v1"}})
    rdl.write_rdms(rdms(["s1", "s2"], 2, subject=["s1", "s2"]), tmp_path / "brains.nc")  # type: ignore[arg-type]
    (tmp_path / "ids.txt").write_text("\n".join(IDS), encoding="utf-8")
    lacking = ("--stimuli", tmp_path / "ids.txt", "--metric", "undeclared", "--resamples", 20)
    assert run("compare", tmp_path / "models.mat", tmp_path / "brains.nc", *lacking) == 0
    assert "v1" in capsys.readouterr().out
    out = tmp_path / "ids.txt"
    message = failed(capsys, "compare", tmp_path / "models.mat", tmp_path / "brains.nc", "-o", out)
    assert message == f"brainrdl: {out} is a file; expected a folder, or a new name for one"


def test_compare_leaves_out_what_is_not_shared_only_when_asked(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = rdms(["v1"], 0)
    brains = rdms(["s1", "s2"], 1, subject=["s1", "s2"])
    rdl.write_rdms(rdl.select_stimuli(model, IDS[:5]), tmp_path / "model.nc")  # type: ignore[arg-type]
    rdl.write_rdms(brains, tmp_path / "brains.nc")  # type: ignore[arg-type]
    given = ("compare", tmp_path / "model.nc", tmp_path / "brains.nc", "--resamples", 20)
    assert failed(capsys, *given) == (
        f"brainrdl: the stimuli of models and subjects differ: 5 are shared, subjects alone has {IDS[5]!r}; "
        "--shared leaves the others out"
    )
    assert run(*given, "--shared", "-o", tmp_path / "out") == 0
    assert capsys.readouterr().out.startswith("5 stimuli are shared; 1 that some file lacks are left out\n")
    (score,) = pd.read_csv(tmp_path / "out" / "scores.csv")["score"]
    shared = rdl.select_stimuli(brains, IDS[:5])  # type: ignore[arg-type]
    assert score == pytest.approx(rdl.compare_rdms(model, shared, join="intersect").mean().item())  # type: ignore[arg-type]
    rdl.write_rdms(rdl.select_stimuli(model, IDS[:2]), tmp_path / "model.nc")  # type: ignore[arg-type]
    assert failed(capsys, *given, "--shared") == "brainrdl: the files share 2 stimuli; a comparison needs at least 3"


def test_what_a_file_lacks_is_given(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    square = np.ones((6, 6)) - np.eye(6)
    scipy.io.savemat(tmp_path / "bare.mat", {"RDMs": {"RDM": square}})
    ids = tmp_path / "ids.txt"
    ids.write_text("\n".join(IDS), encoding="utf-8")
    message = failed(capsys, "convert", tmp_path / "bare.mat", tmp_path / "out.nc")
    assert message == (
        f"brainrdl: {tmp_path / 'bare.mat'}: does not hold the stimulus ids; give --stimuli, a text file with 6 lines "
        "in the file's order; and it does not say by a known name what the distances are; give --metric, one of mse, "
        "sqeuclidean, euclidean, correlation, cosine, mahalanobis, crossnobis, undeclared ('undeclared' where it is "
        "not known)"
    )
    given = ("--stimuli", ids, "--metric", "undeclared", "--names", tmp_path / "names.txt")
    (tmp_path / "names.txt").write_text("IT\n", encoding="utf-8")
    assert run("convert", tmp_path / "bare.mat", tmp_path / "out.nc", *given) == 0
    back = rdl.read_rdms(tmp_path / "out.nc")
    assert back["stimulus"].values.tolist() == IDS
    assert back["rdm"].values.tolist() == ["IT"]
    ids.write_text("a\n\nb\n", encoding="utf-8")
    message = failed(capsys, "convert", tmp_path / "bare.mat", tmp_path / "again.nc", "--stimuli", ids)
    assert message == f"brainrdl: {ids}: line 2 is empty; give one id a line"
    ids.write_bytes(b"\xff\xfe")
    message = failed(capsys, "convert", tmp_path / "bare.mat", tmp_path / "again.nc", "--stimuli", ids)
    assert message.startswith(f"brainrdl: {ids} is not UTF-8 text: ")


def test_compare_prints_and_writes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rdl.write_rdms(rdms(["layer1", "layer2"], 1), tmp_path / "models.nc")  # type: ignore[arg-type]
    subjects = ["s1", "s2", "s3"]
    rdl.write_rdms(rdms(subjects, 2, subject=subjects), tmp_path / "brains.nc")  # type: ignore[arg-type]
    out = tmp_path / "scores"
    arguments = ("compare", tmp_path / "models.nc", tmp_path / "brains.nc", "--resamples", 20)
    assert run(*arguments, "--contrast", "layer1,layer2", "-o", out) == 0
    shown = capsys.readouterr().out
    table = pd.read_csv(out / "scores.csv")
    assert table["model"].tolist() == ["layer1", "layer2"]
    assert (table["over"] == "stimuli").all()
    assert "layer1" in shown
    assert len(pd.read_csv(out / "contrasts.csv")) == 1
    assert (out / "scores.png").stat().st_size
    message = failed(capsys, *arguments, "--contrast", "layer1")
    assert message == "brainrdl: --contrast takes two models as X,Y, got 'layer1'"


def test_plot_draws_every_kind(tmp_path: Path, images: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rdl.write_rdms(rdms(["IT", "V1", "V2"], 0), tmp_path / "a.nc")  # type: ignore[arg-type]
    for kind in ("rdms", "mds", "rdm-mds"):
        extra = ("--images", images) if kind != "rdm-mds" else ()
        assert run("plot", tmp_path / "a.nc", "-o", tmp_path / f"{kind}.png", "--kind", kind, *extra) == 0
        with Image.open(tmp_path / f"{kind}.png") as picture:
            assert min(picture.size) > 200
    message = failed(capsys, "plot", tmp_path / "a.nc", "-o", tmp_path / "a.txt")
    assert message == f"brainrdl: {tmp_path / 'a.txt'} does not end as a picture does; expected .png, .pdf, .svg"


def test_rdms_of_a_network(
    tmp_path: Path, images: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(str(Path(__file__).parent))
    name, out = "test_cli:tiny", tmp_path / "out.nc"
    assert run("rdms", "network", "--model", name, "--stimuli", images, "--list-layers") == 0
    assert capsys.readouterr().out.splitlines()[0].split() == ["0", "4", "×", "6", "×", "6"]
    assert run("rdms", "network", "--model", name, "--stimuli", images, "--layers", "0,3", "-o", out) == 0
    note = "no --weights were given: random weights (torchvision), or those that your factory sets\n"
    assert capsys.readouterr().err.endswith(note)
    found = rdl.read_rdms(out)
    assert found["layer"].values.tolist() == ["0", "3"]
    assert found.attrs["metric"] == "mse"
    stimuli = rdl.StimulusSet.from_folder(images)
    expected = rdl.layer_rdms(tiny().eval(), stimuli, ["0", "3"])
    np.testing.assert_array_equal(found.values, expected.values)
    message = failed(capsys, "rdms", "network", "--model", name, "--stimuli", images, "--layers", "0")
    assert message == "brainrdl: --out is needed, unless --list-layers is asked for"
    message = failed(
        capsys,
        "rdms",
        "network",
        "--model",
        name,
        "--layers",
        "0",
        "--max-memory",
        0,
        *("-o", out),
        *("--stimuli", images),
    )
    assert message == "brainrdl: --max-memory must be at least 1 MiB, got 0"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--roi", "VT"), "--roi takes NAME=MASK, such as VT=vt.nii.gz, got 'VT'"),
        (("--roi", "A=a.nii", "--roi", "A=b.nii"), "--roi names the region 'A' twice; give each region its own name"),
        (
            ("--roi", "A=a.nii", "--no-confounds", "--confounds", "motion"),
            "--confounds and --no-confounds contradict each other; leave one out",
        ),
        (("--roi", "A=a.nii"), "--out is needed, unless --dry-run is asked for"),
    ],
)
def test_rdms_fmri_refuses(
    arguments: tuple[str, ...], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert failed(capsys, "rdms", "fmri", tmp_path, "--task", "rest", *arguments) == f"brainrdl: {message}"


def test_rdms_fmri(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    truth = rdl.label_rdms(np.random.default_rng(0).uniform(0.5, 2, (1, 6)), list("abcd"), ["IT"], "mse")
    simulation = rdl.fmri.Simulation(subjects=1, runs=3, repeats=1)
    masks = rdl.fmri.simulate_bids(tmp_path / "bids", truth, simulation=simulation)
    given = [f"{name}={path}" for name, path in masks.items()]
    arguments = ("rdms", "fmri", tmp_path / "bids", "--task", "sim", "--roi", *given)
    assert run(*arguments, "--dry-run") == 0
    assert capsys.readouterr().out.startswith("sub-01: 3 runs")
    assert run(*arguments, "-o", tmp_path / "rdms.nc") == 0
    assert rdl.read_rdms(tmp_path / "rdms.nc").attrs["metric"] == "crossnobis"
    assert (tmp_path / "rdms.html").exists()


def twice() -> nn.Module:
    """A network one of whose layers runs twice."""
    layer = nn.ReLU()
    return nn.Sequential(layer, nn.Conv2d(3, 2, 3), layer)


def test_what_a_user_can_mend_is_told_in_one_line(
    tmp_path: Path, images: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(str(Path(__file__).parent))
    network = ("rdms", "network", "--stimuli", images, "-o", tmp_path / "out.nc")
    assert failed(capsys, *network, "--model", "test_cli:twice", "--layers", "0") == (
        "brainrdl: layer '0' ran 2 times in one forward pass, so that its features are ambiguous; give each use a "
        "module of its own, or name a layer behind it"
    )
    assert failed(capsys, *network, "--model", "test_cli:tiny", "--layers", "0", "--device", "gpu") == (
        "brainrdl: --device is 'gpu', which torch does not know; expected cpu, cuda, cuda:1, …"
    )
    assert failed(capsys, *network, "--model", "os:getcwd", "--layers", "0") == (
        "brainrdl: os:getcwd returned a str; expected a torch module, or a module and its transform"
    )
    source = tmp_path / "text.npz"
    np.savez(source, rdm=np.array(["1", "2", "3"]), stimuli_name=np.array(list("abc")), layer_name=np.array("IT"))
    assert failed(capsys, "convert", source, tmp_path / "out.nc", "--metric", "mse") == (
        f"brainrdl: {source}: the distances are of type <U1; expected real numbers"
    )


def test_the_place_of_results_is_checked_first(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "file"
    file.write_text("kept", encoding="utf-8")
    message = f"brainrdl: {file} is a file; expected a folder, or a new name for one"
    assert failed(capsys, "compare", tmp_path / "none.nc", tmp_path / "none.nc", "--out", file) == message
    message = f"brainrdl: {tmp_path} is a folder; expected the path of a file in it"
    arguments = ("rdms", "network", "--model", "none:none", "--stimuli", tmp_path, "--layers", "0")
    assert failed(capsys, *arguments, "-o", tmp_path) == message


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)], ids=["Ctrl-C", "SIGTERM"])
def test_a_command_that_is_asked_to_end_says_so_and_what_to_do(
    number: signal.Signals, status: int, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def asked(*arguments: object, **options: object) -> None:
        os.kill(os.getpid(), number)

    before = signal.getsignal(signal.SIGTERM)
    monkeypatch.setattr("brainrdl.studies.paper.reproduce.reproduce", asked)
    # where the tests run in the background of a shell, Ctrl-C is ignored
    interrupt = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        assert cli.main(["reproduce", "digits", "--out", "out"]) == status
    finally:
        signal.signal(signal.SIGINT, interrupt)
    assert capsys.readouterr().err == "\nbrainrdl: stopped; the same command resumes from here\n"
    assert signal.getsignal(signal.SIGTERM) == before


def test_sigterm_that_is_ignored_stays_ignored(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        "brainrdl.studies.paper.reproduce.reproduce", lambda *_, **options: os.kill(os.getpid(), signal.SIGTERM)
    )
    before = signal.signal(signal.SIGTERM, signal.SIG_IGN)
    try:
        assert cli.main(["reproduce", "digits", "--out", "out"]) == 0
    finally:
        signal.signal(signal.SIGTERM, before)
