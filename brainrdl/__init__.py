"""Fit neural networks to brains, and to each other, by representational geometry."""

import ast
from pathlib import Path
from typing import TYPE_CHECKING

import lazy_loader

__version__ = "0.1.0.dev0"  # pyproject.toml reads it here: asking the installed package takes longer than the import

if TYPE_CHECKING:
    from . import (
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
    from .exchange import (
        from_rsatoolbox as from_rsatoolbox,
        read_rdms as read_rdms,
        to_rsatoolbox as to_rsatoolbox,
        write_rdms as write_rdms,
    )
    from .features import Recorder as Recorder, capture as capture, list_layers as list_layers
    from .inference import (
        category_rdm as category_rdm,
        fit_rdms as fit_rdms,
        mcnemar as mcnemar,
        noise_ceiling as noise_ceiling,
        remove_block_means as remove_block_means,
    )
    from .plots import plot_mds as plot_mds, plot_rdms as plot_rdms
    from .rdms import (
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
    from .stimuli import StimulusSet as StimulusSet
    from .teachers import (
        ConditionTeacher as ConditionTeacher,
        MeasuredTeacher as MeasuredTeacher,
        NetworkTeacher as NetworkTeacher,
        PatternTeacher as PatternTeacher,
        RDMTeacher as RDMTeacher,
    )
    from .terms import (
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
        balanced_alpha as balanced_alpha,
        constant as constant,
        cosine_decay as cosine_decay,
        linear_decay as linear_decay,
        rdl_loss as rdl_loss,
        relative_alpha as relative_alpha,
        step_decay as step_decay,
    )
    from .training import (
        StimulusStream as StimulusStream,
        Trainer as Trainer,
        load_model as load_model,
        repeat as repeat,
        save_model as save_model,
    )

# A name's package is loaded when the name is first used. Which package that is, is read from the imports above, as the
# packages' own __init__ read their stubs: type checkers and users are given the same names, written once
_imports = [node for node in ast.walk(ast.parse(Path(__file__).read_text("utf-8"))) if isinstance(node, ast.ImportFrom)]
_names = {node.module: [alias.name for alias in node.names] for node in _imports if node.module and node.level}
_packages = {alias.name for node in _imports if not node.module for alias in node.names}
_exported, _, _ = lazy_loader.attach(__name__, _packages, _names)

# packages are offered too, but ``from brainrdl import *`` takes the names alone
__all__ = sorted(name for names in _names.values() for name in names)


def __getattr__(name: str) -> object:
    if name in __all__ or name in _packages:
        return _exported(name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__, *_packages})
