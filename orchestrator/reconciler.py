"""The only one that submits, polls and cancels: compares what the plan wants with what store and cluster have.

One thread in the controller. Every fact it acts on is on disk: results, claims, and its own ledger; so it may be killed
anywhere and its successor goes on.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass

from cluster.job import Executor, JobHandle, JobRequest, JobState
from orchestrator.board import FRUITLESS, Board, Status
from orchestrator.plan import Planned
from sweeps.errors import EnvironmentError_, StorageError
from sweeps.language.graph import Node
from sweeps.language.stage import Ticket, TicketStage
from sweeps.store import claims, files, requests
from sweeps.store.layout import StageFolder
from sweeps.store.ledger import Ledger, State, fold, read_events, refuse_fenced, size
from sweeps.store.records import newest_attempt

MAX_LOST = 3
"""Attempts of one stage that may end without a result or a reason (killed, node lost) in one reign."""


@dataclass(frozen=True, kw_only=True)
class Notice:
    """Something that a person may want to read; one line."""

    kind: str
    """`submitted`, `done`, `diverged`, `failed`, `lost`, `follow`, `cancelled`, `retried`."""
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
        self.board = Board(planned)
        self.graph = planned.graph
        self.layout = planned.layout
        self.folder = planned.layout.sweep(planned.sweep.name)
        self._jobs: list[_Job] = []
        self._following: dict[str, claims.Claim] = {}
        self._others: dict[str, tuple[object, State]] = {}
        """Other sweeps: the size of their ledger when it was read, and what it said."""
        self._failures: dict[str, int] = {}
        self._count = 0
        for key in sorted(self.board.ended):
            if self.board.status[key] is Status.FAILED:
                self._notify("failed", key, f"{self.graph.nodes[key].label}: {self.board.reasons[key]}")
        self._adopt(state)
        self.slots = max(executor.slots_free() + len(self._jobs), 1)
        self.board.cancel(state.cancelled)
        self._cancel_unwanted()  # the older controller may have died before it asked the jobs
        self._wishes()

    @property
    def finished(self) -> bool:
        """True when nothing is left to run."""
        return not self.board.waiting and not self._jobs

    @property
    def leaving(self) -> bool:
        """True while a job runs that nobody wants any more: it was asked to leave, and is killed if it does not."""
        return any(j.stages and not any(map(self._wanted_somewhere, j.stages)) for j in self._jobs)

    def _notify(self, kind: str, stage: str, text: str) -> None:
        self.notify(Notice(kind=kind, stage=stage, text=text))

    def _settle(self, key: str) -> bool:
        """Note a stage's result; False where there is none."""
        result = self.board.settle(key)
        if result is None:
            return False
        self._leave(key)
        self._notify(self.board.status[key], key, f"{self.graph.nodes[key].label} ({result.seconds:.1f} s)")
        return True

    def _stage(self, key: str) -> StageFolder:
        return self.layout.stage(self.graph.nodes[key].spec.kind, key)

    # -- one pass ------------------------------------------------------------------------------------------------

    def step(self) -> None:
        """Poll, note what ended, do what was asked, submit what is ready.

        Raises:
            OwnedError: another controller began a newer term; nothing more is submitted or cancelled.
            PausedError: a job met a full disk; the sweep is to stop until there is space.
        """
        refuse_fenced(self.folder, self.ledger.term)
        self._wishes()
        self._watch()
        self._follow()
        self._submit()

    def _watch(self) -> None:
        if not self._jobs:
            return
        reports = self.executor.poll([j.handle for j in self._jobs])
        still = []
        for job, report in zip(self._jobs, reports, strict=True):
            # After the poll: what a job that has ended committed is there to see.
            left = [k for k in job.stages if not self._settle(k)]
            if len(left) < len(job.stages):
                self.ledger.append("done", fingerprints=[k for k in job.stages if k not in left])
            if report.state is JobState.ENDED:
                for key in left:
                    self._unfinished(key, report.detail, job.handle.submission if key == left[0] else "")
                self.ledger.append("ended", name=job.handle.submission, index=job.handle.index, detail=report.detail)
            else:
                job.stages = left
                still.append(job)
        self._jobs = still

    def _unfinished(self, key: str, detail: str, next_of: str) -> None:
        """A job left without finishing this stage: run it again, or give up with the reason.

        `next_of` is the job's submission where this is the stage that it should have come to next.
        """
        node = self.graph.nodes[key]
        board = self.board
        bad = next((i.fingerprint for i in node.spec.inputs if board.status.get(i.fingerprint) in FRUITLESS), None)
        if bad is not None and board.wanted(key):
            reason = board.reasons.get(bad) or f"{self.graph.nodes[bad].label} {board.status[bad]}"
            board.set(key, Status.SKIPPED, reason)
            board.skip_readers(key, reason)
            return
        if not self.board.wanted(key):
            self.board.set(key, Status.CANCELLED)
            return
        self.board.set(key, Status.WAITING)
        failure, started = self._failure(node)
        if detail.endswith(f"exit {StorageError.exit_code}") or (failure or "").startswith(f"{StorageError.__name__}:"):
            raise StorageError(f"{node.label}: {failure or 'its job found no space'}")
        if started is None:
            return  # as it was asked to: no failure
        if not started:
            held = claims.holder(self._stage(key))
            if not next_of or held is None or held.submission != next_of:
                return  # the job never came to it, or it is somebody else's by now
            detail = f"its job ended before it began ({detail})"  # imports that fail, an input that vanished
        self._failures[key] = self._failures.get(key, 0) + 1
        self.ledger.append("failed", fingerprint=key, detail=detail, reason=failure or "")
        if failure is None and self._failures[key] < MAX_LOST:
            text = f"{node.label}: {detail}; it goes on from its last checkpoint"
            self._notify("lost", key, text)
            return
        board.fail(key, failure or f"{detail}, {self._failures[key]} times")
        self._notify("failed", key, f"{node.label}: {board.reasons[key]}")

    def _failure(self, node: Node) -> tuple[str | None, bool | None]:
        """Return the newest attempt's own reason, and whether it belongs to the newest claim's submission.

        None instead: it does, and left because it was asked to.
        """
        stage = self.layout.stage(node.spec.kind, node.spec.fingerprint)
        held = claims.holder(stage)
        number = newest_attempt(stage)
        if not number or held is None:
            return None, False
        attempt = stage.attempt(number)
        try:
            mine = files.read_json(attempt.execution).get("submission") == held.submission
        except (FileNotFoundError, ValueError):
            return None, True
        if not mine:
            return None, False
        if attempt.stopped.exists():
            return None, None
        try:
            raw = files.read_json(attempt.failure)
        except (FileNotFoundError, ValueError):
            return None, True
        return f"{raw.get('class', 'error')}: {raw.get('message', '')}", True

    def _follow(self) -> None:
        """Look at the stages that another sweep runs; take them back when its controller is gone."""
        for key, claim in list(self._following.items()):
            if self._settle(key):
                continue
            # an input diverged meanwhile, or the owner does not go on: then it is this sweep's to run
            if self.board.status[key] is not Status.WAITING or not self._goes_on(key, claim):
                self._leave(key)

    def _leave(self, key: str) -> None:
        """Follow a stage no longer, and want it no longer."""
        if self._following.pop(key, None) is not None:
            claims.drop_interest(self._stage(key), self.planned.sweep.name)

    def _goes_on(self, key: str, claim: claims.Claim) -> bool:
        """True while the claim's sweep may still finish the stage under this claim.

        That is: its controller lives and has not seen the end of that job (an owner that gave the stage up, or came
        back after a crash, does not hold others up), or no controller lives but the job does.
        """
        state = self._other(claim.sweep)
        if not state.released and state.owner is not None and state.owner.alive() is not False:
            submission = state.submissions.get(claim.submission)
            if submission is None:
                return state.term == claim.term  # claimed, the intent is about to follow
            return any(key in stages and i not in submission.ended for i, stages in enumerate(submission.tickets))
        try:
            reports = self.executor.poll(self.executor.find(claim.submission))
        except EnvironmentError_:
            return True  # nobody can tell now
        return any(r.state is not JobState.ENDED for r in reports)

    def _other(self, sweep: str) -> State:
        """Return what another sweep's ledger says; it is read again only when it has grown."""
        folder = self.layout.sweep(sweep)
        now = size(folder)
        before, state = self._others.get(sweep, (None, State()))
        if now != before:
            state = fold(read_events(folder))
            self._others[sweep] = now, state
        return state

    # -- what a person asked for ---------------------------------------------------------------------------------

    def _wishes(self) -> None:
        """Apply the requests that verbs left: first into the ledger, so that a successor knows them too."""
        for request in requests.pending(self.folder):
            self.ledger.append(request.wish.done, trials=request.trials)
            if request.wish is requests.Wish.CANCEL:
                self.board.cancel(request.trials)
                self._cancel_unwanted()
            else:
                for key in self.board.retry(request.trials):
                    self._failures.pop(key, None)
            refuse_fenced(self.folder, self.ledger.term)  # else the event counts for nothing, and the wish is lost
            requests.remove(self.folder, request)
            self._notify(request.wish.done, "", f"{len(request.trials)} trials: {', '.join(request.trials[:3])}"
                                                     f"{', ...' if len(request.trials) > 3 else ''}")

    def _cancel_unwanted(self) -> None:
        """Stop following, and ask the jobs to leave, where neither a trial of this sweep nor another sweep wants it."""
        for key in [k for k in self._following if not self.board.wanted(k)]:
            self._leave(key)
        self.executor.cancel([j.handle for j in self._jobs
                              if j.stages and not any(map(self._wanted_somewhere, j.stages))])

    def _wanted_somewhere(self, key: str) -> bool:
        others = set(claims.interested(self._stage(key))) - {self.planned.sweep.name}
        return self.board.wanted(key) or bool(others)

    # -- submitting ----------------------------------------------------------------------------------------------

    def _submit(self) -> None:
        free = self.executor.slots_free()
        waiting = self.board.waiting - set(self._following)
        if free <= 0 or not waiting:
            return
        ready = self.board.packer.ready(waiting, self.board.done, self.board.ended)
        room = self.board.packer.room(self.planned.sweep.run.pack, waiting, self.slots)
        tickets: list[list[str]] = []
        while ready and len(tickets) < free:
            tickets.append(self.board.packer.ticket(ready, waiting, self.board.ended, room))
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
            environment=dict(self.planned.job_environment),
        )
        refuse_fenced(self.folder, self.ledger.term)  # polls and look-ups may have taken minutes
        try:
            handles = self.executor.submit(request)
        except EnvironmentError_:
            handles = self.executor.find(name)
            if not handles:
                for index in range(len(claimed)):
                    self.ledger.append("ended", name=name, index=index, detail="not submitted")
                if self.executor.slots_free() < len(claimed):
                    return  # another sweep took the slots in between: in the next pass
                raise
        self.ledger.append("submitted", name=name, handles=[h.model_dump() for h in handles])
        for handle in handles:
            stages = [k for k, _ in claimed[handle.index]]
            self._jobs.append(_Job(handle=handle, stages=stages))
            first = self.graph.nodes[stages[0]].label
            self._notify("submitted", stages[0], f"{name}[{handle.index}]: {len(stages)} stages from {first}")
            for key in stages:
                self.board.set(key, Status.RUNNING)

    def _claim(self, ticket: list[str], name: str) -> list[tuple[str, int]]:
        """Take the claims of a ticket's stages; those that another live sweep holds are followed instead."""
        taken: list[tuple[str, int]] = []
        refused: set[str] = set()
        for key in ticket:
            if self._settle(key):  # another sweep has finished it meanwhile
                continue
            node, stage = self.graph.nodes[key], self._stage(key)
            held = claims.holder(stage)
            foreign = held is not None and held.sweep != self.planned.sweep.name and self._goes_on(key, held)
            number = None if foreign or refused & set(self.board.packer.needs(node)) else claims.take(
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
                self._notify("follow", key, f"{node.label}: sweep {held.sweep} is running it")
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
        """Take over the live jobs of older terms, looked up by name; what is gone is run again.

        Also those of which this plan names no stage that is open: they are watched until they end.
        """
        for submission in state.submissions.values():
            open_ = [i for i in range(len(submission.tickets)) if i not in submission.ended]
            if not open_:
                continue
            found = {h.index: h for h in self.executor.find(submission.name)}
            for index in open_:
                stages = [k for k in submission.tickets[index] if k in self.board.waiting]
                if index not in found:  # never submitted: those who follow it see that nobody runs it
                    self.ledger.append("ended", name=submission.name, index=index, detail="not found")
                else:
                    self._jobs.append(_Job(handle=found[index], stages=stages))
                    for key in stages:
                        self.board.set(key, Status.RUNNING)

    # -- leaving -------------------------------------------------------------------------------------------------

    def unfollow(self) -> None:
        """Want nothing of other sweeps' stages any more: they may be cancelled without asking a sweep that is gone."""
        for key in list(self._following):
            self._leave(key)

    def stop(self, patience: float, at_once: threading.Event) -> int:
        """Ask the running jobs to checkpoint and leave; return how many were still there after `patience` seconds.

        `at_once` ends the waiting, not the jobs: a later controller adopts them.
        """
        self.executor.cancel([j.handle for j in self._jobs])
        deadline = time.monotonic() + patience
        while self._jobs and time.monotonic() < deadline and not at_once.wait(0.2):
            reports = self.executor.poll([j.handle for j in self._jobs])
            for job, report in list(zip(self._jobs, reports, strict=True)):
                if report.state is JobState.ENDED:
                    for key in job.stages:
                        self._settle(key)
                    with suppress(StorageError):  # a successor finds out by itself that the job is gone
                        self.ledger.append("ended", name=job.handle.submission, index=job.handle.index,
                                           detail="stopped")
                    self._jobs.remove(job)
        return len(self._jobs)
