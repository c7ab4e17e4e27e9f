"""From what a person types to stages and trials: a trial's id or a pattern, a stage's label, a fingerprint's beginning.

Reads the sweeps' plan.json as plain dictionaries, because pydantic costs more time than `status` and `logs` may take.
"""

from __future__ import annotations

import difflib
import fnmatch
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sweeps.errors import RecordError, UsageError
from sweeps.store.files import read_json
from sweeps.store.layout import Layout, StageFolder
from sweeps.store.ledger import State, fold, read_events

MIN_PREFIX = 4
"""Hex digits of a fingerprint that must be given."""
LISTED = 8
"""Candidates that a message lists."""
PATTERN = re.compile(r"[*?\[]")


@dataclass(frozen=True, kw_only=True)
class Plan:
    """plan.json of a sweep."""

    name: str
    question: str = ""
    stages: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    """Fingerprint -> kind, label, tokens, trials."""
    trials: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    """Id -> path and what it compares."""
    gate: str = "report"
    search: Mapping[str, Any] = field(default_factory=dict)
    """`eta` and the brackets of a search; empty where the sweep is none."""
    searched: tuple[Mapping[str, Any], ...] = ()
    """What a comparison took from a search: cell, values."""
    controls: tuple[str, ...] = ()
    """Upstreams that are controls."""

    @classmethod
    def of(cls, raw: Mapping[str, Any]) -> Plan:
        """Return the plan that plan.json (or the dump of a `PlanFile`) states."""
        return cls(name=raw["name"], question=raw["question"], stages={s["fingerprint"]: s for s in raw["stages"]},
                   trials={t["id"]: t for t in raw["trials"]}, gate=raw.get("gate", "report"),
                   search=raw.get("search") or {}, searched=tuple(raw.get("searched", ())),
                   controls=tuple(raw.get("controls", ())))


@dataclass(frozen=True, kw_only=True)
class Target:
    """What was named: a trial of one sweep, or a stage."""

    stages: tuple[StageFolder, ...]
    trial: str = ""
    """Empty where a stage was named."""
    sweep: str = ""
    """The trial's sweep."""


def read_plan(store: Layout, name: str) -> Plan:
    """Return a sweep's plan; an empty one where it has none yet.

    Raises:
        RecordError: plan.json is damaged.
    """
    path = store.sweep(name).plan
    try:
        return Plan.of({**read_json(path), "name": name})
    except FileNotFoundError:
        return Plan(name=name)
    except (ValueError, KeyError, TypeError) as error:
        raise RecordError(f"{path} is damaged ({error!r}); running the sweep again writes it anew") from error


def find(store: Layout, plans: Sequence[Plan], text: str) -> Target:
    """Return the trial or stage that `text` names.

    Raises:
        UsageError: there is none, or more than one; the message lists the candidates or the nearest names.
    """
    having = [p for p in plans if text in p.trials]
    if having:
        return _trial(store, having, text)
    named = {key: str(s["label"]) for p in plans for key, s in p.stages.items()}
    labelled = [key for key, label in named.items() if label == text]
    keys = labelled or (_beginning_with(store, plans, text) if _is_prefix(text) else [])
    if len(keys) > 1:
        listed = ", ".join(f"{k[:12]} ({named.get(k, 'of no sweep')})" for k in sorted(keys)[:LISTED])
        raise UsageError(f"{text!r} names {len(keys)} stages: {listed}{', ...' if len(keys) > LISTED else ''}; "
                         "give more digits of the fingerprint")
    if not keys:
        short = f"; a fingerprint needs at least {MIN_PREFIX} digits" if re.fullmatch("[0-9a-f]{1,3}", text) else ""
        known = [*(t for p in plans for t in p.trials), *named.values()]
        raise UsageError(f"{text!r} is no trial's id, stage's label or fingerprint's beginning in "
                         f"{store.root}{short}{hint(text, known)}")
    return Target(stages=(stage_folder(store, plans, keys[0]),))


def _trial(store: Layout, having: Sequence[Plan], text: str) -> Target:
    paths = {tuple(s["fingerprint"] for s in p.trials[text]["path"]): p for p in having}
    if len(paths) > 1:
        raise UsageError(f"trial {text!r} is in {len(having)} sweeps with different stages: "
                         f"{', '.join(p.name for p in having)}; choose one with --sweep NAME")
    path = {s["fingerprint"]: s["kind"] for s in having[0].trials[text]["path"]}
    return Target(trial=text, sweep=having[0].name, stages=tuple(store.stage(kind, key) for key, kind in path.items()))


