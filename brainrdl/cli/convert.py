"""``brainrdl convert``: a file of RDMs, from one format to another."""

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from brainrdl.arguments import name_some
from brainrdl.cli._parsing import add_threads, add_what_a_file_lacks, given_words
from brainrdl.exchange.listed import read_ids
from brainrdl.files.present import check_rdms_file
from brainrdl.warned import warnings_given, with_warnings

if TYPE_CHECKING:
    import xarray as xr


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
    text = "only the RDMs with this value of a coordinate, such as roi=IT; may be repeated"
    add("--select", action="append", default=[], metavar="NAME=VALUE", help=text)
    add("--keep", metavar="FILE", help="only the stimuli in this text file, one id per line, in its order")
    add_threads(parser)
    add_what_a_file_lacks(parser)


def _run(options: argparse.Namespace, arguments: Sequence[str]) -> int:
    if options.target.exists() and not options.force:
        raise ValueError(f"{options.target} exists; name another file, or replace it with --force")
    check_rdms_file(options.source)
    # imported here: every format, of which --help needs nothing
    from brainrdl.exchange.description import describe_as_text
    from brainrdl.exchange.files import read_given, write_rdms

    with warnings_given() as given:
        rdms = read_given(options.source, given_words(options))
    rdms = _chosen(with_warnings(rdms, given), options)
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


def _chosen(rdms: "xr.DataArray", options: argparse.Namespace) -> "xr.DataArray":
    """The RDMs and stimuli that --select and --keep leave."""
    along = [str(name) for name, coord in rdms.coords.items() if coord.dims == ("rdm",)]
    for text in options.select:
        name, separator, value = text.partition("=")
        if not separator or name not in along:
            known = ", ".join(along)
            raise ValueError(f"--select takes NAME=VALUE with one of {known}, the RDMs' coordinates; got {text!r}")
        values = [str(entry) for entry in rdms[name].values.tolist()]
        if value not in values:
            there = name_some(list(dict.fromkeys(values)))
            raise ValueError(f"--select {text}: no RDM of {options.source} has that value; there are {there}")
        rdms = rdms.isel(rdm=[place for place, entry in enumerate(values) if entry == value])
    from brainrdl.rdms.labelled import select_stimuli  # and with it arrays, of which --help needs nothing

    if options.keep is None:
        return rdms
    if not Path(options.keep).is_file():
        raise FileNotFoundError(f"there is no file {options.keep}; --keep names a text file with one id a line")
    ids = read_ids(options.keep)
    return rdms if ids is None or isinstance(ids, str) else select_stimuli(rdms, ids)
