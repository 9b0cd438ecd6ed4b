import itertools
import re

import numpy as np
import pytest
from hypothesis import given, strategies as st
from hypothesis.extra import numpy as hnp
from scipy import special, stats

from brainrdl.inference import (
    Interval,
    McNemar,
    binomial_standard_error,
    crossed_bootstrap,
    holm,
    mcnemar,
    paired_t_interval,
    t_interval,
)


def raises(message):
    return pytest.raises(ValueError, match=f"^{re.escape(message)}$")


def answers(b, c, both=3, neither=2):
    """Two networks' answers with b images only the first gets right and c only the second."""
    a = np.repeat([True, False, True, False], [b, c, both, neither])
    other = np.repeat([False, True, True, False], [b, c, both, neither])
    shuffle = np.random.default_rng(b + 100 * c).permutation(len(a))
    return a[shuffle], other[shuffle]


def mean_error(right):
    return 100 * (1 - right.mean())


class TestMcNemar:
    @pytest.mark.parametrize(
        ("b", "c", "p"),
        [
            (0, 0, 1.0),
            (1, 0, 1.0),
            (5, 0, 2 / 32),
            (0, 6, 2 / 64),
            (1, 4, 2 * (1 + 5) / 32),
            (2, 2, 1.0),
            (3, 4, 1.0),
        ],
    )
    def test_tables_worked_by_hand(self, b, c, p):
        assert mcnemar(*answers(b, c)) == McNemar(pytest.approx(p, rel=1e-12), b, c)

    @pytest.mark.parametrize(("b", "c"), list(itertools.product([0, 1, 3, 10, 27, 140], repeat=2)))
    def test_exact_is_the_binomial_test(self, b, c):
        expected = stats.binomtest(b, b + c, 0.5).pvalue if b + c else 1.0
        assert mcnemar(*answers(b, c)).p == pytest.approx(expected, rel=1e-9)

    @pytest.mark.parametrize(("b", "c"), [(1, 0), (5, 0), (3, 9), (40, 22), (120, 80)])
    def test_corrected_is_edwards_chi_square(self, b, c):
        chi_square = (abs(b - c) - 1) ** 2 / (b + c)
        expected = stats.chi2(1).sf(chi_square)
        assert mcnemar(*answers(b, c), method="corrected").p == pytest.approx(expected, rel=1e-12)

    @pytest.mark.parametrize("n", [0, 7])
    def test_corrected_sees_nothing_where_b_equals_c(self, n):
        assert mcnemar(*answers(n, n), method="corrected") == (1.0, n, n)

    def test_only_disagreements_count_and_sides_swap(self):
        a, b = answers(9, 2)
        few, many = mcnemar(a, b), mcnemar(*answers(9, 2, both=900, neither=50))
        assert few == many
        assert mcnemar(b, a) == (few.p, few.c, few.b)

    def test_takes_zeros_and_ones(self):
        a, b = answers(4, 1)
        assert mcnemar(a.astype(int).tolist(), b.astype(float)) == mcnemar(a, b)

    def test_refuses_what_is_no_pair_of_scores(self):
        right = [True, False, True]
        with raises("correct_a has shape (3,), but correct_b has shape (2,); score both networks on the same images"):
            mcnemar(right, [True, False])
        with raises(
            "correct_b must hold booleans (or 0 and 1), but 2 of 3 values are neither (the first is 7); pass "
            "predictions == labels"
        ):
            mcnemar(right, [1, 7, 3])
        with raises(
            "correct_a must hold booleans (or 0 and 1), but 1 of 2 values are neither (the first is nan); "
            "pass predictions == labels"
        ):
            mcnemar([1, np.nan], [1, 0])
        with raises("correct_a is empty (shape (0,)); give at least one of each of (images,)"):
            mcnemar([], [])
        with raises("correct_a must have shape (images,), but its shape is (1, 3)"):
            mcnemar([right], [right])
        with raises("unknown method 'midp'; choose 'exact' or 'corrected'"):
            mcnemar(right, right, method="midp")


