"""Jobs on Slurm: one array a request by a script of submitit's, watched by one query however many there are.

submitit's own view of jobs is not used: it asks once a process, without a time-out, and takes a preempted job for one
that never ends (see `_slurm_watch`). Order of a submission: intent on disk, list of tickets and script, sbatch, id on
disk. A controller that dies in between, or whose sbatch got no answer, leaves an intent without an id: `find` looks for
it by name, and for long enough to be sure.
"""

from __future__ import annotations

import os
import re
import secrets
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from cluster.clients import Answer, Clients, NoAnswer, Why
from cluster.executors import _slurm_notes as notes
from cluster.executors import _slurm_queue as ask
from cluster.executors._slurm_notes import Submission
from cluster.executors._slurm_queue import Queue
from cluster.executors._slurm_starts import lasted_s, newest_start, where_it_ran, write_tickets
from cluster.executors._slurm_watch import MESSAGE_TIMEOUT_S, Watch
from cluster.failures import NEAR_LIMIT
from cluster.job import Executor, JobHandle, JobReport, JobRequest, JobState
from cluster.profiles import SlurmProfile, resolved_conf, spread
from sweeps.errors import EnvironmentError_, InDoubtError

Options = SlurmProfile
MAX_ARRAY_SIZE = 1001
"""Slurm's default."""
EARLY_S = 60.0
"""So much earlier than its lead may the time limit's signal come (sbatch(1), --signal)."""
ASK_AGAIN_S = 2.0
"""From one request to leave to the next: a job that has no process yet does not hear the first."""
FULL_S = 60.0
"""After a refusal for want of room, so long until more jobs than fitted are tried."""
LOOK_S = 1.0
"""Between two looks for a submission in doubt."""
REFUSED = re.compile(
    r"invalid (partition|account|qos|feature|generic|wckey|job|time|option|reservation|node|cpu|tres|license)"
    r"|violates|Submit\w*Limit|not available|not permitted|requested .* invalid|access/permission|unrecognized option"
    r"|unable to open",
    re.IGNORECASE)
"""What sbatch prints where nothing was submitted for certain. Everything else may have been."""
FULL = re.compile(r"\b(Assoc|QOS)\w*Submit\w*Limit\b")
"""What it prints, of those, where a limit on the number of queued jobs is reached: there will be room again."""
CLOSED = re.compile(r"(required partition|node configuration is) not available[^\n]*", re.IGNORECASE)
"""What it prints, of those, where a partition is drained or its nodes are away: they come back, if they ever were."""


def check_ranks(options: SlurmProfile, ranks: int) -> None:
    """See that the nodes of a profile take jobs of so many processes.

    Raises:
        UsageError: they do not.
    """
    spread(ranks, options)


def make(folder: Path, options: SlurmProfile) -> Executor:
    """Return the executor; it keeps its notes in `folder`."""
    return SlurmExecutor(folder, options, Clients(conf=resolved_conf(options), timeout_s=options.timeout_s))


