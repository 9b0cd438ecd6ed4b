"""Ids: what an id is, how ids are found, and how a message names them.

The id is the only key on which images, RDM rows and patterns are joined, so every module checks ids with
`check_ids` and finds them with `find_ids`.
"""

from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from difflib import get_close_matches
from typing import Any

import numpy as np


def check_ids(ids: Iterable[str], field: str) -> tuple[str, ...]:
    """Return ids (or other labels) as a tuple, after checking that they can serve as a key.

    Parameters
    ----------
    ids : sequence of str
        Labels, in an order that means something.
    field : str
        What to call them in an error.

    Returns
    -------
    tuple of str

    Raises
    ------
    TypeError
        If `ids` is a single string, has no order (a set), or holds anything but strings.
    ValueError
        If one is empty, holds a character that files cannot store (NUL, lone surrogates), or occurs twice.

    Examples
    --------
    >>> check_ids(["face", "house"], "stimuli")
    ('face', 'house')
    """
    if isinstance(ids, str):
        raise TypeError(f"{field} is one string, {ids!r}; expected a sequence of strings: [{ids!r}]")
    if isinstance(ids, set | frozenset):
        raise TypeError(f"{field} is a set, which has no order; expected a list or tuple of strings")
    checked = []
    for position, value in enumerate(np.asarray(ids).tolist() if hasattr(ids, "__array__") else ids):
        if not isinstance(value, str):
            raise TypeError(
                f"{field}[{position}] is {value!r}, of type {type(value).__name__}; expected a string, so "
                f"convert it to the one that the other data carry"
            )
        if not value:
            raise ValueError(f"{field}[{position}] is an empty string; expected a name for each")
        if "\0" in value or not _is_unicode(value):
            raise ValueError(
                f"{field}[{position}] is {value!r}, with a character that files cannot store (NUL or a lone "
                "surrogate); rename it"
            )
        checked.append(str(value))
    copies = [value for value, count in Counter(checked).items() if count > 1]
    if copies:
        raise ValueError(f"{field} must be unique, but these occur more than once: {name_some(copies)}")
    return tuple(checked)


def find_ids(ids: Sequence[str], known: Sequence[str], place: str) -> list[int]:
    """Find ids by name.

    Parameters
    ----------
    ids : sequence of str
        What to find.
    known : sequence of str
        Where to find it.
    place : str
        What to call `known` in an error.

    Returns
    -------
    list of int
        The position in `known` of each of `ids`.

    Raises
    ------
    ValueError
        If an id is not there; names such ids and those most like the first.

    Examples
    --------
    >>> find_ids(["c", "a"], ["a", "b", "c"], "the alphabet")
    [2, 0]
    """
    positions = {stimulus: position for position, stimulus in enumerate(known)}
    unknown = [stimulus for stimulus in ids if stimulus not in positions]
    if unknown:
        hint = did_you_mean(unknown[0], known) or f"; there are {name_some(known)}"
        raise ValueError(f"not among the {len(known)} stimuli of {place}: {name_some(unknown)}{hint}")
    return [positions[stimulus] for stimulus in ids]


def name_some(values: Collection[Any], limit: int = 5) -> str:
    """Write out the first few values for a message.

    Parameters
    ----------
    values : collection
        What to name.
    limit : int
        How many at most.

    Returns
    -------
    str

    Examples
    --------
    >>> name_some(["a", "b", "c"], limit=2)
    "'a', 'b' and 1 more"
    """
    shown = ", ".join(repr(value) for value, _ in zip(values, range(limit), strict=False))
    return shown if len(values) <= limit else f"{shown} and {len(values) - limit} more"


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """Write the end of a message that suggests the known names most like an unknown one.

    Parameters
    ----------
    name : str
        The unknown name.
    known : iterable of str
        The known ones.

    Returns
    -------
    str
        Empty if none is alike.

    Examples
    --------
    >>> did_you_mean("hose", ["face", "house"])
    "; did you mean 'house'?"
    """
    near = get_close_matches(name, list(known), n=3, cutoff=0.5)
    return f"; did you mean {' or '.join(map(repr, near))}?" if near else ""


def _is_unicode(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
