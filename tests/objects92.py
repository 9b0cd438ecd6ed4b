"""The RDMs of the 92 object images that tests use, with labels."""

import numpy as np
import xarray as xr
from scipy.io import loadmat

from brainrdl.labelled import label_rdms
from real_data import data_dir

IDS = [f"image-{k:02}" for k in range(1, 93)]
_MAT = "kriegeskorte92/Kriegeskorte_Neuron2008_supplementalData.mat"


def human_it() -> xr.DataArray:
    """Human IT of the first study: 4 subjects, 2 sessions."""
    name = "kriegeskorte92/92_brainRDMs.mat"
    cells = loadmat(data_dir(name) / name)["RDMs"][0]
    where = [(s, k) for s in range(4) for k in range(2)]
    return label_rdms(
        np.stack([cells[s, k]["RDM"] for s, k in where]),
        IDS,
        [f"sub-{s + 1}/ses-{k + 1}" for s, k in where],
        "correlation",
        {"subject": [f"sub-{s + 1}" for s, _ in where], "session": [f"ses-{k + 1}" for _, k in where]},
    )


def cichy(roi: str) -> xr.DataArray:
    """IT or EVC of the second study: 15 subjects."""
    name = "cichy92/cichy92_fmri_rdms.npz"
    values = np.load(data_dir(name) / name)[f"{roi}_RDMs"]
    subjects = [f"sub-{k + 1:02}" for k in range(15)]
    return label_rdms(values, IDS, [f"{s}/{roi}" for s in subjects], "undeclared", {"subject": subjects})


def animate() -> list[str]:
    """Whether each image shows something animate."""
    return ["animate" if row else "inanimate" for row in _stimuli("animal")]


def six_categories() -> list[str]:
    """Human and animal faces and bodies, natural and artificial objects."""
    human, face, animal, natural = (_stimuli(field) for field in ("human", "face", "animal", "natural"))
    return [
        f"{'human' if h else 'animal'} {'face' if f else 'body'}" if a else ("natural" if n else "artificial")
        for h, f, a, n in zip(human, face, animal, natural, strict=True)
    ]


def _stimuli(field: str) -> list[int]:
    stimuli = loadmat(data_dir(_MAT) / _MAT)["stimuli_92objs"][0]
    return [int(one[field].squeeze()) for one in stimuli]
