"""What a page calls arms, scores, schemes and comparisons, in which order it lists them, and what arms are."""

from collections.abc import Iterable, Mapping
from typing import NamedTuple

import pandas as pd


class Setting(NamedTuple):
    """What results have in common that may be held against each other."""

    scheme: str
    fitted_study: str
    scored_study: str
    method: str


class _Arm(NamedTuple):
    name: str
    group: str
    about: str


_ARMS: Mapping[str, _Arm] = {
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
"""What a page calls each score, in the order in which it lists them."""

ABOUT_SCORES: Mapping[str, str] = {
    "raw": "the comparison of model and brain RDM as they are",
    "partial": "the same after the control RDMs (such as animacy, categories, silhouette, pixels) are regressed out of "
    "both sides",
    "within_category": "the same after the mean of each block of categories is subtracted on both sides, so that only "
    "differences between stimuli of the same categories are left",
}
"""What a page says of each score."""

SCHEMES: Mapping[str, str] = {
    "stratified": "stratified folds",
    "leave_one_category_out": "leave one category out",
    "random": "random splits",
}
"""What a page calls each scheme of splits, in the order in which it lists them."""

METHODS: Mapping[str, str] = {
    "corr": "Pearson r",
    "corr_cov": "whitened Pearson r",
    "cosine": "cosine",
    "cosine_cov": "whitened cosine",
    "spearman": "Spearman ρ",
    "rho-a": "Spearman ρ-a",
    "tau-a": "Kendall τ-a",
    "tau-b": "Kendall τ-b",
}
"""What a page calls the comparison of two RDMs."""


def arm_name(arm: str) -> str:
    """What a page calls an arm.

    Parameters
    ----------
    arm : str
        As in ``scores.csv``; an unknown one keeps its name.

    Returns
    -------
    str

    Examples
    --------
    >>> from brainrdl.studies.reports.fit_names import arm_name
    >>> arm_name("task_only"), arm_name("my_arm")
    ('task only', 'my_arm')
    """
    return _ARMS[arm].name if arm in _ARMS else arm


def about_arm(arm: str) -> str:
    """What an arm is; one that is not the package's own is a control RDM of the study's.

    Parameters
    ----------
    arm : str
        As in ``scores.csv``.

    Returns
    -------
    str
    """
    return _ARMS[arm].about if arm in _ARMS else "A control RDM that the study's file names."


def group_of(arm: str) -> str:
    """The kind of arm, by which a page parts its lists.

    Parameters
    ----------
    arm : str
        As in ``scores.csv``.

    Returns
    -------
    str

    Examples
    --------
    >>> from brainrdl.studies.reports.fit_names import group_of
    >>> group_of("gains"), group_of("my_arm")
    ('heads', 'as they are')
    """
    return _ARMS[arm].group if arm in _ARMS else "as they are"


def in_order(arms: Iterable[str]) -> list[str]:
    """Sort arms as a page lists them; the study's own control RDMs stand with the other controls.

    Parameters
    ----------
    arms : iterable of str
        As in ``scores.csv``.

    Returns
    -------
    list of str
        Each once.

    Examples
    --------
    >>> from brainrdl.studies.reports.fit_names import in_order
    >>> in_order(["mine", "rdl", "pixels", "rdl"])
    ['pixels', 'mine', 'rdl']
    """
    known = list(_ARMS)
    own = known.index("mixture") - 0.5  # before what is mixed of them
    return sorted(dict.fromkeys(arms), key=lambda arm: known.index(arm) if arm in _ARMS else own)


def format_setting(setting: Setting, *, with_scheme: bool = True) -> str:
    """What a page calls a setting.

    Parameters
    ----------
    setting : Setting
        Which one.
    with_scheme : bool
        Whether the scheme of splits is told.

    Returns
    -------
    str

    Examples
    --------
    >>> from brainrdl.studies.reports.fit_names import Setting, spell_setting
    >>> spell_setting(Setting("random", "first", "second", "corr"))
    'fitted to first, scored in second, random splits, Pearson r'
    """
    parts = [f"fitted to {setting.fitted_study}"]
    same = setting.scored_study == setting.fitted_study
    parts.append("scored in the same study" if same else f"scored in {setting.scored_study}")
    parts += [SCHEMES.get(setting.scheme, setting.scheme.replace("_", " "))] if with_scheme else []
    return ", ".join([*parts, METHODS.get(setting.method, setting.method)])


def sort_arms(table: pd.DataFrame) -> pd.DataFrame:
    """Bring rows into the order in which a page lists their arms.

    Parameters
    ----------
    table : DataFrame
        With column ``arm``.

    Returns
    -------
    DataFrame

    Examples
    --------
    >>> import pandas as pd
    >>> from brainrdl.studies.reports.fit_names import sort_arms
    >>> sort_arms(pd.DataFrame({"arm": ["mine", "rdl", "pixels"]}))["arm"].tolist()
    ['pixels', 'mine', 'rdl']
    """
    order = in_order(table["arm"])
    places = pd.Series([order.index(arm) for arm in table["arm"]], table.index, dtype=int)
    return table.loc[places.sort_values(kind="stable").index]
