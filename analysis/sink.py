"""Records -> another program's files: what a sink is given, and how it is given everything exactly once.

Fed from the records afterwards, never from a training: no sink can lose or slow a run, and one may be asked for years
later. A trial is one run there; its values stand at training tokens, under names of role, kind of row and value
(`trunk/train/loss`, `end/end/loss`). A stage that trials share is in each of them.

Asked again, it sends what is new. What has been sent of each stage is noted per trial, by the tokens of the newest row
of each kind: rows that an interrupted attempt's successor repeats are the same ones. A part is made beside, noted, and
then moved to its place; where that was interrupted, the next call moves it.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, NamedTuple

from analysis.load import SCORE_ROLES, TRAINING_ROLES
from sweeps.language.manifest import PathStep, PlanFile, PlanTrial
from sweeps.store import files, records
from sweeps.store.layout import AttemptFolder, Layout, StageFolder

NOTES = ".sent"
"""Folder of the notes, one a trial, in the sink's folder."""
SCORES = "scores"
"""In the place of a row's kind, for the scores of a finished stage."""


class Point(NamedTuple):
    """One number."""

    tokens: int
    name: str
    value: float
    seconds: float
    """When the attempt that wrote it began, seconds since 1970: rows carry no time of their own."""


@dataclass(frozen=True, kw_only=True)
class Batch:
    """What is new of one trial."""

    sweep: str
    trial: str
    run: str
    """Identity of the run there: the same at every call, another one where the trial is another experiment."""
    arm: str
    config: Mapping[str, Any]
    points: tuple[Point, ...]
    """By tokens."""
    part: int
    """Which part of the trial this is, from 1."""


@dataclass(frozen=True, kw_only=True)
class Sink:
    """A sink: one file in `analysis/sinks/` that exports it as PLUGIN."""

    package: str
    """What has to be importable."""
    extra: str
    """Optional dependency of this project that brings it."""
    write: Callable[[Batch, Path], Path]
    """Makes a part, a file or a folder, somewhere below an empty folder, and returns it."""
    place: Callable[[Batch, str], str]
    """Where a part of this name belongs, relative to the sink's folder."""
    hint: str
    """How the folder {out} is looked at."""


@dataclass(frozen=True, kw_only=True)
class Sent:
    """What a call has sent."""

    trials: int
    values: int


def send(root: Path, plan: PlanFile, sink: Sink, out: Path) -> Sent:
    """Send what is new of every trial of a sweep into a folder.

    Raises:
        RecordError: a record is damaged.
        StorageError: there is no space.
    """
    layout, sent = Layout(root), [0, 0]
    for trial in plan.trials:
        note = _Note(out, trial.id)
        points, seen = _news(layout, trial, note.seen)
        if points:
            note.add(sink, _batch(plan, trial, points, note.parts + 1), seen)
            sent = [sent[0] + 1, sent[1] + len(points)]
    return Sent(trials=sent[0], values=sent[1])


def _batch(plan: PlanFile, trial: PlanTrial, points: list[Point], part: int) -> Batch:
    config = {"sweep": plan.name, "protocol": plan.protocol, "scale": plan.scale, **trial.model_dump(exclude={"path"})}
    return Batch(
        sweep=plan.name, trial=trial.id, run=f"{trial.id}-{trial.path[-1].fingerprint[:12]}", arm=trial.arm,
        config=config, points=tuple(sorted(points)), part=part,
    )


class _Note:
    """What has been sent of one trial."""

    def __init__(self, out: Path, trial: str) -> None:
        """Read the note, and finish a move that was interrupted."""
        self._out = out
        self._path = out / NOTES / f"{trial}.json"
        self._scratch = out / NOTES / f"{trial}.part"
        try:
            raw = files.read_json(self._path)
        except FileNotFoundError:
            raw = {}
        self.seen: dict[str, int] = dict(raw.get("seen", {}))
        """Fingerprint and kind of row -> tokens of the newest that was sent."""
        self.parts = int(raw.get("parts", 0))
        self._settle(raw.get("move"))

    def add(self, sink: Sink, batch: Batch, seen: dict[str, int]) -> None:
        """Make a part, note that it was sent, and move it to its place."""
        self._scratch.mkdir(parents=True)
        made = sink.write(batch, self._scratch)
        move = [str(made.relative_to(self._out)), sink.place(batch, made.name)]
        files.replace(self._path, files.to_json(
            {"schema_version": files.SCHEMA_VERSION, "seen": seen, "parts": batch.part, "move": move}))
        self._settle(move)

    def _settle(self, move: list[str] | None) -> None:
        if move is not None and (self._out / move[0]).exists():
            target = self._out / move[1]
            target.parent.mkdir(parents=True, exist_ok=True)
            (self._out / move[0]).rename(target)
        shutil.rmtree(self._scratch, ignore_errors=True)


# -- what is new -------------------------------------------------------------------------------------------------------


def _news(layout: Layout, trial: PlanTrial, seen: Mapping[str, int]) -> tuple[list[Point], dict[str, int]]:
    """Return the points of a trial that were not sent, and what will have been sent with them."""
    points, newest = list[Point](), dict(seen)
    for step in dict.fromkeys(trial.path):
        for kind, tokens, found in _of_step(layout, trial, step):
            key = f"{step.fingerprint}/{kind}"
            if tokens > seen.get(key, -1):
                points += found
                newest[key] = max(tokens, newest.get(key, -1))
    return points, newest


def _of_step(layout: Layout, trial: PlanTrial, step: PathStep) -> Iterator[tuple[str, int, list[Point]]]:
    """Yield (kind, tokens, points) of each row of a training stage, and of the scores of any other."""
    stage = layout.stage(step.kind, step.fingerprint)
    if step.role in TRAINING_ROLES:
        for row, began in _rows(layout, stage):
            yield row.kind, row.tokens, [
                Point(row.tokens, f"{step.role}/{row.kind}/{name}", value, began) for name, value in row.values.items()]
    elif step.role in SCORE_ROLES and (result := records.read_result(stage)) is not None:
        began = _began(stage.attempt(result.attempt))
        yield SCORES, trial.pretrain_tokens, [
            Point(trial.pretrain_tokens, f"{step.role}/{name}", value, began) for name, value in result.scores.items()]


def _rows(layout: Layout, stage: StageFolder) -> Iterator[tuple[records.Row, float]]:
    """Yield a stage's rows and when their attempt began: of its own attempts, not of the stages that it continues."""
    result = records.read_result(stage)
    number = result.attempt if result is not None else records.newest_attempt(stage)
    if not number:
        return
    for attempt, limit in reversed(list(records.lineage(layout, stage.attempt(number)))):
        if attempt.path.parent == stage.attempts:
            began = _began(attempt)
            yield from ((row, began) for row in records.own_rows(attempt) if limit is None or row.tokens <= limit)


def _began(attempt: AttemptFolder) -> float:
    with suppress(FileNotFoundError, ValueError, KeyError):
        return datetime.fromisoformat(files.read_json(attempt.execution)["started"]).timestamp()
    return 0.0
