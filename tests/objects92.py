"""The RDMs of the 92 object images that tests use; without the files, the test that asks for them is skipped."""

import xarray as xr

from brainrdl.data.objects92 import CATEGORIES, load_objects92
from real_data import data_dir

ANIMACY = tuple("animate" if name.startswith(("human", "animal")) else "inanimate" for name in CATEGORIES)
"""Whether each image shows something animate."""


def human_it() -> xr.DataArray:
    """Human IT of the first study: 4 subjects, 2 sessions."""
    return load_objects92("human", data_dir("kriegeskorte92/92_brainRDMs.mat"))


def cichy(roi: str) -> xr.DataArray:
    """IT or EVC of the second study: 15 subjects."""
    rdms = load_objects92("second-study", data_dir("cichy92/cichy92_fmri_rdms.npz"))
    return rdms.isel(rdm=rdms["roi"].values == roi)
