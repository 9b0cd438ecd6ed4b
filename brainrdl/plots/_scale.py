"""The colours of dissimilarities, and the ticks of their colour bar."""

from typing import NamedTuple

import numpy as np
from matplotlib import colormaps
from matplotlib.colorbar import Colorbar
from matplotlib.colors import Colormap, Normalize
from numpy.typing import NDArray

from brainrdl.plots._style import FONT
from brainrdl.plots.numbers import format_tick
from brainrdl.rdms.rounding import is_constant

_TRUE_ZERO = ("crossnobis", "mse", "sqeuclidean", "euclidean", "mahalanobis")
"""Metrics whose zero means that two patterns do not differ."""


class Scale(NamedTuple):
    """Colours from `low` to `high`; `signed` where they part at zero; the bar shows `ends` only and bears `ticks`."""

    low: float
    high: float
    signed: bool
    ends: tuple[float, float]
    ticks: tuple[float, ...]

    @property
    def norm(self) -> Normalize:
        """From values to the map."""
        return Normalize(self.low, self.high)

    @property
    def colormap(self) -> Colormap:
        """Grey is unmeasured; of a signed scale, white is zero."""
        return colormaps["RdBu_r" if self.signed else "viridis"].with_extremes(bad="0.8")

    @property
    def labels(self) -> list[str]:
        """The numbers at the ticks."""
        return [format_tick(tick, max(map(abs, self.ticks))) for tick in self.ticks]

    def draw_ticks(self, bar: Colorbar, *, few: bool = True) -> None:
        """Restrict a colour bar to what there is, and write its ticks: `few`, or as many as there is room for."""
        if few or len(self.ticks) < 2:
            bar.set_ticks(self.ticks, labels=self.labels)
        if self.ends != (self.low, self.high):
            (bar.ax.set_ylim if bar.orientation == "vertical" else bar.ax.set_xlim)(*self.ends)
        bar.outline.set_linewidth(0.4)
        bar.ax.tick_params(labelsize=FONT - 2, length=1.5, width=0.4, pad=1.5)


def scale_of(squares: NDArray[np.float64], metric: str, limits: tuple[float, float] | None = None) -> Scale:
    """Make a scale of the finite values off the diagonal, with zero an end of it for a metric that has a true one.

    Crossnobis distances, and any negative beyond rounding, have colours that part at zero and reach as far both ways.
    """
    off = squares[..., ~np.eye(squares.shape[-1], dtype=bool)]
    off = off[np.isfinite(off)]
    if limits is not None:
        low, high = limits
        return Scale(low, high, metric == "crossnobis" and low == -high, limits, limits)
    if not off.size:
        return Scale(0.0, 1.0, False, (0.0, 1.0), ())
    low, high = float(off.min()), float(off.max())
    if is_constant(off):  # colours would show its rounding
        low = high
    negative = low < -1e-6 * abs(high)
    if negative or (metric == "crossnobis" and high > 0):
        most = max(-low, high)
        # the bar shows negative distances only where there are any
        ends = (-most, most) if negative else (0.0, most)
        return Scale(-most, most, True, ends, (-most, 0.0, most) if negative else (0.0, most))
    if metric in _TRUE_ZERO:
        low = 0.0
    if high > low:
        return Scale(low, high, False, (low, high), (low, high))
    # one value alone would have no range: it gets one around it, of which the bar shows the middle
    wide = abs(low) or 1.0
    return Scale(low - wide, low + wide, False, (low - 1e-3 * wide, low + 1e-3 * wide), (low,))
