"""The designs of a BIDS data set's runs, and what is kept of how they came about."""

import warnings
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import pandas as pd

from brainrdl.files.store import versions
from brainrdl.fmri.bids import Run
from brainrdl.fmri.confounds import DEFAULT, choose_columns, choose_confounds
from brainrdl.fmri.design import drift_model
from brainrdl.fmri.events import read_confounds, read_events, read_table
from brainrdl.fmri.glm import RunDesign, check_designs
from brainrdl.fmri.images import Image, check_t_r, checksums, n_scans_of
from brainrdl.fmri.settings import Settings
from brainrdl.rdms.patterns import Array


def designs_of(runs: Sequence[Run], images: Sequence[Image], settings: Settings) -> tuple[list[RunDesign], list[str]]:
    """Make the runs' designs; and warnings of what may not be meant."""
    said = _check_confounds(runs, settings)
    # recorded, as every warning is kept with what it is about
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        designs = [_run_design(run, image, settings) for run, image in zip(runs, images, strict=True)]
    said += [str(warning.message) for warning in caught]
    if settings.glm.slice_time_ref is None:
        said += dict.fromkeys(run.slice_time.warning for run in runs if run.slice_time.warning)
    return designs, [*said, *check_designs(designs, [run.label for run in runs])]


def provenance(runs: Sequence[Run], designs: Sequence[RunDesign], dof: Array, settings: Settings) -> dict[str, Any]:
    """What RDMs of these runs are made of."""
    return {
        "made_by": "brainrdl.fmri.rdms_from_bids",
        "settings": asdict(settings),
        "inputs": checksums(files_of(runs), runs[0].root),
        "runs": [
            {
                "run": run.label,
                "scans": design.n_scans,
                "t_r": design.t_r,
                "slice_time_ref": design.slice_time_ref,
                "slice_time_from": _moment(run, settings)[1],
                "dof": int(degrees),
                "trial_types": list(dict.fromkeys(design.events["trial_type"])),
                "skipped_events": design.events.attrs["skipped"],
                "confounds": [] if design.confounds is None else list(design.confounds.columns),
                "drift_model": drift_model(settings.glm, design.confounds),
            }
            for run, design, degrees in zip(runs, designs, dof, strict=True)
        ],
        "versions": versions(("brainrdl", "nilearn", "nibabel", "numpy", "scipy", "torch")),
    }


def files_of(runs: Sequence[Run]) -> list[Any]:
    """The files that RDMs of runs are made of, but for sidecars, whose statements are settings."""
    return [path for run in runs for path in (run.image, run.events, run.confounds, run.brain_mask) if path]


def _moment(run: Run, settings: Settings) -> tuple[float, str]:
    asked = settings.glm.slice_time_ref
    return (
        (run.slice_time.reference, run.slice_time.source)
        if asked is None
        else (asked, "slice_time_ref of the settings")
    )


def _check_confounds(runs: Sequence[Run], settings: Settings) -> list[str]:
    """Raise a FileNotFoundError where a run has no table of confounds that were asked for, or that other runs have.

    A data set without any is warned of where none were named.
    """
    if not settings.confounds and settings.confound_columns is None:
        return []
    lacking = [run for run in runs if run.confounds is None]
    asked = tuple(settings.confounds) != DEFAULT or settings.confound_columns is not None
    if not lacking:
        return []
    if not asked and len(lacking) == len(runs):
        return [
            "no run has a table of confounds (desc-confounds_timeseries.tsv) beside its image, so that "
            f"{' and '.join(DEFAULT)} are not taken out; confounds=() says that this is meant"
        ]
    others = "" if asked else ", and other runs have one"
    raise FileNotFoundError(
        f"{lacking[0].image} has no table of confounds beside it (desc-confounds_timeseries.tsv){others}; get it, or "
        "take none with confounds=()"
    )


def _run_design(run: Run, image: Image, settings: Settings) -> RunDesign:
    n_scans = n_scans_of(image)
    t_r = check_t_r(run.t_r, image, "its sidecar")
    events = read_events(run.events, n_scans=n_scans, t_r=t_r, skip_empty=settings.glm.skip_empty_events)
    confounds = None
    if run.confounds is not None and (settings.confounds or settings.confound_columns):
        name = str(run.confounds)
        table = read_table(run.confounds, name)
        if settings.confound_columns is None:
            table = choose_confounds(table, settings.confounds, name)
            _check_high_pass(table, settings, name)
        else:
            table = choose_columns(table, settings.confound_columns, name)
        # what is not taken may hold anything
        confounds = read_confounds(table, n_scans=n_scans, name=name)
    return RunDesign(events, confounds, n_scans, t_r, _moment(run, settings)[0])


def _check_high_pass(table: pd.DataFrame, settings: Settings, name: str) -> None:
    """Raise a ValueError where a high-pass filter was asked for, and neither table nor drift model has one."""
    asked = tuple(settings.confounds) != DEFAULT and "high_pass" in settings.confounds
    if asked and settings.glm.drift_model is None and not any(str(column).startswith("cosine") for column in table):
        raise ValueError(
            f"{name} was asked for the confounds 'high_pass', and has no cosines; leave high_pass out of confounds, or "
            "have the GLM make them (drift_model='cosine')"
        )
