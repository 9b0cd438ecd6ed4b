"""RDMs laid out in rows and columns: everything is measured first, in inches, and drawn then."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple, final

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.image import AxesImage
from numpy.typing import NDArray

from brainrdl.plots._groups import Stretch, group_font, names_height, names_turned, names_width
from brainrdl.plots._scale import Scale, scale_of
from brainrdl.plots._style import FONT, INK, text_width
from brainrdl.plots._thumbnails import draw_strip, strip_shape

MAX_IDS = 30
"""More stimuli than these are not named along a panel."""

Cell = tuple[int, int]


@final
@dataclass(frozen=True)
class Panels:
    """RDM ``grid[i, j]`` of `squares` in row i, column j (−1: none), and what is written around them.

    `sharing` names the panels that have one colour scale: ``panel`` (each its own), ``column`` or ``all``.
    """

    squares: NDArray[np.float64]
    grid: NDArray[np.int_]
    metric: str
    caption: str
    sharing: str
    stretches: list[Stretch] = field(default_factory=list)
    limits: tuple[float, float] | None = None
    titles: Sequence[str] = ()
    row_names: Sequence[str] = ()
    column_names: Sequence[str] = ()
    pictures: Sequence[NDArray[np.float64]] = ()

    def cells(self) -> list[Cell]:
        """The places that hold an RDM, row by row."""
        return [(int(i), int(j)) for i, j in np.argwhere(self.grid >= 0)]

    def scale_key(self, cell: Cell) -> Cell:
        """The first place of those that share a cell's colour scale."""
        i, j = cell
        return {"panel": (i, j), "column": (0, j), "all": (0, 0)}[self.sharing]

    def scales(self) -> dict[Cell, Scale]:
        """The colour scales by `scale_key`, each of all its RDMs."""
        members: dict[Cell, list[int]] = {}
        for cell in self.cells():
            members.setdefault(self.scale_key(cell), []).append(int(self.grid[cell]))
        return {key: scale_of(self.squares[rdms], self.metric, self.limits) for key, rdms in members.items()}


class _Inches(NamedTuple):
    """Sizes of a figure of panels: sides of a panel, steps between panels, and the room around them all."""

    side: float
    across: float
    down: float
    left: float
    top: float
    block: float
    beside: float
    strip: float
    width: float
    height: float

    def corner(self, cell: Cell) -> tuple[float, float]:
        """The lower left corner of a panel, from that of the figure."""
        i, j = cell
        return self.left + j * self.across, self.height - self.top - i * self.down - self.side


def draw_panels(panels: Panels) -> Figure:
    """Draw the RDMs, their names and colour bars."""
    scales = panels.scales()
    # of so many axes matplotlib's own layout would have to measure each, again and again
    inches = _measured(panels, scales)
    figure = Figure(figsize=(inches.width, inches.height))
    images: dict[Cell, AxesImage] = {}
    for cell in panels.cells():
        key = panels.scale_key(cell)
        images[key] = _draw_cell(figure, panels, inches, cell, scales[key])
    for i, name in enumerate(panels.row_names):
        x, y = inches.corner((i, 0))
        _write(figure, inches, x - inches.beside - 0.06, y + inches.side / 2, name, ha="right", va="center")
    for j, name in enumerate(panels.column_names):
        x, y = inches.corner((0, j))
        _write(figure, inches, x + inches.side / 2, y + inches.side + 0.05, name, ha="center", va="bottom")
    for cell, image in images.items():
        _draw_bar(figure, panels, inches, cell, image, scales[cell])
    middle = inches.left + inches.block / 2
    _write(figure, inches, middle, 0.06, panels.caption, ha="center", va="bottom", color=INK)
    return figure


def draw_rdm(
    ax: Axes, square: NDArray[np.float64], scale: Scale, stretches: list[Stretch], side: float, edges: Sequence[str]
) -> AxesImage:
    """Draw one RDM into an axes `side` inches wide, with group names along `edges`."""
    image = ax.imshow(square, cmap=scale.colormap, norm=scale.norm, interpolation="nearest")
    ax.set(xticks=[], yticks=[])
    for spine in ax.spines.values():
        spine.set(linewidth=0.5, color=INK)
    inches = side / len(square)
    # where every stimulus has a name of its own there is nothing to part
    for _, start, stop in stretches[1:] if len(stretches) < len(square) else ():
        thin = min(0.3 * side, 0.6, 72 * inches * (stop - start) / 8)
        for line in (ax.axhline, ax.axvline):
            line(start - 0.5, color=INK if scale.signed else "white", linewidth=thin, alpha=0.8)
    font = group_font(side)
    named = [s for s in stretches if (s.stop - s.start) * inches >= 0.8 * font / 72]
    centres, names = [(s.start + s.stop - 1) / 2 for s in named], [s.name for s in named]
    if "left" in edges:
        ax.set_yticks(centres, names)
    if "bottom" in edges:
        ax.set_xticks(centres, names, rotation=90 if names_turned(stretches, side) else 0)
    ax.tick_params(length=0, labelsize=font, pad=1.5)
    return image


