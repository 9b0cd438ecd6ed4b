"""Names: what reports call arms, teachers, scores and schemes of splits, and in which order they list them."""

from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

import pandas as pd

from brainrdl.studies.paper import published as paper

METHOD = ("arm", "teacher")
"""The columns that tell a method from others: an arm, and the kind of teacher behind it (empty where there is none)."""

ARM_NAMES: Mapping[str, str] = {
    "plain": "plain",
    "plain_readout": "plain with readout",
    "plain_narrow": "plain, ten last units",
    "teacher": "teacher",
    "finetuning": "fine-tuning",
    "finetuning_replaced": "fine-tuning, new last layer",
    "deep_supervision": "deep supervision",
    "hints": "hints",
    "rdl": "RDL",
    "rdl_corr": "scale-free RDL",
    "kd": "KD",
    "rkd": "RKD",
    "sp": "SP",
    "cka": "CKA",
}
"""Names of the arms, in the order in which reports list them."""

ABOUT_ARMS: Mapping[str, str] = {
    "plain": "The network trained on the task alone.",
    "plain_readout": "The same with RDL's additional linear readout: RDL's paired control.",
    "plain_narrow": "The fine-tuned network trained from nothing: the teacher's few last units and a readout on them. "
    "Shows what these few units cost, apart from where the weights come from.",
    "teacher": "The teacher itself.",
    "finetuning": "Starts with the teacher's weights, then trained as plain.",
    "finetuning_replaced": "The same, with a new last layer of one unit per class.",
    "deep_supervision": "Linear classifiers on inner layers add to the loss.",
    "hints": "First trained to predict an inner layer of the teacher linearly, then on the task.",
    "rdl": "Representational distance learning: the mean squared difference of student's and teacher's RDMs adds to "
    "the loss, layer by layer.",
    "rdl_corr": "1 − Pearson r in place of RDL's squared difference, between RDMs of Euclidean distances over all "
    "pairs, α alike in every layer, unless the recipe says otherwise: it asks for the geometry, not "
    "for its scale.",
    "kd": "Knowledge distillation: the teacher's softened outputs.",
    "rkd": "Relational knowledge distillation: distances in units of their mean.",
    "sp": "Similarity-preserving distillation: normalised inner products within a batch.",
    "cka": "Centred kernel alignment between student and teacher.",
}
"""Sentences on the arms."""

TEACHER_NAMES: Mapping[str, str] = {
    "paper": "the paper's teacher",
    "clean": "the clean teacher",
    "cifar10": "the CIFAR-10 teacher",
    "labels": "the teacher trained on the labelled images alone",
}
"""Names of the kinds of teacher, in the order in which reports list them."""

ABOUT_TEACHERS: Mapping[str, str] = {
    "paper": "As in the paper, trained on other images than its students: the manifest names them.",
    "clean": "Trained on deformations of the student's own training images only. Settings that were chosen "
    "were chosen with it.",
    "cifar10": "Trained on CIFAR-10: other images and other classes than its students'. Settings that were chosen "
    "were chosen with it.",
    "labels": "Trained on the labelled images alone, so that it knows no label that its students lack.",
}
"""Sentences on the kinds of teacher."""


class _Arm(NamedTuple):
    label: str
    family: str
    about: str


