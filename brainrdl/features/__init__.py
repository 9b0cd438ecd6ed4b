"""Activations of named layers, and which networks and layers can be asked for them."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
