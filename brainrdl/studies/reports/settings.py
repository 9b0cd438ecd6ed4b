"""The settings that were tried and chosen, as tables: of a paper's study, of a fit, and of the heads of a card."""

import json
import math
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import pandas as pd

from brainrdl.studies.reports.methods import (
    METHOD,
    PAPER_ARMS,
    SCHEMES,
    ArmWords,
    arm_name,
    baseline_of,
    fit_arm_name,
    in_order,
    method_name,
    teacher_name,
)
from brainrdl.studies.reports.page import Table
from brainrdl.studies.reports.paper_files import StudyFiles
from brainrdl.studies.reports.words import as_text, count, duration, flat, labels_cell, number, records

DIGITS = 3
"""Decimals of scores."""

UNTRIED = "the only candidate, not tried"
"""Words in place of a validation error where there was nothing to choose from."""

_MAX_TRIES = 400
_LABEL = {"alpha0": "α₀"}


def settings_table(study: StudyFiles, networks: pd.DataFrame) -> pd.DataFrame:
    """Gather what each method was trained with, for the lowest seed's run; `networks` are its `distinct_networks`.

    A row per number of labels (NaN: all) and method: ``labels, arm, method``; ``learning_rate`` (times its factor),
    ``factor``, ``weight_decay``; ``inherited_from``, the arm that those two were chosen for, empty for the arm itself;
    ``alpha0``; ``alphas``, what the first epoch that had any made of it, by layer; ``relative``, if α₀ was divided by
    the teacher's squared mean distance in each layer; ``n_tried``, candidates trained on validation, ``tried_teacher,
    tried_labels, tried_epochs``, with which kind of teacher, how many labels and how many epochs; ``epochs``;
    ``hint_epochs``, how many of them had no task; ``updates``. NaN or empty where it does not apply.
    """
    settings = study.settings or {}
    # all seeds of a method have the same settings
    first = in_order(networks.sort_values("seed", kind="stable"), study.arms).drop_duplicates([*METHOD, "labels"])
    first = first[first["row"].isin(list(settings))].sort_values("labels", kind="stable", na_position="first")
    return pd.DataFrame([_trained_with(study, run, settings[run["row"]]) for _, run in first.iterrows()])


def print_settings(table: pd.DataFrame, arms: ArmWords = PAPER_ARMS) -> Table:
    """Print what `settings_table` says, with updates where students have few labels."""
    few = bool(table["labels"].notna().any())
    head = ["method", *(["labels"] if few else []), "learning rate", "weight decay", "α₀", "chosen among", "epochs"]
    rows = []
    for line in records(table):
        origin = [f"as {arm_name(line['inherited_from'], arms)}"] if line["inherited_from"] else []
        # a factor of 1 changes nothing
        times = [f"× {line['factor']:g}"] if line["factor"] != 1 else []
        hints = [f"{line['hint_epochs']} of them for the hint"] if line["hint_epochs"] else []
        updates = ("",) if math.isnan(line["labels"]) else (f"{line['updates']:,}",)
        cells = [
            (str(line["method"]),),
            *([(labels_cell(line["labels"]),)] if few else []),
            (f"{line['learning_rate']:g}", *(" ".join((*origin, *times)),) * bool(origin or times)),
            (f"{line['weight_decay']:g}", *origin),
            _alpha_cell(line),
            _chosen_cell(line),
            (f"{line['epochs']}", *hints),
            *([updates] if few else []),
        ]
        rows.append(tuple(cells))
    notes = [
        "Learning rate and weight decay at the start, of the first seed's run; “as” names the method whose choice it "
        "took over."
    ]
    if table["relative"].any():
        notes.append(
            "RDL's α₀ is relative: in each layer it is divided by the squared mean distance of the teacher's RDM, and "
            "what comes out in the first epoch is told below it."
        )
    if (table["tried_epochs"] < table["epochs"]).any():
        notes.append("Candidates were trained for fewer epochs than the runs.")
    if few:
        notes.append("With few labels an epoch is a share of the updates, of which every run has the same number.")
    head += ["updates"] if few else []
    return Table("What each method was trained with", tuple(head), tuple(rows), " ".join(notes))


