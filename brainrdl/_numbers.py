"""Whole numbers that callers give: how many, and seeds."""

import operator
from typing import SupportsIndex


def whole_number(value: SupportsIndex, name: str, *, at_least: int = 0) -> int:
    """Return a whole number of Python's, NumPy's or torch's as an int; TypeError or ValueError for anything else."""
    try:
        if isinstance(value, bool):
            raise TypeError
        number = operator.index(value)
    except TypeError:
        raise TypeError(f"{name} is {value!r}; expected a whole number") from None
    if number < at_least:
        raise ValueError(f"{name} must be at least {at_least}, but is {number}")
    return number
