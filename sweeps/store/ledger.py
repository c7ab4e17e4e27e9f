"""The ledger of a sweep: append-only events, one file per term; state is a pure fold over them.

Creating `ledger/<term>.jsonl` exclusively is how a controller begins its reign. Its first event, `start`, states how
many sound lines each older term had at that moment; what an old controller writes later counts for nothing.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sweeps.errors import OwnedError, StorageError
from sweeps.store import files
from sweeps.store.files import SCHEMA_VERSION, read_lines
from sweeps.store.layout import SweepFolder
from sweeps.store.owner import Owner, Standing
from sweeps.store.space import writing

Event = Mapping[str, Any]


@dataclass(kw_only=True)
class Submission:
    """One call of the executor, as the ledger knows it."""

    name: str
    tickets: tuple[tuple[str, ...], ...]
    """(array index, position) -> fingerprint."""
    ended: dict[int, str] = field(default_factory=dict)
    """Array index -> the executor's word for how it ended."""
    restarts: dict[int, int] = field(default_factory=dict)
    """Array index -> how often the cluster itself has started the job again."""


@dataclass(kw_only=True)
class State:
    """What the events say. Whether a stage is complete is for the store to say."""

    term: int = 0
    owner: Owner | None = None
    released: bool = True
    exit_code: int | None = None
    """Of the newest controller, where it left in order."""
    submissions: dict[str, Submission] = field(default_factory=dict)
    failures: dict[str, int] = field(default_factory=dict)
    """Fingerprint -> how often it was given up since the last start; older ledgers also count what was tried again."""
    ends: dict[str, Event] = field(default_factory=dict)
    """Fingerprint -> how its last attempt without a result ended, and what followed."""
    bad_nodes: dict[str, set[str]] = field(default_factory=dict)
    """Node -> stages whose attempts ended for its sake, since a controller last left in order: it may be mended."""
    lost_tokens: list[int] = field(default_factory=list)
    """Of each interruption of a training stage: tokens trained beyond the checkpoint from which it goes on."""
    restarted: list[Event] = field(default_factory=list)
    """Each time that a controller saw a job started again by the cluster itself."""
    micro_batch: dict[str, int] = field(default_factory=dict)
    """Fingerprint -> sequences per forward pass and rank, where its GPU had no room for what was planned."""
    asked: set[tuple[str, int]] = field(default_factory=set)
    """(submission, array index) of jobs that a controller of this sweep asked to leave."""
    cancelled: set[str] = field(default_factory=set)
    """Trials that are run no further, until they are asked for again."""
    cancelled_how: dict[str, str] = field(default_factory=dict)
    """Trial -> when and by whom its job was cancelled on the cluster; the others were cancelled by `cancel`."""
    cluster: str = ""
    """Profile of the newest reign whose jobs live on without it; empty: they are of this machine."""
    cap: Event | None = None
    """What the newest reign may use: `gpu_hours`, `source`, `at_cap`; None: no limit."""
    damaged: int = 0
    """Lines that count for nothing because they are torn or altered (set by `begin_term`)."""


def fold(events: Iterable[Event]) -> State:
    """Return the state after the events, in order. Deterministic; unknown events are passed over."""
    state = State()
    for event in events:
        step = _STEPS.get(event.get("event", ""))
        if step is not None:
            step(state, event)
    return state


def _start(state: State, event: Event) -> None:
    state.term, state.owner, state.released = event["term"], Owner.read(event["owner"]), False
    state.exit_code = None
    state.failures = {}


def _owner(state: State, event: Event) -> None:
    state.owner = Owner.read(event["owner"])


def _intent(state: State, event: Event) -> None:
    tickets = tuple(tuple(t) for t in event["tickets"])
    state.submissions[event["name"]] = Submission(name=event["name"], tickets=tickets)


def _ended(state: State, event: Event) -> None:
    if event["name"] in state.submissions:
        state.submissions[event["name"]].ended[int(event["index"])] = event["detail"]


