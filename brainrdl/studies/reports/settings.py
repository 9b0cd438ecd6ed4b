"""The settings that were tried and chosen, as tables: of a paper's study, of a fit, and of the heads of a card."""

import json
import math
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import pandas as pd

from brainrdl.studies.brain.choices import CHOICE_SEED
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
from brainrdl.studies.reports.page import Cell, Table
from brainrdl.studies.reports.paper_files import StudyFiles
from brainrdl.studies.reports.words import as_text, count, duration, flat, labels_cell, number, records

DIGITS = 3
"""Decimals of scores."""

_UNTRIED = "the only candidate, not tried"
_MAX_TRIES = 400


def settings_table(study: StudyFiles, networks: pd.DataFrame) -> pd.DataFrame:
    """Gather what each method was trained with, for the lowest seed's run; `networks` are its `distinct_networks`.

    A row per number of labels (NaN: all) and method; NaN or empty where something does not apply.
    """
    settings = study.settings or {}
    # all seeds of a method have the same settings
    first = in_order(networks.sort_values("seed", kind="stable"), study.arms).drop_duplicates([*METHOD, "labels"])
    first = first[first["row"].isin(list(settings))].sort_values("labels", kind="stable", na_position="first")
    return pd.DataFrame([_trained_with(study, run, settings[run["row"]]) for _, run in first.iterrows()])


def settings_cells(table: pd.DataFrame, arms: ArmWords = PAPER_ARMS) -> Table:
    """Print what `settings_table` says, with updates where students have few labels."""
    few = bool(table["labels"].notna().any())
    rows: list[dict[str, Cell]] = []
    for line in records(table):
        origin = [f"as {arm_name(line['inherited_from'], arms)}"] if line["inherited_from"] else []
        # a factor of 1 changes nothing
        times = " ".join([*origin, *([f"× {line['factor']:g}"] if line["factor"] != 1 else [])])
        hints = [f"{line['hint_epochs']} of them for the hint"] if line["hint_epochs"] else []
        row: dict[str, Cell] = {"method": line["method"], "labels": labels_cell(line["labels"]) if few else ""}
        row["learning rate"] = (f"{line['learning_rate']:g}", *([times] if times else []))
        row |= {"weight decay": (f"{line['weight_decay']:g}", *origin), "α₀": _alpha_cell(line)}
        row |= {"selected among": _chosen_cell(line), "epochs": (f"{line['epochs']}", *hints)}
        rows.append(row | {"updates": "" if math.isnan(line["labels"]) else f"{line['updates']:,}"})
    notes = [
        "Learning rate and weight decay at the start, of the first seed's run; “as” names the method whose "
        "hyperparameters it shares."
    ]
    if table["relative"].any():
        notes.append(
            "RDL's α₀ is relative: in each layer it is divided by the squared mean distance of the teacher's RDM; the "
            "resulting α in the first epoch is given below it."
        )
    if (table["tried_epochs"] < table["epochs"]).any():
        notes.append("Candidates were trained for fewer epochs than the runs.")
    if few:
        notes.append("With few labels an epoch is a fraction of the updates, whose number is the same in every run.")
    return Table.of("Hyperparameters of each method", rows, " ".join(notes), optional=("labels", "updates"))


def tries_tables(tries: pd.DataFrame, arms: ArmWords = PAPER_ARMS) -> Iterator[Table]:
    """Print what was chosen on validation; then all candidates, folded: `tries` are the rows of ``tries.csv``."""
    # stable: candidates in the order of trying within a method
    ordered = in_order(tries.sort_values("try", kind="stable"), arms)
    ordered = ordered.sort_values("labels", kind="stable", na_position="first")
    candidates = ordered.groupby(["arm", "teacher", "labels"], dropna=False)["try"].transform("size")
    few = bool(ordered["labels"].notna().any())
    rows: list[dict[str, Cell]] = []
    tried = False
    for line, n_candidates in zip(records(ordered), candidates, strict=True):
        error, loss = number(line["validation_error"]), number(line["validation_loss"], 4)
        # without an error a single candidate was not tried, one of several failed
        if not error:
            error, loss = "failed" if n_candidates > 1 else _UNTRIED, ""
        tried |= error != _UNTRIED
        row: dict[str, Cell] = {"method": method_name(str(line["arm"]), str(line["teacher"]), arms)}
        row |= {"labels": labels_cell(line["labels"]) if few else "", "setting": format_setting(str(line["setting"]))}
        row |= {"validation error, %": error, "validation loss": loss}
        rows.append(row | {"selected": "✓" if line["chosen"] else "", "time": duration(line["seconds"])})
    every = Table.of(f"All {count(len(rows), 'candidate')}", rows, optional=["labels"], folded=True)
    # all but the columns "selected" and "time"
    chosen = [cells[:-2] for cells in every.rows if cells[-2]]
    if tried:
        note = (
            "Selected by validation error, then validation loss; the test set was not used. Each selection was made "
            "once, for all seeds; where a kind of teacher is named, it was made with that teacher, for the others too."
        )
        yield Table("Hyperparameters selected on validation images", every.head[:-2], chosen, note)
    else:
        note = "Nothing was selected: each method had one candidate."
        yield Table("Hyperparameters that were not selected", every.head[:-2], chosen, note)
    yield every


