"""Evaluations of a stage, along the lineage of its attempts, with a count of the lines that did not verify.

The same walk as `sweeps.store.records.stage_rows`, with three differences that matter for thousands of trials: training
rows are skipped before they are decoded, attempts shared by several stages of one trial are read once, and damaged
lines are counted. Measured figures: `benchmarks/analysis.py`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import NamedTuple

from sweeps.errors import NewerRecordError, RecordError
from sweeps.store import files, records
from sweeps.store.layout import AttemptFolder, Layout, StageFolder
from sweeps.store.rows import row_of

_SKIPPED = ('"kind":"train"', '"kind":"progress"')


class Evaluation(NamedTuple):
    """One row of kind `validation` or `end`."""

    tokens: int
    kind: str
    loss: float
    """Nats per token."""
    bits_per_byte: float


@dataclass(frozen=True, kw_only=True)
class StageState:
    """What the store says about a stage."""

    status: str
    """done, diverged, damaged, started or absent."""
    result: records.Result | None = None


def state_of(stage: StageFolder) -> StageState:
    """Return whether a stage is done, diverged, damaged, started or absent.

    Raises:
        NewerRecordError: its result was written by a newer release.
    """
    try:
        result = records.read_result(stage)
    except NewerRecordError:
        raise
    except RecordError:
        return StageState(status="damaged")
    if result is not None:
        return StageState(status="diverged" if result.status == "diverged" else "done", result=result)
    return StageState(status="started" if stage.attempts.is_dir() else "absent")


@dataclass
class EvaluationReader:
    """Reads evaluations; keeps what it read, so make one per trial."""

    layout: Layout
    _attempts: dict[str, tuple[list[Evaluation], int]] = field(default_factory=dict)

    def stage(self, stage: StageFolder, state: StageState) -> tuple[list[Evaluation], int]:
        """Return a stage's evaluations (committed attempt, or the newest while it runs) and its damaged lines.

        A torn last line of a running attempt is not damage, so damage counts only for committed stages.

        Raises:
            RecordError: a parent.json on the way is damaged.
        """
        if state.result is not None:
            return self._lineage(stage.attempt(state.result.attempt))
        if state.status != "started":
            return [], 0
        number = records.newest_attempt(stage)
        return (self._lineage(stage.attempt(number))[0], 0) if number else ([], 0)

    def _lineage(self, attempt: AttemptFolder, readers: tuple[str, ...] = ()) -> tuple[list[Evaluation], int]:
        key = str(attempt.path)
        if key in readers:
            raise RecordError(f"{attempt.parent} makes the attempt its own ancestor")
        if key not in self._attempts:
            parent = records.read_parent(attempt)
            rows, damaged = _own(attempt)
            if parent is not None:
                folder = self.layout.stage(parent.kind, parent.fingerprint).attempt(parent.attempt)
                older, older_damaged = self._lineage(folder, (*readers, key))
                rows = [row for row in older if row.tokens <= parent.tokens] + rows
                damaged += older_damaged
            self._attempts[key] = rows, damaged
        return self._attempts[key]


def _own(attempt: AttemptFolder) -> tuple[list[Evaluation], int]:
    try:
        text = attempt.metrics.read_text(encoding="utf-8", errors="replace")
    except FileNotFoundError:
        return [], 0
    rows: dict[int, Evaluation] = {}
    damaged = 0
    for line in text.split("\n"):
        if not line or _SKIPPED[0] in line or _SKIPPED[1] in line:
            continue
        fields = files.decode_line(line)
        row = row_of(fields, attempt.metrics) if fields is not None else None
        if fields is None or row is None:
            damaged += 1
        elif fields["n"] not in rows and "loss" in row.values:
            rows[fields["n"]] = Evaluation(
                row.tokens, row.kind, row.values["loss"], row.values.get("bits_per_byte", math.nan))
    return list(rows.values()), damaged
