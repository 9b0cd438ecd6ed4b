"""From fMRI to labelled RDMs: GLM, noise normalisation, cross-validated distances, searchlight and simulation.

Reached as ``brainrdl.fmri``, and imported only then: nothing else in the package needs nilearn or nibabel.
"""

from brainrdl.fmri.betas import read_betas
from brainrdl.fmri.biased import pattern_rdm
from brainrdl.fmri.crossnobis import crossnobis
from brainrdl.fmri.design import GLM
from brainrdl.fmri.errors import distance_covariance, standard_errors, stimulus_covariance
from brainrdl.fmri.find import find_runs
from brainrdl.fmri.glm import fit_patterns, fit_precision
from brainrdl.fmri.masks import atlas_masks
from brainrdl.fmri.noise import noise_precision, repeats_precision
from brainrdl.fmri.patterns import make_patterns
from brainrdl.fmri.pipeline import Settings, rdms_from_bids
from brainrdl.fmri.reliability import select_voxels, split_half
from brainrdl.fmri.searchlight import searchlight_map, searchlight_rdms
from brainrdl.fmri.simulation import Simulation, plant_patterns, simulate_bids

__all__ = [
    "GLM",
    "Settings",
    "Simulation",
    "atlas_masks",
    "crossnobis",
    "distance_covariance",
    "find_runs",
    "fit_patterns",
    "fit_precision",
    "make_patterns",
    "noise_precision",
    "pattern_rdm",
    "plant_patterns",
    "rdms_from_bids",
    "read_betas",
    "repeats_precision",
    "searchlight_map",
    "searchlight_rdms",
    "select_voxels",
    "simulate_bids",
    "split_half",
    "standard_errors",
    "stimulus_covariance",
]