def tries_table(tries: pd.DataFrame, arms: ArmWords = PAPER_ARMS) -> pd.DataFrame:
    """Gather what was tried on validation, and what was chosen, in the order of a report.

    `tries` has a row per candidate: ``arm, labels, teacher, try, setting`` (a JSON object), ``validation_error,
    validation_loss, chosen, seconds``. Returns ``method, labels, try, setting`` (read out), ``validation_error,
    validation_loss, chosen, seconds, note``, which says why there is no validation error: a single candidate was not
    tried, one of several failed.
    """
    # stable: candidates in the order of trying within a method
    ordered = in_order(tries.sort_values("try", kind="stable"), arms).sort_values(
        "labels", kind="stable", na_position="first"
    )
    candidates = ordered.groupby(["arm", "teacher", "labels"], dropna=False)["try"].transform("size")
    notes = np.where(ordered["validation_error"].notna(), "", np.where(candidates == 1, UNTRIED, "failed"))
    names = [method_name(str(a), str(t), arms) for a, t in zip(ordered["arm"], ordered["teacher"], strict=True)]
    settings = [format_setting(str(setting)) for setting in ordered["setting"]]
    columns = ["labels", "try", "setting", "validation_error", "validation_loss", "chosen", "seconds"]
    table = ordered[columns].assign(setting=settings, note=notes)
    table.insert(0, "method", names)
    return table.reset_index(drop=True)


def print_tries(table: pd.DataFrame) -> Iterator[Table]:
    """Print what `tries_table` says: what was chosen; then all candidates, folded."""
    with_labels = bool(table["labels"].notna().any())
    head = ["method", *(["labels"] if with_labels else []), "setting", "validation error, %", "validation loss"]

    def cells(line: Mapping[str, Any]) -> tuple[tuple[str, ...], ...]:
        labels = [(labels_cell(line["labels"]),)] if with_labels else []
        errors = [(number(line["validation_error"]),), (number(line["validation_loss"], 4),)]
        if line["note"]:
            errors = [(str(line["note"]),), ("",)]
        return ((str(line["method"]),), *labels, (str(line["setting"]),), *errors)

    lines = records(table)
    chosen = tuple(cells(line) for line in lines if line["chosen"])
    if (table["note"] != UNTRIED).any():
        note = (
            "Chosen by validation error, then validation loss; the test set was not used. Each choice was made once "
            "and serves all seeds; where a kind of teacher is named, the choice was made with it and serves the "
            "others, too."
        )
        yield Table("What was chosen on validation", tuple(head), chosen, note)
    else:
        yield Table("What was taken without trying", tuple(head), chosen, "Nothing was chosen: no method had a rival.")
    yield Table(
        f"All {count(len(lines), 'candidate')}",
        (*head, "chosen", "time"),
        tuple((*cells(line), ("✓" if line["chosen"] else "",), (duration(line["seconds"]),)) for line in lines),
        folded=True,
    )


def print_choices(choices: pd.DataFrame, fitted_study: str, scheme: str) -> Iterator[Table]:
    """Print what a fit chose in inner folds: in the primary setting, named by study and scheme; in the others, folded.

    Then all tries of all settings, folded. `choices` are the rows of ``choices.csv``.
    """
    by = ["fitted_study", "scheme", "split", "arm", "layer", "tried"]
    # an arm chooses within each outer split for itself
    means = _over_inner_splits(choices, by)
    for (fitted, of_scheme), part in means[means["chosen"]].groupby(["fitted_study", "scheme"], sort=False):
        primary = (fitted, of_scheme) == (fitted_study, scheme)
        note = (
            "Chosen by the mean score on the held-out stimuli of inner folds, which hold training stimuli of the outer "
            "split alone. The controls of RDL take over what was chosen for RDL."
        )
        caption = f"Chosen when fitted to {fitted}, {SCHEMES.get(str(of_scheme), str(of_scheme))}"
        columns = ("arm", "split", "layer", "setting", "inner score", "task error, %")
        cells = tuple((*_choice_cells(line), (number(line["task_error"]),)) for line in records(part))
        yield Table(caption, columns, cells, note if primary else "", folded=not primary)
    # over outer splits, each of which may have chosen another setting
    counted = means.groupby(["fitted_study", "scheme", "arm", "layer", "tried"], sort=False).agg(
        value=("value", "mean"), task_error=("task_error", "mean"), chosen=("chosen", "sum"), n=("split", "nunique")
    )
    lines = records(counted.reset_index())
    rows = tuple(
        (
            (fit_arm_name(line["arm"]),),
            (f"{line['fitted_study']}, {SCHEMES.get(line['scheme'], line['scheme'])}",),
            (line["layer"],),
            (line["tried"],),
            (number(line["value"], DIGITS),),
            (number(line["task_error"]),),
            (f"{line['chosen']} of {line['n']}",),
        )
        for line in lines[:_MAX_TRIES]
    )
    head = ("arm", "fitted to", "layer", "setting", "inner score", "task error, %", "chosen, splits")
    # a page of ten thousand rows does not open on a telephone
    more = len(lines) > _MAX_TRIES
    note = "Means over inner and outer splits; an empty score is of a setting whose training died."
    note += f" The first {_MAX_TRIES} of them; all are in choices.csv." if more else ""
    yield Table(f"All {count(len(lines), 'setting')} that were tried", head, rows, note, folded=True)


