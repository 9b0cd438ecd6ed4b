"""Terms that are added to the task loss (Eq. 5): representational distance learning, its peers, and α."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
