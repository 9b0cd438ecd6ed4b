"""``brainrdl rdms``: RDMs of a network's layers, or of brain regions."""

import argparse
import shlex
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeVar

from brainrdl.cli._again import Rests
from brainrdl.cli._parsing import FOLLOW_LINKS, REPLACED, add_threads, check_replaced, names
from brainrdl.files.present import check_image_folder, check_mask_file, check_netcdf_name, check_scans_folder
from brainrdl.known import METRICS

_MIB = 2**20
Value = TypeVar("Value", str, int, float)


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the command's options."""
    sources = parser.add_subparsers(dest="source", required=True)
    _add_network(sources)
    _add_fmri(sources)


def _add_network(sources: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    text = "RDMs of a network's layers for a folder of images"
    parser = sources.add_parser("network", help=text, description=text, allow_abbrev=False)
    parser.set_defaults(run=_network, rests=_network_rests)
    add = parser.add_argument
    add("--model", required=True, metavar="NAME", help="torchvision:NAME, or package.module:factory for your own")
    add("--weights", metavar="FILE|NAME", help="a state_dict or safetensors file, or the name of torchvision weights")
    add("--layers", type=names, metavar="A,B", help="named modules (see --list-layers)")
    add("--list-layers", action="store_true", help="list names and shapes of all layers, and stop")
    text = "folder of images (an image's id is its path without the suffix), or objects92"
    add("--stimuli", metavar="DIR|objects92", help=text)
    add("--data-dir", type=Path, metavar="DIR", help="folder with the data of objects92 (default: $BRAINRDL_DATA)")
    add("--follow-links", action="store_true", help=FOLLOW_LINKS)
    add("--metric", default="mse", choices=METRICS, help="distance measure (default: mse)")
    add("--max-memory", type=int, default=1024, metavar="MIB", help="beyond the network's own (default: 1024)")
    add("--device", help="cpu, cuda, cuda:1, … (default: the network's)")
    add_threads(parser)
    add("-o", "--out", type=Path, metavar="FILE", help=f".nc, .h5 (rsatoolbox), .npz, .mat, .csv, …; {REPLACED}")


def _network_rests(options: argparse.Namespace) -> Rests | None:
    return None if options.list_layers or options.out is None else Rests(options.out, is_file=True)


def _network(options: argparse.Namespace, arguments: Sequence[str]) -> int:
    _check_network_options(options)
    # imported here: torchvision and the formats, of which --help needs nothing
    from brainrdl.cli._network import list_named_layers, network_rdms
    from brainrdl.exchange.files import write_rdms

    if options.list_layers:
        shown = list_named_layers(
            options.model,
            options.stimuli,
            options.weights,
            data_dir=options.data_dir,
            follow_links=options.follow_links,
        )
        print(shown)
        return 0
    check_replaced(options.out)
    rdms = network_rdms(
        options.model,
        options.stimuli,
        options.layers,
        options.metric,
        weights=options.weights,
        device=options.device,
        max_memory=options.max_memory * _MIB,
        data_dir=options.data_dir,
        follow_links=options.follow_links,
    )
    write_rdms(rdms, options.out)
    print(f"written: {options.out}")
    if options.weights is None:
        print("no --weights were given: random weights (torchvision), or those that your factory sets", file=sys.stderr)
    return 0


def _check_network_options(options: argparse.Namespace) -> None:
    """Refuse what can be refused before anything is loaded."""
    if not options.list_layers:
        if missing := [f"--{name}" for name in ("layers", "stimuli", "out") if getattr(options, name) is None]:
            is_needed = "is needed" if len(missing) == 1 else "are needed"
            raise ValueError(f"{', '.join(missing)} {is_needed}, unless --list-layers is asked for")
        if options.max_memory < 1:
            raise ValueError(f"--max-memory must be at least 1 MiB, got {options.max_memory}")
    if options.stimuli not in (None, "objects92"):
        check_image_folder(options.stimuli)


def _add_fmri(sources: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    text = "cross-validated RDMs of ROIs, from a BIDS data set"
    parser = sources.add_parser("fmri", help=text, description=text, allow_abbrev=False)
    parser.set_defaults(run=_fmri, rests=_fmri_rests, resumable=True)
    add = parser.add_argument
    add("bids_dir", type=Path, metavar="BIDS_DIR")
    add("--task", required=True)
    add(
        "--roi",
        action="append",
        required=True,
        metavar="NAME=MASK",
        help="ROI and its mask image, once per ROI; the path is relative to the working directory, and {subject} in it "
        "is replaced by the subject",
    )
    text = "label of an ROI whose mask is an atlas, once per ROI"
    add("--label", action="append", default=[], metavar="NAME=N", help=text)
    text = "threshold of an ROI whose mask is a probability map: voxels above it are included, once per ROI"
    add("--threshold", action="append", default=[], metavar="NAME=X", help=text)
    add("--subjects", type=names, metavar="A,B", help="subject labels without sub- (default: all)")
    add("--derivatives", default="derivatives", metavar="DIR", help="in BIDS_DIR (default: derivatives)")
    add("--space", help="space of the preprocessed images, as in their names")
    add("--res", help="resolution of the preprocessed images, as in their names")
    text = "motion, high_pass, wm_csf, global_signal, compcor, by fMRIPrep's names (default: motion,high_pass)"
    add("--confounds", type=names, metavar="A,B", help=text)
    add("--confound-columns", type=names, metavar="A,B*", help="columns of the tables instead, * as a wildcard")
    add("--no-confounds", action="store_true", help="no confound regressors")
    add("--metric", default="crossnobis", choices=("crossnobis", "correlation", "euclidean", "mahalanobis"))
    add(
        "--noise",
        default="shrinkage_diag",
        choices=("shrinkage_diag", "shrinkage_eye", "diag", "full", "none"),
        help="noise normalisation (default: shrinkage_diag)",
    )
    add("--per-run", action="store_true", help="noise precision per run (default: from the residuals of all runs)")
    add("--hrf-model", default="spm", help="HRF model, as named by nilearn (default: spm)")
    add("--noise-model", default="ar1", help="temporal noise model: ar1, ar2, … or ols (default: ar1)")
    add("--trials", default="condition", choices=("condition", "lsa", "lss"), help="estimates (default: condition)")
    text = "slice-timing reference as a fraction of the TR, 0 to 1 (default: from the sidecars, else 0)"
    add("--slice-time-ref", type=float, metavar="X", help=text)
    add("--skip-empty-events", action="store_true", help="omit events with n/a, and count them")
    add("--sessions", default="apart", choices=("apart", "pooled"), help="an RDM per session, or one (default: apart)")
    add("--stimuli", type=names, metavar="A,B", help="trial types in the RDM (default: all)")
    add("--resample", action="store_true", help="resample masks to the grid of the images")
    add("--allow-missing", action="store_true", help="treat pairs of conditions that no two runs share as missing")
    text = "largest size of an image, by its header (default: a quarter of memory)"
    add("--max-bytes", type=int, metavar="N", help=text)
    add("--dry-run", action="store_true", help="print what was found, and stop")
    text = f"netCDF; the report is the .html beside it, intermediate results stay in FILE.parts; {REPLACED}"
    add_threads(parser)
    add("-o", "--out", type=Path, metavar="FILE.nc", help=text)


def _fmri_rests(options: argparse.Namespace) -> Rests | None:
    derivatives = str(options.bids_dir / options.derivatives)
    return None if options.dry_run or options.out is None else Rests(options.out, derivatives, is_file=True)


def _by_region(given: Sequence[str], option: str, form: str, kind: Callable[[str], Value]) -> dict[str, Value]:
    """Read an option that is given once per region, as NAME=VALUE."""
    found: dict[str, Value] = {}
    for text in given:
        name, separator, value = text.partition("=")
        if name in found:
            raise ValueError(f"{option} names the region {name!r} twice; give each region its own name")
        try:
            if not (name and separator and value):
                raise ValueError
            found[name] = kind(value)
        except ValueError:
            raise ValueError(f"{option} takes {form}, got {text!r}") from None
    return found


def _fmri(options: argparse.Namespace, arguments: Sequence[str]) -> int:
    masks = _by_region(options.roi, "--roi", "NAME=MASK, such as VT=vt.nii.gz", str)
    if options.no_confounds and options.confounds:
        raise ValueError("--confounds and --no-confounds contradict each other; leave one out")
    if options.out is None and not options.dry_run:
        raise ValueError("--out is needed, unless --dry-run is asked for")
    check_scans_folder(options.bids_dir)
    for region, mask in masks.items():
        check_mask_file(region, mask)
    if not options.dry_run:
        check_netcdf_name(options.out)
    # imported here: nilearn and nibabel, of which --help needs nothing
    from brainrdl.fmri.design import GLM
    from brainrdl.fmri.settings import Settings
    from brainrdl.studies.scans import describe, make_rdms

    settings = Settings(
        derivatives=options.derivatives,
        space=options.space,
        res=options.res,
        glm=GLM(
            hrf_model=options.hrf_model,
            noise_model=options.noise_model,
            trials=options.trials,
            slice_time_ref=options.slice_time_ref,
            skip_empty_events=options.skip_empty_events,
        ),
        confounds=() if options.no_confounds else options.confounds or Settings().confounds,
        confound_columns=options.confound_columns,
        metric=options.metric,
        noise=None if options.noise == "none" else options.noise,
        per_run=options.per_run,
        sessions=options.sessions,
        stimuli=options.stimuli,
        resample=options.resample,
        allow_missing=options.allow_missing,
        label=_by_region(options.label, "--label", "NAME=N, such as V1=17", int),
        threshold=_by_region(options.threshold, "--threshold", "NAME=X, such as GM=0.5", float),
        max_bytes=options.max_bytes,
    )
    if options.dry_run:
        print(describe(options.bids_dir, options.task, masks, subjects=options.subjects, settings=settings))
        return 0
    check_replaced(options.out)
    make_rdms(
        options.bids_dir,
        options.task,
        masks,
        options.out,
        subjects=options.subjects,
        settings=settings,
        command=shlex.join(["brainrdl", *arguments]),
    )
    return 0
