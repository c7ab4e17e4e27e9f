"""Which of a job's processes this is. Rank 0 decides and writes; the others follow what it announces.

The decision on each stage is one small file in the submission's folder, under a name that a restarted job does not
reuse. Jobs of one process announce nothing.
"""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from sweeps.errors import EnvironmentError_
from sweeps.store import files
from sweeps.store.layout import AttemptFolder, StageFolder
from sweeps.store.records import Attempt, Parent

NOT_RUN = 0
"""Announced in place of an attempt's number: the stage is left alone."""
LEAVE = -1
"""Announced in place of an attempt's number: the job was asked to leave."""
WAIT_SECONDS = 600.0
"""Longest wait for rank 0, which may be loading or checking a large stage."""


def threads() -> int:
    """Return how many threads this process may use: OMP_NUM_THREADS, which a job gets from its cores; else one."""
    first = os.environ.get("OMP_NUM_THREADS", "").partition(",")[0].strip()
    return max(1, int(first)) if first.isdecimal() else 1


def cores() -> int:
    """Return how many cores a stage may use whose result is the same for any number: those that Slurm gave the task,
    which may be more than its `threads`."""
    given = os.environ.get("SLURM_CPUS_PER_TASK", "")
    return max(threads(), min(int(given), len(os.sched_getaffinity(0))) if given.isdecimal() else 1)


@dataclass(frozen=True, kw_only=True)
class Ranks:
    """This process among those of its job."""

    rank: int = 0
    size: int = 1
    folder: Path | None = None
    """Where rank 0 announces; None for a job of one process."""
    run: str = ""
    """Unique for each start of the job."""

    @classmethod
    def of(cls, environment: Mapping[str, str], folder: Path) -> Ranks:
        """Read RANK and WORLD_SIZE, and RUN_ID or Slurm's job id and restart count.

        Raises:
            EnvironmentError_: several ranks, but nothing that tells one start of the job from the next.
        """
        size = int(environment.get("WORLD_SIZE", "1"))
        if size == 1:
            return cls()
        slurm = environment.get("SLURM_JOB_ID", "")
        run = environment.get("RUN_ID") or (slurm and f"{slurm}.{environment.get('SLURM_RESTART_COUNT', '0')}")
        if not run:
            raise EnvironmentError_("WORLD_SIZE is set, but neither RUN_ID nor SLURM_JOB_ID; set RUN_ID for all ranks")
        return cls(rank=int(environment["RANK"]), size=size, folder=folder, run=run)

    @property
    def leads(self) -> bool:
        """True for the process that decides and writes."""
        return self.rank == 0

    def announce(self, position: int, attempt: int) -> None:
        """Tell the other ranks the attempt of the ticket's stage at `position`, or NOT_RUN, or LEAVE."""
        if self.folder is not None and self.leads:
            text = files.to_json({"schema_version": files.SCHEMA_VERSION, "attempt": attempt})
            files.create(self._path(position), text)

    def await_attempt(self, position: int) -> int:
        """Return what rank 0 announced for the stage at `position`.

        Raises:
            EnvironmentError_: it announced nothing in ten minutes.
        """
        deadline = time.monotonic() + WAIT_SECONDS
        while time.monotonic() < deadline:
            try:
                return int(files.read_json(self._path(position))["attempt"])
            except FileNotFoundError:
                time.sleep(0.05)
        raise EnvironmentError_(f"rank 0 announced no attempt in {WAIT_SECONDS:.0f} s; see its log")

    def _path(self, position: int) -> Path:
        assert self.folder is not None
        return self.folder / f"run-{self.run}-{position}.json"


class Follower(Attempt):
    """The attempt as ranks other than 0 see it: its paths; what they would write is dropped."""

    def __init__(self, stage: StageFolder, folder: AttemptFolder) -> None:
        """Open nothing."""
        self.stage = stage
        self.folder = folder

    def set_parent(self, parent: Parent) -> None:
        """Rank 0 records it."""

    def row(self, *, tokens: int, kind: str, values: Mapping[str, float]) -> None:
        """Rank 0 writes rows."""

    def checkpoint_folder(self, tokens: int) -> Path:
        """Return the folder that rank 0 makes; wait at a barrier before writing into it."""
        return self.folder.checkpoint(tokens)

    def commit_checkpoint(self, tokens: int) -> None:
        """Rank 0 commits."""

    def commit(self, result: Mapping[str, float], *, status: str = "done", seconds: float = 0.0) -> bool:
        """Rank 0 commits."""
        return False

    def close(self) -> None:
        """Nothing is open."""
