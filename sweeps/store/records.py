"""What a stage leaves: attempts, rows, checkpoints, the result.

Nothing shared is ever overwritten. An attempt writes only inside its own folder; a checkpoint counts from the moment
its MANIFEST.json is renamed into place; a stage counts from the moment its result.json is linked into place. The result
names every file that matters with its SHA-256 (artifacts, rows, the spec, the final checkpoint's manifest), and carries
a checksum of its own, so that whatever is deleted or edited afterwards is noticed (`damage_of_result`).
"""

from __future__ import annotations

import math
import os
import shutil
import time
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sweeps.errors import RecordError
from sweeps.store import files
from sweeps.store.integrity import (
    DAMAGED,
    damage_of_checkpoint,
    how_to_remake,
    manifest_of,
    quarantine,
    reason_of,
    removed_note,
    verify,
)
from sweeps.store.integrity import MANIFEST as MANIFEST
from sweeps.store.layout import AttemptFolder, Layout, StageFolder
from sweeps.store.rows import MEASURED as MEASURED
from sweeps.store.rows import Parent as Parent
from sweeps.store.rows import Row as Row
from sweeps.store.rows import lineage as lineage
from sweeps.store.rows import own_rows as own_rows
from sweeps.store.rows import read_parent as read_parent
from sweeps.store.space import writing

CLAIM_SECONDS = 10.0
"""Shortest time between two looks at the claims by a running attempt."""


@dataclass(frozen=True, kw_only=True)
class Result:
    """A stage's commit."""

    attempt: int
    scores: Mapping[str, float]
    files: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    """Relative path inside the attempt -> size, sha256."""
    status: str = "done"
    """`done`, or `diverged`: a result of the experiment, shown and never scored."""
    seconds: float = 0.0
    """Wall time of the attempt that committed (cost, not science)."""
    spec_sha256: str = ""
    """Of the stage's spec.json; empty where there was none, or in an older record."""
    checkpoint: Mapping[str, Any] = field(default_factory=dict)
    """Of the final checkpoint: `tokens`, and `sha256` of its manifest; empty where there is none, or as above."""


@dataclass(frozen=True, kw_only=True)
class Checkpoint:
    """A committed checkpoint whose files verify."""

    folder: Path
    tokens: int
    owner: Parent


