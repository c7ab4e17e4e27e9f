"""The only one that submits, polls and cancels: compares what the plan wants with what store and cluster have.

One thread in the controller. Every fact it acts on is on disk: results, claims, and its own ledger; so it may be killed
anywhere and its successor goes on.
"""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path

from cluster.job import Executor, JobHandle, JobReport, JobState
from orchestrator import batch
from orchestrator.board import Board, Status
from orchestrator.budget import Budget
from orchestrator.endings import Endings, Job
from orchestrator.endings import Notice as Notice
from orchestrator.ownership import lives
from orchestrator.plan import Planned
from sweeps.errors import EnvironmentError_, InDoubtError, StorageError
from sweeps.language.gate import verdict_of
from sweeps.language.stage import Ticket, TicketStage
from sweeps.store import claims, files, requests
from sweeps.store.layout import StageFolder
from sweeps.store.ledger import Ledger, State, fold, read_events, refuse_fenced, size

UNKNOWN_S = 30.0
"""So long may the state of a job be unknown until a person is told: accounts lag, and daemons are restarted."""


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
        self.budget = Budget(planned, self.board, ledger, state, lambda text: self._notify("budget", "", text))
        self.graph = planned.graph
        self.layout = planned.layout
        self.folder = planned.layout.sweep(planned.sweep.name)
        self._jobs: list[Job] = []
        self._following: dict[str, claims.Claim] = {}
        self._others: dict[str, tuple[object, State]] = {}
        """Other sweeps: the size of their ledger when it was read, and what it said."""
        self._count = 0
        self._doubts: dict[str, tuple[list[Job], str]] = {}
        """Submissions of which nobody knows yet whether they have jobs; what they would be told as."""
        self._told: set[str] = set()
        """Those of which a person was told, and the reasons for which jobs wait."""
        self.endings = Endings(planned, self.board, executor, ledger, state, notify)
        for key in sorted(self.board.ended):
            if self.board.status[key] is Status.FAILED:
                self._notify("failed", key, f"{self.graph.nodes[key].label}: {self.board.reasons[key]}")
        self._adopt(state)
        doubtful = sum(len(jobs) for jobs, _ in self._doubts.values())
        self.slots = max(executor.slots_free() + len(self._jobs) + doubtful, 1)
        self.board.cancel(state.cancelled, state.cancelled_how)
        self._cancel_unwanted()  # the older controller may have died before it asked the jobs
        self._wishes()

    @property
    def finished(self) -> bool:
        """True when nothing is left to run."""
        return not self.board.waiting and not self._jobs and not self._doubts

    @property
    def leaving(self) -> bool:
        """True while a job runs, or may run, that nobody wants: it is asked to leave, and is killed if it does not."""
        return bool(self._doubts) or any(map(self._unwanted, self._jobs))

    def _notify(self, kind: str, stage: str, text: str) -> None:
        self.notify(Notice(kind=kind, stage=stage, text=text))

    def _settle(self, key: str) -> bool:
        """Note a stage's result; False where there is none."""
        result = self.board.settle(key)
        if result is None:
            return False
        self._leave(key)
        self.endings.breaker.succeeded(self.graph.nodes[key].spec.kind)
        self._notify(self.board.status[key], key, f"{self.graph.nodes[key].label} ({result.seconds:.1f} s)")
        if barred := self.board.withheld(key):
            verdict = verdict_of(result.scores) or "without a verdict"
            self._notify("withheld", key, f"{self.graph.nodes[key].label}: {verdict}; {barred} stages do not run")
        return True

    def _stage(self, key: str) -> StageFolder:
        return self.layout.stage(self.graph.nodes[key].spec.kind, key)

    # -- one pass ------------------------------------------------------------------------------------------------

    def step(self) -> None:
        """Poll, note what ended, do what was asked, submit what is ready.

        Raises:
            OwnedError: another controller began a newer term; nothing more is submitted or cancelled.
            PausedError: a job met a full disk, the first stages all died alike, or the cap on GPU-hours is reached.
        """
        refuse_fenced(self.folder, self.ledger.term)
        self._wishes()
        for name in list(self._doubts):
            if self._look_for(name) and name not in self._doubts:
                self._cancel_unwanted()  # its trials may have been cancelled while nobody knew of its jobs
        self._watch()
        self._follow()
        self.budget.check({k: j.handle.submission for j in self._jobs for k in j.stages})
        self._submit()

    def _watch(self) -> None:
        if not self._jobs:
            return
        reports = self.executor.poll([j.handle for j in self._jobs])
        still = []
        for job, report in zip(self._jobs, reports, strict=True):
            # After the poll: what a job that has ended committed is there to see.
            left = [k for k in job.stages if not self._settle(k)]
            if report.restarts > job.restarts:
                self.endings.job_restarted(job, report)
            if len(left) < len(job.stages):
                self.ledger.append("done", fingerprints=[k for k in job.stages if k not in left])
            job.stages = left
            self._tell_why_it_waits(job, report)
            if report.state is JobState.ENDED:
                self.endings.job_ended(job, report)
                self.ledger.append("ended", name=job.handle.submission, index=job.handle.index, detail=report.detail)
            else:
                still.append(job)
        self._jobs = still
        if useless := [j for j in still if not j.asked and (j.spent or self._unwanted(j))]:
            self._ask_to_leave(useless)
        self.endings.raise_pause()

    def _tell_why_it_waits(self, job: Job, report: JobReport) -> None:
        """Tell once of each reason for which jobs wait beyond their turn, or for which nobody knows what they do."""
        if report.state is not JobState.UNKNOWN:
            job.unknown_since = None
        elif job.unknown_since is None:
            job.unknown_since = time.monotonic()
        lost = job.unknown_since is not None and time.monotonic() - job.unknown_since >= UNKNOWN_S
        unknown = f"nobody knows what it does ({report.detail}); nothing is run in its place" if lost else ""
        if (why := report.waits or unknown) and job.stages:
            label = self.graph.nodes[job.stages[0]].label
            self._tell_once(job.stages[0], why, f"{label}, and perhaps others: {why}")

    def _tell_once(self, key: str, reason: str, text: str) -> None:
        """Tell why something waits, once for each reason, whatever numbers are in it."""
        if (alike := re.sub(r"\d+", "#", reason)) not in self._told:
            self._told.add(alike)
            self._notify("waits", key, text)

    def _follow(self) -> None:
        """Look at the stages that another sweep runs; take them back when its controller is gone."""
        for key, claim in list(self._following.items()):
            # an input diverged meanwhile, or the owner does not go on: then it is this sweep's to run
            if not self._settle(key) and not (
                    self.board.status[key] is Status.WAITING and self._goes_on(key, claim)):
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
        if lives(state):
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
                    self.endings.forgive(key)
            refuse_fenced(self.folder, self.ledger.term)  # else the event counts for nothing, and the wish is lost
            requests.remove(self.folder, request)
            self._notify(request.wish.done, "", f"{len(request.trials)} trials: {', '.join(request.trials[:3])}"
                                                     f"{', ...' if len(request.trials) > 3 else ''}")

    def _cancel_unwanted(self) -> None:
        """Stop following, and ask the jobs to leave, where neither a trial of this sweep nor another sweep wants it."""
        for key in [k for k in self._following if not self.board.wanted(k)]:
            self._leave(key)
        self._ask_to_leave([j for j in self._jobs if self._unwanted(j)])

    def _unwanted(self, job: Job) -> bool:
        """Tell whether nobody wants the stage that a job has in hand; what else it has waits for another job then."""
        return bool(job.stages) and not self._wanted_somewhere(job.stages[0])

    def _ask_to_leave(self, jobs: Sequence[Job]) -> None:
        """Ask jobs to checkpoint and leave; first into the ledger: no successor is to take it for a person's doing."""
        new = [j for j in jobs if not j.asked]
        for job in new:
            job.asked = True
        if new:
            with suppress(StorageError):  # space may be why they are to leave
                self.ledger.append("asked", jobs=[(j.handle.submission, j.handle.index) for j in new])
        self.executor.cancel([j.handle for j in jobs])

    def _wanted_somewhere(self, key: str) -> bool:
        """Tell whether a trial, or another sweep that somebody controls, wants a stage: killed ones leave interest."""
        return self.board.wanted(key) or any(lives(self._other(sweep)) for sweep in claims.interested(self._stage(key))
                                             if sweep != self.planned.sweep.name)

    # -- submitting ----------------------------------------------------------------------------------------------

    def _submit(self) -> None:
        self.board.skip_undecidable()
        tickets = batch.tickets(self.planned, self.board, self._following, free=self.executor.slots_free(),
                                slots=self.slots, execution=self.endings.execution)
        if tickets := self.budget.admit(tickets):
            self._send(tickets)

    def _send(self, tickets: list[list[str]]) -> None:
        """Claim, write the intent, submit. In this order: a crash in between loses or doubles nothing."""
        self._count += 1
        name = batch.name(self.planned, self.ledger.term, self._count)
        claimed = [pairs for pairs in (self._claim(ticket, name) for ticket in tickets) if pairs]
        if not claimed:
            return
        request = batch.request(self.planned, name, [[k for k, _ in pairs] for pairs in claimed],
                                exclude=self.endings.nodes.excluded)
        for path, pairs in zip(request.tickets, claimed, strict=True):
            files.create(Path(path), self._ticket(name, pairs).model_dump_json())
        self.ledger.append("intent", name=name, tickets=[[k for k, _ in pairs] for pairs in claimed])
        refuse_fenced(self.folder, self.ledger.term)  # polls and look-ups may have taken minutes
        jobs = [Job(handle=JobHandle(submission=name, index=index, job_id=""), stages=[k for k, _ in pairs],
                    first=pairs[0][0]) for index, pairs in enumerate(claimed)]
        try:
            self._begun(name, jobs, self.executor.submit(request), "submitted")
        except EnvironmentError_ as error:
            # Refused, or without an answer: `find` knows, or will know.
            if self._doubt(name, jobs, "submitted"):
                return
            if self.executor.slots_free() >= len(jobs):
                raise self.endings.job_refused(jobs, error) from error
            # Another sweep took the slots, a limit is reached, or a partition is closed: in a later pass.
            text = f"{error}; more is submitted as soon as there is room"
            self._tell_once(jobs[0].first, text.partition(": ")[2], text)

    # -- submissions in doubt ------------------------------------------------------------------------------------

    def _doubt(self, name: str, jobs: list[Job], word: str) -> bool:
        """Look for a submission's jobs, now and in every pass until it is certain; False: there are none.

        Its stages count as running meanwhile: submitting them again would run them twice.
        """
        for key in (k for job in jobs for k in job.stages):
            self.board.set(key, Status.RUNNING)
        self._doubts[name] = jobs, word
        return self._look_for(name)

    def _look_for(self, name: str) -> bool:
        jobs, word = self._doubts[name]
        try:
            handles = self.executor.find(name)
        except InDoubtError as doubt:
            if name not in self._told:
                self._told.add(name)
                self._notify("doubt", jobs[0].first, f"{doubt}; nothing is submitted in its place until that is known")
            return True
        del self._doubts[name]
        self._begun(name, jobs, handles, word)
        return bool(handles)

    def _begun(self, name: str, jobs: list[Job], handles: Sequence[JobHandle], word: str) -> None:
        """Take in what a submission became; those of its jobs that do not exist leave their stages to others."""
        found = {h.index: h for h in handles}
        if found:
            self.ledger.append(word, name=name, handles=[h.model_dump() for h in handles])
        for job in jobs:
            if job.handle.index in found:
                job.handle = found[job.handle.index]
                self._jobs.append(job)
            else:  # those who follow it see that nobody runs it
                self.ledger.append("ended", name=name, index=job.handle.index, detail=f"not {word}")
            for key in job.stages:
                waits = Status.WAITING if self.board.wanted(key) else Status.CANCELLED
                self.board.set(key, Status.RUNNING if job.handle.index in found else waits)
            if job.handle.index in found and job.stages:
                first = self.graph.nodes[job.stages[0]].label
                self._notify(word, job.stages[0], f"{name}[{job.handle.index}]: {len(job.stages)} stages from {first}")

    def _claim(self, ticket: list[str], name: str) -> list[tuple[str, int]]:
        """Take the claims of a ticket's stages; those that another live sweep holds are followed instead."""
        taken: list[tuple[str, int]] = []
        refused: set[str] = set()
        for key in ticket:
            if self._settle(key):  # another sweep has finished it meanwhile
                continue
            node, stage = self.graph.nodes[key], self._stage(key)
            held = claims.holder(stage)
            foreign = (held is not None and held.sweep not in (claims.NOBODY, self.planned.sweep.name)
                       and self._goes_on(key, held))
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
            plugins=tuple(map(str, self.planned.plugins)), execution=self.endings.execution(pairs[0][0]),
            stages=tuple(stages),
        )

    # -- after a crash -------------------------------------------------------------------------------------------

    def _adopt(self, state: State) -> None:
        """Take over the live jobs of older terms, looked up by name; what is gone is run again.

        Also those of which this plan names no stage that is open: they are watched until they end.
        """
        for submission in state.submissions.values():
            open_ = [i for i in range(len(submission.tickets)) if i not in submission.ended]
            jobs = [Job(handle=JobHandle(submission=submission.name, index=index, job_id=""),
                        stages=[k for k in submission.tickets[index] if k in self.board.waiting],
                        first=submission.tickets[index][0], asked=(submission.name, index) in state.asked, adopted=True,
                        restarts=submission.restarts.get(index, 0))
                    for index in open_]
            if jobs:
                self._doubt(submission.name, jobs, "adopted")

    # -- leaving -------------------------------------------------------------------------------------------------

    def unfollow(self) -> None:
        """Want nothing of other sweeps' stages any more: they may be cancelled without asking a sweep that is gone."""
        for key in list(self._following):
            self._leave(key)

    def stop(self, patience: float, at_once: threading.Event) -> int:
        """Ask the running jobs to checkpoint and leave; return how many were still there after `patience` seconds.

        `at_once` ends the waiting, not the jobs: a later controller adopts them.
        """
        self._ask_to_leave(self._jobs)
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
