"""The shipped fake: jobs that take no processor and leave real records with made-up values.

For rehearsing a sweep's bookkeeping in seconds and for tests. Jobs advance when they are polled and end with the
controller (of many stages, a little later); what they write goes through the same store, claims and refusals as a real
job's. A test may also move them
by hand, phase by phase (`advance`), start them anew (`requeue`), or end them while their process goes on (`lose`).
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Generator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Annotated

from pydantic import Field

from cluster.executors import _synthetic
from cluster.job import Executor, JobHandle, JobReport, JobRequest, JobState
from sweeps.errors import EnvironmentError_
from sweeps.language.stage import Frozen, StageSpec, Ticket, TicketStage
from sweeps.store import claims, files
from sweeps.store.layout import Layout, StageFolder
from sweeps.store.records import Attempt, Parent, checkpoints, damage, open_attempt, read_result
from sweeps.store.rows import Row

DIVERGED = "diverged"
"""Answer of a failure hook: the stage ends with this status."""
KILLED = "killed"
"""Answer of a failure hook: the whole job vanishes and leaves no failure.json."""

SIDE_BY_SIDE = 2
"""Simulated jobs that write at a time: one waits for the disk while the other computes. More of them fight for the
interpreter's lock: 2,855 stages took 17.3, 13.3, 15.6 and 20.5 s with 1, 2, 3 and 8 (two cores)."""

APART_BYTES = 200_000
"""Size of the tickets from which on jobs are finished by a process of their own, as real ones are: about 100 stages.
For fewer of them its start costs more than what the controller's interpreter is spared."""

TRAINING = ("prepretrain", "pretrain", "finetune")
"""Kinds of stages that have checkpoints."""

Fail = Callable[[StageSpec, int], str]
"""(stage, attempt number) -> empty for success, DIVERGED, KILLED, or the class name of a failure."""


class Phase(StrEnum):
    """What a job has just done. Between two phases it may be killed, started anew elsewhere, or overtaken."""

    STARTED = "started"
    """It made its attempt's folder."""
    HALF = "half"
    """It wrote the first half of its rows, and (see `MemoryExecutor.saves`) a checkpoint there."""
    WRITTEN = "written"
    """It wrote the other half, and a checkpoint there."""
    COMMITTED = "committed"
    REFUSED = "refused"
    """It tried to commit, but another attempt had done so."""
    FAILED = "failed"
    """It left failure.json."""


class Options(Frozen):
    """Options of a profile."""

    slots: Annotated[int, Field(gt=0)] = 8
    """Jobs at a time."""
    seconds: Annotated[float, Field(ge=0)] = 0.0
    """How long a job lasts."""


def make(folder: Path, options: Options) -> Executor:
    """Return the executor; it keeps nothing in `folder`."""
    return MemoryExecutor(options.slots, seconds=options.seconds)


def check_ranks(options: Options, ranks: int) -> None:
    """Any number: nothing is computed."""


def never(spec: StageSpec, attempt: int) -> str:
    """Fail nothing."""
    return ""


