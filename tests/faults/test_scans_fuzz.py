"""A short run of damaged and hostile files of fMRI; `fuzz`, `flips` and `truncations` take larger numbers."""

import pytest
import scans_fuzz


@pytest.mark.parametrize("reader", scans_fuzz.READERS)
def test_a_damaged_file_ends_in_a_documented_error(reader):
    found = scans_fuzz.fuzz(reader, 150)
    assert found.faults == []
    assert 0 < found.read < found.executions == 150


def test_no_flipped_bit_of_a_compressed_image_gives_other_values():
    found = scans_fuzz.flips(200)
    assert found.faults == []
    assert found.read < found.executions == 200


def test_no_part_is_read_as_the_whole():
    found = scans_fuzz.truncations(200)
    assert found.faults == []
    assert found.executions == 400
