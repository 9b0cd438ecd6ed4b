from .betas import read_betas as read_betas
from .bids import find_runs as find_runs
from .design import GLM as GLM
from .distances import crossnobis as crossnobis, pattern_rdm as pattern_rdm
from .glm import fit_patterns as fit_patterns, fit_precision as fit_precision
from .masks import atlas_masks as atlas_masks, threshold_mask as threshold_mask
from .noise import noise_precision as noise_precision, repeats_precision as repeats_precision
from .patterns import make_patterns as make_patterns
from .pipeline import rdms_from_bids as rdms_from_bids
from .reliability import select_voxels as select_voxels, split_half as split_half
from .searchlight import searchlight_map as searchlight_map, searchlight_rdms as searchlight_rdms
from .settings import Settings as Settings
from .simulation import Simulation as Simulation, plant_patterns as plant_patterns, simulate_bids as simulate_bids
from .uncertainty import (
    distance_covariance as distance_covariance,
    standard_errors as standard_errors,
    stimulus_covariance as stimulus_covariance,
)
