"""A job's end made into an action: its evidence is gathered, classified, answered by the policy, recorded and told.

The reconciler says which job ended; what to do about each of its stages is decided here and shown on the board. Nothing
is submitted or cancelled here.
"""

from __future__ import annotations

import os
import pwd
import re
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from cluster.failures import Evidence, Failure, Verdict, classify
from cluster.job import Executor, JobHandle, JobReport
from orchestrator.board import FRUITLESS, Board, Status
from orchestrator.plan import Planned
from orchestrator.policy import Action, Breaker, Death, End, Nodes, Record, told
from orchestrator.restarts import saved_by
from sweeps.errors import EnvironmentError_, PausedError, RecordError, StorageError
from sweeps.language.graph import Node
from sweeps.language.stage import AUTO, Execution
from sweeps.store import claims, files, records
from sweeps.store.layout import AttemptFolder, StageFolder
from sweeps.store.ledger import Ledger, State
from sweeps.store.micro_batch import last_noted
from sweeps.store.space import probe
from sweeps.store.stretch import Stretch, stretch

TAIL_BYTES, TAIL_LINES = 16_384, 60
"""What is read of a log's end."""
SHOWN_LINES = 12
"""What is shown of it where a job that left no traceback stops the sweep."""


@dataclass(kw_only=True)
class Job:
    """A job of this sweep."""

    handle: JobHandle
    stages: list[str]
    """Those of its ticket that are not known to be complete."""
    first: str = ""
    """The ticket's first stage."""
    asked: bool = False
    """This sweep asked it to leave."""
    adopted: bool = False
    """An older reign submitted it."""
    restarts: int = 0
    """How often the cluster itself has started it again, as far as the ledger knows."""
    unknown_since: float | None = None
    """By the monotonic clock: since when the executor cannot tell what it does; None: it can."""
    spent: str = ""
    """The stage that came no further though the cluster itself started the job again and again; empty: none."""
    spent_how: str = ""
    """What the cluster said of those starts."""


@dataclass(frozen=True, kw_only=True)
class Notice:
    """Something that a person may want to read; one line."""

    kind: str
    """`submitted`, `done`, `diverged`, `withheld`, `failed`, `lost`, `follow`, `cancelled`, `retried`, `excluded`,
    `restarted`, `waits`."""
    stage: str
    text: str