def print_head_choices(choices: pd.DataFrame) -> Table:
    """Print what the heads of a card chose in inner folds; `choices` are those of `Card`."""
    # heads have no task
    means = _over_inner_splits(choices.assign(task_error=math.nan), ["split", "arm", "layer", "tried"])
    rows = tuple(_choice_cells(line) for line in records(means[means["chosen"]]))
    note = "Chosen by the mean score on the held-out stimuli of inner folds, within the training stimuli of the split."
    return Table("What the heads chose", ("head", "split", "layer", "setting", "inner score"), rows, note, folded=True)


def format_setting(setting: str) -> str:
    """Read an arm's setting out, a JSON object of numbers; a ValueError if it is none."""
    try:
        knobs = json.loads(setting)
    except json.JSONDecodeError:
        knobs = None
    if not isinstance(knobs, dict):
        raise ValueError(f'a setting is a JSON object, such as {{"alpha0": 2.0}}, got {setting!r}')
    parts = [
        f"{_LABEL.get(name, name.replace('_', ' '))} {f'{value:g}' if isinstance(value, float | int) else value}"
        for name, value in knobs.items()
    ]
    return ", ".join(parts) or "as in the recipe"


def _over_inner_splits(choices: pd.DataFrame, by: list[str]) -> pd.DataFrame:
    """Average tries over inner splits: a choice is one of settings, not of splits; NaN where a training died."""
    tries = choices.assign(tried=[_format_try(line) for line in records(choices)])
    means = tries.groupby(by, sort=False).agg(
        value=("value", lambda values: values.mean(skipna=False)),
        task_error=("task_error", "mean"),
        chosen=("chosen", "any"),
    )
    return means.reset_index()


def _choice_cells(line: Mapping[str, Any]) -> tuple[tuple[str, ...], ...]:
    name = fit_arm_name(str(line["arm"]))
    return ((name,), (str(line["split"]),), (str(line["layer"]),), (line["tried"],), (number(line["value"], DIGITS),))


def _format_try(line: Mapping[str, Any]) -> str:
    """Say in one line what was tried: the setting of a head, α and updates of a student."""
    lengths = ("updates",) if line["arm"] == "frrsa" else ("updates", "steps")  # in closed form, without steps
    parts = [f"{as_text(line[key])} {key}" for key in lengths if _is_known(line.get(key))]
    if _is_known(line.get("alpha0")):
        parts.insert(0, f"α {line['alpha0']:g}")
    if isinstance(line["setting"], str) and line["setting"]:
        try:
            setting = dict(flat(json.loads(line["setting"])))
        except ValueError:
            # a setting in words, as those of studies made by hand
            setting = {"": line["setting"]}
        parts = [f"{key} {value}".strip() for key, value in setting.items()] + parts
    return ", ".join(parts)


def _is_known(value: Any) -> bool:
    return value is not None and not (isinstance(value, float) and math.isnan(value))


