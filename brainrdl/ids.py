"""Ids: what an id is, how ids are found, and how a message names them.

The id is the only key on which images, RDM rows and patterns are joined, so every module checks ids with
`check_ids` and finds them with `find_ids`.
"""

from collections import Counter
from collections.abc import Hashable, Iterable, Mapping, Sequence

import numpy as np
import pandas as pd
import xarray as xr

from brainrdl.arguments import did_you_mean, name_some


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


def _is_unicode(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


Labels = Mapping[str, Hashable] | xr.DataArray
"""A category for each stimulus: id → category, or a DataArray along ``stimulus``, such as ``rdms["category"]``."""


def read_labels(labels: Labels, field: str = "labels") -> dict[str, Hashable]:
    """Return the category of each stimulus; `field` is what to call the labels in an error.

    Raises
    ------
    TypeError
        If labels come without ids, or one cannot be compared for equality with others (a list).
    ValueError
        If an id occurs twice, or a label is missing (None, NaN).
    """
    if isinstance(labels, xr.DataArray):
        if labels.dims != ("stimulus",) or "stimulus" not in labels.coords:
            raise ValueError(f"{field} has dimensions {labels.dims}, expected ('stimulus',) with the ids as coordinate")
        ids = check_ids(labels["stimulus"], f"coordinate 'stimulus' of {field}")
        of = dict(zip(ids, labels.values.tolist(), strict=True))
    elif isinstance(labels, Mapping):
        of = dict(labels)
    else:
        raise TypeError(
            f"{field} is a {type(labels).__name__}, which has no stimulus ids; give a mapping: dict(zip(ids, labels))"
        )
    for stimulus, label in of.items():
        if not isinstance(label, Hashable):
            raise TypeError(
                f"{field} has {label!r} for {stimulus!r}, of type {type(label).__name__}; expected a string or a number"
            )
    lacking = [stimulus for stimulus, label in of.items() if pd.api.types.is_scalar(label) and pd.isna(label)]
    if lacking:
        raise ValueError(
            f"{field} has a missing label (None or NaN) for {len(lacking)} of {len(of)} stimuli: {name_some(lacking)}; "
            "leave these stimuli out, or give them a category"
        )
    return of
