"""Distances that cannot be, and what is likely to have gone wrong where they are given all the same.

Every road by which RDMs of others come in asks here: files, `label_rdms`, measured teachers, comparisons.
"""

import warnings

import numpy as np
import xarray as xr

from brainrdl.arguments import name_some
from brainrdl.rdms.triangles import upper_triangles

BOUNDED = {"correlation": "1 − r", "cosine": "1 − cosine"}
"""Metrics of distances between 0 and 2, and how they follow from similarities."""

_LARGEST = 2.0
_ROUNDING = 1e-6
_FEWEST_VALUES = 6
_STIMULI = (8, 32)  # fewer say too little, more cost too much: a part of a matrix of correlations is one, too
_SHARE = 0.1  # of the eigenvalues, that noise of measurement hardly makes negative


def check_possible(rdms: xr.DataArray) -> None:
    """Refuse labelled RDMs whose distances their metric cannot have: a correlation or cosine distance above 2.

    ValueError also where the RDM is one of similarities with 0 on the diagonal: 1 − d is far from a matrix of
    correlations, and d is one. RDMs that were normalised have left the scale of their metric, and are not asked.
    """
    metric = str(rdms.attrs["metric"])
    if metric not in BOUNDED or "normalize" in rdms.attrs:
        return
    for label, square in zip(rdms["rdm"].values.tolist(), rdms.values, strict=True):
        largest = np.fmax.reduce(square, axis=None)
        if largest > _LARGEST * (1 + _ROUNDING):
            i, j = np.argwhere(np.triu(square == largest, 1))[0]
            first, second = (str(rdms["stimulus"].values[place]) for place in (i, j))
            raise ValueError(
                f"dissimilarity is {largest:.6g} for stimuli {first!r} and {second!r} in RDM {label!r}, and a {metric} "
                f"distance, {BOUNDED[metric]}, lies between 0 and 2; divide by 100 what is in percent, or declare the "
                "metric that it is ('undeclared' where it is not known)"
            )
        if _holds_similarities(square):
            raise ValueError(
                f"RDM {label!r} holds no {metric} distances: no patterns have these, and as similarities, with 1 on "
                f"the diagonal, they would be possible; turn similarities into distances, {BOUNDED[metric]}, or "
                "declare the metric that it is ('undeclared' where it is not known)"
            )


def check_varied(rdms: xr.DataArray) -> None:
    """Refuse labelled RDMs that are 0 for every pair; of several, those that are get a UserWarning."""
    labels = rdms["rdm"].values.tolist()
    zero = [label for label, square in zip(labels, rdms.values, strict=True) if not np.nan_to_num(square).any()]
    if not zero:
        return
    message = (
        f"every measured distance is 0 in RDM {name_some(zero)}, which has no geometry: an array that was never "
        "filled, a layer that responds identically to all stimuli, or another variable than was meant"
    )
    if len(zero) == len(labels):
        raise ValueError(message)
    warnings.warn(message, stacklevel=3)


def check_people(rdms: xr.DataArray) -> None:
    """Refuse the same RDM under two subjects, who would count as two people: no two measurements agree in every pair.

    ValueError for labelled RDMs with a coordinate ``subject``, unless of fewer than six different distances.
    """
    if "subject" not in rdms.coords or rdms["subject"].dims != ("rdm",) or rdms.sizes["rdm"] < 2:
        return
    subjects = [str(subject) for subject in rdms["subject"].values.tolist()]
    labels = rdms["rdm"].values.tolist()
    seen: dict[bytes, int] = {}
    for row, triangle in enumerate(upper_triangles(rdms.values)):
        measured = triangle[~np.isnan(triangle)]
        if len(np.unique(measured)) < _FEWEST_VALUES:  # of few values, as those of a category RDM, may be two people's
            continue
        first = seen.setdefault(triangle.tobytes(), row)
        if subjects[first] != subjects[row]:
            raise ValueError(
                f"RDMs {labels[first]!r} and {labels[row]!r}, of subjects {subjects[first]!r} and {subjects[row]!r}, "
                f"are the same in all {len(measured)} measured pairs; they are one person's under two names, so leave "
                "one out"
            )


def one_triangle(square: np.ndarray) -> bool:
    """True of a matrix (n, n) that is filled above its diagonal alone, or below it: the other side is all 0 or NaN."""
    places = np.triu_indices(len(square), 1)
    upper, lower = (np.nan_to_num(side[places]).any() for side in (square, square.T))
    return bool(upper) != bool(lower)


def _holds_similarities(square: np.ndarray) -> bool:
    """True of a matrix of correlations with 0 written on its diagonal, which no patterns have as 1 − r.

    1 − d of correlation distances d is a matrix of correlations, without negative eigenvalues but by noise.
    """
    fewest, most = _STIMULI
    if len(square) < fewest:
        return False
    places = np.linspace(0, len(square) - 1, min(len(square), most)).round().astype(int)
    part = square[np.ix_(places, places)]
    if np.isnan(part).any() or part.max() > 1:
        return False
    eigenvalues = np.linalg.eigvalsh(1 - part)
    if -eigenvalues[eigenvalues < 0].sum() <= _SHARE * len(part):
        return False
    return bool(np.linalg.eigvalsh(part + np.eye(len(part)))[0] >= -_ROUNDING)
