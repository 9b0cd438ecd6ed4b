"""``brainrdl compare``: model RDMs against measured ones."""

import argparse
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from brainrdl.cli._parsing import add_threads, add_what_a_file_lacks, given_words, names
from brainrdl.files.present import check_rdms_file
from brainrdl.known import METHODS
from brainrdl.warned import warnings_given, warnings_in

if TYPE_CHECKING:
    import xarray as xr

    from brainrdl.exchange.parts import Given

_ABOUT = (
    "Compare model RDMs with measured RDMs: noise ceilings, confidence intervals, corrected tests. --stimuli, --metric "
    "and --names apply only to the files that lack this information. In Python: "
    "brainrdl.inference.model_comparison.compare_models."
)
_COLUMNS = (
    "score: mean over subjects, sessions averaged first. low, high: 95 % t interval with the bootstrap SE. p_fdr: score"
    " above 0, one-sided, Benjamini-Hochberg over all rows. p_ceiling: score different from the noise ceiling's lower "
    "bound, two-sided, uncorrected. contrasts.csv: two-sided, Holm-corrected over all regions and pairs."
)


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the command's options."""
    parser.description, parser.epilog = _ABOUT, _COLUMNS
    parser.set_defaults(run=_run)
    add = parser.add_argument
    add("models", nargs="+", type=Path, metavar="A", help="files of model RDMs")
    add("data", type=Path, metavar="B", help="the measured RDMs, of one or several subjects and regions")
    add("--method", default="corr", choices=METHODS, help="comparison of RDMs (default: corr)")
    text = "what the bootstrap resamples (default: both with 8 subjects or more, else stimuli)"
    add("--over", default="auto", choices=("auto", "stimuli", "subjects", "both"), help=text)
    text = "two models to test against each other (default: all pairs)"
    add("--contrast", type=names, action="append", metavar="X,Y", help=text)
    add("--resamples", dest="n_resamples", type=int, default=1000, metavar="N", help="of the bootstrap (default: 1000)")
    add("--seed", type=int, default=0, metavar="S")
    add(
        "--shared",
        dest="join",  # the argument's name in Python, by which a message is shown as one of this option
        action="store_true",
        help="compare only the stimuli that all files share (default: an error if a file lacks any)",
    )
    text = (
        "a word for each file of models, put before the names of its RDMs (default: the network's name, if files share "
    )
    add("--prefix", type=names, metavar="P,Q", help=f"{text}names)")
    text = "output folder: scores.csv, contrasts.csv and scores.png, which replace those of an earlier run"
    add("-o", "--out", type=Path, metavar="DIR", help=text)
    add_threads(parser)
    add_what_a_file_lacks(parser)


def _run(options: argparse.Namespace, arguments: Sequence[str]) -> int:
    if options.out is not None:
        from brainrdl.files.store import check_place

        check_place(options.out, folder=True)
    for path in (*options.models, options.data):
        check_rdms_file(path)
    # imported here: the bootstrap and its figure, of which --help needs nothing
    from brainrdl.inference.model_comparison import compare_models
    from brainrdl.studies.reports.comparison import comparison_text, write_comparison

    contrasts = options.contrast
    if contrasts is not None and (odd := [pair for pair in contrasts if len(pair) != 2]):
        raise ValueError(f"--contrast takes two models as X,Y, got {','.join(odd[0])!r}")
    _check_prefix(options.prefix, options.models)
    variables = _variables([*options.models, options.data], options)
    with warnings_given() as given:
        *models, data = _read(variables, options)
        if options.join:
            models, data = _shared(models, data)
        named = models if options.prefix is None else dict(zip(options.prefix, models, strict=True))
        try:
            result = compare_models(
                named,
                data,
                options.method,
                over=options.over,
                contrasts=contrasts,
                n_resamples=options.n_resamples,
                seed=options.seed,
            )
        except ValueError as error:  # which counts the arrays that it was given
            files = [str(path) for path in options.models]
            raise ValueError(re.sub(r"rdms\[(\d+)\]", lambda found: files[int(found[1])], str(error))) from error
    # with those that were given when the files were made: into the caption, and what is printed
    warned = [*(text for part in (*models, data) for text in warnings_in(part)), *given]
    result = replace(result, notes=list(dict.fromkeys([*result.notes, *warned])))
    print(comparison_text(result))
    if options.out is not None:
        for path in write_comparison(result, options.out):
            print(f"written: {path}")
    return 0


