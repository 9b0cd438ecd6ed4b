"""A short run of the damaged and hostile image files; `fuzz`, `flips` and `truncations` take larger numbers."""

import images_fuzz
import pytest


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
