"""RDMs of a BIDS data set, subject by subject, into a file with a report beside it: ``brainrdl rdms fmri``."""

import json
import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from datetime import date
from pathlib import Path
from typing import Any, SupportsIndex
from zipfile import BadZipFile

import numpy as np
import pandas as pd
import xarray as xr

from brainrdl.exchange.files import read_rdms, write_rdms
from brainrdl.exchange.npz import load_arrays
from brainrdl.files.present import check_netcdf_name
from brainrdl.files.store import atomic_path, file_sha256, sha256, to_json
from brainrdl.fmri.images import Image, content_sha256
from brainrdl.fmri.pipeline import (
    Unit,
    UnitResult,
    check_masks,
    joined,
    plan,
    process,
    region_voxels,
    subject_mask,
)
from brainrdl.fmri.run_designs import files_of
from brainrdl.fmri.settings import Settings
from brainrdl.progress import log as say_above, track
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
    subjects: Sequence[str | SupportsIndex] | None = None,
    settings: Settings | None = None,
    log: Callable[[str], None] = say_above,
    command: str = "",
) -> Path:
    """Write the RDMs of a BIDS data set into a netCDF file, and a report into the ``.html`` file beside it, its path.

    Each subject's part is left in ``<out without suffix>.parts/``: the same call resumes, and makes anew what is
    damaged, by its checksum, or of other inputs or settings. Arguments and errors are those of `rdms_from_bids`;
    `command` is what the report names as the command.
    """
    out, settings = Path(out), settings or Settings()
    check_netcdf_name(out)
    check_masks(masks, settings)
    with warnings_given() as given:
        units = plan(bids_dir, task, subjects=subjects, settings=settings)
        rdms, results = _made(units, masks, settings, out.with_suffix(".parts"), log)
    # those of a part that was done before are in its provenance
    rdms = with_warnings(rdms, [text for text in given if text not in warnings_in(rdms)])
    write_rdms(rdms, out)
    report = write_report(rdms, results, out.with_suffix(".html"), about=about(bids_dir, task, command))
    log(f"RDMs: {out}\nreport: {report}")
    return report


def about(bids_dir: str | Path, task: str, command: str = "", *, day: str = "") -> dict[str, str]:
    """Words of a report for the data set, the task, the command and the date: `day`, or today."""
    root = Path(bids_dir).resolve()
    words = {"data set": root.name}
    try:
        name = json.loads((root / "dataset_description.json").read_text(encoding="utf-8"))["Name"]
        words["data set"] = f"{name} ({root.name})"
    except (OSError, ValueError, KeyError, TypeError):  # it need not be there, and nothing else is read of it
        pass
    words |= {"task": task, "date": day or date.today().isoformat()}
    return words | ({"command": command} if command else {})


def _made(
    units: Sequence[Unit], masks: Mapping[str, Image], settings: Settings, parts: Path, log: Callable[[str], None]
) -> tuple[xr.DataArray, dict[str, UnitResult]]:
    """Make all units' RDMs, after a look at every mask; joined, and what is known of each."""
    # every mask against every image before hours of work: one that does not fit would show with the last subject
    for unit in units:
        for name, mask in masks.items():
            region_voxels(name, subject_mask(mask, unit.subject), unit.runs[0].image, settings)
    results = {}
    for number, unit in enumerate(track(units, "RDMs of subjects", total=len(units)), start=1):
        results[unit.label] = _part(unit, masks, settings, parts, f"[{number}/{len(units)}] {unit.label}", log)
    return joined([result.rdms for result in results.values()]), results


