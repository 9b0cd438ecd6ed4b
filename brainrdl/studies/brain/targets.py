"""The targets of students: the brain's RDMs of the training stimuli, and what stands in for them as a control.

A control target is made of the training stimuli alone. Whatever a student gains from the category target or from the
within-category shuffle as well, it has not learned about single stimuli.
"""

from collections.abc import Callable, Mapping

import numpy as np
import xarray as xr

from brainrdl.inference.controls import remove_block_means
from brainrdl.inference.splits import Split
from brainrdl.rdms.labelled import select_stimuli
from brainrdl.studies.brain.inputs import Inputs
from brainrdl.training.randomness import derive_seed


def training_target(rdms: xr.DataArray, split: Split) -> xr.DataArray:
    """Take the RDMs of the training stimuli: the others are not in it, so that nothing can be fitted to them."""
    return select_stimuli(rdms, split.training)


Target = Callable[[Inputs, str, Split, int], xr.DataArray]
"""(inputs, fitted study, split, seed of the shuffles) → RDMs of the split's training stimuli; ValueError where these
stimuli make no such control."""


def brain_target(inputs: Inputs, fitted: str, split: Split, seed: int) -> xr.DataArray:
    """Take the brain's RDMs as they are."""
    return training_target(inputs.studies[fitted], split)


def early_visual_target(inputs: Inputs, fitted: str, split: Split, seed: int) -> xr.DataArray:
    """Take the RDMs of an early visual region in place of the fitted study's."""
    if inputs.early_visual is None:
        raise ValueError("the study names no early_visual RDMs")
    return training_target(inputs.early_visual, split)


def block_means_target(inputs: Inputs, fitted: str, split: Split, seed: int) -> xr.DataArray:
    """Take the brain's RDMs with each block of categories replaced by its mean."""
    if len({inputs.categories[stimulus] for stimulus in split.training}) == 1:
        raise ValueError(
            f"{_where(split)} are of one category, so that a category target is constant; leave rdl_category out of "
            "arms, or schemes.leave_one_category_out"
        )
    return category_target(brain_target(inputs, fitted, split, seed), inputs.categories)


def within_shuffle_target(inputs: Inputs, fitted: str, split: Split, seed: int) -> xr.DataArray:
    """Take the brain's RDMs with the stimuli permuted within their categories."""
    of_training = [inputs.categories[stimulus] for stimulus in split.training]
    if len(set(of_training)) == len(of_training):
        raise ValueError(
            f"{_where(split)} are of a category each, so that a shuffle within categories leaves the brain's RDM as it "
            "is; leave rdl_within_shuffle out of arms, or take larger categories"
        )
    return shuffled_target(brain_target(inputs, fitted, split, seed), inputs.categories, seed)


def global_shuffle_target(inputs: Inputs, fitted: str, split: Split, seed: int) -> xr.DataArray:
    """Take the brain's RDMs with all stimuli permuted."""
    return shuffled_target(brain_target(inputs, fitted, split, seed), None, seed)


def _where(split: Split) -> str:
    return f"the training stimuli of split {split.name!r} of scheme {split.scheme!r}"


def category_target(target: xr.DataArray, categories: Mapping[str, str]) -> xr.DataArray:
    """Replace each distance by the mean of its block of categories: category structure, and nothing else.

    Means are each RDM's own, over its measured pairs; unmeasured pairs stay so. Labels and metric stay.
    """
    plain = target.drop_vars("standard_error", errors="ignore")
    # what is left of a distance beside its block's mean is taken off it again: the mean is what stays
    within = remove_block_means(
        plain, {stimulus: categories[stimulus] for stimulus in target["stimulus"].values.tolist()}
    )
    return plain.copy(data=plain.values - within.values)


def shuffled_target(target: xr.DataArray, categories: Mapping[str, str] | None, seed: int) -> xr.DataArray:
    """Give each stimulus the distances of another: of its own category, or of any where no categories are given.

    The permutation is one for all RDMs. Distances, labels and metric stay.
    """
    ids: list[str] = target["stimulus"].values.tolist()
    rng = np.random.default_rng(derive_seed(seed, "shuffled target"))
    groups: dict[str, list[str]] = {}
    for stimulus in sorted(ids):  # so that the permutation does not depend on the order of the stimuli
        groups.setdefault("" if categories is None else categories[stimulus], []).append(stimulus)
    other = {
        stimulus: group[place]
        for _, group in sorted(groups.items())
        for stimulus, place in zip(group, rng.permutation(len(group)), strict=True)
    }
    # whole stimuli move, so that a shuffled RDM is as possible as the brain's
    rows = [ids.index(other[stimulus]) for stimulus in ids]
    plain = target.drop_vars("standard_error", errors="ignore")
    return plain.copy(data=plain.values[:, rows][:, :, rows])
