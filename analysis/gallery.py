"""A picture of what an upstream makes: rules as rows of frames through time, beside the scores they were chosen by.

Shapes: R rules, F frames, H x W cells.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.colors import Colormap, ListedColormap
from matplotlib.figure import Figure

Ints = npt.NDArray[np.int64]
FORMATS = (".png", ".svg", ".pdf")
"""Endings of a picture's name."""
COLUMNS = 12
"""Frames of a rule that are drawn, evenly spread from the first to the last."""
BIN_PERCENT = 5
_STYLE: Any = {"font.size": 8.0, "axes.titlesize": 9.0, "axes.titlelocation": "left", "text.parse_math": False,
               "font.family": "sans-serif", "font.sans-serif": ["DejaVu Sans"], "svg.hashsalt": "gallery",
               "axes.spines.top": False, "axes.spines.right": False, "legend.frameon": False}
_BAND, _CHOSEN, _RANDOM = "#E69F00", "#D55E00", "#999999"


@dataclass(frozen=True, kw_only=True)
class Panel:
    """Rules of one band."""

    title: str
    frames_RFHW: Ints
    labels: Sequence[str] = ()
    """What stands beside each rule."""
    percents: Sequence[float] = ()
    """Scores of random rules; empty where nothing is chosen by a score."""
    chosen: Sequence[float] = ()
    """Scores of the rules that are drawn."""
    band: tuple[float, float] = (0.0, 100.0)


def write_gallery(path: Path, panels: Sequence[Panel]) -> None:
    """Draw the panels below each other; the ending of `path` says in which format. The same panels give equal bytes."""
    tiles = [_tiled(panel.frames_RFHW) for panel in panels]
    states = 1 + max(int(panel.frames_RFHW.max(initial=1)) for panel in panels)
    heights = [8.0 * t.shape[0] / t.shape[1] + 0.75 for t in tiles]
    scored = any(panel.percents for panel in panels)
    with mpl.rc_context(_STYLE):
        figure = Figure(figsize=(11.0 if scored else 8.6, sum(heights)), layout="constrained")
        grid = figure.add_gridspec(len(panels), 2 if scored else 1, height_ratios=heights,
                                   width_ratios=(8.0, 2.4) if scored else None)
        for row, (panel, tile) in enumerate(zip(panels, tiles, strict=True)):
            axes = figure.add_subplot(grid[row, 0])
            _draw_frames(axes, panel, tile, _colours(states))
            if row == len(panels) - 1 and panel.frames_RFHW.shape[2] > 1:
                axes.set_xlabel("frame")
            if panel.percents:
                _draw_scores(figure.add_subplot(grid[row, 1]), panel, last=row == len(panels) - 1)
        out = io.BytesIO()
        kind = path.suffix.removeprefix(".")
        undated = {"png": {"Software": None}, "svg": {"Date": None}, "pdf": {"CreationDate": None}}
        figure.savefig(out, format=kind, dpi=110, metadata=undated[kind])
    path.write_bytes(out.getvalue())


def _colours(states: int) -> Colormap:
    if states == 2:
        return ListedColormap(["#f4f4f4", "#222222"])
    name = "tab10" if states <= 10 else "turbo"
    return ListedColormap([mpl.colormaps[name](k if states <= 10 else k / (states - 1)) for k in range(states)])


def _tiled(frames_RFHW: Ints) -> np.ma.MaskedArray[Any, Any]:
    """Return one image with a masked line between tiles: a row per rule, a column per frame.

    Rows of cells (H = 1) become one tile per rule, with time running down.
    """
    rules, frames, height, width = frames_RFHW.shape
    if height == 1:
        tiles = frames_RFHW.transpose(2, 0, 1, 3)
    else:
        tiles = frames_RFHW[:, np.unique(np.linspace(0, frames - 1, min(COLUMNS, frames)).round().astype(int))]
    rows, columns, height, width = tiles.shape
    canvas = np.full((rows * (height + 1), columns * (width + 1)), -1, np.int64)
    framed = canvas.reshape(rows, height + 1, columns, width + 1)
    framed[:, :-1, :, :-1] = tiles.transpose(0, 2, 1, 3)
    return np.ma.masked_less(canvas[:-1, :-1], 0)


def _draw_frames(axes: Axes, panel: Panel, tile: np.ma.MaskedArray[Any, Any], colours: Colormap) -> None:
    axes.imshow(tile, cmap=colours, vmin=-0.5, vmax=colours.N - 0.5, interpolation="nearest")
    rules, frames, height, width = panel.frames_RFHW.shape
    along = height == 1
    step = (width if along else height) + 1
    places = [step * rule + (step - 2) / 2 for rule in range(rules)]
    names = list(panel.labels) or [str(rule) for rule in range(rules)]
    axes.set_title(panel.title)
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    if along:
        axes.set_xticks(places, names)
        axes.set_yticks([])
        axes.set_ylabel(f"{frames} frames")
        return
    axes.set_yticks(places, names)
    shown = np.unique(np.linspace(0, frames - 1, min(COLUMNS, frames)).round().astype(int))
    axes.set_xticks([(width + 1) * k + (width - 1) / 2 for k in range(len(shown))], [str(k) for k in shown])


def _draw_scores(axes: Axes, panel: Panel, *, last: bool) -> None:
    low, high = panel.band
    shares = np.full(len(panel.percents), 100 / len(panel.percents))
    axes.axvspan(low, high, color=_BAND, alpha=0.3, linewidth=0)
    bins = list(range(0, 100 + BIN_PERCENT, BIN_PERCENT))
    axes.hist(np.minimum(panel.percents, 100 - BIN_PERCENT / 2), bins=bins, weights=shares, color=_RANDOM)
    axes.plot(panel.chosen, np.zeros(len(panel.chosen)), linestyle="", marker="|", markersize=9, color=_CHOSEN,
              clip_on=False)
    axes.set_xlim(0, 100)
    axes.set_ylabel("random rules (%)")
    if last:
        axes.set_xlabel("score (%); shaded: band, ticks: rules shown")
