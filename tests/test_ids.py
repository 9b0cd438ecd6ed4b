import re

import numpy as np
import pytest
from hypothesis import given, strategies as st

from brainrdl.arguments import did_you_mean, name_some
from brainrdl.ids import check_ids, find_ids

unicode_ids = st.lists(
    st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1),
    min_size=1,
    max_size=6,
    unique=True,
)


def raises(error, message):
    return pytest.raises(error, match=f"^{re.escape(message)}$")


@given(unicode_ids)
def test_good_ids_come_back(ids):
    assert check_ids(ids, "ids") == tuple(ids)
    assert check_ids(np.array(ids, dtype=object), "ids") == tuple(ids)


def test_ids_of_an_array_become_plain_strings():
    assert [type(value) for value in check_ids(np.array(["a", "b"]), "ids")] == [str, str]


@pytest.mark.parametrize(
    ("ids", "error", "message"),
    [
        ("abc", TypeError, "stimuli is one string, 'abc'; expected a sequence of strings: ['abc']"),
        ({"a"}, TypeError, "stimuli is a set, which has no order; expected a list or tuple of strings"),
        (
            ["a", 7],
            TypeError,
            ("stimuli[1] is 7, of type int; expected a string, so convert it to the one that the other data carry"),
        ),
        (
            [["a"]],
            TypeError,
            (
                "stimuli[0] is ['a'], of type list; expected a string, so convert it to the one that the "
                "other data carry"
            ),
        ),
        (["a", ""], ValueError, "stimuli[1] is an empty string; expected a name for each"),
        (
            ["a\0"],
            ValueError,
            ("stimuli[0] is 'a\\x00', with a character that files cannot store (NUL or a lone surrogate); rename it"),
        ),
        (
            ["\ud800"],
            ValueError,
            ("stimuli[0] is '\\ud800', with a character that files cannot store (NUL or a lone surrogate); rename it"),
        ),
        (
            list("abcabc"),
            ValueError,
            "stimuli must be unique, but these occur more than once: 'a', 'b', 'c'",
        ),
    ],
)
def test_what_is_no_key(ids, error, message):
    with raises(error, message):
        check_ids(ids, "stimuli")


def test_messages_name_a_few_and_suggest_the_nearest():
    assert name_some(list("abcdef")) == "'a', 'b', 'c', 'd', 'e' and 1 more"
    assert did_you_mean("q", ["face"]) == ""
    with raises(ValueError, "not among the 2 stimuli of the study: 'hause', 'fase'; did you mean 'house' or 'mouse'?"):
        find_ids(["hause", "house", "fase"], ["house", "mouse"], "the study")
