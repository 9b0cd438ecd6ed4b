"""From fMRI to labelled RDMs: GLM, noise normalisation, cross-validated distances, searchlight and simulation.

Reached as ``brainrdl.fmri``, and imported only then: nothing else in the package needs nilearn or nibabel.
"""

from brainrdl.fmri.biased import pattern_rdm
from brainrdl.fmri.crossnobis import crossnobis
from brainrdl.fmri.design import GLM
from brainrdl.fmri.errors import distance_covariance, standard_errors, stimulus_covariance
from brainrdl.fmri.glm import fit_patterns, fit_precision
from brainrdl.fmri.masks import atlas_masks
from brainrdl.fmri.noise import noise_precision, repeats_precision
from brainrdl.fmri.patterns import make_patterns
from brainrdl.fmri.reliability import select_voxels, split_half, subject_ceiling

__all__ = [
    "GLM",
    "atlas_masks",
    "crossnobis",
    "distance_covariance",
    "fit_patterns",
    "fit_precision",
    "make_patterns",
    "noise_precision",
    "pattern_rdm",
    "repeats_precision",
    "select_voxels",
    "split_half",
    "standard_errors",
    "stimulus_covariance",
    "subject_ceiling",
]
