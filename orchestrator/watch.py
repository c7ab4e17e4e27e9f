"""What is going on in a store, read from disk alone: no torch, ray or pandas, so that `status` answers at once."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from sweeps.store.files import read_json, read_lines
from sweeps.store.layout import Layout, StageFolder, SweepFolder
from sweeps.store.ledger import State, fold, read_events

RECENT_ROWS = 1


@dataclass(frozen=True, kw_only=True)
class SweepStatus:
    """One sweep, as its files tell."""

    name: str
    question: str
    controlled: str
    """`pid on host`, or empty where no controller is alive."""
    trials: Mapping[str, int]
    """State -> number of trials."""
    stages: Mapping[str, int]
    """State -> number of stages."""
    running: tuple[Mapping[str, Any], ...]
    """Stages that run now: label, tokens so far, tokens at the end, tokens per second."""
    failed: tuple[Mapping[str, str], ...]


def controller(state: State) -> str:
    """Return `pid N on HOST` of a living controller, else the empty string."""
    if state.released or state.owner is None or state.owner.alive() is False:
        return ""
    return f"pid {state.owner.pid} on {state.owner.host}"


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


def sweep_status(layout: Layout, name: str) -> SweepStatus:
    """Return what one sweep's files say."""
    folder = layout.sweep(name)
    empty: dict[str, Any] = {"question": "", "trials": [], "stages": []}
    plan = read_json(folder.plan) if folder.plan.exists() else empty
    state = fold(read_events(folder))
    alive = controller(state)
    submitted = set(open_stages(state)) if alive else set()
    stages = {s["fingerprint"]: s for s in plan["stages"]}
    states = {key: _stage_state(layout.stage(s["kind"], key), key in submitted) for key, s in stages.items()}
    failures = {k: v for k, v in state.failures.items() if states.get(k) not in ("done", "diverged")}
    for key in failures:
        if not alive and key in states:
            states[key] = "failed"
    trials = [_trial_state([states[s["fingerprint"]] for s in t["path"]], t, states) for t in plan["trials"]]
    return SweepStatus(
        name=name, question=plan["question"], controlled=alive, trials=_count(trials), stages=_count(states.values()),
        running=tuple(_running(layout.stage(stages[k]["kind"], k), stages[k]) for k, s in states.items()
                      if s == "running"),
        failed=tuple({"stage": stages[k]["label"], "fingerprint": k} for k, s in states.items() if s == "failed"),
    )


def _stage_state(stage: StageFolder, submitted: bool) -> str:
    try:
        status = read_json(stage.result)["status"]
        return "diverged" if status == "diverged" else "done"
    except FileNotFoundError:
        return "running" if submitted and stage.attempts.is_dir() else ("submitted" if submitted else "waiting")
    except (ValueError, KeyError):
        return "damaged"


def _trial_state(states: list[str], trial: Mapping[str, Any], every: Mapping[str, str]) -> str:
    for wanted in ("failed", "diverged"):
        if wanted in states:
            return wanted
    if all(s == "done" for s in states):
        return "done"
    training = [every[s["fingerprint"]] for s in trial["path"] if s["kind"] == "pretrain"]
    return "running" if any(s in ("running", "done") for s in training) else "waiting"


def _count(states: Any) -> dict[str, int]:
    found: dict[str, int] = {}
    for state in states:
        found[state] = found.get(state, 0) + 1
    return found


def _running(stage: StageFolder, planned: Mapping[str, Any]) -> Mapping[str, Any]:
    numbers = [int(p.name) for p in stage.attempts.iterdir() if p.name.isdigit()]
    last: Mapping[str, Any] = {}
    if numbers:
        rows = [row for row in read_lines(stage.attempt(max(numbers)).metrics) if row and row["kind"] == "train"]
        last = rows[-1] if rows else {}
    values = last.get("values", {})
    return {"label": planned["label"], "tokens": last.get("tokens", 0), "fingerprint": planned["fingerprint"],
            "loss": values.get("loss"), "tokens_per_second": values.get("tokens_per_second")}
