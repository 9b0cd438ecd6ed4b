"""The same thing under two ids, found by its content."""

import torch

from brainrdl.stimuli.repeats import across, find_repeats


def test_equal_content_is_found_whatever_lies_between():
    a, b = torch.rand(3, 2), torch.rand(3, 2)
    contents = [a, b, a.clone(), a.T.contiguous(), b.double(), b.clone(), a.T.contiguous().T]
    ids = ["a", "b", "a2", "turned", "deeper", "b2", "a3"]
    assert find_repeats(zip(contents, ids, strict=True)) == [("a", "a2", "a3"), ("b", "b2")]


def test_nothing_repeated():
    assert find_repeats([(torch.tensor(1.0), "a"), (torch.tensor(1), "b")]) == []


def test_a_group_on_both_sides():
    assert across([("a", "b"), ("c", "d", "e")], ["a", "b", "d"], ["e", "f"]) == ("d", "e")
    assert across([("a", "b")], ["a", "b"], ["c"]) is None
