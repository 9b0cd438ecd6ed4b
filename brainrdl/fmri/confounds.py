"""Which columns of a table of confounds are taken: those that were asked for, and no others."""

import re
import warnings
from collections.abc import Sequence
from fnmatch import fnmatchcase
from pathlib import Path

import pandas as pd

from brainrdl.arguments import name_some
from brainrdl.fmri.sidecars import read_sidecar

STRATEGIES = ("motion", "high_pass", "wm_csf", "global_signal", "compcor")
DEFAULT = ("motion", "high_pass")
"""Strategies where none are named: what is not in the tables is warned of, and no error."""

_PATTERNS = {
    # with the derivatives and squares that fMRIPrep adds; and as its first versions named them
    "motion": r"(trans|rot)_[xyz](_derivative1)?(_power2)?|X|Y|Z|Rot[XYZ]",
    "high_pass": r"cosine\w*",
    "wm_csf": r"csf|white_matter|CSF|WhiteMatter",
    "global_signal": r"global_signal|GlobalSignal",
}
_LEAST = {"motion": 6, "high_pass": 0, "wm_csf": 2, "global_signal": 1, "compcor": 1}
_OUTLIERS = r"non_steady_state_outlier\w*|NonSteadyStateOutlier\w*"


def choose_confounds(table: pd.DataFrame, strategies: Sequence[str], name: str) -> pd.DataFrame:
    """Take the columns of some strategies, in the table's order; ValueError where one asked for is not there.

    Scans before the steady state always keep the regressors that they have. Of the default strategies those are taken
    that are there, or, with a warning, every column of a table that has none of theirs.
    """
    columns = [str(column) for column in table]
    chosen: set[str] = set()
    asked = tuple(strategies) != DEFAULT
    for strategy in strategies:
        of_strategy = _compcor(columns, name) if strategy == "compcor" else _matching(columns, _PATTERNS[strategy])
        # a table that names nothing as fMRIPrep does is another pipeline's, of which nothing in particular was asked
        if len(of_strategy) < _LEAST[strategy] and (asked or _matching(columns, "|".join(_PATTERNS.values()))):
            there = f"only {name_some(of_strategy)}" if of_strategy else "none of its columns"
            raise ValueError(
                f"{name} was asked for the confounds {strategy!r}, and has {there}; its columns are "
                f"{name_some(columns, 12)}. Leave {strategy} out of confounds, or name columns of the table "
                "(confound_columns=)"
            )
        chosen.update(of_strategy)
    if not asked and not chosen:
        warnings.warn(
            f"{name} has no column of motion or high_pass by its names, so all its columns are taken: "
            f"{name_some(columns, 12)}; name those that are meant (confound_columns=)",
            UserWarning,
            stacklevel=2,
        )
        return table
    chosen.update(_matching(columns, _OUTLIERS))
    return table[[column for column in table if str(column) in chosen]]


def choose_columns(table: pd.DataFrame, wanted: Sequence[str], name: str) -> pd.DataFrame:
    """Take named columns (with ``*`` for any letters), in the table's order; ValueError where one is not there."""
    columns = [str(column) for column in table]
    lacking = [column for column in wanted if not any(fnmatchcase(there, column) for there in columns)]
    if lacking:
        raise ValueError(f"{name} has no column {name_some(lacking)}; its columns are {name_some(columns, 12)}")
    return table[[column for column in table if any(fnmatchcase(str(column), one) for one in wanted)]]


def _matching(columns: Sequence[str], pattern: str) -> list[str]:
    return [column for column in columns if re.fullmatch(pattern, column)]


def _compcor(columns: Sequence[str], name: str) -> list[str]:
    """The components of white matter and CSF combined, as the file beside fMRIPrep's table says which they are."""
    components = [column for column in columns if "a_comp_cor" in column]
    path = Path(name).with_suffix(".json")
    if components and not path.is_file():
        raise ValueError(
            f"the confounds 'compcor' of {name} need the file {path}, which says where each component is from; get it, "
            "or name columns of the table (confound_columns=)"
        )
    about = read_sidecar(path).content if components else {}
    of_component = {column: about.get(column) for column in components}
    return [
        column for column, facts in of_component.items() if isinstance(facts, dict) and facts.get("Mask") == "combined"
    ]