_FIT_ARMS: Mapping[str, _Arm] = {
    "pixels": _Arm("pixels", "as they are", "Distances between the images' pixels."),
    "animacy": _Arm("animacy", "as they are", "Animate or not: 0 within, 1 between."),
    "four_category": _Arm("four categories", "as they are", "Faces, bodies, natural and artificial objects."),
    "silhouette": _Arm("silhouette", "as they are", "Distances between the objects' outlines."),
    "hmax": _Arm("HMAX", "as they are", "A hand-made model of the ventral stream."),
    "mixture": _Arm(
        "mixture of controls",
        "as they are",
        "The non-negative mixture of the control RDMs, fitted to the training stimuli.",
    ),
    "monkey_it": _Arm("monkey IT", "as they are", "Recordings in monkeys who saw the same images."),
    "behaviour": _Arm("behaviour", "as they are", "People's judgements of similarity."),
    "untrained": _Arm("untrained", "networks", "The network with random weights."),
    "task_only": _Arm("task only", "networks", "The network trained on the task alone."),
    "frrsa": _Arm(
        "FR-RSA", "heads", "A non-negative weight for each of the task network's features, fitted to the brain."
    ),
    "gains": _Arm("channel gains", "heads", "A non-negative gain for each of its channels, fitted to the brain."),
    "low_rank": _Arm("low-rank readout", "heads", "A linear map of its features of low rank, fitted to the brain."),
    "readout": _Arm("full readout", "heads", "Any linear map of its features, fitted to the brain."),
    "rdl": _Arm("RDL", "RDL", "The network trained on the task and, at once, to have the brain's RDM."),
    "rdl_category": _Arm(
        "RDL, category target",
        "RDL's controls",
        "RDL with each block of categories of the brain's RDM replaced by its mean over training stimuli.",
    ),
    "rdl_within_shuffle": _Arm(
        "RDL, shuffled within categories",
        "RDL's controls",
        "RDL with the brain's RDM of the training stimuli permuted within categories.",
    ),
    "rdl_global_shuffle": _Arm(
        "RDL, shuffled", "RDL's controls", "RDL with the brain's RDM of the training stimuli permuted."
    ),
    "rdl_early_visual": _Arm(
        "RDL, early visual target", "RDL's controls", "RDL with the RDM of early visual cortex as its target."
    ),
}

SCORES: Mapping[str, str] = {"raw": "raw", "partial": "partial", "within_category": "within-category"}
"""Names of the scores, in the order in which reports list them."""

ABOUT_SCORES: Mapping[str, str] = {
    "raw": "the comparison of model and brain RDM as they are",
    "partial": "the same after the control RDMs (such as animacy, categories, silhouette, pixels) are regressed out of "
    "both sides",
    "within_category": "the same after the mean of each block of categories is subtracted on both sides, so that only "
    "differences between stimuli of the same categories are left",
}
"""Sentences on the scores."""

SCHEMES: Mapping[str, str] = {
    "stratified": "stratified folds",
    "leave_one_category_out": "leave one category out",
    "random": "random splits",
}
"""Names of the schemes of splits, in the order in which reports list them."""

COMPARISONS: Mapping[str, str] = {
    "corr": "Pearson r",
    "spearman": "Spearman's ρ",
    "cosine": "cosine",
    "cosine_cov": "whitened cosine",
    "corr_cov": "whitened Pearson r",
    "rho-a": "ρ-a",
    "tau-a": "Kendall's τ-a",
    "tau-b": "Kendall's τ-b",
    "mse": "− mean squared difference",
}
"""Names of the comparisons of RDMs."""


def arm_name(arm: str) -> str:
    """Name an arm of the paper's studies; one that is not the package's own keeps its name, without underscores."""
    return ARM_NAMES.get(arm, arm.replace("_", " "))


def method_name(arm: str, teacher: str) -> str:
    """Name a method: RDL (clean), plain."""
    return f"{arm_name(arm)} ({teacher})" if teacher else arm_name(arm)


def teacher_name(kind: str) -> str:
    """Name a kind of teacher; an unknown one keeps its name."""
    return TEACHER_NAMES.get(kind, kind)


def baseline_of(arm: str, baselines: Mapping[str, str]) -> str | None:
    """Name the arm that an arm is compared with, None for ``plain``; `baselines` are those that are not ``plain``."""
    return None if arm == "plain" else baselines.get(arm, "plain")


