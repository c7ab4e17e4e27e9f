"""Gain over scratch of every arm, one panel per domain: estimate, intervals, and each seed."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from analysis.drawing import DOUBTFUL, INK, Drawing, FigurePlugin, Pen, label, pens
from analysis.published import beside
from analysis.statistics import Interval
from analysis.study import Study
from analysis.wording import interval, listed, plain, short

if TYPE_CHECKING:
    from matplotlib.axes import Axes


@dataclass(frozen=True)
class _Row:
    """One arm; all values in nats per token."""

    name: str
    pen: Pen
    effect: Interval
    seeds: list[float]
    joint: Interval | None
    published: float | None


@dataclass(frozen=True)
class _Panel:
    title: str
    reference: str
    rows: list[_Row]


def _build(study: Study) -> list[Drawing]:
    return list(_drawings(study))


def _drawings(study: Study) -> Iterator[Drawing]:
    for i, domain in enumerate(study.records.domains):
        arms = [arm for arm in study.treated(domain) if study.gains(domain, arm)]
        if arms:
            said = listed((f"{study.named(arm)} {interval(study.effect(domain, arm))}" for arm in arms), 30)
            yield Drawing(
                key=f"gain_by_band-{i}", title=f"Gain over {study.reference}, {plain(domain)}",
                description=f"Gain over {study.reference} in {plain(domain)}, nats per token with 95 % intervals: "
                            f"{said}.",
                size=(5.0, 1.3 + 0.34 * len(arms)), paint=_paint,
                data=_Panel(short(domain), short(study.reference), list(_rows(study, domain, arms))),
            )


def _rows(study: Study, domain: str, arms: list[str]) -> Iterator[_Row]:
    look, joint = pens(study), _joint(study, domain)
    for arm in arms:
        row = study.cells[domain, arm][0]
        known = beside(domain, row["upstream"]) if study.overlay else None
        yield _Row(
            label(study, arm) + (" (control)" if row["is_control"] else ""), look[arm], study.effect(domain, arm),
            list(study.gains(domain, arm).values()), joint.get(arm), None if known is None else known.gain_nats)


def _paint(axes: Axes, panel: _Panel) -> None:
    axes.axvline(0, color=INK, linewidth=0.8)
    for place, row in enumerate(panel.rows):
        colour = row.pen.colour
        if row.joint is not None and not row.joint.note:
            axes.plot([row.joint.low, row.joint.high], [place, place], color=colour, linewidth=7, alpha=0.25,
                      solid_capstyle="butt")
        if not row.effect.note:
            axes.plot([row.effect.low, row.effect.high], [place, place], color=colour, linewidth=1.6)
        axes.plot(row.seeds, np.full(len(row.seeds), place + 0.22), linestyle="", marker="|", markersize=6,
                  color=colour)
        if row.published is not None:
            axes.plot([row.published], [place], marker="D", markersize=7, markerfacecolor="none", markeredgecolor=INK,
                      linestyle="", alpha=0.6)
        axes.plot([row.effect.mean], [place], marker=row.pen.marker, color=colour, markersize=5, linestyle="")
    axes.set_yticks(range(len(panel.rows)), [row.name for row in panel.rows])
    axes.set_ylim(len(panel.rows) - 0.5, -0.6)
    axes.locator_params(axis="x", nbins=6)  # more of these labels touch
    axes.set(xlabel=f"gain over {panel.reference} (nats per token)", title=panel.title)


def _joint(study: Study, domain: str) -> dict[str, Interval]:
    found: dict[str, Interval] = {}
    for over, arms in study.bands(domain).items():
        made, kept, _ = study.family(domain, arms, over)
        if made is not None:
            found |= dict(zip(kept, made.intervals, strict=True))
    return found


PLUGIN = FigurePlugin(
    title="Gain over scratch by band and domain",
    caption="Marker: mean over seeds; thin line: 95 % paired-t interval (none below three seeds); broad line: 95 % "
            "interval simultaneous over the bands of the domain; ticks: single seeds. Right of zero is better. "
            "Hollow diamonds, where asked for: published gains (1.6B parameters, no error bar). " + DOUBTFUL,
    build=_build,
)