class Attempt:
    """The writing side of one try; made by the job itself."""

    claim: int | None = None
    """Number of the claim under which it runs; None: nobody can supersede it."""
    _superseded = ""

    def __init__(self, stage: StageFolder, folder: AttemptFolder, claim: int | None = None) -> None:
        """Use `open_attempt`, which makes the folder exclusively."""
        self.stage = stage
        self.folder = folder
        self.claim = claim
        self._looked_at = time.monotonic()
        self._rows = 0
        with writing(folder.metrics):
            self._metrics = os.open(folder.metrics, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o666)

    def superseded(self, *, now: bool = False) -> str:
        """Return why this attempt has nothing left to do; the empty string while it has.

        A later claim, a later attempt or a result: two listings every CLAIM_SECONDS (`now`: at once), however often it
        is called.
        """
        if self.claim is None or self._superseded:
            return self._superseded
        if now or time.monotonic() - self._looked_at >= CLAIM_SECONDS:
            self._looked_at = time.monotonic()
            highest = max(_numbers(self.stage.claims, suffix=".json"), default=0)
            if highest > self.claim:
                self._superseded = f"claim {highest} has superseded its claim {self.claim}"
            elif self.restarted():
                self._superseded = "its job was started again elsewhere"
            elif self.stage.result.exists():
                self._superseded = "another attempt has finished the stage"
        return self._superseded

    def restarted(self) -> bool:
        """Return whether its claim has a later attempt: then this is what is left of a job that Slurm started again.

        A node that is only cut off from Slurm's controller goes on computing.
        """
        if self.claim is None or newest_attempt(self.stage) <= self.folder.number:
            return False
        return max(_numbers(self.stage.claims, suffix=".json"), default=0) == self.claim

    @property
    def artifacts(self) -> Path:
        """Folder for files that later stages read; listed with checksums in the result."""
        with writing(self.folder.artifacts):
            self.folder.artifacts.mkdir(exist_ok=True)
        return self.folder.artifacts

    def set_parent(self, parent: Parent) -> None:
        """Record whose checkpoint this attempt continues; before the first row."""
        files.create(self.folder.parent, files.seal({"schema_version": files.SCHEMA_VERSION, **parent.__dict__}),
                     durable=files.Durable.CONTENT)  # `commit` syncs the folder

    def row(self, *, tokens: int, kind: str, values: Mapping[str, float]) -> None:
        """Append one row. Visible to readers at once; durable at the next checkpoint or the result."""
        line = files.encode_line(self._rows, {"tokens": tokens, "kind": kind, "values": values})
        files.append(self._metrics, self.folder.metrics, line)
        self._rows += 1

    def checkpoint_folder(self, tokens: int) -> Path:
        """Return an empty folder to write a checkpoint into; it does not count before `commit_checkpoint`.

        What an earlier save left half-written under this name is set aside.
        """
        folder = self.folder.checkpoint(tokens)
        if folder.exists() and (wrong := damage_of_checkpoint(folder)):
            quarantine(folder, wrong)
        with writing(folder):
            folder.mkdir(parents=True)
        return folder

    def commit_checkpoint(self, tokens: int) -> None:
        """Make the checkpoint count: every file synced, then the manifest by rename, last."""
        self._sync_rows()
        folder = self.folder.checkpoint(tokens)
        for path in folder.rglob("*"):
            files.sync(path)
        files.create(folder / MANIFEST, files.seal(
            {"schema_version": files.SCHEMA_VERSION, "tokens": tokens, "files": manifest_of(folder)}
        ))
        files.sync_folder(folder.parent)

    def commit(self, result: Mapping[str, float], *, status: str = "done", seconds: float = 0.0) -> bool:
        """Commit the stage; False where another attempt already has (this one then counts for nothing)."""
        self._sync_rows()
        listed: dict[str, dict[str, Any]] = {}
        if self.folder.artifacts.is_dir():
            for path in (self.folder.artifacts, *self.folder.artifacts.rglob("*")):
                files.sync(path)
            listed = {f"artifacts/{k}": v for k, v in manifest_of(self.folder.artifacts).items()}
        rows = self.folder.metrics
        listed["metrics.jsonl"] = {"size": rows.stat().st_size, "sha256": files.sha256_file(rows)}
        first = files.create(self.stage.result, files.seal({
            "schema_version": files.SCHEMA_VERSION, "attempt": self.folder.number, "scores": dict(result),
            "files": listed, "status": status, "seconds": seconds, "checkpoint": self._final_checkpoint(),
            "spec_sha256": files.sha256_file(self.stage.spec) if self.stage.spec.is_file() else "",
        }))
        for number in _numbers(self.stage.attempts):
            shutil.rmtree(self.stage.attempt(number).work, ignore_errors=True)  # `orchestrator gc` finds what stays
        return first

    def _final_checkpoint(self) -> dict[str, Any]:
        tokens = furthest(self.folder)
        if tokens is None:
            return {}
        return {"tokens": tokens, "sha256": files.sha256_file(self.folder.checkpoint(tokens) / MANIFEST)}

    def _sync_rows(self) -> None:
        """Make the rows durable, and the names of the attempt's files, its parent's among them."""
        with writing(self.folder.metrics):
            os.fsync(self._metrics)
        files.sync_folder(self.folder.path)

    def close(self) -> None:
        """Close the metrics file; again is harmless."""
        handle, self._metrics = self._metrics, -1
        with suppress(OSError):  # what had to be durable was synced; NFS says here what no longer matters
            os.close(handle)


def open_attempt(stage: StageFolder, execution: Mapping[str, Any], *, claim: int | None = None) -> Attempt:
    """Make `attempts/<n>` exclusively with the next free number, and record `execution` in it.

    `claim` is the number of the claim under which it runs (see `Attempt.superseded`).
    """
    with writing(stage.attempts):
        stage.attempts.mkdir(parents=True, exist_ok=True)
    number = newest_attempt(stage) + 1
    while True:
        folder = stage.attempt(number)
        try:
            with writing(folder.path):
                folder.path.mkdir()
        except FileExistsError:
            number += 1
            continue
        files.sync_folder(stage.attempts)  # the result will name this folder
        files.create(folder.execution, files.to_json({"schema_version": files.SCHEMA_VERSION, **execution}),
                     durable=files.Durable.CONTENT)
        return Attempt(stage, folder, claim)


