"""What a person asked a sweep's controller for: one small file per request, in the order of their numbers.

A verb leaves the file and returns; the controller that lives applies it within a second, the next one applies it when
it begins. A request is written into the ledger before its file is removed, so it is applied at least once; every
request is such that applying it again changes nothing.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum

from sweeps.errors import NewerRecordError
from sweeps.store import files
from sweeps.store.layout import SweepFolder


class Wish(StrEnum):
    """What can be asked for."""

    CANCEL = "cancel"
    """Run these trials no further."""
    RETRY = "retry"
    """Run these trials again, cancelled ones included; finished ones stay as they are."""

    @property
    def done(self) -> str:
        """The ledger's event, and the word for a person."""
        return {"cancel": "cancelled", "retry": "retried"}[self.value]


@dataclass(frozen=True, kw_only=True)
class Request:
    """One wish."""

    number: int
    wish: Wish
    trials: tuple[str, ...]
    """Trial ids."""


def ask(sweep: SweepFolder, wish: Wish, trials: Iterable[str]) -> Request:
    """Leave a request; returns when it is on disk."""
    sweep.requests.mkdir(parents=True, exist_ok=True)
    chosen = tuple(trials)
    text = files.to_json({"schema_version": files.SCHEMA_VERSION, "wish": wish, "trials": chosen})
    number = max(_numbers(sweep), default=0) + 1
    while not files.create(sweep.requests / f"{number}.json", text):
        number += 1
    return Request(number=number, wish=wish, trials=chosen)


def pending(sweep: SweepFolder) -> list[Request]:
    """Return the requests that no controller has applied yet, in order.

    A damaged file is passed over, and one of a newer release waits for a controller that can read it.
    """
    found = []
    for number in sorted(_numbers(sweep)):
        try:
            raw = files.read_json(sweep.requests / f"{number}.json")
            found.append(Request(number=number, wish=Wish(raw["wish"]), trials=tuple(raw["trials"])))
        except (ValueError, KeyError, TypeError, FileNotFoundError, NewerRecordError):
            continue
    return found


def remove(sweep: SweepFolder, request: Request) -> None:
    """Remove an applied request; again is harmless."""
    (sweep.requests / f"{request.number}.json").unlink(missing_ok=True)


def _numbers(sweep: SweepFolder) -> list[int]:
    try:
        return [int(p.stem) for p in sweep.requests.iterdir() if p.suffix == ".json" and p.stem.isdigit()]
    except FileNotFoundError:
        return []
