"""The figures of a fit's page, from what it leaves behind."""

import json
from collections.abc import Mapping

import numpy as np
import pandas as pd
import xarray as xr
from matplotlib.figure import Figure

from brainrdl.known import METHODS
from brainrdl.plots.curves import learning_curves
from brainrdl.plots.dots import score_dots
from brainrdl.plots.errors import trade_off
from brainrdl.plots.mds import plot_mds
from brainrdl.plots.rdms import plot_rdms
from brainrdl.rdms.labelled import condense, label_rdms, select_stimuli
from brainrdl.rdms.ranks import ranks_of
from brainrdl.rdms.rounding import is_constant
from brainrdl.studies.reports.fit_files import FitFiles, in_setting
from brainrdl.studies.reports.methods import SCORES, fit_arm_family, fit_arm_name, order_fit_arms, sort_fit_arms

_LOSSES = {"task_loss": "task loss (training)", "rdm_loss": "RDM loss (training)"}
_MOST_STYLES = 21  # that can be told apart
# the primary contrast and its controls have the first colours, whichever arms a study left out
_PALETTE = ("rdl", "rdl_category", "rdl_within_shuffle", "rdl_global_shuffle", "rdl_early_visual", "task_only")


def score_figure(study: FitFiles) -> Figure:
    """Draw all arms' scores in the primary setting, and in that of the study that was fitted."""
    primary = study.primary
    inside = primary._replace(scored_study=primary.fitted_study)
    parts = []
    # the same setting twice where a study is scored in itself
    for setting in dict.fromkeys((primary, inside)):
        same = setting.scored_study == setting.fitted_study
        where = f"scored in the fitted study, {setting.scored_study}" if same else f"scored in {setting.scored_study}"
        parts.append(in_setting(study.summary, setting).assign(where=where))
    table = pd.concat(parts, ignore_index=True)
    return score_dots(
        sort_fit_arms(table[table["score"].isin(SCORES)]),
        scores=SCORES,
        arms={arm: fit_arm_name(arm) for arm in table["arm"]},
        groups={arm: fit_arm_family(arm) for arm in table["arm"]},
        series="where",
        label=METHODS.get(primary.method, primary.method),
    )


def trade_off_figure(study: FitFiles) -> Figure | None:
    """Draw the brain score in inner folds against the task error; None with one weight, or without a task."""
    tries = alpha_tries(study)
    if tries is None or len(set(tries["alpha0"])) < 2:
        return None
    several = len(set(tries["updates"])) > 1
    lines = {}
    # the number of updates is NaN where a study did not choose it
    for (layer, updates), line in tries.groupby(["layer", "updates"], sort=False, dropna=False):
        lines[f"{layer}, {updates:,.0f} updates" if several else str(layer)] = line
    if len(lines) > 21:  # more than can be told apart: those that were chosen
        lines = {name: line for name, line in lines.items() if (line["n_chosen"] > 0).any()}
    method = METHODS.get(study.primary.method, study.primary.method)
    return trade_off(lines, label=f"{method} on inner held-out pairs")


def alpha_tries(study: FitFiles) -> pd.DataFrame | None:
    """Average the tries of RDL, in the primary setting's fits, over inner and outer splits; None without a task error.

    Columns ``layer, updates, alpha0, value, task_error, n_chosen``, the last one the number of outer splits that chose
    it.
    """
    if study.choices is None:
        return None
    tries = study.choices[
        (study.choices["arm"] == study.pair[0])
        & (study.choices["scheme"] == study.primary.scheme)
        & (study.choices["fitted_study"] == study.primary.fitted_study)
        & study.choices[["alpha0", "task_error", "value"]].notna().all(axis=1)
    ]
    if tries.empty:
        return None
    by = ["layer", "updates", "alpha0"]
    table = tries.groupby(by, dropna=False)[["value", "task_error"]].mean()
    # splits, not rows: a choice stands in each of its inner splits
    table["n_chosen"] = tries[tries["chosen"]].groupby(by, dropna=False)["split"].nunique()
    return table.fillna({"n_chosen": 0}).reset_index()