def newest_attempt(stage: StageFolder) -> int:
    """Return the number of the newest attempt; 0: there is none."""
    return max(_numbers(stage.attempts), default=0)


def _numbers(folder: Path, suffix: str = "") -> Iterator[int]:
    """Yield the numbers that name entries of a folder; none where it is missing."""
    with suppress(FileNotFoundError):
        yield from (int(p.stem) for p in folder.iterdir() if p.suffix == suffix and p.stem.isdecimal())


def read_result(stage: StageFolder) -> Result | None:
    """Return the stage's result, or None where it is not complete.

    A result of schema version 0 (also: one that states none) may lack `files`, `status` and `seconds`: it is read as
    done, of unknown cost, with nothing to verify.

    Raises:
        RecordError: result.json exists but cannot be read.
        NewerRecordError: it was written by a newer release.
    """
    try:
        raw = files.read_json(stage.result)
        return Result(
            attempt=files.whole(raw["attempt"]), scores={k: files.number(v) for k, v in raw["scores"].items()},
            files=dict(raw.get("files", {})), status=str(raw.get("status", "done")),
            seconds=files.number(raw.get("seconds", 0.0)), spec_sha256=str(raw.get("spec_sha256", "")),
            checkpoint=dict(raw.get("checkpoint", {})),
        )
    except FileNotFoundError:
        return None
    except (ValueError, KeyError, TypeError, AttributeError, OverflowError) as error:
        raise RecordError(f"{stage.result} is damaged ({error!r}); {how_to_remake(stage)}") from error


def loss_of(result: Result | None) -> float | None:
    """Return the loss that a search counts with: infinite where the stage diverged, None where it has no result."""
    if result is None:
        return None
    loss = result.scores.get("loss", math.nan) if result.status == "done" else math.inf
    return math.inf if math.isnan(loss) else loss


def damage_of_result(stage: StageFolder, *, thorough: bool = True) -> str:
    """Return what is wrong with a finished stage, or the empty string; also where it is not finished.

    Checks result.json, every file that it lists, spec.json, and the final checkpoint by its own manifest.

    Args:
        stage: the stage.
        thorough: compare SHA-256 (reads every byte: about 1 s per GB); otherwise sizes and presence only.
    """
    try:
        result = read_result(stage)
    except RecordError as error:
        return str(error)
    if result is None:
        return ""
    attempt = stage.attempt(result.attempt)
    return (
        verify(attempt.path, result.files, thorough=thorough)
        or _damage_of_spec(stage, result)
        or _damage_of_final(attempt, result, thorough=thorough)
    )


def _damage_of_spec(stage: StageFolder, result: Result) -> str:
    if not result.spec_sha256:
        return ""
    if not stage.spec.is_file():
        return f"{stage.spec} is missing"
    if files.sha256_file(stage.spec) != result.spec_sha256:
        return f"{stage.spec} was altered after completion"
    own = files.read_json(stage.spec).get("fingerprint", stage.fingerprint)
    return "" if own == stage.fingerprint else f"{stage.spec} is that of {own}: the folder is a copy of another stage's"


def _damage_of_final(attempt: AttemptFolder, result: Result, *, thorough: bool) -> str:
    tokens = result.checkpoint.get("tokens", furthest(attempt))
    if tokens is None:
        return ""
    folder = attempt.checkpoint(tokens)
    if removed_note(folder).exists():
        return ""
    wrong = reason_of(folder) or damage_of_checkpoint(folder, thorough=thorough)
    if not wrong and result.checkpoint and files.sha256_file(folder / MANIFEST) != result.checkpoint.get("sha256"):
        wrong = f"{folder / MANIFEST} was altered after completion"
    return wrong


_verified: set[tuple[str, int, int]] = set()
"""Artifacts that this process has verified: result.json's path, inode and time of change, ns."""


