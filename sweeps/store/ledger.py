"""The ledger of a sweep: append-only events, one file per term; state is a pure fold over them.

Creating `ledger/<term>.jsonl` exclusively is how a controller begins its reign. Its first event, `start`, states how
many sound lines each older term had at that moment; what an old controller writes later counts for nothing.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sweeps.errors import OwnedError, StorageError
from sweeps.store import files
from sweeps.store.files import SCHEMA_VERSION, read_lines
from sweeps.store.layout import SweepFolder
from sweeps.store.owner import Owner

Event = Mapping[str, Any]


@dataclass(kw_only=True)
class Submission:
    """One call of the executor, as the ledger knows it."""

    name: str
    tickets: tuple[tuple[str, ...], ...]
    """(array index, position) -> fingerprint."""
    handles: tuple[Mapping[str, Any], ...] | None = None
    """None: the intent was written, the answer was not."""
    ended: dict[int, str] = field(default_factory=dict)
    """Array index -> the executor's word for how it ended."""


@dataclass(kw_only=True)
class State:
    """What the events say. Whether a stage is complete is for the store to say."""

    term: int = 0
    owner: Owner | None = None
    released: bool = True
    submissions: dict[str, Submission] = field(default_factory=dict)
    failures: dict[str, int] = field(default_factory=dict)
    """Fingerprint -> attempts that ended without a result, since the last start."""
    cancelled: set[str] = field(default_factory=set)
    """Trials that are run no further, until they are asked for again."""
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
    state.failures = {}


def _intent(state: State, event: Event) -> None:
    tickets = tuple(tuple(t) for t in event["tickets"])
    state.submissions[event["name"]] = Submission(name=event["name"], tickets=tickets)


def _submitted(state: State, event: Event) -> None:
    if event["name"] in state.submissions:
        state.submissions[event["name"]].handles = tuple(event["handles"])


def _ended(state: State, event: Event) -> None:
    if event["name"] in state.submissions:
        state.submissions[event["name"]].ended[int(event["index"])] = event["detail"]


def _failed(state: State, event: Event) -> None:
    state.failures[event["fingerprint"]] = state.failures.get(event["fingerprint"], 0) + 1


def _cancelled(state: State, event: Event) -> None:
    state.cancelled |= set(event["trials"])


def _retried(state: State, event: Event) -> None:
    state.cancelled -= set(event["trials"])


def _release(state: State, event: Event) -> None:
    state.released = True


_STEPS = {"start": _start, "intent": _intent, "submitted": _submitted, "ended": _ended, "failed": _failed,
          "cancelled": _cancelled, "retried": _retried, "release": _release}


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
    sound = {term: [e for e in read_lines(sweep.ledger / f"{term}.jsonl") if e is not None] for term in terms(sweep)}
    limits: dict[int, int] = {}
    for term in sorted(sound, reverse=True):
        first = sound[term][0] if sound[term] else {}
        files.refuse_newer(first, sweep.ledger / f"{term}.jsonl")
        for older, lines in first.get("older", {}).items():
            limits[int(older)] = min(lines, limits.get(int(older), lines))
    for term, events in sorted(sound.items()):
        yield from events[: limits.get(term, len(events))]


class Ledger:
    """The writing side; made by `begin_term`."""

    def __init__(self, descriptor: int, path: Path, term: int) -> None:
        """Use `begin_term`. `descriptor` is open for appending."""
        self._descriptor = descriptor
        self._path = path
        self._sequence = 0
        self.term = term

    def append(self, event: str, **fields: Any) -> None:
        """Write one event durably; returns when it is on disk.

        Raises:
            StorageError: there is no space; the ledger is as it was.
        """
        files.append(self._descriptor, self._path, files.encode_line(self._sequence, {"event": event, **fields}),
                     durable=True)
        self._sequence += 1

    def close(self) -> None:
        """Release the sweep and close. Without space for the word, the next controller sees that the owner is gone."""
        with suppress(StorageError):
            self.append("release")
        os.close(self._descriptor)


def begin_term(sweep: SweepFolder, *, takeover: bool = False) -> tuple[Ledger, State]:
    """Take the next term, and return its ledger and the state that the older terms leave.

    Raises:
        OwnedError: another controller lives, or may live on another host, and `takeover` is False.
    """
    sweep.ledger.mkdir(parents=True, exist_ok=True)
    known = terms(sweep)  # before the look at who reigns: a term that begins after it is noticed when ours is made
    state = fold(read_events(sweep))
    if not takeover and not state.released and state.owner is not None and state.owner.alive() is not False:
        raise OwnedError(
            f"sweep {sweep.name!r} is controlled by {state.owner.text()} (term {state.term}); "
            "wait for it, stop it, or fence it with --takeover"
        )
    lines = {t: list(read_lines(sweep.ledger / f"{t}.jsonl")) for t in known}
    older = {str(t): sum(e is not None for e in found) for t, found in lines.items()}
    term = max(known, default=0) + 1
    try:
        path = sweep.ledger / f"{term}.jsonl"
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND, 0o600)
    except FileExistsError as error:
        raise OwnedError(f"another controller of sweep {sweep.name!r} started at the same moment") from error
    ledger = Ledger(descriptor, path, term)
    ledger.append("start", term=term, owner=Owner.me().fields(), older=older, schema_version=SCHEMA_VERSION)
    files.sync_folder(sweep.ledger)
    state.term, state.owner, state.released, state.failures = term, Owner.me(), False, {}
    state.damaged = sum(e is None for found in lines.values() for e in found)
    return ledger, state


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
