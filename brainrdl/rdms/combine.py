"""Several labelled RDMs into one array, or into their mean.

RDMs are joined on the stimulus ids, and nothing is filled in: what differs is refused.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal, NamedTuple, get_args

import numpy as np
import torch
import xarray as xr

from brainrdl.arguments import did_you_mean, name_some
from brainrdl.ids import spelling
from brainrdl.rdms.labelled import select_stimuli
from brainrdl.rdms.labels import checked_parts
from brainrdl.rdms.layout import DIMS, Normalization, check_rdms
from brainrdl.rdms.plausible import check_people
from brainrdl.rdms.ranks import midranks
from brainrdl.rdms.rounding import is_constant
from brainrdl.rdms.triangles import to_squares, upper_triangles
from brainrdl.rdms.union import on_all_stimuli


def concat_rdms(
    rdms: Iterable[xr.DataArray] | Mapping[str, xr.DataArray], *, join: Literal["exact", "union"] = "exact"
) -> xr.DataArray:
    """Put labelled RDMs one behind the other.

    RDMs are joined on the stimulus ids: where the order differs, all follow the first.

    Parameters
    ----------
    rdms : sequence, or mapping of str, of DataArray (rdm, stimulus, stimulus_)
        Labelled RDMs with the same metric and coordinates, and with ``exact`` of the same stimuli. The key of a mapping
        comes before the labels of its array. Where arrays of a sequence share a label, the coordinate ``model`` does:
        ``resnet18 layer1``.
    join : {"exact", "union"}
        Whether other stimuli are an error, or the result has the stimuli of all, in order of first occurrence, and NaN
        for the pairs that an RDM has not measured.

    Returns
    -------
    DataArray (rdm, stimulus, stimulus_)
        RDMs in the order given; provenances that differ become ``{"concatenated": [{"rdm": …, "provenance": …}, …]}``.

    Raises
    ------
    TypeError
        If `rdms` is a single DataArray, or holds anything but labelled RDMs.
    ValueError
        If there are none; if stimuli, metrics, coordinates or attributes differ, a label occurs twice, or the same RDM
        stands under two subjects.

    Examples
    --------
    >>> import numpy as np, brainrdl as rdl
    >>> a = rdl.label_rdms(np.array([[0.2, 1.3, 1.1]]), ["face", "body", "house"], ["EVC"], "correlation")
    >>> b = rdl.label_rdms(np.array([[0.9, 0.1, 0.7]]), ["house", "face", "body"], ["IT"], "correlation")
    >>> rdl.concat_rdms([a, b]).sel(stimulus="face", stimulus_="body").to_series()
    rdm
    EVC    0.2
    IT     0.7
    Name: dissimilarity, dtype: float64
    """
    if isinstance(rdms, xr.DataArray):
        raise TypeError("rdms is a single DataArray; expected a list of labelled RDMs: concat_rdms([a, b])")
    parts = checked_parts(rdms)
    if not parts:
        raise ValueError("rdms is empty; expected at least one labelled RDM")
    if join not in ("exact", "union"):
        raise ValueError(f"unknown join {join!r}; known are: exact, union")
    if join == "union":
        parts = on_all_stimuli(parts)
    parts = [_in_order_of(parts[0], part, number) for number, part in enumerate(parts)]
    _check_same_coords(parts)
    attrs = _joined_attrs(parts)
    joined = xr.concat(parts, dim="rdm", coords="minimal", compat="override", join="exact", combine_attrs="override")
    check_people(joined)
    return joined.assign_attrs(attrs)


def average_rdms(rdms: xr.DataArray, over: str = "subject", *, normalize: Normalization | None = None) -> xr.DataArray:
    """Average RDMs over subjects, or over another coordinate.

    RDMs that agree in all other coordinates along ``rdm`` (``roi``, ``layer``, ``time``, …) form a group, and each
    group gives one mean. Over subjects, sessions are averaged within a subject first, so that all subjects count alike.
    A pair's mean is taken over the RDMs in which it was measured; where there is none it stays NaN.

    Parameters
    ----------
    rdms : DataArray (rdm, stimulus, stimulus_)
        Labelled RDMs.
    over : str
        The coordinate along ``rdm`` to average over; ``"rdm"`` averages all that agree in every coordinate.
    normalize : {"zscore", "unit", "rank"}, optional
        Scale of each RDM before it enters a mean, over its measured pairs (i<j): ``zscore`` subtracts the mean
        and divides by the standard deviation (without Bessel's correction), as suits comparison by correlation;
        ``unit`` divides by the root of the mean square, as suits the cosine; ``rank`` ranks from 1, ties sharing their
        mean, as suits Spearman's correlation; the ranks of an incomplete RDM are stretched to the range of a complete
        one. Subjects are normalised again after their sessions have been averaged.

    Returns
    -------
    DataArray (rdm, stimulus, stimulus_)
        One RDM per group, in order of first occurrence, labelled by the group's coordinates joined with ``/`` (``mean``
        if there are none). The averaged coordinate is gone; the others and the attributes are kept, `normalize` among
        them. ``standard_error`` becomes that of the mean for these subjects, errors being independent and the
        normalising factors fixed: ``sqrt(Σ (se/factor)²)/count``. It does not generalise to other subjects.

    Raises
    ------
    TypeError, ValueError
        If there is no coordinate `over`, or nothing to average (each group holds one of its several values, sessions
        excepted); if two RDMs of a subject differ in no coordinate; if an RDM is constant (``zscore``, ``rank``) or
        zero (``unit``), has standard errors (``rank``) or another normalisation; if `rdms` is not labelled RDMs.

    Examples
    --------
    >>> import numpy as np, brainrdl as rdl
    >>> rdms = rdl.label_rdms(
    ...     np.array([[0.2, 1.3, 1.1], [0.4, 0.9, 1.0]]),
    ...     ["face", "body", "house"],
    ...     ["sub-01/IT", "sub-02/IT"],
    ...     "correlation",
    ...     {"roi": "IT", "subject": ["sub-01", "sub-02"]},
    ... )
    >>> mean = rdl.average_rdms(rdms)
    >>> mean["rdm"].values.tolist(), mean.sel(rdm="IT", stimulus="face").values.round(3).tolist()
    (['IT'], [0.0, 0.3, 1.1])
    """
    checked = check_rdms(rdms)
    _check_normalize(checked, normalize)
    groups, gone = _groups(checked, over)
    n = checked.sizes["stimulus"]
    names = [f"RDM {label!r}" for label in checked["rdm"].values.tolist()]
    values = upper_triangles(checked.values)
    has_errors = "standard_error" in checked.coords
    errors = upper_triangles(checked["standard_error"].values) if has_errors else [None] * len(names)
    checked = checked.drop_vars("standard_error", errors="ignore")
    single = [_Condensed(*rdm) for rdm in zip(names, values, errors, strict=True)]
    means = []
    for members in groups.values():
        units = [
            single[rows[0]]
            if len(rows) == 1
            else _mean([single[row] for row in rows], normalize, f"the mean over the sessions of {over} {member!r}")
            for member, rows in members.items()
        ]
        means.append(_mean(units, normalize, "the mean"))
    firsts = [next(iter(members.values()))[0] for members in groups.values()]
    averaged = checked.isel(rdm=firsts).drop_vars(gone).copy(data=to_squares([mean.values for mean in means], n))
    averaged = averaged.assign_coords(rdm=["/".join(key) or "mean" for key in groups])
    mean_errors = [mean.errors for mean in means if mean.errors is not None]
    if mean_errors:
        averaged = averaged.assign_coords(standard_error=(DIMS, to_squares(mean_errors, n)))
    return check_rdms(averaged if normalize is None else averaged.assign_attrs(normalize=normalize))


class _Condensed(NamedTuple):
    """One condensed RDM, its standard errors, and what to call it in an error."""

    name: str
    values: np.ndarray
    errors: np.ndarray | None


def _mean(rdms: Sequence[_Condensed], normalize: Normalization | None, name: str) -> _Condensed:
    for rdm in rdms:
        _check_has_scale(rdm, normalize)
    values, sizes = to_scale(np.stack([rdm.values for rdm in rdms]), normalize)
    mean = mean_of_measured(values)
    errors = [rdm.errors for rdm in rdms if rdm.errors is not None]
    if not errors:
        return _Condensed(name, mean, None)
    measured = ~np.isnan(values)
    count = measured.sum(axis=0)
    # a measured pair without a standard error (NaN) leaves the mean without one
    squares = np.where(measured, (np.stack(errors) / sizes[:, None]) ** 2, 0)
    return _Condensed(name, mean, np.sqrt(squares.sum(axis=0)) / np.where(count > 0, count, np.nan))


def _check_has_scale(rdm: _Condensed, normalize: Normalization | None) -> None:
    if normalize in ("zscore", "rank") and is_constant(rdm.values):
        done = {"zscore": "z-scored", "rank": "ranked"}[normalize]
        raise ValueError(f"{rdm.name} is constant, so it cannot be {done}; leave it out")
    if normalize == "unit" and not np.square(rdm.values[~np.isnan(rdm.values)]).any():
        raise ValueError(f"{rdm.name} is zero for every pair, so it has no unit norm; leave it out")


def scale_for(method: str) -> Normalization | None:
    """The scale on which RDMs are averaged for a comparison, None for ``mse``, which compares units."""
    if method == "mse":
        return None
    if method.startswith("cosine"):
        return "unit"
    return "zscore" if method.startswith("corr") else "rank"


def to_scale(rdms: np.ndarray, scale: Normalization | None) -> tuple[np.ndarray, np.ndarray]:
    """Bring condensed RDMs (rdms, pairs) to one scale, each over its measured pairs; NaN is an unmeasured one.

    Also returns the sizes (rdms,) that distances were divided by: 1 for ranks and where there is no variation.
    """
    if scale is None:
        return rdms, np.ones(len(rdms))
    if not np.isnan(rdms).any():
        return _complete_to_scale(rdms, scale, rdms.shape[1])
    scaled, sizes = np.full(rdms.shape, np.nan), np.ones(len(rdms))
    for row, rdm in enumerate(rdms):
        measured = ~np.isnan(rdm)
        if measured.any():
            values, sizes[row : row + 1] = _complete_to_scale(rdm[measured][None], scale, rdms.shape[1])
            scaled[row, measured] = values[0]
    return scaled, sizes


def _complete_to_scale(rdms: np.ndarray, scale: Normalization, n_pairs: int) -> tuple[np.ndarray, np.ndarray]:
    if scale == "rank":
        ranks = midranks(torch.from_numpy(rdms)).numpy()
        # ranks of m out of P pairs, stretched to the expected ranks among P; factor 1 for a complete RDM
        return ranks * (n_pairs + 1) / (rdms.shape[1] + 1), np.ones(len(rdms))
    if scale == "zscore":
        rdms = rdms - rdms.mean(axis=1, keepdims=True)
    sizes = np.sqrt(np.mean(rdms**2, axis=1))
    sizes = np.where(sizes > 0, sizes, 1.0)
    return rdms / sizes[:, None], sizes


def mean_of_measured(rdms: np.ndarray) -> np.ndarray:
    """The mean of condensed RDMs (rdms, pairs), each pair's over those that measured it; NaN where none did."""
    measured = ~np.isnan(rdms)
    count = measured.sum(axis=0)
    mean: np.ndarray = np.where(measured, rdms, 0.0).sum(axis=0) / np.where(count > 0, count, np.nan)
    return mean


