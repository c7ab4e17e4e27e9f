"""Validation loss along pre-training, one panel per domain: trunks drawn, annealed ends marked."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from analysis.drawing import DOUBTFUL, INK, Drawing, FigurePlugin, Pen, label, legend, pens
from analysis.published import curves, plain_name
from analysis.spread import Spread
from analysis.study import Study
from analysis.wording import interval, listed, plain, short

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_SHOWN_FROM = 0.15
"""Share of the horizon before which the loss falls off the top: ends would be indistinguishable below it."""


@dataclass(frozen=True)
class _Line:
    """Losses of an arm's seeds at each token count."""

    tokens: list[float]
    mean: list[float]
    low: list[float]
    high: list[float]


@dataclass(frozen=True)
class _Arm:
    name: str
    pen: Pen
    trunk: _Line | None
    ends: _Line | None


@dataclass(frozen=True)
class _Panel:
    title: str
    arms: list[_Arm]
    published: list[tuple[str, str, list[float], list[float]]]
    """Name, dash, tokens and losses."""
    low: float
    high: float
    """Ends of the axis of losses, nats per token."""


def _build(study: Study) -> list[Drawing]:
    return list(_drawings(study))


def _drawings(study: Study) -> Iterator[Drawing]:
    found: dict[str, dict[tuple[str, bool], Spread]] = {}
    for (domain, arm, scored), spread in study.spread.items():
        found.setdefault(domain, {})[arm, scored] = spread
    for i, domain in enumerate(study.records.domains):
        if domain not in found:
            continue
        ends = listed((f"{study.named(a)} {interval(study.effect(domain, a))}" for a in study.treated(domain)), 12)
        yield Drawing(
            key=f"loss_curves-{i}", title=f"Validation loss, {plain(domain)}",
            description=f"Validation loss against pre-training tokens in {plain(domain)}. Gains over "
                        f"{study.reference}, nats: {ends}.",
            size=(5.0, 3.6), paint=_paint, data=_panel(study, domain, found[domain]),
        )


def _panel(study: Study, domain: str, found: Mapping[tuple[str, bool], Spread]) -> _Panel:
    tokens = np.concatenate([spread.tokens for spread in found.values()])
    shown = tokens >= _SHOWN_FROM * tokens.max()
    low = float(np.concatenate([spread.low for spread in found.values()])[shown].min())
    high = float(np.concatenate([spread.high for spread in found.values()])[shown].max())
    room = 0.05 * (high - low) or 0.05
    return _Panel(
        title=short(domain), low=low - room, high=high + room,
        arms=[_Arm(label(study, arm), pen, _line(found.get((arm, False))), _line(found.get((arm, True))))
              for arm, pen in pens(study).items() if {(arm, False), (arm, True)} & found.keys()],
        published=_published(domain, float(tokens.min()), float(tokens.max())) if study.overlay else [])


def _line(spread: Spread | None) -> _Line | None:
    return None if spread is None else _Line(*(x.tolist() for x in (spread.tokens, spread.mean, spread.low,
                                                                     spread.high)))


def _published(domain: str, first: float, last: float) -> list[tuple[str, str, list[float], list[float]]]:
    """Return the published curves on web text, within the tokens of one's own."""
    if plain_name(domain) != "web":
        return []
    found = []
    for place, (upstream, curve) in enumerate(curves().items()):
        inside = (curve.tokens >= first) & (curve.tokens <= last)
        if inside.any():
            found.append((f"published: {upstream}", ("-", "--", ":", "-.")[place % 4], curve.tokens[inside].tolist(),
                          curve.losses[inside].tolist()))
    return found


def _paint(axes: Axes, panel: _Panel) -> None:
    from matplotlib.ticker import EngFormatter

    for arm in panel.arms:
        if arm.trunk is not None:
            _trunk(axes, arm.trunk, arm.pen)
        if arm.ends is not None:
            _ends(axes, arm.ends, arm.pen, arm.name)
        else:
            axes.plot([], [], color=arm.pen.colour, linestyle=arm.pen.dash, label=arm.name)
    for name, dash, tokens, losses in panel.published:
        axes.plot(tokens, losses, color=INK, alpha=0.35, linewidth=0.8, zorder=0, linestyle=dash, label=name)
    axes.set_ylim(panel.low, panel.high)
    axes.set(xlabel="pre-training tokens", ylabel="validation loss (nats per token)", title=panel.title)
    axes.xaxis.set_major_formatter(EngFormatter(sep=""))
    legend(axes)


def _trunk(axes: Axes, line: _Line, pen: Pen) -> None:
    axes.plot(line.tokens, line.mean, color=pen.colour, linestyle=pen.dash, linewidth=0.9, alpha=0.8)
    axes.fill_between(line.tokens, line.low, line.high, color=pen.colour, alpha=0.12, linewidth=0)


def _ends(axes: Axes, line: _Line, pen: Pen, name: str) -> None:
    mean = np.array(line.mean)
    joined = pen.dash if len(line.tokens) > 5 else ""
    axes.errorbar(line.tokens, mean, yerr=[mean - line.low, line.high - mean], color=pen.colour, marker=pen.marker,
                  markersize=4, linestyle=joined, linewidth=1.0, capsize=2, label=name)


PLUGIN = FigurePlugin(
    title="Loss curves",
    caption="Lines: mean over seeds along the trunk, drawn but never scored; shaded and whiskers: range over seeds. "
            "Markers: annealed ends, the only losses that count. " + DOUBTFUL,
    build=_build, absent="no loss is recorded yet",
)
