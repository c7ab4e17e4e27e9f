"""The choices of a search: folded from its records into stages of kind `select`, and read by a comparison."""

from __future__ import annotations

import math
import os
import socket
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from orchestrator.chosen import CHOICE
from orchestrator.targets import read_plan
from orchestrator.watch import sweep_file_hint
from sweeps.errors import RecordError, UsageError, nearest
from sweeps.language.asha import SELECT, Bracket, Decision, decision_of, losses_of
from sweeps.language.manifest import PlanSearch
from sweeps.language.search import Choice, boundary, select_spec
from sweeps.store import files
from sweeps.store.layout import Layout
from sweeps.store.records import artifacts_of, damage_of_result, loss_of, open_attempt, read_result

if TYPE_CHECKING:
    from orchestrator.plan import Planned


def fold(planned: Planned) -> None:
    """Write the choice of every cell of a search that is over, once; again is harmless."""
    layout, search = planned.layout, planned.file.search

    def loss(key: str) -> float | None:
        stage = layout.stage(planned.graph.nodes[key].spec.kind, key)
        return None if damage_of_result(stage, thorough=False) else loss_of(read_result(stage))

    if search is None:
        return
    for bracket in search.brackets:
        decision = decision_of(bracket, search.eta, loss)
        if decision.over:
            seeds = list(planned.sweep.axes["seed"])
            _commit(planned, bracket, {"seeds": seeds, **_fields(bracket, decision, losses_of(bracket, loss))})


def _fields(bracket: Bracket, decision: Decision, losses: dict[tuple[int, int], float]) -> dict[str, Any]:
    """Return what choice.json states. Of a candidate that lost, what it ran ahead of that is left out: it depends on
    when it was told, and counts for nothing."""
    best = decision.best
    return {
        "cell": bracket.cell, "key": bracket.key, "upstream_tokens": bracket.upstream_tokens,
        "pretrain_tokens": bracket.pretrain_tokens,
        "values": {} if best is None else bracket.candidates[best].values,
        "boundary": [] if best is None else list(boundary(bracket, best)),
        "candidates": [
            {"values": candidate.values,
             "losses": [losses[number, rung] for rung in range(decision.lost.get(number, bracket.rungs - 1) + 1)]}
            for number, candidate in enumerate(bracket.candidates)],
    }


def _commit(planned: Planned, bracket: Bracket, fields: dict[str, Any]) -> None:
    stage = planned.layout.stage(SELECT, bracket.select)
    if stage.result.exists():
        return
    assert planned.file.search is not None
    files.create(stage.spec, select_spec(bracket, planned.file.search.eta).to_text())
    attempt = open_attempt(stage, {"host": socket.gethostname(), "pid": os.getpid(), "sweep": planned.sweep.name})
    try:
        files.create(attempt.artifacts / CHOICE, files.to_json({"schema_version": files.SCHEMA_VERSION, **fields}))
        attempt.commit(fields["values"], status="done" if fields["values"] else "diverged")
    finally:
        attempt.close()


def read_choices(layout: Layout, sweep: str) -> list[Choice]:
    """Return what a search chose for each of its cells.

    Raises:
        UsageError: there is no such search, or it is not complete; says what to run.
        RecordError: a choice was changed after it was made.
    """
    plan = read_plan(layout, sweep)
    if not plan.stages:
        known = [p.name for p in layout.sweeps.iterdir()] if layout.sweeps.is_dir() else []
        raise UsageError(f"no sweep of this name has run in {layout.root}; {nearest(sweep, known)} Run the search "
                         "first: orchestrator sweep FILE --root ROOT, with the same root")
    if not plan.search:
        raise UsageError("is no search: its file has no section `search`")
    brackets = [Bracket.of(raw) for raw in plan.search["brackets"]]
    for bracket in brackets:
        stage = layout.stage(SELECT, bracket.select)
        if wrong := damage_of_result(stage):
            raise RecordError(f"what the search {sweep!r} chose for {bracket.cell} was changed after it was made: "
                              f"{wrong}; remove {stage.path} and run it again: {sweep_file_hint(layout, sweep)}")
    open_ = [b.cell for b in brackets if read_result(layout.stage(SELECT, b.select)) is None]
    if open_:
        raise UsageError(f"it has not chosen yet for {', '.join(open_[:3])}{', ...' if len(open_) > 3 else ''} "
                         f"({len(open_)} of {len(brackets)} cells); run it: {sweep_file_hint(layout, sweep)}")
    return [_read(layout, bracket, plan.search.get("search_share")) for bracket in brackets]