def artifacts_of(stage: StageFolder) -> Path:
    """Return the artifact folder of the attempt that committed the stage, verified once per process.

    Raises:
        RecordError: the stage is not complete, or a file is not as it was when the stage was completed.
    """
    result = read_result(stage)
    if result is None:
        raise RecordError(f"stage {stage.kind}/{stage.fingerprint} is not complete, but its files are needed")
    stat = stage.result.stat()
    key = str(stage.result), stat.st_ino, stat.st_mtime_ns
    if key not in _verified:
        artifacts = {k: v for k, v in result.files.items() if k.startswith("artifacts/")}
        if wrong := verify(stage.attempt(result.attempt).path, artifacts) or _damage_of_spec(stage, result):
            raise RecordError(f"stage {stage.kind}/{stage.fingerprint} was damaged after completion: {wrong}; "
                              f"{how_to_remake(stage)}")
        _verified.add(key)
    return stage.attempt(result.attempt).artifacts


def checkpoints(stage: StageFolder) -> list[Checkpoint]:
    """Return the committed checkpoints of every attempt, furthest first, not yet verified (see `damage`)."""
    found = []
    for number in _numbers(stage.attempts):
        attempt = stage.attempt(number)
        for tokens in _committed(attempt):
            owner = Parent(kind=stage.kind, fingerprint=stage.fingerprint, attempt=number, tokens=tokens)
            found.append(Checkpoint(folder=attempt.checkpoint(tokens), tokens=tokens, owner=owner))
    return sorted(found, key=lambda c: (-c.tokens, -c.owner.attempt))


def _committed(attempt: AttemptFolder) -> Iterator[int]:
    """Yield the token counts of an attempt's committed checkpoints."""
    return (t for t in _numbers(attempt.checkpoints) if (attempt.checkpoint(t) / MANIFEST).exists())


def furthest(attempt: AttemptFolder) -> int | None:
    """Return the tokens of an attempt's furthest committed checkpoint, not verified; None where it has none."""
    return max(_committed(attempt), default=None)


def damage(checkpoint: Checkpoint) -> str:
    """Return what is wrong with a checkpoint's files, or the empty string."""
    return damage_of_checkpoint(checkpoint.folder)


def quarantined(stage: StageFolder) -> list[Path]:
    """Return the checkpoints of a stage that were set aside as damaged."""
    return sorted(stage.attempts.glob(f"*/checkpoints/*{DAMAGED}*"))


def final_checkpoint(stage: StageFolder) -> Checkpoint:
    """Return the furthest checkpoint of the attempt that committed the stage.

    Raises:
        RecordError: the stage is not complete or its checkpoint is damaged.
    """
    result = read_result(stage)
    name = f"{stage.kind}/{stage.fingerprint}"
    if result is None:
        raise RecordError(f"stage {name} is not complete, but its checkpoint is needed")
    attempt = stage.attempt(result.attempt)
    tokens = result.checkpoint.get("tokens", furthest(attempt))
    if tokens is None or not (attempt.checkpoint(tokens).exists() or reason_of(attempt.checkpoint(tokens))):
        purposely = tokens is not None and removed_note(attempt.checkpoint(tokens)).exists()
        raise RecordError(f"stage {name} has no committed checkpoint any more"
                          f"{' (`orchestrator gc --checkpoints` deleted it)' if purposely else ''}; "
                          f"{how_to_remake(stage)}")
    if wrong := _damage_of_final(attempt, result, thorough=True):
        raise RecordError(f"the final checkpoint of {name} is damaged: {wrong}; {how_to_remake(stage)}")
    owner = Parent(kind=stage.kind, fingerprint=stage.fingerprint, attempt=attempt.number, tokens=tokens)
    return Checkpoint(folder=attempt.checkpoint(tokens), tokens=tokens, owner=owner)


def lineage_rows(layout: Layout, attempt: AttemptFolder) -> list[Row]:
    """Return the rows of an attempt and of its parents, each parent's up to the token count continued from."""
    oldest_first = reversed(list(lineage(layout, attempt)))
    return [row for one, limit in oldest_first for row in own_rows(one) if limit is None or row.tokens <= limit]


def stage_rows(layout: Layout, stage: StageFolder) -> list[Row]:
    """Return a stage's rows: along the committed attempt's lineage, or along the newest attempt's while it runs."""
    result = read_result(stage)
    if result is not None:
        return lineage_rows(layout, stage.attempt(result.attempt))
    number = newest_attempt(stage)
    return lineage_rows(layout, stage.attempt(number)) if number else []
