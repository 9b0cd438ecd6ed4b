"""Settings by which RDMs are made of a BIDS data set."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal, final, get_args

from brainrdl.arguments import name_some
from brainrdl.files.budget import allowed_bytes
from brainrdl.fmri.confounds import DEFAULT, STRATEGIES
from brainrdl.fmri.design import GLM
from brainrdl.fmri.masks import Inside
from brainrdl.fmri.noise import Method
from brainrdl.ids import check_ids

Metric = Literal["crossnobis", "correlation", "euclidean", "mahalanobis"]
Noise = Method | None


@final
@dataclass(frozen=True)
class Settings:
    """Settings by which RDMs are made of a BIDS data set; the defaults are what the literature advises.

    Attributes
    ----------
    derivatives, space, res
        Choice among images, as in `find_runs`.
    glm : GLM
        Model of each run.
    confounds : tuple of str
        Strategies, by the names of fMRIPrep's columns: ``motion`` (with derivatives and squares, where there are),
        ``high_pass`` (cosines, which else the drift model makes), ``wm_csf``, ``global_signal``, ``compcor`` (of white
        matter and CSF combined); ``non_steady_state_outlier*`` are always added. A run without what is asked for is an
        error; only of the default it is a warning if no run has a table, or a table names neither, and then every
        column is taken. Empty: none.
    confound_columns : tuple of str, optional
        Columns to take in place of strategies, ``*`` for any letters.
    metric : {"crossnobis", "correlation", "euclidean", "mahalanobis"}
        Distance between patterns.
    noise : {"shrinkage_diag", "shrinkage_eye", "diag", "full"} or None
        Method of noise normalisation.
    per_run : bool
        One precision per run instead of one of the pooled residuals.
    sessions : {"apart", "pooled"}
        Units of an RDM: each session has its own, or runs of all sessions are folds of one.
    stimuli : tuple of str, optional
        Trial types in the RDM; the others stay in the design. All by default.
    resample : bool
        Bring masks of another grid onto the images'.
    label : mapping of str to int
        Label of a region whose mask is an atlas, by the region's name.
    threshold : mapping of str to float
        Value above which a voxel is in a region whose mask is a map of probabilities, by the region's name.
    allow_missing : bool
        True makes pairs NaN that no two runs share, as in `crossnobis`.
    max_bytes : int, optional
        Bytes that one image may take by its header; a quarter of memory by default.

    Examples
    --------
    >>> Settings(noise="diag").glm.hrf_model
    'spm'
    """

    derivatives: str | None = "derivatives"
    space: str | None = None
    res: str | None = None
    glm: GLM = field(default_factory=GLM)
    confounds: tuple[str, ...] = DEFAULT
    confound_columns: tuple[str, ...] | None = None
    metric: Metric = "crossnobis"
    noise: Noise = "shrinkage_diag"
    per_run: bool = False
    sessions: Literal["apart", "pooled"] = "apart"
    stimuli: tuple[str, ...] | None = None
    resample: bool = False
    allow_missing: bool = False
    label: Mapping[str, int] = field(default_factory=dict)
    threshold: Mapping[str, float] = field(default_factory=dict)
    max_bytes: int | None = None

    def __post_init__(self) -> None:
        if self.metric not in get_args(Metric):
            raise ValueError(f"unknown metric {self.metric!r}; known are {', '.join(get_args(Metric))}")
        if self.noise is not None and self.noise not in get_args(Method):
            raise ValueError(f"unknown noise {self.noise!r}; known are {', '.join(get_args(Method))} and None")
        if self.sessions not in ("apart", "pooled"):
            raise ValueError(f"unknown sessions {self.sessions!r}; known are apart, pooled")
        check_ids(self.confounds, "confounds")
        if self.confound_columns is not None:
            if not check_ids(self.confound_columns, "confound_columns"):
                raise ValueError("confound_columns is empty; name at least one, or none with confounds=()")
            if tuple(self.confounds) != DEFAULT:
                raise ValueError("confounds and confound_columns contradict each other; give one of them")
        if self.stimuli is not None and len(check_ids(self.stimuli, "stimuli")) < 2:
            raise ValueError(f"stimuli names {name_some(self.stimuli) or 'none'}; an RDM needs at least 2")
        unknown = set(self.confounds) - set(STRATEGIES)
        if unknown:
            raise ValueError(f"unknown confounds {name_some(sorted(unknown))}; known are {', '.join(STRATEGIES)}")
        if self.per_run and self.metric != "crossnobis":
            raise ValueError(f"a precision per run is for crossnobis; {self.metric} averages the runs' patterns first")
        if self.max_bytes is not None:
            allowed_bytes(self.max_bytes)
        both = [region for region in self.label if region in self.threshold]
        if both:
            raise ValueError(f"label and threshold both name the region {both[0]!r}; give one of them")

    def inside(self, region: str) -> Inside:
        """Which values of a region's mask are inside."""
        return Inside(self.label.get(region), self.threshold.get(region))

    def check_regions(self, regions: Mapping[str, object]) -> None:
        """Raise a ValueError if `label` or `threshold` names a region that is not asked for."""
        for name, given in (("label", self.label), ("threshold", self.threshold)):
            unknown = [region for region in given if region not in regions]
            if unknown:
                raise ValueError(f"{name} names the region {unknown[0]!r}; there are {name_some(list(regions))}")
