"""The command line: one thin command per use."""

import argparse
import shlex
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import brainrdl
from brainrdl.experiments.digits import digits_study
from brainrdl.experiments.mnist import mnist_study
from brainrdl.experiments.recipe import override, spelled
from brainrdl.experiments.reproduce import replay, reproduce
from brainrdl.experiments.study import Request, Study

_DECIDED_BY_THE_FILE = (
    *("seeds", "epochs", "teacher_epochs", "arms", "teacher", "one_teacher", "limit_train", "limit_teacher"),
    *("labels", "tries", "alphas", "set"),
)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run ``brainrdl``; the exit status."""
    arguments = sys.argv[1:] if arguments is None else list(arguments)
    options = _parser().parse_args(arguments)
    study: Study = options.study()
    try:
        if options.replay is not None:
            source, row = _replayed(options)
            out = options.out or Path(tempfile.mkdtemp(prefix="brainrdl-replay-"))
            return 0 if replay(study, source, row, replace(_request(options), out=out)) else 1
        if options.out is None:
            raise ValueError("--out is needed: the folder in which everything is left")
        recipe = override(study.recipe, _settings(options))
        command = shlex.join(["brainrdl", *arguments])
        report = reproduce(study, _request(options), recipe, command=command)
    except KeyboardInterrupt:
        print("\nbrainrdl: stopped; the same command goes on from here", file=sys.stderr)
        return 130
    except (ValueError, OSError, FloatingPointError) as error:  # what a user can mend; anything else is our fault
        print("brainrdl:", " ".join(line.strip() for line in str(error).splitlines()), file=sys.stderr)
        return 2
    print(f"report: {report}")
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="brainrdl", description="Fit neural networks to brains, and to each other, by representational geometry."
    )
    parser.add_argument("--version", action="version", version=f"%(prog)s {brainrdl.__version__}")
    commands = parser.add_subparsers(dest="command", required=True)
    reproduce_parser = commands.add_parser("reproduce", help="run one of the reference studies")
    studies = reproduce_parser.add_subparsers(dest="which", required=True)
    for make, text in (
        (digits_study, "scikit-learn's digits: minutes, no download"),
        (mnist_study, "the paper's MNIST study"),
    ):
        study = make()
        one = studies.add_parser(study.name, help=text, description=text)
        one.set_defaults(study=make)
        _add_options(one, study)
    return parser


def _add_options(parser: argparse.ArgumentParser, study: Study) -> None:
    add = parser.add_argument
    add("--out", type=Path, metavar="DIR", help="where everything is left; a study found there is gone on with")
    add("--data-dir", type=Path, metavar="DIR", help="folder with the data (default: $BRAINRDL_DATA)")
    add("--download", action="store_true", help="fetch missing data files")
    add("--seeds", type=int, metavar="N", help="seeds 0 … N−1 (default: 3)")
    add("--epochs", type=int, metavar="E", help=f"of students (default: {study.recipe.epochs})")
    add("--teacher-epochs", type=int, metavar="E", help=f"of teachers (default: {study.recipe.teacher_epochs})")
    add("--arms", type=_names, default=(), metavar="A,B", help=f"of: {', '.join(arm.name for arm in study.arms)}")
    add(
        "--teacher",
        type=_names,
        default=(),
        metavar="K,L",
        help=f"kinds of teacher, of: paper, clean, labels (default: {','.join(study.teachers)})",
    )
    add("--one-teacher", action="store_true", help="the first seed's teacher serves all seeds")
    add("--limit-train", type=int, metavar="N", help="training images of the student (default: all)")
    add("--limit-teacher", type=int, metavar="N", help=f"of the teacher (default: {study.teacher_size})")
    add(
        "--labels",
        type=_whole_numbers,
        default=(),
        metavar="N,M",
        help="runs with only N of the training images labelled, the teacher's terms on the rest",
    )
    add("--tries", type=int, metavar="N", help="settings tried per arm on validation (default: 4)")
    add("--alphas", type=_numbers, default=(), metavar="A,B", help="α₀ to try for rdl and rdl_corr")
    add(
        "--set",
        action="append",
        default=[],
        metavar="FIELD=VALUE",
        help=f"change a field of the recipe, which is: {' '.join(spelled(study.recipe))}",
    )
    add("--device", choices=("auto", "cpu", "cuda"), default="auto")
    add("--threads", type=int, metavar="N", help=f"CPU threads (default: {study.threads or 'all cores'})")
    add("--replay", metavar="RESULTS.JSON:ROW", help="repeat one row of a results.json as it was asked for")


def _request(options: argparse.Namespace) -> Request:
    tries = options.tries
    if options.alphas and tries not in (None, len(options.alphas)):
        raise ValueError(
            f"--alphas gives {len(options.alphas)} values and --tries {tries}: every arm gets as many tries, "
            "so give as many values"
        )
    if tries is None:
        tries = len(options.alphas) or 4
    for name in ("limit_train", "limit_teacher", "threads"):
        value = getattr(options, name)
        if value is not None and value < 1:
            raise ValueError(f"--{name.replace('_', '-')} must be at least 1, got {value}")
    return Request(
        out=options.out or Path(),
        data_dir=options.data_dir,
        seeds=3 if options.seeds is None else options.seeds,
        arms=options.arms,
        teachers=options.teacher,
        labels=options.labels,
        limit_train=options.limit_train,
        limit_teacher=options.limit_teacher,
        one_teacher=options.one_teacher,
        tries=tries,
        alphas=options.alphas,
        device=options.device,
        threads=options.threads,
        download=options.download,
    )


def _replayed(options: argparse.Namespace) -> tuple[Path, str]:
    """The file and the row of ``--replay``; ValueError for options beside it that the file decides on."""
    source, _, row = options.replay.rpartition(":")
    if not source:
        raise ValueError(f"--replay takes results.json:ROW, got {options.replay!r}")
    given = {name for name, value in vars(options).items() if value not in (None, (), []) and value is not False}
    ignored = [f"--{name.replace('_', '-')}" for name in _DECIDED_BY_THE_FILE if name in given]
    if ignored:
        raise ValueError(f"--replay repeats a row as {source} says; leave out {', '.join(ignored)}")
    return Path(source), row


def _settings(options: argparse.Namespace) -> list[str]:
    named = {"epochs": options.epochs, "teacher_epochs": options.teacher_epochs}
    return [*options.set, *(f"{field}={value}" for field, value in named.items() if value is not None)]


def _names(text: str) -> tuple[str, ...]:
    names = tuple(part.strip() for part in text.split(","))
    if not all(names):
        raise argparse.ArgumentTypeError(f"a list like A,B is expected, got {text!r}")
    return names


def _whole_numbers(text: str) -> tuple[int, ...]:
    try:
        return tuple(int(part) for part in _names(text))
    except ValueError:
        raise argparse.ArgumentTypeError(f"whole numbers like 100,300 are expected, got {text!r}") from None


def _numbers(text: str) -> tuple[float, ...]:
    try:
        return tuple(float(part) for part in _names(text))
    except ValueError:
        raise argparse.ArgumentTypeError(f"numbers like 0.3,1 are expected, got {text!r}") from None
