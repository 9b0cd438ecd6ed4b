"""What students are fitted to: the brain's RDMs of the training stimuli, and what stands in for them as a control.

A control target is made of the training stimuli alone. Whatever a student gains from the category target or from the
within-category shuffle as well, it has not learned about single stimuli.
"""

from collections.abc import Mapping

import numpy as np
import xarray as xr

from brainrdl.controls import remove_block_means
from brainrdl.labelled import select_stimuli
from brainrdl.randomness import derive_seed
from brainrdl.splits import Split


def training_target(rdms: xr.DataArray, split: Split) -> xr.DataArray:
    """Take the RDMs of the training stimuli: the others are not in it, so that nothing can be fitted to them.

    Examples
    --------
    >>> import numpy as np, brainrdl as rdl
    >>> from brainrdl.fitting.targets import training_target
    >>> from brainrdl.splits import Split
    >>> rdms = rdl.label_rdms(np.arange(15.0)[None], list("abcdef"), ["IT"], "undeclared")
    >>> training_target(rdms, Split("s", "1", tuple("ace"), tuple("bdf")))["stimulus"].values.tolist()
    ['a', 'c', 'e']
    """
    return select_stimuli(rdms, split.training)


def category_target(target: xr.DataArray, categories: Mapping[str, str]) -> xr.DataArray:
    """Replace each distance by the mean of its block of categories: category structure, and nothing else.

    Parameters
    ----------
    target : DataArray (rdm, stimulus, stimulus_)
        RDMs of the training stimuli.
    categories : mapping of str
        Stimulus id → category.

    Returns
    -------
    DataArray (rdm, stimulus, stimulus_)
        Each RDM's block means over its measured pairs; unmeasured pairs stay so. Same labels and metric.
    """
    plain = target.drop_vars("standard_error", errors="ignore")
    within = remove_block_means(plain, {stimulus: categories[stimulus] for stimulus in _ids(target)})
    return plain.copy(data=plain.values - within.values)


def shuffled_target(target: xr.DataArray, categories: Mapping[str, str] | None, seed: int) -> xr.DataArray:
    """Give each stimulus the distances of another: of its own category, or of any where no categories are given.

    Parameters
    ----------
    target : DataArray (rdm, stimulus, stimulus_)
        RDMs of the training stimuli.
    categories : mapping of str, or None
        Stimulus id → category, to shuffle within; None shuffles all.
    seed : int
        Of the permutation, which is one for all RDMs and does not depend on the order of the stimuli.

    Returns
    -------
    DataArray (rdm, stimulus, stimulus_)
        The same distances, labels and metric.
    """
    ids = _ids(target)
    rng = np.random.default_rng(derive_seed(seed, "shuffled target"))
    groups: dict[str, list[str]] = {}
    for stimulus in sorted(ids):
        groups.setdefault("" if categories is None else categories[stimulus], []).append(stimulus)
    other = {
        stimulus: group[place]
        for _, group in sorted(groups.items())
        for stimulus, place in zip(group, rng.permutation(len(group)), strict=True)
    }
    rows = [ids.index(other[stimulus]) for stimulus in ids]
    plain = target.drop_vars("standard_error", errors="ignore")
    return plain.copy(data=plain.values[:, rows][:, :, rows])


def _ids(target: xr.DataArray) -> list[str]:
    ids: list[str] = target["stimulus"].values.tolist()
    return ids
