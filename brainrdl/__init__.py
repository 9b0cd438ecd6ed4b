"""Fit neural networks to brains, and to each other, by representational geometry."""

from importlib import import_module
from typing import TYPE_CHECKING

import lazy_loader

__version__ = "0.1.0.dev0"  # pyproject.toml reads it here: asking the installed package takes longer than the import

_PACKAGES = (
    "data",
    "exchange",
    "fmri",
    "inference",
    "models",
    "named_models",
    "plots",
    "rdms",
    "studies",
    "teachers",
    "terms",
    "training",
)

# a name's package is loaded when the name is first used; a test holds this table and the imports below together
_NAMES = {
    "exchange": ["from_rsatoolbox", "read_rdms", "to_rsatoolbox", "write_rdms"],
    "features": ["Recorder", "capture", "list_layers"],
    "inference": ["category_rdm", "fit_rdms", "mcnemar", "noise_ceiling", "remove_block_means"],
    "plots": ["plot_mds", "plot_rdms"],
    "rdms": [
        "average_rdms",
        "compare_rdms",
        "concat_rdms",
        "label_rdms",
        "layer_rdms",
        "rdm",
        "sample_pairs",
        "select_stimuli",
        "to_condensed",
        "to_square",
    ],
    "stimuli": ["StimulusSet"],
    "teachers": ["ConditionTeacher", "MeasuredTeacher", "NetworkTeacher", "PatternTeacher", "RDMTeacher"],
    "terms": [
        "CKA",
        "KD",
        "RKD",
        "SP",
        "Batch",
        "DeepSupervision",
        "Hint",
        "RDLoss",
        "RDLTerm",
        "Term",
        "constant",
        "cosine_decay",
        "linear_decay",
        "rdl_loss",
        "relative_alpha",
        "step_decay",
    ],
    "training": ["StimulusStream", "Trainer", "load_model", "repeat", "save_model"],
}

_exported, _, __all__ = lazy_loader.attach(__name__, submod_attrs=_NAMES)

if TYPE_CHECKING:
    # the same names, for type checkers and editors
    from brainrdl import (
        data as data,
        exchange as exchange,
        fmri as fmri,
        inference as inference,
        models as models,
        named_models as named_models,
        plots as plots,
        rdms as rdms,
        studies as studies,
        teachers as teachers,
        terms as terms,
        training as training,
    )
    from brainrdl.exchange import (
        from_rsatoolbox as from_rsatoolbox,
        read_rdms as read_rdms,
        to_rsatoolbox as to_rsatoolbox,
        write_rdms as write_rdms,
    )
    from brainrdl.features import Recorder as Recorder, capture as capture, list_layers as list_layers
    from brainrdl.inference import (
        category_rdm as category_rdm,
        fit_rdms as fit_rdms,
        mcnemar as mcnemar,
        noise_ceiling as noise_ceiling,
        remove_block_means as remove_block_means,
    )
    from brainrdl.plots import plot_mds as plot_mds, plot_rdms as plot_rdms
    from brainrdl.rdms import (
        average_rdms as average_rdms,
        compare_rdms as compare_rdms,
        concat_rdms as concat_rdms,
        label_rdms as label_rdms,
        layer_rdms as layer_rdms,
        rdm as rdm,
        sample_pairs as sample_pairs,
        select_stimuli as select_stimuli,
        to_condensed as to_condensed,
        to_square as to_square,
    )
    from brainrdl.stimuli import StimulusSet as StimulusSet
    from brainrdl.teachers import (
        ConditionTeacher as ConditionTeacher,
        MeasuredTeacher as MeasuredTeacher,
        NetworkTeacher as NetworkTeacher,
        PatternTeacher as PatternTeacher,
        RDMTeacher as RDMTeacher,
    )
    from brainrdl.terms import (
        CKA as CKA,
        KD as KD,
        RKD as RKD,
        SP as SP,
        Batch as Batch,
        DeepSupervision as DeepSupervision,
        Hint as Hint,
        RDLoss as RDLoss,
        RDLTerm as RDLTerm,
        Term as Term,
        constant as constant,
        cosine_decay as cosine_decay,
        linear_decay as linear_decay,
        rdl_loss as rdl_loss,
        relative_alpha as relative_alpha,
        step_decay as step_decay,
    )
    from brainrdl.training import (
        StimulusStream as StimulusStream,
        Trainer as Trainer,
        load_model as load_model,
        repeat as repeat,
        save_model as save_model,
    )


def __getattr__(name: str) -> object:
    if name in _PACKAGES:
        return import_module(f"brainrdl.{name}")
    if name in __all__:
        return _exported(name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__, *_PACKAGES})
