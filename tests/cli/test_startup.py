"""What a command loads before it does anything, each in a process of its own."""

import argparse
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

import brainrdl as rdl
from brainrdl.cli import _COMMANDS, main, name_options
from brainrdl.studies.paper.cifar100 import cifar100_study
from brainrdl.studies.paper.digits import digits_study
from brainrdl.studies.paper.mnist import mnist_study
from brainrdl.studies.paper.outlines import CIFAR100, DIGITS, MNIST
from brainrdl.studies.paper.study import Study

ARRAYS = ("torch", "pandas", "xarray", "numpy")
HEAVY = ("lightning_fabric", "lightning", "matplotlib", "sklearn", "jinja2", "nilearn", "nibabel", "torchvision")

_CODE = """
import sys
try:
    if sys.argv[1:] == ["import"]:
        import brainrdl
    else:
        from brainrdl.cli import main
        status = main(sys.argv[1:])
except SystemExit as ended:
    status = ended.code
print("\\n" + " ".join(sys.modules))
"""


def loaded(*arguments: str) -> tuple[set[str], str, str]:
    """The modules that a command has loaded when it is done, what it printed, and its complaints."""
    done = subprocess.run([sys.executable, "-c", _CODE, *arguments], check=True, capture_output=True, text=True)
    printed, _, modules = done.stdout.rstrip("\n").rpartition("\n")
    return set(modules.split()), printed, done.stderr


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> str:
    path = tmp_path_factory.mktemp("rdms") / "it.nc"
    rdl.write_rdms(rdl.label_rdms([[0.2, 1.3, 1.1]], ["face", "body", "house"], ["IT"], "correlation"), path)
    return str(path)


# every --help, and what is refused before anything is read: no module that takes longer to load than Python itself
AT_ONCE = (
    ("import",),
    ("--help",),
    ("--version",),
    ("fti",),
    *((command, "--help") for command in _COMMANDS),
    *(("rdms", which, "--help") for which in ("network", "fmri")),
    *(("reproduce", which, "--help") for which in ("digits", "mnist", "cifar100")),
    *((command, "--nonsense") for command in _COMMANDS),
    ("info", "missing.nc"),
    ("convert", "missing.nc", "copy.h5"),
    ("compare", "missing.nc", "FILE"),
    ("compare", "FILE", "missing.nc"),
    ("plot", "missing.nc", "-o", "a.png"),
    ("card", "torchvision:resnet18", "--stimuli", "nowhere", "--rdms", "FILE", "--layers", "fc", "-o", "out"),
    ("card", "torchvision:resnet18", "--stimuli", "objects92", "--rdms", "missing.nc", "--layers", "fc", "-o", "out"),
    ("rdms", "network", "--model", "torchvision:resnet18", "--layers", "fc", "--stimuli", "nowhere", "-o", "a.nc"),
    ("rdms", "network", "--model", "torchvision:resnet18"),
    ("rdms", "fmri", "nowhere", "--task", "a", "--roi", "a=b.nii", "-o", "a.nc"),
    ("rdms", "fmri", ".", "--task", "a", "--roi", "a=missing.nii", "-o", "a.nc"),
    ("rdms", "fmri", ".", "--task", "a", "--roi", "a=FILE", "-o", "a.h5"),
    ("reproduce", "digits"),
    ("reproduce", "digits", "--out", "out", "--arms", "rdll"),
    ("reproduce", "digits", "--out", "out", "--teacher", "celan"),
    ("reproduce", "digits", "--out", "out", "--set", "epoch=3"),
)


@pytest.mark.parametrize("arguments", AT_ONCE, ids=" ".join)
def test_what_needs_nothing_loads_nothing(arguments: tuple[str, ...], file: str) -> None:
    modules, printed, complaints = loaded(*(argument.replace("FILE", file) for argument in arguments))
    assert not modules & {*ARRAYS, *HEAVY}
    assert "brainrdl" in modules
    assert "Traceback" not in complaints
    assert bool(printed) == (arguments[-1] in ("--help", "--version"))
    assert bool(complaints) != (arguments[-1] in ("--help", "--version", "import"))


