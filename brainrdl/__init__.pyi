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

__version__: str