class Endings:
    """What became of attempts without a result, and what follows; kept for one reign."""

    def __init__(self, planned: Planned, board: Board, executor: Executor, ledger: Ledger, state: State,
                 notify: Callable[[Notice], None]) -> None:
        """`state` is what older terms left: which stages run with another micro-batch, which nodes failed stages."""
        self.planned = planned
        self.policy = planned.sweep.run.policy
        self.board = board
        self.executor = executor
        self.ledger = ledger
        self.notify = notify
        self.breaker = Breaker(policy=self.policy)
        self.nodes = Nodes(exclude_after=self.policy.exclude_node_after, failed=state.bad_nodes)
        self._micro_batch = dict(state.micro_batch)
        self._records: dict[str, Record] = {}
        self._saved: dict[str, int] = {}
        """Stage -> its furthest checkpoint when the cluster itself had last started its job again, in tokens."""
        self._pause: PausedError | None = None

    # -- asked by the reconciler ---------------------------------------------------------------------------------

    def job_ended(self, job: Job, report: JobReport) -> None:
        """Say what follows for every stage that the job left."""
        cancelled: list[str] = []
        for key in job.stages:
            if cancelled or self._left(key, job, report) is Action.CANCEL:
                cancelled.append(key)
        if cancelled:
            self._cancel(cancelled, report.detail)

    def job_restarted(self, job: Job, report: JobReport) -> None:
        """Record that the cluster itself has started a job again, and count it; `job.spent` where that is enough.

        It is no end: while the job comes further, or has tries left, the policy has no say in it.
        """
        again, job.restarts = report.restarts - job.restarts, report.restarts
        cause = classify(Evidence(detail=report.restarted.rpartition(", ")[2])).failure
        key, advanced = self._in_hand(job)
        spent = any([self._records.setdefault(key, Record()).restarted(cause, advanced=advanced, policy=self.policy)
                     for _ in range(again)]) if key else False
        node = report.restarted_on if key and cause is Failure.NODE else ""
        self.ledger.append("restarted", name=job.handle.submission, index=job.handle.index, restarts=report.restarts,
                           stages=job.stages, detail=report.restarted, time=_now(), fingerprint=key, node=node,
                           **{"class": cause})
        if not key:
            return
        label = self.planned.graph.nodes[key].label
        times = f", {again} times" if again > 1 else ""
        why = f": {told(cause, report.restarted)}" if report.restarted else ""
        more = ""
        if spent:
            job.spent = key
            job.spent_how = f"{report.restarted or 'restarted'}, {report.restarts} times by the cluster itself"
            more = "; it comes no further that way, and its job is asked to leave"
        self._say("restarted", key, f"{label}: the cluster itself put its job back into the queue{times}{why}{more}")
        if node:
            self._blame(node, key)

    def _in_hand(self, job: Job) -> tuple[str, bool]:
        """Return the stage on which a job works, empty for none, and whether it came further since the last look."""
        left = [k for k in job.stages if self.board.status[k] is Status.RUNNING]
        kind = {k: self.planned.graph.nodes[k].spec.kind for k in left}
        saved = {k: saved_by(self.planned.layout.stage(kind[k], k), job.handle.submission) for k in left}
        key = next((k for k in reversed(left) if saved[k] is not None), left[0] if left else "")
        now = saved.get(key) or 0
        before, self._saved[key] = self._saved.get(key, 0), now
        return key, now > before

    def job_refused(self, jobs: Sequence[Job], error: EnvironmentError_) -> EnvironmentError_:
        """Record that the cluster did not take jobs, and what follows; returns the error to raise.

        It is written once for the whole submission: none of its stages has an attempt, and none counts as failed.
        """
        verdict = classify(Evidence(refused=True, detail=str(error)))
        decision = Record().decide(End(failure=verdict.failure, refused=True), self.policy)
        text = f"its job was refused: {error}; {decision.text}"
        self.ledger.append("refused", name=jobs[0].handle.submission, stages=[k for job in jobs for k in job.stages],
                           attempt=0, text=text, action=decision.action, evidence=list(verdict.evidence), time=_now(),
                           **{"class": verdict.failure})
        return EnvironmentError_(f"{error}. {decision.text[0].upper()}{decision.text[1:]}")

    def forgive(self, key: str) -> None:
        """Count anew for a stage that a person asked for again."""
        self._records.pop(key, None)

    def raise_pause(self) -> None:
        """Pause where the ends of the last pass demand it; everything about them is recorded by then.

        Raises:
            PausedError: there is no space, or the first stages all died alike.
        """
        pause, self._pause = self._pause or self.breaker.tripped(), None
        if pause is not None:
            raise pause

    def execution(self, key: str) -> Execution:
        """Return how a stage is to run: as planned, or with the smaller micro-batch that its GPU had room for."""
        planned = self.planned.execution(self.planned.graph.nodes[key].spec.kind)
        micro = self._micro_batch.get(key)
        if micro is None or (isinstance(planned.micro_batch, int) and planned.micro_batch < micro):
            return planned
        return planned.model_copy(update={"micro_batch": micro})

    # -- one stage -----------------------------------------------------------------------------------------------

    def _left(self, key: str, job: Job, report: JobReport) -> Action | None:
        """Say what follows for one stage; None: nothing, it only waits again, or nobody wants it."""
        board, node = self.board, self.planned.graph.nodes[key]
        bad = next((i.fingerprint for i in node.spec.inputs if board.status.get(i.fingerprint) in FRUITLESS), None)
        if bad is not None and board.wanted(key):
            reason = board.reasons.get(bad) or f"{self.planned.graph.nodes[bad].label} {board.status[bad]}"
            board.set(key, Status.SKIPPED, reason)
            board.skip_readers(key, reason)
            return None
        if not board.wanted(key):
            board.set(key, Status.CANCELLED)
            return None
        board.set(key, Status.WAITING)
        if board.status[key] is Status.WITHHELD:  # it began before its gate had to be passed
            return None
        stage = self.planned.layout.stage(node.spec.kind, key)
        held = claims.holder(stage)
        if held is None or held.submission != job.handle.submission:
            return None  # it is somebody else's by now
        attempt = _attempt_of(stage, held.submission)
        if attempt is None and key != job.stages[0]:
            return None  # the job never came to it
        if key == job.spent:  # that this sweep asked it to leave is not why it has no result
            evidence = replace(_records_of(attempt), kind=node.spec.kind, detail=job.spent_how)
        else:
            log = tail(self.executor.logs(job.handle).get("err"), stage, attempt)
            evidence = replace(_records_of(attempt), kind=node.spec.kind, asked=job.asked, detail=report.detail,
                               log=log)
        return self._act(node, job, report, attempt, evidence)

    def _act(self, node: Node, job: Job, report: JobReport, attempt: AttemptFolder | None, evidence: Evidence
             ) -> Action:
        """Classify, ask the policy, do what it says to the board, tell, and record: the ledger says what was done."""
        key = node.spec.fingerprint
        verdict, came = classify(evidence), _stretch(attempt)
        decision = self._records.setdefault(key, Record()).decide(End(
            failure=verdict.failure, asked=job.asked, advanced=came.saved > came.began,
            whole=key == job.first, trains="optim" in node.spec.sections, half_batch=self._half_batch(node),
            mended=job.adopted and self._has_space(node)), self.policy)
        reason = _reason(evidence, verdict, began=attempt is not None)
        text = f"{told(verdict.failure, reason)}; {decision.text}{_again(came, decision.action)}"
        if decision.action is Action.PAUSE:
            self._pause = StorageError(f"{node.label} {told(verdict.failure, reason)}")
        elif decision.action is Action.GIVE_UP:
            self._give_up(node, attempt, evidence, verdict, text)
        elif verdict.failure is not Failure.CANCELLED:
            if decision.action is Action.HALVE:
                self._micro_batch[key] = self._half_batch(node) or 1
            self._say("lost", key, f"{node.label}: {text}")
        if decision.action is not Action.PAUSE and verdict.failure is not Failure.CANCELLED:
            more: dict[str, Any] = {"micro_batch": self._micro_batch[key]} if decision.action is Action.HALVE else {}
            self.ledger.append(
                "failed" if decision.action is Action.GIVE_UP else "interrupted", fingerprint=key, text=text,
                attempt=attempt.number if attempt else 0, action=decision.action, evidence=list(verdict.evidence),
                detail=report.detail, node=report.node, time=_now(), saved_tokens=came.saved, lost_tokens=came.lost,
                **more, **{"class": verdict.failure})
        if verdict.failure is Failure.NODE and report.node:
            self._blame(report.node, key)
        return decision.action

    def _give_up(self, node: Node, attempt: AttemptFolder | None, evidence: Evidence, verdict: Verdict, text: str
                 ) -> None:
        key = node.spec.fingerprint
        self.board.fail(key, text)
        self._say("failed", key, f"{node.label}: {text}")
        self.breaker.died(Death(
            kind=node.spec.kind, label=node.label, failure=verdict.failure, seconds=_seconds(attempt, evidence),
            last_line=evidence.traceback[-1] if evidence.traceback else evidence.last_words,
            text="\n".join(evidence.traceback or evidence.log[-SHOWN_LINES:] or (text,))))

    def _blame(self, node: str, key: str) -> None:
        if self.nodes.note(node, key):
            self._say("excluded", key, f"node {node} gets no more jobs: {self.nodes.exclude_after} stages failed "
                                       "there; run.policy.exclude_node_after changes when")

    def _has_space(self, node: Node) -> bool:
        """Tell whether the store takes files: a person who made space runs the same command, and it is to go on."""
        return probe(self.planned.layout.stage(node.spec.kind, node.spec.fingerprint).path) is None

    def _half_batch(self, node: Node) -> int | None:
        """Return half of what a forward pass takes now, or the next less that divides a rank's share of the batch.

        None: it takes one sequence already, or its search has found no room for one.
        """
        optim = node.spec.sections.get("optim")
        if optim is None:
            return None
        execution = self.execution(node.spec.fingerprint)
        share = int(optim.values["batch_sequences"]) // execution.ranks
        micro = execution.sequences(share)
        if execution.micro_batch == AUTO:
            micro = last_noted(self.planned.layout.stage(node.spec.kind, node.spec.fingerprint)) or 1
        return next((n for n in range(micro // 2, 0, -1) if share % n == 0), None)

    def _cancel(self, keys: Sequence[str], detail: str) -> None:
        """Run no further what a person has cancelled on the cluster: every trial that needs one of the stages."""
        trials = self.board.users(keys)
        text = f"cancelled on the cluster{_by_whom(detail)}, seen {_now()}"
        self.ledger.append("cancelled", trials=trials, stages=list(keys), text=text, detail=detail, time=_now())
        self.board.cancel(trials, dict.fromkeys(trials, text))
        for key in keys:
            self.board.set(key, Status.CANCELLED, text)
        label = self.planned.graph.nodes[keys[0]].label
        self._say("cancelled", keys[0], f"{label}: {text}; {len(trials)} trials wait for `orchestrator retry`")

    def _say(self, kind: str, key: str, text: str) -> None:
        self.notify(Notice(kind=kind, stage=key, text=text))


# -- evidence ----------------------------------------------------------------------------------------------------------


def _attempt_of(stage: StageFolder, submission: str) -> AttemptFolder | None:
    """Return the newest attempt where it belongs to a submission."""
    number = records.newest_attempt(stage)
    if not number:
        return None
    attempt = stage.attempt(number)
    try:
        mine = files.read_json(attempt.execution).get("submission") == submission
    except (FileNotFoundError, ValueError):
        mine = True  # it was killed while it wrote that
    return attempt if mine else None


def _records_of(attempt: AttemptFolder | None) -> Evidence:
    """Return what the attempt itself left: of several ranks' reasons the one that is not about another rank."""
    if attempt is None:
        return Evidence()
    found = [Evidence(left=attempt.stopped.exists())]
    for path in sorted(attempt.path.glob(f"{attempt.failure.stem}*.json")):
        with suppress(FileNotFoundError, ValueError):
            raw = files.read_json(path)
            found.append(Evidence(
                error=str(raw.get("class") or "error"), message=str(raw.get("message", "")),
                traceback=tuple(str(line) for line in raw.get("traceback", ()) if str(line).strip())))
    told = [e for e in found if e.error]
    return next((e for e in told if classify(e).failure is not Failure.UNKNOWN), told[0] if told else found[0])


def tail(path: Path | None, stage: StageFolder, attempt: AttemptFolder | None) -> tuple[str, ...]:
    """Return the last lines of a job's log, from where it names the attempt: earlier ones are other stages'."""
    try:
        with (path or Path(os.devnull)).open("rb") as handle:
            handle.seek(max(0, os.fstat(handle.fileno()).st_size - TAIL_BYTES))
            lines = handle.read().decode("utf-8", "replace").splitlines()
    except OSError:
        return ()
    begins = re.compile(rf"{stage.kind}/{stage.fingerprint}: attempt {attempt.number}$" if attempt else ": attempt ")
    start = next((i + 1 for i in reversed(range(len(lines))) if begins.search(lines[i])), 0)
    return tuple(lines[start:][-TAIL_LINES:])


def _stretch(attempt: AttemptFolder | None) -> Stretch:
    """Return what an attempt trained; nothing where its records cannot be read."""
    if attempt is not None:
        with suppress(RecordError):
            return stretch(attempt)
    return Stretch(began=0, saved=0, reached=0)


def _again(came: Stretch, action: Action) -> str:
    """Return where an interrupted training goes on, and what of it is trained again."""
    if not came.reached or action not in (Action.RESUME, Action.HALVE):
        return ""
    return f" (at {came.saved:,} tokens; {came.lost:,} are trained again)"


def _reason(evidence: Evidence, verdict: Verdict, *, began: bool) -> str:
    """Return in a line what decided, and what the job said last."""
    if not began:
        last = f": {evidence.last_words}" if evidence.log else ""
        return f"its job ended before it began ({evidence.detail}){last}"
    return verdict.evidence[0].partition("\n")[0]


def _seconds(attempt: AttemptFolder | None, evidence: Evidence) -> float | None:
    """Return how long an attempt lived, by the file server's clock; None where nothing tells its end."""
    if attempt is None:
        return 0.0
    for last in (attempt.failure, attempt.metrics):
        with suppress(FileNotFoundError):
            return last.stat().st_mtime - attempt.execution.stat().st_mtime
    return None


def _by_whom(detail: str) -> str:
    """Return ` by NAME`, where Slurm's accounts told the user's number."""
    number = re.search(r"\bCANCELLED by (\d+)", detail)
    if number is None:
        return ""
    try:
        return f" by {pwd.getpwuid(int(number[1])).pw_name}"
    except (KeyError, OverflowError):
        return f" by user {number[1]}"


def _now() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
