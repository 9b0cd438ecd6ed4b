"""Decimals in reports and figures: the same number is spelled alike wherever it stands."""

from decimal import ROUND_HALF_UP, Decimal
from math import isfinite

_NOISE = 9  # decimals beyond which means of the same numbers, taken in another order, differ
_EXACT = 1e15  # above it a double has no such decimals


def decimals(value: float, digits: int = 2) -> str:
    """Spell with so many decimals and a true minus, ties away from zero.

    A mean of ten errors of 10,000 images is often a tie, such as .895 or 1.005, on either side of which binary
    fractions fall by chance.
    """
    if isfinite(value) and abs(value) < _EXACT:
        exact = Decimal(repr(round(float(value), _NOISE)))
        return f"{exact.quantize(Decimal(1).scaleb(-digits), ROUND_HALF_UP):f}".replace("-", "−")
    return f"{value:.{digits}f}".replace("-", "−")
