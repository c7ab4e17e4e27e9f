"""Processes of a rehearsal that no daemon will end: steps, jobs and clients, found in /proc."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from cluster.executors._process import start_time
from cluster.rehearsal.describe import Rehearsal

PROGRAMS = frozenset({
    "munged", "mariadbd", "slurmdbd", "slurmctld", "slurmd", "slurmstepd", "srun", "sbatch", "salloc", "sattach",
    "sacct", "sacctmgr", "squeue", "sinfo", "scontrol", "scancel", "sdiag", "sprio", "sreport", "sstat", "strigger",
})
"""Programs of Slurm and its helpers. A person's shell has the rehearsal's SLURM_CONF too, and is none of them."""


@dataclass(frozen=True, kw_only=True)
class Leftover:
    """One process."""

    pid: int
    command: str


def find(rehearsal: Rehearsal) -> list[Leftover]:
    """Return the live processes that belong to a rehearsal, but never this process or one of its ancestors.

    They are jobs (this cluster's SLURM_CONF and a job id in the environment), Slurm's own programs with that
    SLURM_CONF, and slurmstepd, which overwrites its environment and is known by its working directory.
    """
    mine = set(_ancestors(os.getpid()))
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and int(entry.name) not in mine and _belongs(entry, rehearsal):
            found.append(Leftover(pid=int(entry.name), command=_command(entry)))
    return [f for f in found if start_time(f.pid) is not None]  # a zombie is gone


def _belongs(entry: Path, rehearsal: Rehearsal) -> bool:
    try:
        command = (entry / "comm").read_text(encoding="utf-8", errors="replace").strip()
        if command == "slurmstepd" and (entry / "cwd").readlink().is_relative_to(rehearsal.folder):
            return True
        variables = (entry / "environ").read_bytes().split(b"\0")
    except OSError:  # gone meanwhile, or somebody else's
        return False
    if f"SLURM_CONF={rehearsal.conf}".encode() not in variables:
        return False
    return command in PROGRAMS or any(v.startswith((b"SLURM_JOB_ID=", b"SLURM_JOBID=")) for v in variables)


def _ancestors(pid: int) -> Iterator[int]:
    while pid > 0:
        yield pid
        try:
            stat = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
        except OSError:
            return
        pid = int(stat.rpartition(")")[2].split()[1])


def _command(entry: Path) -> str:
    with suppress(OSError):
        words = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode("utf-8", "replace").strip()
        return words[:120]
    return ""


def kill(rehearsal: Rehearsal, *, timeout_s: float = 8.0) -> list[Leftover]:
    """Kill what is left, again and again (a dying job may start another process); return what survives."""
    deadline = time.monotonic() + timeout_s
    while left := find(rehearsal):
        for process in left:
            with suppress(ProcessLookupError, PermissionError):
                os.kill(process.pid, signal.SIGKILL)
        if time.monotonic() > deadline:
            return left
        time.sleep(0.05)
    return []
