"""Downstream tasks against scratch: a forest plot per domain and unit, with what has no signal said so."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from analysis.downstream import NO_SIGNAL, UNSAFE_MARK, UNSAFE_MEANS, Score, downstream, unsafe_mark
from analysis.drawing import DOUBTFUL, INK, Drawing, FigurePlugin, Pen, label, legend, pens
from analysis.item_records import ALL
from analysis.study import Study
from analysis.wording import listed, plain, short

if TYPE_CHECKING:
    from matplotlib.axes import Axes

MOST = 24
"""Rows of one panel (tasks by rungs), those with a signal; the others are in the table `downstream`."""
_SILENT: dict[str, Any] = {"marker": "x", "color": INK, "alpha": 0.45, "markersize": 4, "linestyle": ""}
Rows = dict[str, dict[str, Score]]
"""`task, rung`, marked where programs ran in no sandbox -> arm -> score."""


@dataclass(frozen=True)
class _Mark:
    """One arm's score minus scratch's, signed so that right is better; NaN where there is none."""

    name: str
    pen: Pen
    mean: float
    low: float
    high: float
    silent: bool
    """No signal, so it is not compared."""


@dataclass(frozen=True)
class _Panel:
    title: str
    reference: str
    unit: str
    rows: dict[str, list[_Mark]]


def _build(study: Study) -> list[Drawing]:
    return list(_drawings(study))


def _drawings(study: Study) -> Iterator[Drawing]:
    groups: dict[tuple[str, str], Rows] = {}
    for score in downstream(study):
        if score.level == ALL and score.arm not in study.records.baseline_arms and score.value.n:
            rows = groups.setdefault((score.domain, score.rung.unit), {})
            mark = unsafe_mark(study, score.domain, f"{score.task}.{ALL}.{score.name}")
            rows.setdefault(f"{score.task}, {score.name}{mark}", {})[score.arm] = score
    for i, ((domain, unit), every) in enumerate(groups.items()):
        heard = {name: arms for name, arms in every.items() if any(s.beats != NO_SIGNAL for s in arms.values())}
        rows = dict(list((heard or every).items())[:MOST])
        left = f"; {len(every) - len(rows)} more rows are in the table" if len(rows) < len(every) else ""
        size = 5.5, 1.4 + 0.16 * sum(1 + len(arms) for arms in rows.values())
        yield Drawing(
            key=f"downstream_forest-{i}", title=f"Downstream, {plain(domain)}, {unit}",
            description=f"Scores minus those of {study.reference} in {plain(domain)}, {unit}, right is better: "
                        f"{listed(_said(rows), 30)}{left}.",
            size=size, paint=_paint, data=_Panel(short(domain), short(study.reference), unit, {
                name: [_mark(study, arm, score) for arm, score in arms.items()] for name, arms in rows.items()}),
        )


def _said(rows: Rows) -> Iterator[str]:
    for name, arms in rows.items():
        for arm, score in arms.items():
            yield f"{arm} on {name} " + (
                f"{_signed(score):+.3g}" if score.difference.n else score.beats or "no scratch to compare with")


def _signed(score: Score) -> float:
    """Return the difference to scratch so that more is better."""
    return score.rung.sign * score.difference.mean


def _mark(study: Study, arm: str, score: Score) -> _Mark:
    sign, gain = score.rung.sign, score.difference
    low, high = (math.nan, math.nan) if gain.note else (sign * gain.low, sign * gain.high)
    return _Mark(label(study, arm), pens(study)[arm], sign * gain.mean if gain.n else math.nan, low, high,
                 silent=score.beats == NO_SIGNAL)


def _paint(axes: Axes, panel: _Panel) -> None:
    place, ticks = 0.0, []
    axes.axvline(0, color=INK, linewidth=0.8)
    _named(axes, [mark for marks in panel.rows.values() for mark in marks])
    for name, marks in panel.rows.items():
        ticks.append((place + (len(marks) - 1) / 2, name))
        for mark in marks:
            if math.isfinite(mark.mean):
                if math.isfinite(mark.low):
                    axes.plot([mark.low, mark.high], [place, place], color=mark.pen.colour, linewidth=1.4)
                axes.plot([mark.mean], [place], **_look(mark.pen))
            elif mark.silent:
                axes.plot([0], [place], **_SILENT)
            place += 1
        place += 1
    axes.set_yticks([at for at, _ in ticks], [short(name, 30 + len(UNSAFE_MARK)) for _, name in ticks])
    axes.set_ylim(place - 1, -1)
    axes.set(xlabel=f"difference to {panel.reference} ({panel.unit}), right is better", title=panel.title)
    legend(axes)


def _named(axes: Axes, marks: list[_Mark]) -> None:
    """Name the arms in the plan's order, whichever is drawn first, and what has no signal."""
    drawn = {mark.name for mark in marks if math.isfinite(mark.mean)}
    for name, pen in {mark.name: mark.pen for mark in marks if mark.name in drawn}.items():
        axes.plot([], [], label=name, **_look(pen))
    if any(mark.silent for mark in marks):
        axes.plot([], [], label=NO_SIGNAL, **_SILENT)


def _look(pen: Pen) -> dict[str, Any]:
    return {"marker": pen.marker, "color": pen.colour, "markersize": 4.5, "linestyle": ""}


PLUGIN = FigurePlugin(
    title="Downstream tasks against scratch",
    caption="Mean difference over paired seeds with its 95 % interval (none below three seeds), every rung so that "
            "right is better. Grey crosses on zero: the arm beats neither chance nor a unigram model nor its untrained "
            f"twin, so it is not compared; a rung where no arm does is in the table alone. {UNSAFE_MEANS} " + DOUBTFUL,
    build=_build, absent="no downstream task is scored (downstream.tasks)",
)
