"""The documents name tests that there are."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
TESTS = "\n".join(path.read_text("utf-8") for path in sorted((ROOT / "tests").rglob("*.py")))


@pytest.mark.parametrize("name", ["checked.md", "reliability.md"])
def test_the_tests_that_a_document_names_are_there(name):
    text = (ROOT / "docs" / name).read_text("utf-8")
    files = set(re.findall(r"tests/[\w/]+\.py", text))
    assert files
    assert not [file for file in sorted(files) if not (ROOT / file).is_file()]
    # a file's name is no test; what stands in the files themselves is asked for above
    named = set(re.findall(r"(?<![\w/])test_\w+(?!\w|\.py)", text))
    assert not [test for test in sorted(named) if f"def {test}(" not in TESTS and f"/{test}.py" not in text]
