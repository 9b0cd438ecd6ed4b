"""``brainrdl convert``: a file of RDMs, from one format to another."""

import argparse
from collections.abc import Sequence
from pathlib import Path

from brainrdl.cli._parsing import add_what_a_file_lacks, read_ids, read_stimuli
from brainrdl.files.present import check_rdms_file
from brainrdl.warned import warnings_given, with_warnings


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the command's options."""
    parser.description = "Convert a file of RDMs to the format named by the new file's suffix."
    parser.set_defaults(run=_run)
    add = parser.add_argument
    add("source", type=Path, metavar="A")
    add("target", type=Path, metavar="B", help="new file: .nc, .h5 (rsatoolbox), .npz, .mat, …")
    text = "omit standard errors, which only netCDF can store"
    add("--drop-standard-errors", action="store_true", help=text)
    add("--force", action="store_true", help="replace an existing B (default: an error), once the new file is complete")
    add_what_a_file_lacks(parser)


def _run(options: argparse.Namespace, arguments: Sequence[str]) -> int:
    if options.target.exists() and not options.force:
        raise ValueError(f"{options.target} exists; name another file, or replace it with --force")
    check_rdms_file(options.source)
    # imported here: every format, of which --help needs nothing
    from brainrdl.exchange.description import describe_as_text
    from brainrdl.exchange.files import read_rdms, write_rdms

    with warnings_given() as given:
        rdms = read_rdms(
            options.source,
            stimuli=read_stimuli(options),
            metric=options.metric,
            names=read_ids(options.names),
            order=options.order,
            variable=options.variable,
            max_bytes=options.max_bytes,
        )
    rdms = with_warnings(rdms, given)
    if options.drop_standard_errors:
        rdms = rdms.drop_vars("standard_error", errors="ignore")
    elif "standard_error" in rdms.coords and options.target.suffix != ".nc":
        raise ValueError(
            f"{options.source} has standard errors, and {options.target.suffix} files have no place for them; convert "
            "to .nc, or leave them out with --drop-standard-errors"
        )
    write_rdms(rdms, options.target)
    print(describe_as_text(options.target))
    return 0
