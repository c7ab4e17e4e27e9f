"""At which learning rates the arms were trained, and who chose them: a gain at a rate that suits one arm is no gain."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import pandas as pd

from analysis.best import resolved_best
from analysis.schema import NATS, Column, detectable, frame_of
from analysis.study import Study
from analysis.table import Table
from sweeps.language.manifest import PlanFile, PlanTrial

LR = "pretrain.lr"
COLUMNS = (
    Column("domain", "str", "", "target domain"),
    Column("arm", "str", "", "what is compared, the baselines included"),
    Column("learned", "str", "", "seeds whose upstream gate says learned, of those measured"),
    Column("pretrain_lr", "float64", "", "peak learning rate of PT, from the stage's spec; empty before it exists"),
    Column("baseline_lr", "float64", "", "the same of the arm's baseline"),
    Column("upstream_lr", "float64", "", "peak learning rate of its upstream; empty where none is trained"),
    Column("source", "str", "", "who chose the PT rate: searched by a sweep, an axis, the file, --set, or a preset"),
    Column("at_edge", "bool", "", "the search chose the edge of its grid: a better rate may lie beyond"),
    Column("seeds", "int64", "", "scored seeds"),
    Column("loss", "float64", NATS, "loss at T_b, mean over seeds"),
    Column("gain_nats", "float64", NATS, "mean gain over the baseline at its own rate; empty of baselines"),
    Column("low", "float64", NATS, "lower end of its 95 % paired-t interval; empty below three seeds"),
    Column("high", "float64", NATS, "upper end"),
    detectable(),
)


def _rows(study: Study) -> Iterator[dict[str, Any]]:
    planned = {trial.id: trial for trial in study.records.plan.trials}
    for domain, arm in ((d, a) for d in study.records.domains for a in study.records.arms if (d, a) in study.cells):
        row = study.cells[domain, arm][0]
        source, at_edge = _chosen(study.records.plan, planned[row["trial"]])
        losses = study.losses.get((domain, arm), {})
        gain = study.effect(domain, arm)
        yield {
            "domain": domain, "arm": arm, "learned": study.learned(arm),
            "pretrain_lr": row["pretrain_lr"], "upstream_lr": row["upstream_lr"],
            "baseline_lr": study.trials.get(row["baseline"], {}).get("pretrain_lr", math.nan), "source": source,
            "at_edge": at_edge, "seeds": len(losses),
            "loss": sum(losses.values()) / len(losses) if losses else math.nan,
            "gain_nats": gain.mean, "low": gain.low, "high": gain.high,
            "detectable_nats": gain.detectable,
        }


def _chosen(plan: PlanFile, trial: PlanTrial) -> tuple[str, bool]:
    """Return who chose a trial's learning rate, and whether it lies on the edge of a search's grid."""
    for choice in plan.searched:
        if choice.cell == trial.cell and LR in choice.values:
            return f"searched by {choice.sweep}", LR in choice.boundary
    if LR in trial.fields:
        return "axis", False
    said = {d.field: d.source for d in plan.departures}
    return said.get(f"{trial.domain}.{LR}", said.get(LR, f"preset {plan.protocol}, {plan.scale}")), False


def _build(study: Study) -> pd.DataFrame:
    if not study.records.plan.protocol:  # curves of a file do not say their rates
        return frame_of([], COLUMNS)
    return frame_of(_rows(study), COLUMNS)


PLUGIN = Table(title="Learning rates", columns=COLUMNS, build=_build, best=resolved_best("gain_nats", "low", "high"),
               empty="Curves of a file do not say at which learning rates they were made.")
