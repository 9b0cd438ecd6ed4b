"""``brainrdl card``: a network's layers against measured RDMs, beside controls and cheap heads."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from brainrdl.cli._again import Rests
from brainrdl.cli._parsing import FOLLOW_LINKS, SUBJECTS, add_threads, names
from brainrdl.files.present import check_categories_file, check_image_folder, check_measured
from brainrdl.known import CARD_HEADS, HEADS, METRICS
from brainrdl.warned import warnings_given, warnings_in

_ABOUT = (
    "Compare each layer of a network, control RDMs and heads (readouts fitted to the brain) with measured RDMs, on "
    "held-out stimuli: raw, given the controls, and within categories, each with its noise ceiling. In Python: "
    "brainrdl.studies.card.make_card."
)


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the command's options."""
    parser.description = _ABOUT
    parser.set_defaults(run=_run, rests=lambda options: Rests(options.out))
    add = parser.add_argument
    add("model", metavar="MODEL", help="torchvision:NAME, or package.module:factory for your own")
    add("--stimuli", required=True, metavar="DIR|objects92", help="folder of images, or the 92 object images")
    add("--follow-links", action="store_true", help=FOLLOW_LINKS)
    add("--rdms", required=True, metavar="FILE|objects92:SET", help="measured RDMs, such as objects92:human")
    add("--layers", required=True, type=names, metavar="A,B", help="named modules of the network")
    _add_words(parser)
    add("--roi", metavar="NAME", help="region of interest, if the file contains several")
    text = "table with columns stimulus and category (default: the categories of objects92)"
    add("--categories", type=Path, metavar="FILE.csv", help=text)
    add("--controls", metavar="FILE|objects92:SET", help="control RDMs, partialled out (default: those of objects92)")
    add("--weights", metavar="FILE|NAME", help="a state_dict or safetensors file, or the name of torchvision weights")
    add("--data-dir", type=Path, metavar="DIR", help="folder with the data of objects92 (default: $BRAINRDL_DATA)")
    text = f"readouts fitted to the RDMs, of: {', '.join(HEADS)} (default: {','.join(CARD_HEADS)})"
    add("--heads", type=names, default=CARD_HEADS, metavar="A,B", help=text)
    add("--method", choices=("corr", "cosine"), default="corr", help="comparison of RDMs (default: corr)")
    add("--metric", choices=METRICS, default="correlation", help="distance of patterns (default: correlation)")
    add("--device", default="cpu", help="device of the network (default: cpu)")
    add("--seed", type=int, default=0, metavar="S", help="seed of folds and bootstrap (default: 0)")
    add("--resamples", dest="n_resamples", type=int, default=1000, metavar="N", help="of the bootstrap (default: 1000)")
    add_threads(parser)
    add("-o", "--out", type=Path, required=True, metavar="DIR", help="folder for scores.csv, card.png, card.html …")


def _add_words(parser: argparse.ArgumentParser) -> None:
    """Add what the file of measured RDMs may not say; --stimuli and --metric are those of the network."""
    add = parser.add_argument_group("what the file of measured RDMs does not say").add_argument
    add("--subjects", metavar="FILE|COUNT|FIELD", help=SUBJECTS)
    text = "stimulus ids: a text file with one per line, or the name of the field that contains them"
    add("--rdms-stimuli", metavar="FILE|FIELD", help=text)
    add("--rdms-metric", metavar="METRIC", help="distance measure, such as correlation, crossnobis or undeclared")
    add(
        "--order", choices=("row-major", "column-major"), help="order of pairs in vectors (see brainrdl convert --help)"
    )
    add("--variable", metavar="NAME", help="variable of a .mat, .npz, .h5 or .nc file that contains the RDMs")


def _run(options: argparse.Namespace, arguments: Sequence[str]) -> int:
    check_measured(options.rdms)
    if options.stimuli != "objects92":
        check_image_folder(options.stimuli)
    if options.categories is not None:
        check_categories_file(options.categories)
    # imported here: networks, images and figures, of which --help needs nothing
    from brainrdl.exchange.listed import read_ids, read_subjects
    from brainrdl.exchange.parts import Given
    from brainrdl.files.store import check_place
    from brainrdl.studies.card import CardOptions, make_card
    from brainrdl.studies.inputs import CardRequest, read_inputs
    from brainrdl.studies.reports.card import write_card

    check_place(options.out, folder=True)
    how = CardOptions(
        method=options.method,
        metric=options.metric,
        heads=options.heads,
        n_resamples=options.n_resamples,
        seed=options.seed,
    )
    given = Given(
        stimuli=read_ids(options.rdms_stimuli),
        metric=options.rdms_metric,
        order=options.order,
        variable=options.variable,
        subjects=read_subjects(options.subjects),
    )
    request = CardRequest(
        options.model,
        options.layers,
        options.stimuli,
        options.rdms,
        categories=options.categories,
        controls=options.controls,
        roi=options.roi,
        weights=options.weights,
        data_dir=options.data_dir,
        device=options.device,
        follow_links=options.follow_links,
        given=given,
    )
    with warnings_given() as warned:
        inputs = read_inputs(request)
        measured = inputs.features, inputs.ids, inputs.subjects
        card = make_card(*measured, categories=inputs.categories, controls=inputs.controls, options=how)
    notes = dict.fromkeys([*inputs.notes, *warnings_in(inputs.subjects), *warned])
    title = f"{options.model} against {Path(options.rdms).name}{f', {options.roi}' if options.roi else ''}"
    if inputs.weights:
        print(f"{inputs.weights}: {options.model}")
    print(card)
    for path in write_card(card, options.out, title=title, notes=tuple(notes), weights=inputs.weights):
        print(f"written: {path}")
    if options.weights is None:
        print("no --weights were given: random weights (torchvision), or those that your factory sets", file=sys.stderr)
    return 0
