from .alpha import (
    constant as constant,
    cosine_decay as cosine_decay,
    deep_supervision_decay as deep_supervision_decay,
    linear_decay as linear_decay,
    relative_alpha as relative_alpha,
    step_decay as step_decay,
)
from .balance import balanced_alpha as balanced_alpha
from .base import Batch as Batch, Term as Term
from .distillation import KD as KD, Hint as Hint
from .losses import RDLoss as RDLoss, rdl_loss as rdl_loss
from .rdl import RDLTerm as RDLTerm
from .relational import CKA as CKA, RKD as RKD, SP as SP
from .supervision import DeepSupervision as DeepSupervision