def choice_tables(choices: pd.DataFrame, fitted_study: str, scheme: str) -> Iterator[Table]:
    """Print what a fit chose in inner folds: in the primary setting, named by study and scheme; in the others, folded.

    Then all tries of all settings, folded. `choices` are the rows of ``choices.csv``.
    """
    by = ["fitted_study", "scheme", "split", "arm", "seed", "layer", "tried"]
    # an arm chooses within each outer split for itself, and a head for each seed's network
    means = _over_inner_splits(choices, by)
    note = (
        "Selected by the mean score on the held-out stimuli of inner folds, which contain only training stimuli of "
        "the outer split. RDL's hyperparameters were selected with one seed's networks, for all seeds and for its "
        "controls."
    )
    for (fitted, of_scheme), part in means[means["chosen"]].groupby(["fitted_study", "scheme"], sort=False):
        primary = (fitted, of_scheme) == (fitted_study, scheme)
        caption = f"Selected when fitted to {fitted}, {SCHEMES.get(str(of_scheme), str(of_scheme))}"
        columns = ("arm", "seed", "split", "layer", "setting", "inner score", "task error, %")
        cells = []
        for line in records(part):
            arm, *others = _choice_cells(line)
            cells.append((arm, _chosen_with(line), *others, number(line["task_error"])))
        yield Table(caption, columns, cells, note if primary else "", folded=not primary)
    # over outer splits, each of which may have chosen another setting
    counted = means.groupby(["fitted_study", "scheme", "arm", "layer", "tried"], sort=False).agg(
        value=("value", "mean"), task_error=("task_error", "mean"), chosen=("chosen", "sum"), n=("split", "size")
    )
    rows = [
        (
            fit_arm_name(line["arm"]),
            f"{line['fitted_study']}, {SCHEMES.get(line['scheme'], line['scheme'])}",
            *(line["layer"], line["tried"], number(line["value"], DIGITS), number(line["task_error"])),
            f"{line['chosen']} of {line['n']}",
        )
        for line in records(counted.reset_index())
    ]
    head = ("arm", "fitted to", "layer", "setting", "inner score", "task error, %", "selected, splits × seeds")
    note = "Means over inner and outer splits and seeds; an empty score is of a setting whose training diverged."
    # a page of ten thousand rows does not open on a telephone
    if len(rows) > _MAX_TRIES:
        note += f" The first {_MAX_TRIES} of them; all are in choices.csv."
    yield Table(f"All {count(len(rows), 'setting')} that were tried", head, rows[:_MAX_TRIES], note, folded=True)


def head_choice_table(choices: pd.DataFrame) -> Table:
    """Print what the heads of a card chose in inner folds; `choices` are those of `Card`."""
    # heads have no task
    means = _over_inner_splits(choices.assign(task_error=math.nan), ["split", "arm", "layer", "tried"])
    rows = [_choice_cells(line) for line in records(means[means["chosen"]])]
    note = (
        "Selected by the mean score on the held-out stimuli of inner folds, within the training stimuli of the split."
    )
    return Table(
        "Hyperparameters selected for the heads",
        ("head", "split", "layer", "setting", "inner score"),
        rows,
        note,
        folded=True,
    )