def _shared(models: list["xr.DataArray"], data: "xr.DataArray") -> tuple[list["xr.DataArray"], "xr.DataArray"]:
    """The stimuli that all hold, in the order of the data; how many are left out is printed."""
    from brainrdl.rdms.labelled import select_stimuli

    held = [set(part["stimulus"].values.tolist()) for part in (*models, data)]
    ids = [stimulus for stimulus in data["stimulus"].values.tolist() if stimulus in set.intersection(*held)]
    if len(ids) < 3:
        raise ValueError(f"the files share {len(ids)} stimuli; a comparison needs at least 3")
    print(f"{len(ids)} stimuli are shared; {len(set.union(*held)) - len(ids)} that some file lacks are left out")
    return [select_stimuli(part, ids) for part in models], select_stimuli(data, ids)


def _variables(paths: list[Path], options: argparse.Namespace) -> dict[Path, str | None]:
    """The variable to read of each file: the one named, where the file has it. Some file must."""
    from brainrdl.exchange.description import describe
    from brainrdl.exchange.plain import UnknownVariableError

    if options.variable is None:
        return dict.fromkeys(paths)
    chosen: dict[Path, str | None] = {}
    lacking = None
    for path in paths:
        try:
            describe(
                path,
                metric=options.metric,
                order=options.order,
                variable=options.variable,
                max_bytes=options.max_bytes,
            )
            chosen[path] = options.variable
        except UnknownVariableError as error:
            chosen[path], lacking = None, lacking or error
    if lacking is not None and not any(chosen.values()):
        raise lacking
    return chosen


def _read(variables: Mapping[Path, str | None], options: argparse.Namespace) -> list["xr.DataArray"]:
    """Read models, then data; ValueError that names all that any of the files lacks."""
    from brainrdl.exchange.missing import MissingError

    words = given_words(options)
    read, lacking = [], []
    for path in (*options.models, options.data):
        try:
            of_file = replace(words, variable=variables[path])
            read.append(_read_file(path, of_file, of_people=path is options.data))
        except MissingError as error:
            lacking.append(str(error))
    if lacking:
        raise ValueError("; ".join(dict.fromkeys(lacking)))
    return read


def _read_file(path: Path, words: "Given", *, of_people: bool) -> "xr.DataArray":
    """Read a file, giving it only what it lacks: of several files, some may say what others do not."""
    from brainrdl.exchange.description import describe
    from brainrdl.exchange.files import read_given
    from brainrdl.exchange.missing import MissingError

    found = describe(path, metric=words.metric, order=words.order, variable=words.variable, max_bytes=words.max_bytes)
    # models are of nobody; and names and subjects are those of the measured RDMs
    lacked = replace(
        words,
        stimuli=words.stimuli if found["stimuli"] is None else None,
        metric=words.metric if found["metric"] in (None, words.metric) else None,
        names=words.names if of_people and found["names"] is None else None,
        subjects=words.subjects if of_people else None,
    )
    unnamed = (
        of_people and words.subjects is None and found["n_rdms"] > 1 and not {"subject", "roi"} & {*found["coords"]}
    )
    people = (
        f"names no subjects, of whom each has one of its {found['n_rdms']} RDMs; give subjects=, a text file of names "
        "or a number"
    )
    try:
        rdms = read_given(path, lacked)
    except MissingError as error:
        raise MissingError(f"{error}; and it {people}" if unnamed else str(error)) from error
    if unnamed:
        raise MissingError(f"{path}: {people}")
    return rdms


def _check_prefix(prefix: Sequence[str] | None, models: Sequence[Path]) -> None:
    if prefix is not None and len(prefix) != len(models):
        raise ValueError(f"--prefix gives {len(prefix)} words for {len(models)} files of models; give one for each")
    if prefix is not None and len(set(prefix)) < len(prefix):
        raise ValueError(f"--prefix gives {','.join(prefix)}, one word twice; give each file of models its own")
