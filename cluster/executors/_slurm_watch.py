"""What became of each job: one look at Slurm's queue an interval, and what is concluded from it.

A job is over when the controller daemon says so. One that the daemon's good answer lacks is over when it noted its own
end, when the accounts say so, or when it is still lacking after the longest time that a message may take, by two
programs. Without an answer nothing is concluded. A requeued job is back in the daemon's queue at once, so an old record
in the accounts (which may say PREEMPTED or NODE_FAIL) never ends it.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from cluster.clients import Clients, NoAnswer, Why
from cluster.executors import _slurm_notes as notes
from cluster.executors import _slurm_queue as ask
from cluster.executors._slurm_notes import Submission
from cluster.executors._slurm_queue import Queue, Row
from cluster.executors._slurm_starts import how_it_ended, newest_start, start_note, where_it_ran
from cluster.job import JobHandle, JobState
from cluster.states import TURN

MESSAGE_TIMEOUT_S = 10.0
"""Slurm's default: for so long a submission may be on its way, sbatch's own end notwithstanding."""
ACCOUNTS_LAG_S = 10.0
"""How long the accounts may take to say how a job ended that left no word of its own, and who cancelled it."""


class Watch:
    """The jobs of one store on one cluster, as far as this process knows them."""

    def __init__(self, folder: Path, clients: Clients, interval_s: float) -> None:
        """Look at most every `interval_s` seconds; the executor's notes lie in `folder`."""
        self.folder = folder
        self.clients = clients
        self.interval_s = interval_s
        self.removed: set[str] = set()
        """Slurm's ids of jobs that were cancelled while they waited; Slurm need not keep a trace of them."""
        self.ended: dict[str, str] = {}
        """Slurm's id -> how it ended."""
        self.restarted: dict[str, tuple[int, str, str]] = {}
        """Slurm's id -> how often Slurm has started it again by itself, how those starts ended, and the node on which
        the first rank of the newest of them ran."""
        self._known: dict[str, Submission] = {}
        self._submitted: dict[str, float] = {}
        self._absent: dict[str, float] = {}
        """Slurm's id -> when a good answer first lacked it."""
        self._mute: dict[str, float] = {}
        """Slurm's id -> when it was first known to have ended without a word."""
        self._again: dict[str, tuple[float, float]] = {}
        """Slurm's id -> when it was first seen to be started again by Slurm itself, and last asked why, in vain."""
        self._last: Queue | None = None
        self._looked_up: tuple[float, set[str]] = (0.0, set())
        """When the newest queue was taken, and the jobs that were looked up elsewhere since."""
        self._config: dict[str, str] | None = None

    # -- what is known -----------------------------------------------------------------------------------------------

    def submission(self, name: str) -> Submission | None:
        """Return a submission that this executor made, in whichever process; None where it made none of that name."""
        found = self._known.get(name)
        if found is None or (found.job is None and not found.refused):  # another process may know its id by now
            found = notes.load(self.folder, name)
            if found is not None:
                self._known[name] = found
        return found

    def began(self, submission: Submission) -> None:
        """Note that sbatch has just answered: a queue taken before need not have the jobs."""
        self._known[submission.name] = submission
        self._submitted[submission.name] = self.clients.clock()

    def is_young(self, name: str, queue: Queue) -> bool:
        """Tell whether a submission may be too young to be in the queue."""
        return self._submitted.get(name, float("-inf")) >= queue.taken

    def setting(self, key: str, default: float) -> float:
        """Return a number of the cluster's configuration; the default where Slurm does not say."""
        if self._config is None:
            answer = ask.settings(self.clients)
            if isinstance(answer, NoAnswer):
                return default
            self._config = answer
        number = re.match(r"\d+", self._config.get(key, ""))
        return float(number.group()) if number else default

    # -- looking -----------------------------------------------------------------------------------------------------

    def queue(self, *, fresh: bool = False) -> Queue | NoAnswer:
        """Return what Slurm said at most an interval ago; `fresh`: what it says now."""
        if not fresh and self._last is not None and self.clients.clock() - self._last.taken < self.interval_s:
            return self._last
        queue = ask.look(self.clients)
        self._last = None if isinstance(queue, NoAnswer) else queue
        return queue

    def forget_queue(self) -> None:
        """Let the next look be a new one."""
        self._last = None

    def live(self, submission: Submission, queue: Queue) -> int:
        """Return how many jobs of a submission take a slot; all of them while it is in doubt."""
        if submission.refused:
            return 0
        if submission.job is None or self.is_young(submission.name, queue):
            return submission.count
        rows = (queue.row(job) for job in submission.jobs)
        return sum(row is not None and row.reading.state is not JobState.ENDED for row in rows)

    def observe(self, handles: Sequence[JobHandle], queue: Queue) -> None:
        """Find out which jobs have ended, and how; what is asked is asked once for all of them, and once a queue."""
        if self._looked_up[0] != queue.taken:
            self._looked_up = queue.taken, set()
        self._observe_restarts(handles, queue)
        over: dict[JobHandle, Row | None] = {}
        for handle in handles:
            job, row = handle.job_id, queue.row(handle.job_id)
            if job in self.ended or job in self._looked_up[1] or self.submission(handle.submission) is None:
                continue
            if row is not None and row.reading.state is not JobState.ENDED:
                self._absent.pop(job, None)
            elif row is not None or not self.is_young(handle.submission, queue):
                over[handle] = row
        self._looked_up[1].update(handle.job_id for handle in over)
        own = {handle: self._own_word(handle) for handle in over}
        past, late = self._past([h.job_id for h, row in over.items() if not own[h] or _cancelled(row)], queue)
        gone = self._gone([h.job_id for h, row in over.items() if not (row or own[h] or h.job_id in past)], queue)
        for handle, row in over.items():
            job = handle.job_id
            if job not in late and (row or own[handle] or job in past or job in gone):
                self.ended[job] = how(row, own[handle], past.get(job)) or self._without_trace(handle)

    def _observe_restarts(self, handles: Sequence[JobHandle], queue: Queue) -> None:
        """Find out why Slurm has started jobs again by itself: from the accounts, in one call, and once a queue."""
        now, new = queue.taken, dict[str, tuple[int, Row, JobHandle]]()
        for handle in handles:
            job, row = handle.job_id, queue.row(handle.job_id)
            before, *_ = self.restarted.get(job, (0, "", ""))
            if (row is not None and row.restarts > before and self._again.get(job, (now, 0.0))[1] != now
                    and self.submission(handle.submission) is not None):
                new[job] = before, row, handle
        words = ask.starts(self.clients, new) if new else {}
        for job, (before, row, handle) in new.items():
            told = [] if isinstance(words, NoAnswer) else words.get(job, [])[:row.restarts]
            known = len(told) == row.restarts and "RUNNING" not in told
            never = row.reading.state is JobState.ENDED or (isinstance(words, NoAnswer) and words.why is Why.DISABLED)
            first, _ = self._again.pop(job, (now, now))
            if known or never or now - first >= ACCOUNTS_LAG_S:
                node = where_it_ran(start_note(self._folder_of(handle), handle.index, row.restarts - 1))
                self.restarted[job] = row.restarts, ", ".join(told[before:]) if known else "", node
            else:
                self._again[job] = first, now

    def state(self, handle: JobHandle, queue: Queue | NoAnswer) -> tuple[JobState, str]:
        """Return a job's state, after `observe`."""
        if handle.job_id in self.ended:
            return JobState.ENDED, self.ended[handle.job_id]
        if self.submission(handle.submission) is None:
            return JobState.ENDED, "not known here"
        if isinstance(queue, NoAnswer):
            return JobState.UNKNOWN, queue.text
        row = queue.row(handle.job_id)
        if row is None:
            young = self.is_young(handle.submission, queue)
            return (JobState.PENDING, "submitted") if young else (JobState.UNKNOWN, "not in the queue; looking again")
        if row.reading.state is JobState.ENDED:
            return JobState.UNKNOWN, f"{row.reading.word}; waiting for the accounts"
        if row.reading.unknown:
            return JobState.UNKNOWN, f"state {row.reading.word}, which this release does not know"
        return row.reading.state, _word_and_reason(row)

    def waits(self, job: str, queue: Queue | NoAnswer) -> str:
        """Return why a job waits, where that is more than its turn; empty where it is not."""
        row = None if isinstance(queue, NoAnswer) else queue.row(job)
        if row is None or row.reading.state is not JobState.PENDING:
            return ""
        return _word_and_reason(row) if row.reading.held or row.detail.partition(",")[0] not in TURN else ""

    # -- inside ------------------------------------------------------------------------------------------------------

    def _folder_of(self, handle: JobHandle) -> Path:
        submission = self.submission(handle.submission)
        assert submission is not None
        return Path(submission.folder)

    def _own_word(self, handle: JobHandle) -> str:
        return how_it_ended(self._folder_of(handle), handle.index)

    def _past(self, jobs: Sequence[str], queue: Queue) -> tuple[dict[str, Row], set[str]]:
        """Return what the accounts have of jobs that have ended, and the jobs of which they may say so soon."""
        rows = ask.accounts(self.clients, jobs) if jobs else {}
        if isinstance(rows, NoAnswer):
            return {}, set()
        found = {job: ask.of(rows, job) for job in jobs}
        # The accounts were seen to have COMPLETED for a moment of a job that the daemon already had as CANCELLED.
        past = {job: row for job, row in found.items() if row is not None and row.reading.state is JobState.ENDED
                and (_cancelled(row) or not _cancelled(queue.row(job)))}
        rest = [job for job in jobs if job not in past and job not in self.removed and queue.row(job)]
        return past, {job for job in rest if queue.taken - self._mute.setdefault(job, queue.taken) < ACCOUNTS_LAG_S}

    def _gone(self, jobs: Sequence[str], queue: Queue) -> set[str]:
        """Return which of the jobs that the queue lacks are gone: by our doing, or after a second look elsewhere."""
        mine = self.removed.intersection(jobs)
        rest = [job for job in jobs if job not in mine]
        settle_s = self.setting("MessageTimeout", MESSAGE_TIMEOUT_S) if rest else 0.0
        since = [job for job in rest if queue.taken - self._absent.setdefault(job, queue.taken) >= settle_s]
        rows = ask.witness(self.clients) if since else {}
        if isinstance(rows, NoAnswer):
            return mine
        found = {job: ask.of(rows, job) for job in since}
        return mine | {job for job, row in found.items() if row is None or row.reading.state is JobState.ENDED}

    def _without_trace(self, handle: JobHandle) -> str:
        """Say what it means that neither the queue nor the accounts have a job."""
        began = newest_start(self._folder_of(handle), handle.index).exists()
        return "gone: neither the queue nor the accounts have it" if began else "CANCELLED before it began"


def _cancelled(row: Row | None) -> bool:
    """Tell whether somebody cancelled the job: who it was, only the accounts know."""
    return row is not None and "CANCELLED" in row.reading.words


def _word_and_reason(row: Row) -> str:
    return row.reading.word + ("" if row.detail in ("", "None") else f" ({row.detail})")


def how(row: Row | None, own: str, remembered: Row | None) -> str:
    """Return how a job ended: its own word, and Slurm's where that adds something; empty where nobody says."""
    word = row.reading.word if row else ""
    if own and word in ("", "COMPLETED", "FAILED"):
        return own
    if own:
        return f"{remembered.detail.partition(',')[0] if remembered else word}, {own}"
    return remembered.detail if remembered is not None else word
