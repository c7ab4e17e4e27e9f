"""What the sweep cost, by arm and stage kind, and what sharing stages saved. Wall times: not reproducible bytes."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from statistics import median
from typing import Any

import numpy as np
import pandas as pd

from analysis.schema import TOKENS, TRAINED, Column, frame_of, plain_values
from analysis.study import Study
from analysis.table import Table

SHARED = "(shared by arms)"
HOW = {"checkpoint_stall_seconds": "sum", "loss_spikes": "largest number"}
"""How the stages of a row are put together; every other measured value by its median."""
PUT: Mapping[str, Callable[[Sequence[float]], float]] = {"median": median, "sum": sum, "largest number": max}
COLUMNS = (
    Column("arm", "str", "", f"the arm that the stages belong to; {SHARED} where several arms use them"),
    Column("kind", "str", "", "stage kind"),
    Column("stages", "int64", "", "distinct stages in the plan"),
    Column("done", "int64", "", "of these, committed (diverged ones included)"),
    Column("uses", "int64", "", "places on the trials' paths that these stages fill"),
    Column("reused", "float64", "", "1 - stages / uses: share of the uses that cost nothing"),
    Column("tokens", "int64", TOKENS, "tokens trained by the committed stages, each counted once"),
    Column("tokens_unshared", "int64", TOKENS, "tokens if every use of them had trained on its own"),
    Column("flops", "float64", "FLOP", "training FLOPs of the committed stages"),
    Column("seconds", "float64", "s", "wall time of the attempts that committed (lost attempts are not in it)"),
    Column("tokens_per_second", "float64", "tokens/s", "tokens / seconds"),
    *(Column(c.name, c.dtype, c.unit, f"{c.meaning}; {HOW.get(c.name, 'median')} of the stages that say it")
      for c in TRAINED),
)


@dataclass
class _Sum:
    stages: int = 0
    done: int = 0
    uses: int = 0
    tokens: int = 0
    tokens_unshared: int = 0
    flops: float = 0.0
    seconds: float = 0.0
    trained: dict[str, list[float]] = field(default_factory=dict)


def _build(study: Study) -> pd.DataFrame:
    return frame_of(_rows(study), COLUMNS)


def _rows(study: Study) -> Iterator[dict[str, Any]]:
    planned = {(s.kind, s.fingerprint): s for s in study.records.plan.stages}
    arm_of = {trial: row["arm"] for trial, row in study.trials.items()}
    sums: dict[tuple[str, str], _Sum] = {}
    for (kind, fingerprint), (trials, seconds, trained) in _uses(study).items():
        arms = {arm_of[trial] for trial in trials}
        total = sums.setdefault((arms.pop() if len(arms) == 1 else SHARED, kind), _Sum())
        total.stages, total.uses = total.stages + 1, total.uses + len(trials)
        if math.isnan(seconds):
            continue
        stage = planned.get((kind, fingerprint))
        tokens, flops = (stage.tokens, stage.flops) if stage is not None else (0, 0.0)
        total.done, total.seconds = total.done + 1, total.seconds + seconds
        total.tokens, total.flops = total.tokens + tokens, total.flops + flops
        total.tokens_unshared += tokens * len(trials)
        for name, value in trained.items():
            total.trained.setdefault(name, []).append(value)
    order = {arm: i for i, arm in enumerate([SHARED, *study.records.arms])}
    for (arm, kind), total in sorted(sums.items(), key=lambda item: (order[item[0][0]], item[0][1])):
        yield {
            "arm": arm, "kind": kind, "stages": total.stages, "done": total.done, "uses": total.uses,
            "reused": 1 - total.stages / total.uses, "tokens": total.tokens,
            "tokens_unshared": total.tokens_unshared, "flops": total.flops, "seconds": total.seconds,
            "tokens_per_second": total.tokens / total.seconds if total.tokens and total.seconds else math.nan,
            **{c.name: _put(c.name, total.trained.get(c.name, [])) for c in TRAINED},
        }


def _put(name: str, values: Sequence[float]) -> float:
    return PUT[HOW.get(name, "median")](values) if values else math.nan


def _uses(study: Study) -> dict[tuple[str, str], tuple[set[str], float, dict[str, float]]]:
    """Return (kind, fingerprint) -> trials that use the stage, its seconds (NaN: not committed), what it says of
    `schema.TRAINED`."""
    steps = study.records.steps
    names = [c.name for c in TRAINED]
    said = steps[names].to_numpy()
    says = (~np.isnan(said)).any(axis=1).tolist()
    columns = (plain_values(steps[n]) for n in ("kind", "fingerprint", "trial", "seconds"))
    found: dict[tuple[str, str], tuple[set[str], float, dict[str, float]]] = {}
    for i, (kind, fingerprint, trial, seconds) in enumerate(zip(*columns, strict=True)):
        if (kind, fingerprint) not in found:
            trained = {n: v for n, v in zip(names, said[i].tolist(), strict=True) if v == v} if says[i] else {}
            found[kind, fingerprint] = set(), seconds, trained
        found[kind, fingerprint][0].add(trial)
    return found


PLUGIN = Table(title="Cost", columns=COLUMNS, build=_build)
