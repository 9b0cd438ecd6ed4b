"""``brainrdl card``: a network's layers against measured RDMs, beside controls and cheap heads."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from brainrdl.cli._parsing import FOLLOW_LINKS, SUBJECTS, names
from brainrdl.known import CARD_HEADS, HEADS, METRICS
from brainrdl.warned import warnings_given, warnings_in

_ABOUT = (
    "Score each layer of a network, the control RDMs and two cheap heads against measured RDMs, on stimuli that nothing"
    " was fitted to: raw, given the controls, and within categories, each with its noise ceiling. In Python: "
    "brainrdl.studies.card.make_card."
)


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the command's options."""
    parser.description = _ABOUT
    parser.set_defaults(run=_run)
    add = parser.add_argument
    add("model", metavar="MODEL", help="torchvision:NAME, or package.module:factory for your own")
    add("--stimuli", required=True, metavar="DIR|objects92", help="folder of images, or the 92 object images")
    add("--follow-links", action="store_true", help=FOLLOW_LINKS)
    add("--rdms", required=True, metavar="FILE|objects92:SET", help="measured RDMs, such as objects92:human")
    add("--layers", required=True, type=names, metavar="A,B", help="named modules of the network")
    group = parser.add_argument_group("what the file of measured RDMs does not say")
    group.add_argument("--subjects", metavar="FILE|COUNT|FIELD", help=SUBJECTS)
    group.add_argument(
        "--rdms-stimuli", metavar="FILE|FIELD", help="the stimulus ids: a text file with one a line, or a field"
    )
    group.add_argument(
        "--rdms-metric", metavar="METRIC", help="of the distances, such as correlation, crossnobis or undeclared"
    )
    group.add_argument(
        "--order", choices=("row-major", "column-major"), help="how a vector lists the pairs, see convert"
    )
    group.add_argument("--variable", metavar="NAME", help="which variable of a .mat, .npz, .h5 or .nc file holds them")
    add("--roi", metavar="NAME", help="which region, where the RDMs are of several")
    text = "columns stimulus and category; those of objects92 are known"
    add("--categories", type=Path, metavar="FILE.csv", help=text)
    add("--controls", metavar="FILE|objects92:SET", help="RDMs to hold constant; objects92 has its own by default")
    add("--weights", metavar="FILE|NAME", help="a state_dict or safetensors file, or a name of torchvision's weights")
    add("--data-dir", type=Path, metavar="DIR", help="where objects92 is (default: $BRAINRDL_DATA)")
    text = f"of {', '.join(HEADS)} (default: {','.join(CARD_HEADS)})"
    add("--heads", type=names, default=CARD_HEADS, metavar="A,B", help=text)
    add("--method", choices=("corr", "cosine"), default="corr", help="the comparison (default: corr)")
    add("--metric", choices=METRICS, default="correlation", help="between a layer's patterns (default: correlation)")
    add("--device", default="cpu", help="where the network runs (default: cpu)")
    add("--seed", type=int, default=0, metavar="S", help="of folds and bootstrap (default: 0)")
    add("--resamples", dest="n_resamples", type=int, default=1000, metavar="N", help="of the bootstrap (default: 1000)")
    add("-o", "--out", type=Path, required=True, metavar="DIR", help="scores.csv, card.png, card.html … go here")


def _run(options: argparse.Namespace, arguments: Sequence[str]) -> int:
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
    print(card)
    for path in write_card(card, options.out, title=title, notes=tuple(notes)):
        print(f"written: {path}")
    if options.weights is None:
        print("no --weights were given: the network is as it was made, in torchvision untrained", file=sys.stderr)
    return 0
