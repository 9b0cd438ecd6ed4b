"""The report of a fit to measured RDMs: one page, made of the files that it leaves behind and of nothing else."""

from collections.abc import Iterable, Iterator
from pathlib import Path

import xarray as xr

from brainrdl.studies.reports.fit_figures import (
    curve_figure,
    held_out_of,
    inner_curves,
    mds_figure,
    rdm_figure,
    score_figure,
    trade_off_figure,
    training_curves,
)
from brainrdl.studies.reports.fit_files import FitFiles, in_setting, read_fit
from brainrdl.studies.reports.fit_findings import (
    about_baselines,
    findings,
    format_drawn,
    format_setting,
    interval_unit,
    summary,
)
from brainrdl.studies.reports.fit_tables import arm_table, contrast_table, dropped_table, manifest_table, score_table
from brainrdl.studies.reports.methods import ABOUT_SCORES, SCORES, fit_arm_name, sort_fit_arms
from brainrdl.studies.reports.page import Page, Picture, Section, Table, present, write_page
from brainrdl.studies.reports.settings import choice_tables
from brainrdl.studies.reports.verdict import verdict_of, verdict_sentence
from brainrdl.studies.reports.words import capital, count, date, unbroken


def write_report(folder: Path) -> Path:
    """Write the ``report.html`` of a fit, one file that needs no other, from what `read_fit` finds in its folder.

    Its figures are also left in ``figures/``. Raises what `read_fit` does.
    """
    folder = Path(folder)
    study = read_fit(folder)
    page = Page(
        title=str(study.manifest.get("title") or study.manifest.get("name") or "A fit to measured RDMs"),
        created=date(str(study.manifest.get("created", ""))),
        headline=unbroken(verdict_sentence(study)),
        summary=unbroken(summary(study)),
        findings=tuple(map(unbroken, findings(study))),
        sections=_sections(study),
        notes=tuple(map(str, study.manifest.get("notes", ()))),
    )
    words = {
        "kind": verdict_of(study).kind,
        "scores": {name: ABOUT_SCORES[score] for score, name in SCORES.items()},
        "pair": [fit_arm_name(arm) for arm in study.pair],
    }
    return write_page(page, folder / "report.html", "fit.html.jinja", words, figures=folder / "figures")


def _sections(study: FitFiles) -> tuple[Section, ...]:
    """All sections, in order."""

    def section(key: str, heading: str, items: Iterable[Table | Picture], absent: str = "") -> Section:
        return Section(key, heading, tuple(items), absent)

    no_rdms = "The study left no rdms.nc, so there are no RDMs to show."
    no_trade_off = (
        "The task error of at least two weights α is not known (no task, one weight, or no choices.csv): there is no "
        "trade-off to show."
    )
    no_curves = (
        "The study left neither a histories.csv with more than the ends of fits of the primary setting, nor choices of "
        "their length, so there are no curves."
    )
    no_choices = "The study left no choices.csv: nothing was selected, or the selection was not recorded."
    every = [
        section("contrasts", "The primary contrast and its controls", _contrasts(study)),
        section("rdms", "RDMs of the brain and of the network, before and after fitting", _rdms(study), no_rdms),
        section("map", "MDS of the stimuli", _maps(study), no_rdms),
        section("scores", "Scores of all arms", _scores(study)),
        section("trade-off", "Brain score and task error", _trade_off(study), no_trade_off),
        section("curves", "Learning curves", _curves(study), no_curves),
        section("secondary", "Secondary results", _secondary(study), "There are none."),
        section("choices", "Hyperparameter selection", _choices(study), no_choices),
        section("statistics", "Statistics", dropped_table(study)),
        section("key", "Arms", [arm_table(study)]),
        section("manifest", "How the study was run", [manifest_table(study)]),
    ]
    return present(every)


def _contrasts(study: FitFiles) -> Iterator[Table]:
    unit = interval_unit(in_setting(study.summary, study.primary))
    yield contrast_table(
        in_setting(study.contrasts, study.primary),
        capital(format_setting(study.primary)),
        f"{unit} p is two-sided; Holm's correction is for the number of contrasts of a score. {about_baselines(study)}",
    )


def _rdms(study: FitFiles) -> Iterator[Picture]:
    if study.rdms is None:
        return
    yield Picture(
        "rdms",
        rdm_figure(study.rdms),
        "Panels of RDMs: the brain's, the network's before any fit, and after.",
        f"All {study.rdms.sizes['stimulus']} stimuli. Colours are percentiles within each RDM, since brains and "
        f"networks have different scales.{_held_out(study.rdms)}",
        "png",
    )


