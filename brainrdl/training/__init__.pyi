from .checkpoint import load_model as load_model
from .checkpoint import read_manifest as read_manifest
from .checkpoint import save_model as save_model
from .machine import choose_precision as choose_precision
from .randomness import derive_seed as derive_seed
from .streams import StimulusStream as StimulusStream
from .streams import repeat as repeat
from .trainer import Trainer as Trainer
