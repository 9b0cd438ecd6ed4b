"""Figures: RDM panels, training curves, maps of RDMs, test errors as dots, models' scores, the course of a fit.

Every function returns a `matplotlib.figure.Figure` (or the axes that it drew on) and shows nothing: a notebook displays
what a cell returns, a script calls ``figure.savefig(path)``. pyplot and its global state stay untouched.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
