"""When the sweep's jobs ran, by stage kind, with those that did not finish: where time went, and what was lost."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from analysis.drawing import INK, Drawing, FigurePlugin, legend
from analysis.jobs import OUTCOMES, Job, jobs
from analysis.study import Study
from analysis.wording import count

if TYPE_CHECKING:
    from matplotlib.axes import Axes

MOST = 1_500
"""Bars; neighbours that a screen cannot part are drawn as one until there are no more than this."""
MOST_STAGES = 10_000
"""Of a larger sweep it takes many seconds to find when each attempt ran, and the picture is a smear."""
LANES = 60
"""Rows; jobs beside more of their kind are drawn over each other."""
_LOOKS: Mapping[str, tuple[str, str]] = {
    "done": ("#56B4E9", ""), "diverged": ("#E69F00", "//////"), "interrupted": ("#999999", "......"),
    "failed": ("#D55E00", "xxxxxx"), "open": ("none", ""),
}
"""Outcome -> colour and hatch, so that it reads in grey."""
Bar = tuple[float, float, str]
"""Begin and end in the unit of the axis, and the outcome."""


def _build(study: Study) -> list[Drawing]:
    plan = study.records.plan
    found = jobs(study.root, plan) if study.root is not None and len(plan.stages) <= MOST_STAGES else []
    first = min((j.began for j in found), default=0.0)
    span = max((j.ended for j in found), default=0.0) - first
    if span <= 0:
        return []
    unit, seconds = ("hours", 3_600.0) if span > 7_200 else ("minutes", 60.0) if span > 120 else ("seconds", 1.0)
    kinds = list(dict.fromkeys(j.kind for j in found))
    lanes = {kind: _lanes([j for j in found if j.kind == kind], max(1, LANES // len(kinds)), first, seconds)
             for kind in kinds}
    ends = Counter(j.outcome for j in found)
    said = ", ".join(f"{ends[o]} {o}" for o in OUTCOMES if ends[o])
    rows = sum(len(of_kind) + 1 for of_kind in lanes.values())
    return [Drawing(
        key="timeline", title="Time line of the sweep's jobs",
        description=f"{count(len(found), 'attempt')} over {span / seconds:.1f} {unit}: {said}.",
        size=(8.0, 1.2 + 0.13 * rows), paint=_paint, data=(_thinned(lanes, span / seconds), unit),
    )]


def _lanes(found: Sequence[Job], most: int, first: float, seconds: float) -> list[list[Bar]]:
    """Return bars in the first lane that is free when they begin."""
    lanes: list[list[Bar]] = []
    for job in found:
        bar = (job.began - first) / seconds, (job.ended - first) / seconds, job.outcome
        free = next((lane for lane in lanes if lane[-1][1] <= bar[0]), None)
        if free is None and len(lanes) < most:
            lanes.append([bar])
        else:
            (free or min(lanes, key=lambda lane: lane[-1][1])).append(bar)
    return lanes


def _thinned(lanes: dict[str, list[list[Bar]]], span: float) -> dict[str, list[list[Bar]]]:
    gap = span / 2_000
    while sum(len(lane) for of_kind in lanes.values() for lane in of_kind) > MOST and gap < span:
        lanes = {kind: [_merged(lane, gap) for lane in of_kind] for kind, of_kind in lanes.items()}
        gap *= 2
    return lanes


def _merged(lane: Sequence[Bar], gap: float) -> list[Bar]:
    """Return a lane whose neighbours of one outcome, nearer than `gap`, are one bar."""
    merged: list[Bar] = []
    for bar in lane:
        if merged and merged[-1][2] == bar[2] and bar[0] - merged[-1][1] < gap:
            merged[-1] = merged[-1][0], max(bar[1], merged[-1][1]), bar[2]
        else:
            merged.append(bar)
    return merged


def _paint(axes: Axes, data: tuple[dict[str, list[list[Bar]]], str]) -> None:
    lanes, unit = data
    place, ticks, seen = 0, [], set()
    for kind, of_kind in lanes.items():
        ticks.append((place + (len(of_kind) - 1) / 2, kind))
        for lane in of_kind:
            for outcome in OUTCOMES:
                bars = [(begin, end - begin) for begin, end, how in lane if how == outcome]
                if bars:
                    colour, hatch = _LOOKS[outcome]
                    axes.broken_barh(bars, (place - 0.4, 0.8), facecolor=colour, hatch=hatch, edgecolor=INK,
                                     linewidth=0.3, label=None if outcome in seen else outcome)
                    seen.add(outcome)
            lost = [end for _, end, how in lane if how in ("failed", "interrupted")]
            axes.plot(lost, [place] * len(lost), marker="x", color=INK, markersize=5, linestyle="")
            place += 1
        place += 1
    axes.set_yticks([at for at, _ in ticks], [kind for _, kind in ticks])
    axes.set_ylim(place - 0.5, -1)
    axes.set_xlabel(f"{unit} since the first job began")
    legend(axes)


PLUGIN = FigurePlugin(
    title="Time line of the jobs",
    caption="Every attempt at a stage that this sweep submitted, by kind; rows are attempts beside each other. "
            "Crosses: attempts that left no result. Stages that were reused did not run. Times are those of the "
            "store's files.",
    build=_build, absent=f"the store has no times of this sweep's attempts, or it has more than {MOST_STAGES:,} stages",
)
