"""What the p values of the paper's Table 2 say about the networks of its Table 3.

    python results/paper_mcnemar.py

McNemar's test depends only on b and c, the test images that only one of the two networks gets wrong. Table 3 gives
b − c (10,000 images, so errors of two decimals are exact), Table 2 gives p; together they give b + c, the number of
images on which one is right and the other wrong. That is a distance, so it has to satisfy the triangle inequality.
Printed: b + c of each pair, and every three networks that cannot be.
"""

from collections.abc import Callable
from itertools import combinations

from scipy.stats import binom, binomtest, chi2

ERRORS = {"baseline": 63, "teacher": 56, "fine-tuning": 48, "deep supervision": 55, "hints": 56, "RDL": 49}
P_VALUES = {
    ("baseline", "teacher"): 0.38,
    ("baseline", "fine-tuning"): 0.00,
    ("baseline", "deep supervision"): 0.11,
    ("baseline", "hints"): 0.34,
    ("baseline", "RDL"): 0.01,
    ("teacher", "fine-tuning"): 0.01,
    ("teacher", "deep supervision"): 0.66,
    ("teacher", "hints"): 0.89,
    ("teacher", "RDL"): 0.20,
    ("fine-tuning", "deep supervision"): 0.14,
    ("fine-tuning", "hints"): 0.04,
    ("fine-tuning", "RDL"): 0.63,
    ("deep supervision", "hints"): 0.64,
    ("deep supervision", "RDL"): 0.39,
    ("hints", "RDL"): 0.17,
}
_ROUNDING = 0.005

Test = Callable[[int, int], float]


def exact(b: int, c: int) -> float:
    """McNemar's exact test, two-sided."""
    return float(binomtest(min(b, c), b + c).pvalue) if b + c else 1.0


def mid_p(b: int, c: int) -> float:
    """McNemar's exact test in its mid-p form: what was seen counts half."""
    return float(min(1.0, 2 * binom.cdf(min(b, c), b + c, 0.5) - binom.pmf(min(b, c), b + c, 0.5))) if b + c else 1.0


def uncorrected(b: int, c: int) -> float:
    """McNemar's chi-square without continuity correction."""
    return float(chi2.sf((b - c) ** 2 / (b + c), 1)) if b + c else 1.0


def corrected(b: int, c: int) -> float:
    """McNemar's chi-square with Edwards' continuity correction."""
    return float(chi2.sf((abs(b - c) - 1) ** 2 / (b + c), 1)) if b + c else 1.0


def disagreements(errors_a: int, errors_b: int, p: float, test: Test = exact) -> list[int]:
    """Count the images on which two networks can disagree, given their errors and a printed p value.

    Parameters
    ----------
    errors_a, errors_b : int
        Errors of the two networks on the same images.
    p : float
        Printed with two decimals.
    test : callable
        (b, c) → p.

    Returns
    -------
    list of int
        Every b + c that gives this p, none if there is none.
    """
    apart, fewer = abs(errors_a - errors_b), min(errors_a, errors_b)
    return [apart + 2 * c for c in range(fewer + 1) if abs(test(apart + c, c) - p) <= _ROUNDING + 1e-12]


def impossible(possible: dict[tuple[str, str], list[int]]) -> list[str]:
    """Name the pairs that disagree on more images than both together can with a third network."""
    told = []
    for three in combinations(ERRORS, 3):
        sides = [possible[pair] for pair in combinations(three, 2)]
        if not all(sides):
            continue
        for k, pair in enumerate(combinations(three, 2)):
            others = sides[:k] + sides[k + 1 :]
            way_round = sum(max(side) for side in others)
            if min(sides[k]) > way_round:
                (third,) = set(three) - set(pair)
                told.append(f"{pair[0]} – {pair[1]}: at least {min(sides[k])}, but at most {way_round} by {third}")
    return told


def main() -> None:
    """Print what follows from the two tables."""
    for test in (exact, mid_p, uncorrected, corrected):
        print(test.__doc__)
        possible = {pair: disagreements(ERRORS[pair[0]], ERRORS[pair[1]], p, test) for pair, p in P_VALUES.items()}
        for pair, totals in possible.items():
            found = f"{min(totals)} to {max(totals)}" if totals else "no b + c gives this p"
            apart = abs(ERRORS[pair[0]] - ERRORS[pair[1]])
            print(f"  {pair[0]} – {pair[1]}: |b − c| = {apart}, p = {P_VALUES[pair]:.2f}, b + c: {found}")
        for line in impossible(possible):
            print(f"  cannot be: {line}")


if __name__ == "__main__":
    main()