def _trained_with(study: StudyFiles, run: "pd.Series[Any]", setting: Mapping[str, float]) -> dict[str, Any]:
    """A row of `settings_table`."""
    arm, recipe = str(run["arm"]), study.recipe
    history = None if study.histories is None else study.histories[study.histories["row"] == run["row"]]
    tried = _tried(study.tries, run, setting)
    # a candidate whose training died has seconds, but no error
    trained = tried["validation_error"].notna() | (tried["seconds"].fillna(0) > 0)
    factor = setting.get("learning_rate_factor", 1.0)
    return {
        "labels": run["labels"],
        "arm": arm,
        "method": method_name(arm, str(run["teacher"]), study.arms),
        "learning_rate": factor * setting.get("learning_rate", recipe.get("learning_rate", np.nan)),
        "factor": factor,
        "weight_decay": setting.get("weight_decay", recipe.get("weight_decay", np.nan)),
        "inherited_from": _inherited_from(arm, study.baselines),
        "alpha0": setting.get("alpha0", np.nan),
        "alphas": _first_alphas(history),
        "relative": arm == "rdl" and bool(recipe.get("relative", False)),
        "n_tried": int(trained.sum()),
        "tried_teacher": str(tried["teacher"].iloc[0]) if trained.any() else "",
        "tried_labels": tried["labels"].iloc[0] if trained.any() else np.nan,
        "tried_epochs": min(run["epochs"], recipe.get("choice_epochs") or run["epochs"]) if trained.any() else np.nan,
        "epochs": run["epochs"],
        "hint_epochs": int(history["task_error"].isna().sum()) if arm == "hints" and history is not None else 0,
        "updates": run["updates"],
    }


def _inherited_from(arm: str, baselines: Mapping[str, str]) -> str:
    """Name the arm whose learning rate and weight decay it takes over; baselines and teachers have their own."""
    baseline = baseline_of(arm, baselines)
    # they chose for themselves
    return "" if baseline is None or arm == "teacher" or arm in baselines.values() else baseline


def _tried(tries: pd.DataFrame | None, run: "pd.Series[Any]", setting: Mapping[str, float]) -> pd.DataFrame:
    """Select the candidates among which a run's setting was chosen."""
    if tries is None:
        return pd.DataFrame(columns=["teacher", "labels", "validation_error", "seconds"], dtype=float)
    candidates: pd.DataFrame = tries[tries["arm"] == run["arm"]]
    if run["arm"] == "teacher":
        # a teacher's settings are chosen for each kind; students' serve all kinds
        candidates = candidates[candidates["teacher"] == run["teacher"]]
    candidates = candidates[candidates["labels"].isna() == pd.isna(run["labels"])]
    chosen = candidates[candidates["chosen"]]
    fitting = [json.loads(knobs).items() <= setting.items() for knobs in chosen["setting"]]
    labels = chosen.loc[fitting, "labels"]
    # a choice of its own number of labels, where there is one; otherwise one serves all numbers
    same = labels[labels == run["labels"]]
    return candidates[candidates["labels"].isin((same if len(same) else labels).head(1))]


def _first_alphas(history: pd.DataFrame | None) -> dict[str, float]:
    if history is None:
        return {}
    alphas = history[[column for column in history if str(column).startswith("alpha/")]].dropna(how="all")
    return {} if alphas.empty else {str(k).removeprefix("alpha/"): float(v) for k, v in alphas.iloc[0].dropna().items()}


def _alpha_cell(line: Mapping[str, Any]) -> tuple[str, ...]:
    if math.isnan(line["alpha0"]):
        return ("",)
    # absolute ones are α₀ in every layer
    alphas = line["alphas"] if line["relative"] else {}
    return (
        f"{line['alpha0']:g}{', relative' if line['relative'] else ''}",
        *(f"{layer} {alpha:.3g}" for layer, alpha in alphas.items()),
    )


def _chosen_cell(line: Mapping[str, Any]) -> tuple[str, ...]:
    if not line["n_tried"]:
        return ("not tried",)
    parts = [count(line["n_tried"], "candidate")]
    if line["tried_teacher"]:
        parts.append(f"with {teacher_name(line['tried_teacher'])}")
    if not math.isnan(line["tried_labels"]):
        parts.append(f"at {line['tried_labels']:,.0f} labels")
    return (*parts, f"{count(int(line['tried_epochs']), 'epoch')} each")
