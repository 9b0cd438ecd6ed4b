"""What students are fitted to: the brain's RDMs of the training stimuli, and what stands in for them as a control.

A control target is made of the training stimuli alone. Whatever a student gains from the category target or from the
within-category shuffle as well, it has not learned about single stimuli.
"""

from collections.abc import Mapping

import numpy as np
import xarray as xr

from brainrdl.inference.controls import remove_block_means
from brainrdl.inference.splits import Split
from brainrdl.rdms.labelled import select_stimuli
from brainrdl.studies.brain.inputs import Inputs
from brainrdl.training.randomness import derive_seed


def training_target(rdms: xr.DataArray, split: Split) -> xr.DataArray:
    """Take the RDMs of the training stimuli: the others are not in it, so that nothing can be fitted to them.

    Examples
    --------
    >>> import numpy as np, brainrdl as rdl
    >>> from brainrdl.studies.brain.targets import training_target
    >>> from brainrdl.inference.splits import Split
    >>> rdms = rdl.label_rdms(np.arange(15.0)[None], list("abcdef"), ["IT"], "undeclared")
    >>> training_target(rdms, Split("s", "1", tuple("ace"), tuple("bdf")))["stimulus"].values.tolist()
    ['a', 'c', 'e']
    """
    return select_stimuli(rdms, split.training)


def student_target(arm: str, inputs: Inputs, fitted: str, split: Split, seed: int) -> xr.DataArray:
    """What an arm's students are fitted to in a split: RDMs of its training stimuli.

    Parameters
    ----------
    arm : str
        One of `STUDENTS`.
    inputs : Inputs
    fitted : str
        The study that is fitted.
    split : Split
    seed : int
        Of the shuffles.

    Returns
    -------
    DataArray (rdm, stimulus, stimulus_)

    Raises
    ------
    ValueError
        If the training stimuli make no such control: they are of one category, or none has another of its own, or
        there are no RDMs of an early region.
    """
    if arm == "rdl_early_visual":
        if inputs.early_visual is None:
            raise ValueError("the study names no early_visual RDMs")
        return training_target(inputs.early_visual, split)
    brain = training_target(inputs.studies[fitted], split)
    if arm == "rdl":
        return brain
    of_training = [inputs.categories[stimulus] for stimulus in split.training]
    where = f"the training stimuli of split {split.name!r} of scheme {split.scheme!r}"
    if arm == "rdl_category":
        if len(set(of_training)) == 1:
            raise ValueError(
                f"{where} are of one category, so that a category target is constant; leave rdl_category out of arms, "
                "or schemes.leave_one_category_out"
            )
        return category_target(brain, inputs.categories)
    if arm == "rdl_global_shuffle":
        return shuffled_target(brain, None, seed)
    if len(set(of_training)) == len(of_training):
        raise ValueError(
            f"{where} are of a category each, so that a shuffle within categories leaves the brain's RDM as it is; "
            "leave rdl_within_shuffle out of arms, or take larger categories"
        )
    return shuffled_target(brain, inputs.categories, seed)


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
