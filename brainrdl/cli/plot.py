"""``brainrdl plot``: a file of RDMs as a picture."""

import argparse
from collections.abc import Sequence
from pathlib import Path

from brainrdl.cli._parsing import FOLLOW_LINKS, add_threads, add_what_a_file_lacks, given_words
from brainrdl.files.present import check_rdms_file


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the command's options."""
    parser.description = "Plot a file of RDMs."
    parser.set_defaults(run=_run)
    add = parser.add_argument
    add("source", type=Path, metavar="A")
    add("-o", "--out", type=Path, required=True, metavar="FILE", help=".png, .pdf or .svg; replaced if it exists")
    text = "RDMs as matrices, MDS of the stimuli of each RDM, or MDS of the RDMs (default: rdms)"
    add("--kind", choices=("rdms", "mds", "rdm-mds"), default="rdms", help=text)
    add("--images", type=Path, metavar="DIR", help="folder of stimuli, shown as thumbnails")
    add("--follow-links", action="store_true", help=FOLLOW_LINKS)
    add("--scale", choices=("panel", "all"), default="panel", help="one colour scale per panel, or one for all")
    add("--rank", action="store_true", help="show percentiles of the distances")
    add_threads(parser)
    add_what_a_file_lacks(parser)


def _run(options: argparse.Namespace, arguments: Sequence[str]) -> int:
    check_rdms_file(options.source)
    # imported here: figures and images, of which --help needs nothing
    from brainrdl.exchange.files import read_given
    from brainrdl.plots.mds import save_plot
    from brainrdl.stimuli.stimulus_set import StimulusSet

    rdms = read_given(options.source, given_words(options))
    images = None
    if options.images is not None:
        images = StimulusSet.from_folder(options.images, follow_links=options.follow_links)
    save_plot(rdms, options.out, kind=options.kind, images=images, scale=options.scale, rank=options.rank)
    print(f"written: {options.out}")
    return 0
