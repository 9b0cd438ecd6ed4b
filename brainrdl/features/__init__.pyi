from .recorder import Recorder as Recorder, capture as capture, list_layers as list_layers
