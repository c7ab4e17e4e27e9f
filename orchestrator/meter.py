"""GPU-hours that a sweep has used, from the records of all its attempts: finished, failed, killed, running.

An attempt uses its wall time times its ranks: a rank has one GPU, and counts as one where there are none. A stage that
sweeps share counts for the one whose submission ran it. Beside what an attempt says of itself, times are those of its
files, so that the clock is always the store's: no two hosts' clocks are compared. Light: `status` reads it too.

Not counted: a job's seconds outside its attempts (the interpreter starts), and what a killed attempt did after its last
row or checkpoint. Records that `gc` deleted are counted no more.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from sweeps.errors import RecordError
from sweeps.store import files
from sweeps.store.layout import AttemptFolder, Layout, StageFolder
from sweeps.store.ledger import State
from sweeps.store.records import MANIFEST, Result, newest_attempt, read_result

SILENT_S = 600.0
"""A running attempt counts at most so long beyond its last row or checkpoint: its job may be requeued, and wait."""


def gpu_seconds(stage: StageFolder, sweep: str, *, submission: str = "", now: float = 0.0) -> float:
    """Return what a sweep's attempts have used on a stage, GPU-seconds.

    Args:
        stage: the stage.
        sweep: only attempts that this sweep submitted count.
        submission: whose job runs the stage; its attempt, unless it has ended, is counted up to `now`.
        now: time of the store's clock (see `store_time`), s.
    """
    newest = newest_attempt(stage)
    if not newest:
        return 0.0
    result = _result(stage)
    total = 0.0
    for number in range(1, newest + 1):
        attempt = stage.attempt(number)
        execution = execution_of(attempt)
        if execution.get("sweep") != sweep:
            continue
        runs = number == newest and submission != "" and execution.get("submission") == submission
        if result is not None and result.attempt == number:
            seconds = result.seconds
        else:
            seconds = _seconds(attempt, now if runs and result is None else None)
        total += seconds * int(execution.get("ranks", 1))
    return total


def attempt_gpu_seconds(attempt: AttemptFolder) -> float:
    """Return what an attempt without a result has used, up to its last sign of life, GPU-seconds."""
    return _seconds(attempt, None) * int(execution_of(attempt).get("ranks", 1))


def _result(stage: StageFolder) -> Result | None:
    """Return the stage's result; a damaged one tells nothing."""
    with suppress(RecordError):
        return read_result(stage)
    return None


def execution_of(attempt: AttemptFolder) -> Mapping[str, Any]:
    """Return the attempt's execution.json; empty where it was killed before it wrote that."""
    with suppress(FileNotFoundError, ValueError):
        return files.read_json(attempt.execution)
    return {}


def _seconds(attempt: AttemptFolder, now: float | None) -> float:
    """Return the seconds from an attempt's beginning to its last sign of life, or to `now` where it has not ended."""
    began = _changed(attempt.execution)
    ended = max(_changed(attempt.failure), _changed(attempt.stopped))
    saved = attempt.checkpoints.glob(f"*/{MANIFEST}")
    last = max(began, ended, _changed(attempt.metrics), *map(_changed, saved))
    if now is not None and not ended:
        last = max(last, min(now, last + SILENT_S))
    return last - began


def _changed(path: Path) -> float:
    try:
        return path.stat().st_mtime
    except FileNotFoundError:
        return 0.0


def store_time(folder: Path) -> float:
    """Return the time of the clock by which files in `folder` are dated, s; the folder is touched for it."""
    os.utime(folder)
    return folder.stat().st_mtime


def spent(layout: Layout, sweep: str, state: State, *, now: float = 0.0) -> dict[str, float]:
    """Return what a sweep's submissions have used, stage -> GPU-seconds; one listing per kind.

    Args:
        layout: the store.
        sweep: name of the sweep.
        state: what its ledger says.
        now: attempts of jobs whose end is not in the ledger count up to this; 0: up to their last sign of life.
    """
    running = {key: "" for s in state.submissions.values() for ticket in s.tickets for key in ticket}
    running |= {key: s.name for s in state.submissions.values() for index, ticket in enumerate(s.tickets)
                if index not in s.ended for key in ticket}
    kinds = layout.stages.iterdir() if layout.stages.is_dir() else ()
    stages = [StageFolder(path) for kind in kinds for path in kind.iterdir() if path.name in running]
    return {s.fingerprint: gpu_seconds(s, sweep, submission=running[s.fingerprint], now=now) for s in stages}
