"""``brainrdl compare``: model RDMs against measured ones."""

import argparse
from collections.abc import Sequence
from pathlib import Path

from brainrdl.cli._parsing import add_what_a_file_lacks, names, read_ids
from brainrdl.comparisons import METHODS
from brainrdl.exchange import read_rdms
from brainrdl.exchange.files import check_place
from brainrdl.model_comparison import compare_models


def add(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the command."""
    text = "score model RDMs against measured ones, with noise ceilings, intervals and corrected tests"
    parser = commands.add_parser("compare", help=text, description=text, allow_abbrev=False)
    parser.set_defaults(run=_run)
    parser.add_argument("models", nargs="+", type=Path, metavar="A", help="files of model RDMs")
    parser.add_argument(
        "data", type=Path, metavar="B", help="the measured RDMs, of one or several subjects and regions"
    )
    parser.add_argument("--method", default="corr", choices=METHODS, help="the comparison (default: corr)")
    parser.add_argument(
        "--over",
        default="auto",
        choices=("auto", "stimuli", "subjects", "both"),
        help="what is resampled (default: both with 8 subjects or more, else stimuli)",
    )
    parser.add_argument(
        "--contrast",
        type=names,
        action="append",
        metavar="X,Y",
        help="two models to test against each other; all pairs if none is named",
    )
    parser.add_argument("--resamples", type=int, default=1000, metavar="N", help="of the bootstrap (default: 1000)")
    parser.add_argument("--seed", type=int, default=0, metavar="S")
    parser.add_argument(
        "-o", "--out", type=Path, metavar="DIR", help="scores.csv, contrasts.csv and scores.png go here"
    )
    add_what_a_file_lacks(parser)


def _run(options: argparse.Namespace, arguments: Sequence[str]) -> int:
    contrasts = options.contrast
    if contrasts is not None and (odd := [pair for pair in contrasts if len(pair) != 2]):
        raise ValueError(f"--contrast takes two models as X,Y, got {','.join(odd[0])!r}")
    if options.out is not None:
        check_place(options.out, folder=True)
    ids, order = read_ids(options.stimuli), options.order
    models = [read_rdms(path, stimuli=ids, metric=options.metric, order=order) for path in options.models]
    data = read_rdms(options.data, stimuli=ids, metric=options.metric, names=read_ids(options.names), order=order)
    result = compare_models(
        models,
        data,
        options.method,
        over=options.over,
        contrasts=contrasts,
        n_resamples=options.resamples,
        seed=options.seed,
    )
    print(result)
    if options.out is not None:
        for path in result.write(options.out):
            print(f"written: {path}")
    return 0
