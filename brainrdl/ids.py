"""Ids: their check, how they are found, and the labels that hang on them.

The id is the only key on which images, RDM rows and patterns are joined: `check_ids` and `find_ids` serve all modules.
"""

import re
from collections import Counter
from collections.abc import Hashable, Iterable, Mapping, Sequence

import numpy as np
import pandas as pd
import xarray as xr

from brainrdl.arguments import did_you_mean, name_some

_UNSTORABLE = re.compile("[\0\ud800-\udfff]")  # NUL, and surrogates, which no encoding of Unicode holds


def check_ids(ids: Iterable[str], field: str) -> tuple[str, ...]:
    """Return ids (or other labels) as a tuple, after checking that they can serve as a key; `field` is for errors.

    TypeError for a single string, a set or anything but strings; ValueError if one is empty, odd, or occurs twice.
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
        if _UNSTORABLE.search(value):
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
    """Find the position of each of `ids` in `known`, which the ValueError for an unknown id calls `place`."""
    positions = {stimulus: position for position, stimulus in enumerate(known)}
    unknown = [stimulus for stimulus in ids if stimulus not in positions]
    if unknown:
        hint = did_you_mean(unknown[0], known) or f"; there are {name_some(known)}"
        raise ValueError(f"not among the {len(known)} stimuli of {place}: {name_some(unknown)}{hint}")
    return [positions[stimulus] for stimulus in ids]


Labels = Mapping[str, Hashable] | xr.DataArray
"""A category for each stimulus: id → category, or a DataArray along ``stimulus``, such as ``rdms["category"]``."""


def read_labels(labels: Labels, field: str = "labels") -> dict[str, Hashable]:
    """Return the category of each stimulus; `field` is the name of the labels in an error.

    TypeError for labels without ids or not hashable; ValueError for a repeated id or a missing label (None, NaN).
    """
    if isinstance(labels, xr.DataArray):
        if labels.dims != ("stimulus",) or "stimulus" not in labels.coords:
            raise ValueError(f"{field} has dimensions {labels.dims}, expected ('stimulus',) with the ids as coordinate")
        ids = check_ids(labels["stimulus"], f"coordinate 'stimulus' of {field}")
        label_of = dict(zip(ids, labels.values.tolist(), strict=True))
    elif isinstance(labels, Mapping):
        label_of = dict(labels)
    else:
        raise TypeError(
            f"{field} is a {type(labels).__name__}, which has no stimulus ids; give a mapping: dict(zip(ids, labels))"
        )
    for stimulus, label in label_of.items():
        if not isinstance(label, Hashable):
            raise TypeError(
                f"{field} has {label!r} for {stimulus!r}, of type {type(label).__name__}; expected a string or a number"
            )
    lacking = [stimulus for stimulus, label in label_of.items() if pd.api.types.is_scalar(label) and pd.isna(label)]
    if lacking:
        raise ValueError(
            f"{field} has a missing label (None or NaN) for {len(lacking)} of {len(label_of)} stimuli: "
            f"{name_some(lacking)}; leave these stimuli out, or give them a category"
        )
    return label_of
