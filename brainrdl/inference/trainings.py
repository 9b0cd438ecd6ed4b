"""Certainty of a difference between networks: over test images, over training runs, over both."""

from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import stats

from brainrdl.inference.intervals import Bounds, bounded_interval, clipped

MIN_SEEDS = 3
"""With two, an interval would rest on a single difference: Student's t reaches 12.7 standard errors to either side."""


class McNemar(NamedTuple):
    """P-value and counts, as `mcnemar` returns them.

    Attributes
    ----------
    p : float
        Two-sided p-value, not corrected for the number of tests.
    b : int
        Images that the first network gets right and the second wrong.
    c : int
        Images that the first network gets wrong and the second right.
    """

    p: float
    b: int
    c: int


class Interval(NamedTuple):
    """An estimate with its confidence interval, all three in the unit of the values.

    Attributes
    ----------
    estimate : float
        The estimate itself.
    low, high : float
        Ends of the interval; NaN where the data cannot say (fewer than three seeds).
    """

    estimate: float
    low: float
    high: float


def mcnemar(correct_a: ArrayLike, correct_b: ArrayLike, *, method: Literal["exact", "corrected"] = "exact") -> McNemar:
    """Test whether two networks err equally often, on the same images.

    Only the images on which exactly one of the two is right say anything. The p-value generalises over
    images from the same source, for these two trained networks; it says nothing about other training runs.

    Parameters
    ----------
    correct_a, correct_b : array_like of bool, shape (images,)
        True where a network is right, image by image in the same order. 0 and 1 serve as well.
    method : {"exact", "corrected"}
        ``"exact"``: two-sided binomial test of b against c,
        ``p = min(1, 2 BinomCDF(min(b, c); b + c, 1/2))``, and 1 where b + c = 0.
        ``"corrected"``: chi-square with continuity correction [1]_, ``(|b - c| - 1)² / (b + c)`` with one
        degree of freedom, and p = 1 where b = c.

    Returns
    -------
    McNemar
        ``p``, ``b`` (only a right) and ``c`` (only b right).

    Raises
    ------
    ValueError
        If the two differ in length, are empty, not one-dimensional or hold anything but 0 and 1, or if
        `method` is unknown.

    See Also
    --------
    holm : Correct the p-values of a table of tests.
    crossed_bootstrap : An interval over images and training runs.

    References
    ----------
    .. [1] Edwards, A. L. (1948). Note on the correction for continuity in testing the significance of the
       difference between correlated proportions. Psychometrika 13, 185-187.

    Examples
    --------
    >>> from brainrdl.inference import mcnemar
    >>> a = [1, 1, 1, 1, 1, 1, 0, 1]
    >>> b = [0, 0, 0, 0, 0, 1, 0, 1]
    >>> mcnemar(a, b)
    McNemar(p=0.0625, b=5, c=0)
    """
    if method not in ("exact", "corrected"):
        raise ValueError(f"unknown method {method!r}; choose 'exact' or 'corrected'")
    right_a = _flags(correct_a, "correct_a", ("images",))
    right_b = _flags(correct_b, "correct_b", ("images",))
    _same_shape(right_a, right_b, ("correct_a", "correct_b"), "score both networks on the same images")
    b = int(np.count_nonzero(right_a & ~right_b))
    c = int(np.count_nonzero(~right_a & right_b))
    if b == c:  # the corrected statistic would be above 0, or 0/0 where all agree
        p = 1.0
    elif method == "exact":
        p = min(1.0, 2.0 * float(stats.binom.cdf(min(b, c), b + c, 0.5)))
    else:
        p = float(stats.chi2.sf((abs(b - c) - 1) ** 2 / (b + c), df=1))
    return McNemar(p, b, c)


def t_interval(values: ArrayLike, *, level: float = 0.95, bounds: Bounds | None = None) -> Interval:
    """Take the mean over seeds with Student's t interval.

    Parameters
    ----------
    values : array_like of float, shape (seeds,)
        One number per training, such as the test error in percent.
    level : float
        Coverage, between 0 and 1.
    bounds : (float, float), optional
        Least and largest that a value can be, such as ``(0, 100)`` for an error in percent. An interval that would
        leave them is made on the logit of the share between them instead, by the delta method.

    Returns
    -------
    Interval
        Mean, and ``mean ± t(level, seeds - 1) · sd / √seeds``, in the unit of `values`. With fewer than three
        values the two limits are NaN.

    Raises
    ------
    ValueError
        If `values` is empty, not one-dimensional or not finite, or if `level` is not between 0 and 1.

    Examples
    --------
    >>> from brainrdl.inference import t_interval
    >>> estimate, low, high = t_interval([0.50, 0.55, 0.60])
    >>> print(f"{estimate:.2f} [{low:.3f}, {high:.3f}]")
    0.55 [0.426, 0.674]
    >>> estimate, low, high = t_interval([5.0, 6.0, 20.0], bounds=(0, 100))
    >>> print(f"{estimate:.1f} [{low:.1f}, {high:.1f}]")
    10.3 [1.2, 52.2]
    """
    check_level(level)
    return _t_interval(_numbers(values, "values"), level, bounds)


