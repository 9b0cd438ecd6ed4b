"""A short run of the damaged and hostile files of RDMs and weights; ``make faults`` runs the long one."""

import pytest
import rdms_fuzz


@pytest.mark.parametrize("reader", rdms_fuzz.READERS)
def test_a_damaged_file_ends_in_a_documented_error(reader):
    executions = 30 if reader in ("nc", "h5", "73.mat") else 120
    found = rdms_fuzz.fuzz(reader, executions)
    assert found.faults == []
    assert found.executions == executions
    assert found.read < executions


@pytest.mark.parametrize("suffix", rdms_fuzz.WRITTEN)
def test_no_flipped_bit_gives_other_content(suffix):
    found = rdms_fuzz.flips(30 if suffix in ("nc", "h5") else 100, (suffix,))
    assert found.faults == []
    assert found.read < found.executions


@pytest.mark.parametrize("suffix", rdms_fuzz.WRITTEN)
def test_no_part_is_read_as_another_whole(suffix):
    found = rdms_fuzz.truncations(15 if suffix in ("nc", "h5") else 50, (suffix,))
    assert found.faults == []
    assert found.read < found.executions
