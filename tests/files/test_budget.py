import re

import pytest

from brainrdl.files import budget as module
from brainrdl.files.budget import allowed_bytes, check_claim


def test_a_claim_within_the_budget_is_handed_on():
    assert check_claim(10, "a.nc", 10) == 10
    assert check_claim(10, "a.nc") == 10


def test_a_claim_beyond_the_budget_is_refused():
    message = (
        "a.npz: 'rdm' claims 11 bytes (shape (11,)), more than the 10 that one file may take; if it is what you "
        "expect, give a larger max_bytes="
    )
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        check_claim(11, "a.npz: 'rdm'", 10, detail="(shape (11,))")


def test_a_quarter_of_the_memory_is_the_budget_where_none_is_given(monkeypatch):
    monkeypatch.setattr(module, "_memory", lambda: 40)
    assert allowed_bytes() == 10
    message = (
        "a.nc claims 11 bytes, more than the 10, a quarter of this machine's memory, that one file may take; if it is "
        "what you expect, give a larger max_bytes="
    )
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        check_claim(11, "a.nc")


@pytest.mark.parametrize("content", ["12345\n", "max\n"])
def test_a_container_s_memory_counts(monkeypatch, tmp_path, content):
    (tmp_path / "memory.max").write_text(content)
    whole = module._memory()
    monkeypatch.setattr(module, "_OF_THE_CONTAINER", tmp_path / "memory.max")
    assert module._memory() == (12345 if content == "12345\n" else whole)


def test_a_budget_is_a_whole_number_of_at_least_one_byte():
    with pytest.raises(ValueError, match=r"^max_bytes must be at least 1, but is 0$"):
        allowed_bytes(0)
    with pytest.raises(TypeError, match=r"^max_bytes is 1\.5; expected a whole number$"):
        allowed_bytes(1.5)
