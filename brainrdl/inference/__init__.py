"""How sure: differences between networks, scores of models against subjects, tables of tests."""

from brainrdl.inference.bootstrap import Resamples, resample_scores
from brainrdl.inference.ceiling import NoiseCeiling, noise_ceiling, subject_rdms
from brainrdl.inference.models import ModelScores, score_models
from brainrdl.inference.multiplicity import fdr, holm
from brainrdl.inference.permutation import PermutationTest, permutation_test
from brainrdl.inference.trainings import (
    Interval,
    McNemar,
    binomial_standard_error,
    crossed_bootstrap,
    mcnemar,
    paired_t_interval,
    t_interval,
)

__all__ = [
    "Interval",
    "McNemar",
    "ModelScores",
    "NoiseCeiling",
    "PermutationTest",
    "Resamples",
    "binomial_standard_error",
    "crossed_bootstrap",
    "fdr",
    "holm",
    "mcnemar",
    "noise_ceiling",
    "paired_t_interval",
    "permutation_test",
    "resample_scores",
    "score_models",
    "subject_rdms",
    "t_interval",
]