def describe(
    bids_dir: str | Path,
    task: str,
    masks: Mapping[str, Image],
    *,
    subjects: Sequence[str | SupportsIndex] | None = None,
    settings: Settings | None = None,
) -> str:
    """Describe what `make_rdms` would work on, after checking masks against images: a line per subject, run and region.

    Errors are those of `rdms_from_bids`, as far as names, sidecars and masks show them.
    """
    settings = settings or Settings()
    check_masks(masks, settings)
    lines = []
    for unit in plan(bids_dir, task, subjects=subjects, settings=settings):
        lines.append(f"{unit.label}: {len(unit.runs)} runs")
        for run in unit.runs:
            confounds = run.confounds.name if run.confounds else "none"
            moment = run.slice_time
            asked = settings.glm.slice_time_ref
            shown = (moment.reference, moment.source) if asked is None else (asked, "asked for")
            # 0 is what is taken where nothing says otherwise
            at = f", slices at {shown[0]:.3g} of the scan ({shown[1]})" if shown[0] or moment.warning else ""
            tables = f"events {run.events.name}, confounds {confounds}"
            lines.append(f"  {run.label}: {run.image.name}, TR {run.t_r:g} s, {tables}{at}")
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
    files = files_of(unit.runs)
    # which components of a table are of which tissue stands beside it
    beside = [run.confounds.with_suffix(".json") for run in unit.runs if run.confounds]
    root = unit.runs[0].root.resolve()
    names = [path.resolve().relative_to(root) if path.resolve().is_relative_to(root) else path.name for path in files]
    facts = {
        "settings": asdict(settings),
        "regions": {name: content_sha256(subject_mask(mask, unit.subject)) for name, mask in masks.items()},
        # these come from sidecars, which are no part of the images
        "t_r": [run.t_r for run in unit.runs],
        "slice_time_ref": [run.slice_time.reference for run in unit.runs],
        "files": [[str(name), file_sha256(path)] for name, path in zip(names, files, strict=True)],
        "beside": [file_sha256(path) for path in beside if path.is_file()],
    }
    return to_json(facts)


def _write_part(result: UnitResult, path: Path, fingerprint: str) -> None:
    """Write a part: RDMs into a netCDF file, the rest into the ``.npz`` file beside it, `path`."""
    rdms = path.with_suffix(".nc")
    rdms.unlink(missing_ok=True)  # it may be damaged, and what is no file of RDMs is not replaced
    write_rdms(result.rdms, rdms)
    # written last: a part with these is complete
    arrays: dict[str, Any] = {f"tsnr_{k}": values for k, values in enumerate(result.tsnr.values())}
    arrays["design"] = result.design.to_numpy()
    arrays["regressors"] = np.array(result.design.columns.tolist(), dtype=str)
    texts = {"fingerprint": fingerprint, "regions": json.dumps(list(result.tsnr)), "rdms": file_sha256(rdms)}
    arrays |= {name: np.array(text) for name, text in texts.items()}
    arrays["checksum"] = np.array(_checksum(arrays))
    with atomic_path(path) as temporary, temporary.open("wb") as file:
        np.savez(file, **arrays)


def _checksum(arrays: Mapping[str, Any]) -> str:
    held = [(name, arrays[name]) for name in sorted(arrays) if name != "checksum"]
    return sha256(*(f"{name} {array.shape} {array.dtype.str}".encode() + array.tobytes() for name, array in held))


def _read_part(path: Path, fingerprint: str, log: Callable[[str], None]) -> UnitResult | None:
    rdms = path.with_suffix(".nc")
    if not rdms.is_file():
        return None
    try:
        arrays = load_arrays(path)
        # a part of an earlier version has no checksum, and other settings
        if "checksum" not in arrays or str(arrays["fingerprint"]) != fingerprint:
            return None
        if str(arrays["checksum"]) != _checksum(arrays):
            raise ValueError("its checksum is of other content")
        design = pd.DataFrame(arrays["design"], columns=arrays["regressors"].tolist())
        regions = json.loads(str(arrays["regions"]))
        tsnr = {region: arrays[f"tsnr_{k}"] for k, region in enumerate(regions)}
    except (OSError, EOFError, ValueError, TypeError, KeyError, BadZipFile, zlib.error, RecursionError):
        log(f"{path} is damaged; its part is made again")
        return None
    try:
        if file_sha256(rdms) != str(arrays["rdms"]):
            raise ValueError("its checksum is of other content")
        return UnitResult(read_rdms(rdms), design, tsnr)
    except (TypeError, ValueError):
        log(f"{rdms} is damaged; its part is made again")
        return None