def _groups(rdms: xr.DataArray, over: str) -> tuple[dict[tuple[str, ...], dict[str, list[int]]], list[str]]:
    """Return {group: {value of `over`: rows}} and the coordinates that averaging removes."""
    along = {str(name): coord.values for name, coord in rdms.coords.items() if coord.dims == ("rdm",)}
    if over not in along:
        known = ", ".join(repr(name) for name in along)
        raise ValueError(f"no coordinate {over!r} along 'rdm' to average over; there are: {known}")
    gone = [over] if over != "rdm" else []
    if over == "subject" and "session" in along:
        gone.append("session")
    kept = [name for name in along if name not in ("rdm", *gone)]
    seen: dict[tuple[str, ...], int] = {}
    groups: dict[tuple[str, ...], dict[str, list[int]]] = {}
    for row, label in enumerate(along["rdm"]):
        # str and not the value, since NaN is not equal to itself
        group = tuple(str(along[name][row]) for name in kept)
        member = str(along[over][row])
        key = (*group, *(str(along[name][row]) for name in (gone or ["rdm"])))
        if key in seen:
            coordinates = ", ".join(repr(name) for name in along if name != "rdm")
            raise ValueError(
                f"RDMs {str(along['rdm'][seen[key]])!r} and {str(label)!r} agree in every coordinate along 'rdm' "
                f"({coordinates}); add the one that sets them apart, such as 'session', or leave one of them out"
            )
        seen[key] = row
        groups.setdefault(group, {}).setdefault(member, []).append(row)
    several = len({member for members in groups.values() for member in members}) > 1
    # sessions lie within subjects: that each group has one of its own does not mean a stray coordinate
    if over != "session" and several and all(len(members) == 1 for members in groups.values()):
        raise ValueError(
            f"no two RDMs that differ in {over!r} agree in all of {', '.join(map(repr, kept))}, so there is "
            "nothing to average; remove the coordinate that sets them apart: rdms.drop_vars(name)"
        )
    return groups, gone


