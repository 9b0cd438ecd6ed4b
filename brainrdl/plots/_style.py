"""The look of figures: sizes, colours, axes of errors, and the style that tells a method from others."""

from collections.abc import Hashable, Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.textpath import TextPath
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter, SymmetricalLogLocator
from numpy.typing import NDArray

from brainrdl.arguments import name_some

FONT = 8.0
"""Points; figures are drawn at the size at which they are printed."""

INK = "0.25"

# Okabe and Ito's palette for all kinds of colour vision, without its yellow, which is lost on white.
_COLORS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
_DASHES: tuple[Any, ...] = ("solid", (0, (3.5, 1.5)), (0, (1, 1.2)))
_FILLS = ("full", "open", "left")


class Style(NamedTuple):
    """The look of a method in a figure that tells methods by colour."""

    color: str
    dash: Any
    fill: str


def styles_of(names: Sequence[str], palette: Sequence[str] | None = None) -> dict[str, Style]:
    """A style for each name, by its place in the palette (or else among the names)."""
    # all colours before a second dash: few methods differ by colour alone
    known = [Style(color, dash, fill) for dash, fill in zip(_DASHES, _FILLS, strict=True) for color in _COLORS]
    places = list(names if palette is None else palette)
    lacking = [name for name in names if name not in places]
    if lacking:
        raise ValueError(f"palette lacks {quoted(lacking)}; it has {quoted(places) or 'none'}")
    if len(places) > len(known):
        raise ValueError(
            f"{len(places)} methods cannot be told apart by colour and dash; draw at most {len(known)} at a time"
        )
    return {name: known[places.index(name)] for name in names}


def marker(color: str, shape: str, fill: str = "full") -> dict[str, Any]:
    """The markers of a line, as matplotlib's options; `fill` is full, open, left or none."""
    return {
        "color": color,
        "marker": shape,
        "markersize": 4.5,
        "fillstyle": "full" if fill == "open" else fill,
        "markerfacecolor": "white" if fill == "open" else color,
        "markerfacecoloralt": "white",
        "markeredgewidth": 0.9,
    }


def style_axes(ax: Axes) -> None:
    """Leave the axes thin lines at the left and at the bottom."""
    ax.spines[["top", "right"]].set_visible(False)
    ax.spines[:].set_linewidth(0.6)
    ax.tick_params(labelsize=FONT - 1, width=0.6, length=2.5)


def legend_beside(figure: Figure, *handles_and_labels: Sequence[Artist] | Sequence[str]) -> None:
    """Write the legend at the right of the axes; without handles, of what bears a label."""
    figure.legend(*handles_and_labels, loc="outside right upper", fontsize=FONT, frameon=False, handlelength=2.4)


def text_width(text: str, size: float = FONT) -> float:
    """Inches that a text takes, at a size in points."""
    return TextPath((0, 0), text, size=size).get_extents().width / 72 if text.strip() else 0.0


def wrapped(text: str, inches: float, size: float = FONT) -> list[str]:
    """Break a text between words into lines of so many inches."""
    lines: list[str] = []
    for word in text.split():
        longer = f"{lines[-1]} {word}" if lines else word
        if lines and text_width(longer, size) <= inches:
            lines[-1] = longer
        else:
            lines.append(word)
    return lines


def shortened(names: Sequence[str], most: int = 28) -> list[str]:
    """Names with an ellipsis in place of what is longer than `most`: of a beginning that all share, or in the middle.

    Names that would no longer be told apart stay as they are.
    """
    first, last = min(names), max(names)  # what these two share, all share
    alike = next((k for k, (a, b) in enumerate(zip(first, last, strict=False)) if a != b), 0)
    shared = max(first.rfind(mark, 0, alike) for mark in "/. ") + 1
    for cut in (0, shared):
        rest = [f"{'…' * bool(cut)}{name[cut:]}" if len(name) > most else name for name in names]
        half = (most - 1) // 2
        short = [name if len(name) <= most else f"{name[:half]}…{name[-half:]}" for name in rest]
        if len(set(short)) == len(set(names)):
            return short
    return list(names)


def scale_errors(ax: Axes, errors: NDArray[np.float64]) -> None:
    """Make the vertical axis logarithmic where errors span a factor of five; with a zero, linear below the smallest."""
    errors = errors[np.isfinite(errors)]
    positive = errors[errors > 0]
    if positive.size == 0 or positive.max() < 5 * positive.min():
        return
    # over more than two decades the ticks between powers of ten would run into each other
    subs = (1.0, 2.0, 5.0) if positive.max() < 300 * positive.min() else (1.0,)
    if positive.size == errors.size:
        ax.set_yscale("log")
        ax.yaxis.set_major_locator(LogLocator(subs=subs))
    else:
        smallest = float(positive.min())
        ax.set_yscale("symlog", linthresh=smallest, linscale=0.3)
        ax.yaxis.set_major_locator(SymmetricalLogLocator(base=10, linthresh=smallest, subs=subs))
    ax.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    ax.yaxis.set_minor_formatter(NullFormatter())


def check_columns(frame: pd.DataFrame, columns: Sequence[str], what: str) -> None:
    """Raise a ValueError that names the columns which a table lacks."""
    lacking = [column for column in columns if column not in frame]
    if lacking:
        raise ValueError(f"{what} lacks the column(s) {quoted(lacking)}; it has {quoted(frame) or 'none'}")


def quoted(names: Iterable[Hashable]) -> str:
    """Write out the first ten names for a message; nothing if there are none."""
    return name_some([str(name) for name in names], 10)
