"""One style for every figure, and figures as SVG, PDF and PNG with the same bytes for the same records.

Colours are Okabe and Ito's (colour-blind safe); arms also differ by dash and marker, so that figures read in grey. Ink
is `currentColor` in an SVG, so a page in a dark scheme can colour axes and text; an SVG has no `style`, so that a page
needs to allow none. Names are never read as mathematics. Whoever shows an SVG has fonts of their own for a name in any
script; PDF and PNG have matplotlib's one, the same on every machine, and spell what it lacks (`\\u4e2d`). Matplotlib is
imported where something is drawn: a report whose drawings are all as they were (`drawn.py`) does without.
"""

from __future__ import annotations

import hashlib
import html
import io
import re
import warnings
from collections.abc import Callable, Container, Mapping, Sequence
from dataclasses import dataclass, is_dataclass, replace
from functools import cached_property, lru_cache
from typing import TYPE_CHECKING, Any

from analysis.study import Study
from analysis.wording import short

if TYPE_CHECKING:
    from matplotlib.axes import Axes

INK = "#010203"
"""Stands for `currentColor` until the SVG is text."""
DOUBTFUL = "?: an upstream that was not learned in every measured seed."
"""What a figure's caption says of `label`."""
_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00")
_DASHES: tuple[Any, ...] = ("-", (0, (5, 2)), (0, (1, 1.5)), (0, (6, 2, 1, 2)))
_MARKERS = ("o", "s", "^", "D", "v", "P", "X", "<", ">")
_FONT = "DejaVu Sans"
"""Comes with matplotlib."""
_STYLE: Any = {
    "svg.fonttype": "none", "svg.hashsalt": "sweep", "text.parse_math": False, "font.size": 9.0,
    "font.family": "sans-serif", "font.sans-serif": [_FONT], "axes.edgecolor": INK, "axes.labelcolor": INK,
    "axes.titlecolor": INK, "axes.spines.top": False, "axes.spines.right": False, "text.color": INK,
    "xtick.color": INK, "ytick.color": INK, "legend.frameon": False, "legend.fontsize": 8.0, "axes.titlesize": 10.0,
    "axes.titlelocation": "left", "axes.formatter.use_mathtext": False, "axes.formatter.useoffset": False,
    "path.simplify": False, "pdf.fonttype": 42, "hatch.linewidth": 0.5,
}
_UNDATED: Mapping[str, Mapping[str, None]] = {
    "svg": {"Date": None, "Creator": None}, "png": {"Software": None},
    "pdf": {"CreationDate": None, "Creator": None, "Producer": None},
}
"""Formats, and what their files are not to say: when and by which release they were made."""
FORMATS = tuple(_UNDATED)
SVG_HEAD = '<?xml version="1.0" encoding="utf-8"?>\n'
_DPI = 200
"""Of PNG."""


@dataclass(frozen=True, kw_only=True)
class Drawing:
    """One picture of one panel."""

    key: str
    """File name without its ending, unique among drawings; prefix of every id in the SVG, so that several fit into one
    page."""
    title: str
    """Its accessible title."""
    description: str
    """What a reader who cannot see it needs to know."""
    size: tuple[float, float]
    """Width and height, inches."""
    paint: Callable[[Axes, Any], None]
    """Draws into the axes what `data` says, and nothing else."""
    data: Any
    """Everything that is drawn, as plain values: the same data are the same picture."""

    @cached_property
    def svg(self) -> str:
        """One <svg> element."""
        return _tidy(self._saved("svg").decode(), self.key, self.title, self.description)

    def file(self, kind: str) -> bytes:
        """Return the whole file of one of `FORMATS`; `pdf` and `png` on white."""
        if kind == "svg":
            return f"{SVG_HEAD}{self.svg}\n".encode()
        return self._saved(kind)

    @property
    def identity(self) -> str:
        """SHA-256 of all that the picture depends on, but for the code that draws."""
        parts = (self.key, self.title, self.description, self.size, self.paint.__module__, self.data)
        return hashlib.sha256(repr(_plain(parts)).encode()).hexdigest()

    def _saved(self, kind: str) -> bytes:
        import matplotlib as mpl
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure

        with mpl.rc_context(_STYLE), warnings.catch_warnings():
            figure = Figure(figsize=self.size, layout="constrained")
            FigureCanvasAgg(figure)
            if kind == "svg":
                warnings.filterwarnings("ignore", r"Glyph \d+ .* missing from font", UserWarning)
            self.paint(figure.add_subplot(), self.data if kind == "svg" else spelt(self.data, _characters()))
            out = io.BytesIO()
            figure.savefig(out, format=kind, transparent=kind == "svg", dpi=_DPI if kind == "png" else 72,
                           metadata=dict(_UNDATED[kind]))
        return out.getvalue()


@dataclass(frozen=True, kw_only=True)
class FigurePlugin:
    """A figure: one file in `analysis/figures/` that exports it as PLUGIN."""

    title: str
    caption: str
    build: Callable[[Study], Sequence[Drawing]]
    """Returns its drawings, most often one per domain; none where there is nothing to draw."""
    absent: str = "no trial is scored together with its baseline yet"
    """Why there is nothing to draw, then."""


