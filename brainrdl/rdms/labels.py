"""Labels of RDMs of several arrays, told apart: two networks may have a layer of one name."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import xarray as xr

from brainrdl.arguments import name_some
from brainrdl.ids import check_ids
from brainrdl.rdms.layout import check_rdms


def checked_parts(rdms: Iterable[xr.DataArray] | Mapping[str, xr.DataArray]) -> list[xr.DataArray]:
    """Check several arrays of RDMs; the key of a mapping comes before the labels of its array, ``key label``.

    Where arrays share a label, each RDM's coordinate ``model`` comes before it in their place: ``resnet18 layer1``.
    ValueError for labels that are shared all the same, or occur twice in an array.
    """
    if isinstance(rdms, Mapping):
        check_ids(rdms, "the names of the arrays")
        return [_named(check_rdms(part), [name] * part.sizes["rdm"]) for name, part in rdms.items()]
    return _apart([check_rdms(part) for part in rdms])


def _apart(parts: list[xr.DataArray]) -> list[xr.DataArray]:
    if not (copies := _copies(parts)):
        return parts
    known = {model for part in parts for model in _models(part)}
    # torchvision:resnet18 is resnet18, unless another source has one too
    shorts = Counter(model.rpartition(":")[2] for model in known)
    short = {model: last if shorts[last := model.rpartition(":")[2]] == 1 else model for model in known}
    renamed = [_named(part, [short[model] for model in _models(part)]) if _models(part) else part for part in parts]
    if _copies(renamed):
        raise ValueError(
            f"labels along 'rdm' must be unique, but these occur more than once: {name_some(copies)}; give the arrays "
            "by name, as in {'first': rdms, 'second': others}, and the name comes before each label"
        )
    return renamed


def _named(part: xr.DataArray, names: Sequence[str]) -> xr.DataArray:
    labels = part["rdm"].values.tolist()
    return part.assign_coords(rdm=[f"{name} {label}" for name, label in zip(names, labels, strict=True)])


def _models(part: xr.DataArray) -> list[str]:
    """The network of each RDM, none where the array does not say."""
    values: list[Any] = part["model"].values.tolist() if "model" in part.coords else []
    return [str(value) for value in values] if all(isinstance(value, str) and value for value in values) else []


def _copies(parts: Iterable[xr.DataArray]) -> list[str]:
    counted = Counter(label for part in parts for label in part["rdm"].values.tolist())
    return [label for label, count in counted.items() if count > 1]
