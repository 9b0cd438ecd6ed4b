"""From fMRI to labelled RDMs: GLM, noise normalisation, cross-validated distances, searchlight and simulation.

Reached as ``brainrdl.fmri``, and imported only then: nothing else in the package needs nilearn or nibabel.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
