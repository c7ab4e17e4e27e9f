"""Speed-up as a function of the target loss, one panel per domain."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from analysis.drawing import DOUBTFUL, INK, Drawing, FigurePlugin, Pen, label, legend, pens
from analysis.study import Study
from analysis.tables.speedup_over_target import ratios
from analysis.wording import listed, plain, short

if TYPE_CHECKING:
    from matplotlib.axes import Axes


@dataclass(frozen=True)
class _Line:
    name: str
    pen: Pen
    targets: list[float]
    speedups: list[float]


@dataclass(frozen=True)
class _Panel:
    title: str
    lines: list[_Line]


def _build(study: Study) -> list[Drawing]:
    return list(_drawings(study))


def _drawings(study: Study) -> Iterator[Drawing]:
    look = pens(study)
    for i, domain in enumerate(study.records.domains):
        found = {arm: ratios(study, domain, arm)[:2] for arm in study.treated(domain)}
        drawn = {arm: pair for arm, pair in found.items() if len(pair[0]) > 1}
        if drawn:
            said = listed(
                (f"{study.named(arm)} from {y.min():.2f} to {y.max():.2f}" for arm, (_, y) in drawn.items()), 30)
            yield Drawing(
                key=f"speedup_over_target-{i}", title=f"Speed-up over the target loss, {plain(domain)}",
                description=f"Speed-up over {study.reference} against the target loss in {plain(domain)}: {said}.",
                size=(5.0, 3.4), paint=_paint, data=_Panel(short(domain), [
                    _Line(label(study, arm), look[arm], x.tolist(), y.tolist()) for arm, (x, y) in drawn.items()]),
            )


def _paint(axes: Axes, panel: _Panel) -> None:
    axes.axhline(1, color=INK, linewidth=0.8)
    for line in panel.lines:
        pen = line.pen
        axes.plot(line.targets, line.speedups, color=pen.colour, linestyle=pen.dash, label=line.name)
        axes.plot(line.targets[-1:], line.speedups[-1:], color=pen.colour, marker=pen.marker, markersize=5)
    axes.invert_xaxis()
    axes.set(xlabel="target loss (nats per token), harder to the right", ylabel="speed-up (tokens over tokens)",
             title=panel.title)
    legend(axes)


PLUGIN = FigurePlugin(
    title="Speed-up over the target loss",
    caption="Tokens that the baseline needs over tokens that the arm needs for the same loss; geometric mean over "
            "seeds, only targets that every seed brackets. Descriptive: no interval, upstream tokens are not charged. "
            + DOUBTFUL,
    build=_build, absent="no pair of runs brackets a common target loss yet",
)
