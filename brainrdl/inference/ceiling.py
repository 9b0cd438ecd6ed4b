"""Noise ceilings: the range of the best possible model's score, on the scale of the scores."""

from typing import NamedTuple

import numpy as np
import torch
import xarray as xr

from brainrdl.arguments import name_some
from brainrdl.rdms.combine import average_rdms, scale_for, to_scale
from brainrdl.rdms.condensed import upper_triangles
from brainrdl.rdms.layout import check_rdms
from brainrdl.rdms.similarities import Options, check_method, similarities


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
        Coordinate along ``rdm`` that tells the subjects apart.
    normalize : bool
        True brings RDMs to one scale before they are averaged over subjects: z-scored for ``corr`` and
        ``corr_cov``, divided by their root mean square for the cosines, ranked for the rank correlations, left as they
        are for ``mse``. False averages distances.

    Returns
    -------
    NoiseCeiling
        ``lower`` and ``upper``.

    Raises
    ------
    TypeError, ValueError
        If there is no coordinate `over`, a subject has several RDMs (of different regions or layers), there are fewer
        than two subjects, or as `compare_rdms`.

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
    subjects = subject_rdms(rdms, over=over)
    if subjects.sizes["rdm"] < 2:
        raise ValueError(f"there is a single {over}; a noise ceiling needs at least two, to compare them")
    values = upper_triangles(subjects.values)
    return ceiling_of(values, to_scale(values, scale_for(method) if normalize else None)[0], method)


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
        As `noise_ceiling`.

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
    if over not in rdms.coords or rdms[over].dims != ("rdm",):
        there = ", ".join(repr(str(name)) for name, coord in rdms.coords.items() if coord.dims == ("rdm",))
        raise ValueError(
            f"no coordinate {over!r} along 'rdm' to tell subjects apart; there are: {there}; add it: "
            f"rdms.assign_coords({over}=('rdm', [...]))"
        )
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


def ceiling_of(rdms: np.ndarray, scaled: np.ndarray, method: str, counts: np.ndarray | None = None) -> NoiseCeiling:
    """Noise ceiling of condensed RDMs (subjects, pairs), averaged as `scaled`, each subject counted `counts` times.

    All copies of a subject are left out together. NaN where fewer than two subjects are left.
    """
    counts = np.ones(len(rdms)) if counts is None else counts
    drawn = np.flatnonzero(counts)
    # of one subject there are no others to compare it with
    if len(drawn) < 2:
        return NoiseCeiling(np.nan, np.nan)
    measured = ~np.isnan(scaled)
    times = counts[:, None] * measured
    filled = np.where(measured, scaled, 0.0) * counts[:, None]
    total, number = filled.sum(axis=0), times.sum(axis=0)
    options = Options(method)
    found = np.zeros(2)
    with np.errstate(invalid="ignore"):  # 0/0: a pair that nobody measured stays NaN
        for subject in drawn:
            # all copies of a subject leave together: a copy among the others would be compared with itself
            others = (total - filled[subject]) / (number - times[subject])
            means = torch.from_numpy(np.stack((others, total / number)))
            found += counts[subject] * similarities(means, torch.from_numpy(rdms[[subject]]), options)[:, 0].numpy()
    lower, upper = found / counts.sum()
    return NoiseCeiling(float(lower), float(upper))
