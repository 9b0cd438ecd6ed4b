"""The report of a study of the paper: one page, made of the files that the study leaves behind and of nothing else."""

import re
from collections.abc import Iterable, Iterator
from pathlib import Path

import pandas as pd

from brainrdl.inference.trainings import MIN_SEEDS
from brainrdl.studies.paper import published as paper
from brainrdl.studies.reports.differences import mcnemar_table
from brainrdl.studies.reports.methods import ArmWords, distinct_networks, families, kinds_of, teacher_name, with_labels
from brainrdl.studies.reports.page import Page, Picture, Section, Table, present, write_page
from brainrdl.studies.reports.paper_figures import (
    Shown,
    curve_figure,
    dots_figure,
    example_rdm,
    label_figure,
    map_figure,
    rdm_figure,
)
from brainrdl.studies.reports.paper_files import StudyFiles, read_study
from brainrdl.studies.reports.paper_findings import (
    constant_layers,
    error_note,
    faults,
    findings,
    format_layers,
    summary,
)
from brainrdl.studies.reports.paper_tables import (
    error_cells,
    error_table,
    geometry_cells,
    geometry_table,
    key_tables,
    labels_table,
    manifest_tables,
    mcnemar_cells,
)
from brainrdl.studies.reports.settings import settings_cells, settings_table, tries_tables
from brainrdl.studies.reports.words import count, date, number, unbroken

_FAMILIES = ("paper-methods", "further-methods")


def write_report(folder: Path) -> Path:
    """Write a study's ``report.html``, one file that needs no other, from what `read_study` finds in its folder.

    Its figures are also left in ``figures/``. Raises what `read_study` does, and a ValueError without a test error.
    """
    folder = Path(folder)
    study = read_study(folder)
    networks = distinct_networks(study.results, one_teacher=study.one_teacher, arms=study.arms)
    if networks.empty:
        raise ValueError(f"{folder / 'results.csv'} has no run with a test error; there is nothing to report")
    page = Page(
        title=str(study.manifest.get("title") or study.name),
        created=date(str(study.manifest.get("created", ""))),
        headline="",
        summary=unbroken(summary(study, networks)),
        findings=tuple(map(unbroken, findings(study, networks))),
        sections=_sections(study, networks),
        notes=tuple(map(str, study.manifest.get("notes", ()))),
        faults=tuple(map(unbroken, faults(study, networks))),
    )
    words = {
        "study": study.name,
        "in_paper": study.name in paper.PAPER,
        "baseline": "its baseline" if set(study.baselines.values()) - {"plain"} else "plain",
        "validated": study.histories is not None and bool(study.histories["validation_error"].notna().any()),
        "one_teacher": study.one_teacher,
        "n_seeds": networks["seed"].nunique(),
        "chosen": study.chosen,
        "n_stimuli": 0 if study.rdms is None else study.rdms.sizes["stimulus"],
        "samples": {} if study.mds is None else study.mds.attrs,
    }
    return write_page(page, folder / "report.html", "paper.html.jinja", words, figures=folder / "figures")


def _sections(study: StudyFiles, networks: pd.DataFrame) -> tuple[Section, ...]:
    """All sections in order; `networks` are the study's runs, as `distinct_networks` leaves them."""
    places = paper.PAPER[study.name].places if study.name in paper.PAPER else {}
    shown = _shown(networks, study.arms)

    def section(key: str, heading: str, items: Iterable[Table | Picture], absent: str = "") -> Section:
        return Section(key, heading, tuple(items), absent, places.get(key, ""))

    no_histories = "The study left no histories.csv, so there are no curves."
    no_rdms = "The study left no rdms.nc, so there are no RDMs to show."
    no_mds = "The study left no mds.nc, so there is no map."
    no_geometry = "The study left no geometry.csv, or no run has a teacher to be compared with."
    no_settings = "The study left neither results.json nor tries.csv, so the methods' hyperparameters are not known."
    every = [
        section("errors", "Test errors", _errors(study, networks), "No run had all labels."),
        section("tests", "McNemar tests between methods", _tests(study, networks, shown), "There is only one method."),
        section("labels", "Few labels", _labels(study, networks)),
        section("curves", "Errors during training", _curves(study, shown), no_histories),
        section("output", "RDM of a network's output", _output(study)),
        section("rdms", "RDMs of all layers", _rdms(study, shown), no_rdms),
        section("map", "MDS of the methods' geometries", _maps(study, shown), no_mds),
        section("geometry", "Distance from the teacher's geometry", _geometry(study), no_geometry),
        section("tries", "Hyperparameters and their selection", _settings(study, networks), no_settings),
        section("statistics", "Statistics", ()),
        section("key", "Methods and teachers", key_tables(networks, study.arms)),
        section("manifest", "How the study was run", manifest_tables(study)),
    ]
    return present(every)


