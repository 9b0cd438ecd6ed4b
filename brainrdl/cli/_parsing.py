"""Values of options that the commands share."""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from brainrdl.exchange.listed import read_ids, read_subjects
from brainrdl.known import METRICS

if TYPE_CHECKING:
    from brainrdl.exchange.parts import Given

REPLACED = "an existing file of RDMs is replaced"
"""Help of an option whose file `check_replaced` has checked."""

FOLLOW_LINKS = "follow links that lead out of the folder of images"
"""Help of ``--follow-links``."""


def names(text: str) -> tuple[str, ...]:
    """Split a list like A,B."""
    parts = tuple(part.strip() for part in text.split(","))
    if not all(parts):
        raise argparse.ArgumentTypeError(f"a list like A,B is expected, got {text!r}")
    return parts


def whole_numbers(text: str) -> tuple[int, ...]:
    """Split a list like 100,300."""
    try:
        return tuple(int(part) for part in names(text))
    except ValueError:
        raise argparse.ArgumentTypeError(f"whole numbers like 100,300 are expected, got {text!r}") from None


def numbers(text: str) -> tuple[float, ...]:
    """Split a list like 0.3,1."""
    try:
        return tuple(float(part) for part in names(text))
    except ValueError:
        raise argparse.ArgumentTypeError(f"numbers like 0.3,1 are expected, got {text!r}") from None


def add_threads(parser: argparse.ArgumentParser) -> None:
    """Add ``--threads``, which `brainrdl.cli.main` applies."""
    text = "CPU threads (default: one for small work, else all cores if they are measured to be free)"
    parser.add_argument("--threads", type=int, metavar="N", help=text)


SUBJECTS = "whose the RDMs are: a text file with a name a line, how many people there are (S1, S2, …), or a coordinate"
"""Help of ``--subjects``."""


def add_what_a_file_lacks(parser: argparse.ArgumentParser) -> None:
    """Add the options that say what a file of RDMs does not."""
    group = parser.add_argument_group("what a file does not say", "what is missing is asked for, never guessed")
    text = "stimulus ids: a text file with one per line, or the name of the field that contains them"
    group.add_argument("--stimuli", metavar="FILE|FIELD", help=text)
    text = "confirm the order of the file named by --stimuli, although it is alphabetical (img1, img10, img2)"
    group.add_argument("--as-listed", action="store_true", help=text)
    group.add_argument("--names", metavar="FILE|FIELD", help="names of the RDMs, given likewise")
    group.add_argument("--subjects", metavar="FILE|COUNT|FIELD", help=SUBJECTS)
    group.add_argument("--metric", help=f"distance measure, such as {', '.join(METRICS)}, crossnobis or undeclared")
    group.add_argument(
        "--order",
        choices=("row-major", "column-major"),
        help="order of the pairs in a vector: row-major as SciPy and MATLAB's squareform do, column-major as MATLAB's "
        "rdm(triu(true(n), 1))",
    )
    text = "variable of a .mat, .npz, .h5 or .nc file that contains the RDMs, plain arrays too (n × n, several, pairs)"
    group.add_argument("--variable", metavar="NAME", help=text)
    text = "largest memory for a file's content (default: a quarter of this machine's)"
    parser.add_argument("--max-bytes", type=int, metavar="N", help=text)


def check_replaced(path: Path) -> None:
    """Raise a ValueError where no file of RDMs can be at `path`, or would replace something else than such a file."""
    # imported here: arrays and every format, of which --help needs nothing
    from brainrdl.exchange.files import read_rdms
    from brainrdl.files.store import check_place

    check_place(path)
    if path.exists():
        try:
            read_rdms(path)
        except (TypeError, ValueError) as error:
            raise ValueError(
                f"{path} exists and is not a file of labelled RDMs that could be made again, so it is not replaced; "
                "name another file, or remove it first"
            ) from error


def given_words(options: argparse.Namespace) -> "Given":
    """Put what the options of `add_what_a_file_lacks` say into one piece."""
    from brainrdl.exchange.parts import Given  # and with it arrays, of which --help needs nothing

    return Given(
        stimuli=read_stimuli(options),
        metric=options.metric,
        names=read_ids(options.names),
        order=options.order,
        variable=options.variable,
        max_bytes=options.max_bytes,
        subjects=read_subjects(options.subjects),
    )


def read_stimuli(options: argparse.Namespace) -> list[str] | dict[int, str] | str | None:
    """Read the ids that --stimuli names: by row where --as-listed says that they are in the RDMs' order."""
    given = read_ids(options.stimuli)
    return dict(enumerate(given)) if options.as_listed and isinstance(given, list) else given
