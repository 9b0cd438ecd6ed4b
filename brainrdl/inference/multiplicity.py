"""P-values of many tests."""

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import stats


def holm(p_values: ArrayLike) -> NDArray[np.float64]:
    """Adjust p-values for their number by Holm's step-down rule.

    Rejecting where the adjusted value is at most α keeps the chance of any false rejection at α or less,
    however the tests depend on each other. Uniformly more powerful than Bonferroni.

    Parameters
    ----------
    p_values : array_like of float, any shape
        Each test once (of a symmetric table, one triangle). NaN marks a test that was not made: it stays NaN
        and is not counted.

    Returns
    -------
    ndarray of float, shape of `p_values`
        ``max over k ≤ rank of (m - k + 1) p_(k)``, at most 1, where ``p_(1) ≤ … ≤ p_(m)`` are the m tests made.

    Raises
    ------
    ValueError
        If a value lies outside [0, 1].

    References
    ----------
    Holm, S. (1979). A simple sequentially rejective multiple test procedure. Scandinavian Journal of
    Statistics 6, 65-70.

    Examples
    --------
    >>> from brainrdl.inference import holm
    >>> holm([0.01, 0.04, 0.03, np.nan])
    array([0.03, 0.06, 0.06,  nan])
    """
    p, made = _checked(p_values)
    tested = p[made]
    order = np.argsort(tested, kind="stable")
    scaled = tested[order] * np.arange(tested.size, 0, -1)
    # step down: a test is rejected only where all with smaller p are, hence the running maximum
    stepped = np.empty_like(tested)
    stepped[order] = np.minimum(np.maximum.accumulate(scaled), 1.0)
    adjusted = np.full_like(p, np.nan)
    adjusted[made] = stepped
    return adjusted


def fdr(p_values: ArrayLike) -> NDArray[np.float64]:
    """Adjust p-values by Benjamini and Hochberg's rule, for a table such as layers × regions.

    Rejecting where the adjusted value is at most q keeps the expected share of false rejections at q or less, for tests
    that are independent or depend positively on each other.

    Parameters
    ----------
    p_values : array_like of float, any shape
        Each test once. NaN marks a test that was not made: it stays NaN and is not counted.

    Returns
    -------
    ndarray of float, shape of `p_values`

    Raises
    ------
    ValueError
        If a value lies outside [0, 1].

    References
    ----------
    Benjamini, Y. & Hochberg, Y. (1995). Controlling the false discovery rate. Journal of the Royal Statistical Society
    B 57, 289-300.

    Examples
    --------
    >>> from brainrdl.inference import fdr
    >>> fdr([[0.01, 0.04], [0.03, np.nan]])
    array([[0.03, 0.04],
           [0.04,  nan]])
    """
    p, made = _checked(p_values)
    adjusted = np.full_like(p, np.nan)
    if made.any():  # SciPy refuses an empty set of tests
        adjusted[made] = stats.false_discovery_control(p[made])
    return adjusted


def _checked(p_values: ArrayLike) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """Check p-values; and find the tests that were made."""
    p = np.asarray(p_values, dtype=np.float64)
    made = ~np.isnan(p)
    tested = p[made]
    outside = tested[(tested < 0) | (tested > 1)]
    if outside.size:
        raise ValueError(
            f"p-values lie between 0 and 1, but {outside.size} of {tested.size} do not "
            f"(the first is {outside[0]:g}); pass p-values, not test statistics or percentages"
        )
    return p, made
