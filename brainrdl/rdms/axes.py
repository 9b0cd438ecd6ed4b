"""What a table or a labelled array says of its own axes, compared with the labels given for them.

A DataFrame has an index and columns, a Series an index, a DataArray dimensions and coordinates. Taken for plain numbers
they would lose them, and with them the order in which they were made.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr

from brainrdl.ids import difference

_TABLES = (pd.DataFrame, pd.Series, xr.DataArray)
_KINDS = {
    **dict.fromkeys(("rdm", "rdms", "subject", "subjects"), "RDMs"),
    **dict.fromkeys(("stimulus", "stimulus_", "stimuli", "image", "images", "condition", "conditions"), "stimuli"),
    **dict.fromkeys(("pair", "pairs"), "pairs"),
}
"""Names that an axis may have, and what they say lies along it."""


def check_rdm_axes(given: Any, field: str, ids: Sequence[str], names: Sequence[str]) -> None:
    """Compare what RDMs (rdms, pairs) or (rdms, n, n), or a list of them, say of their axes with ids and names.

    ValueError where an axis has labels that are others than those given, or in another order, or the name of another
    axis. Labels that do nothing but count are none.
    """
    if isinstance(given, list | tuple):
        for place, part in enumerate(given):
            if isinstance(part, _TABLES):
                _check(part, f"{field}[{place}]", *(("pairs",) if part.ndim == 1 else ("stimuli", "stimuli")), ids=ids)
        return
    if isinstance(given, _TABLES):
        kinds = ("RDMs", "pairs") if given.ndim == 2 else ("RDMs", "stimuli", "stimuli")
        _check(given, field, *kinds, ids=ids, names=names)


def check_axis(given: Any, field: str, *labels: Sequence[str]) -> None:
    """Compare what a table or labelled array says of its first axes with the labels given for them; see above."""
    if isinstance(given, _TABLES):
        for (place, _, own), wanted in zip(_axes(given), labels, strict=False):
            _compare(own, list(wanted), field, place)


def _check(given: Any, field: str, *kinds: str, ids: Sequence[str], names: Sequence[str] = ()) -> None:
    for (place, name, own), kind in zip(_axes(given), kinds, strict=False):
        called = _KINDS.get(str(name).lower())
        if called not in (None, kind):
            raise ValueError(
                f"{field} has an axis named {name!r} where the {kind} are expected, in ({', '.join(kinds)}); bring its "
                "axes into this order"
            )
        if own is None or (kind == "RDMs" and not names):
            continue
        wanted = list(names) if kind == "RDMs" else list(ids) if kind == "stimuli" else _pairs(ids, own)
        _compare(own, wanted, field, place)


def _compare(own: list[Any] | None, wanted: list[Any], field: str, place: str) -> None:
    if own is None or len(own) != len(wanted) or own == wanted:
        return
    first = next(k for k, (a, b) in enumerate(zip(own, wanted, strict=True)) if a != b)
    if set(own) == set(wanted):
        remedy = "bring it into this order by its labels (loc, reindex, sel)"
    elif isinstance(own[first], str) and (apart := difference(own[first], wanted[first])):
        remedy = f"they differ in {apart}, so rename one of them"
    else:
        remedy = (
            "give the labels that it has, or, if these are none of the labels meant, its numbers alone: .to_numpy()"
        )
    raise ValueError(
        f"{field} contradicts the labels given for it: at position {first} of its {place} stands {own[first]!r}, where "
        f"{wanted[first]!r} was given; {remedy}"
    )


def _axes(given: pd.DataFrame | pd.Series | xr.DataArray) -> list[tuple[str, Any, list[Any] | None]]:
    """Each axis: what to call it in an error, its name, and its labels (None where it has none)."""
    if isinstance(given, xr.DataArray):
        return [
            (f"coordinate {str(dim)!r}", dim, _labels(given.indexes[dim]) if dim in given.indexes else None)
            for dim in given.dims
        ]
    axes = [("index", given.index.name, _labels(given.index))]
    return axes if isinstance(given, pd.Series) else [*axes, ("columns", given.columns.name, _labels(given.columns))]


def _labels(index: pd.Index) -> list[Any] | None:
    """The labels of an index, None of one that does nothing but number what was kept."""
    values = index.tolist()
    if pd.api.types.is_integer_dtype(index) and values == sorted(values):
        return None
    return [tuple(map(str, value)) if isinstance(value, tuple) else str(value) for value in values]


def _pairs(ids: Sequence[str], own: list[Any]) -> list[Any]:
    """The pairs in the order of a vector, to compare labels that are pairs, too; of others nothing is known."""
    if not own or not isinstance(own[0], tuple):
        return own
    i, j = np.triu_indices(len(ids), 1)
    pairs = [(ids[a], ids[b]) for a, b in zip(i.tolist(), j.tolist(), strict=True)]
    if len(own) != len(pairs):
        return own
    # a pair has no direction
    return [mine if mine in (pair, pair[::-1]) else pair for mine, pair in zip(own, pairs, strict=True)]
