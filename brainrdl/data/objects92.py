"""The 92 object images, and RDMs of them: Kriegeskorte et al. (2008), Cichy et al. (2014).

The files name no stimuli. An id here is an image's category and its number within it, in the files' order:
``human-body-01`` … ``artificial-21``. That the second study's rows are in the same order follows from how well its
IT RDM agrees with the first's, also within categories; its files do not say so.
"""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

import numpy as np
import xarray as xr

from brainrdl.arguments import did_you_mean
from brainrdl.data._published import published_md5
from brainrdl.exchange.files import read_rdms
from brainrdl.exchange.matlab import read_variables
from brainrdl.exchange.npz import Npz
from brainrdl.rdms.combine import concat_rdms
from brainrdl.rdms.labelled import label_rdms
from brainrdl.stimuli.stimulus_set import StimulusSet

_COUNTS = {"human body": 12, "human face": 12, "animal body": 12, "animal face": 12, "natural": 23, "artificial": 21}

CATEGORIES: tuple[str, ...] = tuple(category for category, count in _COUNTS.items() for _ in range(count))
"""The category of each of the 92 images: human and animal bodies and faces, natural and artificial objects."""

IDS: tuple[str, ...] = tuple(
    f"{category.replace(' ', '-')}-{number:02d}"
    for category, count in _COUNTS.items()
    for number in range(1, count + 1)
)
"""The id of each of the 92 images."""

RDMSet = Literal["human", "primates", "models", "judgements", "second-study"]
"""``human``: human IT of 4 subjects in 2 sessions each (1 − Pearson r), coordinates ``subject``, ``session``, ``roi``.
``primates``: monkey IT, and the mean of ``human`` (1 − Pearson r), coordinate ``species``.
``models``: animacy, categories, HMAX and others, 8 in all, measure not declared.
``judgements``: similarity judgements of 16 people, measure not declared, coordinate ``subject``.
``second-study``: EVC and IT of 15 other subjects, measure not declared, coordinates ``subject``, ``roi``."""


@dataclass(frozen=True)
class _File:
    name: str
    md5: str


_SUPPLEMENT = _File("kriegeskorte92/Kriegeskorte_Neuron2008_supplementalData.mat", "d680895b747044338f32fdbd3e96074b")
_BRAIN = _File("kriegeskorte92/92_brainRDMs.mat", "f562b895d93eac142724525f11226092")
_MODELS = _File("kriegeskorte92/92_modelRDMs.mat", "44eb0f031e80a379de3c7a6dbc0b72b4")
_JUDGEMENTS = _File("kriegeskorte92/92_behavRDMs.mat", "79813942c9fe965707ef1ce33aafcac4")
_SECOND = _File("cichy92/cichy92_fmri_rdms.npz", "aff92a69a943cfb183fb7b6bf198822b")

# what the supplement's own fields say of each category: (category, human, face, animal, natural)
_FILE_CATEGORIES = {
    ("human bodypart", 1, 0, 1, 1): "human body",
    ("human face", 1, 1, 1, 1): "human face",
    ("nonhuman bodypart", 0, 0, 1, 1): "animal body",
    ("nonhuman face", 0, 1, 1, 1): "animal face",
    ("natural inanimate", 0, 0, 0, 1): "natural",
    ("artificial inanimate", 0, 0, 0, 0): "artificial",
}


def load_objects92(rdms: RDMSet = "human", data_dir: str | os.PathLike[str] | None = None) -> xr.DataArray:
    """Load RDMs of the 92 object images, see `RDMSet`, with the ids `IDS` and the coordinate ``category``.

    `data_dir` holds ``kriegeskorte92/`` and ``cichy92/``, by default $BRAINRDL_DATA; the files' MD5 are checked.
    """
    if rdms not in get_args(RDMSet):
        known = get_args(RDMSet)
        raise ValueError(f"unknown set of RDMs {rdms!r}; known are {', '.join(known)}{did_you_mean(rdms, known)}")
    if rdms == "human":
        found = read_rdms(_checked(_BRAIN, data_dir), stimuli=IDS, metric="correlation").assign_coords(
            roi=("rdm", ["IT"] * 8)
        )
        measured = zip(found["subject"].values, found["session"].values, strict=True)
        found = found.assign_coords(rdm=[f"{subject}/{session}/IT" for subject, session in measured])
    elif rdms == "primates":
        # squareform's order, which the file does not state
        found = read_rdms(_checked(_SUPPLEMENT, data_dir), stimuli=IDS, metric="correlation", order="row-major")
        found = found.assign_coords(
            rdm=["monkey IT", "human IT"], species=("rdm", ["monkey", "human"]), roi=("rdm", ["IT"] * 2)
        )
    elif rdms == "models":
        found = read_rdms(_checked(_MODELS, data_dir), stimuli=IDS, metric="undeclared")
    elif rdms == "judgements":
        found = read_rdms(_checked(_JUDGEMENTS, data_dir), stimuli=IDS, metric="undeclared")
        subjects = [name.removeprefix("simJudge | ") for name in found["rdm"].values.tolist()]
        found = found.assign_coords(rdm=subjects, subject=("rdm", subjects))
    else:
        arrays = Npz(_checked(_SECOND, data_dir))
        found = concat_rdms([_second_study(arrays[f"{roi}_RDMs"], roi) for roi in ("EVC", "IT")])
    return found.assign_coords(category=("stimulus", list(CATEGORIES)))


def load_objects92_images(data_dir: str | os.PathLike[str] | None = None) -> StimulusSet:
    """Load the 92 object images, uint8 (3, 175, 175) each, with the ids `IDS`; folder as for `load_objects92`."""
    objects = list(read_variables(_checked(_SUPPLEMENT, data_dir))["stimuli_92objs"].flat)
    marks = [[int(entry[name].item()) for name in ("human", "face", "animal", "natural")] for entry in objects]
    named = zip(objects, marks, strict=True)
    if tuple(_FILE_CATEGORIES[(entry["category"][0], *marked)] for entry, marked in named) != CATEGORIES:
        raise ValueError("the images of the supplement are not in the order of its RDMs")
    images = np.stack([entry["image"] for entry in objects]).transpose(0, 3, 1, 2)
    return StimulusSet.from_arrays(np.ascontiguousarray(images), IDS)


def _second_study(values: np.ndarray, roi: str) -> xr.DataArray:
    subjects = [f"sub-{number:02d}" for number in range(1, len(values) + 1)]
    names = [f"{subject}/{roi}" for subject in subjects]
    return label_rdms(values, IDS, names, "undeclared", {"subject": subjects, "roi": roi})


def _checked(file: _File, data_dir: str | os.PathLike[str] | None) -> Path:
    root = data_dir if data_dir is not None else os.environ.get("BRAINRDL_DATA")
    if not root:
        raise ValueError(
            "there is no folder to look for the 92 images in: give data_dir= or set "
            "the environment variable BRAINRDL_DATA"
        )
    path = Path(root, file.name)
    if not path.is_file():
        raise FileNotFoundError(f"no file {path}; datasets/{path.parent.name}/README.md says where it comes from")
    if (found := published_md5(path)) != file.md5:
        raise ValueError(
            f"{path}: its MD5 is {found}, expected {file.md5}; it is damaged or another file: fetch it again"
        )
    return path
