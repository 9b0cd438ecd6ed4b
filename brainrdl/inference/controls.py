"""Category RDMs, block means and partitioned variance: the share that other RDMs already explain."""

import warnings
from collections.abc import Hashable, Iterator, Mapping, Sequence
from itertools import combinations

import numpy as np
import pandas as pd
import xarray as xr

from brainrdl.arguments import name_some
from brainrdl.ids import Labels, read_labels, spelling
from brainrdl.rdms.compare import Join, join_rdms
from brainrdl.rdms.labelled import label_rdms
from brainrdl.rdms.layout import check_rdms
from brainrdl.rdms.plausible import check_possible
from brainrdl.rdms.rounding import check_geometry, describe_lacking, is_constant, lacking_geometry
from brainrdl.rdms.similarities import centred_features
from brainrdl.rdms.triangles import to_squares, upper_triangles


def category_rdm(labels: Labels, name: str = "category") -> xr.DataArray:
    """Make the RDM of a categorical model: 0 within a category, 1 between categories.

    Parameters
    ----------
    labels : mapping of str, or DataArray (stimulus,)
        Category of each stimulus id.
    name : str
        Label of the RDM.

    Returns
    -------
    DataArray (rdm, stimulus, stimulus_)
        One RDM, metric ``undeclared``.

    Raises
    ------
    TypeError, ValueError
        If labels come without ids, are missing (None, NaN), or there is a single category.

    Examples
    --------
    >>> from brainrdl.inference import category_rdm
    >>> category_rdm({"face": "animate", "body": "animate", "house": "inanimate"}).values[0]
    array([[0., 0., 1.],
           [0., 0., 1.],
           [1., 1., 0.]])
    """
    category_of = read_labels(labels)
    if not category_of:
        raise ValueError("labels names no stimuli; give a category for each of at least two")
    codes = _codes(list(category_of.values()))
    if codes.max() == 0:
        raise ValueError(
            f"all {len(codes)} stimuli are in one category, {next(iter(category_of.values()))!r}; give at least two"
        )
    return label_rdms((codes[:, None] != codes).astype(np.float64)[None], list(category_of), [name], "undeclared")


def remove_block_means(rdms: xr.DataArray, labels: Labels) -> xr.DataArray:
    """Subtract from each distance the mean of its block of categories.

    A block holds the pairs of stimuli with the same two categories, which may be one. What is left says nothing about
    the categories, only about stimuli within them.

    Parameters
    ----------
    rdms : DataArray (rdm, stimulus, stimulus_)
        Labelled RDMs.
    labels : mapping of str, or DataArray (stimulus,)
        Category of each stimulus id, for all stimuli of the RDMs.

    Returns
    -------
    DataArray (rdm, stimulus, stimulus_)
        Each block has mean 0 in each RDM, over its measured pairs. The metric is ``undeclared``, since these are no
        distances any more; the former one is kept as attribute ``metric_before``.

    Raises
    ------
    TypeError, ValueError
        If a stimulus has no label (or None, NaN), there are standard errors (which do not follow), or `rdms` is no
        labelled RDM.

    Examples
    --------
    >>> from brainrdl.inference import remove_block_means
    >>> from brainrdl.rdms import label_rdms
    >>> rdms = label_rdms(np.array([[0.2, 1.3, 1.1]]), ["face", "body", "house"], ["IT"], "correlation")
    >>> within = remove_block_means(rdms, {"face": "animate", "body": "animate", "house": "inanimate"})
    >>> within.sel(rdm="IT", stimulus="house").values.round(3)
    array([ 0.1, -0.1,  0. ])
    """
    rdms = check_rdms(rdms)
    check_possible(rdms)
    if "standard_error" in rdms.coords:
        raise ValueError(
            "standard errors do not say how sure a difference from a block's mean is; leave them out: "
            "rdms.drop_vars('standard_error')"
        )
    category_of = read_labels(labels)
    ids = rdms["stimulus"].values.tolist()
    lacking = [stimulus for stimulus in ids if stimulus not in category_of]
    if lacking:
        raise ValueError(
            f"labels has no category for {len(lacking)} of {len(ids)} stimuli: {name_some(lacking)}"
            f"{spelling(lacking, category_of)}"
        )
    blocks = pair_blocks([category_of[stimulus] for stimulus in ids])
    values = upper_triangles(rdms.values)
    left = np.empty_like(values)
    for rdm, out in zip(values, left, strict=True):
        measured = ~np.isnan(rdm)
        counts = np.bincount(blocks, measured)
        sums = np.bincount(blocks, np.where(measured, rdm, 0.0))
        # a block without a measured pair has no mean, and nothing to subtract it from
        out[:] = rdm - (sums / np.maximum(counts, 1))[blocks]
        # of equal distances their rounding would be left, which a correlation takes for a geometry
        out[measured & np.isin(blocks, _constant_blocks(rdm, blocks))] = 0.0
    removed = rdms.copy(data=to_squares(left, len(ids)))
    return check_rdms(removed.assign_attrs(metric="undeclared", metric_before=rdms.attrs["metric"]))