def paired_t_interval(a: ArrayLike, b: ArrayLike, *, level: float = 0.95, bounds: Bounds | None = None) -> Interval:
    """Take the mean difference ``a - b`` over seeds with Student's t interval, paired by seed.

    Generalises over training runs, on this very test set.

    Parameters
    ----------
    a, b : array_like of float, shape (seeds,)
        One number per seed for each of two methods; position k of both is the same seed.
    level : float
        Coverage, between 0 and 1.
    bounds : (float, float), optional
        Least and largest that a value of `a` or `b` can be: the interval ends where no difference of two can be.

    Returns
    -------
    Interval
        Mean difference in the unit of `a` and `b`. With fewer than three seeds the two limits are NaN.

    Raises
    ------
    ValueError
        If the two differ in length, are empty, not one-dimensional or not finite, or if `level` is not between 0 and 1.

    Examples
    --------
    >>> from brainrdl.inference import paired_t_interval
    >>> estimate, low, high = paired_t_interval([0.50, 0.55, 0.60], [0.60, 0.63, 0.69])
    >>> print(f"{estimate:.2f} [{low:.3f}, {high:.3f}]")
    -0.09 [-0.115, -0.065]
    """
    check_level(level)
    first = _numbers(a, "a")
    second = _numbers(b, "b")
    _same_shape(first, second, ("a", "b"), "give both for the same seeds, in the same order")
    found = _t_interval(first - second, level)
    if bounds is None:
        return found
    reach = bounds[1] - bounds[0]
    return Interval(found.estimate, *clipped(found.low, found.high, (-reach, reach)))


