"""The layout of a labelled RDM: what RDMs are outside torch, with a name for every stimulus and every RDM.

A labelled RDM is a square `xarray.DataArray` named ``dissimilarity``, float64, with dimensions ``("rdm", "stimulus",
"stimulus_")`` and one coordinate per dimension. ``rdm`` holds unique labels; ``stimulus`` and ``stimulus_`` hold the
same unique ids. Further coordinates may lie along ``rdm`` (``layer``, ``model``, ``roi``, ``subject``, ``session``,
``time`` or any other), and ``standard_error``, where there is one, over all three dimensions. NaN is an unmeasured
pair. ``attrs`` holds scalars and strings only: ``metric`` always, ``provenance`` as one JSON string.

Selecting goes through `select_stimuli`, concatenating and averaging through `brainrdl.rdms.combine`, since xarray's own
move one stimulus axis only, fill gaps with NaN or keep just the stimuli that two arrays share.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal, get_args

import numpy as np
import xarray as xr

from brainrdl.arguments import did_you_mean, name_some
from brainrdl.ids import check_ids
from brainrdl.known import METRICS as FEATURE_METRICS
from brainrdl.rdms.plausible import BOUNDED, one_triangle
from brainrdl.rdms.triangles import to_squares, upper_triangles

METRICS = (*FEATURE_METRICS, "mahalanobis", "crossnobis", "undeclared")
"""The metrics a labelled RDM may carry: computed from features, of measured patterns, and unknown."""

DIMS = ("rdm", "stimulus", "stimulus_")
"""The dimensions of a labelled RDM."""

Normalization = Literal["zscore", "unit", "rank"]

_SIGNED_METRICS = ("crossnobis", "undeclared")
_SIGNED_SCALES = ("zscore", "rank")
_ROUNDING = 1e-6


def check_rdms(rdms: xr.DataArray) -> xr.DataArray:
    """Check that an array is a labelled RDM, whoever made it.

    Parameters
    ----------
    rdms : DataArray (rdm, stimulus, stimulus_)
        RDMs as the start of this module describes; negative too where ``normalize`` is ``zscore`` or ``rank``.

    Returns
    -------
    DataArray (rdm, stimulus, stimulus_)
        A copy in float64, exactly symmetric and exactly zero on the diagonal (see `label_rdms` on rounding).

    Raises
    ------
    TypeError
        If `rdms` is not a DataArray, or its values, labels, coordinates or attributes have the wrong type.
    ValueError
        If a name, dimension, coordinate or attribute is missing or wrong, or as in `label_rdms`.

    Examples
    --------
    >>> import numpy as np, brainrdl as rdl
    >>> rdms = rdl.label_rdms(np.array([[0.2, 1.3, 1.1]]), ["face", "body", "house"], ["IT"], "correlation")
    >>> rdl.rdms.check_rdms(rdms.rename("distance"))
    Traceback (most recent call last):
    ValueError: the array is named 'distance', expected 'dissimilarity': rdms.rename('dissimilarity')
    """
    _check_layout(rdms)
    signed = _check_attrs(rdms.attrs)
    labels = check_ids(rdms["rdm"], "coordinate 'rdm'")
    ids = check_stimuli(rdms["stimulus"], "coordinate 'stimulus'")
    partners = check_ids(rdms["stimulus_"], "coordinate 'stimulus_'")
    if len(ids) != len(partners):
        raise ValueError(
            f"there are {len(ids)} stimuli along 'stimulus', but {len(partners)} along 'stimulus_'; select "
            "stimuli on both axes with select_stimuli"
        )
    if ids != partners:
        first = next(i for i, (a, b) in enumerate(zip(ids, partners, strict=True)) if a != b)
        raise ValueError(
            f"coordinates 'stimulus' and 'stimulus_' differ, first at position {first}: {ids[first]!r} and "
            f"{partners[first]!r}; select stimuli on both axes with select_stimuli"
        )
    if not labels:
        raise ValueError("there is no RDM along 'rdm'; expected at least one")
    for name, coord in rdms.coords.items():
        if name not in DIMS:
            _check_coord(coord)
    values = _check_symmetric(real_numbers(rdms.values, "dissimilarity"), "dissimilarity", labels, ids)
    check_measured(values, labels)
    if not signed:
        reason = (
            f"metric {rdms.attrs['metric']!r} has no negative values; set rounding errors to 0, or declare the metric "
            "that it is (crossnobis may be negative, and so may undeclared)"
        )
        if rdms.attrs["metric"] in BOUNDED and np.nanmax(np.abs(values)) <= 1:
            reason += f"; if these are similarities, the distance is {BOUNDED[rdms.attrs['metric']]}"
        _check_not_negative(values, "dissimilarity", labels, ids, reason)
    checked = rdms.copy(deep=False, data=values)
    if "standard_error" in rdms.coords:
        errors = real_numbers(rdms["standard_error"].values, "standard_error")
        errors = _check_symmetric(errors, "standard_error", labels, ids)
        _check_not_negative(errors, "standard_error", labels, ids, "a standard error is at least 0")
        checked = checked.assign_coords(standard_error=rdms["standard_error"].variable.copy(data=errors))
    return checked


def real_numbers(values: Any, what: str) -> np.ndarray:
    try:
        array = np.asarray(values)
    except ValueError as error:  # of lists
        raise ValueError(f"{what} holds arrays or lists of different lengths; expected one shape for all") from error
    if array.dtype.kind not in "biuf":
        raise TypeError(f"{what} is of type {array.dtype}; expected real numbers, with NaN where unmeasured")
    return array.astype(np.float64, copy=False)


def _check_layout(rdms: object) -> None:
    if not isinstance(rdms, xr.DataArray):
        hint = "; take its variable 'dissimilarity'" if isinstance(rdms, xr.Dataset) else "; label_rdms makes one"
        raise TypeError(f"expected a labelled RDM, an xarray.DataArray, got a {type(rdms).__name__}{hint}")
    if rdms.dims != DIMS:
        if set(rdms.dims) == set(DIMS):
            hint = f"reorder them: rdms.transpose{DIMS}"
        elif "rdm" not in rdms.dims:
            hint = "keep the axis of a single RDM by selecting with a list: rdms.sel(rdm=['IT'])"
        else:
            hint = "label_rdms makes all three"
        raise ValueError(f"dimensions are {rdms.dims}, expected {DIMS}; {hint}")
    missing = [dim for dim in DIMS if dim not in rdms.coords]
    if missing:
        raise ValueError(f"no coordinate {name_some(missing)}; rows are known by their labels only: use label_rdms")
    if rdms.name != "dissimilarity":
        raise ValueError(f"the array is named {rdms.name!r}, expected 'dissimilarity': rdms.rename('dissimilarity')")


def _check_attrs(attrs: Mapping[Any, Any]) -> bool:
    """Check the attributes, and return whether such RDMs may hold negative values."""
    if "metric" not in attrs:
        raise ValueError("attrs has no 'metric'; say what the distances are: rdms.attrs['metric'] = 'correlation'")
    check_declared_metric(attrs["metric"])
    for name, value in attrs.items():
        if isinstance(value, bool | np.bool_) or not isinstance(value, str | int | float | np.integer | np.floating):
            raise TypeError(
                f"attrs[{name!r}] is {value!r}; expected a string or a number, which every file format can "
                "store: json.dumps turns anything else into a string"
            )
    known = get_args(Normalization)
    normalize = attrs.get("normalize")
    if normalize is not None and normalize not in known:
        raise ValueError(f"attrs['normalize'] is {normalize!r}; known are {', '.join(known)}")
    provenance = attrs.get("provenance", "{}")
    try:
        json.loads(provenance)
    except (TypeError, ValueError):
        raise ValueError(f"attrs['provenance'] is {provenance!r}; expected a JSON string: json.dumps(...)") from None
    return attrs["metric"] in _SIGNED_METRICS or normalize in _SIGNED_SCALES


def check_declared_metric(metric: Any) -> None:
    if metric not in METRICS:
        hint = did_you_mean(metric, METRICS) if isinstance(metric, str) else ""
        raise ValueError(f"unknown metric {metric!r}; known are {', '.join(METRICS)}{hint}")


def check_stimuli(ids: Iterable[str], field: str) -> tuple[str, ...]:
    checked = check_ids(ids, field)
    if len(checked) < 2:
        raise ValueError(f"an RDM needs at least 2 stimuli, got {len(checked)}")
    return checked


def _check_coord(coord: xr.DataArray) -> None:
    name = coord.name
    if name == "standard_error":
        if coord.dims != DIMS:
            raise ValueError(f"coordinate 'standard_error' has dimensions {coord.dims}, expected {DIMS}")
        return
    if coord.dims not in (("rdm",), ("stimulus",), ("stimulus_",)):
        raise ValueError(
            f"coordinate {name!r} has dimensions {coord.dims}, expected ('rdm',): "
            f"rdms.assign_coords({name}=('rdm', [...])), with one value per RDM"
        )
    if coord.dtype.kind in "biufUTMm":
        return
    odd = [value for value in coord.values.tolist() if not isinstance(value, str)]
    if odd:
        raise TypeError(
            f"coordinate {name!r} holds {odd[0]!r}; expected strings, numbers or times throughout, which "
            "files can store"
        )


def check_measured(values: np.ndarray, labels: Sequence[str]) -> None:
    empty = np.isnan(values[:, 0, 1])
    if empty.any():
        empty &= np.isnan(upper_triangles(values)).all(axis=1)
    if empty.any():
        names = [label for label, is_empty in zip(labels, empty, strict=True) if is_empty]
        raise ValueError(f"no pair is measured (all are NaN) in RDM {name_some(names)}; leave it out")


def _check_symmetric(values: np.ndarray, what: str, labels: Sequence[str], ids: Sequence[str]) -> np.ndarray:
    """Return the values made exactly symmetric, with a zero diagonal, if they are so up to rounding."""

    def where(rdm: int, i: int, j: int) -> str:
        return _pair(labels[rdm], ids[i], ids[j])

    if all(_is_exact(rdm) for rdm in values):
        return values
    infinite = np.isinf(values)
    if infinite.any():
        k, i, j = np.argwhere(infinite)[0]
        raise ValueError(
            f"{what} is {values[k, i, j]} {where(k, i, j)}; expected finite values, or NaN where unmeasured"
        )
    allowed = _ROUNDING * np.abs(np.nan_to_num(values)).max(axis=(1, 2))
    diagonal = np.diagonal(values, axis1=1, axis2=2)
    off = ~(np.abs(diagonal) <= allowed[:, None])
    if off.any():
        k, i = np.argwhere(off)[0]
        raise ValueError(
            f"{what} is {diagonal[k, i]:.6g} on the diagonal, for stimulus {ids[i]!r} in RDM {labels[k]!r}; expected "
            "0, as a stimulus has no distance to itself: set the diagonal to 0, or turn similarities into distances"
        )
    mirrored = values.swapaxes(1, 2)
    unpaired = np.isnan(values) & ~np.isnan(mirrored)
    if unpaired.any():
        k, i, j = np.argwhere(unpaired)[0]
        remedy = (
            "only one triangle is filled: mirror it, np.fmax(values, values.swapaxes(-1, -2))"
            if one_triangle(values[k])
            else "an RDM is symmetric, so set both or neither to NaN"
        )
        raise ValueError(f"{what} is NaN {where(k, i, j)}, but {values[k, j, i]:.6g} the other way round; {remedy}")
    difference = np.nan_to_num(np.abs(values - mirrored))
    if not difference.any() and not diagonal.any():
        return values
    if (difference > allowed[:, None, None]).any():
        k, i, j = map(int, np.unravel_index(np.argmax(difference - allowed[:, None, None]), difference.shape))
        remedy = (  # its mean with the transpose would be half of every distance
            "only one triangle is filled: mirror it, values + values.swapaxes(-1, -2)"
            if one_triangle(values[k])
            else "an RDM is symmetric: average it with its transpose, or find out why the directions differ"
        )
        raise ValueError(
            f"{what} is {values[k, i, j]:.6g} {where(k, i, j)}, but {values[k, j, i]:.6g} the "
            f"other way round, the largest difference; {remedy}"
        )
    return to_squares(upper_triangles(values), values.shape[1])


def _is_exact(rdm: np.ndarray) -> bool:
    """True if a matrix is symmetric to the last bit (NaN included), zero on the diagonal and not infinite."""
    # a few cheap passes for what nearly every RDM is; False says only that a closer look is needed
    if np.diagonal(rdm).any() or np.isinf(rdm).any():
        return False
    bits = np.ascontiguousarray(rdm).view(np.int64)
    # in bands, so that the transposed side is read by whole cache lines
    bands = range(0, len(bits), 64)
    return all(np.array_equal(bits[k : k + 64, k:], bits[k:, k : k + 64].T) for k in bands)


def _check_not_negative(values: np.ndarray, what: str, labels: Sequence[str], ids: Sequence[str], reason: str) -> None:
    if any((rdm < 0).any() for rdm in values):
        k, i, j = map(int, np.unravel_index(np.nanargmin(values), values.shape))
        raise ValueError(f"{what} is {values[k, i, j]:.6g} {_pair(labels[k], ids[i], ids[j])}; {reason}")


def _pair(rdm: str, first: str, second: str) -> str:
    return f"for stimuli {first!r} and {second!r} in RDM {rdm!r}"
