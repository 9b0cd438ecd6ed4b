"""Layers reweighted: mixtures of RDMs, readouts and gains, fitted to few stimuli."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
