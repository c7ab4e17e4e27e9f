"""Gain against upstream tokens, one panel per domain: whether more pre-pre-training helps, and where it saturates."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from analysis.drawing import DOUBTFUL, INK, Drawing, FigurePlugin, Pen, legend, pens
from analysis.statistics import Interval
from analysis.study import Study
from analysis.wording import interval, listed, plain, short
from sweeps.language.manifest import value_text

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Line = list[tuple[int, str]]
"""(upstream tokens, arm), in the order of tokens."""


@dataclass(frozen=True)
class _Curve:
    name: str
    pen: Pen
    points: list[tuple[int, Interval]]
    """(upstream tokens, gain)."""


@dataclass(frozen=True)
class _Panel:
    title: str
    reference: str
    curves: list[_Curve]


def _build(study: Study) -> list[Drawing]:
    return list(_drawings(study))


def _drawings(study: Study) -> Iterator[Drawing]:
    look = pens(study)
    for i, domain in enumerate(study.records.domains):
        lines = _lines(study, domain)
        if not lines:
            continue
        said = listed((f"{plain(name)} at {tokens:,} tokens {interval(study.effect(domain, arm))}"
                       for name, line in lines.items() for tokens, arm in line), 30)
        yield Drawing(
            key=f"budget_curves-{i}", title=f"Gain over upstream tokens, {plain(domain)}",
            description=f"Gain over {study.reference} in {plain(domain)}, nats per token, by upstream tokens: {said}.",
            size=(5.0, 3.4), paint=_paint, data=_Panel(short(domain), short(study.reference), [
                _Curve(short(name) + " ?" * any(study.doubtful(arm) for _, arm in line), look[line[0][1]],
                       [(tokens, study.effect(domain, arm)) for tokens, arm in line])
                for name, line in lines.items()]),
        )


def _lines(study: Study, domain: str) -> dict[str, Line]:
    """Return what differs in its budget alone -> its scored budgets; two at least."""
    found: dict[str, Line] = {}
    for arm in study.treated(domain):
        row = study.cells[domain, arm][0]
        if study.gains(domain, arm) and row["upstream_tokens"]:
            found.setdefault(_name(study, row), []).append((int(row["upstream_tokens"]), arm))
    return {name: sorted(line) for name, line in found.items() if len({tokens for tokens, _ in line}) > 1}


def _name(study: Study, row: dict[str, Any]) -> str:
    """Return the arm without its budget: upstream, band, further fields."""
    fields = study.fields.get(row["trial"], {})
    return " ".join(filter(None, [row["upstream"], row["complexity"],
                                  *(f"{k.rpartition('.')[2]}={value_text(v)}" for k, v in fields.items())]))


def _paint(axes: Axes, panel: _Panel) -> None:
    from matplotlib.ticker import EngFormatter, NullLocator

    axes.axhline(0, color=INK, linewidth=0.8)
    for k, curve in enumerate(panel.curves):
        pen, aside = curve.pen, 1.02 ** (k - (len(panel.curves) - 1) / 2)  # whiskers of several lines beside each other
        tokens = np.array([t * aside for t, _ in curve.points])
        effects = [effect for _, effect in curve.points]
        means = np.array([e.mean for e in effects])
        reach = np.array([[0.0, 0.0] if e.note else [e.mean - e.low, e.high - e.mean] for e in effects]).T
        axes.errorbar(tokens, means, yerr=reach, color=pen.colour, linestyle=pen.dash, marker=pen.marker, markersize=5,
                      linewidth=1.2, capsize=2, label=curve.name)
    axes.set_xscale("log")
    axes.set_xticks(sorted({tokens for curve in panel.curves for tokens, _ in curve.points}))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(EngFormatter(sep=""))
    axes.set(xlabel="upstream tokens (log)", ylabel=f"gain over {panel.reference} (nats per token)", title=panel.title)
    legend(axes)


PLUGIN = FigurePlugin(
    title="Gain over upstream tokens",
    caption="Mean over seeds with its 95 % paired-t interval (none below three seeds); above zero is better. "
            + DOUBTFUL,
    build=_build, absent="no arm is scored at more than one upstream budget (axis token_budget)",
)
