"""What is going on in a store, read from disk alone: no torch, ray or pandas, so that `status` answers at once."""

from __future__ import annotations

import json
import os
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from orchestrator.health import last_train, notices, rows_of, speed_now, speed_of_all
from orchestrator.meter import spent
from orchestrator.ownership import seen
from orchestrator.promotion import outranked
from orchestrator.restarts import cost
from orchestrator.targets import Plan, read_plan
from orchestrator.withheld import withheld
from sweeps.store.files import read_json, unseal
from sweeps.store.layout import AttemptFolder, Layout, StageFolder, SweepFolder
from sweeps.store.ledger import Event, State, fold, read_events
from sweeps.store.records import newest_attempt
from sweeps.store.requests import Wish, pending

TRAINING = ("prepretrain", "pretrain", "finetune")
"""Kinds that train, and so have a speed."""


@dataclass(frozen=True, kw_only=True)
class SweepStatus:
    """One sweep, as its files tell."""

    name: str
    question: str
    controlled: str
    """`pid N on HOST` or `Slurm job N`, and what is known of it; empty where no controller is alive."""
    exit_code: int | None
    """Of the last controller, where it left in order and none has begun since."""
    trials: Mapping[str, int]
    """State -> number of trials."""
    stages: Mapping[str, int]
    """State -> number of stages."""
    running: tuple[Mapping[str, Any], ...]
    """Stages that run now: label, tokens so far, loss, what `orchestrator.health` says of their speed, `notices`."""
    speed: Mapping[str, Mapping[str, Any]]
    """Kind -> `stages` that trained to their end, and medians of what they measured of their speed."""
    failed: tuple[Mapping[str, str], ...]
    """Stages that were given up: label, fingerprint, class, action, and a sentence."""
    lost_tokens: tuple[int, ...]
    """Of each interruption of a training stage: what is trained again."""
    restarts: Mapping[str, Any]
    """What the cluster's own restarts of jobs have cost (see `orchestrator.restarts.cost`); empty: there was none."""
    asked: Mapping[str, int]
    """Wish (`cancel`, `retry`) -> trials for which it was asked and not yet applied."""
    simulated: bool
    """Every number of the store is made up (`--cluster memory`)."""
    budget: Mapping[str, Any] | None
    """`used_gpu_hours`, and what the newest run was told: `gpu_hours`, `source`, `at_cap`; None: it has no cap."""


@dataclass(frozen=True, kw_only=True)
class View:
    """One sweep in full: what `status` counts, and `cancel` and `retry` choose from."""

    plan: Plan
    state: State
    controlled: str
    stages: Mapping[str, str]
    """Fingerprint -> `done`, `diverged`, `running`, `submitted`, `failed`, `damaged`, `withheld` or `waiting`."""
    trials: Mapping[str, str]
    """Trial id -> `done`, `diverged`, `withheld`, `failed`, `damaged`, `cancelled`, `running` or `waiting`."""
    asked: Mapping[str, Wish]
    """Trial id -> the newest wish that no controller has applied yet."""
    trained: Mapping[str, Mapping[str, Any]]
    """Fingerprint -> scores of the training stages that are done."""


def controller(state: State) -> str:
    """Return who controls a sweep, in words; empty where nobody does. It may live where nobody can tell."""
    if state.released or state.owner is None:
        return ""
    alive, who = seen(state.owner)
    return "" if alive is False else who


def open_stages(state: State) -> Iterator[str]:
    """Yield the stages of submissions that have not ended."""
    for submission in state.submissions.values():
        for index, stages in enumerate(submission.tickets):
            if index not in submission.ended:
                yield from stages


def live_stages(layout: Layout) -> dict[str, str]:
    """Return the stages that a sweep with a living controller has submitted: fingerprint -> sweep."""
    found: dict[str, str] = {}
    try:
        folders = sorted(layout.sweeps.iterdir())
    except FileNotFoundError:
        return found
    for folder in folders:
        state = fold(read_events(SweepFolder(folder)))
        if controller(state):
            found |= dict.fromkeys(open_stages(state), folder.name)
    return found


def asked_of(folder: SweepFolder) -> dict[str, Wish]:
    """Return trial id -> the newest wish that no controller has applied yet."""
    return {trial: request.wish for request in pending(folder) for trial in request.trials}


def look(layout: Layout, name: str) -> View:
    """Return the state of every stage and trial of a sweep."""
    folder = layout.sweep(name)
    plan = read_plan(layout, name)
    state = fold(read_events(folder))
    alive = controller(state)
    submitted = set(open_stages(state)) if alive else set()
    root = str(layout.stages)
    results = {key: _result(f"{root}/{s['kind']}/{key}") for key, s in plan.stages.items()}
    states = {key: _stage_state(f"{root}/{s['kind']}/{key}", results[key], key in submitted)
              for key, s in plan.stages.items()}
    for key in state.failures:
        if states.get(key) == "waiting":
            states[key] = "failed"
    for key in (*withheld(layout, plan), *outranked(layout, plan)):
        if states[key] == "waiting":
            states[key] = "withheld"
    trials = {key: _trial_state(t["path"], states, cancelled=key in state.cancelled)
              for key, t in plan.trials.items()}
    trained = {key: found[1] for key, s in plan.stages.items()
               if s["kind"] in TRAINING and (found := results[key]) is not None and found[0] == "done"}
    return View(plan=plan, state=state, controlled=alive, stages=states, trials=trials, asked=asked_of(folder),
                trained=trained)


