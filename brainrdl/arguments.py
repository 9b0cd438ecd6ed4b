"""Checks and words shared by every function that takes an argument from a caller.

It imports neither torch nor pandas, so that a mistyped command fails at once.
"""

import operator
import sys
from collections.abc import Collection, Iterable
from difflib import get_close_matches
from typing import TYPE_CHECKING, Any, SupportsIndex, TypeGuard

if TYPE_CHECKING:
    from torch import Tensor


def whole_number(value: SupportsIndex, name: str, *, at_least: int | None = 0) -> int:
    """Return a whole number of Python's, NumPy's or torch's as an int; TypeError or ValueError for anything else."""
    try:
        if isinstance(value, bool):  # which is an int, but never meant as one
            raise TypeError
        number = operator.index(value)
    except TypeError:
        raise TypeError(f"{name} is {value!r}; expected a whole number") from None
    if at_least is not None and number < at_least:
        raise ValueError(f"{name} must be at least {at_least}, but is {number}")
    return number


def is_tensor(value: object) -> "TypeGuard[Tensor]":
    """Tell if a value is a torch Tensor, without loading torch: nobody holds a tensor before it is loaded."""
    torch = sys.modules.get("torch")
    return torch is not None and isinstance(value, torch.Tensor)


def check_tensor(value: Any, what: str) -> None:
    """Raise a TypeError that says how to make a tensor, unless `value` is one."""
    if not is_tensor(value):
        raise TypeError(f"{what} must be a torch Tensor, got a {type(value).__name__}; torch.as_tensor makes one")


def name_some(values: Collection[Any], limit: int = 5) -> str:
    """Write out the first `limit` values for a message: ``'a', 'b' and 1 more``."""
    shown = ", ".join(repr(value) for value, _ in zip(values, range(limit), strict=False))
    return shown if len(values) <= limit else f"{shown} and {len(values) - limit} more"


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """Write the end of a message with the known names most like an unknown one, empty if none is alike."""
    reached = _within_reach(name, known)
    near = [other for other in _SYNONYMS.get(name.lower(), ()) if other in reached]
    near = near or get_close_matches(name[:_COMPARED], reached, n=3, cutoff=0.5)
    return f"; did you mean {' or '.join(map(repr, near))}?" if near else ""


_SYNONYMS = {  # what measures and comparisons are called elsewhere
    "pearson": ("corr", "correlation"),
    "pearsonr": ("corr", "correlation"),
    "1-r": ("correlation",),
    "1-pearson": ("correlation",),
    "correlation": ("corr", "correlation"),
    "corr": ("corr", "correlation"),
    "squared euclidean": ("sqeuclidean", "mse"),
    "cv mahalanobis": ("crossnobis",),
    "ldc": ("crossnobis",),
    "kendall": ("tau-a", "tau-b"),
    "kendalltau": ("tau-b",),
    "unknown": ("undeclared",),
}

_COMPARED, _MOST_COMPARISONS = 200, 8_000_000  # letters of a name; pairs of letters


def _within_reach(name: str, known: Iterable[str]) -> list[str]:
    """The known names that an unknown one is compared with: a file may hold any number, each of any length."""
    left, found = _MOST_COMPARISONS, []
    for other in known:
        left -= (1 + len(name[:_COMPARED])) * (1 + len(other))
        if left < 0:
            break
        if len(other) <= _COMPARED:
            found.append(other)
    return found
