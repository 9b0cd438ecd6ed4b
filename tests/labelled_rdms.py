"""Small labelled RDMs that tests share."""

import numpy as np

from brainrdl.rdms.labelled import label_rdms

IDS = ["face", "body", "house"]


def one(metric="correlation", **coords):
    """One RDM, of the stimuli `IDS`."""
    return label_rdms(np.array([[0.2, 1.3, 1.1]]), IDS, ["IT"], metric, coords)


def several(n_rdms=4, n=5, *, seed=0, metric="crossnobis", **coords):
    """RDMs of random numbers, negative ones among them."""
    values = np.random.default_rng(seed).normal(1, 1, (n_rdms, n * (n - 1) // 2))
    names = [f"rdm-{k}" for k in range(n_rdms)]
    return label_rdms(values, [f"stimulus-{i}" for i in range(n)], names, metric, coords)