def slow_holm(p):
    """Test the smallest p at α/m, the next at α/(m - 1), … as the paper describes, for every α on a grid."""
    order = np.argsort(p)
    adjusted = np.ones(len(p))
    for rank, k in enumerate(order):
        needed = [min(1.0, (len(p) - earlier) * p[order[earlier]]) for earlier in range(rank + 1)]
        adjusted[k] = max(needed)
    return adjusted


class TestHolm:
    def test_known_example(self):
        adjusted = holm([0.01, 0.04, 0.03, 0.005])
        np.testing.assert_allclose(adjusted, [0.03, 0.06, 0.06, 0.02], rtol=1e-12)

    @given(hnp.arrays(float, st.integers(1, 12), elements=st.floats(0, 1)))
    def test_agrees_with_the_slow_way(self, p):
        adjusted = holm(p)
        np.testing.assert_allclose(adjusted, slow_holm(p), rtol=1e-12)
        assert np.all(adjusted >= p)
        assert np.all(adjusted <= 1)
        assert np.all(np.diff(adjusted[np.argsort(p, kind="stable")]) >= 0)

    def test_nan_passes_through_uncounted(self):
        table = np.array([[np.nan, 0.01, 0.2], [np.nan, np.nan, 0.03], [np.nan] * 3])
        adjusted = holm(table)
        np.testing.assert_array_equal(np.isnan(adjusted), np.isnan(table))
        np.testing.assert_allclose(adjusted[~np.isnan(table)], [0.03, 0.2, 0.06], rtol=1e-12)

    def test_nothing_tested(self):
        assert holm([]).shape == (0,)
        assert np.isnan(holm([np.nan])).all()

    def test_refuses_what_is_no_p_value(self):
        with raises(
            "p-values lie between 0 and 1, but 1 of 2 do not (the first is 3.84); pass p-values, not test "
            "statistics or percentages"
        ):
            holm([0.05, 3.84, np.nan])


