"""Confidence intervals that stay within what an estimate can be: Fisher's z of a correlation, the logit of a rate."""

import math

Bounds = tuple[float, float]

SIMILARITIES: Bounds = (-1.0, 1.0)
"""Correlations, cosines and rank correlations lie within them."""

PERCENT: Bounds = (0.0, 100.0)
"""Error rates lie within them."""


def bounds_of(method: str) -> Bounds:
    """The range of a comparison of two RDMs: −1 to 1, or all up to 0 for the negative mean squared difference."""
    return (-math.inf, 0.0) if method == "mse" else SIMILARITIES


def bounded_t(estimate: float, se: float, bounds: Bounds) -> tuple[float, float]:
    """Bring an estimate and its standard error to a scale without bounds, for Student's t there (delta method).

    The scale is the logit of the share between the bounds, which is 2 atanh(r) between −1 and 1; up to 0, −log(−x).
    NaN at a bound, where no standard error can be brought over.
    """
    low, high = bounds
    if not low < estimate < high or math.isnan(se):
        return math.nan, math.nan
    if math.isinf(low):
        return -math.log(high - estimate), se / (high - estimate)
    below, above = estimate - low, high - estimate
    return math.log(below / above), se * (high - low) / (below * above)


def bounded_interval(estimate: float, se: float, quantile: float, bounds: Bounds) -> tuple[float, float]:
    """The interval of an estimate, ± `quantile` standard errors on the scale of `bounded_t`, brought back.

    Of a correlation r it is tanh(atanh r ± q · se / (1 − r²)), Fisher's z with the standard error brought over.
    """
    value, error = bounded_t(estimate, se, bounds)
    first, second = (_back(value + sign * quantile * error, bounds) for sign in (-1, 1))
    return first, second


def clipped(low: float, high: float, bounds: Bounds) -> tuple[float, float]:
    """Cut off what an estimate cannot be; an interval holds the truth as often as before."""
    # max and min would take NaN for a number
    if math.isnan(low) or math.isnan(high):
        return low, high
    return max(low, bounds[0]), min(high, bounds[1])


def _back(value: float, bounds: Bounds) -> float:
    low, high = bounds
    if math.isnan(value):
        return math.nan
    if math.isinf(low):
        return high - math.exp(min(-value, 700.0))
    # beyond 700 the share is 0 or 1 in float64, and exp overflows
    share = 1 / (1 + math.exp(min(-value, 700.0)))
    return low + (high - low) * share
