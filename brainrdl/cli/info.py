"""``brainrdl info``: a file of RDMs in words."""

import argparse
from collections.abc import Sequence
from pathlib import Path

from brainrdl.cli._parsing import SUBJECTS
from brainrdl.exchange.listed import read_subjects
from brainrdl.files.present import check_rdms_file


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the command's options."""
    parser.description = "Describe a file of RDMs, and what it lacks."
    parser.set_defaults(run=_run)
    parser.add_argument("source", type=Path, metavar="A")
    parser.add_argument("--metric", help="distance measure, if the file contains patterns")
    parser.add_argument("--variable", metavar="NAME", help="variable to describe, if the file contains several")
    parser.add_argument("--subjects", metavar="FILE|COUNT|FIELD", help=SUBJECTS)
    text = "largest memory for a file's content (default: a quarter of this machine's)"
    parser.add_argument("--max-bytes", type=int, metavar="N", help=text)


def _run(options: argparse.Namespace, arguments: Sequence[str]) -> int:
    check_rdms_file(options.source)
    from brainrdl.exchange.description import describe_as_text  # and with it xarray, of which --help needs nothing

    text = describe_as_text(
        options.source,
        metric=options.metric,
        variable=options.variable,
        subjects=read_subjects(options.subjects),
        max_bytes=options.max_bytes,
    )
    print(text)
    return 0
