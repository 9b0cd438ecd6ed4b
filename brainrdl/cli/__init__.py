"""The command line: one thin command per use, each in a module of its own."""

import argparse
import os
import re
import sys
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from difflib import get_close_matches
from importlib import import_module
from typing import Any, NoReturn, TextIO, cast

import brainrdl
from brainrdl.cli._again import run
from brainrdl.cli._stopping import Terminated, terminable
from brainrdl.cli._terminal import Printable, above_bars, wipe_bars
from brainrdl.cli._threads import check_threads
from brainrdl.cli._words import in_the_shells_words
from brainrdl.terminal import printable, say

# a command's module has its name, and is imported only when the command is chosen: --help and a typo answer at once
_COMMANDS = {
    "reproduce": "run a reference study: a replication of the paper",
    "fit": "fit a network to measured RDMs, and score it and its controls on held-out stimuli",
    "card": "model card: a network's layers compared with measured RDMs, with controls and readouts fitted to the RDMs",
    "rdms": "compute RDMs of a network's layers, or of brain regions from fMRI",
    "compare": "compare model RDMs with measured RDMs: noise ceilings, confidence intervals, corrected tests",
    "convert": "convert a file of RDMs to another format, by the new file's suffix",
    "info": "describe a file of RDMs, and what it lacks",
    "plot": "plot a file of RDMs",
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run ``brainrdl``; the exit status."""
    out, progress = cast(TextIO, Printable(sys.stdout)), cast(TextIO, Printable(sys.stderr, progress=True))
    with redirect_stdout(out), redirect_stderr(progress):
        return _main(arguments)


def _main(arguments: Sequence[str] | None) -> int:
    arguments = sys.argv[1:] if arguments is None else list(arguments)
    if not arguments or arguments[0] not in _COMMANDS:
        _answer_without_command(arguments)
    parser = _Parser(prog=f"brainrdl {arguments[0]}", allow_abbrev=False)
    import_module(f"brainrdl.cli.{arguments[0]}").add_options(parser)
    options = parser.parse_args(arguments[1:])

    def told(message: object) -> str:
        known = _options(parser)
        return name_options(in_the_shells_words(_joined(message), arguments[0], known), known)

    try:
        with terminable(), _warnings_in_words(told):
            check_threads(options)
            status = run(options, arguments)
        sys.stdout.flush()  # here, where a reader that has gone away is no fault
        return status
    except BrokenPipeError:  # the reader has seen enough, as head does
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except KeyboardInterrupt as stop:
        wipe_bars()
        way_on = "; the same command resumes from here" if _is_resumable(options) else ""
        say(f"\nbrainrdl: stopped{way_on}", error=True)
        return stop.status if isinstance(stop, Terminated) else 130
    except (ValueError, OSError, FloatingPointError) as error:  # what a user can mend; anything else is our fault
        wipe_bars()
        say(f"brainrdl: {told(error)}", error=True)
        return 2


class _Parser(argparse.ArgumentParser):
    """A parser whose errors can be printed: an argument may be the name of a stranger's file (``brainrdl info *``)."""

    def error(self, message: str) -> NoReturn:
        unknown, _, rest = message.partition("unrecognized arguments: ")
        if not unknown and rest.startswith("--"):
            flags = [flag[2:] for action in _options(self).values() for flag in action.option_strings]
            near = get_close_matches(rest.split()[0].partition("=")[0][2:], flags, n=1)
            message += f"; did you mean '--{near[0]}'?" if near else ""
        super().error(printable(message))

    def _check_value(self, action: argparse.Action, value: object) -> None:
        try:
            super()._check_value(action, value)
        except argparse.ArgumentError as error:
            from brainrdl.arguments import did_you_mean

            error.message += did_you_mean(str(value), list(map(str, action.choices or ())))
            raise


@contextmanager
def _warnings_in_words(told: Callable[[object], str]) -> Iterator[None]:
    """Print warnings as errors are printed, in the words that `told` makes of them, without a place in the code."""

    def in_words(message: Warning | str, *_: object, **__: object) -> str:
        return printable(f"brainrdl: warning: {told(message)}") + "\n"

    with warnings.catch_warnings():
        show = warnings.showwarning

        def show_in_words(*args: Any, **kwargs: Any) -> None:
            # here, since libraries put a format of their own in place when they are imported; and by way of the
            # function that was there, since somebody may record warnings
            before = warnings.formatwarning
            warnings.formatwarning = in_words
            try:
                with above_bars():
                    show(*args, **kwargs)
            finally:
                warnings.formatwarning = before

        warnings.showwarning = show_in_words
        yield


def _joined(message: object) -> str:
    return " ".join(line.strip() for line in str(message).splitlines())


def name_options(message: str, options: Mapping[str, argparse.Action]) -> str:
    """Write a library's message, which names arguments, as one of a command's options.

    ``threads must …`` → ``--threads must …`` where a message begins so; ``over='stimuli'`` → ``--over stimuli``.
    """
    known = "|".join(map(re.escape, sorted(options, key=len, reverse=True)))

    def as_option(found: re.Match[str]) -> str:
        option = options[found["name"]]
        flag = option.option_strings[-1]
        return flag if option.nargs == 0 or not found["value"] else f"{flag} {found['value']}"

    # not within a word, a path or an option; a value that is no word (``stimuli=[...]``) stays Python's
    value = r"(?:True\b|'(?P<value>[\w./-]+)'|(?=[\s,;:.)]|$))"
    message = re.sub(rf"(?<![\w./-])(?P<name>{known})={value}", as_option, message)
    return re.sub(rf"^(?P<name>{known})(?P<value>)(?= )", as_option, message)


def _options(parser: argparse.ArgumentParser) -> dict[str, argparse.Action]:
    """The options of a command and of the commands below it, by the argument that each becomes."""
    options = {action.dest: action for action in parser._actions if action.option_strings}
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for below in action.choices.values():
                options |= _options(below)
    return options


def _is_resumable(options: argparse.Namespace) -> bool:
    """True where a command leaves what it resumes from, and was not asked for something else."""
    otherwise = any(getattr(options, name, None) for name in ("replay", "init", "check", "dry_run"))
    return getattr(options, "resumable", False) and not otherwise


def _answer_without_command(arguments: Sequence[str]) -> NoReturn:
    """End with the help, the version, or a message: what `arguments` begin with is no command."""
    parser = _Parser(
        prog="brainrdl", description="Fit neural networks to brains, and to each other, by representational geometry."
    )
    parser.add_argument("--version", action="version", version=f"%(prog)s {brainrdl.__version__}")
    commands = parser.add_subparsers(dest="command", required=True)
    for name, text in _COMMANDS.items():
        commands.add_parser(name, help=text)
    if arguments and not arguments[0].startswith("-"):
        from brainrdl.arguments import did_you_mean

        near = did_you_mean(arguments[0], _COMMANDS)
        parser.error(f"there is no command {arguments[0]!r}; known are {', '.join(_COMMANDS)}{near}")
    parser.parse_args([argument for argument in arguments if argument != "--"])
    parser.error("the command comes first, as in brainrdl info FILE")  # behind --, or an option that begins no command