def _check_normalize(rdms: xr.DataArray, normalize: str | None) -> None:
    if normalize is None:
        return
    known = get_args(Normalization)
    if normalize not in known:
        near = did_you_mean(str(normalize), known)
        raise ValueError(f"unknown normalize {normalize!r}; known are {', '.join(known)} and None{near}")
    before = rdms.attrs.get("normalize", normalize)
    if before != normalize:
        raise ValueError(
            f"normalize={normalize!r}, but these RDMs are already normalised as {before!r}; start from the RDMs before"
        )
    if normalize == "rank" and "standard_error" in rdms.coords:
        raise ValueError(
            "ranks have no standard errors that follow from those of the distances; leave them out: "
            "rdms.drop_vars('standard_error')"
        )


def _in_order_of(first: xr.DataArray, part: xr.DataArray, number: int) -> xr.DataArray:
    ids, others = first["stimulus"].values.tolist(), part["stimulus"].values.tolist()
    if ids == others:
        return part
    in_part, in_first = set(others), set(ids)
    missing = [stimulus for stimulus in ids if stimulus not in in_part]
    extra = [stimulus for stimulus in others if stimulus not in in_first]
    faults = [f"lacks {name_some(missing)}"] * bool(missing) + [f"adds {name_some(extra)}"] * bool(extra)
    if faults:
        raise ValueError(
            f"rdms[{number}] has other stimuli than rdms[0]: it {' and '.join(faults)}{spelling(missing, extra)}; take "
            "the common ones of both with select_stimuli"
        )
    return select_stimuli(part, ids)