def format_setting(setting: str) -> str:
    """Read an arm's setting out, a JSON object of numbers; a ValueError if it is none."""
    try:
        knobs = json.loads(setting)
    except json.JSONDecodeError:
        knobs = None
    if not isinstance(knobs, dict):
        raise ValueError(f'a setting is a JSON object, such as {{"alpha0": 2.0}}, got {setting!r}')
    labels = {name: "α₀" if name == "alpha0" else name.replace("_", " ") for name in knobs}
    values = {name: f"{value:g}" if isinstance(value, float | int) else value for name, value in knobs.items()}
    return ", ".join(f"{labels[name]} {values[name]}" for name in knobs) or "as in the recipe"


def _over_inner_splits(choices: pd.DataFrame, by: list[str]) -> pd.DataFrame:
    """Average tries over inner splits: a choice is one of settings, not of splits; NaN where training diverged."""
    tries = choices.assign(tried=[_format_try(line) for line in records(choices)])
    # a choice that serves all seeds may name none
    means = tries.groupby(by, sort=False, dropna=False).agg(
        value=("value", lambda values: values.mean(skipna=False)),
        task_error=("task_error", "mean"),
        chosen=("chosen", "any"),
    )
    return means.reset_index()


def _chosen_with(line: Mapping[str, Any]) -> str:
    """Name the seed of the networks with which a setting was chosen; RDL's serves all seeds."""
    if line["arm"] == "rdl":
        return f"{CHOICE_SEED}, for all"
    return f"{line['seed']:.0f}" if _is_known(line["seed"]) else ""


def _choice_cells(line: Mapping[str, Any]) -> tuple[str, ...]:
    value = number(line["value"], DIGITS)
    return fit_arm_name(str(line["arm"])), str(line["split"]), str(line["layer"]), line["tried"], value


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
    row: dict[str, Any] = {"method": method_name(arm, str(run["teacher"]), study.arms), "arm": arm}
    row["labels"] = run["labels"]
    row["learning_rate"] = factor * setting.get("learning_rate", recipe.get("learning_rate", np.nan))
    row |= {"factor": factor, "weight_decay": setting.get("weight_decay", recipe.get("weight_decay", np.nan))}
    # baselines and teachers chose learning rate and weight decay for themselves
    chose = arm == "teacher" or arm in study.baselines.values()
    inherited = "" if chose else baseline_of(arm, study.baselines) or ""
    row |= {"inherited_from": inherited, "alpha0": setting.get("alpha0", np.nan)}
    row |= {"alphas": _first_alphas(history), "relative": arm == "rdl" and bool(recipe.get("relative", False))}
    row |= {"n_tried": int(trained.sum()), "tried_teacher": "", "tried_labels": np.nan, "tried_epochs": np.nan}
    if trained.any():
        row |= {"tried_teacher": str(tried["teacher"].iloc[0]), "tried_labels": tried["labels"].iloc[0]}
        row["tried_epochs"] = min(run["epochs"], recipe.get("choice_epochs") or run["epochs"])
    # epochs without a task
    hints = int(history["task_error"].isna().sum()) if arm == "hints" and history is not None else 0
    return row | {"epochs": run["epochs"], "hint_epochs": hints, "updates": run["updates"]}


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
    """Read what the first epoch that had any α made of it, by layer."""
    if history is None:
        return {}
    alphas = history.filter(regex="^alpha/").dropna(how="all")
    return {} if alphas.empty else {str(k).removeprefix("alpha/"): float(v) for k, v in alphas.iloc[0].dropna().items()}


def _alpha_cell(line: Mapping[str, Any]) -> tuple[str, ...]:
    if math.isnan(line["alpha0"]):
        return ("",)
    if not line["relative"]:  # α₀ in every layer
        return (f"{line['alpha0']:g}",)
    return f"{line['alpha0']:g}, relative", *(f"{layer} {alpha:.3g}" for layer, alpha in line["alphas"].items())


def _chosen_cell(line: Mapping[str, Any]) -> tuple[str, ...]:
    if not line["n_tried"]:
        return ("not tried",)
    parts = [count(line["n_tried"], "candidate")]
    if line["tried_teacher"]:
        parts.append(f"with {teacher_name(line['tried_teacher'])}")
    if not math.isnan(line["tried_labels"]):
        parts.append(f"at {line['tried_labels']:,.0f} labels")
    return (*parts, f"{count(int(line['tried_epochs']), 'epoch')} each")
