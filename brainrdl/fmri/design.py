"""The GLM's settings, and the design matrices they make of events and confounds."""

import re
import warnings
from dataclasses import dataclass
from typing import Literal, final, get_args

import numpy as np
import pandas as pd
from nilearn.glm.first_level import make_first_level_design_matrix
from numpy.typing import NDArray

from brainrdl.arguments import did_you_mean, name_some
from brainrdl.rdms.patterns import Array

Trials = Literal["condition", "lsa", "lss"]
HRF_MODELS = (
    "spm",
    "spm + derivative",
    "spm + derivative + dispersion",
    "glover",
    "glover + derivative",
    "glover + derivative + dispersion",
)
"""Response models with one amplitude per regressor (a finite impulse response has none)."""

_DEPENDENT = 1e-10  # of the largest singular value; nilearn lifts those of a singular design to 1e-15


@final
@dataclass(frozen=True)
class GLM:
    """Settings of the first-level model, in nilearn's words.

    Attributes
    ----------
    hrf_model : str
        Response to an event, one of `HRF_MODELS`; patterns are the amplitudes of its main regressor.
    drift_model : {"cosine", "polynomial"} or None
        Slow drifts. Where the confounds hold fMRIPrep's ``cosine`` regressors, these stand in for ``"cosine"``.
    high_pass : float
        Cut-off of the cosines, in Hz.
    noise_model : str
        ``ar1`` (or a higher order) or ``ols``.
    trials : {"condition", "lsa", "lss"}
        One regressor per trial type; or a pattern per event, of one model with a regressor each (least squares, all;
        Rissman et al. 2004), or of a model of its own each, with the other events of its type in a second regressor
        (least squares, separate; Mumford et al. 2012, as nilearn's example has it).
    slice_time_ref : float, optional
        Moment of the scan that its volumes show, to which the slices were corrected: 0 (start) to 1. None: what the
        sidecars of each image say (``StartTime``; of images that are not corrected, the mean ``SliceTiming``), 0 where
        they say nothing.
    skip_empty_events : bool
        True leaves out rows of events without onset, duration or trial type (``n/a``), which are an error otherwise.

    Examples
    --------
    >>> from brainrdl.fmri import GLM
    >>> GLM(hrf_model="glover").noise_model
    'ar1'
    """

    hrf_model: str = "spm"
    drift_model: Literal["cosine", "polynomial"] | None = "cosine"
    high_pass: float = 1 / 128
    noise_model: str = "ar1"
    trials: Trials = "condition"
    slice_time_ref: float | None = None
    skip_empty_events: bool = False

    def __post_init__(self) -> None:
        if self.hrf_model not in HRF_MODELS:
            raise ValueError(
                f"unknown hrf_model {self.hrf_model!r}; known are {', '.join(HRF_MODELS)}"
                f"{did_you_mean(str(self.hrf_model), HRF_MODELS)}"
            )
        if self.drift_model not in ("cosine", "polynomial", None):
            raise ValueError(f"unknown drift_model {self.drift_model!r}; known are cosine, polynomial, None")
        if self.noise_model != "ols" and not (self.noise_model[:2] == "ar" and self.noise_model[2:].isdecimal()):
            raise ValueError(f"unknown noise_model {self.noise_model!r}; known are ols, ar1, ar2, …")
        if self.trials not in get_args(Trials):
            raise ValueError(f"unknown trials {self.trials!r}; known are {', '.join(get_args(Trials))}")
        if not 0 < self.high_pass < 1:
            raise ValueError(f"high_pass is {self.high_pass}; expected a frequency in Hz, such as 1/128")
        if self.slice_time_ref is not None and not 0 <= self.slice_time_ref <= 1:
            raise ValueError(f"slice_time_ref is {self.slice_time_ref}; expected a share of the scan, 0 to 1")


