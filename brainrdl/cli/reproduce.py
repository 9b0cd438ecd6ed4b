"""``brainrdl reproduce``: run one of the reference studies, or repeat a row of one."""

import argparse
import shlex
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from brainrdl.cli._again import Rests
from brainrdl.cli._parsing import names, numbers, whole_numbers
from brainrdl.known import PRECISIONS
from brainrdl.studies.paper.outlines import CIFAR100, DIGITS, MNIST, Outline, check_arm, check_teacher
from brainrdl.studies.paper.recipe import format_overrides, override

if TYPE_CHECKING:
    from brainrdl.studies.paper.study import Request, Study

_DECIDED_BY_THE_FILE = (
    *("seeds", "epochs", "teacher_epochs", "arms", "teacher", "one_teacher", "limit_train", "limit_teacher"),
    *("labels", "tries", "alphas", "set", "train_size", "test_limit", "precision", "unscored", "jobs"),
)

_OUTLINES = {outline.name: outline for outline in (DIGITS, MNIST, CIFAR100)}


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the command's options."""
    studies = parser.add_subparsers(dest="which", required=True)
    for outline in _OUTLINES.values():
        chosen = studies.add_parser(outline.name, help=outline.about, description=outline.about, allow_abbrev=False)
        chosen.set_defaults(run=_run, rests=_rests, labels=(), teacher=(), train_size=None, resumable=True)
        _add_options(chosen, outline)


def _run(options: argparse.Namespace, arguments: Sequence[str]) -> int:
    if options.replay is not None:
        source, row = _replayed(options)
        from brainrdl.studies.paper.replay import replay

        out = options.out or Path(tempfile.mkdtemp(prefix="brainrdl-replay-"))
        return 0 if replay(_study(options.which), source, row, replace(_request(options), out=out)) else 1
    if options.out is None:
        raise ValueError("--out is needed: the output folder")
    outline = _OUTLINES[options.which]
    named = {"epochs": options.epochs, "teacher_epochs": options.teacher_epochs}
    changes = [*options.set, *(f"{field}={value}" for field, value in named.items() if value is not None)]
    recipe = override(outline.recipe, changes)
    for kind in options.teacher:
        check_teacher(kind, outline.kinds, outline.name)
    for arm in options.arms:
        check_arm(arm, outline.arms, outline.name)
    # imported here, as by _study: trainer, reports and figures, of which neither --help nor a typo needs anything
    from brainrdl.progress import log
    from brainrdl.studies.paper.reproduce import reproduce

    study = _study(options.which)
    report = reproduce(study, _request(options), recipe, command=shlex.join(["brainrdl", *arguments]), log=log)
    if report is not None:
        from brainrdl.studies.reports.plain import paper_results

        print(f"{paper_results(report.parent)}\n\nreport: {report}")
    return 0


def _rests(options: argparse.Namespace) -> Rests | None:
    unfinished = options.out is None or options.unscored or options.replay is not None
    return None if unfinished else Rests(options.out)


def _study(name: str) -> "Study":
    # imported here: data, networks and terms, of which --help needs nothing
    from brainrdl.studies.paper.cifar100 import cifar100_study
    from brainrdl.studies.paper.digits import digits_study
    from brainrdl.studies.paper.mnist import mnist_study

    return {DIGITS.name: digits_study, MNIST.name: mnist_study, CIFAR100.name: cifar100_study}[name]()


def _add_options(parser: argparse.ArgumentParser, study: Outline) -> None:
    add = parser.add_argument
    text = "output folder (required); an existing study in it is resumed"
    add("-o", "--out", type=Path, metavar="DIR", help=text)
    add("--data-dir", type=Path, metavar="DIR", help="folder with the data (default: $BRAINRDL_DATA)")
    text = "fetch missing data files" if study.downloads else argparse.SUPPRESS  # accepted where there are none
    add("--download", action="store_true", help=text)
    add("--seeds", type=int, metavar="N", help="seeds 0 … N−1 (default: 3)")
    add("--epochs", type=int, metavar="E", help=f"epochs of students (default: {study.recipe.epochs})")
    add("--teacher-epochs", type=int, metavar="E", help=f"epochs of teachers (default: {study.recipe.teacher_epochs})")
    add("--arms", type=names, default=(), metavar="A,B", help=f"of: {', '.join(study.arms)}")
    if len(study.kinds) > 1:
        text = f"kinds of teacher, of: {', '.join(study.kinds)} (default: {','.join(study.teachers)})"
        add("--teacher", type=names, default=(), metavar="K,L", help=text)
    add("--one-teacher", action="store_true", help="use the first seed's teacher for all seeds")
    add("--limit-train", type=int, metavar="N", help="training images of the student (default: all)")
    add("--limit-teacher", type=int, metavar="N", help=f"images of the teacher (default: {study.teacher_size})")
    if study.train_sizes:
        add(
            "--train-size",
            type=int,
            choices=study.train_sizes,
            help=f"size of the whole training set, before it is limited (default: {study.train_sizes[0]}, with the "
            "validation images, once hyperparameters are selected)",
        )
    if study.few_labels:
        add(
            "--labels",
            type=whole_numbers,
            default=(),
            metavar="N,M",
            help="runs with only N of the training images labelled, the teacher's terms on the rest; hyperparameters "
            "are selected at 1,000 labels, or at N if there are too few images",
        )
    add("--test-limit", type=int, metavar="N", help="score only the first N test images (default: all)")
    add("--tries", type=int, metavar="N", help="settings per method, compared on validation images (default: 4)")
    add("--alphas", type=numbers, default=(), metavar="A,B", help="candidates of α₀ for rdl and rdl_corr")
    text = f"change a field of the recipe, by default: {' '.join(format_overrides(study.recipe))}"
    add("--set", action="append", default=[], metavar="FIELD=VALUE", help=text)
    add("--device", choices=("auto", "cpu", "cuda"), default="auto")
    text = f"auto: bf16 if the processor supports it (default: {study.precision})"
    add("--precision", choices=PRECISIONS, help=text)
    default = study.threads or "one, or all cores shared by --jobs if measured to be free"
    text = f"CPU threads of a process (default: {default})"
    add("--threads", type=int, metavar="N", help=text)
    add("--jobs", type=int, metavar="N", help="number of parallel processes, on a GPU too (default: 1)")
    text = "checkpoint within an epoch too, after N updates or minutes (500, 10min; default: each epoch)"
    add("--checkpoint-every", metavar="N|Nmin", help=text)
    text = "train, but do not open the test set until a later call without this option"
    add("--unscored", action="store_true", help=text)
    add("--replay", metavar="RESULTS.JSON:ROW", help="repeat one row of a results.json with its recorded settings")


def _request(options: argparse.Namespace) -> "Request":
    from brainrdl.studies.paper.study import Request

    tries = options.tries
    if options.alphas and tries not in (None, len(options.alphas)):
        raise ValueError(
            f"--alphas gives {len(options.alphas)} values and --tries {tries}: every arm gets as many tries, "
            "so give as many values"
        )
    if tries is None:
        tries = len(options.alphas) or 4
    for name in ("limit_train", "limit_teacher", "test_limit", "threads"):
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
        train_size=options.train_size,
        test_limit=options.test_limit,
        one_teacher=options.one_teacher,
        tries=tries,
        alphas=options.alphas,
        device=options.device,
        precision=options.precision,
        threads=options.threads,
        jobs=1 if options.jobs is None else options.jobs,
        checkpoint_every=options.checkpoint_every,
        download=options.download,
        unscored=options.unscored,
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
