"""The sections of a fit's page: what stands in each, and what is said where there is nothing."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from brainrdl.studies.reports.fit_figures import (
    curve_figure,
    held_out_of,
    mds_figure,
    rdm_figure,
    score_figure,
    trade_off_figure,
)
from brainrdl.studies.reports.fit_files import FitFiles, at
from brainrdl.studies.reports.fit_findings import format_drawn, interval_unit
from brainrdl.studies.reports.fit_names import Setting, arm_name, format_setting, sort_arms
from brainrdl.studies.reports.fit_tables import (
    arm_table,
    choice_tables,
    contrast_table,
    dropped_table,
    manifest_table,
    score_table,
)
from brainrdl.studies.reports.paper_printed import Table
from brainrdl.studies.reports.paper_sections import Picture
from brainrdl.studies.reports.words import capital, count


@dataclass(frozen=True)
class Section:
    """A section of a page.

    Attributes
    ----------
    id, heading : str
        What links and readers know it by.
    items : tuple of Table or Picture
        What stands in it.
    absent : str
        What is said where nothing does.
    """

    id: str
    heading: str
    items: tuple[Table | Picture, ...]
    absent: str = ""


def sections(study: FitFiles) -> list[Section]:
    """Make the sections of a page.

    Parameters
    ----------
    study : FitFiles
        The study.

    Returns
    -------
    list of Section
        In order. One that has neither items nor anything to say of their absence is left out.
    """

    def section(key: str, heading: str, items: Iterable[Table | Picture], absent: str = "") -> Section:
        return Section(key, heading, tuple(items), absent)

    no_rdms = "The study left no rdms.nc, so there are no RDMs to show."
    every = [
        section("contrasts", "The primary contrast beside its controls", _contrasts(study)),
        section("rdms", "RDMs: the brain, before and after", _rdms(study), no_rdms),
        section("map", "The stimuli as a map", _maps(study), no_rdms),
        section("scores", "Scores of all arms", _scores(study)),
        section(
            "trade-off",
            "The brain against the task",
            _trade_off(study),
            "choices.csv is missing or holds fewer than two weights α with a task error, so there is no trade-off to "
            "show.",
        ),
        section(
            "curves",
            "Learning curves",
            _curves(study),
            "The study left no histories.csv with fits of the primary setting, so there are no curves.",
        ),
        section("secondary", "Secondary results", _secondary(study), "There are none."),
        section(
            "choices",
            "What was chosen, and among what",
            choice_tables(study),
            "The study left no choices.csv: nothing was chosen, or nothing is known of it here.",
        ),
        section("statistics", "How the numbers are made", dropped_table(study), " "),
        section("key", "Arms", [arm_table(study)]),
        section("manifest", "How the study was run", [manifest_table(study)]),
    ]
    return [made for made in every if made.items or made.absent]


def _contrasts(study: FitFiles) -> Iterator[Table]:
    yield contrast_table(
        at(study.contrasts, study.primary),
        capital(format_setting(study.primary)),
        f"{interval_unit(at(study.summary, study.primary))} p is two-sided; Holm's correction is for the number of "
        "contrasts of a score.",
    )


def _rdms(study: FitFiles) -> Iterator[Picture]:
    if study.rdms is None:
        return
    yield Picture(
        "rdms",
        rdm_figure(study.rdms),
        "Panels of RDMs: the brain's, the network's before the fit, and after it.",
        f"All {study.rdms.sizes['stimulus']} stimuli. Colours are percentiles within each RDM, since the scales of "
        f"brains and networks do not compare.{_held_out(study)}",
        "png",
    )


def _maps(study: FitFiles) -> Iterator[Picture]:
    if study.rdms is None:
        return
    figure, left_out = mds_figure(study.rdms, study.thumbnails)
    if figure is None:
        return
    pictures = "" if study.thumbnails is None else " Frames have the colours of the categories."
    missing = f" Without a map, since pairs were not measured or all are alike: {', '.join(left_out)}." * bool(left_out)
    yield Picture(
        "map",
        figure,
        "Maps of the stimuli: near each other where their RDM says that they are alike.",
        "Metric MDS of the percentiles of each RDM's dissimilarities, a map each: compare distances within a map, not "
        f"places between maps.{pictures}{missing}{_held_out(study)}",
        "png",
    )


def _held_out(study: FitFiles) -> str:
    held_out = [] if study.rdms is None else held_out_of(study.rdms)
    if study.rdms is None or not held_out:
        return ""
    n = study.rdms.sizes["stimulus"]
    return f" The network after the fit was fitted to the other stimuli: {len(held_out)} of {n} were held out."


def _scores(study: FitFiles) -> Iterator[Table | Picture]:
    here = at(study.summary, study.primary)
    inside = study.primary._replace(scored_study=study.primary.fitted_study)
    other = at(study.summary, inside) if inside != study.primary else here.iloc[:0]
    also = f"; and scored in the fitted study, with intervals over {format_drawn(other)}" if len(other) else ""
    yield Picture(
        "scores",
        score_figure(study),
        "Dot plot of three scores of each arm; the numbers are those of the tables.",
        f"Scores on held-out stimuli, {format_setting(study.primary)}{also}. {interval_unit(here)} Bands: noise "
        "ceilings, lower to upper bound, of the same pairs and subjects and after the same removal. A dash: the arm is "
        "made of what is removed.",
    )
    yield score_table(
        sort_arms(here),
        f"All scores, {format_setting(study.primary)}",
        f"{interval_unit(here)} A dash: the arm is made of what is removed. Task errors are means over seeds and "
        "splits.",
    )


def _trade_off(study: FitFiles) -> Iterator[Picture]:
    figure = trade_off_figure(study)
    if figure is not None:
        yield Picture(
            "trade-off",
            figure,
            "Brain score against task error, a line per layer, points joined as α grows.",
            f"{arm_name(study.pair[0])}, when fitted to {study.primary.fitted_study}. Each point is the mean over the "
            "inner folds of all splits; the number beside it is α. Rings: what was chosen, and by how many splits. No "
            "stimulus is scored here by a split that holds it out.",
        )


def _curves(study: FitFiles) -> Iterator[Picture]:
    figure = curve_figure(study)
    if figure is not None:
        yield Picture(
            "curves",
            figure,
            "Losses and task error against updates, a line per arm.",
            f"Final fits to {study.primary.fitted_study}: means over splits and seeds, faint lines single trainings "
            "where there are at most twenty. The RDM loss of each arm is to its own target, on training stimuli.",
        )


def _secondary(study: FitFiles) -> Iterator[Table]:
    for setting in study.settings[1:]:
        yield from _setting_tables(study, setting)


def _setting_tables(study: FitFiles, setting: Setting) -> Iterator[Table]:
    """The differences, and, folded, the scores."""
    here, contrasts = at(study.summary, setting), at(study.contrasts, setting)
    told = capital(format_setting(setting))
    if len(contrasts):
        yield contrast_table(contrasts, told, interval_unit(here))
    subjects = count(int(here["n_subjects"].max()), "subject")
    yield score_table(sort_arms(here), f"{told}: scores of all arms ({subjects})", interval_unit(here), folded=True)
