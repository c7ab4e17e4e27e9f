"""Why a stage is where it is: from its own files, the claims, and the ledgers and plans of the sweeps that name it."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from typing import Any

from orchestrator.arguments import duration
from orchestrator.chosen import chosen
from orchestrator.difference import Spec, nearest, read_spec
from orchestrator.health import told
from orchestrator.promotion import outranked
from orchestrator.restarts import again, lost
from orchestrator.targets import Plan, label_of, logs, read_plan
from orchestrator.watch import asked_of, controller, last_row, sweep_file_hint
from orchestrator.withheld import withheld
from sweeps.errors import RecordError
from sweeps.store import records
from sweeps.store.claims import holder
from sweeps.store.files import read_json
from sweeps.store.layout import Layout, StageFolder
from sweeps.store.ledger import Event, State, fold, read_events
from sweeps.store.records import newest_attempt
from sweeps.store.requests import Wish

TRACEBACK_LINES = 8
NAMED = 4
"""Inputs that one line names."""
DECISIVE = ("damaged", "deleted", "failed", "diverged", "withheld", "live", "interrupted", "cancelled")
"""States that say most about a trial, first the one that says most; else the first stage that could run does."""
NOT_BEGUN = ("waiting", "new")
INPUTS_OF = {"tokenizer": {"text"}, "corpus": {"text", "tokenizer"}, "prepretrain": {"corpus", "rules", "prepretrain"},
             "pretrain": {"corpus", "body", "prepretrain", "pretrain"},
             "evaluate": {"corpus", "rules", "prepretrain", "pretrain"}, "items": {"items", "text"},
             "finetune": {"finetune", "items", "pretrain", "tokenizer"},
             "downstream": {"corpus", "finetune", "items", "pretrain", "tokenizer"}}
"""Kinds that a kind may read: says what a stage whose spec nobody has written yet may wait for."""


@dataclass(frozen=True, kw_only=True)
class Explanation:
    """A stage, its state and the reason."""

    kind: str
    fingerprint: str
    label: str
    state: str
    """`complete`, `diverged`, `damaged`, `deleted`, `live`, `failed`, `interrupted`, `cancelled`, `withheld`,
    `waiting`, `new`."""
    reason: str
    """One sentence."""
    details: tuple[str, ...] = ()
    """Further lines: a traceback, paths, a difference."""
    facts: Mapping[str, Any] = field(default_factory=dict)
    """The same for programs."""


@dataclass(frozen=True, kw_only=True)
class Sweep:
    """What one sweep's files say."""

    plan: Plan
    state: State
    controlled: str
    open: Mapping[str, str]
    """Stage of a submission that has not ended -> the submission."""
    done: frozenset[str]
    """Stages that its ledger has seen complete."""
    detail: Mapping[str, str]
    """Stage -> how its last fruitless attempt ended, in the executor's words."""
    asked: Mapping[str, Wish]
    command: str
    """How it is run again."""

    @property
    def cancelled(self) -> frozenset[str]:
        """Trials that are cancelled or about to be."""
        wished = {Wish.CANCEL: True, Wish.RETRY: False}
        found = set(self.state.cancelled)
        for trial, wish in self.asked.items():
            (found.add if wished[wish] else found.discard)(trial)
        return frozenset(found)


def read_sweep(layout: Layout, name: str, plan: Plan | None = None, command: str = "") -> Sweep:
    """Return a sweep from its files; `plan` and `command` replace what the store knows, where its file was given."""
    folder = layout.sweep(name)
    events = list(read_events(folder))
    state = fold(events)
    return Sweep(
        plan=plan or read_plan(layout, name), state=state, controlled=controller(state),
        open={key: s.name for s in state.submissions.values() for i, stages in enumerate(s.tickets)
              if i not in s.ended for key in stages},
        done=frozenset(key for e in events if e["event"] == "done" for key in _fingerprints(e)),
        detail={e["fingerprint"]: str(e.get("detail", "")) for e in events if e["event"] == "failed"},
        asked=asked_of(folder), command=command or sweep_file_hint(layout, name),
    )


