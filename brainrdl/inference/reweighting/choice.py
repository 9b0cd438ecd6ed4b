"""The choice among heads, by what each scores on the held-out pairs of inner splits."""

import pandas as pd
from torch import Tensor

from brainrdl.rdms.similarities import Options, similarities


def score_head(distances: Tensor, subjects: Tensor, compare: str) -> float:
    """Compare a head's RDM (pairs,) with those of subjects (subjects, pairs), on average; NaN if nothing compares."""
    # the soft ranks are there for their gradient; a score is of the ranks themselves
    method = "spearman" if compare == "soft-spearman" else compare
    return float(similarities(distances[None], subjects, Options(method)).nanmean())


def means_to_choose_by(table: pd.DataFrame, keys: list[str]) -> pd.Series:
    """Average over inner splits; a head that predicts one distance throughout counts as one that predicts nothing."""
    if table["value"].isna().all():
        raise ValueError(
            "no head can be chosen: in every inner split the held-out pairs were not measured, or every head that was "
            "tried predicts a constant RDM of them; split otherwise, or name other layers"
        )
    # NaN for all heads is a split without measured pairs, and says nothing of any
    compared = table["value"].notna().groupby(table["inner_split"]).transform("any")
    counted = table.assign(value=table["value"].mask(table["value"].isna() & compared, 0.0))
    return counted.groupby(keys, sort=False)["value"].mean()
