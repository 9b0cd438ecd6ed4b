from .checkpoint import load_model as load_model, read_manifest as read_manifest, save_model as save_model
from .machine import choose_precision as choose_precision
from .randomness import derive_seed as derive_seed
from .streams import StimulusStream as StimulusStream, repeat as repeat
from .trainer import Trainer as Trainer