def _errors(study: StudyFiles, networks: pd.DataFrame) -> Iterator[Table | Picture]:
    # teachers of other classes answer other images and stand in the note
    runs = study.on_the_test_set(with_labels(networks, None))
    if runs.empty:
        return
    table = error_table(runs, study.correctness, study=study.name, baselines=study.baselines, arms=study.arms)
    published = table.dropna(subset="paper").set_index("method")["paper"]
    yield error_cells(
        table, "Test error of each method, all training images labelled", error_note(study, networks, table)
    )
    caption = "Test errors of single seeds."
    if (table["n_seeds"] >= MIN_SEEDS).any():
        caption = "Test errors: mean, 95 % t interval over seeds, and single seeds."
    if len(published):
        caption += " Diamonds: the paper's single networks."
    yield Picture(
        "test-errors",
        dots_figure(runs, {str(method): float(error) for method, error in published.items()}, study.arms),
        "Dot plot of the test error of each method; the numbers are those of the table above.",
        caption,
    )


def _tests(study: StudyFiles, networks: pd.DataFrame, shown: list[tuple[str, Shown]]) -> Iterator[Table]:
    for name, methods in shown:
        runs = study.on_the_test_set(methods.methods(networks))
        # McNemar compares two networks: a test per seed would be many
        runs = runs[runs["seed"] == runs["seed"].min()]
        # the paper's p belong to its own methods, all labels known
        comparable = methods.labels is None and name.startswith(_FAMILIES[0])
        of_paper = study.name if comparable else ""
        table = mcnemar_table(runs, study.correctness, study=of_paper, arms=study.arms)
        if len(table):
            about = f"networks of seed {runs['seed'].iloc[0]}, {count(len(table), 'test')}"
            yield mcnemar_cells(table, runs, f"{_described(name, methods, runs)}: {about}", study.arms)


def _labels(study: StudyFiles, networks: pd.DataFrame) -> Iterator[Table | Picture]:
    table = labels_table(study.on_the_test_set(networks), study.correctness, baselines=study.baselines, arms=study.arms)
    if table.empty:
        return
    # a study without teachers has one figure, of untaught methods
    for kind in kinds_of(networks[networks["labels"].notna()]) or [""]:
        shown = Shown(tuple(dict.fromkeys(networks["arm"])), kind, words=study.arms)
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
        yield error_cells(part.drop(columns="labels"), f"{labels:,} labelled images", tested=True)


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
    # a teacher of other classes has outputs for its own images
    rdms = study.rdms if study.output is None else study.output
    if rdms is not None and (rdms["layer"] == "softmax").any():
        alt = "RDM of a network's outputs for test images, ordered by class."
        yield Picture("output-rdm", example_rdm(rdms, study.arms), alt, "", "png")


def _rdms(study: StudyFiles, shown: list[tuple[str, Shown]]) -> Iterator[Picture]:
    if study.rdms is None:
        return
    models = list(map(str, study.rdms["model"].to_numpy()))
    # a kind once, whatever its families
    for kind, labels in {methods.teacher: methods.labels for _, methods in shown}.items():
        everyone = Shown(tuple(dict.fromkeys(arm for _, s in shown for arm in s.arms)), kind, labels, study.arms)
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
            names = methods.models([model for model, _ in constant])
            left_out = [pair for pair in constant if pair[0] in names]
            yield Picture(
                f"map-{name}",
                drawn[0],
                "Each network's layers as a path of points from the pixels to the labels.",
                f"{_described(name, methods, None)}; stress-1 {number(drawn[1], 3)}."
                + (f" Left out, their RDMs being constant: {format_layers(left_out, study.arms)}." if left_out else ""),
            )


def _geometry(study: StudyFiles) -> Iterator[Table]:
    if study.geometry is not None and not study.geometry.empty:
        yield from geometry_cells(geometry_table(study.geometry, study.baselines, study.arms))


def _settings(study: StudyFiles, networks: pd.DataFrame) -> Iterator[Table]:
    table = settings_table(study, networks)
    if len(table):
        yield settings_cells(table, study.arms)
    if study.tries is not None and not study.tries.empty:
        yield from tries_tables(study.tries, study.arms)


def _shown(networks: pd.DataFrame, arms: ArmWords) -> list[tuple[str, Shown]]:
    """Group what is shown together, with a name for its files: by kind of teacher, the paper's and further methods."""
    students = networks[networks["arm"] != "teacher"]
    everyone = students if len(students) else networks
    # all labels where any student has them; else the most: they are nearest to it
    labels = None if everyone["labels"].isna().any() else int(everyone["labels"].max())
    shown = []
    for kind in kinds_of(networks) or [""]:
        of_kind = networks[networks["teacher"].isin(("", kind))]
        for k, family in enumerate(families(list(of_kind["arm"]), arms)):
            shown.append((_slug(_FAMILIES[k], kind), Shown(family, kind, labels, arms)))
    return shown


def _described(name: str, shown: Shown, rows: pd.DataFrame | None) -> str:
    """Describe a group of methods in a caption."""
    family = "The paper's methods" if name.startswith(_FAMILIES[0]) else "RDL and further methods"
    # a figure may show untaught methods alone
    taught = rows is None or (rows["teacher"] == shown.teacher).any()
    return family + (_taught_by(shown.teacher) if taught else "") + _labelled(shown)


def _taught_by(kind: str) -> str:
    return f", trained with {teacher_name(kind)}" if kind else ""


def _labelled(shown: Shown) -> str:
    return "" if shown.labels is None else f", students with {shown.labels:,} labelled images"


def _slug(name: str, kind: str) -> str:
    """Name a file, whatever a kind of teacher is called."""
    return re.sub(r"\W+", "-", f"{name}-{kind}").strip("-")