def _measured(panels: Panels, scales: dict[Cell, Scale]) -> _Inches:
    """Measure a figure from the texts that it has to hold."""
    n_rows, n_columns = panels.grid.shape
    stretches, each_has_bar = panels.stretches, panels.sharing == "panel"
    side = 1.0 if n_columns > 4 else 1.3
    if panels.titles and len(stretches) == panels.squares.shape[1] <= MAX_IDS:
        side = max(side, 0.075 * len(stretches))  # each stimulus has a name, and a line of text for it
    ticks = max((text_width(label, FONT - 2) for scale in scales.values() for label in scale.labels), default=0.0)
    bar_room = max(0.3, 0.16 + ticks)
    strip = strip_shape(len(panels.pictures), side)[1] + 0.04 if panels.pictures else 0.0
    beside, beneath = names_width(stretches, side) + strip, names_height(stretches, side) + strip
    heads = max((text_width(name) for name in (*panels.titles, *panels.column_names)), default=0.0)
    names = max((text_width(name) for name in panels.row_names), default=0.0)
    across = max(side + (bar_room + 0.08 if each_has_bar else 0.09), heads + 0.1)
    down = side + (0.25 if panels.titles else 0.09)
    left = max(names + 0.12 + beside, (heads - side) / 2 + 0.05)
    top = 0.25
    bottom = beneath + (0.3 if each_has_bar else 0.55)
    block = (n_columns - 1) * across + side
    right = max(bar_room + 0.05 if each_has_bar else 0.1, (heads - side) / 2 + 0.05)
    beyond = (text_width(panels.caption) - block) / 2 + 0.06  # of the caption, at either side of the panels
    left, right = max(left, beyond), max(right, beyond)
    width, height = left + block + right, top + (n_rows - 1) * down + side + bottom
    return _Inches(side, across, down, left, top, block, beside, strip, width, height)


def _draw_cell(figure: Figure, panels: Panels, inches: _Inches, cell: Cell, scale: Scale) -> AxesImage:
    """Draw an RDM at its place; names and pictures stand at the figure's edges only."""
    i, j = cell
    ax = _add_axes(figure, inches, *inches.corner(cell), inches.side, inches.side)
    # a column may end before the last row
    lowest = i == len(panels.grid) - 1 or panels.grid[i + 1, j] < 0
    edges = [edge for edge, outer in (("left", j == 0), ("bottom", lowest)) if outer]
    index = panels.grid[cell]
    image = draw_rdm(ax, panels.squares[index], scale, panels.stretches, inches.side, edges)
    for edge in edges if panels.pictures else ():
        draw_strip(ax, panels.pictures, inches.side, edge)
        ax.tick_params(axis="y" if edge == "left" else "x", pad=1.5 + 72 * inches.strip)
    if panels.titles:
        ax.set_title(panels.titles[index], fontsize=FONT, pad=3)
    return image


def _draw_bar(figure: Figure, panels: Panels, inches: _Inches, cell: Cell, image: AxesImage, scale: Scale) -> None:
    """Draw a colour bar: beside its panel, below its column, or one below all."""
    x, y = inches.corner(cell)
    side = inches.side
    if panels.sharing == "panel":
        bar_ax = _add_axes(figure, inches, x + side + 0.04, y + 0.15 * side, 0.06, 0.7 * side)
    elif panels.sharing == "column":
        bar_ax = _add_axes(figure, inches, x + 0.1 * side, 0.4, 0.8 * side, 0.06)
    else:
        length = min(2.0, inches.block)
        bar_ax = _add_axes(figure, inches, inches.left + (inches.block - length) / 2, 0.4, length, 0.06)
    orientation: Literal["vertical", "horizontal"] = "vertical" if panels.sharing == "panel" else "horizontal"
    bar = figure.colorbar(image, cax=bar_ax, orientation=orientation)
    scale.draw_ticks(bar)
    ticks = bar.ax.get_xticklabels()
    if panels.sharing != "panel" and len(ticks) > 1:
        # within the bar's ends, or neighbours' numbers would run into each other
        ticks[0].set_horizontalalignment("left")
        ticks[-1].set_horizontalalignment("right")


def _add_axes(figure: Figure, inches: _Inches, x: float, y: float, width: float, height: float) -> Axes:
    whole_width, whole_height = inches.width, inches.height
    return figure.add_axes((x / whole_width, y / whole_height, width / whole_width, height / whole_height))


def _write(figure: Figure, inches: _Inches, x: float, y: float, text: str, **alignment: Any) -> None:
    figure.text(x / inches.width, y / inches.height, text, fontsize=FONT, **alignment)
