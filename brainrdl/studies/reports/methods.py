"""Methods: what a report calls them, in which order it lists them, and which runs are theirs."""

from collections.abc import Mapping, Sequence

import pandas as pd

from brainrdl.studies.paper import published as paper

METHOD = ("arm", "teacher")
"""What a method is: an arm, and the kind of teacher behind it (empty where there is none)."""

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
"""What a report calls each arm, in the order in which it lists them."""

TEACHER_NAMES: Mapping[str, str] = {
    "paper": "the paper's teacher",
    "clean": "the clean teacher",
    "cifar10": "the CIFAR-10 teacher",
    "labels": "the teacher trained on the labelled images alone",
}
"""What a report calls each kind of teacher, in the order in which it lists them."""

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
"""What a report says of each arm."""

ABOUT_TEACHERS: Mapping[str, str] = {
    "paper": "As in the paper, trained on other images than its students: the manifest names them.",
    "clean": "Trained on deformations of the student's own training images only. Settings that were chosen "
    "were chosen with it.",
    "cifar10": "Trained on CIFAR-10: other images and other classes than its students'. Settings that were chosen "
    "were chosen with it.",
    "labels": "Trained on the labelled images alone, so that it knows no label that its students lack.",
}
"""What a report says of each kind of teacher."""


def arm_name(arm: str) -> str:
    """What a report calls an arm.

    Parameters
    ----------
    arm : str
        As in the results; an unknown one keeps its name, without underscores.

    Returns
    -------
    str

    Examples
    --------
    >>> from brainrdl.studies.reports.methods import arm_name
    >>> arm_name("deep_supervision"), arm_name("my_arm")
    ('deep supervision', 'my arm')
    """
    return ARM_NAMES.get(arm, arm.replace("_", " "))


def method_name(arm: str, teacher: str) -> str:
    """What a report calls a method.

    Parameters
    ----------
    arm, teacher : str
        As in the results.

    Returns
    -------
    str

    Examples
    --------
    >>> from brainrdl.studies.reports.methods import method_name
    >>> method_name("rdl", "clean"), method_name("plain", "")
    ('RDL (clean)', 'plain')
    """
    return f"{arm_name(arm)} ({teacher})" if teacher else arm_name(arm)


def teacher_name(kind: str) -> str:
    """What a report calls a kind of teacher.

    Parameters
    ----------
    kind : str
        As in the results; an unknown one keeps its name.

    Returns
    -------
    str

    Examples
    --------
    >>> from brainrdl.studies.reports.methods import teacher_name
    >>> teacher_name("clean")
    'the clean teacher'
    """
    return TEACHER_NAMES.get(kind, kind)


def baseline_of(arm: str, baselines: Mapping[str, str]) -> str | None:
    """The arm that an arm is compared with.

    Parameters
    ----------
    arm : str
        As in the results.
    baselines : mapping of str to str
        Of a study: the arm with the same network and without the arm's terms, where that is not ``plain``.

    Returns
    -------
    str or None
        None for ``plain``.

    Examples
    --------
    >>> from brainrdl.studies.reports.methods import baseline_of
    >>> [baseline_of(arm, {"rdl": "plain_readout"}) for arm in ("rdl", "hints", "plain")]
    ['plain_readout', 'plain', None]
    """
    return None if arm == "plain" else baselines.get(arm, "plain")


