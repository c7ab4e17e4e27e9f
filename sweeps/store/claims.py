"""Who may submit a stage, and who wants it.

Claims are numbered files, each made exclusively; the highest number holds. A claim is never removed or changed, so two
controllers that race for the same stage see one winner, and a job can tell that it has been superseded by listing one
folder. Interest files say which sweeps wait for the stage: it is cancelled only when none is left.
"""

from __future__ import annotations

from dataclasses import dataclass

from sweeps.store import files
from sweeps.store.layout import StageFolder

NOBODY = ""
"""Sweep and submission of a claim whose content a power failure took."""


@dataclass(frozen=True, kw_only=True)
class Claim:
    """The right to submit a stage."""

    number: int
    sweep: str
    term: int
    """Reign of the controller that took it."""
    submission: str
    """Batch name under which its job runs."""


def take(stage: StageFolder, *, sweep: str, term: int, submission: str, after: int) -> int | None:
    """Take the claim that follows claim `after` (0: none yet); None where somebody else has taken it already."""
    number = after + 1
    text = files.to_json({
        "schema_version": files.SCHEMA_VERSION, "sweep": sweep, "term": term, "submission": submission,
    })
    # A claim that a power failure takes away is taken again under the same number by another submission, one that it
    # leaves without content counts as nobody's: the job of either sees no claim of its own and leaves.
    return number if files.create(stage.claims / f"{number}.json", text, durable=files.Durable.NOTHING) else None


def holder(stage: StageFolder) -> Claim | None:
    """Return the claim that holds, None where nobody has claimed the stage.

    A damaged one holds its number, but for nobody: the next claim follows it.

    Raises:
        NewerRecordError: it was written by a newer release.
    """
    try:
        numbers = [int(p.stem) for p in stage.claims.iterdir() if p.suffix == ".json" and p.stem.isdigit()]
    except FileNotFoundError:
        return None
    if not numbers:
        return None
    path = stage.claims / f"{max(numbers)}.json"
    try:
        raw = files.read_json(path)
        return Claim(number=max(numbers), sweep=raw["sweep"], term=int(raw["term"]), submission=raw["submission"])
    except (ValueError, KeyError, TypeError):
        return Claim(number=max(numbers), sweep=NOBODY, term=0, submission=NOBODY)


def add_interest(stage: StageFolder, sweep: str) -> None:
    """Record that `sweep` wants the stage; again is harmless."""
    files.create(stage.interest / sweep, files.to_json({"schema_version": files.SCHEMA_VERSION}))


def drop_interest(stage: StageFolder, sweep: str) -> None:
    """Record that `sweep` does not want the stage any more; again is harmless."""
    (stage.interest / sweep).unlink(missing_ok=True)


def interested(stage: StageFolder) -> list[str]:
    """Return the names of the sweeps that want the stage, sorted."""
    try:
        return sorted(p.name for p in stage.interest.iterdir() if not p.name.startswith("."))
    except FileNotFoundError:
        return []
