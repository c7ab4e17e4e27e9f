"""The shipped fake: jobs that take no processor and leave real records with made-up values.

For rehearsing a sweep's bookkeeping in seconds and for tests. Jobs advance when they are polled and end with the
controller; what they write goes through the same store, claims and refusals as a real job's.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

from pydantic import Field

from cluster.executors import _synthetic
from cluster.job import Executor, JobHandle, JobReport, JobRequest, JobState
from sweeps.errors import EnvironmentError_
from sweeps.language.stage import Frozen, StageSpec, Ticket, TicketStage
from sweeps.store import claims, files
from sweeps.store.layout import Layout, StageFolder
from sweeps.store.records import Attempt, Parent, open_attempt, read_result

DIVERGED = "diverged"
"""Answer of a failure hook: the stage ends with this status."""
KILLED = "killed"
"""Answer of a failure hook: the whole job vanishes and leaves no failure.json."""

Fail = Callable[[StageSpec, int], str]
"""(stage, attempt number) -> empty for success, DIVERGED, KILLED, or the class name of a failure."""


class Options(Frozen):
    """Options of a profile."""

    slots: Annotated[int, Field(gt=0)] = 8
    """Jobs at a time."""
    seconds: Annotated[float, Field(ge=0)] = 0.0
    """How long a job lasts."""


def make(folder: Path, options: Options) -> Executor:
    """Return the executor; it keeps nothing in `folder`."""
    return MemoryExecutor(options.slots, seconds=options.seconds)


def never(spec: StageSpec, attempt: int) -> str:
    """Fail nothing."""
    return ""


@dataclass(kw_only=True)
class _Job:
    handle: JobHandle
    ticket: Path
    logs: Mapping[str, Path]
    ends_at: float
    detail: str | None = None
    """How it ended; None while it runs."""


@dataclass
class MemoryExecutor:
    """Simulated jobs; see `cluster.job.Executor`."""

    slots: int = 8
    seconds: float = 0.0
    """How long a job lasts on `clock`."""
    clock: Callable[[], float] = time.monotonic
    fail: Fail = never
    lose_answer: Callable[[str], bool] = lambda name: False
    """submission name -> True: accept it, then raise as if the answer had been lost."""
    submissions: int = 0
    """Accepted so far."""
    _jobs: dict[tuple[str, int], _Job] = field(default_factory=dict)
    _live: set[tuple[str, int]] = field(default_factory=set)

    def slots_free(self) -> int:
        """How many more jobs may be submitted now."""
        self._advance()
        return max(0, self.slots - len(self._live))

    def submit(self, request: JobRequest) -> list[JobHandle]:
        """Accept one job per ticket.

        Raises:
            EnvironmentError_: too few slots are free, the name was used before, or the answer is made to be lost.
        """
        if (request.name, 0) in self._jobs:
            raise EnvironmentError_(f"submission {request.name} exists already; look it up with find")
        free = self.slots_free()
        if len(request.tickets) > free:
            raise EnvironmentError_(f"{request.name}: {len(request.tickets)} jobs, {free} of {self.slots} slots free")
        folder = Path(request.folder)
        for index, ticket in enumerate(request.tickets):
            handle = JobHandle(submission=request.name, index=index, job_id=f"{request.name}_{index}")
            logs = {"out": folder / f"{index}.out", "err": folder / f"{index}.err"}
            key = request.name, index
            self._jobs[key] = _Job(handle=handle, ticket=Path(ticket), logs=logs, ends_at=self.clock() + self.seconds)
            self._live.add(key)
        self.submissions += 1
        if self.lose_answer(request.name):
            raise EnvironmentError_(f"{request.name}: no answer (simulated); it may have been accepted")
        return self.find(request.name)

    def poll(self, handles: Sequence[JobHandle]) -> list[JobReport]:
        """State of each job, in the order given."""
        self._advance()
        return [self._report(handle) for handle in handles]

    def find(self, name: str) -> list[JobHandle]:
        """Jobs of a submission; [] where there are none."""
        found: list[JobHandle] = []
        while job := self._jobs.get((name, len(found))):
            found.append(job.handle)
        return found

    def cancel(self, handles: Sequence[JobHandle]) -> None:
        """End the jobs; what they had not written yet is never written."""
        self._advance()
        for handle in handles:
            key = handle.submission, handle.index
            if key in self._live:
                self._end(key, "cancelled")

    def logs(self, handle: JobHandle) -> Mapping[str, Path]:
        """Where the job's logs would be; {} for a job that is not known."""
        job = self._jobs.get((handle.submission, handle.index))
        return job.logs if job else {}

    def _report(self, handle: JobHandle) -> JobReport:
        job = self._jobs.get((handle.submission, handle.index))
        if job is None:
            return JobReport(handle=handle, state=JobState.ENDED, detail="not known here")
        state = JobState.RUNNING if job.detail is None else JobState.ENDED
        return JobReport(handle=handle, state=state, detail=job.detail or "")

    def _end(self, key: tuple[str, int], detail: str) -> None:
        self._jobs[key].detail = detail
        self._live.discard(key)

    def _advance(self) -> None:
        """Finish every job whose time has come, side by side as real jobs are: their writes wait for the same disk."""
        now = self.clock()
        due = sorted((k for k in self._live if self._jobs[k].ends_at <= now), key=lambda k: (self._jobs[k].ends_at, k))
        if not due:
            return
        with ThreadPoolExecutor(max_workers=min(len(due), self.slots)) as pool:
            ended = list(pool.map(self._run, [self._jobs[key].ticket for key in due]))
        for key, detail in zip(due, ended, strict=True):
            self._end(key, detail)

    def _run(self, path: Path) -> str:
        ticket = Ticket.model_validate_json(path.read_text(encoding="utf-8"))
        failed = False
        for stage in ticket.stages:
            layout = Layout(Path(ticket.root))
            folder = layout.stage(stage.spec.kind, stage.spec.fingerprint)
            if not _may_run(layout, ticket, stage, folder):
                continue
            outcome = self._stage(layout, ticket, stage, folder)
            if outcome == KILLED:
                return "killed by signal 9"
            failed = failed or outcome not in ("", DIVERGED)
        return f"exit {int(failed)}"

    def _stage(self, layout: Layout, ticket: Ticket, stage: TicketStage, folder: StageFolder) -> str:
        files.create(folder.spec, stage.spec.to_text())
        attempt = open_attempt(folder, {"host": "memory", "pid": os.getpid(), "submission": ticket.submission})
        try:
            outcome = self.fail(stage.spec, attempt.folder.number)
            if outcome in ("", DIVERGED):
                _write(layout, stage, attempt, outcome or "done")
            elif outcome != KILLED:
                files.create(attempt.folder.failure, files.to_json({
                    "schema_version": files.SCHEMA_VERSION, "class": outcome, "message": "simulated", "traceback": [],
                }))
            return outcome
        finally:
            attempt.close()


