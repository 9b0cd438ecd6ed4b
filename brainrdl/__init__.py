"""Fit neural networks to brains, and to each other, by representational geometry."""

from importlib import import_module
from typing import TYPE_CHECKING

from brainrdl.exchange import from_rsatoolbox, read_rdms, to_rsatoolbox, write_rdms
from brainrdl.features import Recorder, capture, list_layers
from brainrdl.inference import mcnemar, noise_ceiling
from brainrdl.inference.controls import category_rdm, remove_block_means
from brainrdl.inference.reweighting.mixtures import fit_rdms
from brainrdl.rdms.combine import average_rdms, concat_rdms
from brainrdl.rdms.compare import compare_rdms
from brainrdl.rdms.condensed import sample_pairs, to_condensed, to_square
from brainrdl.rdms.distances import rdm
from brainrdl.rdms.labelled import label_rdms, select_stimuli
from brainrdl.rdms.layers import layer_rdms
from brainrdl.stimuli import StimulusSet
from brainrdl.teachers.base import RDMTeacher
from brainrdl.teachers.conditions import ConditionTeacher
from brainrdl.teachers.measured import MeasuredTeacher
from brainrdl.teachers.network import NetworkTeacher
from brainrdl.teachers.patterns import PatternTeacher
from brainrdl.terms.alpha import constant, cosine_decay, linear_decay, relative_alpha, step_decay
from brainrdl.terms.base import Batch, Term
from brainrdl.terms.distillation import KD, Hint
from brainrdl.terms.losses import RDLoss, rdl_loss
from brainrdl.terms.rdl import RDLTerm
from brainrdl.terms.relational import CKA, RKD, SP
from brainrdl.terms.supervision import DeepSupervision
from brainrdl.training.checkpoint import load_model, save_model
from brainrdl.training.streams import StimulusStream, repeat
from brainrdl.training.trainer import Trainer

if TYPE_CHECKING:
    from brainrdl.plots import plot_mds, plot_rdms

__all__ = [
    "CKA",
    "KD",
    "RKD",
    "SP",
    "Batch",
    "ConditionTeacher",
    "DeepSupervision",
    "Hint",
    "MeasuredTeacher",
    "NetworkTeacher",
    "PatternTeacher",
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
    "category_rdm",
    "compare_rdms",
    "concat_rdms",
    "constant",
    "cosine_decay",
    "fit_rdms",
    "from_rsatoolbox",
    "label_rdms",
    "layer_rdms",
    "linear_decay",
    "list_layers",
    "load_model",
    "mcnemar",
    "noise_ceiling",
    "plot_mds",
    "plot_rdms",
    "rdl_loss",
    "rdm",
    "read_rdms",
    "relative_alpha",
    "remove_block_means",
    "repeat",
    "sample_pairs",
    "save_model",
    "select_stimuli",
    "step_decay",
    "to_condensed",
    "to_rsatoolbox",
    "to_square",
    "write_rdms",
]


def __getattr__(name: str) -> object:
    if name == "__version__":
        from importlib.metadata import version

        return version("brainrdl")
    # loaded by those who draw or have scans (nilearn, nibabel)
    if name in ("plot_mds", "plot_rdms"):
        return getattr(import_module("brainrdl.plots"), name)
    if name == "fmri":
        return import_module("brainrdl.fmri")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