def _is_prefix(text: str) -> bool:
    return re.fullmatch(rf"[0-9a-f]{{{MIN_PREFIX},}}", text) is not None


def _beginning_with(store: Layout, plans: Sequence[Plan], text: str) -> list[str]:
    planned = {key for p in plans for key in p.stages if key.startswith(text)}
    return sorted(planned | {p.name for p in store.stages.glob(f"*/{text}*")})


def stage_folder(store: Layout, plans: Iterable[Plan], fingerprint: str) -> StageFolder:
    """Return the folder of a stage that a plan or the store has."""
    kind = next((str(p.stages[fingerprint]["kind"]) for p in plans if fingerprint in p.stages), None)
    if kind is not None:
        return store.stage(kind, fingerprint)
    return StageFolder(next(iter(store.stages.glob(f"*/{fingerprint}"))))


def label_of(plans: Iterable[Plan], stage: StageFolder) -> str:
    """Return a stage's label, or kind and fingerprint where no plan names it."""
    found = next((str(p.stages[stage.fingerprint]["label"]) for p in plans if stage.fingerprint in p.stages), "")
    return found or f"{stage.kind} {stage.fingerprint[:12]}"


def hint(text: str, known: Iterable[str]) -> str:
    """Return `. Did you mean 'a', 'b'?`, or what there is."""
    names = list(dict.fromkeys(known))
    if close := difflib.get_close_matches(text, names, n=3, cutoff=0.6):
        return f". Did you mean {', '.join(map(repr, close))}?"
    listed = ", ".join(names[:LISTED])
    return f"; known: {listed}{', ...' if len(names) > LISTED else ''}" if names else "; nothing was planned here yet"


def match_trials(plans: Sequence[Plan], texts: Sequence[str]) -> tuple[Plan, list[str]]:
    """Return the one sweep, and its trials that ids or patterns (`nca_*-s0`) name, in the order of its plan.

    Raises:
        UsageError: one names no trial, or they belong to more than one sweep.
    """
    chosen: dict[str, dict[str, None]] = {}
    for text in texts:
        hits = {p.name: _matching(p, text) for p in plans}
        if not any(hits.values()):
            raise UsageError(f"{text!r} names no trial{hint(text, (t for p in plans for t in p.trials))}")
        for name, trials in hits.items():
            chosen.setdefault(name, {}).update(dict.fromkeys(trials))
    having = [name for name, trials in chosen.items() if trials]
    if len(having) > 1:
        raise UsageError(f"these trials are in the sweeps {', '.join(having)}; choose one with --sweep NAME")
    plan = next(p for p in plans if p.name == having[0])
    return plan, [t for t in plan.trials if t in chosen[plan.name]]


def _matching(plan: Plan, text: str) -> list[str]:
    if text in plan.trials:
        return [text]
    return fnmatch.filter(plan.trials, text) if PATTERN.search(text) else []


def logs(store: Layout, stage: StageFolder) -> Iterator[Path]:
    """Yield the log files of the jobs that were to run a stage, oldest first; one log holds all stages of its ticket.

    Also of a job that died before it came to the stage: then nothing else says why.
    """
    states: dict[str, State] = {}
    for name, submitted in dict.fromkeys(_submissions(stage)):
        if not name or not store.sweep(name).path.is_dir():
            continue
        state = states.setdefault(name, fold(read_events(store.sweep(name))))
        submission = state.submissions.get(submitted)
        for index, stages in enumerate(submission.tickets if submission else ()):
            if stage.fingerprint in stages:
                yield from _logs_of_job(store.sweep(name).submissions / submitted, index)


def _submissions(stage: StageFolder) -> Iterator[tuple[str, str]]:
    """Yield the sweep and submission of each job that was to run a stage, by its claims and attempts."""
    for folder, names in ((stage.claims, "*.json"), (stage.attempts, "*/execution.json")):
        for path in sorted(folder.glob(names), key=lambda p: [(len(part), part) for part in p.parts]):
            try:
                raw = read_json(path)
            except ValueError:  # cut short by a crash: nothing says where its log is
                continue
            yield str(raw.get("sweep") or ""), str(raw.get("submission", ""))


def _logs_of_job(folder: Path, index: int) -> Iterator[Path]:
    """Yield a job's logs that say something: the local executor's, or those of Slurm's first rank."""
    for end in ("out", "err"):
        for path in (folder / f"{index}.{end}", *sorted(folder.glob(f"*_{index}_0_log.{end}"))):
            if path.is_file() and path.stat().st_size:
                yield path
