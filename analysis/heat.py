"""A matrix of gains as a picture: colour for the size, in each cell the number with its interval.

Shapes: R rows, C columns.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from analysis.drawing import Drawing
from analysis.statistics import Interval
from analysis.wording import nats

if TYPE_CHECKING:
    from matplotlib.axes import Axes

COLOURS = "cividis"
"""Lightness rises with the value, so that cells read in grey and to the colour-blind."""
READING = "95 % paired-t interval below it; lighter is better. Framed: the interval excludes zero (each for itself)."
"""What a caption says of a cell."""


@dataclass(frozen=True, kw_only=True)
class Matrix:
    """Gains by row and column; a cell without one stays empty."""

    rows: Sequence[str]
    columns: Sequence[str]
    gains: Mapping[tuple[int, int], Interval]
    """(row, column) -> gain, nats per token."""
    title: str = ""
    rows_are: str = ""


def draw(key: str, title: str, description: str, matrix: Matrix) -> Drawing:
    """Return the drawing of a matrix; see `Drawing` for the texts."""
    widest = max(map(len, matrix.rows))
    size = 1.4 + 0.075 * widest + 1.35 * len(matrix.columns), 1.1 + 0.5 * len(matrix.rows)
    return Drawing(key=key, title=title, description=description, size=size, paint=_paint, data=matrix)


def _paint(axes: Axes, matrix: Matrix) -> None:
    import matplotlib as mpl
    from matplotlib.colors import Normalize
    from matplotlib.patches import Rectangle

    means = [gain.mean for gain in matrix.gains.values()]
    room = 0.05 * (max(means) - min(means)) or 0.01
    scale, colours = Normalize(min(means) - room, max(means) + room), mpl.colormaps[COLOURS]
    for (row, column), gain in matrix.gains.items():
        colour = colours(scale(gain.mean))
        ink = ink_on(colour)
        axes.add_patch(Rectangle((column - 0.5, row - 0.5), 1, 1, facecolor=colour, edgecolor="none"))
        if gain.resolved:
            axes.add_patch(Rectangle((column - 0.46, row - 0.42), 0.92, 0.84, fill=False, edgecolor=ink, linewidth=1.4))
        text = axes.text(column, row, cell_text(gain), ha="center", va="center", fontsize=8, color=ink)
        text.set_in_layout(False)  # it lies inside; there are hundreds to measure
    axes.set_xlim(-0.5, len(matrix.columns) - 0.5)
    axes.set_ylim(len(matrix.rows) - 0.5, -0.5)
    axes.set_xticks(range(len(matrix.columns)), matrix.columns)
    axes.set_yticks(range(len(matrix.rows)), matrix.rows)
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    axes.set(title=matrix.title, ylabel=matrix.rows_are)


def cell_text(gain: Interval) -> str:
    """Return a gain over two lines: the mean, and its interval or the number of seeds."""
    return f"{nats(gain.mean)}\n" + (f"(n={gain.n})" if gain.note else f"[{nats(gain.low)}, {nats(gain.high)}]")


def ink_on(colour: Sequence[float]) -> str:
    """Return black or white, whichever has the greater contrast on an RGB colour: 4.5 to 1 at least (WCAG 2.2)."""
    light = luminance(colour)
    return "#000000" if (light + 0.05) / 0.05 >= 1.05 / (light + 0.05) else "#ffffff"


def luminance(colour: Sequence[float]) -> float:
    """Return the relative luminance of an RGB colour, 0 to 1 (WCAG 2.2)."""
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in colour[:3]]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]
