"""Scores of models on stimuli that they were not fitted to, each beside its own noise ceiling.

Only pairs of two held-out stimuli are ever scored: a `Split` names these stimuli, and nothing here takes other pairs.
A model says itself which stimuli's targets its fit has seen, and is refused where one of them is held out.
"""

from brainrdl.heldout.average import FoldScores, score_folds
from brainrdl.heldout.predicted import Predicted
from brainrdl.heldout.scores import HeldOut, held_out_scores

__all__ = ["FoldScores", "HeldOut", "Predicted", "held_out_scores", "score_folds"]
