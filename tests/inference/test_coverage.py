"""Intervals hold the truth as often as they say: benchmarks/coverage.py, in short."""

import runpy
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "coverage.py"


@pytest.mark.parametrize(("which", "interval"), [("subjects", "t, SD × √(n/(n−1))"), ("both", "t, corrected")])
def test_intervals_hold_the_truth(which, interval):
    coverage = runpy.run_path(str(SCRIPT))["coverage"]
    found = coverage(which, 100, n_resamples=200)
    # of 100 intervals of 95 %, fewer than 89 or all hold the truth with a chance of 1.0 %
    assert 89 <= found[interval] <= 100
    if which == "both":
        assert found["naive: t, subjects only"] < 89
        assert found["naive: t, both uncorrected"] >= found[interval]
