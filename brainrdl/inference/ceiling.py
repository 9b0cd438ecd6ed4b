"""Noise ceilings: the range of the best possible model's score, on the scale of the scores."""

import warnings
from itertools import combinations
from typing import NamedTuple

import numpy as np
import torch
import xarray as xr

from brainrdl.arguments import name_some
from brainrdl.rdms.combine import average_rdms, scale_for, to_scale
from brainrdl.rdms.layout import check_rdms
from brainrdl.rdms.plausible import check_possible
from brainrdl.rdms.rounding import check_geometry
from brainrdl.rdms.similarities import Options, check_method, similarities
from brainrdl.rdms.triangles import upper_triangles

_CANCELLED = 1e-12
_COPIED = 2e-6
_FEWEST_VALUES = 6


class NoiseCeiling(NamedTuple):
    """The range in which the best possible model's score lies.

    Attributes
    ----------
    lower : float
        Mean similarity of each subject's RDM with the mean of the others.
    upper : float
        Mean similarity of each subject's RDM with the mean of all, its own among them.
    """

    lower: float
    upper: float


def noise_ceiling(
    rdms: xr.DataArray, method: str = "corr", *, over: str = "subject", normalize: bool = True
) -> NoiseCeiling:
    """Estimate how similar to single subjects' RDMs a model's RDM can be, by how similar the subjects are.

    On one scale with the score of a model, ``compare_rdms(model, subjects, method).mean()``, the subjects being those
    of `brainrdl.inference.subject_rdms`.

    Parameters
    ----------
    rdms : DataArray (rdm, stimulus, stimulus_)
        One RDM per subject, or one per subject and session. NaN is an unmeasured pair: it takes no part in a mean.
    method : str
        Comparison of RDMs, as in `compare_rdms`.
    over : str
        Coordinate along ``rdm`` that tells the subjects apart; ``rdm`` itself where each RDM is another subject's, or
        another measurement of one (the ceiling then describes repetitions).
    normalize : bool
        True brings RDMs to one scale before they are averaged over subjects: z-scored for ``corr`` and
        ``corr_cov``, divided by their root mean square for the cosines, ranked for the rank correlations, left as they
        are for ``mse``. False averages distances.

    Returns
    -------
    NoiseCeiling
        ``lower`` and ``upper``; NaN, with a warning that names the subject, where the mean of the others (or of all)
        has nothing to compare a subject with.

    Raises
    ------
    TypeError, ValueError
        If there is no coordinate `over`, a subject has several RDMs (of different regions or layers), there are fewer
        than two subjects, one of them has no geometry (its RDM is constant), two have the same RDM, or as
        `compare_rdms`.

    References
    ----------
    Nili et al. (2014). A toolbox for representational similarity analysis. PLOS Computational Biology 10, e1003553.

    Examples
    --------
    >>> from brainrdl.inference import noise_ceiling
    >>> from brainrdl.rdms import label_rdms
    >>> rng = np.random.default_rng(0)
    >>> values = rng.random(45) + rng.random((6, 45))
    >>> ids, subjects = [f"s{i}" for i in range(10)], [f"sub-{k}" for k in range(6)]
    >>> rdms = label_rdms(values, ids, subjects, "correlation", {"subject": subjects})
    >>> lower, upper = noise_ceiling(rdms)
    >>> print(f"{lower:.2f} to {upper:.2f}")
    0.70 to 0.80
    """
    check_method(method)
    if over == "subject":
        _check_over(check_rdms(rdms), over, ", or give over='rdm' where each RDM is a subject's, or a repetition")
    subjects = subject_rdms(rdms, over=over)
    if subjects.sizes["rdm"] < 2:
        raise ValueError(
            f"there is a single {'RDM' if over == 'rdm' else over}; a noise ceiling needs at least two, to compare them"
        )
    values, names = upper_triangles(subjects.values), [str(name) for name in subjects[over].values]
    check_geometry(values, names, method, f"{over}s")
    scaled = to_scale(values, scale_for(method) if normalize else None)[0]
    everyone = np.ones(len(values))
    found = _to_means(values, scaled, method, everyone)
    if np.isnan(found).any():
        odd = [name for name, row in zip(names, found, strict=True) if np.isnan(row).any()]
        warnings.warn(
            f"the noise ceiling is NaN: the mean of the others, or of all, has nothing to compare {name_some(odd)} "
            "with, as it does not vary or shares fewer than 2 measured pairs",
            UserWarning,
            stacklevel=2,
        )
    return _ceiling(found, everyone)


