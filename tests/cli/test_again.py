"""A finished command given again is answered from what is kept, and never where something has changed."""

import argparse
import contextlib
import os
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import brainrdl
from brainrdl.cli import _again, main
from brainrdl.cli._again import Rests, run

ANSWER = "finished before, and nothing that it rests on has changed; as it was printed then:\n"


class Command:
    """A command that copies an input into its result, and counts how often it was run."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.runs, self.status = folder, 0, 0
        self.during: Callable[[], object] = lambda: None
        (folder / "images").mkdir()
        (folder / "images" / "a.png").write_text("a")
        (folder / "brain.nc").write_text("brain")
        (folder / "elsewhere").mkdir()
        self.options = {
            "rdms": str(folder / "brain.nc"),
            "roi": [f"IT={folder / 'images'}"],
            "seed": 0,
            "data_dir": None,
        }

    def __call__(self, *, out: str = "out") -> None:
        options = argparse.Namespace(**self.options, out=self.folder / out, run=self._run, rests=self._rests)
        assert run(options, ["card"]) == self.status

    def _rests(self, options: argparse.Namespace) -> Rests:
        return Rests(options.out, {"studies": {"other": str(self.folder / "elsewhere")}})

    def _run(self, options: argparse.Namespace, arguments: list[str]) -> int:
        self.runs += 1
        options.out.mkdir(exist_ok=True)
        (options.out / "report.html").write_text(Path(options.rdms).read_text())
        self.during()
        print("score: .5")
        return self.status


@pytest.fixture
def command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Command:
    monkeypatch.setattr(_again, "_MARGIN", -3600)  # the files were just written
    monkeypatch.chdir(tmp_path)
    return Command(tmp_path)


def test_the_same_command_prints_the_same_and_runs_nothing(
    command: Command, capsys: pytest.CaptureFixture[str]
) -> None:
    command()
    before = (command.folder / "out" / "report.html").stat()
    assert capsys.readouterr().out == "score: .5\n"
    for _ in range(2):
        command()
        assert capsys.readouterr().out == f"{ANSWER}score: .5\n"
    assert command.runs == 1
    assert (command.folder / "out" / "report.html").stat() == before


def test_warnings_are_given_again_and_bars_are_not(command: Command, capsys: pytest.CaptureFixture[str]) -> None:
    said = "brainrdl: warning: a stimulus was left out\nno --weights were given\n"
    command.during = lambda: print(f"\r50 %\r100 %\n{said}", end="", file=sys.stderr)
    command()
    capsys.readouterr()
    command()
    assert capsys.readouterr().err == said


def _replaced_at_the_same_size_and_time(folder: Path) -> None:
    path = folder / "brain.nc"
    times = path.stat()
    path.write_text("other")
    os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))


CHANGES: dict[str, Callable[[Path], object]] = {
    "an input is written anew": lambda folder: (folder / "brain.nc").write_text("brain "),
    "an input is replaced at the same size and time": _replaced_at_the_same_size_and_time,
    "an input is removed": lambda folder: (folder / "images" / "a.png").unlink(),
    "a folder has one more": lambda folder: (folder / "images" / "b.png").write_text("b"),
    "a file of the configuration's is new": lambda folder: (folder / "elsewhere" / "it.nc").write_text("it"),
    "a result is removed": lambda folder: (folder / "out" / "report.html").unlink(),
    "a result is changed": lambda folder: (folder / "out" / "report.html").write_text("?"),
    "the record is damaged": lambda folder: (folder / "out" / ".answer.json").write_text("{"),
    "the record is another thing": lambda folder: (folder / "out" / ".answer.json").write_text("[1]"),
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=list(CHANGES))
def test_what_has_changed_is_seen(command: Command, change: Callable[[Path], object]) -> None:
    command()
    change(command.folder)
    command()
    assert command.runs == 2
    command()
    assert command.runs == 2


def test_another_request_is_another_answer(command: Command, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    command()
    command.options["seed"] = 1
    command()
    assert command.runs == 2
    monkeypatch.setenv("BRAINRDL_DATA", str(tmp_path / "images"))
    command()
    assert command.runs == 3
    command(out="other")
    assert command.runs == 4


def test_the_users_code_is_part_of_it(command: Command, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    code = tmp_path / "networks_of_mine.py"
    code.write_text("size = 1")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "networks_of_mine", raising=False)
    command.during = lambda: __import__("networks_of_mine")
    command()
    code.write_text("size = 2")
    command()
    assert command.runs == 2


def test_what_changes_while_it_runs_is_not_kept(command: Command) -> None:
    command.during = lambda: (command.folder / "brain.nc").write_text("later")
    command()
    command.during = lambda: None
    command()
    assert command.runs == 2


def test_files_just_written_are_not_trusted(command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_again, "_MARGIN", 2.0)
    command()
    command()
    assert command.runs == 2


def test_a_failure_is_not_kept(command: Command) -> None:
    command.status = 1
    command()
    command()
    assert command.runs == 2


def test_more_files_than_can_be_looked_at_are_none(command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_again, "_MOST_FILES", 2)
    command()
    command()
    assert command.runs == 2


def test_the_folder_that_one_is_in_is_not_looked_through(command: Command) -> None:
    command.options["rdms"], command.options["roi"] = str(command.folder / "brain.nc"), ["."]
    command()
    command()
    assert command.runs == 2


def test_masks_of_each_subject_are_part_of_it(command: Command) -> None:
    (command.folder / "masks").mkdir()
    (command.folder / "masks" / "1.nii").write_text("mask")
    command.options["roi"] = [f"IT={command.folder}/masks/{{subject}}.nii"]
    command()
    command()
    assert command.runs == 1
    (command.folder / "masks" / "1.nii").write_text("another")
    command()
    assert command.runs == 2


def test_rdms_of_a_network_are_there_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(_again, "_MARGIN", -3600)
    (tmp_path / "images").mkdir()
    for name in "abc":
        pixels = np.random.default_rng(ord(name)).integers(0, 255, (8, 8, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(tmp_path / "images" / f"{name}.png")
    asked = ["rdms", "network", "--model", "card_networks:tiny", "--layers", "0", "--stimuli", str(tmp_path / "images")]
    asked += ["-o", str(tmp_path / "rdms.nc")]
    assert main(asked) == 0
    printed = capsys.readouterr().out
    with monkeypatch.context() as patched:
        patched.setattr("brainrdl.cli._network.network_rdms", None)
        assert main(asked) == 0
    assert capsys.readouterr().out == ANSWER + printed
    (tmp_path / "rdms.nc").unlink()
    assert main(asked) == 0
    assert capsys.readouterr().out == printed


def _write_network(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(folder))
    monkeypatch.delitem(sys.modules, "networks_of_mine", raising=False)
    (folder / "networks_of_mine.py").write_text("from pathlib import Path\nsize = Path('width.txt').read_text()\n")


@pytest.mark.parametrize("change", ["what it reads", "what it looks for", "a package before it"])
def test_what_the_users_code_rests_on_is_part_of_it(
    command: Command, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, change: str
) -> None:
    def during() -> None:
        __import__("networks_of_mine")
        with contextlib.suppress(FileNotFoundError):
            (tmp_path / "settings.json").read_text()

    _write_network(tmp_path, monkeypatch)
    (tmp_path / "width.txt").write_text("1")
    command.during = during
    command()
    command()
    assert command.runs == 1
    if change == "a package before it":
        (tmp_path / "networks_of_mine").mkdir()
        (tmp_path / "networks_of_mine" / "__init__.py").write_text("size = 2")
    else:
        (tmp_path / {"what it reads": "width.txt", "what it looks for": "settings.json"}[change]).write_text("2")
    command()
    assert command.runs == 2


def test_what_it_wrote_itself_is_no_input(command: Command, tmp_path: Path) -> None:
    def during() -> None:
        cache = tmp_path / f"cache-{command.runs}"
        cache.write_text("kept elsewhere")
        cache.read_text()
        cache.unlink()

    command.during = during
    command()
    command()
    assert command.runs == 1


def test_an_input_called_like_the_folder_of_results_is_an_input(command: Command, tmp_path: Path) -> None:
    command.options["rdms"] = str(tmp_path / "out.nc")
    (tmp_path / "out.nc").write_text("brain")
    command()
    (tmp_path / "out.nc").write_text("another")
    command()
    assert (tmp_path / "out" / "report.html").read_text() == "another"


def test_an_input_called_like_the_file_of_results_is_one_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    runs = []

    def write(options: argparse.Namespace, arguments: list[str]) -> int:
        runs.append(options.mask)
        (tmp_path / "it.nc").write_text(Path(options.mask).read_text())
        return 0

    monkeypatch.setattr(_again, "_MARGIN", -3600)
    mask = tmp_path / "it.nii.gz"
    options = argparse.Namespace(
        mask=str(mask), run=write, rests=lambda options: Rests(tmp_path / "it.nc", is_file=True)
    )
    for text in ("mask", "another"):
        mask.write_text(text)
        run(options, ["rdms"])
        assert (tmp_path / "it.nc").read_text() == text
    run(options, ["rdms"])
    assert len(runs) == 2


def test_folders_behind_links_are_looked_into(command: Command, tmp_path: Path) -> None:
    for name in ("first", "second"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "a.png").write_text("a")
    (tmp_path / "linked").symlink_to("first")
    command.options["roi"] = [f"IT={tmp_path / 'linked'}"]
    command()
    (tmp_path / "linked").unlink()
    (tmp_path / "linked").symlink_to("second")
    command()
    assert command.runs == 2
    (tmp_path / "second" / "a.png").write_text("another")
    command()
    assert command.runs == 3


@pytest.mark.parametrize("change", ["a package is installed", "another Python", "another copy of this package"])
def test_another_environment_is_another_answer(
    command: Command, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, change: str
) -> None:
    (tmp_path / "site-packages").mkdir()
    monkeypatch.setattr(_again, "_installed", lambda: {str(tmp_path / "site-packages")})
    command()
    command()
    assert command.runs == 1
    if change == "a package is installed":
        (tmp_path / "site-packages" / "timm-1.0.dist-info").mkdir()
    elif change == "another Python":
        monkeypatch.setattr(sys, "prefix", str(tmp_path))
    else:
        (tmp_path / "brainrdl").mkdir()
        monkeypatch.setattr(brainrdl, "__file__", str(tmp_path / "brainrdl" / "__init__.py"))
    command()
    assert command.runs == 2


def test_an_installed_network_that_is_named_is_code_of_the_users(
    command: Command, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    place = tmp_path / "site-packages"
    place.mkdir()
    monkeypatch.setattr(_again, "_installed", lambda: {str(place)})
    _write_network(place, monkeypatch)
    (tmp_path / "width.txt").write_text("1")
    command.options["model"] = "networks_of_mine:make"
    command.during = lambda: __import__("networks_of_mine")
    command()
    with (place / "networks_of_mine.py").open("a") as file:
        file.write("size = 3\n")
    command()
    assert command.runs == 2
