"""The command line: one thin command per use, each in a module of its own."""

import argparse
import os
import sys
from collections.abc import Sequence

import brainrdl
from brainrdl.cli import card, compare, exchange, fit, plot, rdms, reproduce


def main(arguments: Sequence[str] | None = None) -> int:
    """Run ``brainrdl``; the exit status."""
    arguments = sys.argv[1:] if arguments is None else list(arguments)
    options = _parser().parse_args(arguments)
    try:
        status = int(options.run(options, arguments))
        sys.stdout.flush()  # here, where a reader that has gone away is no fault
        return status
    except BrokenPipeError:  # the reader has seen enough, as head does
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except KeyboardInterrupt:
        print(
            "\nbrainrdl: stopped" + ("; the same command goes on from here" if _goes_on(options) else ""),
            file=sys.stderr,
        )
        return 130
    except (ValueError, OSError, FloatingPointError) as error:  # what a user can mend; anything else is our fault
        print("brainrdl:", " ".join(line.strip() for line in str(error).splitlines()), file=sys.stderr)
        return 2


def _goes_on(options: argparse.Namespace) -> bool:
    """Whether a command leaves what it goes on from, and was not asked for something else."""
    otherwise = any(getattr(options, name, None) for name in ("replay", "init", "check", "dry_run"))
    return getattr(options, "goes_on", False) and not otherwise


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="brainrdl", description="Fit neural networks to brains, and to each other, by representational geometry."
    )
    parser.add_argument("--version", action="version", version=f"%(prog)s {brainrdl.__version__}")
    commands = parser.add_subparsers(dest="command", required=True)
    for command in (reproduce, fit, card, rdms, compare, exchange, plot):
        command.add(commands)
    return parser