def design_matrix(
    events: pd.DataFrame, n_scans: int, t_r: float, confounds: pd.DataFrame | None = None, glm: GLM | None = None
) -> pd.DataFrame:
    """Make a run's design (scans, regressors), a regressor per trial type, as nilearn's FirstLevelModel does.

    Times are in seconds. ValueError if a trial type or a confound (scans, confounds) bears another regressor's name.
    """
    glm = glm or GLM()
    clash = [] if confounds is None else sorted(set(confounds.columns) & set(events["trial_type"]))
    if clash:
        raise ValueError(f"{name_some(clash)} names both a trial type and a confound; rename one of them")
    of_confounds = [] if confounds is None else [str(column) for column in confounds]
    for kind, names in (("trial type", events["trial_type"].unique().tolist()), ("confound", of_confounds)):
        taken = [name for name in names if name == "constant" or re.fullmatch(r"drift_\d+", name)]
        if taken:
            raise ValueError(
                f"{kind} {name_some(taken)} bears the name of a regressor of every design (constant, drift_1, …); "
                "rename it"
            )
    start = (glm.slice_time_ref or 0.0) * t_r
    with warnings.catch_warnings():
        # `check_impulses` says where it matters, beside events that have a duration
        warnings.filterwarnings("ignore", message="The following conditions contain events with null duration")
        # confounds that repeat each other only cost rank; a stimulus that is lost is found by `check_estimable`
        warnings.filterwarnings("ignore", message="Matrix is singular")
        design: pd.DataFrame = make_first_level_design_matrix(
            np.linspace(start, start + (n_scans - 1) * t_r, n_scans),
            events,
            hrf_model=glm.hrf_model,
            drift_model=drift_model(glm, confounds),
            high_pass=glm.high_pass,
            add_regs=None if confounds is None else confounds.to_numpy(),
            add_reg_names=None if confounds is None else list(confounds.columns),
        )
    return design


def drift_model(glm: GLM, confounds: pd.DataFrame | None) -> str | None:
    """Return the drift model that is used: none beside confounds that hold the cosines already."""
    has_cosines = confounds is not None and any(str(column).startswith("cosine") for column in confounds)
    return None if has_cosines and glm.drift_model == "cosine" else glm.drift_model


def single_trials(events: pd.DataFrame) -> pd.DataFrame:
    """Give each event a trial type of its own: its type, `` #`` and its number among those of that type."""
    number = events.groupby("trial_type").cumcount() + 1
    return events.assign(trial_type=events["trial_type"] + " #" + number.astype(str).str.zfill(3))


def separate_designs(events: pd.DataFrame) -> list[tuple[str, pd.DataFrame]]:
    """Return, for each event, its own trial type and the events of least squares, separate."""
    singles = single_trials(events)["trial_type"]
    designs = []
    for row, name in enumerate(singles):
        types = events["trial_type"].where(np.arange(len(events)) != row, name)
        designs.append((name, events.assign(trial_type=types)))
    return designs


def rank(design: Array) -> int:
    """Rank of a design, its columns brought to one length first."""
    length = np.linalg.norm(design, axis=0)
    singular = np.linalg.svd(design[:, length > 0] / length[length > 0], compute_uv=False)
    return int((singular > _DEPENDENT * singular[0]).sum())


def check_estimable(design: pd.DataFrame, regressors: list[str], run: object) -> None:
    """Raise a ValueError that names regressors whose amplitude the design does not determine."""
    X = design.to_numpy()
    length = np.linalg.norm(X, axis=0)
    # nilearn's lifting of singular values leaves a trace of a regressor of zeros
    silent = [name for name in regressors if length[design.columns.get_loc(name)] <= _DEPENDENT * length.max()]
    if silent:
        raise ValueError(f"in run {run} no response to {name_some(silent)} falls on a scan; check the onsets")
    unit = X / np.where(length > 0, length, 1.0)
    # a regressor's amplitude is determined if its unit vector lies in the design's row space
    projection: NDArray[np.float64] = np.linalg.pinv(unit, _DEPENDENT) @ unit
    columns = design.columns.get_indexer(pd.Index(regressors))
    off = np.abs(projection[:, columns] - np.eye(len(unit.T))[:, columns]).max(axis=0)
    lost = [name for name, difference in zip(regressors, off, strict=True) if difference > 1e-6]
    if lost:
        raise ValueError(
            f"in run {run} the design does not tell {name_some(lost)} from its other regressors; events coincide, or a "
            "confound repeats them"
        )
