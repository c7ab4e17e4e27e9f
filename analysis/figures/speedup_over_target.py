"""Speed-up as a function of the target loss, one panel per domain."""

from __future__ import annotations

from collections.abc import Iterator

from matplotlib.axes import Axes

from analysis.convergence import Floats
from analysis.drawing import DOUBTFUL, INK, Drawing, FigurePlugin, draw, label, pens
from analysis.study import Study
from analysis.tables.speedup_over_target import ratios
from analysis.wording import listed, plain, short

Lines = dict[str, tuple[Floats, Floats]]


def _build(study: Study) -> list[Drawing]:
    return list(_drawings(study))


def _drawings(study: Study) -> Iterator[Drawing]:
    for i, domain in enumerate(study.records.domains):
        lines: Lines = {}
        for arm in study.treated(domain):
            targets, speedups, _ = ratios(study, domain, arm)
            if len(targets) > 1:
                lines[arm] = targets, speedups
        if lines:
            said = listed(
                (f"{study.named(arm)} from {y.min():.2f} to {y.max():.2f}" for arm, (_, y) in lines.items()), 30)
            yield draw(
                f"speedup_over_target-{i}", f"Speed-up over the target loss, {plain(domain)}",
                f"Speed-up over scratch against the target loss in {plain(domain)}: {said}.", (5.0, 3.4),
                lambda axes, domain=domain, lines=lines: _paint(axes, study, domain, lines),  # type: ignore[misc]
            )


def _paint(axes: Axes, study: Study, domain: str, lines: Lines) -> None:
    look = pens(study)
    axes.axhline(1, color=INK, linewidth=0.8)
    for arm, (targets, speedups) in lines.items():
        axes.plot(targets, speedups, color=look[arm].colour, linestyle=look[arm].dash, label=label(study, arm))
        axes.plot(targets[-1:], speedups[-1:], color=look[arm].colour, marker=look[arm].marker, markersize=5)
    axes.invert_xaxis()
    axes.set(xlabel="target loss (nats per token), harder to the right", ylabel="speed-up (tokens over tokens)",
             title=short(domain))
    axes.legend(loc="best")


PLUGIN = FigurePlugin(
    title="Speed-up over the target loss",
    caption="Tokens that scratch needs over tokens that the arm needs for the same loss; geometric mean over seeds, "
            "only targets that every seed brackets. Descriptive: no interval, and upstream tokens are not charged. "
            + DOUBTFUL,
    build=_build,
)
