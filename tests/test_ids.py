import re

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, strategies as st

from brainrdl.arguments import did_you_mean, name_some
from brainrdl.ids import check_ids, difference, find_ids, nearest, read_labels, text_order

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


NFC, NFD = "caf\u00e9", "cafe\u0301"


@pytest.mark.parametrize(
    ("missing", "known", "hint"),
    [
        ("a ", ["a", "b"], "'a', which differs from 'a ' in blanks"),
        ("face  1", ["face 1"], "'face 1', which differs from 'face  1' in blanks"),
        ("a", ["\ufeffa"], "'\\ufeffa', which differs from 'a' in invisible characters"),
        (NFD, [NFC], "'caf\\xe9', which differs from 'cafe\\u0301' in the Unicode form of letters (NFC, NFD)"),
        ("Face", ["face"], "'face', which differs from 'Face' in upper and lower case"),
        ("face.png", ["face"], "'face', which differs from 'face.png' in the suffix of a file"),
        ("cat/dog", ["cat_dog"], "'cat_dog', which differs from 'cat/dog' in hyphens, underscores or slashes"),
        ("img1", ["img01", "img10"], "'img01', which differs from 'img1' in zeros before a number"),
        ("FACE ", ["face"], "'face', which differs from 'FACE ' in blanks and upper and lower case"),
    ],
)
def test_another_spelling_is_named_with_what_sets_it_apart(missing, known, hint):
    assert nearest(["elsewhere", missing], known) == f"; did you mean {hint}?"
    with raises(ValueError, f"not among the {len(known)} stimuli of the RDMs: {missing!r}; did you mean {hint}?"):
        find_ids([missing], known, "the RDMs")


def test_the_likeliest_is_named_where_no_spelling_is_meant():
    assert nearest(["hause"], ["house", "tree"]) == "; did you mean 'house'?"
    assert nearest(["q"], ["house"]) == nearest([], ["house"]) == ""
    assert difference("a", "b") == ""


@pytest.mark.parametrize(
    ("ids", "message"),
    [
        (5, "stimuli is 5, of type int; expected a sequence of strings"),
        (None, "stimuli is None, of type NoneType; expected a sequence of strings"),
        (np.array("abc"), "stimuli is 'abc', of type str; expected a sequence of strings"),
    ],
)
def test_what_is_no_sequence(ids, message):
    with raises(TypeError, message):
        check_ids(ids, "stimuli")


def test_the_order_of_text_leaves_that_of_numbers():
    counted = [f"img{k}" for k in range(1, 13)]
    assert text_order(sorted(counted)) == (1, "img2")
    assert text_order(counted) is None  # in the order of numbers
    assert text_order(["img2", "img10", "img1"]) is None  # in neither
    assert text_order([f"img{k:02}" for k in range(1, 13)]) is None
    assert text_order(["face", "house"]) is None
    assert text_order(["10", "9"]) == (0, "9")


def test_labels_of_a_series_go_by_its_index():
    labels = pd.Series(["face", "house"], index=["a", "b"])
    assert read_labels(labels) == {"a": "face", "b": "house"}
    with raises(ValueError, "the index of labels must be unique, but these occur more than once: 'a'"):
        read_labels(pd.Series(["face", "house"], index=["a", "a"]))


def test_one_category_in_two_spellings():
    for other, shown in (("face ", "'face '"), ("\u200bface", "'\\u200bface'")):
        with raises(
            ValueError,
            f"labels writes one category in 2 ways: 'face' (2 stimuli) and {shown} (1 stimuli); write it in one way, "
            "or give two categories names that differ by more than spaces",
        ):
            read_labels({"a": "face", "b": other, "c": "face"})
    with raises(
        ValueError,
        "labels writes one category in 2 ways: 'caf\\xe9' (1 stimuli) and 'cafe\\u0301' (1 stimuli); write it in one "
        "way, or give two categories names that differ by more than spaces",
    ):
        read_labels({"a": NFC, "b": NFD})
    assert read_labels({"a": "face", "b": "Face"}) == {"a": "face", "b": "Face"}  # letters may be the categories


def test_one_stimulus_in_two_spellings():
    with raises(
        ValueError,
        "labels has 'a' and 'a ', which differ in blanks alone and would count as two stimuli; give each one spelling",
    ):
        read_labels({"a": 1, "a ": 2})
    assert read_labels({"a": 1, "A": 2}) == {"a": 1, "A": 2}  # letters may be the stimuli
