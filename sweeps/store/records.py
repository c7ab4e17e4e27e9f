"""What a stage leaves: attempts, rows, checkpoints, the result.

Nothing shared is ever overwritten. An attempt writes only inside its own folder; a checkpoint counts from the moment
its MANIFEST.json is renamed into place; a stage counts from the moment its result.json is linked into place.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sweeps.errors import RecordError
from sweeps.store import files
from sweeps.store.layout import AttemptFolder, Layout, StageFolder

MANIFEST = "MANIFEST.json"


@dataclass(frozen=True, kw_only=True)
class Row:
    """One line of a stage's metrics."""

    tokens: int
    """Training tokens consumed so far (0 for stages that do not train)."""
    kind: str
    """`train`, `validation` (along a trunk: drawn, never scored), `end` (annealed end: scored) or `progress`."""
    values: Mapping[str, float]
    """Name -> value; the unit is in the name or stated by the plug-in (losses: nats per token)."""


@dataclass(frozen=True, kw_only=True)
class Parent:
    """The checkpoint that an attempt continues; may belong to another stage (a trunk's earlier point)."""

    kind: str
    fingerprint: str
    attempt: int
    tokens: int


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


@dataclass(frozen=True, kw_only=True)
class Checkpoint:
    """A committed checkpoint whose files verify."""

    folder: Path
    tokens: int
    owner: Parent


def manifest_of(folder: Path) -> dict[str, dict[str, Any]]:
    """Return relative path -> {size, sha256} of every file below `folder` but manifests."""
    return {
        str(path.relative_to(folder)): {"size": path.stat().st_size, "sha256": files.sha256_file(path)}
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.name != MANIFEST
    }


def verify(folder: Path, manifest: Mapping[str, Mapping[str, Any]]) -> str:
    """Return the empty string where every file is as its manifest says, else what differs first."""
    for name, stated in manifest.items():
        path = folder / name
        if not path.is_file():
            return f"{path} is missing"
        if path.stat().st_size != stated["size"]:
            return f"{path} has {path.stat().st_size} bytes, the manifest says {stated['size']}"
        if files.sha256_file(path) != stated["sha256"]:
            return f"{path} does not have the manifest's SHA-256"
    return ""


class Attempt:
    """The writing side of one try; made by the job itself."""

    def __init__(self, stage: StageFolder, folder: AttemptFolder) -> None:
        """Use `open_attempt`, which makes the folder exclusively."""
        self.stage = stage
        self.folder = folder
        self._rows = 0
        self._metrics = folder.metrics.open("a", encoding="utf-8")

    @property
    def artifacts(self) -> Path:
        """Folder for files that later stages read; listed with checksums in the result."""
        self.folder.artifacts.mkdir(exist_ok=True)
        return self.folder.artifacts

    def set_parent(self, parent: Parent) -> None:
        """Record whose checkpoint this attempt continues; before the first row."""
        files.create(self.folder.parent, files.to_json({"schema_version": files.SCHEMA_VERSION, **parent.__dict__}))

    def row(self, *, tokens: int, kind: str, values: Mapping[str, float]) -> None:
        """Append one row. Visible to readers at once; durable at the next checkpoint or the result."""
        self._metrics.write(files.encode_line(self._rows, {"tokens": tokens, "kind": kind, "values": values}))
        self._metrics.flush()
        self._rows += 1

    def checkpoint_folder(self, tokens: int) -> Path:
        """Return an empty folder to write a checkpoint into; it does not count before `commit_checkpoint`."""
        folder = self.folder.checkpoint(tokens)
        folder.mkdir(parents=True)
        return folder

    def commit_checkpoint(self, tokens: int) -> None:
        """Make the checkpoint count: every file synced, then the manifest by rename, last."""
        os.fsync(self._metrics.fileno())
        folder = self.folder.checkpoint(tokens)
        for path in folder.rglob("*"):
            _sync(path)
        files.create(folder / MANIFEST, files.to_json(
            {"schema_version": files.SCHEMA_VERSION, "tokens": tokens, "files": manifest_of(folder)}
        ))
        files.sync_folder(folder.parent)

    def commit(self, result: Mapping[str, float], *, status: str = "done", seconds: float = 0.0) -> bool:
        """Commit the stage; False where another attempt already has (this one then counts for nothing)."""
        os.fsync(self._metrics.fileno())
        listed: dict[str, dict[str, Any]] = {}
        if self.folder.artifacts.is_dir():
            for path in self.folder.artifacts.rglob("*"):
                _sync(path)
            listed = {f"artifacts/{k}": v for k, v in manifest_of(self.folder.artifacts).items()}
        listed["metrics.jsonl"] = {
            "size": self.folder.metrics.stat().st_size, "sha256": files.sha256_file(self.folder.metrics)
        }
        return files.create(self.stage.result, files.to_json({
            "schema_version": files.SCHEMA_VERSION, "attempt": self.folder.number, "scores": dict(result),
            "files": listed, "status": status, "seconds": seconds,
        }))

    def close(self) -> None:
        """Close the metrics file."""
        self._metrics.close()


