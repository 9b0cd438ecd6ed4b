"""Results that are made once."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from brainrdl.studies.folder import HeldError, locked
from brainrdl.studies.kept import kept
from brainrdl.studies.tries import kept_tries, tries_table


def write(text: str, path: Path) -> None:
    path.write_text(text)


def read(path: Path) -> str | None:
    return path.read_text() or None


def test_what_is_kept_is_not_made_again(tmp_path: Path) -> None:
    made: list[str] = []

    def make() -> str:
        made.append("once")
        return "result"

    for _ in range(2):
        assert kept(tmp_path / "a", make, write=write, read=read) == "result"
    assert made == ["once"]


def test_what_was_written_is_read_back(tmp_path: Path) -> None:
    found = kept(tmp_path / "a", lambda: 0.1, write=lambda value, path: path.write_text(f"{value:.3f}"), read=read)
    assert found == "0.100"


def test_what_is_not_complete_is_made(tmp_path: Path) -> None:
    (tmp_path / "a").touch()
    assert kept(tmp_path / "a", lambda: "result", write=write, read=read) == "result"


def test_what_another_process_made_meanwhile_is_read(tmp_path: Path) -> None:
    @contextmanager
    def waited_for_another() -> Iterator[None]:
        (tmp_path / "a").write_text("theirs")
        yield

    found = kept(tmp_path / "a", lambda: "ours", write=write, read=read, lock=waited_for_another())
    assert found == "theirs"


def test_another_identity_is_refused(tmp_path: Path) -> None:
    def check(found: str) -> None:
        if found != "mine":
            raise ValueError(f"it holds {found}, expected mine")

    write("yours", tmp_path / "a")
    with pytest.raises(ValueError, match=r"^it holds yours, expected mine$"):
        kept(tmp_path / "a", lambda: "mine", write=write, read=read, check=check)


def test_what_another_process_holds_is_not_made(tmp_path: Path) -> None:
    with locked(tmp_path / "lock"), pytest.raises(HeldError):
        kept(tmp_path / "a", lambda: "result", write=write, read=read, lock=locked(tmp_path / "lock"))
    assert not (tmp_path / "a").exists()


def test_what_is_kept_is_read_whoever_holds_it(tmp_path: Path) -> None:
    write("result", tmp_path / "a")
    with locked(tmp_path / "lock"):
        assert kept(tmp_path / "a", lambda: "", write=write, read=read, lock=locked(tmp_path / "lock")) == "result"


def test_what_vanishes_is_told(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"/a vanished while it was written$"):
        kept(tmp_path / "a", lambda: "result", write=lambda value, path: None, read=read)


def test_tries_of_several_choices_are_one_table(tmp_path: Path) -> None:
    for name, alpha in (("b", 2.0), ("a", 1.0)):
        kept_tries(
            tmp_path / f"{name}.json", lambda alpha=alpha: [{"alpha0": alpha, "chosen": True}], fields=("chosen",)
        )
    assert tries_table(tmp_path.glob("*.json"))["alpha0"].tolist() == [1.0, 2.0]
    with pytest.raises(
        ValueError, match=r"^an entry of .*a.json lacks 'setting'; it is damaged, or of another version$"
    ):
        kept_tries(tmp_path / "a.json", list, fields=("setting",))
