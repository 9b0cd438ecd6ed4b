"""Study files that are written to exhaust the machine, or hold what is no study."""

import time
from pathlib import Path

import pytest

from brainrdl.studies.brain.configuration import read_configuration
from brainrdl.studies.brain.yaml_file import read_yaml

LAUGHS = "a0: &a0 [x, x]\n" + "".join(f"a{k}: &a{k} [{', '.join([f'*a{k - 1}'] * 10)}]\n" for k in range(1, 10))
MERGES = "a0: &a0 {x: 1}\n" + "".join(
    f"a{k}: &a{k} {{<<: [{', '.join([f'*a{k - 1}'] * 10)}], y{k}: 1}}\n" for k in range(1, 10)
)
MANY = "each alias (*name) written out, which no study needs; is it another file?"
LARGE = "which no study needs; is it another file?"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (LAUGHS, f"holds more than 10,000 values by line 5, {MANY}"),
        (
            LAUGHS.replace("a9:", "name:"),
            f"holds more than 10,000 values by line 5, {MANY}",
        ),
        (MERGES, f"holds more than 10,000 values by line 5, {MANY}"),
        (
            "[" + "0," * 20_000 + "0]",
            f"holds more than 10,000 values by line 1, {MANY}",
        ),
        ("a: " + "x" * 300_000, f"has more than 200,000 bytes, {LARGE}"),
        ("a: &a [*a]", "is not YAML: an alias stands within itself in line 1, column 4: a: &a [*a] ^"),
        ("a: &a {b: *a}", "is not YAML: an alias stands within itself in line 1, column 4: a: &a {b: *a} ^"),
        ("[" * 5_000, "is not YAML: maximum recursion depth exceeded"),
        ("a: 2024-13-45", "is not YAML: month must be in 1..12"),
        ("a: " + "9" * 5_000, "is not YAML: Exceeds the limit (4300 digits) for integer string conversion"),
        ("a: !!python/object/apply:os.abort []", "is not YAML: could not determine a constructor for the tag"),
    ],
)
def test_a_file_that_would_exhaust_the_machine_is_refused_at_once(text: str, message: str, tmp_path: Path) -> None:
    path = tmp_path / "study.yaml"
    path.write_text(text)
    begin = time.process_time()
    with pytest.raises(ValueError) as refused:
        read_configuration(path)
    assert time.process_time() - begin < 2
    assert str(refused.value).startswith(f"{path} {message}")
    assert len(str(refused.value)) < 500


def test_a_message_shows_no_more_of_a_file_than_a_reader_wants(tmp_path: Path) -> None:
    path = tmp_path / "study.yaml"
    path.write_text("name: [" + "x, " * 5_000 + "x]\n" + "".join(f"{'k' * 300}{n}: 1\n" for n in range(100)))
    with pytest.raises(ValueError) as refused:
        read_configuration(path)
    message = str(refused.value)
    assert message.endswith("; and 87 more")
    assert len(message) < 10_000
    assert "name should be a valid string, got ['x', 'x', " in message
    assert f"there is no field {'k' * 200} … (301 characters)" in message


def test_aliases_of_an_ordinary_size_are_read(tmp_path: Path) -> None:
    path = tmp_path / "a.yaml"
    path.write_text("base: &base {a: 1, b: [1, 2]}\nother: {<<: *base, a: 2}\nsame: *base\n")
    base = {"a": 1, "b": [1, 2]}
    assert read_yaml(path) == {"base": base, "other": {"a": 2, "b": [1, 2]}, "same": base}