def _check_same_coords(parts: Sequence[xr.DataArray]) -> None:
    first = parts[0]
    for number, part in enumerate(parts):
        for a, there, b, lacking in ((first, 0, part, number), (part, number, first, 0)):
            only = [str(name) for name in a.coords if name not in b.coords]
            if only:
                raise ValueError(
                    f"rdms[{lacking}] lacks the coordinates of rdms[{there}] {name_some(only)}; add them to "
                    "the one or remove them from the other with drop_vars, as nothing is filled in"
                )
        for name, coord in part.coords.items():
            mine = first.coords[name]
            if mine.dims != coord.dims:
                raise ValueError(
                    f"coordinate {name!r} lies along {mine.dims} in rdms[0], but along {coord.dims} in "
                    f"rdms[{number}]; make them agree"
                )
            if "rdm" in mine.dims and (mine.dtype.kind in "OTU") != (coord.dtype.kind in "OTU"):
                raise ValueError(
                    f"coordinate {name!r} holds {mine.dtype} in rdms[0], but {coord.dtype} in "
                    f"rdms[{number}]; convert one of them, as strings and numbers do not mix"
                )
            if "rdm" not in mine.dims and not mine.variable.equals(coord.variable):
                raise ValueError(
                    f"coordinate {name!r} differs between rdms[0] and rdms[{number}], though it describes "
                    "their common stimuli; make them agree or remove it with drop_vars"
                )


def _joined_attrs(parts: Sequence[xr.DataArray]) -> dict[str, Any]:
    attrs = dict(parts[0].attrs)
    for number, part in enumerate(parts):
        if part.attrs["metric"] != attrs["metric"]:
            raise ValueError(
                f"metrics differ: {attrs['metric']!r} in rdms[0], {part.attrs['metric']!r} in rdms[{number}]; RDMs of "
                "different metrics have different scales, so keep them in separate arrays"
            )
        for name in (*attrs, *part.attrs):
            if name != "provenance" and (name not in attrs or attrs[name] != part.attrs.get(name)):
                mine, other = (f"is {a[name]!r}" if name in a else "is absent" for a in (attrs, part.attrs))
                raise ValueError(
                    f"attribute {name!r} {mine} in rdms[0] and {other} in rdms[{number}]; an attribute holds "
                    "for all RDMs of an array, so make it agree, or make it a coordinate along 'rdm'"
                )
    sources = [part.attrs.get("provenance") for part in parts]
    if any(source != sources[0] for source in sources):
        attrs["provenance"] = json.dumps({"concatenated": [source for part in parts for source in _provenances(part)]})
    return attrs


def _provenances(rdms: xr.DataArray) -> list[Any]:
    source = json.loads(rdms.attrs.get("provenance", "null"))
    if isinstance(source, dict) and list(source) == ["concatenated"]:
        return list(source["concatenated"])
    return [{"rdm": rdms["rdm"].values.tolist(), "provenance": source}]