@dataclass(kw_only=True)
class _Ceiling:
    """How many jobs the cluster's limits on queued jobs leave room for: Slurm says only yes or no to a whole array."""

    jobs: int = sys.maxsize
    _until: float = float("inf")

    def refused(self, live: int, count: int, now: float) -> None:
        """Note that beside `live` jobs there was no room for `count` more: half of them are tried next."""
        self.jobs, self._until = live + count // 2, now + FULL_S

    def at(self, now: float) -> int:
        """Return how many may be live; half as many again after a while, for others' jobs leave too."""
        if now >= self._until:
            self.jobs, self._until = self.jobs + max(1, self.jobs // 2), now + FULL_S
        return self.jobs


@dataclass(kw_only=True)
class _Doubt:
    """A submission of which nobody knows yet whether it has jobs."""

    text: str = ""
    look_at: float = float("-inf")
    """Not before."""
    absent_since: float | None = None
    """When an answer first lacked it."""


class SlurmExecutor:
    """Runs jobs on Slurm; see `cluster.job.Executor`."""

    detaches = True

    def __init__(self, folder: Path, profile: SlurmProfile, clients: Clients) -> None:
        """Keep notes in `folder`, one sub-folder per submission."""
        self._notes = folder
        self._profile = profile
        self._clients = clients
        self._watch = Watch(folder, clients, profile.interval_s)
        self._open: set[str] = set()
        """Submissions that may have live jobs, whichever controller made them."""
        self._listed: set[str] = set()
        """Names below the folder that were looked at."""
        self._cancelling: dict[str, float] = {}
        """Slurm's id -> when to kill it."""
        self._ask_again = 0.0
        self._ceiling = _Ceiling()
        self._accepted = False
        """Slurm took a submission of this profile: of this reign, or of an older one that may have live jobs."""
        self._closed_until = float("-inf")
        """Nothing is submitted before: what the profile asks for was not available, though it was before."""
        self._live = 0
        """Jobs of the store that took a slot at the last look."""
        self._doubts: dict[str, _Doubt] = {}
        self.leave_s = profile.grace_s + 2 * profile.interval_s + ASK_AGAIN_S

    # -- the five verbs ----------------------------------------------------------------------------------------------

    def slots_free(self) -> int:
        """How many more jobs may be submitted now, in one array; 0 where Slurm does not say."""
        self._discover()
        queue = self._watch.queue()
        if isinstance(queue, NoAnswer) or self._clients.clock() < self._closed_until:
            return 0
        live = 0
        for name in sorted(self._open):
            submission = self._watch.submission(name)
            count = self._watch.live(submission, queue) if submission else 0
            live += count
            if not count:
                notes.close(self._notes, name)
                self._open.discard(name)
        largest = int(self._profile.limits.array_tasks or self._watch.setting("MaxArraySize", MAX_ARRAY_SIZE))
        self._live = live
        return max(0, min(self._profile.slots - live, self._ceiling.at(self._clients.clock()) - live, largest))

    def submit(self, request: JobRequest) -> list[JobHandle]:
        """Submit one array.

        Raises:
            UsageError: the request cannot run with this profile.
            EnvironmentError_: too few slots are free, the name was used before, or Slurm refused or did not answer.
        """
        from cluster.executors._slurm_script import environment  # loads submitit, which only submitting needs

        text, name = self._checked(request), request.name
        submission = Submission(name=name, folder=request.folder, count=len(request.tickets),
                                token=secrets.token_hex(8))
        if not notes.intend(self._notes, submission):
            raise EnvironmentError_(f"submission {name} exists already; look it up with find")
        self._open.add(name)
        path = _write(request, text, submission.script)
        answer = self._clients.sbatch(str(path), environment(request, self._profile, os.environ))
        job = job_number(answer)
        if job is None:
            raise self._not_submitted(submission, path, answer)
        notes.number(self._notes, name, job)
        submission.job = job
        self._accepted = True
        self._watch.began(submission)
        return _handles(submission)

    def poll(self, handles: Sequence[JobHandle]) -> list[JobReport]:
        """State of each job, in the order given; also kills what ignored its cancellation."""
        if not handles:
            return []
        self._press()
        queue = self._watch.queue()
        if not isinstance(queue, NoAnswer):
            self._watch.observe(handles, queue)
        return [self._report(handle, queue) for handle in handles]

    def find(self, name: str) -> list[JobHandle]:
        """Jobs of a submission; [] where there are none, for certain.

        Raises:
            InDoubtError: sbatch gave no answer, and whether there are any cannot be told yet.
        """
        submission = self._watch.submission(name)
        if submission is None:
            return []
        if submission.job is None and not submission.refused:
            self._look_up(submission)
        return _handles(submission)

    def cancel(self, handles: Sequence[JobHandle]) -> None:
        """Remove the jobs that wait, ask those that run to checkpoint and leave; later polls kill what did not."""
        jobs = [h.job_id for h in handles if self._watch.submission(h.submission) is not None
                and h.job_id not in self._watch.ended and h.job_id not in self._cancelling]
        if jobs:
            self._cancelling.update(dict.fromkeys(jobs, self._clients.clock() + self._profile.grace_s))
            self._ask_to_leave(jobs)

    def logs(self, handle: JobHandle) -> Mapping[str, Path]:
        """Log files of a job's first rank: `out`, `err`; {} for a job that is not known."""
        submission = self._watch.submission(handle.submission)
        if submission is None:
            return {}
        return {kind: Path(submission.folder) / f"{handle.job_id}_0_log.{kind}" for kind in ("out", "err")}

    # -- submitting --------------------------------------------------------------------------------------------------

    def _checked(self, request: JobRequest) -> str:
        """Return the script of a request that may be submitted now."""
        from cluster.executors._slurm_script import script

        text = script(request, self._profile)
        free = self.slots_free()
        if len(request.tickets) > free and self._watch.submission(request.name) is None:
            raise EnvironmentError_(f"{request.name}: {len(request.tickets)} jobs, {free} of {self._profile.slots} "
                                    f"slots free{self._silence()}")
        return text

    def _silence(self) -> str:
        """Say that Slurm does not answer, where that is so."""
        queue = self._watch.queue()
        return f": {queue.text}" if isinstance(queue, NoAnswer) else ""

    def _not_submitted(self, submission: Submission, script: Path, answer: Answer | NoAnswer) -> EnvironmentError_:
        """Return the error of a submission that has no id; a refusal is noted, so that nobody looks for its jobs."""
        name = submission.name
        if refused(answer) and isinstance(answer, NoAnswer):
            notes.refuse(self._notes, name, answer.text)
            if limit := FULL.search(answer.text):
                self._ceiling.refused(self._live, submission.count, self._clients.clock())
                return EnvironmentError_(f"{name}: a limit of the cluster's on queued jobs ({limit.group()}) leaves no "
                                         f"room for {submission.count} more beside {self._live} of this store")
            if self._accepted and (closed := CLOSED.search(answer.text)):
                self._closed_until = self._clients.clock() + FULL_S
                return EnvironmentError_(f"{name}: Slurm takes no jobs for now ({closed.group()}), as it did before; "
                                         f"tried again every {FULL_S:.0f} s")
            return EnvironmentError_(f"{name}: Slurm refused it: {answer.text}; see {script} and the cluster profile")
        printed = answer.text if isinstance(answer, NoAnswer) else f"sbatch printed {answer.text!r}"
        return EnvironmentError_(f"{name}: {printed}; it may have been submitted all the same")

    def _look_up(self, submission: Submission) -> None:
        """Look for a submission in doubt, once, and not too often; note its id, or for good that it has none.

        Absence must last: for MessageTimeout a request may still lie in the daemon's socket.

        Raises:
            InDoubtError: neither is certain yet.
        """
        doubt, now = self._doubts.setdefault(submission.name, _Doubt()), self._clients.clock()
        if now < doubt.look_at:
            raise InDoubtError(doubt.text)
        found = ask.named(self._clients, submission.name, submission.script)
        if found == set():  # the daemon may have forgotten it
            past = ask.named_in_accounts(self._clients, submission.name, submission.script)
            found = found if isinstance(past, NoAnswer) else past
        doubt.look_at = now + max(LOOK_S, min(self._clients.resumes_s("squeue"), 10 * LOOK_S))
        if isinstance(found, NoAnswer):
            doubt.text = f"whether {submission.name} was submitted cannot be told: {found.text}"
        elif found:
            del self._doubts[submission.name]
            submission.job = min(found, key=int)
            notes.number(self._notes, submission.name, submission.job)
            return
        elif doubt.absent_since is not None and now - doubt.absent_since >= self._watch.setting(
                "MessageTimeout", MESSAGE_TIMEOUT_S):
            del self._doubts[submission.name]
            notes.refuse(self._notes, submission.name, "no job of this name was found")
            submission.refused = True
            return
        else:
            doubt.absent_since = now if doubt.absent_since is None else doubt.absent_since
            doubt.text = f"{submission.name}: sbatch gave no answer and Slurm has no such job yet"
        raise InDoubtError(doubt.text)

    # -- observing ---------------------------------------------------------------------------------------------------

    def _discover(self) -> None:
        """Learn of submissions that other controllers made under this folder."""
        if not self._notes.is_dir():
            return
        for name in {entry.name for entry in os.scandir(self._notes)} - self._listed:
            self._listed.add(name)
            if not notes.is_over(self._notes, name) and (found := self._watch.submission(name)) is not None:
                self._open.add(name)
                self._accepted |= found.job is not None

    def _report(self, handle: JobHandle, queue: Queue | NoAnswer) -> JobReport:
        state, detail = self._watch.state(handle, queue)
        if handle.job_id in self._cancelling:
            if state is JobState.ENDED:
                del self._cancelling[handle.job_id]
            else:
                detail = f"{detail}, cancelled"
        restarts, restarted, node = self._watch.restarted.get(handle.job_id, (0, "", ""))
        report = JobReport(handle=handle, state=state, detail=detail, restarts=restarts, restarted=restarted,
                           restarted_on=node if self._profile.nodes == 1 else "",
                           waits=self._watch.waits(handle.job_id, queue))
        if state is not JobState.ENDED or self._watch.submission(handle.submission) is None:
            return report
        return self._ended(report)

    def _ended(self, report: JobReport) -> JobReport:
        """Return the report of a job that has ended: with its node, and whether its time limit had come near.

        Preemption cuts a job's time short by setting its end to the end of the grace: one that leaves after that, and
        before it is killed, is TIMEOUT to Slurm (22.05, seen). Its own notes tell how long it really had.
        """
        handle, detail = report.handle, report.detail
        submission = self._watch.submission(handle.submission)
        assert submission is not None
        note, profile = newest_start(Path(submission.folder), handle.index), self._profile
        near_s = profile.time_limit_min * 60 - profile.lead_s - EARLY_S
        lasted = lasted_s(note)
        if detail == "exit 0" and lasted >= max(near_s, 0):
            detail = f"{detail}, {NEAR_LIMIT}"
        elif detail.startswith("TIMEOUT") and 0 < lasted < near_s:
            detail = f"PREEMPTED after {lasted:.0f} s ({detail})"
        node = where_it_ran(note) if profile.nodes == 1 else ""
        return report.model_copy(update={"detail": detail, "node": node})

    # -- cancelling --------------------------------------------------------------------------------------------------

    def _ask_to_leave(self, jobs: Sequence[str]) -> None:
        """Remove those that wait, signal those that run.

        Not by `--state=PENDING`: with some jobs of an array it cancels all of them that wait (22.05).
        """
        queue = self._watch.queue(fresh=True)
        rows = {} if isinstance(queue, NoAnswer) else {job: queue.row(job) for job in jobs}
        waiting = [job for job, row in rows.items() if row is None or row.reading.state is JobState.PENDING]
        rest = [job for job in jobs if job not in waiting]
        if waiting and isinstance(self._clients.scancel(*ask.compact(waiting)), Answer):
            self._watch.removed.update(waiting)
        if rest:
            self._clients.scancel("--signal=USR2", *ask.compact(rest))
        self._ask_again = self._clients.clock() + ASK_AGAIN_S
        self._watch.forget_queue()

    def _press(self) -> None:
        """Ask cancelled jobs again to leave, and kill those whose time to do so is over."""
        now = self._clients.clock()
        if not self._cancelling or now < self._ask_again:
            return
        late = [job for job, until in self._cancelling.items() if now >= until]
        rest = [job for job in self._cancelling if job not in late]
        if late:
            self._clients.scancel(*ask.compact(late))
            self._ask_again = now + ASK_AGAIN_S
        if rest:
            self._ask_to_leave(rest)


def _write(request: JobRequest, text: str, script: str) -> Path:
    """Write what sbatch and the jobs read; return the script's path."""
    folder = Path(request.folder)
    folder.mkdir(parents=True, exist_ok=True)
    write_tickets(folder, request.tickets)
    path = folder / script
    path.write_text(text, encoding="utf-8")
    return path


def refused(answer: Answer | NoAnswer) -> bool:
    """Tell whether sbatch's answer means that nothing was submitted, for certain."""
    return isinstance(answer, NoAnswer) and (answer.why is Why.MISSING or REFUSED.search(answer.text) is not None)


def job_number(answer: Answer | NoAnswer) -> str | None:
    """Return the id that sbatch printed; None where it printed none."""
    found = None if isinstance(answer, NoAnswer) else re.search(r"^(\d+)(;\S+)?\s*\Z", answer.text, re.MULTILINE)
    return found.group(1) if found else None


def _handles(submission: Submission) -> list[JobHandle]:
    return [JobHandle(submission=submission.name, index=index, job_id=job)
            for index, job in enumerate(submission.jobs)]
