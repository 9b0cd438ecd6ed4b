"""Splits of the stimuli: those that models are fitted to, and those that they are judged on.

A pair of stimuli is fitted only if both are training stimuli and scored only if both are held out; a pair that
straddles the two is neither.
"""

from collections.abc import Hashable, Mapping
from dataclasses import dataclass
from typing import SupportsIndex, final

import numpy as np

from brainrdl.arguments import name_some, whole_number
from brainrdl.ids import Labels, alike, check_ids, difference, read_labels, spelling

MIN_STIMULI = 3
"""Fewest stimuli of either kind: two make a single pair, which has nothing to vary against."""


@final
@dataclass(frozen=True)
class Split:
    """Stimuli to fit to, and stimuli to judge on.

    Attributes
    ----------
    scheme : str
        Name of the way in which stimuli were split, such as ``stratified``; scores of one scheme are averaged.
    name : str
        Name of the split within its scheme, such as ``fold-1``.
    training, held_out : tuple of str
        Ids, at least three of either, none in both.

    Raises
    ------
    TypeError, ValueError
        If ids are no unique strings, two read the same (``face`` and ``face ``), there are fewer than three of either
        kind, or one is of both.

    Examples
    --------
    >>> from brainrdl.inference import Split
    >>> Split("by hand", "faces", training=("cup", "key", "car"), held_out=("ann", "bob", "eve")).held_out
    ('ann', 'bob', 'eve')
    """

    scheme: str
    name: str
    training: tuple[str, ...]
    held_out: tuple[str, ...]

    def __post_init__(self) -> None:
        for field in ("scheme", "name"):
            if not isinstance(value := getattr(self, field), str) or not value:
                raise TypeError(f"{field} of a split is {value!r}; expected a name")
        what = f"split {self.name!r} of scheme {self.scheme!r}"
        for field in ("training", "held_out"):
            object.__setattr__(self, field, check_ids(getattr(self, field), f"{field} of {what}"))
        fitted = set(self.training)
        if both := [stimulus for stimulus in self.held_out if stimulus in fitted]:
            raise ValueError(
                f"{what} has {len(both)} stimuli in both training and held_out: {name_some(both)}; a model would be "
                "judged on what it was fitted to, so give each stimulus to one of the two"
            )
        if same := alike((*self.training, *self.held_out)):
            raise ValueError(
                f"{what} has the stimuli {same[0]!a} and {same[1]!a}, which differ in {difference(*same)} alone; give "
                "each stimulus one spelling, so that none is on both sides"
            )
        if min(len(self.training), len(self.held_out)) < MIN_STIMULI:
            raise ValueError(
                f"{what} holds out {len(self.held_out)} of {len(self.training) + len(self.held_out)} stimuli; at least "
                f"{MIN_STIMULI} must be held out and {MIN_STIMULI} left to fit: split into fewer or larger parts"
            )


def stratified_splits(labels: Labels, n_folds: SupportsIndex = 5, *, seed: SupportsIndex = 0) -> list[Split]:
    """Deal the stimuli of each category over folds, and hold out one fold at a time.

    Parameters
    ----------
    labels : mapping of str, or DataArray (stimulus,)
        Category of each stimulus id.
    n_folds : int
        Number of folds. Each category's shares in the folds, and the folds themselves, differ by one stimulus at most.
    seed : int
        Seed of the dealing, whatever the order of the stimuli.

    Returns
    -------
    list of Split
        Splits of scheme ``stratified``, named ``fold-1`` and so on; each stimulus is held out once.

    Raises
    ------
    TypeError, ValueError
        If labels come without ids or are missing (None, NaN), or a fold would hold out fewer than three stimuli.

    Examples
    --------
    >>> from brainrdl.inference import stratified_splits
    >>> labels = {f"{kind}-{k}": kind for kind in ("face", "house") for k in range(6)}
    >>> for split in stratified_splits(labels, 3):
    ...     print(split.name, [labels[stimulus] for stimulus in split.held_out])
    fold-1 ['face', 'face', 'house', 'house']
    fold-2 ['face', 'face', 'house', 'house']
    fold-3 ['face', 'face', 'house', 'house']
    """
    return _dealt(_read(labels), n_folds, seed, "stratified", "fold")


def category_splits(labels: Labels) -> list[Split]:
    """Hold out one category at a time.

    Parameters
    ----------
    labels : mapping of str, or DataArray (stimulus,)
        Category of each stimulus id.

    Returns
    -------
    list of Split
        Splits of scheme ``leave_one_category_out``, by the names of the categories, in alphabetical order.

    Raises
    ------
    TypeError, ValueError
        If labels come without ids or are missing (None, NaN), two categories read the same, or one has fewer than
        three stimuli.

    Examples
    --------
    >>> from brainrdl.inference import category_splits
    >>> labels = {f"{kind}-{k}": kind for kind in ("face", "house") for k in range(3)}
    >>> [(split.name, split.held_out) for split in category_splits(labels)]
    [('face', ('face-0', 'face-1', 'face-2')), ('house', ('house-0', 'house-1', 'house-2'))]
    """
    members = _members(_read(labels))
    names = check_ids([str(category) for category in members], "the categories' names")
    splits = []
    for name, held_out in sorted(zip(names, members.values(), strict=True)):
        training = sorted(stimulus for others in members.values() if others is not held_out for stimulus in others)
        splits.append(Split("leave_one_category_out", name, tuple(training), tuple(held_out)))
    return splits


