"""One line of a stage's metrics, how a line is read (torn, merged, repeated and misshapen ones are passed over), and
whose rows an attempt continues."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sweeps.errors import RecordError
from sweeps.store import files
from sweeps.store.integrity import how_to_remake
from sweeps.store.layout import AttemptFolder, Layout, StageFolder

MEASURED = frozenset({
    "tokens_per_second", "seconds_to_first_step", "step_seconds_p50", "step_seconds_p90", "step_seconds_p99",
    "data_wait_share", "checkpoint_stall_seconds", "mfu", "matmul_share", "slowest_rank", "slowest_rank_factor",
})
"""Values of rows and scores that are measured and not computed, so that no two runs of a stage agree on them
(`workloads.training.telemetry` says what each is)."""


@dataclass(frozen=True, kw_only=True)
class Row:
    """One line of a stage's metrics."""

    tokens: int
    """Training tokens consumed so far (0 for stages that do not train)."""
    kind: str
    """`train`, `validation` (along a trunk: drawn, never scored), `end` (annealed end: scored), `relayout` (from here
    on another number of ranks), `spike` (losses that jumped since the last `train`) or `progress`."""
    values: Mapping[str, float]
    """Name -> value; the unit is in the name or stated by the plug-in (losses: nats per token)."""


@dataclass(frozen=True, kw_only=True)
class Parent:
    """The checkpoint that an attempt continues; may belong to another stage (a trunk's earlier point)."""

    kind: str
    fingerprint: str
    attempt: int
    tokens: int


def row_of(line: Mapping[str, Any], path: Path) -> Row | None:
    """Return the row in a checked line, None where it has not the shape of one.

    Lines state no schema version while they are of version 1; a release that changes their shape states it in each.

    Raises:
        NewerRecordError: the line was written by a newer release.
    """
    files.refuse_newer(line, path)
    try:
        kind, values = line["kind"], line["values"]
        if not isinstance(kind, str):
            return None
        return Row(tokens=files.whole(line["tokens"]), kind=kind,
                   values={k: files.number(v) for k, v in values.items()})
    except (ValueError, KeyError, TypeError, AttributeError, OverflowError):
        return None


def own_rows(attempt: AttemptFolder) -> Iterator[Row]:
    """Yield the sound rows that one attempt wrote, in order; repeated sequence numbers count once.

    Raises:
        NewerRecordError: a line was written by a newer release.
    """
    seen: set[int] = set()
    for line in files.read_lines(attempt.metrics):
        if line is None or line["n"] in seen:
            continue
        row = row_of(line, attempt.metrics)
        if row is not None:
            seen.add(line["n"])
            yield row


def read_parent(attempt: AttemptFolder) -> Parent | None:
    """Return whose checkpoint the attempt continues, None where it began at the beginning.

    Raises:
        RecordError: parent.json exists but cannot be read.
    """
    try:
        raw = files.read_json(attempt.parent)
        return Parent(kind=str(raw["kind"]), fingerprint=str(raw["fingerprint"]), attempt=files.whole(raw["attempt"]),
                      tokens=files.whole(raw["tokens"]))
    except FileNotFoundError:
        return None
    except (ValueError, KeyError, TypeError) as error:
        raise RecordError(f"{attempt.parent} is damaged ({error!r}); {how_to_remake(_stage_of(attempt))}") from error


def _stage_of(attempt: AttemptFolder) -> StageFolder:
    return StageFolder(attempt.path.parent.parent)


def lineage(layout: Layout, attempt: AttemptFolder) -> Iterator[tuple[AttemptFolder, int | None]]:
    """Yield an attempt and its ancestors, newest first, each with the token count up to which its rows count.

    Raises:
        RecordError: a parent.json is damaged, or the attempts are their own ancestors.
    """
    limit: int | None = None
    seen: set[Path] = set()
    while True:
        if attempt.path in seen:
            raise RecordError(f"{attempt.parent} makes the attempt its own ancestor; "
                              f"{how_to_remake(_stage_of(attempt))}")
        seen.add(attempt.path)
        yield attempt, limit
        parent = read_parent(attempt)
        if parent is None:
            return
        limit = parent.tokens if limit is None else min(limit, parent.tokens)
        attempt = layout.stage(parent.kind, parent.fingerprint).attempt(parent.attempt)
