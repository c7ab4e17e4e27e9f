"""Gain over scratch of every arm, one panel per domain: estimate, intervals, and each seed."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from matplotlib.axes import Axes

from analysis.drawing import DOUBTFUL, INK, Drawing, FigurePlugin, draw, label, pens
from analysis.statistics import Interval
from analysis.study import Study
from analysis.wording import interval, listed, plain, short


def _build(study: Study) -> list[Drawing]:
    return list(_drawings(study))


def _drawings(study: Study) -> Iterator[Drawing]:
    for i, domain in enumerate(study.records.domains):
        arms = [arm for arm in study.treated(domain) if study.gains(domain, arm)]
        if arms:
            said = listed((f"{study.named(arm)} {interval(study.effect(domain, arm))}" for arm in arms), 30)
            yield draw(
                f"gain_by_band-{i}", f"Gain over scratch, {plain(domain)}",
                f"Gain over scratch in {plain(domain)}, nats per token with 95 % intervals: {said}.",
                (5.0, 1.3 + 0.34 * len(arms)),
                lambda axes, domain=domain, arms=arms: _paint(axes, study, domain, arms),  # type: ignore[misc]
            )


def _paint(axes: Axes, study: Study, domain: str, arms: list[str]) -> None:
    look, joint = pens(study), _joint(study, domain)
    axes.axvline(0, color=INK, linewidth=0.8)
    for row, arm in enumerate(arms):
        effect, pen, seeds = study.effect(domain, arm), look[arm], list(study.gains(domain, arm).values())
        if arm in joint and not joint[arm].note:
            axes.plot([joint[arm].low, joint[arm].high], [row, row], color=pen.colour, linewidth=7, alpha=0.25,
                      solid_capstyle="butt")
        if not effect.note:
            axes.plot([effect.low, effect.high], [row, row], color=pen.colour, linewidth=1.6)
        axes.plot(seeds, np.full(len(seeds), row + 0.22), linestyle="", marker="|", markersize=6, color=pen.colour)
        axes.plot([effect.mean], [row], marker=pen.marker, color=pen.colour, markersize=5, linestyle="")
    names = [label(study, a) + (" (control)" if study.cells[domain, a][0]["is_control"] else "") for a in arms]
    axes.set_yticks(range(len(arms)), names)
    axes.set_ylim(len(arms) - 0.5, -0.6)
    axes.set(xlabel="gain over scratch (nats per token)", title=short(domain))


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
            + DOUBTFUL,
    build=_build,
)