def _sync(path: Path) -> None:
    if path.is_dir():
        files.sync_folder(path)
        return
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def open_attempt(stage: StageFolder, execution: Mapping[str, Any]) -> Attempt:
    """Make `attempts/<n>` exclusively with the next free number, and record `execution` in it."""
    stage.attempts.mkdir(parents=True, exist_ok=True)
    number = max((int(p.name) for p in stage.attempts.iterdir() if p.name.isdigit()), default=0) + 1
    while True:
        folder = stage.attempt(number)
        try:
            folder.path.mkdir()
        except FileExistsError:
            number += 1
            continue
        files.create(folder.execution, files.to_json({"schema_version": files.SCHEMA_VERSION, **execution}))
        return Attempt(stage, folder)


def read_result(stage: StageFolder) -> Result | None:
    """Return the stage's result, or None where it is not complete.

    Raises:
        RecordError: result.json exists but cannot be read.
    """
    try:
        raw = files.read_json(stage.result)
    except FileNotFoundError:
        return None
    except ValueError as error:
        raise RecordError(f"{stage.result} is damaged ({error}); remove the stage's folder to run it again") from error
    return Result(
        attempt=raw["attempt"], scores={k: files.number(v) for k, v in raw["scores"].items()}, files=raw["files"],
        status=raw["status"], seconds=float(raw["seconds"]),
    )


def artifacts_of(stage: StageFolder) -> Path:
    """Return the artifact folder of the attempt that committed the stage.

    Raises:
        RecordError: the stage is not complete.
    """
    result = read_result(stage)
    if result is None:
        raise RecordError(f"stage {stage.kind}/{stage.fingerprint} is not complete, but its files are needed")
    return stage.attempt(result.attempt).artifacts


def checkpoints(stage: StageFolder) -> list[Checkpoint]:
    """Return the committed checkpoints of every attempt, furthest first, not yet verified (see `verify`)."""
    found = []
    for path in stage.attempts.glob(f"*/checkpoints/*/{MANIFEST}"):
        folder = path.parent
        owner = Parent(
            kind=stage.kind, fingerprint=stage.fingerprint, attempt=int(folder.parent.parent.name),
            tokens=int(folder.name),
        )
        found.append(Checkpoint(folder=folder, tokens=owner.tokens, owner=owner))
    return sorted(found, key=lambda c: (-c.tokens, -c.owner.attempt))


def damage(checkpoint: Checkpoint) -> str:
    """Return what is wrong with a checkpoint's files, or the empty string."""
    try:
        manifest = files.read_json(checkpoint.folder / MANIFEST)["files"]
    except (ValueError, KeyError) as error:
        return f"{checkpoint.folder / MANIFEST}: {error}"
    return verify(checkpoint.folder, manifest)


def final_checkpoint(stage: StageFolder) -> Checkpoint:
    """Return the furthest checkpoint of the attempt that committed the stage.

    Raises:
        RecordError: the stage is not complete or its checkpoint is damaged.
    """
    result = read_result(stage)
    for found in checkpoints(stage):
        if result is not None and found.owner.attempt == result.attempt:
            if wrong := damage(found):
                raise RecordError(f"checkpoint of {stage.kind}/{stage.fingerprint} is damaged: {wrong}")
            return found
    raise RecordError(f"stage {stage.kind}/{stage.fingerprint} has no committed checkpoint")


def read_parent(attempt: AttemptFolder) -> Parent | None:
    """Return whose checkpoint the attempt continues, None where it began at the beginning."""
    try:
        raw = files.read_json(attempt.parent)
    except FileNotFoundError:
        return None
    return Parent(kind=raw["kind"], fingerprint=raw["fingerprint"], attempt=raw["attempt"], tokens=raw["tokens"])


def own_rows(attempt: AttemptFolder) -> Iterator[Row]:
    """Yield the sound rows that one attempt wrote, in order; repeated sequence numbers count once."""
    seen: set[int] = set()
    for line in files.read_lines(attempt.metrics):
        if line is None or line["n"] in seen:
            continue
        seen.add(line["n"])
        yield Row(
            tokens=line["tokens"], kind=line["kind"],
            values={k: files.number(v) for k, v in line["values"].items()},
        )


def lineage_rows(layout: Layout, attempt: AttemptFolder) -> list[Row]:
    """Return the rows of an attempt and of its parents, each parent's up to the token count continued from."""
    parent = read_parent(attempt)
    rows: list[Row] = []
    if parent is not None:
        older = layout.stage(parent.kind, parent.fingerprint).attempt(parent.attempt)
        rows = [row for row in lineage_rows(layout, older) if row.tokens <= parent.tokens]
    return rows + list(own_rows(attempt))


def stage_rows(layout: Layout, stage: StageFolder) -> list[Row]:
    """Return a stage's rows: along the committed attempt's lineage, or along the newest attempt's while it runs."""
    result = read_result(stage)
    if result is not None:
        return lineage_rows(layout, stage.attempt(result.attempt))
    if not stage.attempts.is_dir():
        return []
    numbers = [int(p.name) for p in stage.attempts.iterdir() if p.name.isdigit()]
    return lineage_rows(layout, stage.attempt(max(numbers))) if numbers else []