def _may_run(layout: Layout, ticket: Ticket, stage: TicketStage, folder: StageFolder) -> bool:
    """The refusals of a real job: done, claimed by another, an input missing."""
    held = claims.holder(folder)
    if read_result(folder) is not None or held is None or held.submission != ticket.submission:
        return False
    results = (read_result(layout.stage(i.kind, i.fingerprint)) for i in stage.spec.inputs)
    return all(result is not None and result.status == "done" for result in results)


def _write(layout: Layout, stage: TicketStage, attempt: Attempt, status: str) -> None:
    start = 0
    parent = _parent(layout, stage)
    if parent is not None:
        attempt.set_parent(parent)
        start = parent.tokens
    for row in _synthetic.rows(stage.spec, start):
        attempt.row(tokens=row.tokens, kind=row.kind, values=row.values)
    scores = _synthetic.scores(stage.spec, attempt.stage.fingerprint) if status == "done" else {}
    attempt.commit(scores, status=status, seconds=1.0)


def _parent(layout: Layout, stage: TicketStage) -> Parent | None:
    """Return the furthest finished stage of the same run, as a real job would continue it."""
    trunk = [*(i for i in stage.spec.inputs if i.role == "trunk"), *stage.continues]
    best: Parent | None = None
    for needed in trunk:
        folder = layout.stage(needed.kind, needed.fingerprint)
        result = read_result(folder)
        if result is None:
            continue
        tokens = int(files.read_json(folder.spec)["sections"]["segment"]["values"]["end_tokens"])
        if tokens < _synthetic.end_tokens(stage.spec) and (best is None or tokens > best.tokens):
            best = Parent(kind=needed.kind, fingerprint=needed.fingerprint, attempt=result.attempt, tokens=tokens)
    return best
