"""Jobs as process groups on this machine, in a fixed number of slots. Jobs outlive the controller and are found again.

Order of a start: note on disk, process, process id on disk, then the word that lets the job begin. A controller may die
at any point in between: either the job is on record, or it never begins. One pass over /proc answers a whole poll;
nothing here starts a process per query. Slots are not pinned to cores: with one slot per core the kernel does well.
"""

from __future__ import annotations

import os
import re
import secrets
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, BinaryIO

from pydantic import Field

from cluster.executors._notes import Note, open_notes, read_exit, read_notes, read_process, write_process
from cluster.executors._process import Identity, alive, machine, start_time
from cluster.job import Executor, JobHandle, JobReport, JobRequest, JobState
from cluster.launch import GO, HELD_BACK, leave
from sweeps.errors import EnvironmentError_, UsageError
from sweeps.language.stage import Frozen
from sweeps.store import files

SLOT_MB = 2_000
"""Least memory of a slot, MB: torch and a tiny model need about 1 GB."""
GRACE_SECONDS = 10.0
"""From SIGTERM to SIGKILL."""
PASSED_ON = ("PATH", "HOME", "LANG", "TMPDIR", "VIRTUAL_ENV", "PYTHONPATH")
"""Variables that a job inherits, with all LC_*; secrets of the controller's environment do not travel."""
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")


class Options(Frozen):
    """Options of a profile."""

    slots: Annotated[int, Field(gt=0)] | None = None
    """Jobs at a time; None: one per core with 2 GB each."""
    cores: Annotated[int, Field(gt=0)] | None = None
    """CPU cores to use; None: those this process may run on."""
    memory_mb: Annotated[int, Field(gt=0)] | None = None
    """Memory to use, MB; None: what is available now."""


def make(folder: Path, options: Options) -> Executor:
    """Return the executor; it keeps its notes in `folder`."""
    cores = options.cores or len(os.sched_getaffinity(0))
    return LocalExecutor(folder, options.slots or default_slots(cores, options.memory_mb or _available_mb()))


def check_ranks(options: Options, ranks: int) -> None:
    """See that jobs of so many processes run here.

    Raises:
        UsageError: they do not.
    """
    if ranks != 1:
        raise UsageError(f"the local executor runs jobs of one process, not of {ranks}; leave it out, or name a Slurm "
                         "profile (on one machine: `orchestrator rehearsal up`, and --cluster rehearsal)")


