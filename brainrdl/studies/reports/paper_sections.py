"""The sections of a report: what stands in each, and what is said where there is nothing."""

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Literal

import pandas as pd
from matplotlib.figure import Figure

from brainrdl.studies.paper import published as paper
from brainrdl.studies.reports import paper_printed as printed
from brainrdl.studies.reports import paper_tables as tables
from brainrdl.studies.reports.differences import mcnemar_table
from brainrdl.studies.reports.methods import families, kinds_of, teacher_name, with_labels
from brainrdl.studies.reports.paper_faults import constant_layers, format_layers
from brainrdl.studies.reports.paper_figures import (
    Shown,
    curve_figure,
    dots_figure,
    example_rdm,
    label_figure,
    map_figure,
    rdm_figure,
)
from brainrdl.studies.reports.paper_files import StudyFiles
from brainrdl.studies.reports.paper_findings import error_note
from brainrdl.studies.reports.paper_printed import Table
from brainrdl.studies.reports.settings import settings_table
from brainrdl.studies.reports.words import count

_FAMILIES = ("paper-methods", "further-methods")


@dataclass(frozen=True)
class Picture:
    """A figure in a report.

    Attributes
    ----------
    name : str
        Of its file, without the suffix.
    figure : Figure
        The figure.
    alt : str
        For those who do not see it.
    caption : str
        What stands below it.
    format : {"svg", "png"}
        Lines as SVG, many pixels as PNG.
    kind : str
        Tells it from a table.
    """

    name: str
    figure: Figure
    alt: str
    caption: str
    format: Literal["svg", "png"] = "svg"
    kind: Literal["picture"] = "picture"


@dataclass(frozen=True)
class Section:
    """A section of a report.

    Attributes
    ----------
    id, heading : str
        What links and readers know it by.
    number : str
        Of the paper's table or figure; empty where it has none.
    items : tuple of Table or Picture
        What stands in it.
    absent : str
        What is said where nothing does.
    """

    id: str
    heading: str
    number: str
    items: tuple[Table | Picture, ...]
    absent: str


def sections(study: StudyFiles, networks: pd.DataFrame) -> list[Section]:
    """Make the sections of a report.

    Parameters
    ----------
    study : StudyFiles
        The study.
    networks : DataFrame
        Its runs, as `distinct_networks` leaves them.

    Returns
    -------
    list of Section
        In order. One that has neither items nor anything to say of their absence is left out.
    """
    places = paper.PAPER[study.name].places if study.name in paper.PAPER else {}
    shown = _shown(networks)

    def section(key: str, heading: str, items: Iterable[Table | Picture], absent: str = "") -> Section:
        return Section(key, heading, places.get(key, ""), tuple(items), absent)

    every = [
        section("errors", "Test errors", _errors(study, networks), "No run had all labels."),
        section("tests", "McNemar tests between methods", _tests(study, networks, shown), "There is only one method."),
        section("labels", "Few labels", _labels(study, networks)),
        section(
            "curves",
            "Errors during training",
            _curves(study, shown),
            "The study left no histories.csv, so there are no curves.",
        ),
        section("output", "A network's output as an RDM", _output(study)),
        section(
            "rdms",
            "RDMs of all layers",
            _rdms(study, shown),
            "The study left no rdms.nc, so there are no RDMs to show.",
        ),
        section(
            "map",
            "The methods' geometries as a map",
            _maps(study, shown),
            "The study left no mds.nc, so there is no map.",
        ),
        section(
            "geometry",
            "Distance to the teacher's geometry",
            _geometry(study),
            "The study left no geometry.csv, or no run has a teacher to be compared with.",
        ),
        section(
            "tries",
            "Settings, and how they were chosen",
            _settings(study, networks),
            "The study left neither results.json nor tries.csv, so the methods' settings are not known here.",
        ),
        section("statistics", "How the numbers are made", (), " "),
        section("key", "Methods and teachers", printed.key(networks)),
        section("manifest", "How the study was run", printed.manifest(study)),
    ]
    return [made for made in every if made.items or made.absent]


def _errors(study: StudyFiles, networks: pd.DataFrame) -> Iterator[Table | Picture]:
    runs = study.on_the_test_set(with_labels(networks, None))
    if runs.empty:
        return
    table = tables.error_table(runs, study.correctness, study=study.name, baselines=study.baselines)
    published = table.dropna(subset="paper").set_index("method")["paper"]
    yield printed.errors(
        table, "Test error of each method, all training images labelled", error_note(study, networks, table)
    )
    caption = "Test errors of single seeds."
    if (table["n_seeds"] > 1).any():
        caption = "Test errors: mean, 95 % t interval over seeds, and single seeds."
    if len(published):
        caption += " Diamonds: the paper's single networks."
    yield Picture(
        "test-errors",
        dots_figure(runs, {str(method): float(error) for method, error in published.items()}),
        "Dot plot of the test error of each method; the numbers are those of the table above.",
        caption,
    )


def _tests(study: StudyFiles, networks: pd.DataFrame, shown: list[tuple[str, Shown]]) -> Iterator[Table]:
    for name, methods in shown:
        runs = study.on_the_test_set(methods.methods(networks))
        runs = runs[runs["seed"] == runs["seed"].min()]
        comparable = methods.labels is None and name.startswith(_FAMILIES[0])
        table = mcnemar_table(runs, study.correctness, study=study.name if comparable else "")
        if len(table):
            about = f"networks of seed {runs['seed'].iloc[0]}, {count(len(table), 'test')}"
            yield printed.matrix(table, runs, f"{_described(name, methods, runs)}: {about}")


