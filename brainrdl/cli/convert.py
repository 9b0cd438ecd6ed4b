"""``brainrdl convert``: a file of RDMs, from one format to another."""

import argparse
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

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
    text = (
        "only the RDMs with this value of a coordinate or name, such as roi=IT or rdm=IT; roi!=IT: without it; several "
    )
    text += "values of a coordinate are taken together"
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
        rdms = read_given(options.source, replace(given_words(options), rows=partial(_rows, options.select)))
    rdms = _kept(with_warnings(rdms, given), options)
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


def _rows(select: Sequence[str], along: Mapping[str, Any]) -> list[int]:
    """The RDMs that --select leaves, of which `along` holds names and coordinates."""
    columns = {name: [str(value) for value in list(values)] for name, values in along.items()}
    chosen: dict[str, list[str]] = {}
    without: list[tuple[str, str]] = []
    for text in select:
        name, separator, value = text.partition("=")
        is_without = name.endswith("!")
        name = name.removesuffix("!")
        if not separator or name not in columns:
            raise ValueError(
                f"--select takes NAME=VALUE or NAME!=VALUE with one of {', '.join(columns)}, the RDMs' coordinates; "
                f"got {text!r}"
            )
        if value not in columns[name]:
            there = name_some(list(dict.fromkeys(columns[name])))
            raise ValueError(f"--select {text}: no RDM has that value; there are {there}")
        if is_without:
            without.append((name, value))
        else:
            chosen.setdefault(name, []).append(value)
    rows = [
        row
        for row in range(len(columns["rdm"]))
        if all(columns[name][row] in values for name, values in chosen.items())
        and all(columns[name][row] != value for name, value in without)
    ]
    if not rows:
        raise ValueError(f"--select {' --select '.join(select)} leaves no RDM; leave one of them out")
    return rows


def _kept(rdms: "xr.DataArray", options: argparse.Namespace) -> "xr.DataArray":
    """The stimuli that --keep leaves."""
    from brainrdl.rdms.labelled import select_stimuli  # and with it arrays, of which --help needs nothing

    if options.keep is None:
        return rdms
    if not Path(options.keep).is_file():
        raise FileNotFoundError(f"there is no file {options.keep}; --keep names a text file with one id a line")
    ids = read_ids(options.keep)
    return rdms if ids is None or isinstance(ids, str) else select_stimuli(rdms, ids)