def default_slots(cores: int, memory_mb: int) -> int:
    """Return how many slots a machine has: one per core, each with at least 2 GB; always one."""
    return max(1, min(cores, memory_mb // SLOT_MB))


def _available_mb() -> int:
    for line in Path("/proc/meminfo").read_text(encoding="ascii").splitlines():
        if line.startswith("MemAvailable:"):
            return int(line.split()[1]) // 1024
    return SLOT_MB


def command(ticket: str, note: Path, token: str) -> list[str]:
    """Return the command line of a job; -P keeps the folder it starts in out of the module path."""
    return [sys.executable, "-P", "-m", "cluster.launch", ticket, "--note", str(note), "--token", token]


def environment(request: JobRequest, inherited: Mapping[str, str]) -> dict[str, str]:
    """Return a job's environment: an allow-list, a thread for each of its cores, and what the request adds."""
    kept = {k: v for k, v in inherited.items() if k in PASSED_ON or k.startswith("LC_")}
    return {**kept, "OMP_NUM_THREADS": str(request.cores), **request.environment}


@dataclass(kw_only=True)
class _Job:
    """A job that has not ended as far as is known."""

    note: Note
    process: Identity | None = None
    child: int | None = None
    """Process id where this executor started it and has not collected it yet."""
    kill_at: float | None = None
    """When SIGTERM turns into SIGKILL; None: not cancelled."""


class LocalExecutor:
    """Runs jobs on this machine; see `cluster.job.Executor`."""

    detaches = False
    leave_s = 15.0
    """How long jobs may take to checkpoint after Ctrl-C; those that take longer are adopted by the next run."""

    def __init__(
        self, folder: Path, slots: int, *, grace_seconds: float = GRACE_SECONDS,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Keep notes in `folder`, one sub-folder per submission, and adopt what runs there."""
        self._folder = folder
        self._slots = slots
        self._grace = grace_seconds
        self._clock = clock
        self._jobs: dict[tuple[str, int], _Job] = {}
        self._known: set[str] = set()
        """Submissions whose notes have all been read."""

    # -- the five verbs ----------------------------------------------------------------------------------------------

    def slots_free(self) -> int:
        """Slots without a live job, whichever controller under this root started it."""
        self._discover()
        states = [self._observe(job)[0] for job in list(self._jobs.values())]
        return max(0, self._slots - sum(s in (JobState.PENDING, JobState.RUNNING) for s in states))

    def submit(self, request: JobRequest) -> list[JobHandle]:
        """Start one process group per ticket.

        Raises:
            UsageError: the request cannot run here.
            EnvironmentError_: too few slots are free, the name was used before, or no process could be started.
        """
        self._check(request)
        notes = [self._note(request, index) for index in range(len(request.tickets))]
        Path(request.folder).mkdir(parents=True, exist_ok=True)
        for note in notes:
            if not self._create(note):
                raise EnvironmentError_(f"submission {request.name} exists already; look it up with find")
        self._known.add(request.name)
        variables = environment(request, os.environ)
        for position, note in enumerate(notes):
            try:
                self._start(note, variables, Path(request.folder))
            except OSError as error:
                for rest in notes[position:]:
                    leave(rest.path(self._folder), code=None, detail=f"not started: {error}")
                raise EnvironmentError_(f"{request.name}: job {note.index} could not be started: {error}") from error
        return [self._handle(note) for note in notes]

    def poll(self, handles: Sequence[JobHandle]) -> list[JobReport]:
        """State of each job, in the order given; also reaps what has ended and kills what ignored its cancellation."""
        self._discover()
        reports = []
        for handle in handles:
            job = self._jobs.get((handle.submission, handle.index))
            state, detail = self._observe(job) if job else (JobState.ENDED, self._how_it_ended(handle))
            reports.append(JobReport(handle=handle, state=state, detail=detail))
        return reports

    def find(self, name: str) -> list[JobHandle]:
        """Jobs of a submission, from the notes on disk; [] where there are none."""
        return [self._handle(note) for note in read_notes(self._folder, name)]

    def cancel(self, handles: Sequence[JobHandle]) -> None:
        """Send SIGTERM to the jobs' process groups; later polls send SIGKILL when the grace is over."""
        self._discover()
        for handle in handles:
            job = self._jobs.get((handle.submission, handle.index))
            if job is not None and self._observe(job)[0] is JobState.RUNNING and job.kill_at is None:
                job.kill_at = self._clock() + self._grace
                self._signal(job, signal.SIGTERM)

    def logs(self, handle: JobHandle) -> Mapping[str, Path]:
        """Log files of a job: `out`, `err`; {} for a job that is not known."""
        notes = {note.index: note for note in read_notes(self._folder, handle.submission)}
        note = notes.get(handle.index)
        return {"out": Path(note.out), "err": Path(note.err)} if note else {}

    # -- starting ----------------------------------------------------------------------------------------------------

    def _check(self, request: JobRequest) -> None:
        if not NAME.fullmatch(request.name):
            raise UsageError(f"submission name {request.name!r}: use letters, digits, '.', '_' and '-'")
        check_ranks(Options(), request.ranks)
        free = self.slots_free()
        if len(request.tickets) > free:
            raise EnvironmentError_(f"{request.name}: {len(request.tickets)} jobs, {free} of {self._slots} slots free")

    def _note(self, request: JobRequest, index: int) -> Note:
        host, boot = machine()
        folder = Path(request.folder).absolute()
        return Note(
            submission=request.name, index=index, count=len(request.tickets), token=secrets.token_hex(16),
            ticket=str(Path(request.tickets[index]).absolute()), host=host, boot=boot, submitter_pid=os.getpid(),
            submitter_start=start_time(os.getpid()) or 0, out=str(folder / f"{index}.out"),
            err=str(folder / f"{index}.err"),
        )

    def _create(self, note: Note) -> bool:
        return files.create(note.path(self._folder), files.to_json(note.model_dump()))

    def _start(self, note: Note, variables: Mapping[str, str], folder: Path) -> None:
        path = note.path(self._folder).absolute()
        with _log(note.out) as out, _log(note.err) as err:
            before = signal.pthread_sigmask(signal.SIG_BLOCK, HELD_BACK)  # the child inherits this
            try:
                child = subprocess.Popen(
                    command(note.ticket, path, note.token), stdin=subprocess.PIPE, stdout=out, stderr=err, cwd=folder,
                    env=dict(variables), start_new_session=True,
                )
            finally:
                signal.pthread_sigmask(signal.SIG_SETMASK, before)
        child.returncode = 0  # `_reap` collects it; this stops Popen from warning that it still runs
        assert child.stdin is not None
        process = Identity(pid=child.pid, start=start_time(child.pid) or 0, token=note.token)
        self._jobs[note.submission, note.index] = _Job(note=note, process=process, child=child.pid)
        write_process(path, process)
        with suppress(BrokenPipeError):  # it died at once; the next poll says so
            child.stdin.write(f"{GO}\n".encode())
            child.stdin.close()

    def _handle(self, note: Note) -> JobHandle:
        process = read_process(note.path(self._folder), note.token)
        return JobHandle(submission=note.submission, index=note.index, job_id=str(process.pid) if process else "")

    # -- observing ---------------------------------------------------------------------------------------------------

    def _discover(self) -> None:
        """Adopt jobs of submissions that other controllers made under this folder."""
        if not self._folder.is_dir():
            return
        for name in {entry.name for entry in os.scandir(self._folder)} - self._known:
            notes, whole = open_notes(self._folder, name)
            for note in notes:
                self._jobs.setdefault((name, note.index), _Job(note=note))
            if whole:
                self._known.add(name)

    def _observe(self, job: _Job) -> tuple[JobState, str]:
        """Return a job's state, reaping or killing it where due; forget it once it has ended."""
        host, boot = machine()
        if job.note.boot != boot and job.note.host != host:
            return JobState.UNKNOWN, f"runs on {job.note.host}"
        path = job.note.path(self._folder)
        status = self._reap(job)
        if job.process is None:  # the submitter first: were it asked last, it could record and begin the job in between
            late = job.note.boot == boot and alive(
                Identity(pid=job.note.submitter_pid, start=job.note.submitter_start))
            job.process = read_process(path, job.note.token)
            if job.process is None and late and read_exit(path) is None:
                return JobState.PENDING, "starting"
        if job.process is not None and job.note.boot == boot and alive(job.process):
            if job.kill_at is not None and self._clock() >= job.kill_at:
                self._signal(job, signal.SIGKILL)
            return JobState.RUNNING, "cancelled" if job.kill_at is not None else ""
        del self._jobs[job.note.submission, job.note.index]
        if read_exit(path) is None:
            leave(path, code=None, detail=status or ("never began" if job.process is None else "killed"))
        return JobState.ENDED, read_exit(path) or ""

    def _reap(self, job: _Job) -> str:
        """Collect a child that has ended, with what is left of its group; return how it ended where that is known."""
        if job.child is None:
            return ""
        try:
            if os.waitid(os.P_PID, job.child, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None:
                return ""
            with suppress(ProcessLookupError, PermissionError):  # its id cannot be in use again before the wait below
                os.killpg(job.child, signal.SIGKILL)
            code = os.waitstatus_to_exitcode(os.waitpid(job.child, 0)[1])
        except ChildProcessError:  # somebody else in this process collected it
            job.child = None
            return ""
        job.child = None
        return f"killed by signal {-code}" if code < 0 else f"exit {code}"

    def _signal(self, job: _Job, number: signal.Signals) -> None:
        if job.process is not None and alive(job.process):
            with suppress(ProcessLookupError):
                os.killpg(job.process.pid, number)

    def _how_it_ended(self, handle: JobHandle) -> str:
        return read_exit(self._folder / handle.submission / f"{handle.index}.json") or "not known here"


def _log(path: str) -> BinaryIO:
    return Path(path).open("ab")