def crossed_bootstrap(
    correct_a: ArrayLike, correct_b: ArrayLike, *, level: float = 0.95, n_resamples: int = 10_000, seed: int = 0
) -> Interval:
    """Take the difference of two methods' error rates, with an interval over training runs *and* images.

    Each resample draws the seeds with replacement and, independently, the images with replacement, and takes
    the difference over all drawn seed × image cells ("pigeonhole" bootstrap [1]_). Noise of single cells
    enters the variance more than once, which makes it too wide. Few seeds make it too narrow, since
    their share of the variance comes out (seeds - 1)/seeds of what it is: below ten seeds, read
    `paired_t_interval` beside it. With two seeds there is no interval; with one, it generalises over images only.

    Parameters
    ----------
    correct_a, correct_b : array_like of bool, shape (seeds, images)
        True where the networks of each method are right; row k of both is the same seed, column i the same
        image. 0 and 1 serve as well.
    level : float
        Coverage, between 0 and 1.
    n_resamples : int
        Number of resamples.
    seed : int
        Seed of the draws; the same seed gives the same interval.

    Returns
    -------
    Interval
        Error rate of a minus error rate of b in percentage points (negative: a has the lower error), with the
        percentile interval. With two seeds its limits are NaN.

    Raises
    ------
    ValueError
        If the two differ in shape, are empty, not two-dimensional or hold anything but 0 and 1, if `level` is
        not between 0 and 1, or if `n_resamples` is below 1.

    References
    ----------
    .. [1] Owen, A. B. (2007). The pigeonhole bootstrap. Annals of Applied Statistics 1, 386-411.

    Examples
    --------
    >>> from brainrdl.inference import crossed_bootstrap
    >>> rng = np.random.default_rng(0)
    >>> a, b = rng.random((5, 1000)) < 0.97, rng.random((5, 1000)) < 0.90
    >>> estimate, low, high = crossed_bootstrap(a, b, n_resamples=2000)
    >>> print(f"{estimate:.1f} points [{low:.1f}, {high:.1f}]")
    -6.9 points [-8.5, -5.2]
    """
    check_level(level)
    if n_resamples < 1:
        raise ValueError(f"n_resamples must be at least 1, but is {n_resamples}")
    right_a = _flags(correct_a, "correct_a", ("seeds", "images"))
    right_b = _flags(correct_b, "correct_b", ("seeds", "images"))
    _same_shape(
        right_a, right_b, ("correct_a", "correct_b"), "score both methods with the same seeds on the same images"
    )
    n_seeds, n_images = right_a.shape
    # error(a) - error(b) = right(b) - right(a)
    difference = right_b.astype(np.int8) - right_a.astype(np.int8)
    mean = 100 * float(difference.mean(dtype=np.float64))
    # half of all draws would hold one training twice
    if 1 < n_seeds < MIN_SEEDS:
        return Interval(mean, np.nan, np.nan)

    # Images with the same column are interchangeable, and most columns are all zero: drawing how often each
    # distinct column occurs is the same bootstrap at a fraction of the draws.
    columns, multiplicity = np.unique(difference, axis=1, return_counts=True)
    cells = columns.astype(np.float64)
    rng = np.random.default_rng(seed)
    means = np.empty(n_resamples)
    chunk = max(1, 2_000_000 // columns.shape[1])
    for start in range(0, n_resamples, chunk):
        size = min(chunk, n_resamples - start)
        seed_counts = rng.multinomial(n_seeds, np.full(n_seeds, 1 / n_seeds), size=size)
        image_counts = rng.multinomial(n_images, multiplicity / n_images, size=size)
        sums = np.einsum("bi,bi->b", seed_counts @ cells, image_counts)
        means[start : start + size] = 100 * sums / (n_seeds * n_images)
    low, high = np.quantile(means, [(1 - level) / 2, (1 + level) / 2])
    return Interval(mean, float(low), float(high))


def binomial_standard_error(error_percent: float, n: int) -> float:
    """Compute the standard error of one network's error rate, in percentage points.

    Parameters
    ----------
    error_percent : float
        Error rate in percent.
    n : int
        Number of test images.

    Returns
    -------
    float
        ``100 √(p (1 - p) / n)`` with ``p = error_percent / 100``.

    Raises
    ------
    ValueError
        If `error_percent` is not between 0 and 100 or `n` is below 1.

    Examples
    --------
    >>> from brainrdl.inference import binomial_standard_error
    >>> round(binomial_standard_error(0.63, 10_000), 3)
    0.079
    """
    if not 0 <= error_percent <= 100:
        raise ValueError(f"error_percent must lie between 0 and 100, but is {error_percent:g}")
    if n < 1:
        raise ValueError(f"n must be at least 1 image, but is {n}")
    p = error_percent / 100
    return 100 * float(np.sqrt(p * (1 - p) / n))


def _t_interval(values: NDArray[np.float64], level: float, bounds: Bounds | None = None) -> Interval:
    mean = float(values.mean())
    n = values.size
    if n < MIN_SEEDS:  # one or two trainings say nothing about others
        return Interval(mean, np.nan, np.nan)
    quantile = float(stats.t.ppf((1 + level) / 2, df=n - 1))
    error = float(values.std(ddof=1) / np.sqrt(n))
    low, high = mean - quantile * error, mean + quantile * error
    if bounds is not None and error > 0 and not (bounds[0] <= low and high <= bounds[1]):
        low, high = bounded_interval(mean, error, quantile, bounds)
    return Interval(mean, low, high)


def _flags(correct: ArrayLike, name: str, axes: tuple[str, ...]) -> NDArray[np.bool_]:
    array = np.asarray(correct)
    shape = f"({', '.join(axes)}{',' if len(axes) == 1 else ''})"
    if array.ndim != len(axes):
        raise ValueError(f"{name} must have shape {shape}, but its shape is {array.shape}")
    if array.size == 0:
        raise ValueError(f"{name} is empty (shape {array.shape}); give at least one of each of {shape}")
    if array.dtype == np.bool_:
        return array
    other = [value for value in array.ravel().tolist() if value not in (0, 1)]
    if other:
        raise ValueError(
            f"{name} must hold booleans (or 0 and 1), but {len(other)} of {array.size} values are neither "
            f"(the first is {other[0]!r}); pass predictions == labels"
        )
    return array.astype(np.bool_)


def _numbers(values: ArrayLike, name: str) -> NDArray[np.float64]:
    array = np.asarray(values, dtype=np.float64)
    if array.ndim != 1 or array.size == 0:
        raise ValueError(f"{name} must have shape (seeds,) with at least one seed, but its shape is {array.shape}")
    bad = np.flatnonzero(~np.isfinite(array))
    if bad.size:
        raise ValueError(
            f"{name} holds {bad.size} value(s) that are not finite (the first, {array[bad[0]]}, at position "
            f"{bad[0]}); leave out the failed seeds, and say so"
        )
    return array


def _same_shape(a: NDArray[np.generic], b: NDArray[np.generic], names: tuple[str, str], advice: str) -> None:
    if a.shape != b.shape:
        raise ValueError(f"{names[0]} has shape {a.shape}, but {names[1]} has shape {b.shape}; {advice}")


def check_level(level: float) -> None:
    """Raise a ValueError unless a coverage lies between 0 and 1."""
    if not 0 < level < 1:
        raise ValueError(f"level must lie between 0 and 1, such as 0.95, but is {level:g}")
