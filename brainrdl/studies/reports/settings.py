"""What each method was trained with, and where each of its settings was chosen."""

import json
from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from brainrdl.studies.reports.methods import METHOD, baseline_of, in_order, method_name
from brainrdl.studies.reports.paper_files import StudyFiles


def settings_table(study: StudyFiles, networks: pd.DataFrame) -> pd.DataFrame:
    """What each method was trained with.

    Parameters
    ----------
    study : StudyFiles
        The study, with settings.
    networks : DataFrame
        Its runs, as `distinct_networks` leaves them.

    Returns
    -------
    DataFrame
        One row per number of labels (NaN: all) and method, about its lowest seed's run: ``labels, arm, method``;
        ``learning_rate`` (times its factor), ``factor``, ``weight_decay``; ``inherited_from``: the arm that those two
        were chosen for, empty for the arm itself; ``alpha0``; ``alphas``: what the first epoch that had any made of
        it, by layer; ``relative``: whether α₀ was divided by the teacher's squared mean distance in each layer;
        ``n_tried``: candidates trained on validation, ``tried_teacher, tried_labels, tried_epochs``: with which kind
        of teacher, how many labels and how many epochs; ``epochs``; ``hint_epochs``: how many of them had no task;
        ``updates``. NaN or empty where it does not apply.

    Examples
    --------
    >>> import pandas as pd
    >>> from brainrdl.studies.reports.settings import settings_table
    >>> from brainrdl.studies.reports.paper_files import StudyFiles
    >>> run = {"row": "a", "arm": "plain", "teacher": "", "labels": float("nan"), "seed": 0, "epochs": 20}
    >>> runs = pd.DataFrame([run | {"updates": 10_000}])
    >>> recipe = {"recipe": {"learning_rate": 0.05, "weight_decay": 0.0}}
    >>> study = StudyFiles(runs, {}, 0, {"study": "mnist", "configuration": recipe}, settings={"a": {}})
    >>> settings_table(study, runs)[["learning_rate", "epochs"]].values.tolist()
    [[0.05, 20.0]]
    """
    settings = study.settings or {}
    first = in_order(networks.sort_values("seed", kind="stable")).drop_duplicates([*METHOD, "labels"])
    first = first[first["row"].isin(list(settings))].sort_values("labels", kind="stable", na_position="first")
    return pd.DataFrame([_line(study, run, settings[run["row"]]) for _, run in first.iterrows()])


def _line(study: StudyFiles, run: "pd.Series[Any]", setting: Mapping[str, float]) -> dict[str, Any]:
    arm, recipe = str(run["arm"]), study.recipe
    history = None if study.histories is None else study.histories[study.histories["row"] == run["row"]]
    tried = _tried(study.tries, run, setting)
    trained = tried["validation_error"].notna() | (tried["seconds"].fillna(0) > 0)
    factor = setting.get("learning_rate_factor", 1.0)
    return {
        "labels": run["labels"],
        "arm": arm,
        "method": method_name(arm, str(run["teacher"])),
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
    """Baselines and teachers have a learning rate and a weight decay of their own."""
    baseline = baseline_of(arm, baselines)
    return "" if baseline is None or arm == "teacher" or arm in baselines.values() else baseline


def _tried(tries: pd.DataFrame | None, run: "pd.Series[Any]", setting: Mapping[str, float]) -> pd.DataFrame:
    """The candidates among which a run's setting was chosen."""
    if tries is None:
        return pd.DataFrame(columns=["teacher", "labels", "validation_error", "seconds"], dtype=float)
    here: pd.DataFrame = tries[tries["arm"] == run["arm"]]
    if run["arm"] == "teacher":
        here = here[here["teacher"] == run["teacher"]]
    here = here[here["labels"].isna() == pd.isna(run["labels"])]
    chosen = here[here["chosen"]]
    fitting = [json.loads(own).items() <= setting.items() for own in chosen["setting"]]
    at = chosen.loc[fitting, "labels"]
    # a choice of its own number of labels, where there is one; otherwise one serves all numbers
    own = at[at == run["labels"]]
    return here[here["labels"].isin((own if len(own) else at).head(1))]


def _first_alphas(history: pd.DataFrame | None) -> dict[str, float]:
    if history is None:
        return {}
    alphas = history[[column for column in history if str(column).startswith("alpha/")]].dropna(how="all")
    return {} if alphas.empty else {str(k).removeprefix("alpha/"): float(v) for k, v in alphas.iloc[0].dropna().items()}