def _read(layout: Layout, bracket: Bracket, share: str | None) -> Choice:
    path = artifacts_of(layout.stage(SELECT, bracket.select)) / CHOICE
    raw = files.read_json(path)
    try:
        second, lead = _lead(layout, bracket, raw)
        return Choice(
            cell=raw["cell"], key=raw["key"], values={k: files.number(v) for k, v in raw["values"].items()},
            boundary=tuple(raw["boundary"]), seeds=tuple(raw["seeds"]), upstream_tokens=raw["upstream_tokens"],
            pretrain_tokens=raw["pretrain_tokens"], select=bracket.select, search_share=share,
            runner_up=second, lead=lead)
    except (KeyError, TypeError) as error:
        raise RecordError(f"{path} is no choice ({error!r}); remove its stage's folder and run the search again"
                          ) from error


def _lead(layout: Layout, bracket: Bracket, raw: dict[str, Any]) -> tuple[dict[str, float], tuple[float, ...]]:
    """Return the runner-up of a choice, and by what it lost seed by seed, at the last rung that had two candidates."""
    at: dict[int, list[tuple[float, int]]] = {}
    for place, candidate in enumerate(raw["candidates"]):
        for rung, loss in enumerate(map(files.number, candidate["losses"])):
            if candidate["values"] != raw["values"] and math.isfinite(loss):
                at.setdefault(rung, []).append((loss, place))
    if not at or not raw["values"]:
        return {}, ()
    (_, second), best = min(at[max(at)]), [c["values"] for c in raw["candidates"]].index(raw["values"])
    losses_CS = [[loss_of(read_result(layout.stage("pretrain", run[max(at)][-1])))
                  for run in bracket.candidates[c].runs] for c in (best, second)]
    lead = tuple(b - a for a, b in zip(*losses_CS, strict=True) if a is not None and b is not None)
    return dict(bracket.candidates[second].values), lead if len(lead) == len(losses_CS[0]) else ()


def table(layout: Layout, search: PlanSearch) -> list[str]:
    """Return a search's outcome for a terminal: a line for each candidate, its loss at every rung it counts at."""
    lines: list[str] = []
    for bracket in search.brackets:
        stage = layout.stage(SELECT, bracket.select)
        if read_result(stage) is None:
            lines += ["", f"{bracket.cell}: not decided yet"]
            continue
        raw = files.read_json(artifacts_of(stage) / CHOICE)
        lines += ["", f"{bracket.cell}: {_chosen(raw)}"]
        lines += [f"  {candidate.name:<36}{_losses(found['losses'])}"
                  for candidate, found in zip(bracket.candidates, raw["candidates"], strict=True)]
    return ["held-out loss, nats per token, at each rung", *lines]


def _chosen(raw: dict[str, Any]) -> str:
    if not raw["values"]:
        return "every candidate diverged; extend the grid to lower learning rates"
    edge = "" if not raw["boundary"] else (f"  ({' and '.join(raw['boundary'])} on the edge of the grid: the best may "
                                           "lie beyond; extend that axis and run again)")
    return ", ".join(f"{key} = {value}" for key, value in raw["values"].items()) + edge


def _losses(losses: Iterable[Any]) -> str:
    found = (files.number(value) for value in losses)
    return "".join(f"{'diverged':>10}" if value == float("inf") else f"{value:>10.4f}" for value in found)
