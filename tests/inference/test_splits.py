"""Splits of stimuli into those to fit to and those to judge on."""

from collections import Counter

import numpy as np
import pytest
import xarray as xr

from brainrdl.data.objects92 import CATEGORIES, IDS
from brainrdl.inference.splits import Split, category_splits, inner_splits, random_splits, stratified_splits

LABELS = dict(zip(IDS, CATEGORIES, strict=True))
ABC = {f"{kind}{k}": kind for kind in "abc" for k in range(4)}


@pytest.mark.parametrize("n_folds", [2, 5, 7])
def test_each_category_is_dealt_over_the_folds(n_folds):
    splits = stratified_splits(LABELS, n_folds, seed=3)
    assert [split.name for split in splits] == [f"fold-{k + 1}" for k in range(n_folds)]
    assert {split.scheme for split in splits} == {"stratified"}
    assert sorted(stimulus for split in splits for stimulus in split.held_out) == sorted(IDS)
    assert np.ptp([len(split.held_out) for split in splits]) <= 1
    for split in splits:
        assert set(split.training) == set(IDS) - set(split.held_out)
    for category in set(CATEGORIES):
        assert np.ptp([sum(LABELS[s] == category for s in split.held_out) for split in splits]) <= 1


def test_a_category_is_held_out():
    splits = category_splits(LABELS)
    assert [split.name for split in splits] == sorted(set(CATEGORIES))
    for split in splits:
        assert split.scheme == "leave_one_category_out"
        assert set(split.held_out) == {stimulus for stimulus in IDS if LABELS[stimulus] == split.name}
        assert set(split.training) == set(IDS) - set(split.held_out)


def test_random_splits_hold_out_a_share_of_each_category():
    splits = random_splits(LABELS, 30, held_out=0.25, seed=1)
    assert [split.name for split in splits][::29] == ["split-01", "split-30"]
    assert len({split.held_out for split in splits}) == 30
    for split in splits:
        assert split.scheme == "random"
        assert len(split.held_out) == 23
        assert set(split.training) == set(IDS) - set(split.held_out)
        counts = Counter(LABELS[stimulus] for stimulus in split.held_out)
        for category in set(CATEGORIES):
            assert abs(counts[category] - CATEGORIES.count(category) / 4) < 1
    held = Counter(stimulus for split in splits for stimulus in split.held_out)
    assert set(held) == set(IDS)  # .75³⁰ is 2e-4
    assert random_splits(LABELS, 3, held_out=0.25, seed=1) == splits[:3]


def test_inner_splits_are_of_the_training_stimuli_alone():
    labels = LABELS | {"body": "animal body", "lonely": "unlike any"}
    outer = Split("by hand", "one", (*IDS[:60], "lonely"), IDS[60:])
    inner = inner_splits(outer, labels, 3, seed=1)
    assert [split.name for split in inner] == ["inner-1", "inner-2", "inner-3"]
    for split in inner:
        assert split.scheme == "inner"
        assert set(split.training) | set(split.held_out) == set(outer.training)
        for category in set(CATEGORIES[:48]):
            assert sum(labels[stimulus] == category for stimulus in split.held_out) == 4
    assert sorted(stimulus for split in inner for stimulus in split.held_out) == sorted(outer.training)


