"""Which files of a folder are stimuli, each real one once, and the ids that their names give."""

import os
import re
import warnings

import pytest
from PIL import Image

from brainrdl.stimuli.image_files import find_images


def raises(error, message):
    return pytest.raises(error, match=f"^{re.escape(message)}$")


def warns(message):
    return pytest.warns(UserWarning, match=f"^{re.escape(message)}$")


def save(path):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (4, 4)).save(path, format="PNG")


def test_files_that_systems_hide_are_not_looked_at(tmp_path):
    save(tmp_path / "a.png")
    for name in ("._a.png", ".DS_Store", "Thumbs.db", "ehthumbs.db", "desktop.ini", "Icon\r", "__MACOSX/._a.png"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"\0\x05\x16\x07")
    save(tmp_path / ".hidden" / "b.png")
    assert find_images(tmp_path) == {"a": tmp_path / "a.png"}


# links


def test_a_link_to_its_own_folder_adds_nothing(tmp_path):
    save(tmp_path / "a.png")
    save(tmp_path / "below" / "b.png")
    (tmp_path / "below" / "again").symlink_to(tmp_path)
    with warns(
        f"left out of the stimuli in {tmp_path}, as they are links to what is there under its own name: 'below/again'"
    ):
        assert list(find_images(tmp_path)) == ["a", "below/b"]
    (tmp_path / "below" / "once-more").symlink_to(tmp_path)
    (tmp_path / "relative").symlink_to(".")
    with warns(
        f"left out of the stimuli in {tmp_path}, as they are links to what is there under its own name: "
        "'below/again', 'below/once-more', 'relative'"
    ):
        assert list(find_images(tmp_path)) == ["a", "below/b"]


def test_a_link_to_an_image_of_the_folder_is_left_out_aloud(tmp_path):
    save(tmp_path / "z.png")
    (tmp_path / "a.png").symlink_to("z.png")
    with warns(
        f"left out of the stimuli in {tmp_path}, as they are links to what is there under its own name: 'a.png'"
    ):
        assert find_images(tmp_path) == {"z": tmp_path / "z.png"}


def test_a_link_into_a_hidden_folder_below_is_followed(tmp_path):
    save(tmp_path / ".annex" / "0f3a.png")
    (tmp_path / "a.png").symlink_to(".annex/0f3a.png")
    assert find_images(tmp_path) == {"a": tmp_path / "a.png"}


def test_links_out_of_the_folder_need_permission(tmp_path):
    save(tmp_path / "out" / "secret.png")
    save(tmp_path / "in" / "a.png")
    root = tmp_path / "in"
    (root / "l.png").symlink_to(tmp_path / "out" / "secret.png")
    (root / "d").symlink_to(tmp_path / "out")
    shown = [f"d -> {tmp_path / 'out'}", f"l.png -> {tmp_path / 'out' / 'secret.png'}"]
    with raises(
        ValueError,
        f"2 links in {root} lead out of the folder: {shown[0]!r}, {shown[1]!r}; take them out, or read what they lead "
        "to as well: follow_links=True",
    ):
        find_images(root)
    with warns(f"left out of the stimuli in {root}, as they are links to what is there under its own name: 'l.png'"):
        assert list(find_images(root, follow_links=True)) == ["a", "d/secret"]


def test_a_link_to_a_folder_above_brings_each_file_once(tmp_path):
    save(tmp_path / "beside.png")
    save(tmp_path / "in" / "a.png")
    (tmp_path / "in" / "up").symlink_to(tmp_path)
    assert list(find_images(tmp_path / "in", follow_links=True)) == ["a", "up/beside"]


def test_two_links_to_folders_that_overlap_bring_each_file_once(tmp_path):
    save(tmp_path / "out" / "deep" / "b.png")
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "one").symlink_to(tmp_path / "out" / "deep")
    (tmp_path / "in" / "two").symlink_to(tmp_path / "out")
    assert list(find_images(tmp_path / "in", follow_links=True)) == ["one/b"]


def test_the_folder_itself_may_be_a_link(tmp_path):
    save(tmp_path / "real" / "a.png")
    (tmp_path / "name").symlink_to(tmp_path / "real")
    assert find_images(tmp_path / "name") == {"a": tmp_path / "name" / "a.png"}


def test_a_link_to_nothing_stays_a_stimulus(tmp_path):
    # as in a data set whose files are fetched later: whoever asks for the image is told, and none is dropped
    (tmp_path / "a.png").symlink_to("missing.png")
    (tmp_path / "b.png").symlink_to("b.png")
    assert list(find_images(tmp_path)) == ["a", "b"]


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="the system has no pipes")
def test_a_pipe_is_not_waited_for(tmp_path):
    save(tmp_path / "a.png")
    os.mkfifo(tmp_path / "b.png")
    with warns(f"left out of the stimuli in {tmp_path}, as they are neither files nor folders: 'b.png'"):
        assert list(find_images(tmp_path)) == ["a"]


# names


def test_a_name_that_is_not_utf8(tmp_path):
    name = os.fsencode(tmp_path) + b"/caf\xe9.png"
    try:
        with open(name, "wb") as file:
            file.write(b"")
    except OSError:
        pytest.skip("the file system takes UTF-8 alone")
    with raises(
        ValueError,
        f"{tmp_path} holds a file whose name is not UTF-8, b'caf\\xe9.png', and cannot be a stimulus id; rename it "
        "(convmv -f latin1 -t utf8 does so for many)",
    ):
        find_images(tmp_path)


@pytest.mark.parametrize("name", ["a\nb.png", "\x1b[31mred.png", "tab\t.png", "c1\x9b.png"])
def test_a_control_character_is_shown_and_refused(tmp_path, name):
    save(tmp_path / name)
    with raises(
        ValueError,
        f"{tmp_path} holds a file whose name has a control character, {name!r}, and cannot be a stimulus id; rename it",
    ):
        find_images(tmp_path)


@pytest.mark.parametrize(
    ("first", "second", "what"),
    [
        ("face", "face ", "blanks"),
        ("face", " face", "blanks"),
        ("a b", "a  b", "blanks"),
        ("caf\xe9", "cafe\u0301", "the Unicode form of letters (NFC, NFD)"),
        ("face", "\ufeffface", "invisible characters"),
        ("f /a", "f/a", "blanks"),
    ],
)
def test_ids_that_read_the_same(tmp_path, first, second, what):
    save(tmp_path / f"{first}.png")
    save(tmp_path / f"{second}.png")
    earlier, later = sorted((first, second))
    with raises(
        ValueError,
        f"{tmp_path} would give the stimuli {earlier!a} and {later!a}, which read the same: they differ in "
        f"{what} alone; rename one of them or take it out of the folder",
    ):
        find_images(tmp_path)


def test_capitals_and_blanks_alone_are_names_as_others(tmp_path):
    for name in ("Face", "face", "two words", "trailing "):
        save(tmp_path / f"{name}.png")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert list(find_images(tmp_path)) == ["Face", "face", "trailing ", "two words"]
