"""The executor seam: five verbs. A shipped fake (`executors/memory.py`) keeps the same contract."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from enum import StrEnum
from pathlib import Path
from typing import Protocol

from sweeps.language.stage import Frozen


class JobState(StrEnum):
    """What a job is doing, as far as the executor can tell."""

    PENDING = "pending"
    RUNNING = "running"
    ENDED = "ended"
    """It will not run any more; whether its stages are complete is for the store to say."""
    UNKNOWN = "unknown"
    """No good answer now; never terminal."""


class JobRequest(Frozen):
    """One array submission: what will run, in full. Built purely, shown by `plan`, then submitted."""

    name: str
    """Unique submission name, looked up after a crash before anything is submitted again."""
    tickets: tuple[str, ...]
    """Ticket files; one job each, in this order."""
    folder: str
    """Where logs and the executor's own notes go."""
    environment: dict[str, str] = {}
    """Allow-listed variables for the job, beyond those of the profile."""
    cores: int = 1
    """CPU cores of one job."""
    memory_mb: int = 2_000
    """Memory of one job, all its ranks together, but for activations."""
    activations_mb: int = 0
    """Memory of its activations; they lie on the GPUs where the cluster has some."""
    ranks: int = 1
    """Processes of one job."""
    gpus: bool = True
    """Its ranks get a GPU each where the cluster has some. False: no stage of its jobs holds a model."""
    exclude: tuple[str, ...] = ()
    """Nodes on which no job is to run, beside those that the profile excludes."""


class JobHandle(Frozen):
    """One submitted job."""

    submission: str
    index: int
    """Position of its ticket in the request."""
    job_id: str
    """The executor's own name for it."""


class JobReport(Frozen):
    """Answer to a state query."""

    handle: JobHandle
    state: JobState
    detail: str = ""
    """The executor's own word (`PREEMPTED`, `exit 1`, `killed by signal 9`); `cluster.failures` reads it."""
    node: str = ""
    """The one node on which it last ran, as `JobRequest.exclude` names it; empty: several, or not known."""
    restarts: int = 0
    """How often the cluster itself has started it again, as far as it is known why, or will not be known any more."""
    restarted: str = ""
    """The executor's words for how those starts ended, the newest last; empty: nobody says."""
    restarted_on: str = ""
    """The one node of the newest of those starts, as `JobRequest.exclude` names it; empty: several, or not known."""
    waits: str = ""
    """Why it waits, where that is more than its turn: a limit, a hold. A person may have to do something."""


class Executor(Protocol):
    """Five verbs. None of them decides anything."""

    detaches: bool
    """Jobs belong to a cluster that goes on without us: Ctrl-C leaves them alone. Else it asks them to leave."""
    leave_s: float
    """Seconds after which jobs that were asked to leave are gone, or killed by whoever still polls."""

    def slots_free(self) -> int:
        """How many more jobs may be submitted now."""
        ...

    def submit(self, request: JobRequest) -> list[JobHandle]:
        """Start one job per ticket.

        Raises:
            EnvironmentError_: the cluster refused or did not answer (it may still have accepted: use `find`).
        """
        ...

    def poll(self, handles: Sequence[JobHandle]) -> list[JobReport]:
        """State of each job, in one batched query, in the order given."""
        ...

    def find(self, name: str) -> list[JobHandle]:
        """Jobs of a submission, looked up by name; [] where there are none, for certain.

        Raises:
            InDoubtError: whether there are any cannot be told now; ask again, and submit nothing in their place.
        """
        ...

    def cancel(self, handles: Sequence[JobHandle]) -> None:
        """Ask the jobs to checkpoint and leave, then kill them; returns at once."""
        ...

    def logs(self, handle: JobHandle) -> Mapping[str, Path]:
        """Log files of a job: `out`, `err`."""
        ...
