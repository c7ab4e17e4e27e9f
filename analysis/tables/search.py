"""What a search chose, and why: every candidate's loss at each rung at which it counts."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any

import pandas as pd

from analysis.schema import NATS, TOKENS, Column, frame_of
from analysis.study import Study
from analysis.table import Table
from sweeps.errors import RecordError
from sweeps.language.asha import Bracket, Decision, decision_of, losses_of
from sweeps.language.manifest import PlanFile
from sweeps.language.search import boundary
from sweeps.store.layout import Layout
from sweeps.store.records import loss_of, read_result

COLUMNS = (
    Column("cell", "str", "", "arm and domain: candidates of two cells are never compared"),
    Column("candidate", "str", "", "values of the searched fields"),
    Column("rung", "int64", "", "from 1; none above the one at which it lost, where nothing counts"),
    Column("tokens", "int64", TOKENS, "PT tokens at the rung's annealed end"),
    Column("seeds", "int64", "", "seeds of the search"),
    Column("loss", "float64", NATS, "held-out loss there, mean over seeds; inf: diverged; empty: not known yet"),
    Column("outcome", "str", "", "went on, lost, diverged, chosen, or open"),
    Column("edge", "str", "", "of the chosen: fields with a value on the edge of the grid; the best may lie beyond"),
)


Losses = Mapping[tuple[int, int], float]
"""(candidate, rung) -> mean held-out loss."""


def decided(layout: Layout, plan: PlanFile) -> Iterator[tuple[Bracket, Losses, Decision]]:
    """Yield what follows from the losses of each cell's candidates so far; nothing of a sweep that is no search."""
    kinds = {s.fingerprint: s.kind for trial in plan.trials for s in trial.path}

    def loss(fingerprint: str) -> float | None:
        try:
            return loss_of(read_result(layout.stage(kinds[fingerprint], fingerprint)))
        except RecordError:  # damaged: as if it had none
            return None

    if plan.search is not None:
        for bracket in plan.search.brackets:
            yield bracket, losses_of(bracket, loss), decision_of(bracket, plan.search.eta, loss)


def _rows(study: Study) -> Iterator[dict[str, Any]]:
    plan = study.records.plan
    tokens = {s.fingerprint: s.tokens for trial in plan.trials for s in trial.path if s.role == "end"}
    for bracket, losses, decision in decided(Layout(study.root), plan) if study.root is not None else ():
        yield from _candidates(bracket, losses, decision, tokens)


def _candidates(
    bracket: Bracket, losses: Losses, decision: Decision, tokens: Mapping[str, int]
) -> Iterator[dict[str, Any]]:
    for number, candidate in enumerate(bracket.candidates):
        for rung in range(decision.lost.get(number, bracket.rungs - 1) + 1):
            found = losses.get((number, rung), math.nan)
            chosen = number == decision.best and rung == bracket.rungs - 1
            yield {
                "cell": bracket.cell, "candidate": candidate.name, "rung": rung + 1,
                "tokens": tokens[candidate.runs[0][rung][-1]], "seeds": len(candidate.runs), "loss": found,
                "outcome": "chosen" if chosen else _outcome(decision, number, rung, found),
                "edge": ", ".join(boundary(bracket, number)) if chosen else "",
            }


def _outcome(decision: Decision, number: int, rung: int, loss: float) -> str:
    if loss == math.inf:
        return "diverged"
    if decision.lost.get(number) == rung:
        return "lost"
    return "open" if math.isnan(loss) or decision.allowed[number] <= rung else "went on"


def _build(study: Study) -> pd.DataFrame:
    return frame_of(_rows(study), COLUMNS)


PLUGIN = Table(title="What a search chose", columns=COLUMNS, build=_build, empty="This sweep is no search.")
