from .fit_heads import FittedHead as FittedHead, HeadSettings as HeadSettings, fit_head as fit_head
from .frrsa import fit_frrsa as fit_frrsa
from .heads import Gains as Gains, Headed as Headed, Readout as Readout
from .mixtures import MixtureFit as MixtureFit, fit_rdms as fit_rdms
