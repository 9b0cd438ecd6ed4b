"""What users read says what the field says: no phrase that the table of CONTRIBUTING.md replaces comes back."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]

PLACES = (
    *("brainrdl/**/*.py", "brainrdl/**/*.jinja", "brainrdl/**/*.yaml", "benchmarks/*.py", "examples/*"),
    *("datasets/**/*.py", "datasets/**/*.md", "results/*.py", "results/*.md", "results/**/*.html", "README.md"),
    *("SECURITY.md", "docs/reliability.md", "docs/results.md"),  # docs/checked.md and CHANGELOG.md quote what was
)


def table() -> list[tuple[str, str]]:
    """Read the rows of the table: what to say, and each phrase that it replaces."""
    text = (ROOT / "CONTRIBUTING.md").read_text("utf-8").split("\n## Words\n")[1].split("\n## ")[0]
    rows = [line.strip("| ").split(" | ") for line in text.splitlines() if line.startswith("|")][2:]
    return [(say, phrase) for say, phrases, _ in rows for phrase in phrases.split("; ")]


def pattern(phrase: str) -> re.Pattern[str]:
    """Match a phrase as whole words, over ends of lines and in either case."""
    words = r"\s+".join(map(re.escape, phrase.split()))
    return re.compile(rf"(?<!\w){words}(?!\w)", re.IGNORECASE)


def texts(path: Path) -> Iterator[tuple[int, str]]:
    """Find what users read of a file, with its lines: of Python its strings, f-strings whole; of others all."""
    source = path.read_text("utf-8")
    if path.suffix == ".html":
        yield 1, re.sub(r'"data:[^"]*"', '""', source)
    elif path.suffix == ".py":
        for node in ast.walk(ast.parse(source)):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                yield node.lineno, node.value
            elif isinstance(node, ast.JoinedStr):
                yield node.lineno, "".join(p.value if isinstance(p, ast.Constant) else "{}" for p in node.values)
    else:
        yield 1, source


def files() -> list[Path]:
    return sorted(path for place in PLACES for path in ROOT.glob(place) if path.is_file())


READ = {path: list(texts(path)) for path in files() if path.suffix in (".py", ".jinja", ".yaml", ".md", ".html")}


def found(phrase: str, read: dict[Path, list[tuple[int, str]]]) -> list[str]:
    sought = pattern(phrase)
    return sorted(
        {
            f"{path}:{line + text.count(chr(10), 0, match.start())}: {' '.join(match[0].split())}"
            for path, strings in read.items()
            for line, text in strings
            for match in sought.finditer(text)
        }
    )


@pytest.mark.parametrize(("say", "phrase"), table(), ids=[phrase for _, phrase in table()])
def test_no_replaced_phrase_is_written(say, phrase):
    there = found(phrase, READ)
    assert not there, "\n".join([f"say: {say} (CONTRIBUTING.md, Words)", *there])


def test_the_table_is_read_whole():
    phrases = [phrase for _, phrase in table()]
    assert {"referee", "trainings", "holds 0", "speaks of", "as it was made"} <= set(phrases)
    assert len(phrases) == len(set(phrases)) >= 25
    assert all(say.strip() and phrase.strip() == phrase for say, phrase in table())


def test_all_that_users_read_is_searched():
    for place in PLACES:
        assert any(path.match(place) or path in ROOT.glob(place) for path in READ), place
    assert len(READ) > 200


def test_a_phrase_is_found_wherever_it_may_stand(tmp_path):
    places = {
        "a.py": '"""Do it.\n\n    As a\n    Referee would.\n    """\ne = (f"{x} died "\n    "in training")\n',
        "b.md": "Other\ntrainings, of a refereed paper.\n",
        "c.html": '<img src="data:referee"><p>It holds 0.</p>',
    }
    for name, text in places.items():
        (tmp_path / name).write_text(text, encoding="utf-8")
    read = {tmp_path / name: list(texts(tmp_path / name)) for name in places}
    assert found("referee", read) == [f"{tmp_path}/a.py:4: Referee"]
    assert found("died in training", read) == [f"{tmp_path}/a.py:6: died in training"]
    assert found("other trainings", read) == [f"{tmp_path}/b.md:1: Other trainings"]
    assert found("holds 0", read) == [f"{tmp_path}/c.html:1: holds 0"]
    assert found("hold 0", read) == []