class Process:
    """What runs a job's ticket. It may outlive the job: a dead node's processes go on writing."""

    attempt: Attempt | None = None
    """Of the stage in hand, or of the one before it."""
    detail: str | None = None
    """How it ended; None while it runs."""
    stage_seconds = 1.0
    """Wall time that the results of its stages state."""

    def __init__(self, ticket: Path, fail: Fail, saves: bool) -> None:
        """Do nothing yet."""
        self._path = ticket
        self._fail = fail
        self._saves = saves
        self._phases = self._run()

    def advance(self) -> Phase | None:
        """Go one phase further; None: there is none left."""
        try:
            return next(self._phases)
        except StopIteration as end:
            self.detail = self.detail or end.value
            return None

    def finish(self) -> str:
        """Go through all phases that are left; return how it ended."""
        while self.advance() is not None:
            pass
        return str(self.detail)

    def kill(self) -> None:
        """Write nothing more."""
        self._phases.close()
        self.detail = self.detail or "killed by signal 9"

    def _run(self) -> Generator[Phase, None, str]:
        ticket = Ticket.model_validate_json(self._path.read_text(encoding="utf-8"))
        layout = Layout(Path(ticket.root))
        failed = False
        for stage in ticket.stages:
            folder = layout.stage(stage.spec.kind, stage.spec.fingerprint)
            if not _may_run(layout, ticket, stage, folder):
                continue
            outcome = yield from self._stage(layout, ticket, stage, folder)
            if outcome == KILLED:
                return "killed by signal 9"
            failed = failed or outcome not in ("", DIVERGED)
        return f"exit {int(failed)}"

    def _stage(self, layout: Layout, ticket: Ticket, stage: TicketStage, folder: StageFolder
               ) -> Generator[Phase, None, str]:
        files.create(folder.spec, stage.spec.to_text(), durable=files.Durable.CONTENT)
        execution = {"host": "memory", "pid": os.getpid(), "sweep": ticket.sweep, "submission": ticket.submission}
        self.attempt = attempt = open_attempt(folder, execution, claim=stage.claim)
        try:
            yield Phase.STARTED
            outcome = self._fail(stage.spec, attempt.folder.number)
            if outcome in ("", DIVERGED):
                yield from _write(layout, stage, attempt, status=outcome or "done", saves=self._saves,
                                  seconds=lambda: self.stage_seconds)
            elif outcome != KILLED:
                files.create(attempt.folder.failure, files.to_json({
                    "schema_version": files.SCHEMA_VERSION, "class": outcome, "message": "simulated", "traceback": [],
                }))
                yield Phase.FAILED
            return outcome
        finally:
            attempt.close()


@dataclass(kw_only=True)
class _Job:
    handle: JobHandle
    ticket: Path
    process: Process
    logs: Mapping[str, Path]
    ends_at: float
    detail: str | None = None
    """How it ended; None while it runs."""
    restarts: int = 0
    """How often it was started anew."""


@dataclass
class MemoryExecutor:
    """Simulated jobs; see `cluster.job.Executor`."""

    slots: int = 8
    seconds: float = 0.0
    """How long a job lasts on `clock`; infinite: jobs are moved by `advance` alone."""
    clock: Callable[[], float] = time.monotonic
    fail: Fail = never
    lose_answer: Callable[[str], bool] = lambda name: False
    """submission name -> True: accept it, then raise as if the answer had been lost."""
    saves: bool = False
    """Training stages leave checkpoints, as real ones do; costs about 10 ms each."""
    detaches: bool = False
    leave_s: float = 15.0
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
            self._jobs[key] = _Job(handle=handle, ticket=Path(ticket), process=self._process(Path(ticket)), logs=logs,
                                   ends_at=self.clock() + self.seconds)
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
                self.lose(handle, "cancelled").kill()

    def logs(self, handle: JobHandle) -> Mapping[str, Path]:
        """Where the job's logs would be; {} for a job that is not known."""
        job = self._jobs.get((handle.submission, handle.index))
        return job.logs if job else {}

    # -- by hand -------------------------------------------------------------------------------------------------

    def running(self) -> list[JobHandle]:
        """Return the jobs that have not ended."""
        return [self._jobs[key].handle for key in sorted(self._live)]

    def process(self, handle: JobHandle) -> Process:
        """Return what runs a job now."""
        return self._jobs[handle.submission, handle.index].process

    def advance(self, handle: JobHandle) -> Phase | None:
        """Let a running job go one phase further; None: it has ended."""
        process = self.process(handle)
        phase = process.advance()
        if phase is None:
            self._end((handle.submission, handle.index), str(process.detail))
        return phase

    def requeue(self, handle: JobHandle) -> Process:
        """Start a running job anew, as Slurm does when a node fails; return its former process, which may go on."""
        job = self._jobs[handle.submission, handle.index]
        former, job.process = job.process, self._process(job.ticket)
        job.restarts += 1
        return former

    def lose(self, handle: JobHandle, detail: str) -> Process:
        """End a running job in the books; return its process, which may go on."""
        self._end((handle.submission, handle.index), detail)
        return self.process(handle)

    # -- inside --------------------------------------------------------------------------------------------------

    def _process(self, ticket: Path) -> Process:
        return Process(ticket, self.fail, self.saves)

    def _report(self, handle: JobHandle) -> JobReport:
        job = self._jobs.get((handle.submission, handle.index))
        if job is None:
            return JobReport(handle=handle, state=JobState.ENDED, detail="not known here")
        state = JobState.RUNNING if job.detail is None else JobState.ENDED
        return JobReport(handle=handle, state=state, detail=job.detail or "", restarts=job.restarts,
                         restarted="NODE_FAIL" if job.restarts else "")

    def _end(self, key: tuple[str, int], detail: str) -> None:
        self._jobs[key].detail = detail
        self._live.discard(key)

    def _advance(self) -> None:
        """Finish every job whose time has come."""
        now = self.clock()
        due = sorted((k for k in self._live if self._jobs[k].ends_at <= now), key=lambda k: (self._jobs[k].ends_at, k))
        if not due:
            return
        tickets = [self._jobs[key].ticket for key in due]
        plain = self.fail is never and not self.saves and not any(self._jobs[key].process.attempt for key in due)
        if plain and sum(ticket.stat().st_size for ticket in tickets) >= APART_BYTES:
            argv = [sys.executable, "-m", __name__, *map(str, tickets)]
            ended = json.loads(subprocess.run(argv, check=True, stdout=subprocess.PIPE).stdout)
        else:
            ended = _finished([self._jobs[key].process for key in due])
        for key, detail in zip(due, ended, strict=True):
            self._end(key, detail)