def random_splits(
    labels: Labels, n_splits: SupportsIndex = 20, *, held_out: float = 0.2, seed: SupportsIndex = 0
) -> list[Split]:
    """Hold out a random share of the stimuli of each category, several times.

    Parameters
    ----------
    labels : mapping of str, or DataArray (stimulus,)
        Category of each stimulus id.
    n_splits : int
        Number of splits.
    held_out : float
        Share of the stimuli, rounded to a whole number of them, that each split holds out; of each category's within
        one stimulus.
    seed : int
        Seed of the draws, whatever the order of the stimuli. More splits with one seed begin with the same ones.

    Returns
    -------
    list of Split
        Splits of scheme ``random``, named ``split-01`` and so on. They share stimuli, so that their scores depend on
        each other.

    Raises
    ------
    TypeError, ValueError
        If labels come without ids or are missing (None, NaN), the share is not between 0 and 1, or a split would hold
        out, or leave to fit, fewer than three stimuli.

    Examples
    --------
    >>> from brainrdl.inference import random_splits
    >>> labels = {f"{kind}-{k}": kind for kind in ("face", "house") for k in range(10)}
    >>> [split.held_out for split in random_splits(labels, 2)]
    [('face-0', 'face-2', 'house-3', 'house-7'), ('face-0', 'face-7', 'house-0', 'house-6')]
    """
    category_of, n_splits = _read(labels), whole_number(n_splits, "n_splits", at_least=1)
    if not 0 < held_out < 1:
        raise ValueError(f"held_out is {held_out!r}; expected the share of stimuli to hold out, such as 0.2")
    # one generator for all, so that more splits with one seed begin with the same ones
    rng = np.random.default_rng(whole_number(seed, "seed"))
    n, n_held = len(category_of), round(held_out * len(category_of))
    splits = []
    for number in range(1, n_splits + 1):
        row = _in_a_row(category_of, rng)
        # systematic sampling: steps of n / n_held along the row, from a random start
        reached = (np.arange(n + 1) * n_held + rng.integers(n)) // n
        splits.append(_split(row, np.diff(reached) > 0, "random", f"split-{number:02d}"))
    return splits


def inner_splits(split: Split, labels: Labels, n_folds: SupportsIndex = 3, *, seed: SupportsIndex = 0) -> list[Split]:
    """Split the training stimuli once more, to choose by what is held out of them.

    Parameters
    ----------
    split : Split
        Split whose held-out stimuli are in none of the inner splits.
    labels : mapping of str, or DataArray (stimulus,)
        Category of each stimulus id, at least of the training stimuli.
    n_folds : int
        Number of folds, stratified by category, as in `stratified_splits`; a category of fewer stimuli is in some of
        them only.
    seed : int
        Seed of the dealing.

    Returns
    -------
    list of Split
        Splits of scheme ``inner``, named ``inner-1`` and so on.

    Raises
    ------
    TypeError, ValueError
        If a training stimulus has no label, or as `stratified_splits`.

    Examples
    --------
    >>> from brainrdl.inference import inner_splits, stratified_splits
    >>> labels = {f"{kind}-{k}": kind for kind in ("face", "house") for k in range(9)}
    >>> outer = stratified_splits(labels, 3)[0]
    >>> inner = inner_splits(outer, labels)
    >>> [len(split.held_out) for split in inner], any(set(outer.held_out) & set(split.training) for split in inner)
    ([4, 4, 4], False)
    """
    category_of = _read(labels)
    lacking = [stimulus for stimulus in split.training if stimulus not in category_of]
    if lacking:
        raise ValueError(
            f"labels has no category for {len(lacking)} of {len(split.training)} training stimuli: {name_some(lacking)}"
            f"{spelling(lacking, category_of)}"
        )
    # not even the number of held-out stimuli enters
    return _dealt({stimulus: category_of[stimulus] for stimulus in split.training}, n_folds, seed, "inner", "inner")


def _read(labels: Labels) -> dict[str, Hashable]:
    category_of = read_labels(labels)
    check_ids(list(category_of), "the stimuli of labels")
    return category_of


def _dealt(
    category_of: Mapping[str, Hashable], n_folds: SupportsIndex, seed: SupportsIndex, scheme: str, prefix: str
) -> list[Split]:
    n_folds = whole_number(n_folds, "n_folds", at_least=2)
    row = _in_a_row(category_of, np.random.default_rng(whole_number(seed, "seed")))
    # dealt like cards, one category after another: no fold has two more than another, of a category or in all
    fold = np.arange(len(row)) % n_folds
    return [_split(row, fold == number, scheme, f"{prefix}-{number + 1}") for number in range(n_folds)]


def _split(row: list[str], held: np.ndarray, scheme: str, name: str) -> Split:
    training, held_out = (
        tuple(sorted(stimulus for stimulus, chosen in zip(row, which, strict=True) if chosen))
        for which in (~held, held)
    )
    return Split(scheme, name, training, held_out)


def _in_a_row(category_of: Mapping[str, Hashable], rng: np.random.Generator) -> list[str]:
    """Line up all stimuli, category after category, in random order within each."""
    return [stimulus for members in _members(category_of).values() for stimulus in rng.permutation(members).tolist()]


def _members(category_of: Mapping[str, Hashable]) -> dict[Hashable, list[str]]:
    """Group the stimuli by category; both in the alphabetical order of the ids, whatever order they came in."""
    members: dict[Hashable, list[str]] = {}
    for stimulus in sorted(category_of):
        members.setdefault(category_of[stimulus], []).append(stimulus)
    return members
