"""The same image under two ids on both sides of a split: a score on the one would say how well the other was fitted."""

import json
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch
import xarray as xr
from torch import Tensor

from brainrdl.stimuli.repeats import SAME_IMAGE, across, find_repeats

_SOME = 256
_NO_DISTANCE = 1e-9  # of the largest distance: what rounding leaves


def same_features(features: Mapping[str, Tensor], ids: Sequence[str]) -> list[tuple[str, ...]]:
    """Group the stimuli whose features (n, ...) are equal in every layer, unless they are all one number.

    A layer that is silent is so for many images, and says of none that it is another's copy.
    """
    # some units of each, so that all of them are looked at only where these agree
    some = torch.cat([flat[:, :: 1 + flat.shape[1] // _SOME] for flat in _flat(features)], dim=1)
    alike = {stimulus for group in find_repeats(zip(some, ids, strict=True)) for stimulus in group}
    rows = [(row, stimulus) for row, stimulus in enumerate(ids) if stimulus in alike]
    whole = ((torch.cat([flat[row] for flat in _flat(features)]), stimulus) for row, stimulus in rows)
    return find_repeats((pattern, stimulus) for pattern, stimulus in whole if bool((pattern != pattern[0]).any()))


def _flat(features: Mapping[str, Tensor]) -> list[Tensor]:
    return [values.detach().flatten(1) for values in features.values()]


def name_repeats(rdms: xr.DataArray, repeats: Sequence[Sequence[str]]) -> xr.DataArray:
    """Write groups of stimuli that are one image into the provenance of RDMs, where there are any."""
    return rdms.assign_attrs(provenance=json.dumps({SAME_IMAGE: repeats})) if repeats else rdms


def same_images(rdms: xr.DataArray) -> list[tuple[str, ...]]:
    """Group the stimuli that the provenance of RDMs calls one image."""
    return list(_groups(json.loads(rdms.attrs.get("provenance", "null"))))


def _groups(source: Any) -> Iterator[tuple[str, ...]]:
    if isinstance(source, dict):
        yield from (tuple(map(str, group)) for group in source.get(SAME_IMAGE, ()))
        # of RDMs that were put together, each has its own
        for part in source.values():
            yield from _groups(part)
    elif isinstance(source, list):
        for part in source:
            yield from _groups(part)


def without_distance(rdms: xr.DataArray, fitted: Collection[str], held_out: Collection[str]) -> tuple[str, str] | None:
    """Find a fitted and a held-out stimulus with no distance in an RDM of patterns, if there are any.

    Categories and mixtures of them, whose metric is not declared, have none between many stimuli.
    """
    ids = rdms["stimulus"].values.tolist()
    rows, columns = ([k for k, stimulus in enumerate(ids) if stimulus in set(side)] for side in (fitted, held_out))
    if rdms.attrs["metric"] == "undeclared" or not rows or not columns:
        return None
    for values in rdms.values:
        none = values[np.ix_(rows, columns)] <= _NO_DISTANCE * np.nanmax(values, initial=0.0)
        if none.any() and not none.all():
            row, column = np.argwhere(none)[0]
            return ids[rows[row]], ids[columns[column]]
    return None


def check_apart(
    repeats: Sequence[Sequence[str]], fitted: Collection[str], held_out: Collection[str], arm: str, place: str
) -> None:
    """Raise a ValueError if `arm` was fitted to the same image as one that `place` holds out."""
    if found := across(repeats, fitted, held_out):
        raise ValueError(
            f"{arm} was fitted to {found[0]!r}, the same image to the network as {found[1]!r}, which {place} holds "
            "out; a score on it would say how well it was fitted, not what it predicts: leave one of the two out, or "
            "give both to one side"
        )
