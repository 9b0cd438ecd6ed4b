"""RDMs from and for other tools: one module per format, nothing guessed, nothing lost unsaid."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