def families(arms: Sequence[str]) -> list[tuple[str, ...]]:
    """Part arms into groups small enough to be shown together.

    Parameters
    ----------
    arms : sequence of str
        Those of a study.

    Returns
    -------
    list of tuple of str
        The paper's methods (and variants of them); then plain and RDL with the arms that the paper does not have,
        where there are any. Each in the order of a report.

    Examples
    --------
    >>> from brainrdl.studies.reports.methods import families
    >>> families(["plain", "rdl", "hints", "kd"])
    [('plain', 'hints', 'rdl'), ('plain', 'rdl', 'kd')]
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
    """Sort rows by method, in the order of a report; rows of one method keep theirs.

    Parameters
    ----------
    frame : DataFrame
        With columns ``arm`` and ``teacher``. Unknown ones come last, in order of first appearance.

    Returns
    -------
    DataFrame

    Examples
    --------
    >>> import pandas as pd
    >>> from brainrdl.studies.reports.methods import in_order
    >>> in_order(pd.DataFrame({"arm": ["rdl", "plain"], "teacher": ["clean", ""]}))["arm"].tolist()
    ['plain', 'rdl']
    """

    def places(values: pd.Series) -> pd.Series:
        order = list(dict.fromkeys([*(ARM_NAMES if values.name == "arm" else ("", *TEACHER_NAMES)), *values]))
        return values.map(order.index)

    return frame.sort_values(list(METHOD), key=places, kind="stable")


def kinds_of(runs: pd.DataFrame) -> list[str]:
    """The kinds of teacher behind runs, in the order of a report.

    Parameters
    ----------
    runs : DataFrame
        With column ``teacher``, empty where there is none.

    Returns
    -------
    list of str

    Examples
    --------
    >>> import pandas as pd
    >>> from brainrdl.studies.reports.methods import kinds_of
    >>> kinds_of(pd.DataFrame({"teacher": ["clean", "", "paper"]}))
    ['paper', 'clean']
    """
    return [str(kind) for kind in dict.fromkeys(in_order(runs.assign(arm=""))["teacher"]) if kind]


def runs_of(runs: pd.DataFrame, method: tuple[str, str]) -> pd.DataFrame:
    """Select the runs of a method.

    Parameters
    ----------
    runs : DataFrame
        With columns ``arm`` and ``teacher``.
    method : (str, str)
        Arm and kind of teacher.

    Returns
    -------
    DataFrame

    Examples
    --------
    >>> import pandas as pd
    >>> from brainrdl.studies.reports.methods import runs_of
    >>> runs_of(pd.DataFrame({"arm": ["rdl", "rdl"], "teacher": ["paper", "clean"]}), ("rdl", "clean")).index.tolist()
    [1]
    """
    return runs[(runs["arm"] == method[0]) & (runs["teacher"] == method[1])]


def with_labels(runs: pd.DataFrame, labels: int | None) -> pd.DataFrame:
    """Select the runs with a number of labelled images.

    Parameters
    ----------
    runs : DataFrame
        With column ``labels``, NaN where all images are labelled.
    labels : int or None
        None: all.

    Returns
    -------
    DataFrame

    Examples
    --------
    >>> import pandas as pd
    >>> from brainrdl.studies.reports.methods import with_labels
    >>> with_labels(pd.DataFrame({"labels": [float("nan"), 100, 1000]}), 100).index.tolist()
    [1]
    """
    return runs[runs["labels"].isna() if labels is None else runs["labels"] == labels]


def distinct_networks(results: pd.DataFrame, *, one_teacher: bool) -> pd.DataFrame:
    """Leave out runs that died and, where one teacher serves all seeds, its repetitions.

    Parameters
    ----------
    results : DataFrame
        One row per run.
    one_teacher : bool
        Whether the first seed's teacher serves all seeds, so that further teacher rows are the same network again.

    Returns
    -------
    DataFrame
        The rows that count, methods in the order of a report, seeds ascending.

    Examples
    --------
    >>> import pandas as pd
    >>> from brainrdl.studies.reports.methods import distinct_networks
    >>> runs = {"arm": "teacher", "teacher": "clean", "labels": float("nan"), "seed": [0, 1], "test_error": [2.0, 2.0]}
    >>> len(distinct_networks(pd.DataFrame(runs), one_teacher=True))
    1
    """
    kept = results[results["test_error"].notna()].sort_values("seed", kind="stable")
    if one_teacher:
        repeated = (kept["arm"] == "teacher") & kept.duplicated(["arm", "teacher", "labels"])
        kept = kept[~repeated]
    return in_order(kept)
