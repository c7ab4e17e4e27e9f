"""Validation loss along pre-training, one panel per domain: trunks drawn, annealed ends marked."""

from __future__ import annotations

from collections.abc import Iterator

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.ticker import EngFormatter

from analysis.drawing import DOUBTFUL, Drawing, FigurePlugin, Pen, draw, label, pens
from analysis.study import Study
from analysis.wording import interval, listed, plain, short

_SHOWN_FROM = 0.15
"""Share of the horizon before which the loss falls off the top: ends would be indistinguishable below it."""


def _build(study: Study) -> list[Drawing]:
    return list(_drawings(study))


def _drawings(study: Study) -> Iterator[Drawing]:
    for i, domain in enumerate(study.records.domains):
        part = study.records.curves[study.records.curves["domain"] == domain]
        if part.empty:
            continue
        ends = listed((f"{study.named(a)} {interval(study.effect(domain, a))}" for a in study.treated(domain)), 12)
        yield draw(
            f"loss_curves-{i}", f"Validation loss, {plain(domain)}",
            f"Validation loss against pre-training tokens in {plain(domain)}. Gains over scratch, nats: {ends}.",
            (5.0, 3.6), lambda axes, part=part, domain=domain: _paint(axes, study, part, domain),  # type: ignore[misc]
        )


def _paint(axes: Axes, study: Study, part: pd.DataFrame, domain: str) -> None:
    for arm, pen in pens(study).items():
        own = part[part["arm"] == arm]
        if not own.empty:
            _trunk(axes, own[~own["scored"]], pen)
            _ends(axes, own[own["scored"]], pen, label(study, arm))
    late = part[part["tokens"] >= _SHOWN_FROM * part["tokens"].max()]["loss"]
    room = 0.05 * float(late.max() - late.min()) or 0.05
    axes.set_ylim(float(late.min()) - room, float(late.max()) + room)
    axes.set(xlabel="pre-training tokens", ylabel="validation loss (nats per token)", title=short(domain))
    axes.xaxis.set_major_formatter(EngFormatter(sep=""))
    axes.legend(loc="upper right", ncols=1 + (len(study.records.arms) > 8))


def _trunk(axes: Axes, drawn: pd.DataFrame, pen: Pen) -> None:
    if drawn.empty:
        return
    spread = drawn.groupby("tokens")["loss"].agg(["mean", "min", "max"])
    tokens = spread.index.to_numpy()
    axes.plot(tokens, spread["mean"].to_numpy(), color=pen.colour, linestyle=pen.dash, linewidth=0.9, alpha=0.8)
    axes.fill_between(
        tokens, spread["min"].to_numpy(), spread["max"].to_numpy(), color=pen.colour, alpha=0.12, linewidth=0
    )


def _ends(axes: Axes, scored: pd.DataFrame, pen: Pen, label: str) -> None:
    if scored.empty:
        axes.plot([], [], color=pen.colour, linestyle=pen.dash, label=label)
        return
    spread = scored.groupby("tokens")["loss"].agg(["mean", "min", "max"])
    tokens, mean = spread.index.to_numpy(), spread["mean"].to_numpy()
    reach = [mean - spread["min"].to_numpy(), spread["max"].to_numpy() - mean]
    joined = pen.dash if len(tokens) > 5 else ""
    axes.errorbar(tokens, mean, yerr=reach, color=pen.colour, marker=pen.marker, markersize=4, linestyle=joined,
                  linewidth=1.0, capsize=2, label=label)


PLUGIN = FigurePlugin(
    title="Loss curves",
    caption="Lines: mean over seeds along the trunk, drawn but never scored; shaded and whiskers: range over seeds. "
            "Markers: annealed ends, the only losses that count. " + DOUBTFUL,
    build=_build,
)
