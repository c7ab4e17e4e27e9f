"""The only one that submits, polls and cancels: compares what the plan wants with what store and cluster have.

One thread in the controller. Every fact it acts on is on disk: results, claims, and its own ledger; so it may be killed
anywhere and its successor goes on.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from cluster.job import Executor, JobHandle, JobRequest, JobState
from orchestrator.packer import Packer, add_measurement, pack_limit, throughput, total_seconds
from orchestrator.plan import Planned, complete, seconds_guess
from sweeps.errors import EnvironmentError_
from sweeps.language.graph import Node
from sweeps.language.presets import SCALES
from sweeps.language.stage import Ticket, TicketStage
from sweeps.store import claims, files
from sweeps.store.ledger import Ledger, State, fold, read_events
from sweeps.store.records import read_result

MAX_LOST = 3
"""Attempts of one stage that may end without a result or a reason (killed, node lost) in one reign."""


class Status(StrEnum):
    """What a stage is doing."""

    WAITING = "waiting"
    RUNNING = "running"
    DONE = "done"
    DIVERGED = "diverged"
    FAILED = "failed"
    SKIPPED = "skipped"
    """It needs a stage that failed or diverged."""


FRUITLESS = frozenset({Status.DIVERGED, Status.FAILED, Status.SKIPPED})
ENDED = FRUITLESS | {Status.DONE}


@dataclass(frozen=True, kw_only=True)
class Notice:
    """Something that a person may want to read; one line."""

    kind: str
    """`submitted`, `done`, `diverged`, `failed`, `lost`, `follow`."""
    stage: str
    text: str


@dataclass(kw_only=True)
class _Job:
    handle: JobHandle
    stages: list[str]


class Reconciler:
    """Brings store and cluster to what the plan wants, one `step` at a time."""

    def __init__(self, planned: Planned, executor: Executor, ledger: Ledger, state: State,
                 notify: Callable[[Notice], None]) -> None:
        """`state` is what older terms left; their live jobs are adopted by the first step."""
        self.planned = planned
        self.executor = executor
        self.ledger = ledger
        self.notify = notify
        self.graph = planned.graph
        self.layout = planned.layout
        self.folder = planned.layout.sweep(planned.sweep.name)
        self.slots = max(executor.slots_free(), 1)
        self.status = dict.fromkeys(self.graph.nodes, Status.WAITING)
        self.changed: deque[str] = deque()
        """Stages whose status changed and that nobody has taken notice of yet."""
        self.reasons: dict[str, str] = {}
        self._waiting: set[str] = set(self.graph.nodes)
        self._done: set[str] = set()
        self._ended: set[str] = set()
        self._jobs: list[_Job] = []
        self._following: dict[str, claims.Claim] = {}
        self._failures: dict[str, int] = {}
        self._measured: dict[str, tuple[float, float]] = {}
        self._packer = Packer(self.graph, self.seconds)
        self._count = 0
        for key in complete(self.layout, self.graph.nodes.values()):
            self._settle(key, quiet=True)
        self._adopt(state)

    # -- facts ---------------------------------------------------------------------------------------------------

    def seconds(self, node: Node) -> float:
        """Estimated seconds of a stage on one slot, from this run's own measurements where there are any."""
        guess = SCALES[self.planned.sweep.scale].guessed_flops_per_second
        return seconds_guess(node, throughput(self._measured, node.spec.kind, guess))

    @property
    def finished(self) -> bool:
        """True when nothing is left to run."""
        return not self._waiting and not self._jobs

    def seconds_left(self) -> float:
        """Estimated seconds until everything is done."""
        left = [k for k, s in self.status.items() if s in (Status.WAITING, Status.RUNNING)]
        return total_seconds(self.graph, left, self.seconds) / self.slots

    def _set(self, key: str, status: Status, reason: str = "") -> None:
        self.status[key] = status
        if status in ENDED:
            self._ended.add(key)
        if reason:
            self.reasons[key] = reason
        self.changed.append(key)

    def _settle(self, key: str, *, quiet: bool = False) -> bool:
        """Note a stage's result; False where there is none."""
        node = self.graph.nodes[key]
        result = read_result(self.layout.stage(node.spec.kind, key))
        if result is None:
            return False
        self._waiting.discard(key)
        self._following.pop(key, None)
        if result.status == "diverged":
            self._set(key, Status.DIVERGED)
            self._skip_readers(key, f"{node.label} diverged")
        else:
            self._set(key, Status.DONE)
            self._done.add(key)
        add_measurement(self._measured, node, result)
        if not quiet:
            self.notify(Notice(kind=self.status[key], stage=key, text=f"{node.label} ({result.seconds:.1f} s)"))
        return True

    def _skip_readers(self, key: str, reason: str) -> None:
        for reader in self._packer.readers(key):
            node = self.graph.nodes[reader]
            if self.status[reader] is Status.WAITING and key in (i.fingerprint for i in node.spec.inputs):
                self._set(reader, Status.SKIPPED, reason)
                self._waiting.discard(reader)
                self._skip_readers(reader, reason)

    # -- one pass ------------------------------------------------------------------------------------------------

    def step(self) -> None:
        """Poll, note what ended, submit what is ready."""
        self._watch()
        self._follow()
        self._submit()

    def _watch(self) -> None:
        if not self._jobs:
            return
        reports = self.executor.poll([j.handle for j in self._jobs])
        still = []
        for job, report in zip(self._jobs, reports, strict=True):
            running = [k for k in job.stages if not self._settle(k)]
            if len(running) < len(job.stages):
                self.ledger.append("done", fingerprints=[k for k in job.stages if k not in running])
            if report.state is JobState.ENDED:
                # A result may have been committed between the look at the store and the poll: look once more.
                for key in [k for k in running if not self._settle(k)]:
                    self._unfinished(key, report.detail)
                self.ledger.append("ended", name=job.handle.submission, index=job.handle.index, detail=report.detail)
            else:
                job.stages = running
                still.append(job)
        self._jobs = still

    def _unfinished(self, key: str, detail: str) -> None:
        """A job left without finishing this stage: run it again, or give up with the reason."""
        node = self.graph.nodes[key]
        bad = next((i.fingerprint for i in node.spec.inputs if self.status.get(i.fingerprint) in FRUITLESS), None)
        if bad is not None:
            reason = self.reasons.get(bad) or f"{self.graph.nodes[bad].label} diverged"
            self._set(key, Status.SKIPPED, reason)
            self._skip_readers(key, reason)
            return
        self._set(key, Status.WAITING)
        self._waiting.add(key)
        failure, started = self._failure(node)
        if failure is None and not started:
            return  # the job never came to it
        self._failures[key] = self._failures.get(key, 0) + 1
        self.ledger.append("failed", fingerprint=key, detail=detail, reason=failure or "")
        if failure is None and self._failures[key] < MAX_LOST:
            text = f"{node.label}: {detail}; it goes on from its last checkpoint"
            self.notify(Notice(kind="lost", stage=key, text=text))
            return
        self._set(key, Status.FAILED, failure or f"{detail}, {self._failures[key]} times")
        self._waiting.discard(key)
        self.notify(Notice(kind="failed", stage=key, text=f"{node.label}: {self.reasons[key]}"))
        self._skip_readers(key, f"{node.label} failed")

    def _failure(self, node: Node) -> tuple[str | None, bool]:
        """Return the newest attempt's own reason, and whether it belongs to the newest claim's submission."""
        stage = self.layout.stage(node.spec.kind, node.spec.fingerprint)
        held = claims.holder(stage)
        numbers = [int(p.name) for p in stage.attempts.glob("*") if p.name.isdigit()]
        if not numbers or held is None:
            return None, False
        attempt = stage.attempt(max(numbers))
        try:
            mine = files.read_json(attempt.execution).get("submission") == held.submission
        except (FileNotFoundError, ValueError):
            return None, True
        if not mine:
            return None, False
        try:
            raw = files.read_json(attempt.failure)
        except (FileNotFoundError, ValueError):
            return None, True
        return f"{raw.get('class', 'error')}: {raw.get('message', '')}", True

    def _follow(self) -> None:
        """Look at the stages that another sweep runs; take them back when its controller is gone."""
        for key, claim in list(self._following.items()):
            if not self._settle(key) and not self._owner_lives(claim):
                del self._following[key]
                self._waiting.add(key)
                self._set(key, Status.WAITING)

    def _owner_lives(self, claim: claims.Claim) -> bool:
        """True unless the claim's sweep has no controller and no job of its submission is found."""
        state = fold(read_events(self.layout.sweep(claim.sweep)))
        controlled = not state.released and state.owner is not None and state.owner.alive() is not False
        return controlled or any(
            r.state is not JobState.ENDED for r in self.executor.poll(self.executor.find(claim.submission))
        )

    # -- submitting ----------------------------------------------------------------------------------------------

    def _submit(self) -> None:
        free = self.executor.slots_free()
        waiting = self._waiting - set(self._following)
        if free <= 0 or not waiting:
            return
        ready = self._packer.ready(waiting, self._done, self._ended)
        limit = pack_limit(self.planned.sweep.run.pack.seconds,
                           total_seconds(self.graph, waiting, self.seconds), self.slots)
        tickets: list[list[str]] = []
        while ready and len(tickets) < free:
            tickets.append(self._packer.ticket(ready, waiting, self._ended, limit))
            waiting -= set(tickets[-1])
        if tickets:
            self._send(tickets)

    def _send(self, tickets: list[list[str]]) -> None:
        """Claim, write the intent, submit. In this order: a crash in between loses or doubles nothing."""
        self._count += 1
        name = f"{self.planned.sweep.name}-t{self.ledger.term}-{self._count:04d}"
        claimed = [pairs for pairs in (self._claim(ticket, name) for ticket in tickets) if pairs]
        if not claimed:
            return
        folder = self.folder.submissions / name
        paths = []
        for index, pairs in enumerate(claimed):
            path = folder / f"{index}.ticket.json"
            files.create(path, self._ticket(name, pairs).model_dump_json())
            paths.append(str(path))
        self.ledger.append("intent", name=name, tickets=[[k for k, _ in pairs] for pairs in claimed])
        request = JobRequest(
            name=name, tickets=tuple(paths), folder=str(folder), ranks=self.planned.execution.ranks,
            cores=self.planned.trials[0].core["engine"].threads_per_rank * self.planned.execution.ranks,
        )
        try:
            handles = self.executor.submit(request)
        except EnvironmentError_:
            handles = self.executor.find(name)
            if not handles:
                raise
        self.ledger.append("submitted", name=name, handles=[h.model_dump() for h in handles])
        for handle in handles:
            stages = [k for k, _ in claimed[handle.index]]
            self._jobs.append(_Job(handle=handle, stages=stages))
            self.notify(Notice(kind="submitted", stage=stages[0], text=f"{name}[{handle.index}]: {len(stages)} stages "
                                                                       f"from {self.graph.nodes[stages[0]].label}"))
            for key in stages:
                self._set(key, Status.RUNNING)
                self._waiting.discard(key)

    def _claim(self, ticket: list[str], name: str) -> list[tuple[str, int]]:
        """Take the claims of a ticket's stages; those that another live sweep holds are followed instead."""
        taken: list[tuple[str, int]] = []
        refused: set[str] = set()
        for key in ticket:
            node = self.graph.nodes[key]
            stage = self.layout.stage(node.spec.kind, key)
            held = claims.holder(stage)
            foreign = held is not None and held.sweep != self.planned.sweep.name and self._owner_lives(held)
            number = None if foreign or refused & set(self._packer.needs(node)) else claims.take(
                stage, sweep=self.planned.sweep.name, term=self.ledger.term, submission=name,
                after=held.number if held else 0,
            )
            if number is not None:
                taken.append((key, number))
                continue
            refused.add(key)
            if foreign and held is not None:
                claims.add_interest(stage, self.planned.sweep.name)
                self._following[key] = held
                self.notify(Notice(kind="follow", stage=key, text=f"{node.label}: sweep {held.sweep} is running it"))
        return taken

    def _ticket(self, name: str, pairs: list[tuple[str, int]]) -> Ticket:
        stages = []
        for key, number in pairs:
            node = self.graph.nodes[key]
            stages.append(TicketStage(spec=node.spec, claim=number, continues=(node.after,) if node.after else ()))
        return Ticket(
            root=str(self.layout.root), sweep=self.planned.sweep.name, submission=name,
            plugins=tuple(map(str, self.planned.plugins)), execution=self.planned.execution, stages=tuple(stages),
        )

    # -- after a crash -------------------------------------------------------------------------------------------

    def _adopt(self, state: State) -> None:
        """Take over the live jobs of older terms, looked up by name; what is gone is run again."""
        for submission in state.submissions.values():
            open_ = [i for i in range(len(submission.tickets)) if i not in submission.ended]
            if not open_:
                continue
            found = {h.index: h for h in self.executor.find(submission.name)}
            for index in open_:
                stages = [k for k in submission.tickets[index] if k in self._waiting]
                if index in found and stages:
                    self._jobs.append(_Job(handle=found[index], stages=stages))
                    for key in stages:
                        self._set(key, Status.RUNNING)
                        self._waiting.discard(key)

    # -- leaving -------------------------------------------------------------------------------------------------

    def stop(self, patience: float, *, wait: Callable[[float], None] = time.sleep) -> int:
        """Ask the running jobs to checkpoint and leave; return how many were still there after `patience` seconds."""
        self.executor.cancel([j.handle for j in self._jobs])
        deadline = time.monotonic() + patience
        while self._jobs and time.monotonic() < deadline:
            wait(0.2)
            reports = self.executor.poll([j.handle for j in self._jobs])
            for job, report in list(zip(self._jobs, reports, strict=True)):
                if report.state is JobState.ENDED:
                    for key in job.stages:
                        self._settle(key)
                    self.ledger.append("ended", name=job.handle.submission, index=job.handle.index, detail="stopped")
                    self._jobs.remove(job)
        return len(self._jobs)

    def counts(self) -> Mapping[Status, int]:
        """Return how many stages have each status."""
        found = dict.fromkeys(Status, 0)
        for status in self.status.values():
            found[status] += 1
        return found

    def log_folder(self) -> Path:
        """Return where the jobs' logs are."""
        return self.folder.submissions