def test_splits_depend_on_the_seed_but_not_on_the_order_of_the_stimuli():
    permuted = [IDS[k] for k in np.random.default_rng(0).permutation(92)]
    other = xr.DataArray([LABELS[stimulus] for stimulus in permuted], dims="stimulus", coords={"stimulus": permuted})
    assert stratified_splits(other) == stratified_splits(LABELS)
    assert category_splits(other) == category_splits(LABELS)
    assert random_splits(other) == random_splits(LABELS)
    outer = stratified_splits(LABELS)[0]
    backwards = Split(outer.scheme, outer.name, outer.training[::-1], outer.held_out[::-1])
    assert inner_splits(backwards, other) == inner_splits(outer, LABELS)
    assert stratified_splits(LABELS, seed=1) != stratified_splits(LABELS)
    assert random_splits(LABELS, seed=1) != random_splits(LABELS)
    assert inner_splits(outer, LABELS, seed=1) != inner_splits(outer, LABELS)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (
            lambda: Split("by hand", "one", tuple("abcd"), tuple("dcef")),
            ValueError,
            "split 'one' of scheme 'by hand' has 2 stimuli in both training and held_out: 'd', 'c'; a model would be "
            "judged on what it was fitted to, so give each stimulus to one of the two",
        ),
        (
            lambda: Split("by hand", "one", tuple("abc"), tuple("de")),
            ValueError,
            "split 'one' of scheme 'by hand' holds out 2 of 5 stimuli; at least 3 must be held out and 3 left to fit: "
            "split into fewer or larger parts",
        ),
        (
            lambda: Split("by hand", "one", tuple("aba"), tuple("def")),
            ValueError,
            "training of split 'one' of scheme 'by hand' must be unique, but these occur more than once: 'a'",
        ),
        (
            lambda: Split("by hand", "one", tuple("abc"), (1, 2, 3)),
            TypeError,
            "held_out of split 'one' of scheme 'by hand'[0] is 1, of type int; expected a string, so convert it to the "
            "one that the other data carry",
        ),
        (
            lambda: Split("by hand", "one", ("face", "key", "cup"), ("car", "ann", "face ")),
            ValueError,
            "split 'one' of scheme 'by hand' has the stimuli 'face' and 'face ', which differ in blanks alone; give "
            "each stimulus one spelling, so that none is on both sides",
        ),
        (
            lambda: Split("by hand", "one", ("caf\xe9", "key", "cup"), ("car", "ann", "cafe\u0301")),
            ValueError,
            "split 'one' of scheme 'by hand' has the stimuli 'caf\\xe9' and 'cafe\\u0301', which differ in the Unicode "
            "form of letters (NFC, NFD) alone; give each stimulus one spelling, so that none is on both sides",
        ),
        (
            lambda: category_splits(dict(zip("abcdef", ["face"] * 3 + ["face "] * 3, strict=True))),
            ValueError,
            "labels writes one category in 2 ways: 'face' (3 stimuli) and 'face ' (3 stimuli); write it in one way, or "
            "give two categories names that differ by more than spaces",
        ),
        (lambda: Split("", "x", (), ()), TypeError, "scheme of a split is ''; expected a name"),
        (lambda: Split("x", 1, (), ()), TypeError, "name of a split is 1; expected a name"),
        (
            lambda: stratified_splits(ABC),
            ValueError,
            "split 'fold-3' of scheme 'stratified' holds out 2 of 12 stimuli; at least 3 must be held out and 3 left "
            "to fit: split into fewer or larger parts",
        ),
        (lambda: stratified_splits(ABC, 1), ValueError, "n_folds must be at least 2, but is 1"),
        (lambda: stratified_splits(ABC, 2.5), TypeError, "n_folds is 2.5; expected a whole number"),
        (lambda: stratified_splits(ABC, 2, seed=-1), ValueError, "seed must be at least 0, but is -1"),
        (
            lambda: stratified_splits(list(ABC)),
            TypeError,
            "labels is a list, which has no stimulus ids; give a mapping: dict(zip(ids, labels))",
        ),
        (
            lambda: stratified_splits({1: "a", 2: "b"}),
            TypeError,
            "the stimuli of labels[0] is 1, of type int; expected a string, so convert it to the one that the other "
            "data carry",
        ),
        (
            lambda: category_splits(ABC | {"d": "d"}),
            ValueError,
            "split 'd' of scheme 'leave_one_category_out' holds out 1 of 13 stimuli; at least 3 must be held out and 3 "
            "left to fit: split into fewer or larger parts",
        ),
        (
            lambda: category_splits({"a": 1, "b": "1"}),
            ValueError,
            "the categories' names must be unique, but these occur more than once: '1'",
        ),
        (lambda: random_splits(ABC, 0), ValueError, "n_splits must be at least 1, but is 0"),
        (
            lambda: random_splits(ABC, held_out=20),
            ValueError,
            "held_out is 20; expected the share of stimuli to hold out, such as 0.2",
        ),
        (
            lambda: random_splits(ABC, held_out=0.01),
            ValueError,
            "split 'split-01' of scheme 'random' holds out 0 of 12 stimuli; at least 3 must be held out and 3 left to "
            "fit: split into fewer or larger parts",
        ),
        (
            lambda: inner_splits(Split("by hand", "one", tuple("abcdef"), tuple("xyz")), dict.fromkeys("abc", 1)),
            ValueError,
            "labels has no category for 3 of 6 training stimuli: 'd', 'e', 'f'",
        ),
    ],
)
def test_refusals(call, error, message):
    with pytest.raises(error) as raised:
        call()
    assert str(raised.value) == message
