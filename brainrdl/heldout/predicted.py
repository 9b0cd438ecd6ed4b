"""What models predict, and what their fit has seen."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import final

import xarray as xr

from brainrdl.arguments import name_some
from brainrdl.ids import check_ids
from brainrdl.rdms.layout import check_rdms


@final
@dataclass(frozen=True)
class Predicted:
    """RDMs that models predict, and the stimuli whose targets their fit has seen.

    Attributes
    ----------
    rdms : DataArray (rdm, stimulus, stimulus_)
        Labelled RDMs of the held-out stimuli, and maybe others, with coordinates ``arm`` (str) and ``seed`` (int)
        along ``rdm``: one RDM for each arm and seed.
    fitted_to : tuple of str
        Ids of all stimuli that took part in the fit, or in any choice made for it; empty for what was not fitted.

    Raises
    ------
    TypeError, ValueError
        If `rdms` is no labelled RDM, lacks the coordinates, has two RDMs of one arm and seed, or ids are no strings.

    Examples
    --------
    >>> import numpy as np, brainrdl as rdl
    >>> from brainrdl.heldout import Predicted
    >>> coords = {"arm": "pixels", "seed": 0}
    >>> rdms = rdl.label_rdms(np.array([[0.2, 1.3, 1.1]]), ["face", "body", "house"], ["pixels/0"], "mse", coords)
    >>> Predicted(rdms, fitted_to=()).arms
    (('pixels', 0),)
    """

    rdms: xr.DataArray
    fitted_to: tuple[str, ...]

    def __post_init__(self) -> None:
        object.__setattr__(self, "rdms", check_rdms(self.rdms))
        object.__setattr__(self, "fitted_to", check_ids(self.fitted_to, "fitted_to"))
        for name, kinds, meaning in (("arm", "UO", "a name"), ("seed", "iu", "a whole number")):
            if name not in self.rdms.coords or self.rdms[name].dims != ("rdm",):
                raise ValueError(
                    f"predicted RDMs have no coordinate {name!r} along 'rdm'; add it: "
                    f"rdms.assign_coords({name}=('rdm', [...]))"
                )
            if self.rdms[name].dtype.kind not in kinds:
                raise TypeError(
                    f"coordinate {name!r} of predicted RDMs is of type {self.rdms[name].dtype}; expected {meaning} for "
                    "each RDM"
                )
        check_once(self.arms)

    @property
    def arms(self) -> tuple[tuple[str, int], ...]:
        """The arm and the seed of each RDM."""
        return tuple(zip(map(str, self.rdms["arm"].values), map(int, self.rdms["seed"].values), strict=True))


def check_once(arms: Sequence[tuple[str, int]]) -> None:
    """Raise a ValueError that names the (arm, seed) that occur more than once."""
    twice = list(dict.fromkeys(arm for arm in arms if list(arms).count(arm) > 1))
    if twice:
        raise ValueError(f"an arm has one RDM per seed, but these (arm, seed) occur more than once: {name_some(twice)}")