def families(arms: Sequence[str]) -> list[tuple[str, ...]]:
    """Part arms into groups small enough to be shown together, each in the order of a report.

    The paper's methods (and variants of them); then plain and RDL with the arms that the paper does not have, where
    there are any.
    """
    known = [*ARM_NAMES, *(arm for arm in dict.fromkeys(arms) if arm not in ARM_NAMES)]
    present = [arm for arm in known if arm in arms]
    of_paper = {*paper.ARMS, "plain_readout", "plain_narrow", "finetuning_replaced"}
    further = [arm for arm in present if arm not in of_paper]
    groups = [tuple(arm for arm in present if arm in of_paper)]
    if further:
        groups.append(tuple(arm for arm in present if arm in ("plain", "plain_readout", "rdl", *further)))
    return [group for group in groups if group]


def in_order(frame: pd.DataFrame) -> pd.DataFrame:
    """Sort rows by method (columns ``arm, teacher``), as a report lists them; unknown ones last, as they first appear.

    Rows of one method keep their order.
    """

    def places(values: pd.Series) -> pd.Series:
        order = list(dict.fromkeys([*(ARM_NAMES if values.name == "arm" else ("", *TEACHER_NAMES)), *values]))
        return values.map(order.index)

    return frame.sort_values(list(METHOD), key=places, kind="stable")


def kinds_of(runs: pd.DataFrame) -> list[str]:
    """List the kinds of teacher behind runs (column ``teacher``), in the order of a report."""
    return [str(kind) for kind in dict.fromkeys(in_order(runs.assign(arm=""))["teacher"]) if kind]


def runs_of(runs: pd.DataFrame, method: tuple[str, str]) -> pd.DataFrame:
    """Select the runs of a method, an arm and a kind of teacher."""
    return runs[(runs["arm"] == method[0]) & (runs["teacher"] == method[1])]


def with_labels(runs: pd.DataFrame, labels: int | None) -> pd.DataFrame:
    """Select the runs with a number of labelled images; None: all are labelled, for which the column has NaN."""
    return runs[runs["labels"].isna() if labels is None else runs["labels"] == labels]


def distinct_networks(results: pd.DataFrame, *, one_teacher: bool) -> pd.DataFrame:
    """Leave out runs that died and, where one teacher serves all seeds, its repetitions in the rows of further seeds.

    Methods come in the order of a report, seeds ascending.
    """
    kept = results[results["test_error"].notna()].sort_values("seed", kind="stable")
    if one_teacher:
        # a mean over its rows would count one network several times
        repeated = (kept["arm"] == "teacher") & kept.duplicated(["arm", "teacher", "labels"])
        kept = kept[~repeated]
    return in_order(kept)


def fit_arm_name(arm: str) -> str:
    """Name an arm of a fit, or a row of a card; a control RDM of the study's own keeps its name."""
    return _FIT_ARMS[arm].label if arm in _FIT_ARMS else arm


def about_fit_arm(arm: str) -> str:
    """Say what an arm of a fit is; one that is not the package's own is a control RDM of the study's."""
    return _FIT_ARMS[arm].about if arm in _FIT_ARMS else "A control RDM that the study's file names."


def fit_arm_family(arm: str) -> str:
    """Name the kind of arm, by which a page parts its lists."""
    return _FIT_ARMS[arm].family if arm in _FIT_ARMS else "as they are"


def order_fit_arms(arms: Iterable[str]) -> list[str]:
    """Sort arms of a fit as a page lists them, each once; control RDMs of the study's own stand with the others."""
    known = list(_FIT_ARMS)
    before_mixture = known.index("mixture") - 0.5  # which is mixed of them
    return sorted(dict.fromkeys(arms), key=lambda arm: known.index(arm) if arm in _FIT_ARMS else before_mixture)


def sort_fit_arms(table: pd.DataFrame) -> pd.DataFrame:
    """Bring rows into the order in which a page lists their arms (column ``arm``); rows of one arm keep theirs."""
    order = order_fit_arms(table["arm"])
    places = pd.Series([order.index(arm) for arm in table["arm"]], table.index, dtype=int)
    return table.loc[places.sort_values(kind="stable").index]