@dataclass(frozen=True)
class Pen:
    """How one arm looks in every figure."""

    colour: str
    dash: Any
    marker: str


def pens(study: Study) -> dict[str, Pen]:
    """Return arm -> pen; baselines in ink. The first twelve differ in colour and dash, 36 in these and the marker."""
    found, position = {}, 0
    for arm in study.records.arms:
        if arm in study.records.baseline_arms:
            found[arm] = Pen(INK, "-", "o")
            continue
        found[arm] = Pen(
            _COLOURS[position % len(_COLOURS)], _DASHES[position % len(_DASHES)],
            _MARKERS[(position + 1) % len(_MARKERS)],
        )
        position += 1
    return found


def label(study: Study, arm: str) -> str:
    """Return an arm's name for a figure, with `?` where its upstream was not learned in every measured seed."""
    return short(arm) + " ?" * study.doubtful(arm)


def legend(axes: Axes, longest: int = 70) -> None:
    """Name the lines below the picture, where they hide nothing; the picture grows by as much.

    Args:
        axes: of the only panel.
        longest: characters of a row over all its columns, as many as fit into the picture's width.
    """
    handles, labels = axes.get_legend_handles_labels()
    figure = axes.get_figure(root=True)
    if not labels or figure is None:
        return
    columns = max(1, min(len(labels), longest // (max(map(len, labels)) + 7)))
    figure.set_figheight(figure.get_figheight() + 0.17 * -(-len(labels) // columns))
    figure.legend(handles, labels, loc="outside lower center", ncols=columns)


@lru_cache(maxsize=1)
def _characters() -> Container[int]:
    """Return the code points that the figures' font has."""
    from matplotlib.font_manager import findfont
    from matplotlib.ft2font import FT2Font

    return FT2Font(findfont(_FONT)).get_charmap()


def spelt(value: Any, known: Container[int]) -> Any:
    """Return a drawing's data with the characters of its texts that are not `known` as ASCII: their numbers.

    Of more than four in a row the first two and the last, as much as a name cut by `short` takes.
    """
    if isinstance(value, str):
        lacking = "".join({c for c in value if not c.isascii() and ord(c) not in known})
        return re.sub(f"[{re.escape(lacking)}]+", lambda m: _numbers(m[0]), value) if lacking else value
    if isinstance(value, Mapping):
        return {spelt(k, known): spelt(v, known) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return type(value)(spelt(v, known) for v in value)
    if is_dataclass(value) and not isinstance(value, type):
        return replace(value, **{name: spelt(v, known) for name, v in vars(value).items()})
    return value


def _numbers(text: str) -> str:
    kept = text if len(text) <= 4 else f"{text[:2]}...{text[-1]}"
    return kept.encode("ascii", "backslashreplace").decode()


def _plain(value: Any) -> Any:
    """Return a value as tuples of texts and numbers, whose `repr` says all of it.

    Raises:
        TypeError: it holds something else, such as an array, of which `repr` leaves out the middle.
    """
    if value is None or isinstance(value, (str, int, float)):
        return value
    if isinstance(value, Mapping):
        return tuple((_plain(k), _plain(v)) for k, v in value.items())
    if isinstance(value, (list, tuple)):
        return tuple(map(_plain, value))
    if is_dataclass(value) and not isinstance(value, type):
        return type(value).__name__, _plain(vars(value))
    raise TypeError(f"{type(value).__name__}: a drawing's data are plain values")


def _tidy(svg: str, key: str, title: str, description: str) -> str:
    """Return the bare <svg> element with ids of its own, ink as currentColor, no style, and accessible text."""
    body = svg[svg.index("<svg ") :].strip()
    body = re.sub(r"<metadata>.*?</metadata>", "", body, flags=re.DOTALL)
    body = re.sub(r"<defs>\s*<style[^>]*>[^<]*</style>\s*</defs>", "", body, count=1)
    body = re.sub(r' style="([^"]*)"', lambda m: _attributes(m[1]), body)
    prefix = re.sub(r"[^A-Za-z0-9]+", "-", key) + "-"
    body = re.sub(r'(\bid="|xlink:href="#|url\(#)', lambda m: m[1] + prefix, body)
    body = body.replace(INK, "currentColor")
    head, _, rest = body.partition(">")
    label = f'<title id="{prefix}t">{html.escape(title)}</title><desc id="{prefix}d">{html.escape(description)}</desc>'
    drawn = 'stroke-linejoin="round" stroke-linecap="butt"'  # what the removed <style> said of everything
    return f'{head} {drawn} role="img" aria-labelledby="{prefix}t {prefix}d">{label}{rest}'


def _attributes(style: str) -> str:
    """Return a style as presentation attributes, which a page with a strict content policy shows."""
    pairs = (part.partition(":") for part in style.split(";") if part.strip())
    return "".join(f' {name.strip()}="{value.strip()}"' for name, _, value in pairs)