def _labels(study: StudyFiles, networks: pd.DataFrame) -> Iterator[Table | Picture]:
    table = tables.labels_table(study.on_the_test_set(networks), study.correctness, baselines=study.baselines)
    if table.empty:
        return
    for kind in kinds_of(networks[networks["labels"].notna()]) or [""]:
        shown = Shown(tuple(dict.fromkeys(networks["arm"])), kind)
        figure = label_figure(networks, shown)
        if figure is not None:
            yield Picture(
                _slug("labels", kind),
                figure,
                "Test error against the number of labelled images, a line per method.",
                f"Test error against the number of labelled images{_taught_by(kind)}: means, 95 % t intervals over "
                "seeds, and single seeds.",
            )
    for labels, part in table.groupby("labels"):
        yield printed.errors(part.drop(columns="labels"), f"{labels:,} labelled images", tested=True)


def _curves(study: StudyFiles, shown: list[tuple[str, Shown]]) -> Iterator[Picture]:
    if study.histories is None:
        return
    histories = study.on_the_test_set(study.histories)  # errors among other classes say nothing beside these
    for name, methods in shown:
        figure = curve_figure(histories, methods)
        if figure is not None:
            yield Picture(
                f"curves-{name}",
                figure,
                "Errors against epochs, a line per method.",
                f"{_described(name, methods, methods.methods(histories))}.",
            )


def _output(study: StudyFiles) -> Iterator[Picture]:
    rdms = study.rdms if study.output is None else study.output
    if rdms is not None and (rdms["layer"] == "softmax").any():
        alt = "RDM of a network's outputs for test images, ordered by class."
        yield Picture("output-rdm", example_rdm(rdms), alt, "", "png")


def _rdms(study: StudyFiles, shown: list[tuple[str, Shown]]) -> Iterator[Picture]:
    if study.rdms is None:
        return
    models = list(map(str, study.rdms["model"].to_numpy()))
    for kind, labels in {methods.teacher: methods.labels for _, methods in shown}.items():
        everyone = Shown(tuple(dict.fromkeys(arm for _, s in shown for arm in s.arms)), kind, labels)
        figure = rdm_figure(study.rdms, everyone)
        if figure is not None:
            names = everyone.models(models)
            yield Picture(
                _slug("rdms", kind),
                figure,
                f"RDMs of {count(len(names), 'network')} (rows), layer by layer (columns).",
                f"RDMs of all methods{_taught_by(kind)}{_labelled(everyone)}.",
                "png",
            )


def _maps(study: StudyFiles, shown: list[tuple[str, Shown]]) -> Iterator[Picture]:
    if study.mds is None:
        return
    constant = constant_layers(study.rdms, study.mds)
    for name, methods in shown:
        drawn = map_figure(study.mds, methods)
        if drawn is not None:
            here = methods.models([model for model, _ in constant])
            left_out = [pair for pair in constant if pair[0] in here]
            yield Picture(
                f"map-{name}",
                drawn[0],
                "Each network's layers as a path of points from the pixels to the labels.",
                f"{_described(name, methods, None)}; stress-1 {drawn[1]:.3f}."
                + (f" Left out, their RDMs being constant: {format_layers(left_out)}." if left_out else ""),
            )


def _geometry(study: StudyFiles) -> Iterator[Table]:
    if study.geometry is not None and not study.geometry.empty:
        yield from printed.geometry(tables.geometry_table(study.geometry, study.baselines))


def _settings(study: StudyFiles, networks: pd.DataFrame) -> Iterator[Table]:
    table = settings_table(study, networks)
    if len(table):
        yield printed.settings(table)
    if study.tries is not None and not study.tries.empty:
        yield from printed.tries(tables.tries_table(study.tries))


def _shown(networks: pd.DataFrame) -> list[tuple[str, Shown]]:
    """What is shown together, with a name for its files: of each kind of teacher, the paper's and further methods."""
    students = networks[networks["arm"] != "teacher"]
    everyone = students if len(students) else networks
    labels = None if everyone["labels"].isna().any() else int(everyone["labels"].max())
    shown = []
    for kind in kinds_of(networks) or [""]:
        here = networks[networks["teacher"].isin(("", kind))]
        for k, family in enumerate(families(list(here["arm"]))):
            shown.append((_slug(_FAMILIES[k], kind), Shown(family, kind, labels)))
    return shown


def _described(name: str, shown: Shown, rows: pd.DataFrame | None) -> str:
    """Describe a group of methods in a caption."""
    family = "The paper's methods" if name.startswith(_FAMILIES[0]) else "RDL and further methods"
    taught = rows is None or (rows["teacher"] == shown.teacher).any()
    return family + (_taught_by(shown.teacher) if taught else "") + _labelled(shown)


def _taught_by(kind: str) -> str:
    return f", taught by {teacher_name(kind)}" if kind else ""


def _labelled(shown: Shown) -> str:
    return "" if shown.labels is None else f", students with {shown.labels:,} labelled images"


def _slug(name: str, kind: str) -> str:
    """Name a file, whatever a kind of teacher is called."""
    return re.sub(r"\W+", "-", f"{name}-{kind}").strip("-")
