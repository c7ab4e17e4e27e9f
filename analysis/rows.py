"""Evaluations of a stage, along the lineage of its attempts, with a count of the lines that did not verify.

The same walk as `sweeps.store.records.stage_rows`, with three differences that matter for thousands of trials: training
rows are skipped before they are decoded, attempts shared by several stages of one trial are read once, and what is left
out is counted. Measured figures: `benchmarks/analysis.py`.
"""

from __future__ import annotations

import hashlib
import math
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from analysis.item_records import STATED
from analysis.kept import Looked, look
from sweeps.errors import NewerRecordError, RecordError
from sweeps.store import files, records
from sweeps.store.layout import AttemptFolder, StageFolder
from sweeps.store.rows import row_of

_TRAINING = ("train", "progress", "spike")
_SKIPPED = tuple(f'{{"kind":"{kind}"' for kind in _TRAINING)
_COUNTED = ("validation", "end")


class Evaluation(NamedTuple):
    """One row of kind `validation` or `end`."""

    tokens: int
    kind: str
    loss: float
    """Nats per token."""
    bits_per_byte: float


class Own(NamedTuple):
    """What one attempt's metrics hold."""

    rows: list[Evaluation]
    damaged: int
    """Lines that did not verify."""
    torn: int
    """1 where the last of these has no end: it may still be written."""
    repeated: int
    """Lines whose number another one before them has."""
    sha256: str


@dataclass(frozen=True, kw_only=True)
class StageState:
    """What the store says about a stage."""

    status: str
    """done, diverged, damaged, started or absent."""
    result: records.Result | None = None
    items: Path | None = None
    """File with the items that its result states; None also where that is lost."""
    other_copies: int = 0
    """Further stores that have finished it otherwise."""

    @property
    def lost_items(self) -> int:
        """1 where its result states items that are not there, or not readable here."""
        return int(self.items is None and self.result is not None and STATED in self.result.files)


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
    """Reads evaluations of one trial; keeps what it read, so make one per trial."""

    path: frozenset[str]
    """Fingerprints of the trial's stages."""
    looked: Looked
    """Takes what is looked at."""
    left_out: dict[str, Counter[str]] = field(default_factory=dict)
    """Fingerprint -> name in `schema.LEFT_OUT` -> number; of a stage that is not on the path: under its reader's."""
    _attempts: dict[str, list[Evaluation]] = field(default_factory=dict)

    def stage(self, stage: StageFolder, state: StageState) -> list[Evaluation]:
        """Return a stage's evaluations: of the committed attempt, or of the newest while it runs.

        A torn last line of a running attempt is not damage: it is being written.

        Raises:
            RecordError: a parent.json on the way is damaged.
        """
        if state.result is not None:
            stated = state.result.files.get("metrics.jsonl", {}).get("sha256", "")
            return self._lineage(stage.attempt(state.result.attempt), stage, committed=str(stated))
        number = records.newest_attempt(stage) if state.status == "started" else 0
        return self._lineage(stage.attempt(number), stage, running=True) if number else []

    def _lineage(
        self, attempt: AttemptFolder, reader: StageFolder, readers: tuple[str, ...] = (), *, committed: str = "",
        running: bool = False,
    ) -> list[Evaluation]:
        """Return an attempt's evaluations and those that it continues; an ancestor lies in the same store."""
        key = str(attempt.path)
        if key in readers:
            raise RecordError(f"{attempt.parent} makes the attempt its own ancestor")
        if key not in self._attempts:
            own = StageFolder(attempt.path.parent.parent)
            owner = own.fingerprint if own.fingerprint in self.path else reader.fingerprint
            counts = self.left_out.setdefault(owner, Counter())
            look(self.looked, attempt.parent, attempt.metrics)
            parent = records.read_parent(attempt)
            rows = self._own(attempt, counts, committed, running=running)
            if parent is not None:
                folder = own.beside(parent.kind, parent.fingerprint).attempt(parent.attempt)
                older = self._lineage(folder, reader, (*readers, key))
                rows = [row for row in older if row.tokens <= parent.tokens] + rows
            self._attempts[key] = rows
        return self._attempts[key]

    def _own(self, attempt: AttemptFolder, counts: Counter[str], committed: str, *, running: bool) -> list[Evaluation]:
        """Return an attempt's own evaluations; count what is left out. `committed`: SHA-256 that its rows must have."""
        try:
            own = read_own(attempt)
        except FileNotFoundError:
            counts["lost_attempts"] += not running  # one that has just begun has none yet
            return []
        counts["altered_files"] += bool(committed) and own.sha256 != committed
        counts["damaged_lines"] += own.damaged - (own.torn if running else 0)
        counts["repeated_lines"] += own.repeated
        return own.rows


def read_own(attempt: AttemptFolder) -> Own:
    """Return what an attempt's metrics hold, from the file itself.

    Raises:
        NewerRecordError: a line was written by a newer release.
    """
    path = attempt.metrics
    data = path.read_bytes()
    *whole, tail = data.decode(errors="replace").split("\n")
    lines = [line for line in (*whole, tail) if line and not _is_training(line)]
    found: dict[int, Evaluation] = {}
    damaged = torn = repeated = 0
    for line, fields in zip(lines, files.decode_lines(lines), strict=True):
        quick = _evaluation(fields) if fields is not None else None
        if quick is not None and fields is not None and fields["n"] not in found:
            found[fields["n"]] = quick
            continue
        row = row_of(fields, path) if fields is not None else None
        if fields is None or row is None or (row.kind in _COUNTED and "loss" not in row.values):
            damaged, torn = damaged + 1, int(line is tail)
        elif fields["n"] in found:
            repeated += 1
        elif "loss" in row.values and row.kind not in _TRAINING:
            found[fields["n"]] = Evaluation(
                row.tokens, row.kind, row.values["loss"], row.values.get("bits_per_byte", math.nan))
    return Own(list(found.values()), damaged, torn, repeated, hashlib.sha256(data).hexdigest())


def _evaluation(fields: dict[str, Any]) -> Evaluation | None:
    """Return the evaluation in a line as jobs write most of them; None: `row_of` has to look at it, which is slower."""
    kind, values, tokens = fields.get("kind"), fields.get("values"), fields.get("tokens")
    if kind not in _COUNTED or type(tokens) is not int or type(values) is not dict or "schema_version" in fields:
        return None
    if "loss" not in values or set(map(type, values.values())) != {float}:
        return None
    return Evaluation(tokens, str(kind), values["loss"], values.get("bits_per_byte", math.nan))


def _is_training(line: str) -> bool:
    """True of a row that no table reads; not where a torn one has swallowed the beginning of the next."""
    return line.startswith(_SKIPPED) and line.count('{"kind":') == 1
