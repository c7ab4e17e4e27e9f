"""Losses that were measured elsewhere (`logs` of the sweep file), beside this sweep's baselines.

They are in no other table, interval or sentence. Only where seeds of a log have the number of seeds of the baseline are
differences taken seed by seed; else the means are compared, and there is no interval. That tokenizer, held-out text and
loss are the same there as here is for their owner to know.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from analysis.convergence import Curve, crossing
from analysis.schema import NATS, TOKENS, Column, detectable, frame_of
from analysis.statistics import Interval, paired_t
from analysis.study import Study
from analysis.table import Table
from sweeps.errors import SweepFileError
from sweeps.language.logs import read_log
from sweeps.language.manifest import PlanLog
from sweeps.store.files import sha256_file

COLUMNS = (
    Column("domain", "str", "", "target domain"),
    Column("arm", "str", "", "the log's name in the sweep file; measured elsewhere, not by this sweep"),
    Column("over", "str", "", "the baseline arm"),
    Column("sha256", "str", "", "first twelve digits of the file's SHA-256 when the sweep was planned"),
    Column("note", "str", "", "what a reader must know: how it was compared, or why it was not"),
    Column("upstream_tokens", "int64", TOKENS, "declared upstream tokens T_ppt"),
    Column("seeds", "int64", "", "seeds of the log; 1 where it names none"),
    Column("paired", "int64", "", "seeds of the log that the baseline has too"),
    Column("t_b", "float64", TOKENS, "T_b, the baseline's last evaluation"),
    Column("loss_baseline", "float64", NATS, "L*, the baseline's loss at T_b, mean over the seeds that are compared"),
    Column("loss", "float64", NATS, "the log's loss at T_b, linear between its evaluations, mean over seeds"),
    Column("gain_nats", "float64", NATS, "L* minus the log's loss; positive: the log is better"),
    Column("gain_low", "float64", NATS, "lower end of the 95 % paired-t interval; empty below three paired seeds"),
    Column("gain_high", "float64", NATS, "upper end"),
    detectable(),
    Column("charged_speedup_at_end", "float64", "", "t_b / (t_x + upstream tokens), t_x: where the log's mean curve "
                                                    "first reaches L*; empty where it never does"),
)


def _build(study: Study) -> pd.DataFrame:
    return frame_of((row for name, log in study.records.plan.logs.items() for row in _rows(study, name, log)), COLUMNS)


def _rows(study: Study, name: str, log: PlanLog) -> Iterator[dict[str, Any]]:
    curves, note = _curves(log)
    for arm in study.records.arms:
        cell = study.cells.get((log.domain, arm))
        if cell and cell[0]["is_baseline"]:
            yield {"domain": log.domain, "arm": name, "over": arm, "sha256": log.sha256[:12],
                   "upstream_tokens": log.upstream_tokens, **_compared(study, log, curves, note, arm)}


def _curves(log: PlanLog) -> tuple[dict[int | None, Curve], str]:
    """Return seed -> curve, and what a reader must know of the file."""
    path = Path(log.file)
    try:
        rows = read_log(path)
    except SweepFileError as error:
        return {}, error.problems[0].message
    points: dict[int | None, list[tuple[float, float]]] = {}
    for row in rows:
        points.setdefault(row.seed, []).append((row.tokens, row.loss))
    note = "" if sha256_file(path) == log.sha256 else "the file was changed since the sweep was planned; "
    return {seed: Curve.of(found) for seed, found in points.items()}, note


def _compared(study: Study, log: PlanLog, curves: dict[int | None, Curve], note: str, over: str) -> dict[str, Any]:
    baseline = study.losses.get((log.domain, over), {})
    ends = [study.curves[row["trial"]].last for row in study.cells[log.domain, over] if int(row["seed"]) in baseline]
    t_b = float(np.mean(ends)) if ends else math.nan
    own = {seed: curve.at(t_b) for seed, curve in curves.items()}
    paired = sorted(seed for seed in own if seed is not None and seed in baseline)
    if paired:
        gain, kept = paired_t([baseline[seed] - own[seed] for seed in paired]), paired
        said = "paired by the seeds' numbers" + (f"; {gain.note}" if gain.note else "")
    else:
        kept = list(own)  # type: ignore[arg-type]
        mean = float(np.mean(list(baseline.values())) - np.mean(list(own.values()))) if own and baseline else math.nan
        gain, said = Interval(mean=mean, n=0), "means compared, not paired: no seed in common"
    losses = [own[seed] for seed in kept]
    reference = [baseline[s] for s in paired] or list(baseline.values())
    if not curves:
        said = ""
    elif not baseline:
        said = "the baseline is not scored yet"
    elif not all(map(math.isfinite, losses)):
        said = f"has no loss at {t_b:,.0f} tokens"
    return {
        "note": note + said, "seeds": len(curves), "paired": len(paired), "t_b": t_b,
        "loss_baseline": float(np.mean(reference)) if reference else math.nan,
        "loss": float(np.mean(losses)) if losses else math.nan,
        "gain_nats": gain.mean, "gain_low": gain.low, "gain_high": gain.high,
        "detectable_nats": gain.detectable,
        "charged_speedup_at_end": _charged(log, [curves[seed] for seed in kept], reference, t_b),
    }


def _charged(log: PlanLog, curves: list[Curve], reference: list[float], t_b: float) -> float:
    tokens = sorted({float(t) for curve in curves for t in curve.tokens if all(math.isfinite(c.at(t)) for c in curves)})
    if not tokens or not reference:
        return math.nan
    mean = Curve.of((t, float(np.mean([curve.at(t) for curve in curves]))) for t in tokens)
    t_x = crossing(mean, float(np.mean(reference)))
    return math.nan if t_x is None else t_b / (t_x + log.upstream_tokens)


PLUGIN = Table(title="Losses from elsewhere", columns=COLUMNS, build=_build, empty="The sweep file names no `logs`.")