def curve_figure(study: FitFiles) -> Figure | None:
    """Draw the course of the final fits in the primary setting, and what was scored on the way; None without any.

    Losses of the final fits where they were kept along the way; beside them the inner folds' score and task error at
    each length that was tried with the α that was chosen, and the final fits' on held-out stimuli and test images.
    """
    training, inner, ends = training_curves(study), inner_curves(study), _at_the_end(study)
    runs = {fit_arm_name(arm): frames for arm, frames in training.items()}
    if inner:
        # the ends belong to the curves: without them they would be dots alone
        runs |= {f"{fit_arm_name(study.pair[0])}, inner folds": inner}
        runs |= {f"{fit_arm_name(arm)}, held out": frames for arm, frames in ends.items()}
    every = [frame for frames in runs.values() for frame in frames]
    label = METHODS.get(study.primary.method, study.primary.method)
    names = {**_LOSSES, "score": f"{label} (inner, held out)", "task_error": "task error (%)"}
    columns = {column: name for column, name in names.items() if any(_has(frame, column) for frame in every)}
    if not columns:
        return None
    whole = {name: [frame.reindex(columns=["update", *columns]) for frame in frames] for name, frames in runs.items()}
    palette = [fit_arm_name(arm) for arm in dict.fromkeys([*_PALETTE, *training])]
    return learning_curves(whole, columns=columns, palette=list(dict.fromkeys([*palette, *whole]))[:_MOST_STYLES])


def training_curves(study: FitFiles) -> dict[str, list[pd.DataFrame]]:
    """List the histories of the primary setting's final fits, by arm, where some have more than their end."""
    if study.histories is None:
        return {}
    histories = study.histories[
        (study.histories["scheme"] == study.primary.scheme)
        & study.histories["fitted_study"].isin((study.primary.fitted_study, ""))
    ]
    by = ["arm", "split", "seed"]
    # one dot a training is no curve
    if histories.empty or histories.groupby(by).size().max() == 1:
        return {}
    return {
        arm: [run for _, run in histories[histories["arm"] == arm].groupby(["split", "seed"], sort=False)]
        for arm in order_fit_arms(histories["arm"])
    }


def inner_curves(study: FitFiles) -> list[pd.DataFrame]:
    """Average the tries with the chosen α over inner folds: a frame per split, ``update, score, task_error``."""
    frames = []
    for _, tries in _tries_of_splits(study):
        chosen = tries.loc[tries["chosen"], ["layer", "alpha0"]].iloc[0]
        along = tries[(tries["layer"] == chosen["layer"]) & (tries["alpha0"] == chosen["alpha0"])]
        means = along.groupby("updates")[["value", "task_error"]].mean().reset_index()
        frames.append(means.rename(columns={"updates": "update", "value": "score"}))
    # a single length is no curve
    return frames if any(len(frame) > 1 for frame in frames) else []


def _tries_of_splits(study: FitFiles) -> list[tuple[str, pd.DataFrame]]:
    """The tries of RDL in the primary setting's fits by split, where lengths were among them."""
    if study.choices is None:
        return []
    tries = study.choices[
        (study.choices["arm"] == study.pair[0])
        & (study.choices["scheme"] == study.primary.scheme)
        & (study.choices["fitted_study"] == study.primary.fitted_study)
        & study.choices[["alpha0", "updates"]].notna().all(axis=1)
    ]
    return [(str(split), part) for split, part in tries.groupby("split", sort=False) if part["chosen"].any()]


