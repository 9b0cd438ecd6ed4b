"""Numbers in reports and figures: the same number is printed alike wherever it stands."""

from decimal import ROUND_HALF_UP, Decimal
from math import isfinite

_NOISE = 9  # decimals beyond which means of the same numbers, taken in another order, differ
_EXACT = 1e15  # above it a double has no such decimals


def decimals(value: float, digits: int = 2) -> str:
    """Print with so many decimals and a true minus, ties away from zero.

    Means of ten errors of 10,000 images are often ties (.895), on either side of which binary fractions fall by chance.
    """
    if isfinite(value) and abs(value) < _EXACT:
        exact = Decimal(repr(round(float(value), _NOISE)))
        return f"{exact.quantize(Decimal(1).scaleb(-digits), ROUND_HALF_UP):f}".replace("-", "−")
    return f"{value:.{digits}f}".replace("-", "−")


def format_fraction(value: float, digits: int = 2) -> str:
    """Print what cannot exceed 1, such as a correlation, without its zero: .12, −.12, .00."""
    size = decimals(abs(value), digits)
    minus = "−" if value < 0 and size.strip("0.") else ""  # no −.00
    return minus + size.removeprefix("0")


def format_tick(value: float, largest: float) -> str:
    """Print the tick of an axis that reaches `largest` in few characters: 0.25, 7.5e-6."""
    # beside the other end of the axis, what is left of 0 is rounding
    if abs(value) < 1e-3 * largest or value == 0:
        return "0"
    text = f"{value:.3g}"
    if "e" in text or abs(value) < 1e-3:
        mantissa, power = f"{value:.1e}".split("e")
        text = f"{mantissa.removesuffix('.0')}e{int(power)}"
    # the minus of an exponent stays a hyphen
    return text.replace("-", "−", 1) if value < 0 else text
