"""Ids: their check, how they are found, and the labels that hang on them.

The id is the only key on which images, RDM rows and patterns are joined: `check_ids` and `find_ids` serve all modules,
and `nearest` is the end of every message about an id that was not found.
"""

import re
import unicodedata
from collections import Counter
from collections.abc import Callable, Collection, Hashable, Iterable, Mapping, Sequence

import numpy as np
import pandas as pd
import xarray as xr

from brainrdl.arguments import did_you_mean, name_some

_UNSTORABLE = re.compile("[\0\ud800-\udfff]")  # NUL, and surrogates, which no encoding of Unicode holds
_INVISIBLE = re.compile("[\ufeff\u200b-\u200f\u2060\u00ad]")  # a byte-order mark, joiners, directions, soft hyphens
_LONGEST = 1_000  # letters of a name whose spellings are compared: normalising may take their square
_SUFFIX = re.compile(r"\.(png|jpe?g|bmp|gif|tiff?|webp)$", re.IGNORECASE)
# what two spellings of one name differ in, and how a spelling is rid of it
_SPELLINGS: dict[str, Callable[[str], str]] = {
    "invisible characters": lambda name: _INVISIBLE.sub("", name),
    "blanks": lambda name: " ".join(name.split()),
    "the Unicode form of letters (NFC, NFD)": lambda name: unicodedata.normalize("NFC", name),
    "upper and lower case": str.casefold,
    "the suffix of a file": lambda name: _SUFFIX.sub("", name),
    "hyphens, underscores or slashes": lambda name: re.sub(r"[-_/\\ ]+", "-", name),
    "zeros before a number": lambda name: re.sub(r"(?<!\d)0+(?=\d)", "", name),
}
_SAME_TEXT = ("invisible characters", "blanks", "the Unicode form of letters (NFC, NFD)")  # to any reader


def check_ids(ids: Iterable[str], field: str) -> tuple[str, ...]:
    """Return ids (or other labels) as a tuple, after checking that they can serve as a key; `field` is for errors.

    TypeError for a single string, a set or anything but strings; ValueError if one is empty, odd, or occurs twice.
    """
    if isinstance(ids, str):
        raise TypeError(f"{field} is one string, {ids!r}; expected a sequence of strings: [{ids!r}]")
    if isinstance(ids, set | frozenset):
        raise TypeError(f"{field} is a set, which has no order; expected a list or tuple of strings")
    values = np.asarray(ids).tolist() if hasattr(ids, "__array__") else ids
    if isinstance(values, str) or not isinstance(values, Iterable):  # an array without axes, a number, None
        raise TypeError(f"{field} is {values!r}, of type {type(values).__name__}; expected a sequence of strings")
    checked = []
    for position, value in enumerate(values):
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
        hint = nearest(unknown, known) or f"; there are {name_some(known)}"
        raise ValueError(f"not among the {len(known)} stimuli of {place}: {name_some(unknown)}{hint}")
    return [positions[stimulus] for stimulus in ids]


def nearest(missing: Sequence[str], known: Collection[str]) -> str:
    """Write the end of a message with the known id that is another spelling of a missing one, or those most like it."""
    return spelling(missing, known) or (did_you_mean(missing[0], known) if missing else "")


def spelling(missing: Iterable[str], known: Iterable[str]) -> str:
    """Write the end of a message with the known id that is another spelling of a missing one (blanks, case, suffix)."""
    spelt: dict[str, str] = {}
    for name in known:
        spelt.setdefault(_spelt(name, _SPELLINGS), name)
    for name in missing:
        if (other := spelt.get(_spelt(name, _SPELLINGS))) is not None and other != name:
            first, second = _shown(other, name)
            return f"; did you mean {first}, which differs from {second} in {difference(name, other)}?"
    return ""


def difference(name: str, other: str) -> str:
    """Say in what two spellings of one name differ; empty where they are no two spellings of one."""
    if _spelt(name, _SPELLINGS) != _spelt(other, _SPELLINGS):
        return ""
    alone = [kind for kind in _SPELLINGS if _spelt(name, [kind]) == _spelt(other, [kind])]
    if alone:
        return alone[0]
    left = {kind: [others for others in _SPELLINGS if others != kind] for kind in _SPELLINGS}
    needed = [kind for kind in _SPELLINGS if _spelt(name, left[kind]) != _spelt(other, left[kind])]
    return " and ".join(needed or ["their spelling"])