class TestTInterval:
    @pytest.mark.parametrize("level", [0.5, 0.95, 0.99])
    def test_is_scipys(self, level):
        values = np.random.default_rng(1).normal(0.6, 0.04, 7)
        expected = stats.ttest_1samp(values, 0).confidence_interval(level)
        assert t_interval(values, level=level) == pytest.approx((values.mean(), *expected), rel=1e-12)

    @pytest.mark.parametrize("level", [0.8, 0.95])
    def test_paired_is_scipys(self, level):
        rng = np.random.default_rng(2)
        a = rng.normal(0.6, 0.04, 6)
        b = a + rng.normal(-0.05, 0.01, 6)
        expected = stats.ttest_rel(a, b).confidence_interval(level)
        got = paired_t_interval(a, b, level=level)
        assert got == pytest.approx(((a - b).mean(), *expected), rel=1e-9)

    @pytest.mark.parametrize("values", [[0.5], [0.25, 0.75]])
    def test_one_or_two_seeds_have_no_limits(self, values):
        assert t_interval(values) == pytest.approx((0.5, np.nan, np.nan), nan_ok=True)
        assert paired_t_interval(values, [1.0] * len(values)) == pytest.approx((-0.5, np.nan, np.nan), nan_ok=True)

    def test_two_seeds_have_no_crossed_bootstrap(self):
        a, b = np.ones((2, 8)), np.zeros((2, 8))
        assert crossed_bootstrap(a, b) == pytest.approx((-100, np.nan, np.nan), nan_ok=True)

    def test_an_error_rate_has_no_impossible_interval(self):
        values = np.array([5.0, 6.0, 20.0])
        p, se = values.mean() / 100, stats.sem(values) / 100
        # by hand: t on the logit, whose standard error is se / (p (1 − p))
        ends = special.logit(p) + np.array([-1, 1]) * stats.t.ppf(0.975, 2) * se / (p * (1 - p))
        assert stats.t.interval(0.95, 2, values.mean(), 100 * se)[0] < 0
        got = t_interval(values, bounds=(0, 100))
        assert got == pytest.approx((values.mean(), *(100 * special.expit(ends))), rel=1e-12)
        # of what is right and wrong alike
        turned = t_interval(100 - values, bounds=(0, 100))
        assert turned == pytest.approx((100 - got.estimate, 100 - got.high, 100 - got.low), rel=1e-12)

    def test_an_interval_within_its_bounds_is_students(self):
        values = [1.0, 1.1, 1.3]
        assert t_interval(values, bounds=(0, 100)) == t_interval(values)
        assert t_interval([0.0, 0.0, 0.0], bounds=(0, 100)) == Interval(0, 0, 0)
        assert t_interval([1e-9, 0.0, 100.0], bounds=(0, 100)).low > 0

    def test_a_difference_of_rates_ends_where_none_can_be(self):
        a, b = [0.0, 10.0, 100.0], [100.0, 90.0, 95.0]
        estimate, low, high = paired_t_interval(a, b, bounds=(0, 100))
        assert paired_t_interval(a, b).low < -100
        assert (estimate, low, high) == (pytest.approx(-175 / 3), -100, paired_t_interval(a, b).high)
        assert paired_t_interval([1, 2, 3], [3, 2, 2], bounds=(0, 9)) == paired_t_interval([1, 2, 3], [3, 2, 2])

    def test_equal_seeds_have_no_width(self):
        assert t_interval([0.5, 0.5, 0.5]) == Interval(0.5, 0.5, 0.5)

    def test_covers_as_often_as_it_says(self):
        draws = np.random.default_rng(3).normal(size=(2000, 4))
        hits = [low <= 0 <= high for _, low, high in map(t_interval, draws)]
        assert np.mean(hits) == pytest.approx(0.95, abs=0.02)

    def test_refuses_what_it_cannot_average(self):
        with raises("values must have shape (seeds,) with at least one seed, but its shape is (0,)"):
            t_interval([])
        with raises("values must have shape (seeds,) with at least one seed, but its shape is (1, 2)"):
            t_interval([[1.0, 2.0]])
        with raises(
            "b holds 1 value(s) that are not finite (the first, nan, at position 1); leave out the failed "
            "seeds, and say so"
        ):
            paired_t_interval([1, 2, 3], [1, np.nan, 3])
        with raises("a has shape (2,), but b has shape (3,); give both for the same seeds, in the same order"):
            paired_t_interval([1, 2], [1, 2, 3])
        with raises("level must lie between 0 and 1, such as 0.95, but is 95"):
            t_interval([1, 2], level=95)


def slow_bootstrap(a, b, n_resamples, level, rng):
    n_seeds, n_images = a.shape
    means = []
    for _ in range(n_resamples):
        cells = np.ix_(rng.integers(n_seeds, size=n_seeds), rng.integers(n_images, size=n_images))
        means.append(mean_error(a[cells]) - mean_error(b[cells]))
    return np.array(means), np.quantile(means, [(1 - level) / 2, (1 + level) / 2])


