"""Permutation tests of relatedness: stimuli permuted, rows and columns together."""

from collections.abc import Hashable
from typing import NamedTuple

import numpy as np
import torch
import xarray as xr

from brainrdl.arguments import name_some, whole_number
from brainrdl.ids import Labels, read_labels, spelling
from brainrdl.rdms.compare import compare_rdms, join_rdms
from brainrdl.rdms.ranks import midranks
from brainrdl.rdms.similarities import Options, similarities


class PermutationTest(NamedTuple):
    """Similarities with their p-values and null distribution, as `permutation_test` returns them.

    Attributes
    ----------
    similarity : DataArray (rdm_a, rdm_b)
        Similarities, as `compare_rdms` gives them.
    p : DataArray (rdm_a, rdm_b)
        ``(1 + number of permutations at least as similar)/(1 + permutations)``, one-sided, not corrected. NaN where the
        similarity is.
    null : DataArray (permutation, rdm_a, rdm_b)
        Similarities under permutation.
    """

    similarity: xr.DataArray
    p: xr.DataArray
    null: xr.DataArray


def permutation_test(
    a: xr.DataArray,
    b: xr.DataArray,
    method: str = "corr",
    *,
    within: Labels | None = None,
    n_permutations: int = 1000,
    seed: int = 0,
) -> PermutationTest:
    """Test whether RDMs are related, by giving the stimuli of one side to each other's rows and columns.

    One permutation serves all RDMs. Permuting within categories keeps all that the categories explain, and tests what
    stimuli within them have in common; take out the blocks' means first with `remove_block_means`, or what the
    categories explain stays in the similarity and in all of its null distribution.

    Parameters
    ----------
    a, b : DataArray (rdm, stimulus, stimulus_)
        Labelled RDMs of the same stimuli, without missing pairs.
    method : str
        Comparison of RDMs, as in `compare_rdms`.
    within : mapping of str, or DataArray (stimulus,), optional
        Category of each stimulus id; stimuli change places within their category only.
    n_permutations : int
        Number of permutations.
    seed : int
        Seed of the permutations, which do not depend on the order of the stimuli.

    Returns
    -------
    PermutationTest

    Raises
    ------
    TypeError, ValueError
        For missing pairs, which would not be missing at random after permuting; a stimulus without category (or None,
        NaN), categories of one stimulus each, fewer than one permutation, a negative seed; and as `compare_rdms`.

    Examples
    --------
    >>> from brainrdl.inference import permutation_test
    >>> from brainrdl.rdms import label_rdms
    >>> values, ids = np.random.default_rng(0).random((2, 45)), [f"s{i}" for i in range(10)]
    >>> a = label_rdms(values[:1], ids, ["a"], "undeclared")
    >>> b = label_rdms(values.sum(axis=0)[None], ids, ["b"], "undeclared")
    >>> permutation_test(a, b, n_permutations=99).p.item()
    0.01
    """
    n_permutations = whole_number(n_permutations, "n_permutations", at_least=1)
    seed = whole_number(seed, "seed")
    similarity = compare_rdms(a, b, method)
    joined = join_rdms({"a": a, "b": b}).by_name()
    mine, theirs = (torch.from_numpy(joined.condensed(name)) for name in ("a", "b"))
    if mine.isnan().any() or theirs.isnan().any():
        raise ValueError("pairs are missing; permuting would compare other pairs: take the stimuli measured throughout")
    groups = _groups(within, joined.ids)
    if method == "spearman":  # ranks move with their pairs
        mine, theirs, method = midranks(mine), midranks(theirs), "corr"
    n = len(joined.ids)
    i, j = np.triu_indices(n, 1)
    place = np.zeros((n, n), dtype=int)
    place[i, j] = place[j, i] = np.arange(len(i))
    rng = np.random.default_rng(seed)
    null = np.empty((n_permutations, *similarity.shape))
    for out in null:
        order = np.arange(n)
        for group in groups:
            order[group] = rng.permutation(group)
        out[:] = similarities(mine[:, place[order[i], order[j]]], theirs, Options(method)).numpy()
    # what rounding leaves of an equal similarity counts as equal; the data are one more permutation, hence the 1 +
    reached = (null >= similarity.values - 1e-12).sum(axis=0)
    tested = np.where(np.isnan(similarity.values), np.nan, (1 + reached) / (1 + n_permutations))
    p = similarity.copy(data=tested).rename("p")
    drawn = xr.DataArray(null, dims=("permutation", *similarity.dims), coords=similarity.coords, name="null")
    return PermutationTest(similarity, p, drawn)


def _groups(within: Labels | None, ids: tuple[str, ...]) -> list[np.ndarray]:
    if within is None:
        return [np.arange(len(ids))]
    category_of = read_labels(within, "within")
    lacking = [stimulus for stimulus in ids if stimulus not in category_of]
    if lacking:
        raise ValueError(
            f"within has no category for {len(lacking)} of {len(ids)} stimuli: {name_some(lacking)}"
            f"{spelling(lacking, category_of)}"
        )
    members: dict[Hashable, list[int]] = {}
    for position, stimulus in enumerate(ids):
        members.setdefault(category_of[stimulus], []).append(position)
    # the null would be the data themselves, again and again
    if max(map(len, members.values())) < 2:
        raise ValueError("every category of within holds a single stimulus, so that nothing can change places")
    return [np.array(rows) for rows in members.values()]