def subject_rdms(rdms: xr.DataArray, *, over: str = "subject") -> xr.DataArray:
    """Average sessions within subjects, and check that each subject has one RDM.

    Parameters
    ----------
    rdms : DataArray (rdm, stimulus, stimulus_)
        Labelled RDMs.
    over : str
        Coordinate along ``rdm`` that tells the subjects apart.

    Returns
    -------
    DataArray (rdm, stimulus, stimulus_)
        One RDM per subject; its sessions' plain mean, since the distances of one subject have one unit.

    Raises
    ------
    TypeError, ValueError
        If there is no coordinate `over`, a subject has several RDMs (of different regions or layers), or two RDMs are
        one: the same distances but for their unit.

    Examples
    --------
    >>> from brainrdl.inference import subject_rdms
    >>> from brainrdl.rdms import label_rdms
    >>> values, ids = np.array([[0.5, 1.0, 1.5], [1.5, 1.0, 0.5]]), ["face", "body", "house"]
    >>> coords = {"subject": "sub-01", "session": ["ses-1", "ses-2"]}
    >>> rdms = label_rdms(values, ids, ["a", "b"], "correlation", coords)
    >>> subject_rdms(rdms).sel(stimulus="face").values
    array([[0., 1., 1.]])
    """
    rdms = check_rdms(rdms)
    check_possible(rdms)
    _check_over(rdms, over)
    _check_copies(rdms)
    # over another coordinate, such as the session itself, sessions are what is compared
    if over == "subject" and "session" in rdms.coords:
        rdms = average_rdms(rdms, over="session")
    names = rdms[over].values.tolist()
    several = list(dict.fromkeys(name for name in names if names.count(name) > 1))
    if several:
        same = rdms.isel(rdm=[name == several[0] for name in names])
        differing = [
            f"{name!r}"
            for name, coord in same.coords.items()
            if coord.dims == ("rdm",) and name != "rdm" and len(set(coord.values.tolist())) > 1
        ]
        raise ValueError(
            f"there are {names.count(several[0])} RDMs of {over} {name_some(several)}, expected one each; they differ "
            f"in {' and '.join(differing) or 'nothing but their labels'}: select one of these first, such as "
            "rdms.isel(rdm=rdms['roi'] == 'IT'), or average over it with average_rdms"
        )
    return rdms


def _check_over(rdms: xr.DataArray, over: str, otherwise: str = "") -> None:
    if over not in rdms.coords or rdms[over].dims != ("rdm",):
        there = ", ".join(repr(str(name)) for name, coord in rdms.coords.items() if coord.dims == ("rdm",))
        raise ValueError(
            f"no coordinate {over!r} along 'rdm' to tell subjects apart; there are: {there}; add it: "
            f"rdms.assign_coords({over}=('rdm', [...])){otherwise}"
        )


def ceiling_of(rdms: np.ndarray, scaled: np.ndarray, method: str, counts: np.ndarray) -> NoiseCeiling:
    """Noise ceiling of condensed RDMs (subjects, pairs), averaged as `scaled`, each subject counted `counts` times.

    All copies of a subject are left out together. NaN where fewer than two subjects are left.
    """
    # of one subject there are no others to compare it with
    if np.count_nonzero(counts) < 2:
        return NoiseCeiling(np.nan, np.nan)
    return _ceiling(_to_means(rdms, scaled, method, counts), counts)


def _ceiling(to_means: np.ndarray, counts: np.ndarray) -> NoiseCeiling:
    found = np.zeros(2)
    for count, row in zip(counts[counts > 0], to_means, strict=True):
        found += count * row
    lower, upper = found / counts.sum()
    return NoiseCeiling(float(lower), float(upper))


def _to_means(rdms: np.ndarray, scaled: np.ndarray, method: str, counts: np.ndarray) -> np.ndarray:
    """Compare each subject drawn with the mean of the others and with that of all: (subjects drawn, 2)."""
    measured = ~np.isnan(scaled)
    times = counts[:, None] * measured
    filled = np.where(measured, scaled, 0.0) * counts[:, None]
    total, number = filled.sum(axis=0), times.sum(axis=0)
    options = Options(method)
    found = []
    with np.errstate(invalid="ignore"):  # 0/0: a pair that nobody measured stays NaN
        for subject in np.flatnonzero(counts):
            # all copies of a subject leave together: a copy among the others would be compared with itself
            others = (total - filled[subject]) / (number - times[subject])
            means = np.stack((others, total / number))
            # what is left where subjects cancel each other is rounding
            size = np.abs(means).max(axis=1, keepdims=True, where=~np.isnan(means), initial=0.0)
            means = np.where(size <= _CANCELLED * np.abs(filled).max(), 0.0 * means, means)
            found.append(similarities(torch.from_numpy(means), torch.from_numpy(rdms[[subject]]), options)[:, 0])
    return torch.stack(found).numpy()


def _check_copies(rdms: xr.DataArray) -> None:
    """Refuse two RDMs with the same distances but for their unit: one person under two names, or a session twice."""
    values, names = upper_triangles(rdms.values), rdms["rdm"].values.tolist()
    for k, m in combinations(range(len(values)), 2):
        if are_copies(values[k], values[m]):
            raise ValueError(
                f"RDMs {names[k]!r} and {names[m]!r} hold the same distances, so that one person (or session) would "
                "count as two; leave one of them out, or find out which file was given twice"
            )


def are_copies(a: np.ndarray, b: np.ndarray) -> bool:
    """Tell if two RDMs (pairs,) are one measurement: the same distances but for their unit, where both have any."""
    both = ~np.isnan(a) & ~np.isnan(b)
    a, b = a[both], b[both]
    # a few pairs tell nearly all RDMs apart; of few different values, such as those of a category RDM, equal ones may
    # well be two people's
    return _same(a[:64], b[:64]) and _same(a, b) and len(np.unique(a)) >= _FEWEST_VALUES


def _same(a: np.ndarray, b: np.ndarray) -> bool:
    a, b = (rdm / (np.abs(rdm).max(initial=0.0) or 1.0) for rdm in (a, b))
    return bool((np.abs(a - b) <= _COPIED).all())