def sweep_status(layout: Layout, name: str) -> SweepStatus:
    """Return what one sweep's files say."""
    view = look(layout, name)
    stages = view.plan.stages
    restarts = cost(layout, {key: str(s["kind"]) for key, s in stages.items()}, view.state)
    return SweepStatus(
        name=name, question=view.plan.question, controlled=view.controlled, exit_code=view.state.exit_code,
        trials=Counter(view.trials.values()), stages=Counter(view.stages.values()),
        running=tuple(_running(layout.stage(stages[k]["kind"], k), stages[k]) for k, s in view.stages.items()
                      if s == "running"),
        speed=_speed(view),
        failed=tuple({"stage": stages[k]["label"], "fingerprint": k, **_how(view.state.ends.get(k, {}))}
                     for k, s in view.stages.items() if s == "failed"),
        lost_tokens=(*view.state.lost_tokens, *restarts.get("lost_tokens", ())), restarts=restarts,
        asked=Counter(view.asked.values()),
        simulated=layout.simulated.exists(), budget=_budget(layout, name, view.state),
    )


def _budget(layout: Layout, name: str, state: State) -> Mapping[str, Any] | None:
    if state.cap is None:
        return None
    return {**state.cap, "used_gpu_hours": sum(spent(layout, name, state, now=time.time()).values()) / 3600}


def _result(folder: str) -> tuple[str, Mapping[str, Any]] | None:
    """Return the status and the scores that a stage's result.json states, its own checksum compared; None: it has none.

    The files that it lists are for `why` to verify. Paths are text: with tens of thousands of stages half the time
    would go into pathlib.
    """
    try:
        handle = os.open(f"{folder}/result.json", os.O_RDONLY)
    except FileNotFoundError:
        return None
    try:
        text = os.read(handle, os.fstat(handle).st_size).decode()
        raw = unseal(text) or json.loads(text)
        if "crc" in raw:
            return "damaged", {}
        status = str(raw.get("status", "done"))
        return status if status in ("diverged", "damaged") else "done", raw.get("scores", {})
    except (ValueError, AttributeError, TypeError):
        return "damaged", {}
    finally:
        os.close(handle)


def _stage_state(folder: str, result: tuple[str, Mapping[str, Any]] | None, submitted: bool) -> str:
    if result is not None:
        return result[0]
    if not submitted:
        return "waiting"
    return "running" if os.path.isdir(f"{folder}/attempts") else "submitted"  # noqa: PTH112


def _how(end: Event) -> Mapping[str, str]:
    """Return class, action and words of a stage's last end; empty ones where an older release saw it."""
    return {name: str(end.get(name, "")) for name in ("class", "action", "text")}


def _trial_state(path: Iterable[Mapping[str, Any]], every: Mapping[str, str], *, cancelled: bool) -> str:
    states = {every[s["fingerprint"]] for s in path}
    for wanted in ("failed", "damaged", "diverged", "withheld"):
        if wanted in states:
            return wanted
    if states == {"done"}:
        return "done"
    if cancelled:
        return "cancelled"
    training = {every[s["fingerprint"]] for s in path if s["kind"] == "pretrain"}
    return "running" if training & {"running", "done"} else "waiting"


def _running(stage: StageFolder, planned: Mapping[str, Any]) -> Mapping[str, Any]:
    attempt = _newest(stage)
    rows = rows_of(attempt)
    last = last_train(rows)
    return {"label": planned["label"], "tokens": last.get("tokens", 0), "fingerprint": planned["fingerprint"],
            "loss": last.get("values", {}).get("loss"), **speed_now(rows),
            "notices": list(notices(attempt, rows)) if attempt else []}


def _newest(stage: StageFolder) -> AttemptFolder | None:
    number = newest_attempt(stage)
    return stage.attempt(number) if number else None


def last_row(stage: StageFolder) -> Mapping[str, Any]:
    """Return the newest training row of the newest attempt; empty where there is none."""
    return last_train(rows_of(_newest(stage)))


def _speed(view: View) -> Mapping[str, Mapping[str, Any]]:
    found: dict[str, list[Mapping[str, Any]]] = {}
    for key, scores in view.trained.items():
        found.setdefault(str(view.plan.stages[key]["kind"]), []).append(scores)
    return {kind: {"stages": len(listed), **speed_of_all(listed)} for kind, listed in sorted(found.items())}


def sweep_file_hint(layout: Layout, name: str) -> str:
    """Return the command that runs a sweep of which only the name is known."""
    try:
        lines = read_json(layout.sweep(name).plan).get("overrides", [])
    except (FileNotFoundError, ValueError):
        lines = []
    sets = "".join(f" --{t.replace('=', ' ', 1)}" if t.startswith(("scale=", "seeds=")) else f" --set {t}"
                   for t in lines)
    return f"orchestrator sweep FILE{sets}  (FILE: the file of sweep {name!r})"