def partition_variance(
    target: xr.DataArray, families: Mapping[str, xr.DataArray], method: str = "corr", *, join: Join = "exact"
) -> pd.DataFrame:
    """Split the variance of RDMs into what one, two or three families of model RDMs explain alone and in common.

    Commonality analysis: R² of the least-squares fit by the RDMs of every union of families, by inclusion and
    exclusion. Only measured pairs that all RDMs share are used. A common part may be negative, where families suppress
    each other's noise.

    Parameters
    ----------
    target : DataArray (rdm, stimulus, stimulus_)
        RDMs to explain.
    families : dict of DataArray (rdm, stimulus, stimulus_)
        One to three families, each of one or more model RDMs.
    method : {"corr", "spearman"}
        Regression of distances, or of their ranks.
    join : {"exact", "intersect"}
        Treatment of stimuli that only some RDMs have, see `compare_rdms`.

    Returns
    -------
    DataFrame
        Index ``rdm``; a column for each part, as ``"a"`` (a alone) and ``"a & b"`` (a and b in common, no other), and
        ``total``, the R² of all families, which is the sum of the parts. NaN, with a warning, for a target among
        several that does not vary.

    Raises
    ------
    TypeError, ValueError
        For no or more than three families, an unknown method, a family (or all targets) of RDMs that do not vary, and
        as `compare_rdms`.

    Examples
    --------
    >>> from brainrdl.inference import partition_variance
    >>> from brainrdl.rdms import label_rdms
    >>> rng = np.random.default_rng(0)
    >>> ids = [f"s{i}" for i in range(8)]
    >>> a, b = (label_rdms(rng.random((1, 28)), ids, [name], "undeclared") for name in "ab")
    >>> partition_variance(2 * a + 1 - np.eye(8), {"a": a, "b": b}).round(2)["total"].item()
    1.0
    """
    if method not in ("corr", "spearman"):
        raise ValueError(f"unknown method {method!r}; known are: corr, spearman")
    if not 1 <= len(families) <= 3:
        raise ValueError(f"families holds {len(families)}; variance is partitioned among one to three")
    if "target" in families:
        raise ValueError("a family is called 'target', which is what is explained; choose another name")
    joined = join_rdms({"target": target, **families}, join=join)
    values = {name: joined.condensed(name) for name in ("target", *families)}
    # R² of different fits are subtracted, so that all must rest on the same pairs
    measured = ~np.any([np.isnan(rdms).any(axis=0) for rdms in values.values()], axis=0)
    if measured.sum() < 2:
        raise ValueError(f"{measured.sum()} pairs are measured in all RDMs; variance needs at least 2")
    values = {name: rdms[:, measured] for name, rdms in values.items()}
    names = {name: joined.rdms[name]["rdm"].values.tolist() for name in values}
    lacking = {name: lacking_geometry(rdms, names[name], method) for name, rdms in values.items()}
    for name, rdms in values.items():
        if len(lacking[name]) == len(rdms):
            check_geometry(rdms, names[name], method, name if name == "target" else f"families[{name!r}]")
    if lacking["target"]:
        warnings.warn(
            f"the variance of targets is NaN where there is none: {describe_lacking(lacking['target'])}",
            UserWarning,
            stacklevel=2,
        )
    values = {name: centred_features(rdms, method) for name, rdms in values.items()}
    explained = {
        union: _r_squared(values["target"], np.concatenate([values[name] for name in union]))
        for union in _subsets(tuple(families))
    }
    everything = tuple(families)
    # Σ of the parts of all subsets of U, g(U) = R²(all) − R²(all without U); Möbius inversion gives the parts
    without = {
        union: explained[everything] - explained.get(tuple(f for f in everything if f not in union), 0.0)
        for union in explained
    }
    parts = {
        " & ".join(part): sum((-1.0) ** (len(part) - len(inner)) * without[inner] for inner in _subsets(part))
        for part in explained
    }
    index = pd.Index(joined.rdms["target"]["rdm"].values.tolist(), name="rdm")
    return pd.DataFrame({**parts, "total": explained[everything]}, index=index)


def _constant_blocks(rdm: np.ndarray, blocks: np.ndarray) -> list[int]:
    order = np.argsort(blocks, kind="stable")
    numbers, starts = np.unique(blocks[order], return_index=True)
    parts = np.split(rdm[order], starts[1:])
    return [int(number) for number, part in zip(numbers, parts, strict=True) if is_constant(part)]


def _r_squared(targets: np.ndarray, models: np.ndarray) -> np.ndarray:
    fitted = np.linalg.lstsq(models.T, targets.T, rcond=None)[0].T @ models
    total = np.square(targets).sum(axis=1)
    left: np.ndarray = np.square(targets - fitted).sum(axis=1)
    return 1 - left / np.where(total > 0, total, np.nan)


def _subsets(names: tuple[str, ...]) -> Iterator[tuple[str, ...]]:
    for size in range(1, len(names) + 1):
        yield from combinations(names, size)


def _codes(labels: Sequence[Hashable]) -> np.ndarray:
    numbers: dict[Hashable, int] = {}
    return np.array([numbers.setdefault(label, len(numbers)) for label in labels])


def pair_blocks(categories: Sequence[Hashable]) -> np.ndarray:
    """Number the pairs (n(n-1)/2,) of n stimuli by their two categories, in either order."""
    codes = _codes(categories)
    i, j = np.triu_indices(len(codes), 1)
    low, high = np.minimum(codes[i], codes[j]), np.maximum(codes[i], codes[j])
    blocks: np.ndarray = low * (int(codes.max()) + 1) + high
    return blocks
