"""A short run of the damaged and hostile image files; `fuzz`, `flips` and `truncations` take larger numbers."""

import importlib.util
import sys
from pathlib import Path

import pytest

_SPEC = importlib.util.spec_from_file_location("images_fuzz", Path(__file__).with_name("images_fuzz.py"))
images_fuzz = importlib.util.module_from_spec(_SPEC)
sys.modules["images_fuzz"] = images_fuzz
_SPEC.loader.exec_module(images_fuzz)


@pytest.mark.parametrize("reader", images_fuzz.READERS)
def test_a_damaged_file_ends_in_a_documented_error(reader):
    found = images_fuzz.fuzz(reader, 500)
    assert found.faults == []
    assert 0 < found.read < found.executions == 500


def test_no_flipped_bit_gives_other_values():
    found = images_fuzz.flips(300)
    assert found.faults == []
    assert found.read < found.executions == 900


def test_no_part_is_read_as_the_whole():
    found = images_fuzz.truncations(200)
    assert found.faults == []
    assert found.executions == 600
