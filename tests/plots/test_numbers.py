"""Numbers in reports and figures."""

import math

import numpy as np
import pytest

from brainrdl.plots.numbers import decimals, format_fraction


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.895, "0.90"),
        (1.005, "1.01"),  # as a double just below the tie
        (-0.145, "−0.15"),
        (0.8949, "0.89"),
        (12.0, "12.00"),
        (1e30, f"{1e30:.2f}"),
        (math.inf, "inf"),
        (-math.inf, "−inf"),
        (math.nan, "nan"),
    ],
)
def test_ties_go_away_from_zero(value: float, text: str) -> None:
    assert decimals(value) == text


def test_a_mean_is_printed_alike_whatever_the_order_of_its_terms() -> None:
    errors = np.array([0.94, 0.92, 0.81, 0.87, 0.9, 0.9, 0.87, 0.88, 0.94, 0.92])
    means = {float(np.mean(np.roll(errors, shift))) for shift in range(10)} | {float(errors.sum() / 10)}
    assert {decimals(mean) for mean in means} == {"0.90"}
    assert decimals(2.5, 0) == "3"
    assert decimals(2.34567, 4) == "2.3457"


@pytest.mark.parametrize(
    ("value", "text"), [(0.125, ".13"), (-0.125, "−.13"), (-0.001, ".00"), (0.0, ".00"), (1.0, "1.00"), (10.5, "10.50")]
)
def test_fractions_have_no_zero_before_the_point(value: float, text: str) -> None:
    assert format_fraction(value) == text