def alike(names: Iterable[str], *, case: bool = False) -> tuple[str, str] | None:
    """Find two names that read the same: but for blanks, invisible characters and Unicode form (or `case`) equal."""
    kinds = (*_SAME_TEXT, "upper and lower case") if case else _SAME_TEXT
    seen: dict[str, str] = {}
    for name in names:
        if (first := seen.setdefault(_spelt(name, kinds), name)) != name:
            return first, name
    return None


def _spelt(name: str, kinds: Iterable[str]) -> str:
    for kind in kinds if len(name) <= _LONGEST else ():
        name = _SPELLINGS[kind](name)
    return name


def _shown(*names: str) -> list[str]:
    """Names in quotes; by the numbers of their letters where these look the same."""
    looks = {unicodedata.normalize("NFC", name) for name in names}
    return [(repr if len(looks) == len(names) else ascii)(name) for name in names]


def text_order(ids: Sequence[str]) -> tuple[int, str] | None:
    """Find where ids sorted as text (img1, img10, img2) leave the order of their numbers: position, and the id there.

    None where they are not sorted as text, or both orders are the same.
    """
    if list(ids) != sorted(ids):
        return None
    by_number = sorted(ids, key=_by_number)
    return next(((k, there) for k, (here, there) in enumerate(zip(ids, by_number, strict=True)) if here != there), None)


def _by_number(name: str) -> list[tuple[int, int, str, str]]:
    """The key of an order in which img2 comes before img10."""
    parts = re.split(r"(\d+)", name)
    return [(0, 0, "", part) if place % 2 == 0 else (1, *_size(part), part) for place, part in enumerate(parts)]


def _size(digits: str) -> tuple[int, str]:
    """The key of a number by its size, of digits of any script: Python makes no number of more than 4,300."""
    written = "".join(str(unicodedata.decimal(digit)) for digit in digits).lstrip("0")
    return len(written), written


Labels = Mapping[str, Hashable] | xr.DataArray | pd.Series
"""A category for each stimulus: id → category, or a DataArray along ``stimulus``, such as ``rdms["category"]``, or a
Series whose index has the ids."""


def read_labels(labels: Labels, field: str = "labels") -> dict[str, Hashable]:
    """Return the category of each stimulus; `field` is the name of the labels in an error.

    TypeError for labels without ids or not hashable; ValueError for a repeated id, a missing label (None, NaN), and two
    ids or labels that read the same (``face`` and ``face ``).
    """
    if isinstance(labels, xr.DataArray):
        if labels.dims != ("stimulus",) or "stimulus" not in labels.coords:
            raise ValueError(f"{field} has dimensions {labels.dims}, expected ('stimulus',) with the ids as coordinate")
        ids = check_ids(labels["stimulus"], f"coordinate 'stimulus' of {field}")
        label_of = dict(zip(ids, labels.values.tolist(), strict=True))
    elif isinstance(labels, Mapping):
        label_of = dict(labels)
    elif isinstance(labels, pd.Series):
        label_of = dict(zip(check_ids(labels.index, f"the index of {field}"), labels.tolist(), strict=True))
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
    _check_spelling(label_of, field)
    return label_of


def _check_spelling(label_of: Mapping[str, Hashable], field: str) -> None:
    ids = [stimulus for stimulus in label_of if isinstance(stimulus, str)]
    if same := alike(ids):
        raise ValueError(
            f"{field} has {' and '.join(_shown(*same))}, which differ in {difference(*same)} alone and would count as "
            "two stimuli; give each one spelling"
        )
    texts = Counter(label for label in label_of.values() if isinstance(label, str))
    spellings: dict[str, list[str]] = {}
    for label in texts:
        spellings.setdefault(_spelt(label, _SAME_TEXT), []).append(label)
    for found in spellings.values():
        if len(found) > 1:
            shown = zip(_shown(*found), found, strict=True)
            written = " and ".join(f"{label} ({texts[name]} stimuli)" for label, name in shown)
            raise ValueError(
                f"{field} writes one category in {len(found)} ways: {written}; write it in one way, or give two "
                "categories names that differ by more than spaces"
            )