@pytest.mark.parametrize(
    ("arguments", "absent"),
    [
        (("info", "FILE"), ("torch", "scipy.io", *HEAVY)),
        (("convert", "FILE", "COPY"), ("torch", "scipy.io", *HEAVY)),
        (("plot", "FILE", "-o", "COPY.png"), ("lightning_fabric", "sklearn", "jinja2", "nilearn", "nibabel")),
    ],
    ids=" ".join,
)
def test_a_command_loads_what_it_needs(
    arguments: tuple[str, ...], absent: tuple[str, ...], file: str, tmp_path: Path
) -> None:
    places = {"FILE": file, "COPY": str(tmp_path / "copy.h5"), "COPY.png": str(tmp_path / "copy.png")}
    modules, printed, complaints = loaded(*(places.get(argument, argument) for argument in arguments))
    assert not modules & set(absent)
    assert not complaints
    assert printed


def test_a_missing_file_is_named_at_once(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["info", "missing.nc"]) == 2
    assert capsys.readouterr().err == "brainrdl: no file missing.nc; give the path of a file of RDMs\n"


@pytest.mark.parametrize("make", [digits_study, mnist_study, cifar100_study])
def test_a_studys_outline_is_that_of_the_study(make: Callable[[], Study]) -> None:
    study = make()
    outline = {outline.name: outline for outline in (DIGITS, MNIST, CIFAR100)}[study.name]
    assert outline.arms == tuple(arm.name for arm in study.arms)
    for field in ("recipe", "teachers", "teacher_size", "train_sizes", "few_labels", "precision", "threads", "kinds"):
        assert getattr(outline, field) == getattr(study, field)


def test_a_mistyped_command_is_answered_with_the_nearest() -> None:
    _, printed, complaints = loaded("fti")
    assert not printed
    assert complaints.splitlines()[-1] == (
        "brainrdl: error: there is no command 'fti'; known are reproduce, fit, card, rdms, compare, convert, info, "
        "plot; did you mean 'fit'?"
    )


def test_what_comes_before_the_command_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    for arguments, message in (
        ([], "the following arguments are required: command"),
        (["--quiet", "info", "a.nc"], "unrecognized arguments: --quiet a.nc"),
        (["--", "info"], "the command comes first, as in brainrdl info FILE"),
    ):
        with pytest.raises(SystemExit) as ended:
            main(arguments)
        assert ended.value.code == 2
        assert capsys.readouterr().err.splitlines()[-1] == f"brainrdl: error: {message}"


@pytest.mark.parametrize(
    ("message", "shown"),
    [
        ("threads must be at least 1, got 0", "--threads must be at least 1, got 0"),
        ("limit_train must lie between 10 and 20", "--limit-train must lie between 10 and 20"),
        ("give metric=, one of mse, corr", "give --metric, one of mse, corr"),
        ("labels= needs the 'labels' teacher", "--labels needs the 'labels' teacher"),
        (
            "name a folder (data_dir=), or fetch it with download=True",
            "name a folder (--data-dir), or fetch it with --download",
        ),
        ("take over='stimuli', which speaks of others", "take --over stimuli, which speaks of others"),
        ("join='intersect', or select_stimuli first", "--shared, or select_stimuli first"),
        ("name another folder with out=", "name another folder with --out"),
        # not an option's name, or not where one is meant
        ("give names=", "give names="),
        ("thread 3 stopped", "thread 3 stopped"),
        ("threads", "threads"),
        ("of the labels, two are missing", "of the labels, two are missing"),
        (
            "/data/metric=mse/a.nc: sub-01_metric=mse.nc is cut off",
            "/data/metric=mse/a.nc: sub-01_metric=mse.nc is cut off",
        ),
        ("give labels=[...]", "give labels=[...]"),
        ("change batch_size=…", "change batch_size=…"),
    ],
)
def test_a_librarys_arguments_are_a_commands_options(message: str, shown: str) -> None:
    parser = argparse.ArgumentParser()
    for flag in ("--threads", "--limit-train", "--metric", "--labels", "--data-dir", "--over"):
        parser.add_argument(flag)
    parser.add_argument("-o", "--out")
    parser.add_argument("--download", action="store_true")
    parser.add_argument("--shared", dest="join", action="store_true")
    options = {action.dest: action for action in parser._actions}
    assert name_options(message, options) == shown


def test_a_commands_message_names_its_options(file: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["compare", file, file, "--resamples", "1"]) == 2
    assert capsys.readouterr().err == "brainrdl: --resamples must be at least 2, but is 1\n"