def _restarted(state: State, event: Event) -> None:
    if event["name"] in state.submissions:
        state.submissions[event["name"]].restarts[int(event["index"])] = event["restarts"]
        state.restarted.append(event)
        _node(state, event)


def _node(state: State, event: Event) -> None:
    if event.get("class") == "node" and event.get("node"):
        state.bad_nodes.setdefault(event["node"], set()).add(event["fingerprint"])


def _failed(state: State, event: Event) -> None:
    _node(state, event)
    state.failures[event["fingerprint"]] = state.failures.get(event["fingerprint"], 0) + 1
    state.ends[event["fingerprint"]] = event


def _interrupted(state: State, event: Event) -> None:
    _node(state, event)
    state.ends[event["fingerprint"]] = event
    if event.get("saved_tokens", 0) or event.get("lost_tokens", 0):
        state.lost_tokens.append(event["lost_tokens"])
    if "micro_batch" in event:
        state.micro_batch[event["fingerprint"]] = event["micro_batch"]


def _refused(state: State, event: Event) -> None:
    for key in event["stages"]:
        state.ends.setdefault(key, event)  # it is no attempt: how the last one ended is still how it ended


def _asked(state: State, event: Event) -> None:
    state.asked |= {(name, index) for name, index in event["jobs"]}


def _cancelled(state: State, event: Event) -> None:
    state.cancelled |= set(event["trials"])
    if "text" in event:
        state.cancelled_how |= dict.fromkeys(event["trials"], event["text"])


def _retried(state: State, event: Event) -> None:
    state.cancelled -= set(event["trials"])
    for trial in event["trials"]:
        state.cancelled_how.pop(trial, None)


def _cluster(state: State, event: Event) -> None:
    state.cluster = event["profile"]


def _cap(state: State, event: Event) -> None:
    state.cap = event["cap"]


def _release(state: State, event: Event) -> None:
    state.released, state.exit_code = True, event.get("exit_code")
    state.bad_nodes = {}


_STEPS = {"start": _start, "owner": _owner, "intent": _intent, "ended": _ended, "restarted": _restarted,
          "failed": _failed, "interrupted": _interrupted, "refused": _refused, "asked": _asked, "cancelled": _cancelled,
          "retried": _retried, "cluster": _cluster, "cap": _cap, "release": _release}


def terms(sweep: SweepFolder) -> list[int]:
    """Return the terms of a sweep, in order."""
    if not sweep.ledger.is_dir():
        return []
    return sorted(int(p.stem) for p in sweep.ledger.glob("*.jsonl") if p.stem.isdigit())


def read_events(sweep: SweepFolder) -> Iterator[Event]:
    """Yield the events that count, in order.

    Raises:
        NewerRecordError: a newer release wrote some of them.
    """
    yield from _counting(sweep, _sound(_lines(sweep)))


def size(sweep: SweepFolder) -> tuple[tuple[int, int], ...]:
    """Return terms and their bytes: as long as this stays the same, so do the events."""
    return tuple((term, (sweep.ledger / f"{term}.jsonl").stat().st_size) for term in terms(sweep))


def _lines(sweep: SweepFolder) -> dict[int, list[Event | None]]:
    """Return each term's lines, None for a damaged one."""
    return {term: list(read_lines(sweep.ledger / f"{term}.jsonl")) for term in terms(sweep)}


def _sound(lines: Mapping[int, list[Event | None]]) -> dict[int, list[Event]]:
    return {term: [e for e in found if e is not None] for term, found in lines.items()}


def _counting(sweep: SweepFolder, sound: Mapping[int, list[Event]]) -> Iterator[Event]:
    limits: dict[int, int] = {}
    for term in sorted(sound, reverse=True):
        first = sound[term][0] if sound[term] else {}
        files.refuse_newer(first, sweep.ledger / f"{term}.jsonl")
        for older, lines in first.get("older", {}).items():
            limits[int(older)] = min(lines, limits.get(int(older), lines))
    for term, events in sorted(sound.items()):
        yield from events[: limits.get(term, len(events))]


