"""When the attempts at a sweep's stages ran, and how each ended; from the records alone.

Times are those of the attempts' files, by the store's clock: a store that was copied without them has no time line.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sweeps.errors import RecordError
from sweeps.language.manifest import PlanFile, PlanStage
from sweeps.store import files
from sweeps.store.layout import AttemptFolder, Layout, StageFolder
from sweeps.store.records import Result, newest_attempt, read_result

OUTCOMES = ("done", "diverged", "interrupted", "failed", "open")
"""`interrupted`: it left when it was asked to, or another attempt followed; `open`: it runs, or its end is unknown."""


@dataclass(frozen=True, kw_only=True)
class Job:
    """One attempt at a stage."""

    kind: str
    label: str
    fingerprint: str
    attempt: int
    began: float
    """Seconds since the epoch."""
    ended: float
    """Last sign of life, where no end is recorded."""
    outcome: str
    """One of `OUTCOMES`."""


def jobs(root: Path, plan: PlanFile) -> list[Job]:
    """Return the attempts that a sweep submitted, in the order in which they began. Cost: five looks at each."""
    layout = Layout(root)
    found = (job for stage in plan.stages for job in _of_stage(layout, plan.name, stage))
    return sorted(found, key=lambda j: (j.began, j.kind, j.fingerprint, j.attempt))


def _of_stage(layout: Layout, sweep: str, planned: PlanStage) -> Iterator[Job]:
    stage = layout.stage(planned.kind, planned.fingerprint)
    newest, result = newest_attempt(stage), _result(stage)
    for number in range(1, newest + 1):
        attempt = stage.attempt(number)
        execution = _execution(attempt)
        if execution is None or execution.get("sweep", sweep) != sweep:
            continue
        began = _changed(attempt.execution)
        committed = result if result is not None and result.attempt == number else None
        ended = began + committed.seconds if committed else max(
            began, *map(_changed, (attempt.metrics, attempt.failure, attempt.stopped)))
        yield Job(kind=planned.kind, label=planned.label, fingerprint=planned.fingerprint, attempt=number, began=began,
                  ended=ended, outcome=committed.status if committed else _outcome(attempt, last=number == newest))


def _outcome(attempt: AttemptFolder, *, last: bool) -> str:
    if attempt.failure.exists():
        return "failed"
    return "interrupted" if attempt.stopped.exists() or not last else "open"


def _result(stage: StageFolder) -> Result | None:
    with suppress(RecordError):
        return read_result(stage)
    return None


def _execution(attempt: AttemptFolder) -> dict[str, Any] | None:
    with suppress(FileNotFoundError, ValueError):
        return files.read_json(attempt.execution)
    return None


def _changed(path: Path) -> float:
    with suppress(FileNotFoundError):
        return path.stat().st_mtime
    return 0.0