def _at_the_end(study: FitFiles) -> dict[str, list[pd.DataFrame]]:
    """Final fits on held-out stimuli of the fitted study and on test images, by arm: a frame of one row per split."""
    lengths = {split: tries.loc[tries["chosen"], "updates"].iloc[0] for split, tries in _tries_of_splits(study)}
    # inner folds are scored in the study that is fitted
    inside = study.primary._replace(scored_study=study.primary.fitted_study)
    scores = in_setting(study.scores, inside)
    scores = scores[(scores["score"] == "raw") & scores["split"].isin(list(lengths))]
    found: dict[str, list[pd.DataFrame]] = {}
    for arm in dict.fromkeys(("start", "task_only", study.pair[0])):
        means = scores[scores["arm"] == arm].groupby("split", sort=False)[["value", "task_error"]].mean()
        for split, row in means.iterrows():
            end = {"update": 0 if arm == "start" else lengths[str(split)], "score": row["value"]}
            found.setdefault(arm, []).append(pd.DataFrame([end | {"task_error": row["task_error"]}]))
    return found


def _has(frame: pd.DataFrame, column: str) -> bool:
    return column in frame and bool(frame[column].notna().any())


def rdm_figure(rdms: xr.DataArray) -> Figure:
    """Draw RDMs side by side: the brain's, and the network's before and after the fit, as in ``rdms.nc``."""
    # in percentiles, since the scales of brains and networks do not compare
    return plot_rdms(_titled(rdms), groups="category" if "category" in rdms.coords else None, rank=True)


def mds_figure(rdms: xr.DataArray, thumbnails: Mapping[str, np.ndarray] | None) -> tuple[Figure | None, list[str]]:
    """Draw the stimuli as their RDMs arrange them, as `thumbnails` where there are any; None where none can be drawn.

    Also returns the RDMs of which there is no map: those with pairs that were not measured, or alike.
    """
    ordered = _titled(rdms)
    values, names = condense(ordered), ordered["rdm"].values.tolist()
    complete = [k for k, row in enumerate(values) if not (np.isnan(row).any() or is_constant(row))]
    left_out = [str(name) for k, name in enumerate(names) if k not in complete]
    if not complete:
        return None, left_out
    # percentiles, since the scales of brains and networks do not compare
    ranks = np.stack([ranks_of(row) for row in values[complete]])
    ids = ordered["stimulus"].values.tolist()
    # an RDM of percentiles has no metric
    made = label_rdms(ranks / values.shape[1], ids, [names[k] for k in complete], "undeclared")
    groups = None
    if "category" in ordered.coords:
        made, groups = made.assign_coords(category=("stimulus", ordered["category"].values)), "category"
    return plot_mds(made, images=thumbnails, groups=groups), left_out


def held_out_of(rdms: xr.DataArray) -> list[str]:
    """List the stimuli that the network "after" was not fitted to: a JSON list, or ids with commas between."""
    # netCDF attributes hold no lists of text of one form: both ways of writing them are in use
    text = str(rdms.attrs.get("held_out", ""))
    found = json.loads(text) if text.startswith("[") else text.split(",")
    return [str(stimulus).strip() for stimulus in found if str(stimulus).strip()]


def _titled(rdms: xr.DataArray) -> xr.DataArray:
    """The brain first, then before and after; stimuli by category; labels that name which is which."""
    what = [str(value) for value in rdms["what"].values]
    order = sorted(range(len(what)), key=lambda k: ("brain", "before", "after").index(what[k]))
    titles = []
    for k in order:
        # a label "before: task_only" is named twice otherwise
        name = str(rdms["rdm"].values[k]).removeprefix(f"{what[k]}: ")
        titles.append(f"{what[k]}: {fit_arm_name(name)}" if name != what[k] else name)
    found = rdms.isel(rdm=order).assign_coords(rdm=titles)
    if "category" not in found.coords:
        return found
    # categories stand in the order of their first stimulus
    codes, _ = pd.factorize(found["category"].values.astype(str))
    return select_stimuli(found, found["stimulus"].values[codes.argsort(kind="stable")].tolist())