def _fingerprints(event: Event) -> list[str]:
    """Return the stages of a `done` event; older ledgers name one each."""
    return list(event["fingerprints"]) if "fingerprints" in event else [str(event.get("fingerprint", ""))]


class Explainer:
    """Explains stages; each is looked at once."""

    def __init__(self, layout: Layout, sweeps: Sequence[Sweep], specs: Mapping[str, str] | None = None,
                 thorough: str = "") -> None:
        """Explain from these sweeps.

        Args:
            layout: the store.
            sweeps: those whose plans and ledgers count.
            specs: fingerprint -> text of spec.json, of a plan that may not have run yet.
            thorough: the stage whose files are compared with their SHA-256 (1 s per GB); others by their sizes.
        """
        self.layout = layout
        self.sweeps = sweeps
        self.plans = [s.plan for s in sweeps]
        self._specs = specs or {}
        self._thorough = thorough
        self._found: dict[str, Explanation] = {}
        self._gates = {s.plan.name: withheld(layout, s.plan) for s in sweeps}
        self._outranked = {s.plan.name: outranked(layout, s.plan) for s in sweeps}

    def explain(self, stage: StageFolder) -> Explanation:
        """Return why a stage is where it is."""
        key = stage.fingerprint
        if key not in self._found:
            looks: tuple[Callable[[StageFolder], Explanation | None], ...] = (
                self._complete, self._live, self._deleted, self._cancelled, self._withheld, self._failed,
                self._interrupted)
            found = next((e for e in (look(stage) for look in looks) if e), None) or self._waiting(stage)
            restarts = again((s.state for s in self.sweeps), key)
            given = [*chosen(self.layout, self.plans, key)]
            self._found[key] = replace(found, details=(*found.details, *restarts, *(c.line() for c in given)), facts={
                **found.facts, **({"chosen": [asdict(c) for c in given]} if given else {})})
        return self._found[key]

    def decisive(self, stages: Sequence[StageFolder]) -> Explanation:
        """Return the explanation that says most about a trial."""
        found = [self.explain(s) for s in stages]
        said = (e for state in DECISIVE for e in found if e.state == state)
        ready = (e for e in found if e.state in NOT_BEGUN and not e.facts["waits_for"])
        return next(said, None) or next(ready, None) or found[-1]

    def compared(self, found: Explanation) -> Explanation:
        """Return the explanation of a stage that has not begun with what makes it another one than the nearest."""
        spec = self.spec(found.kind, found.fingerprint) if found.state in NOT_BEGUN else None
        if spec is None:
            return found
        difference = nearest(self.layout, spec, self.spec)
        if difference is None:
            text = f"the store has no other {found.kind} stage to compare with"
            return replace(found, details=(*found.details, text), facts={**found.facts, "nearest": None})
        head = f"nearest {found.kind} in the store is {difference.nearest[:12]}; from it to this one:"
        return replace(found, details=(*found.details, head, *difference.lines()),
                       facts={**found.facts, "nearest": difference.raw()})

    def _say(self, stage: StageFolder, state: str, reason: str, details: Sequence[str] = (),
             facts: Mapping[str, Any] | None = None) -> Explanation:
        return Explanation(kind=stage.kind, fingerprint=stage.fingerprint, label=label_of(self.plans, stage),
                           state=state, reason=reason, details=tuple(details), facts=facts or {})

    def _naming(self, stage: StageFolder) -> list[Sweep]:
        return [s for s in self.sweeps if stage.fingerprint in s.plan.stages]

    # -- complete, or once complete --------------------------------------------------------------------------------

    def _complete(self, stage: StageFolder) -> Explanation | None:
        try:
            result = records.read_result(stage)
        except RecordError as error:
            return self._say(stage, "damaged", str(error))
        if result is None:
            return None
        if damage := records.damage_of_result(stage, thorough=stage.fingerprint == self._thorough):
            return self._say(stage, "damaged", f"it was complete, and its files are no longer as they were: {damage}",
                             [_again(stage)], {"attempt": result.attempt, "damage": damage})
        maker, when = self._origin(stage, result.attempt)
        names = [s.plan.name for s in self._naming(stage)]
        others = [n for n in names if n != maker]
        reused = f"; reused by {', '.join(others)}" if others else ("" if names else "; no sweep's plan names it now")
        state = "diverged" if result.status == "diverged" else "complete"
        what = "a result, not tried again and never scored; " if state == "diverged" else ""
        facts = {"attempt": result.attempt, "sweep": maker, "when": when, "seconds": result.seconds,
                 "reused_by": others}
        who = f"attempt {result.attempt} of sweep {maker or '(unknown)'}"
        return self._say(stage, state, f"{what}{who}, {when}, took {duration(result.seconds)}{reused}",
                         [*told(stage.attempt(result.attempt)), *lost(stage, result.attempt)], facts)

    def _origin(self, stage: StageFolder, number: int) -> tuple[str, str]:
        """Return the sweep that ran an attempt, and when it was."""
        try:
            raw = read_json(stage.attempt(number).execution)
        except (FileNotFoundError, ValueError):
            raw = {}
        try:
            held = holder(stage)
        except RecordError:
            held = None
        maker = str(raw.get("sweep") or (held.sweep if held else ""))
        if "started" in raw:
            return maker, f"begun {raw['started'].replace('T', ' ').replace('+00:00', ' UTC')}"
        moment = datetime.fromtimestamp(stage.result.stat().st_mtime, UTC)
        return maker, f"finished {moment:%Y-%m-%d %H:%M:%S} UTC"

    def _deleted(self, stage: StageFolder) -> Explanation | None:
        seen = [s for s in self.sweeps if stage.fingerprint in s.done]
        if not seen:
            return None
        gone = "its folder is gone" if not stage.path.exists() else "its result.json is gone"
        return self._say(stage, "deleted", f"{gone}: sweep {seen[0].plan.name} has seen it complete, and somebody has "
                                           f"deleted it since", [f"it runs again with: {seen[0].command}"],
                         {"sweep": seen[0].plan.name})

    # -- running ---------------------------------------------------------------------------------------------------

    def _live(self, stage: StageFolder) -> Explanation | None:
        owner = next((s for s in self.sweeps if s.controlled and stage.fingerprint in s.open), None)
        if owner is None:
            return None
        submission = owner.open[stage.fingerprint]
        number = newest_attempt(stage)
        facts: dict[str, Any] = {"sweep": owner.plan.name, "submission": submission, "controller": owner.controlled}
        who = f"sweep {owner.plan.name} ({owner.controlled}), submission {submission}"
        if number == 0 or _submission(stage, number) != submission:
            return self._say(stage, "live", f"submitted by {who}; its job has not come to it yet", facts=facts)
        tokens = last_row(stage).get("tokens", 0)
        facts |= {"attempt": number, "tokens": tokens}
        at = f" at {tokens:,} tokens" if tokens else ""
        return self._say(stage, "live", f"running: attempt {number}{at}, {who}",
                         [*told(stage.attempt(number)), *self._logs(stage)], facts)

    def _cancelled(self, stage: StageFolder) -> Explanation | None:
        users = [(s, t["id"]) for s in self._naming(stage) for t in s.plan.trials.values()
                 if any(step["fingerprint"] == stage.fingerprint for step in t["path"])]
        if not users or not all(trial in s.cancelled for s, trial in users):
            return None
        pending = any(s.asked.get(trial) is Wish.CANCEL for s, trial in users)
        name, trials = users[0][0].plan.name, [t for _, t in users]
        how = next((s.state.cancelled_how[t] for s, t in users if t in s.state.cancelled_how), "cancelled")
        text = f"all {len(trials)} trials that need it were {how}"
        if pending:
            text += "; asked, not yet applied"
        return self._say(stage, "cancelled", text, [f"take it back: orchestrator retry {trials[0]} --sweep {name}"],
                         {"trials": trials, "applied": not pending})

    def _withheld(self, stage: StageFolder) -> Explanation | None:
        naming = self._naming(stage)
        lost = [self._outranked[s.plan.name].get(stage.fingerprint) for s in naming]
        if lost and all(lost):
            return self._say(stage, "withheld", str(lost[0]))
        gates = [self._gates[s.plan.name].get(stage.fingerprint) for s in naming]
        gate = next((g for g in gates if g), None)
        if gate is None or not all(gates):
            return None  # a sweep that does not require the gate runs it
        folder = self.layout.stage("evaluate", gate)
        text = (f"its upstream was not learned, or that is not known, and sweep {naming[0].plan.name} requires it "
                f"(gate: require): {label_of(self.plans, folder)}")
        return self._say(stage, "withheld", text, [f"the verdict: orchestrator why {gate[:12]}"], {"gate": gate})

    # -- ended without a result ------------------------------------------------------------------------------------

    def _end(self, stage: StageFolder, number: int) -> Event:
        """Return how the attempt ended by the ledger that classified it; empty where none did, or an older release."""
        ends = (s.state.ends.get(stage.fingerprint, {}) for s in self._naming(stage))
        return next((e for e in ends if e.get("attempt") == number), {})

    def _failed(self, stage: StageFolder) -> Explanation | None:
        number = newest_attempt(stage)
        users = self._naming(stage)
        end = self._end(stage, number)
        if end.get("event") == "interrupted":
            return None  # it is tried again
        policy = {"failure": end.get("class", ""), "action": end.get("action", "")}
        again = [f"try again: orchestrator retry --failed --sweep {s.plan.name}" for s in users[:1]]
        try:
            raw = read_json(stage.attempt(number).failure) if number else None
        except (FileNotFoundError, ValueError):
            raw = None
        if raw is not None:
            trace = [str(line) for line in raw.get("traceback", [])][-TRACEBACK_LINES:]
            reason = f"attempt {number}: {raw.get('class', 'error')}: {raw.get('message', '')}"
            said = [f"{end['class']}: {end['text']}"] if end else []
            details = [*(f"  {line}" for line in trace), *said, f"details: {stage.attempt(number).failure}",
                       *self._logs(stage), *again]
            return self._say(stage, "failed", reason, details, {
                "attempt": number, "class": raw.get("class", ""), "message": raw.get("message", ""),
                "traceback": trace, "logs": [str(p) for p in logs(self.layout, stage)], **policy})
        owner = next((s for s in users if stage.fingerprint in s.state.failures and not s.controlled), None)
        if owner is None:
            return None
        times = number or owner.state.failures[stage.fingerprint]
        detail = end.get("text") or owner.detail.get(stage.fingerprint) or "no reason given"
        return self._say(stage, "failed", f"gave no result in {times} attempt{'s' if times > 1 else ''}, the last: "
                                          f"{detail}", [*self._logs(stage), *again], {
                             "attempt": number, "message": detail, **policy,
                             "logs": [str(p) for p in logs(self.layout, stage)]})

    def _interrupted(self, stage: StageFolder) -> Explanation | None:
        left = next((s for s in self.sweeps if stage.fingerprint in s.open), None)
        number = newest_attempt(stage)
        if left is not None:
            return self._say(stage, "interrupted", f"submitted by sweep {left.plan.name}, whose controller is gone; if "
                                                   "its job still runs, the next controller adopts it",
                             [f"go on: {left.command}", *self._logs(stage)],
                             {"sweep": left.plan.name, "attempt": number})
        if number == 0:
            return None
        found = records.checkpoints(stage)
        end = self._end(stage, number)
        asked = stage.attempt(number).stopped.exists()
        how = end.get("text") or ("left as it was asked to" if asked else "ended without a result or a reason")
        place = "its last checkpoint" if stage.kind == "text" else f"{found[0].tokens:,} tokens" if found else ""
        where = f"goes on from {place}" if found else "begins again from the beginning"
        return self._say(stage, "interrupted", f"attempt {number} {how}; the next one {where}",
                         [*(self._next(stage)), *self._logs(stage)], {
                             "attempt": number, "failure": end.get("class", ""), "action": end.get("action", "")})

    # -- not begun -------------------------------------------------------------------------------------------------

    def _waiting(self, stage: StageFolder) -> Explanation:
        spec = self.spec(stage.kind, stage.fingerprint)
        inputs = list(self._inputs(stage, spec))
        missing = [e for e in map(self.explain, inputs) if e.state != "complete"]
        state = "waiting" if stage.path.exists() or missing else "new"
        facts: dict[str, Any] = {"waits_for": [{"label": e.label, "fingerprint": e.fingerprint, "state": e.state}
                                               for e in missing]}
        refused = self._end(stage, 0).get("text")
        details = [*([refused] if refused else ()), *self._next(stage)]
        if not missing:
            return self._say(stage, state, "no result yet, and nothing that it reads is missing", details, facts)
        exact = "inputs" if spec else "earlier stages of its trial"
        named = ", ".join(f"{e.label} ({e.state})" for e in missing[:NAMED])
        more = f" and {len(missing) - NAMED} more" if len(missing) > NAMED else ""
        fatal = next((e for e in missing if e.state == "diverged"), None)
        never = f"; it is never run, because {fatal.label} diverged" if fatal else ""
        return self._say(stage, state, f"waits for {len(missing)} of {len(inputs)} {exact}: {named}{more}{never}",
                         details, facts)

    def _next(self, stage: StageFolder) -> Iterator[str]:
        """Yield who runs it next."""
        naming = self._naming(stage)
        alive = next((s for s in naming if s.controlled), None)
        if alive is not None:
            yield f"{alive.controlled} (sweep {alive.plan.name}) runs it as soon as a slot is free for it"
        elif naming:
            yield f"no controller is alive; it runs with: {naming[0].command}"
        else:
            yield "no sweep's plan names it, so nothing will run it"

    def spec(self, kind: str, fingerprint: str) -> Spec | None:
        """Return a stage's spec, from the given plan or from the store."""
        if fingerprint in self._specs:
            raw: Spec = json.loads(self._specs[fingerprint])
            return raw
        return read_spec(self.layout.stage(kind, fingerprint))

    def _inputs(self, stage: StageFolder, spec: Spec | None) -> Iterator[StageFolder]:
        if spec is not None:
            for fingerprint, kind in {i["fingerprint"]: i["kind"] for i in spec["inputs"]}.items():
                yield self.layout.stage(kind, fingerprint)
            return
        for sweep in self._naming(stage):
            for trial in sweep.plan.trials.values():
                keys = [step["fingerprint"] for step in trial["path"]]
                if stage.fingerprint in keys:
                    before = trial["path"][: keys.index(stage.fingerprint)]
                    wanted = {s["fingerprint"]: s["kind"] for s in before
                              if s["kind"] in INPUTS_OF.get(stage.kind, ()) and s["role"] != "end"}
                    yield from (self.layout.stage(kind, key) for key, kind in wanted.items())
                    return

    def _logs(self, stage: StageFolder) -> list[str]:
        found = list(logs(self.layout, stage))
        return [f"log: {path}" for path in found[-2:]]


def _again(stage: StageFolder) -> str:
    return f"to run it again, remove {stage.path} and run its sweep"


def _submission(stage: StageFolder, number: int) -> str:
    try:
        return str(read_json(stage.attempt(number).execution).get("submission", ""))
    except (FileNotFoundError, ValueError):
        return ""
