"""Numbers in words and cells of a report, in the same form everywhere; what is unknown is an empty text."""

import math
from collections.abc import Iterator, Mapping
from typing import Any, TypeGuard

import pandas as pd

from brainrdl.plots.numbers import decimals


def number(value: float | None, digits: int = 2) -> str:
    """With two decimals: 3.14."""
    return decimals(value, digits) if _known(value) else ""


def signed_number(value: float | None, digits: int = 2) -> str:
    """With its sign: +3.14, −3.14, but 0.00."""
    text = number(value, digits)
    # a rounded nought has no sign
    if not text.strip("−0."):
        return text.removeprefix("−")
    return text if text.startswith("−") else f"+{text}"


def interval(low: float | None, high: float | None, *, signed: bool = False, digits: int = 2) -> str:
    """In brackets: [1.00, 2.00]; empty without width, too, as that of seeds which are all equal."""
    format_end = _signed_end if signed else number
    if _known(low) and _known(high) and not has_no_width(low, high):
        return f"[{format_end(low, digits)},\u00a0{format_end(high, digits)}]"
    return ""


def _signed_end(value: float, digits: int) -> str:
    text = signed_number(value, digits)
    # of an end that is rounded to 0 the sign tells whether the interval includes 0
    if text.strip("0.") or abs(value) < 1e-9:
        return text
    return f"{'−' if value < 0 else '+'}{text}"


def has_no_width(low: float, high: float) -> bool:
    """Tell whether an interval is a point, but for rounding: what it is of did not vary."""
    return high - low < 1e-9


def with_interval(estimate: str, low: float, high: float, *, flat: str, signed: bool = False) -> tuple[str, ...]:
    """The lines of a cell: an estimate, and its interval where there is one; `flat` says why it has no width."""
    spread = flat if has_no_width(low, high) else interval(low, high, signed=signed)
    return tuple(part for part in (estimate, spread) if part) or ("",)


def not_shown(
    low: float, high: float, noun: str = "gain", *, unit: str = "", digits: int = 2, smallest: float | None = None
) -> tuple[str, str]:
    """Say what an interval that includes 0 does not show, and the largest effect that it does not exclude.

    A "gain" is a difference above 0; a "difference", or any other `noun`, has either sign. "No gain", without "shown",
    only where the bound lies below the `smallest` effect that was stated beforehand.
    """
    if has_no_width(low, high):
        return f"no {noun} shown", "the difference does not vary: it is 0 in every resample"
    largest = max(high, 0.0) if noun == "gain" else max(-low, high)
    includes = f"the interval {interval(low, high, signed=True, digits=digits)} includes 0"
    if smallest is not None and largest < smallest:
        return f"no {noun}", f"{includes} and excludes the smallest {noun} stated beforehand, {smallest:g}{unit}"
    bound = number(largest, digits)
    # a bound that is printed as 0 would read as if everything were excluded
    up_to = f"up to {bound}" if bound.strip("0.") else f"less than {10**-digits:g}"
    stated = "" if smallest is None else f" (the smallest that was stated beforehand: {smallest:g}{unit})"
    return f"no {noun} shown", f"{includes}; a {noun} of {up_to}{unit} is not excluded{stated}"


def span_of(low: float | None, high: float | None, digits: int = 2) -> str:
    """Two bounds that are no interval of an estimate, as a noise ceiling's: 0.35 to 0.55."""
    return f"{number(low, digits)} to {number(high, digits)}" if _known(low) and _known(high) else ""


def p_value(p: float | None) -> str:
    """As journals print it: .012, <.001."""
    if _known(p):
        return "<.001" if p < 0.001 else decimals(p, 3).removeprefix("0")
    return ""


def p_equals(p: float) -> str:
    """For after "p": = .012, <.001."""
    return p_value(p) if p < 0.001 else f"= {p_value(p)}"


def unbroken(text: str) -> str:
    """Keep units on the line of their numbers."""
    return text.replace(" %", "\u00a0%").replace(" points", "\u00a0points")


def capital(text: str) -> str:
    """Begin with a capital letter, and leave the rest as it is."""
    return text[:1].upper() + text[1:]


def share(ratio: float) -> str:
    """As a percentage: 25 %, <1 %; from ten on as a multiple: 12 ×."""
    if 0 < ratio < 0.005:
        return "<1 %"
    # 1,200 % is harder to read than 12 ×
    return f"{100 * ratio:.0f} %" if ratio < 10 else f"{ratio:,.0f} ×"


def count(n: int, noun: str) -> str:
    """A number of things: 1 seed, 1,000 seeds."""
    return f"{n:,} {noun}{'' if n == 1 else 's'}"


def labels_cell(labels: float) -> str:
    """The number of labelled images of a row: 1,000, or all."""
    return "all" if math.isnan(labels) else f"{labels:,.0f}"


def span(values: "pd.Series[Any]") -> str:
    """The range of counts: 100–1,000, or the one count that there is."""
    known = values.dropna()
    if known.empty:
        return "an unknown number of"
    low, high = int(known.min()), int(known.max())
    return f"{low:,}" if low == high else f"{low:,}–{high:,}"


def duration(seconds: float) -> str:
    """In the unit that suits it: 61 s, 30 min, 2.5 h."""
    if math.isnan(seconds):
        return ""
    # a minute and a half is still read more easily in seconds, an hour and a half in minutes
    if seconds < 100:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 6000 else f"{seconds / 3600:.1f} h"


def date(created: str) -> str:
    """The day of an ISO time stamp."""
    return created.split("T")[0]


def as_text(value: Any) -> str:
    """A value of a table of results, numbers with commas."""
    if isinstance(value, float):
        return "" if math.isnan(value) else f"{value:,.0f}" if value == int(value) else f"{value:.4g}"
    return f"{value:,}" if isinstance(value, int) else str(value)


def flat(value: Any, field: str = "") -> Iterator[tuple[str, str]]:
    """Nested objects as pairs of a dotted field and its value."""
    if isinstance(value, Mapping):
        for key, inner in value.items():
            yield from flat(inner, f"{field}.{key}" if field else str(key))
    elif isinstance(value, list):
        yield field, ", ".join(str(inner) for inner in value)
    else:
        yield field, str(value)


def records(table: pd.DataFrame) -> list[dict[str, Any]]:
    """The rows of a table, each by names of columns."""
    return [{str(key): value for key, value in line.items()} for line in table.to_dict("records")]


def _known(value: float | None) -> TypeGuard[float]:
    return value is not None and not math.isnan(value)
