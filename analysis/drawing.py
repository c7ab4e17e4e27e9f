"""One style for every figure, and figures as text: SVG with the same bytes for the same records.

Colours are Okabe and Ito's (colour-blind safe); arms also differ by dash and marker. Ink is `currentColor`, so a page
in a dark scheme can colour axes and text. Names are never read as mathematics.
"""

from __future__ import annotations

import html
import io
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure

from analysis.study import Study
from analysis.wording import short

INK = "#010203"
"""Stands for `currentColor` until the SVG is text."""
DOUBTFUL = "?: an upstream that was not learned in every measured seed."
"""What a figure's caption says of `label`."""
_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00")
_DASHES: tuple[Any, ...] = ("-", (0, (5, 2)), (0, (1, 1.5)), (0, (6, 2, 1, 2)))
_MARKERS = ("o", "s", "^", "D", "v", "P", "X", "<", ">")
_STYLE: Any = {
    "svg.fonttype": "none", "svg.hashsalt": "sweep", "text.parse_math": False, "font.size": 9.0,
    "font.family": "sans-serif", "font.sans-serif": ["DejaVu Sans"], "axes.edgecolor": INK, "axes.labelcolor": INK,
    "axes.titlecolor": INK, "axes.spines.top": False, "axes.spines.right": False, "text.color": INK,
    "xtick.color": INK, "ytick.color": INK, "legend.frameon": False, "legend.fontsize": 8.0, "axes.titlesize": 10.0,
    "axes.titlelocation": "left", "axes.formatter.use_mathtext": False, "axes.formatter.useoffset": False,
    "path.simplify": False,
}


@dataclass(frozen=True, kw_only=True)
class Drawing:
    """One picture."""

    key: str
    """File name without its ending, unique among drawings."""
    title: str
    description: str
    """What a reader who cannot see it needs to know."""
    svg: str
    """One <svg> element."""


@dataclass(frozen=True, kw_only=True)
class FigurePlugin:
    """A figure: one file in `analysis/figures/` that exports it as PLUGIN."""

    title: str
    caption: str
    build: Callable[[Study], Sequence[Drawing]]
    """Returns one drawing per domain; none where there is nothing to draw."""


@dataclass(frozen=True)
class Pen:
    """How one arm looks in every figure."""

    colour: str
    dash: Any
    marker: str


def pens(study: Study) -> dict[str, Pen]:
    """Return arm -> pen; baselines in ink."""
    found, position = {}, 0
    for arm in study.records.arms:
        if arm in study.records.baseline_arms:
            found[arm] = Pen(INK, "-", "o")
            continue
        found[arm] = Pen(
            _COLOURS[position % len(_COLOURS)], _DASHES[position // len(_COLOURS) % len(_DASHES)],
            _MARKERS[(position + 1) % len(_MARKERS)],
        )
        position += 1
    return found


def label(study: Study, arm: str) -> str:
    """Return an arm's name for a figure, with `?` where its upstream was not learned in every measured seed."""
    return short(arm) + " ?" * study.doubtful(arm)


def draw(key: str, title: str, description: str, size: tuple[float, float], paint: Callable[[Axes], None]) -> Drawing:
    """Return a drawing of one panel.

    Args:
        key: unique name; also the prefix of every id in the SVG, so that several fit into one page.
        title: its accessible title.
        description: its accessible text.
        size: width and height in inches.
        paint: draws into the axes.
    """
    with mpl.rc_context(_STYLE):
        figure = Figure(figsize=size, layout="constrained")
        FigureCanvasSVG(figure)
        paint(figure.add_subplot())
        out = io.StringIO()
        figure.savefig(out, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    return Drawing(key=key, title=title, description=description, svg=_tidy(out.getvalue(), key, title, description))


def _tidy(svg: str, key: str, title: str, description: str) -> str:
    """Return the bare <svg> element with ids of its own, ink as currentColor, and accessible text."""
    body = svg[svg.index("<svg ") :].strip()
    body = re.sub(r"<metadata>.*?</metadata>", "", body, flags=re.DOTALL)
    prefix = re.sub(r"[^A-Za-z0-9]+", "-", key) + "-"
    body = re.sub(r'(\bid="|xlink:href="#|url\(#)', lambda m: m[1] + prefix, body)
    body = body.replace(INK, "currentColor")
    head, _, rest = body.partition(">")
    label = f'<title id="{prefix}t">{html.escape(title)}</title><desc id="{prefix}d">{html.escape(description)}</desc>'
    return f'{head} role="img" aria-labelledby="{prefix}t {prefix}d">{label}{rest}'
