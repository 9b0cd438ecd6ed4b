"""Names: what reports call arms, teachers, scores and schemes of splits, and in which order they list them."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import pandas as pd

from brainrdl.studies.brain import arms as brain_arms
from brainrdl.studies.paper import arms as paper_arms

METHOD = ("arm", "teacher")
"""The columns that tell a method from others: an arm, and the kind of teacher behind it (empty where there is none)."""


class Words(NamedTuple):
    """The label, sentence and family of an arm."""

    label: str
    about: str
    family: str


ArmWords = Mapping[str, Words]
"""The words of arms by name, in the order in which reports list them."""

PAPER_ARMS: ArmWords = {arm.name: Words(arm.label, arm.about, arm.family) for arm in paper_arms.ARMS}
FIT_ARMS: ArmWords = {arm.name: Words(arm.label, arm.about, arm.family) for arm in brain_arms.ARMS}

START, TASK_ONLY = brain_arms.START.name, brain_arms.TASK_ONLY.name
"""The baselines of a fit: the network before it, and what further training does by itself."""

TEACHERS: Mapping[str, tuple[str, str]] = {
    "paper": (
        "the paper's teacher",
        "As in the paper, trained on other images than its students (named in the manifest).",
    ),
    "clean": (
        "the clean teacher",
        "Trained on deformations of the student's own training images only. Hyperparameters were selected "
        "with this teacher.",
    ),
    "cifar10": (
        "the CIFAR-10 teacher",
        "Trained on CIFAR-10: other images and other classes than its students'. Hyperparameters were selected "
        "with this teacher.",
    ),
    "labels": (
        "the teacher trained on the labelled images alone",
        "Trained on the labelled images alone: it has no more labels than its students.",
    ),
}
"""Names of the kinds of teacher and sentences on them, in the order in which reports list them."""

SCORES: Mapping[str, str] = {"raw": "raw", "partial": "partial", "within_category": "within-category"}
"""Names of the scores, in the order in which reports list them."""

ABOUT_SCORES: Mapping[str, str] = {
    "raw": "the comparison of model and brain RDM, without controls",
    "partial": "the same after the control RDMs (such as animacy, categories, silhouette, pixels) are partialled out "
    "of both RDMs",
    "within_category": "the same after the mean of each category block is subtracted from both RDMs, which leaves only "
    "the differences within the blocks",
}
"""Sentences on the scores."""

SCHEMES: Mapping[str, str] = {
    "stratified": "stratified folds",
    "leave_one_category_out": "leave one category out",
    "random": "random splits",
}
"""Names of the schemes of splits, in the order in which reports list them."""


def words_of(manifest: Mapping[str, Any], package: ArmWords) -> ArmWords:
    """Read the words of a study's arms, which its manifest keeps; older ones lack them: the package's, by name."""
    # {**package, …}: arms that both know keep their place, the study's own come last
    kept = manifest.get("arms", {})
    return {**package, **{name: Words(**{field: kept[name][field] for field in Words._fields}) for name in kept}}


def arm_name(arm: str, arms: ArmWords = PAPER_ARMS) -> str:
    """Name an arm of a paper's study; an unknown one keeps its name, without underscores."""
    return arms[arm].label if arm in arms else arm.replace("_", " ")


def method_name(arm: str, teacher: str, arms: ArmWords = PAPER_ARMS) -> str:
    """Name a method: RDL (clean), plain."""
    return f"{arm_name(arm, arms)} ({teacher})" if teacher else arm_name(arm, arms)


def teacher_name(kind: str) -> str:
    """Name a kind of teacher; an unknown one keeps its name."""
    return TEACHERS[kind][0] if kind in TEACHERS else kind


def baseline_of(arm: str, baselines: Mapping[str, str]) -> str | None:
    """Name the arm that an arm is compared with, None for ``plain``; `baselines` are those that are not ``plain``."""
    return None if arm == "plain" else baselines.get(arm, "plain")


def families(names: Sequence[str], arms: ArmWords = PAPER_ARMS) -> list[tuple[str, ...]]:
    """Part arms into the paper's methods, and plain and RDL with the arms that the paper lacks, if any; in order."""
    present = [name for name in dict.fromkeys([*arms, *names]) if name in names]
    # an arm that nobody knows is not the paper's
    further = [name for name in present if name not in arms or arms[name].family != "paper"]
    groups = [tuple(name for name in present if name not in further)]
    if further:
        groups.append(tuple(name for name in present if name in ("plain", "plain_readout", "rdl", *further)))
    return [group for group in groups if group]


def in_order(frame: pd.DataFrame, arms: ArmWords = PAPER_ARMS) -> pd.DataFrame:
    """Sort rows by method (columns ``arm, teacher``), as a report lists them; unknown ones last; a stable sort."""

    def places(values: pd.Series) -> pd.Series:
        # untaught methods come first, unknown ones last
        order = list(dict.fromkeys([*(arms if values.name == "arm" else ("", *TEACHERS)), *values]))
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


def distinct_networks(results: pd.DataFrame, *, one_teacher: bool, arms: ArmWords = PAPER_ARMS) -> pd.DataFrame:
    """Leave out runs that died, and repetitions of one teacher that serves all seeds; in order, seeds ascending."""
    kept = results[results["test_error"].notna()].sort_values("seed", kind="stable")
    if one_teacher:
        # a mean over its rows would count one network several times
        kept = kept[(kept["arm"] != "teacher") | ~kept.duplicated(["arm", "teacher", "labels"])]
    return in_order(kept, arms)


def fit_arm_name(arm: str) -> str:
    """Name an arm of a fit, or a row of a card; a control RDM of the study's own keeps its name."""
    return FIT_ARMS[arm].label if arm in FIT_ARMS else arm


def about_fit_arm(arm: str, arms: ArmWords = FIT_ARMS) -> str:
    """Say what an arm of a fit is; one that is not the package's own is a control RDM of the study's."""
    return arms[arm].about if arm in arms else "A control RDM that the study's file names."


def fit_arm_family(arm: str) -> str:
    """Name the kind of arm, by which a page parts its lists."""
    return FIT_ARMS[arm].family if arm in FIT_ARMS else "fixed RDMs"


def order_fit_arms(arms: Iterable[str]) -> list[str]:
    """Sort arms of a fit as a page lists them, each once; control RDMs of the study's own stand with the others."""
    known = list(FIT_ARMS)
    before_mixture = known.index("mixture") - 0.5  # which is mixed of them
    return sorted(dict.fromkeys(arms), key=lambda arm: known.index(arm) if arm in FIT_ARMS else before_mixture)


def sort_fit_arms(table: pd.DataFrame) -> pd.DataFrame:
    """Bring rows into the order in which a page lists their arms (column ``arm``); rows of one arm keep theirs."""
    return table.sort_values("arm", key=lambda arms: arms.map(order_fit_arms(arms).index), kind="stable")
