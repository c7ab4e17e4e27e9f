"""How many sequences a forward pass took in an attempt: `micro_batch.json`, where `run.micro_batch` says something.

It decides the order of sums and so the last bits. What one attempt found, those that continue it take over: an
interrupted run is then bit for bit an uninterrupted one.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sweeps.store import files
from sweeps.store.layout import AttemptFolder, StageFolder
from sweeps.store.records import newest_attempt


def note(attempt: AttemptFolder, sequences: int, how: str, **details: Any) -> None:
    """Record it once; `how`: `searched`, `kept` or `given`."""
    files.create(attempt.micro_batch, files.to_json({
        "schema_version": files.SCHEMA_VERSION, "micro_batch": sequences, "how": how, **details}))


def noted(attempt: AttemptFolder) -> int | None:
    """Return what an attempt has recorded; None where it has nothing."""
    try:
        found: Mapping[str, Any] = files.read_json(attempt.micro_batch)
    except FileNotFoundError:
        return None
    return int(found["micro_batch"])


def last_noted(stage: StageFolder) -> int | None:
    """Return what the last attempt at a stage that recorded anything has."""
    found = (noted(stage.attempt(number)) for number in range(newest_attempt(stage), 0, -1))
    return next((sequences for sequences in found if sequences is not None), None)
