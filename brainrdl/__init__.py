"""Fit neural networks to brains, and to each other, by representational geometry."""

from importlib import import_module
from types import ModuleType

from brainrdl.checkpoint import load_model, save_model
from brainrdl.combine import average_rdms, concat_rdms
from brainrdl.condensed import sample_pairs, to_condensed, to_square
from brainrdl.distances import rdm
from brainrdl.features import Recorder, capture, list_layers
from brainrdl.inference import mcnemar
from brainrdl.labelled import label_rdms, select_stimuli
from brainrdl.losses import RDLoss, rdl_loss
from brainrdl.measured import MeasuredTeacher
from brainrdl.peers import CKA, KD, RKD, SP, DeepSupervision, Hint
from brainrdl.schedules import constant, cosine_decay, linear_decay, step_decay
from brainrdl.stimuli import StimulusSet
from brainrdl.streams import StimulusStream, repeat
from brainrdl.teachers import NetworkTeacher, RDMTeacher, relative_alpha
from brainrdl.terms import Batch, RDLTerm, Term
from brainrdl.trainer import Trainer

__all__ = [
    "CKA",
    "KD",
    "RKD",
    "SP",
    "Batch",
    "DeepSupervision",
    "Hint",
    "MeasuredTeacher",
    "NetworkTeacher",
    "RDLTerm",
    "RDLoss",
    "RDMTeacher",
    "Recorder",
    "StimulusSet",
    "StimulusStream",
    "Term",
    "Trainer",
    "average_rdms",
    "capture",
    "concat_rdms",
    "constant",
    "cosine_decay",
    "label_rdms",
    "linear_decay",
    "list_layers",
    "load_model",
    "mcnemar",
    "rdl_loss",
    "rdm",
    "relative_alpha",
    "repeat",
    "sample_pairs",
    "save_model",
    "select_stimuli",
    "step_decay",
    "to_condensed",
    "to_square",
]


def __getattr__(name: str) -> ModuleType:
    """Import `fmri`, and with it nilearn and nibabel, on first use."""
    if name == "fmri":
        return import_module("brainrdl.fmri")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