def _finished(processes: Sequence[Process]) -> list[str]:
    """Finish processes; return how they ended."""
    with ThreadPoolExecutor(max_workers=SIDE_BY_SIDE) as pool:
        return list(pool.map(Process.finish, processes))


def _may_run(layout: Layout, ticket: Ticket, stage: TicketStage, folder: StageFolder) -> bool:
    """The refusals of a real job: done, claimed by another, an input missing."""
    held = claims.holder(folder)
    if read_result(folder) is not None:
        return False
    if held is None or held.submission != ticket.submission or held.number > stage.claim:
        return False
    results = (read_result(layout.stage(i.kind, i.fingerprint)) for i in stage.spec.inputs)
    return all(result is not None and result.status == "done" for result in results)


def _write(layout: Layout, stage: TicketStage, attempt: Attempt, *, status: str, saves: bool,
           seconds: Callable[[], float]) -> Generator[Phase, None, None]:
    start = 0
    parent = _parent(layout, stage, attempt.stage)
    if parent is not None:
        attempt.set_parent(parent)
        start = parent.tokens
    rows = [row for row in _synthetic.rows(stage.spec, start) if row.tokens > start or not start]
    for phase, part in ((Phase.HALF, rows[: len(rows) // 2]), (Phase.WRITTEN, rows[len(rows) // 2 :])):
        _write_rows(attempt, part, saves=saves and stage.spec.kind in TRAINING)
        yield phase
    scores = _synthetic.scores(stage.spec, attempt.stage.fingerprint) if status == "done" else {}
    yield Phase.COMMITTED if attempt.commit(scores, status=status, seconds=seconds()) else Phase.REFUSED


def _write_rows(attempt: Attempt, rows: Sequence[Row], *, saves: bool) -> None:
    for row in rows:
        attempt.row(tokens=row.tokens, kind=row.kind, values=row.values)
    if saves and rows:
        tokens = rows[-1].tokens
        (attempt.checkpoint_folder(tokens) / "state").write_text(f"{tokens}\n", encoding="utf-8")
        attempt.commit_checkpoint(tokens)


def _parent(layout: Layout, stage: TicketStage, own: StageFolder) -> Parent | None:
    """Return the furthest state that a real job would continue: of the stage, or of an earlier point of its run."""
    found = [c.owner for c in checkpoints(own) if not damage(c)]
    trunk = [*(i for i in stage.spec.inputs if i.role == "trunk"), *stage.continues]
    for needed in trunk:
        folder = layout.stage(needed.kind, needed.fingerprint)
        result = read_result(folder)
        if result is None:
            continue
        tokens = int(files.read_json(folder.spec)["sections"]["segment"]["values"]["end_tokens"])
        if tokens < _synthetic.end_tokens(stage.spec):
            found.append(Parent(kind=needed.kind, fingerprint=needed.fingerprint, attempt=result.attempt,
                                tokens=tokens))
    return max(found, key=lambda parent: parent.tokens, default=None)


if __name__ == "__main__":
    sys.stdout.write(json.dumps(_finished([Process(Path(ticket), never, saves=False) for ticket in sys.argv[1:]])))