class Ledger:
    """The writing side; made by `begin_term`. Several threads may use it."""

    def __init__(self, path: Path, term: int) -> None:
        """Use `begin_term`, which makes the file with its first line."""
        self._descriptor = os.open(path, os.O_WRONLY | os.O_APPEND)
        self._lock = threading.Lock()
        self._open = True
        self._path = path
        self._sequence = 1
        self.term = term

    def append(self, event: str, **fields: Any) -> None:
        """Write one event durably; returns when it is on disk.

        Raises:
            StorageError: there is no space; the ledger is as it was.
            OwnedError: the ledger was closed; whoever still works under it is to stop.
        """
        with self._lock:
            if not self._open:
                raise OwnedError(f"{self._path} is closed: this controller is leaving")
            files.append(self._descriptor, self._path, files.encode_line(self._sequence, {"event": event, **fields}),
                         durable=True)
            self._sequence += 1

    def close(self, *, release: bool = True, exit_code: int | None = None) -> None:
        """Release the sweep, with the controller's exit code, and close.

        Without the word (there is no space for it, or a thread may still act under this term), the next controller
        sees whether this process is gone.
        """
        if release:
            with suppress(StorageError):
                self.append("release", exit_code=exit_code)
        with self._lock:
            self._open = False
            os.close(self._descriptor)


def begin_term(sweep: SweepFolder, *, takeover: bool = False, me: Owner | None = None,
               standing: Callable[[Owner], Standing] = Owner.standing) -> tuple[Ledger, State]:
    """Take the next term, and return its ledger and the state that the older terms leave.

    Args:
        sweep: the sweep.
        takeover: fence an owner that lives.
        me: the new owner; None: this process.
        standing: tells whether an owner lives; the default sees processes of this host only.

    Raises:
        OwnedError: another controller lives, or may live on another host, and `takeover` is False.
        StorageError: there is no space; who reigned still does.
    """
    with writing(sweep.ledger):
        sweep.ledger.mkdir(parents=True, exist_ok=True)
    lines = _lines(sweep)  # a term that begins after this look is noticed when ours is made
    sound = _sound(lines)
    state = fold(_counting(sweep, sound))
    me = me or Owner.me()
    if not takeover and not state.released and state.owner is not None and not state.owner.succeeded_by(me):
        alive, who = standing(state.owner)
        if alive is not False:
            raise OwnedError(f"sweep {sweep.name!r} is controlled by {who}{state.owner.age()} (term {state.term}); "
                             "wait for it, stop it, or fence it with --takeover")
    term = max(lines, default=0) + 1
    path = sweep.ledger / f"{term}.jsonl"
    start = {"event": "start", "term": term, "owner": me.fields(), "schema_version": SCHEMA_VERSION,
             "older": {str(t): len(events) for t, events in sound.items()}}
    if not files.create(path, files.encode_line(0, start)):  # whole: a term without an owner would fence for nothing
        raise OwnedError(f"another controller of sweep {sweep.name!r} started at the same moment")
    _start(state, start)
    state.damaged = sum(e is None for found in lines.values() for e in found)
    return Ledger(path, term), state


def refuse_fenced(sweep: SweepFolder, term: int) -> None:
    """Refuse to go on under a term that is not the newest.

    Raises:
        OwnedError: a newer term has begun; names its owner.
    """
    newest = max(terms(sweep), default=term)
    if newest > term:
        owner = fold(read_events(sweep)).owner
        raise OwnedError(f"sweep {sweep.name!r} was taken over by {owner.text() if owner else 'another controller'} "
                         f"(term {newest}, this was {term}); this one stops, its jobs go on under the new one")
