"""Who owns a sweep: a process (host, boot, pid, start time: a reused pid is never taken for its former owner), or the
Slurm job in which that process runs. A job owns the sweep from its submission to its end, through all its starts: while
a requeued job waits there is no process, and its next one may run on another host.
"""

from __future__ import annotations

import os
import socket
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

JOB_VARIABLE = "ORCHESTRATOR_CONTROLLER"
"""Set inside a controller's Slurm job, to the job's name; nothing that the controller submits gets it."""
Standing = tuple[bool | None, str]
"""Whether an owner lives (None: nobody can tell now), and who it is, in words."""


def process_start(pid: int) -> int | None:
    """Return a process's start time in clock ticks since boot, or None where it is gone or a zombie (proc(5))."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except (FileNotFoundError, ProcessLookupError):
        return None
    fields = stat.rpartition(")")[2].split()
    return None if fields[0] in ("Z", "X") else int(fields[19])


def boot_id() -> str:
    """Return the kernel's id of this boot: pids and start times mean nothing across boots."""
    return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()


def _minutes(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 120 else f"{seconds / 60:.0f} min"


@dataclass(frozen=True, kw_only=True)
class SlurmJob:
    """The Slurm job of a controller."""

    name: str
    """Unique: Slurm is asked by it, so that a submission in doubt is found as well."""
    id: str = ""
    """Slurm's; empty until sbatch has said it."""
    restart: int = -1
    """How often Slurm had requeued it when this process began; -1: before its first start."""
    conf: str = ""
    """slurm.conf of its cluster; empty: Slurm's default place."""

    @classmethod
    def mine(cls) -> SlurmJob | None:
        """The controller's job in which this process runs; None outside of one."""
        name = os.environ.get(JOB_VARIABLE)
        return None if not name else cls(
            name=name, id=os.environ.get("SLURM_JOB_ID", ""), conf=os.environ.get("SLURM_CONF", ""),
            restart=int(os.environ.get("SLURM_RESTART_COUNT", "0")))


@dataclass(frozen=True, kw_only=True)
class Owner:
    """A process of a host, and the Slurm job that it is the controller of, if any."""

    host: str
    boot: str
    pid: int
    start: int
    job: SlurmJob | None = None

    @classmethod
    def me(cls) -> Owner:
        """This process."""
        pid = os.getpid()
        return cls(host=socket.gethostname(), boot=boot_id(), pid=pid, start=process_start(pid) or 0,
                   job=SlurmJob.mine())

    @classmethod
    def read(cls, raw: dict[str, Any]) -> Owner:
        """Return the owner that `fields` wrote."""
        job = raw.get("job")
        return cls(host=raw["host"], boot=raw["boot"], pid=raw["pid"], start=raw["start"],
                   job=SlurmJob(**job) if job else None)

    def fields(self) -> dict[str, Any]:
        """Return JSON fields."""
        return asdict(self)

    def text(self) -> str:
        """Return `Slurm job 7` or `pid N on HOST`."""
        return f"pid {self.pid} on {self.host}" if self.job is None else f"Slurm job {self.job.id or self.job.name}"

    def age(self) -> str:
        """Return `, running for 12 min`; empty where only another host, or Slurm, could tell."""
        seconds = None if self.job is not None else self.age_seconds()
        return "" if seconds is None else f", running for {_minutes(seconds)}"

    def age_seconds(self) -> float | None:
        """Seconds since the process started, by this host's monotonic clock; None for other hosts and boots."""
        if self.host != socket.gethostname() or self.boot != boot_id():
            return None
        return max(time.clock_gettime(time.CLOCK_BOOTTIME) - self.start / os.sysconf("SC_CLK_TCK"), 0.0)

    def alive(self) -> bool | None:
        """True or False on this host; None where only another host could tell."""
        if self.host != socket.gethostname():
            return None
        return self.boot == boot_id() and process_start(self.pid) == self.start

    def standing(self) -> Standing:
        """Return whether the process lives, and who it is."""
        alive = self.alive()
        return alive, self.text() + ("" if alive is not None else " (only that host can tell whether it lives)")

    def succeeded_by(self, other: Owner) -> bool:
        """True where `other` is a later start of the same Slurm job: then Slurm itself says that this one is over."""
        return (self.job is not None and other.job is not None and self.job.name == other.job.name
                and self.job.restart < other.job.restart)
