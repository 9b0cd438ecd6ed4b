"""RDMs of a BIDS data set, subject by subject, into a file with a report beside it: ``brainrdl rdms fmri``."""

import json
import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np
import pandas as pd
import xarray as xr

from brainrdl.exchange.files import read_rdms, write_rdms
from brainrdl.files import atomic_path, to_json
from brainrdl.fmri.images import Image, checksums
from brainrdl.fmri.pipeline import (
    Settings,
    Unit,
    UnitResult,
    check_masks,
    joined,
    plan,
    process,
    region_voxels,
    subject_mask,
)
from brainrdl.studies.kept import kept
from brainrdl.studies.reports.fmri import write_report
from brainrdl.terminal import one_line
from brainrdl.warned import warnings_given, warnings_in, with_warnings


def make_rdms(
    bids_dir: str | Path,
    task: str,
    masks: Mapping[str, Image],
    out: str | Path,
    *,
    subjects: Sequence[str] | None = None,
    settings: Settings | None = None,
    log: Callable[[str], None] = print,
) -> Path:
    """Write the RDMs of a BIDS data set into a netCDF file, and a report into the ``.html`` file beside it, its path.

    Each subject's part is left in ``<out without suffix>.parts/``: the same call resumes, and makes anew what is
    damaged or of other inputs or settings. Arguments and errors are those of `rdms_from_bids`.
    """
    out, settings = Path(out), settings or Settings()
    if out.suffix != ".nc":
        raise ValueError(f"the RDMs are written as netCDF, so {out} should end in .nc")
    check_masks(masks)
    with warnings_given() as given:
        units = plan(bids_dir, task, subjects=subjects, settings=settings)
        rdms, results = _made(units, masks, settings, out.with_suffix(".parts"), log)
    # those of a part that was done before are in its provenance
    rdms = with_warnings(rdms, [text for text in given if text not in warnings_in(rdms)])
    write_rdms(rdms, out)
    report = write_report(rdms, results, out.with_suffix(".html"))
    log(f"RDMs: {out}\nreport: {report}")
    return report


def _made(
    units: Sequence[Unit], masks: Mapping[str, Image], settings: Settings, parts: Path, log: Callable[[str], None]
) -> tuple[xr.DataArray, dict[str, UnitResult]]:
    """Make all units' RDMs, after a look at every mask; joined, and what is known of each."""
    # every mask against every image before hours of work: one that does not fit would show with the last subject
    for unit in units:
        for name, mask in masks.items():
            region_voxels(name, subject_mask(mask, unit.subject), unit.runs[0].image, settings)
    results = {}
    for number, unit in enumerate(units, start=1):
        results[unit.label] = _part(unit, masks, settings, parts, f"[{number}/{len(units)}] {unit.label}", log)
    return joined([result.rdms for result in results.values()]), results


def describe(
    bids_dir: str | Path,
    task: str,
    masks: Mapping[str, Image],
    *,
    subjects: Sequence[str] | None = None,
    settings: Settings | None = None,
) -> str:
    """Describe what `make_rdms` would work on, after checking masks against images: a line per subject, run and region.

    Errors are those of `rdms_from_bids`, as far as names, sidecars and masks show them.
    """
    settings = settings or Settings()
    check_masks(masks)
    lines = []
    for unit in plan(bids_dir, task, subjects=subjects, settings=settings):
        lines.append(f"{unit.label}: {len(unit.runs)} runs")
        for run in unit.runs:
            confounds = run.confounds.name if run.confounds else "none"
            lines.append(
                f"  {run.label}: {run.image.name}, TR {run.t_r:g} s, events {run.events.name}, confounds {confounds}"
            )
        for name, mask in masks.items():
            voxels = region_voxels(name, subject_mask(mask, unit.subject), unit.runs[0].image, settings)
            lines.append(f"  region {name}: {len(voxels)} voxels")
    return "\n".join(map(one_line, lines))


def _part(
    unit: Unit, masks: Mapping[str, Image], settings: Settings, parts: Path, name: str, log: Callable[[str], None]
) -> UnitResult:
    """Make a subject's RDMs, or read them where they were made from the same files with the same settings."""
    fingerprint = _fingerprint(unit, masks, settings)
    made: list[str] = []

    def make() -> UnitResult:
        made.append(name)
        log(f"{name}: {len(unit.runs)} runs")
        return process(unit, masks, settings, log)

    result = kept(
        parts / f"{unit.label.replace('/', '_')}.npz",
        make,
        write=lambda result, path: _write_part(result, path, fingerprint),
        read=lambda path: _read_part(path, fingerprint, log),
    )
    if not made:
        log(f"{name}: done before")
    return result


def _fingerprint(unit: Unit, masks: Mapping[str, Image], settings: Settings) -> str:
    # of what is in the files, not of their dates: a copy of a data set is resumed where the first was
    files: list[Any] = [subject_mask(mask, unit.subject) for mask in masks.values()]
    for run in unit.runs:
        files += [path for path in (run.image, run.events, run.confounds, run.brain_mask) if path]
    facts = {"settings": asdict(settings), "regions": list(masks), "t_r": [run.t_r for run in unit.runs]}
    # regions and TRs too: they come from the call and from sidecars, which are no part of the images
    return to_json({**facts, "files": checksums(files, unit.runs[0].root)})


def _write_part(result: UnitResult, path: Path, fingerprint: str) -> None:
    """Write a part: RDMs into a netCDF file, the rest into the ``.npz`` file beside it, `path`."""
    write_rdms(result.rdms, path.with_suffix(".nc"))
    # written last: a part with these is complete
    arrays: dict[str, Any] = {f"tsnr_{k}": values for k, values in enumerate(result.tsnr.values())}
    arrays["fingerprint"] = fingerprint
    arrays["design"] = result.design.to_numpy()
    arrays["regressors"] = np.array(result.design.columns.tolist(), dtype=str)
    arrays["regions"] = json.dumps(list(result.tsnr))
    with atomic_path(path) as temporary, temporary.open("wb") as file:
        np.savez(file, **arrays)


def _read_part(path: Path, fingerprint: str, log: Callable[[str], None]) -> UnitResult | None:
    rdms = path.with_suffix(".nc")
    if not rdms.is_file():
        return None
    try:
        with path.open("rb") as file, np.load(file) as part:
            if str(part["fingerprint"]) != fingerprint:
                return None
            design = pd.DataFrame(part["design"], columns=part["regressors"].tolist())
            regions = json.loads(str(part["regions"]))
            tsnr = {region: part[f"tsnr_{k}"] for k, region in enumerate(regions)}
    except (OSError, EOFError, ValueError, TypeError, KeyError, BadZipFile, zlib.error):
        log(f"{path} is damaged; its part is made again")
        return None
    try:
        return UnitResult(read_rdms(rdms), design, tsnr)
    except (TypeError, ValueError):
        log(f"{rdms} is damaged; its part is made again")
        return None