def _maps(study: FitFiles) -> Iterator[Picture]:
    if study.rdms is None:
        return
    # pairs that were not measured leave a map undefined
    figure, left_out = mds_figure(study.rdms, study.thumbnails)
    if figure is None:
        return
    pictures = "" if study.thumbnails is None else " The frame's colour is the category."
    missing = f" Not shown, since pairs were not measured or the RDM is constant: {', '.join(left_out)}." * bool(
        left_out
    )
    yield Picture(
        "map",
        figure,
        "MDS maps of the stimuli: stimuli with small distances in the RDM are close together.",
        "Metric MDS of the percentiles of each RDM's dissimilarities, a separate map each: compare distances within "
        f"a map, not positions between maps.{pictures}{missing}{_held_out(study.rdms)}",
        "png",
    )


def _held_out(rdms: xr.DataArray) -> str:
    held_out, n = held_out_of(rdms), rdms.sizes["stimulus"]
    text = f" The fitted network was fitted to the other stimuli: {len(held_out)} of {n} were held out."
    return text if held_out else ""


def _scores(study: FitFiles) -> Iterator[Table | Picture]:
    scored = in_setting(study.summary, study.primary)
    # the fitted study shows what was learnt at all, beside what carries over to another
    inside = study.primary._replace(scored_study=study.primary.fitted_study)
    other = in_setting(study.summary, inside) if inside != study.primary else scored.iloc[:0]
    also = f"; and scored in the fitted study, with intervals over {format_drawn(other)}" if len(other) else ""
    yield Picture(
        "scores",
        score_figure(study),
        "Dot plot of three scores of each arm; the numbers are those of the tables.",
        f"Scores on held-out stimuli, {format_setting(study.primary)}{also}. {interval_unit(scored)} Bands: noise "
        "ceilings, lower to upper bound, for the same pairs and subjects, after the same controls were removed. A "
        "dash: the model is itself a control.",
    )
    yield score_table(
        sort_fit_arms(scored),
        f"All scores, {format_setting(study.primary)}",
        f"{interval_unit(scored)} A dash: the model is itself a control. Task errors are means over seeds and "
        f"splits. {about_baselines(study)}",
    )


def _trade_off(study: FitFiles) -> Iterator[Picture]:
    figure = trade_off_figure(study)
    if figure is not None:
        yield Picture(
            "trade-off",
            figure,
            "Brain score against task error, a line per layer, points joined as α grows.",
            f"{fit_arm_name(study.pair[0])}, when fitted to {study.primary.fitted_study}. Each point is the mean over "
            "the inner folds of all splits; the number beside it is α. Rings: the selected settings, and in how many "
            "splits. No stimulus is scored here in a split that holds it out.",
        )


def _curves(study: FitFiles) -> Iterator[Picture]:
    figure = curve_figure(study)
    if figure is None:
        return
    fitted = study.primary.fitted_study
    losses = (
        f"Losses are those of the final fits to {fitted}, each the mean since the previous point, the RDM loss with "
        "respect to each arm's own target: means over splits and seeds, faint lines single training runs if there are "
        "at most twenty."
        if training_curves(study)
        else "This study kept the losses of its final fits only at their ends, so there are no curves of them."
    )
    inner = (
        f" Inner folds: {fit_arm_name(study.pair[0])} at each candidate number of updates, with the α selected in its "
        "split, on the stimuli held out by these folds and on validation images, a faint line per split. Held out: "
        "the final fits at their ends, on the split's held-out stimuli in the fitted study and on test images, means "
        "over seeds and the splits in which this number of updates was selected."
    )
    yield Picture(
        "curves",
        figure,
        "Losses, score and task error against updates, a line per arm.",
        losses + inner * bool(inner_curves(study)),
    )


def _secondary(study: FitFiles) -> Iterator[Table]:
    # the first one is the primary setting, which has its own section
    for setting in study.settings[1:]:
        scored, contrasts = in_setting(study.summary, setting), in_setting(study.contrasts, setting)
        name, unit = capital(format_setting(setting)), interval_unit(scored)
        if len(contrasts):
            yield contrast_table(contrasts, name, unit)
        subjects = count(int(scored["n_subjects"].max()), "subject")
        yield score_table(sort_fit_arms(scored), f"{name}: scores of all arms ({subjects})", unit, folded=True)


def _choices(study: FitFiles) -> Iterator[Table]:
    if study.choices is not None and not study.choices.empty:
        yield from choice_tables(study.choices, study.primary.fitted_study, study.primary.scheme)