class TestCrossedBootstrap:
    @pytest.mark.parametrize("n_seeds", [1, 3, 8])
    def test_agrees_with_a_slow_loop(self, n_seeds):
        rng = np.random.default_rng(n_seeds)
        difficulty = rng.random(200)
        a = rng.random((n_seeds, 200)) > 0.5 * difficulty
        b = rng.random((n_seeds, 200)) > 0.3 * difficulty
        means, limits = slow_bootstrap(a, b, 4000, 0.9, rng)
        got = crossed_bootstrap(a, b, level=0.9, n_resamples=20_000)
        # A quantile's Monte Carlo error, √(q (1 - q) / n) / density, of the slow loop
        tolerance = 4 * np.sqrt(0.05 * 0.95 / 4000) / (stats.norm.pdf(1.645) / means.std())
        assert got.estimate == pytest.approx(mean_error(a) - mean_error(b), rel=1e-12)
        assert got[1:] == pytest.approx(limits, abs=tolerance)

    def test_knows_the_variance_over_images(self):
        rng = np.random.default_rng(0)
        a, b = rng.random((1, 5000)) < 0.95, rng.random((1, 5000)) < 0.9
        difference = 100.0 * (b.astype(int) - a.astype(int))[0]
        _, low, high = crossed_bootstrap(a, b)
        assert high - low == pytest.approx(2 * 1.96 * difference.std() / np.sqrt(5000), rel=0.05)

    def test_knows_the_variance_over_seeds(self):
        right = np.zeros((4, 50), dtype=bool)
        right[:2] = True
        # All images alike: the difference is 100 points times the share of drawn seeds that differ, binomial
        estimate, low, high = crossed_bootstrap(~right, np.zeros_like(right), level=0.8, n_resamples=50_000)
        share = stats.binom(4, 0.5)
        assert (estimate, low, high) == (-50, -25 * share.ppf(0.9), -25 * share.ppf(0.1))

    def test_same_answers_have_no_width(self):
        right = np.random.default_rng(0).random((3, 40)) < 0.8
        assert crossed_bootstrap(right, right) == (0, 0, 0)
        assert crossed_bootstrap(np.ones((3, 9)), np.zeros((3, 9))) == (-100, -100, -100)

    def test_sides_swap_and_seed_decides(self):
        rng = np.random.default_rng(5)
        a, b = rng.random((7, 997)) < 0.9, rng.random((7, 997)) < 0.8
        forth, back = crossed_bootstrap(a, b, seed=3), crossed_bootstrap(b, a, seed=4)
        assert back == pytest.approx((-forth.estimate, -forth.high, -forth.low), abs=0.1)
        assert crossed_bootstrap(a, b, seed=3) == forth
        assert crossed_bootstrap(a, b, seed=4) != forth

    def test_resamples_in_chunks(self):
        rng = np.random.default_rng(6)
        a, b = rng.random((12, 4000)) < 0.6, rng.random((12, 4000)) < 0.6
        assert len(np.unique(b.astype(int) - a, axis=1).T) * 600 > 2_000_000  # more than one chunk
        whole = crossed_bootstrap(a, b, n_resamples=600)
        means, limits = slow_bootstrap(a, b, 600, 0.95, rng)
        assert whole[1:] == pytest.approx(limits, abs=means.std())

    def test_refuses_what_is_no_pair_of_scores(self):
        right = np.ones((2, 3), dtype=bool)
        with raises(
            "correct_a has shape (2, 3), but correct_b has shape (2, 2); score both methods with the same "
            "seeds on the same images"
        ):
            crossed_bootstrap(right, right[:, :2])
        with raises("correct_a must have shape (seeds, images), but its shape is (3,)"):
            crossed_bootstrap(right[0], right[0])
        with raises("correct_b is empty (shape (0, 3)); give at least one of each of (seeds, images)"):
            crossed_bootstrap(right, right[:0])
        with raises(
            "correct_b must hold booleans (or 0 and 1), but 6 of 6 values are neither (the first is 0.5); "
            "pass predictions == labels"
        ):
            crossed_bootstrap(right, right * 0.5)
        with raises("n_resamples must be at least 1, but is 0"):
            crossed_bootstrap(right, right, n_resamples=0)
        with raises("level must lie between 0 and 1, such as 0.95, but is 1"):
            crossed_bootstrap(right, right, level=1)


class TestBinomialStandardError:
    def test_is_the_spread_of_binomial_error_rates(self):
        assert binomial_standard_error(20, 400) == 2.0
        assert binomial_standard_error(0.63, 10_000) == pytest.approx(
            stats.binom(10_000, 0.0063).std() / 100, rel=1e-12
        )

    def test_certainty_has_none(self):
        assert binomial_standard_error(0, 10) == 0
        assert binomial_standard_error(100, 10) == 0

    def test_refuses_what_is_no_error_rate(self):
        with raises("error_percent must lie between 0 and 100, but is 101"):
            binomial_standard_error(101, 10)
        with raises("n must be at least 1 image, but is 0"):
            binomial_standard_error(1, 0)
