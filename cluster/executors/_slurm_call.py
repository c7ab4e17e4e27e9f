"""What is pickled and runs inside a Slurm job: paths, and nothing else.

It is no `Checkpointable` of submitit's: that tells a time-out from a preemption by wall time, and requeues for ever.
Signals go to `workloads.run`, which checkpoints and leaves; whether the stage is run again is for the reconciler.

Each start of a job leaves two notes beside its logs, so that how it ended is known without Slurm's accounts:
    <index>.<restart>.json        it began: host, Slurm's id
    <index>.<restart>.exit.json   its last act: the exit code
"""

from __future__ import annotations

import os
import socket
from contextlib import suppress
from pathlib import Path

from cluster import launch
from sweeps.errors import StorageError
from sweeps.store import files

RESTART = "SLURM_RESTART_COUNT"
"""How often Slurm requeued this job. It only names notes: it may be wrong where sbatch ran inside another job."""


class Call:
    """Run a ticket as the main program of this process, and leave with its exit code."""

    def __init__(self, ticket: str) -> None:
        """Keep the path of a ticket."""
        self.ticket = ticket

    def __call__(self) -> None:
        """Run it; rank 0 leaves the notes.

        Raises:
            SystemExit: always: submitit would turn any other end into exit code 0 or 1.
        """
        if os.environ.get("SLURM_PROCID", "0") != "0":
            raise SystemExit(launch.run(launch.JOB, self.ticket))
        array, index = os.environ["SLURM_ARRAY_JOB_ID"], int(os.environ["SLURM_ARRAY_TASK_ID"])
        note = start_note(Path(os.environ["SUBMITIT_FOLDER"]), index, int(os.environ.get(RESTART, "0")))
        with suppress(StorageError):  # the ticket finds out by itself, and says so
            files.create(note, files.to_json({
                "schema_version": files.SCHEMA_VERSION, "job": f"{array}_{index}", "pid": os.getpid(),
                "host": socket.gethostname(), "node": os.environ.get("SLURMD_NODENAME", ""),
            }))
        process, code = os.getpid(), 1
        try:
            code = launch.run(launch.JOB, self.ticket)
        finally:
            if os.getpid() == process:  # not in a child that the stage forked
                with suppress(StorageError):  # Slurm has the code too
                    launch.leave(note, code=code, detail=f"exit {code}")
        raise SystemExit(code)


def start_note(folder: Path, index: int, restart: int) -> Path:
    """Return where a start of a job is noted."""
    return folder / f"{index}.{restart}.json"


def how_it_ended(folder: Path, index: int) -> str:
    """Return what the newest start of a job noted as its end; empty where it noted none: it was killed, or never began.

    Raises:
        ValueError: the note is damaged.
    """
    try:
        return str(files.read_json(launch.exit_note(newest_start(folder, index)))["detail"])
    except FileNotFoundError:
        return ""


def newest_start(folder: Path, index: int) -> Path:
    """Return where the newest start of a job is noted; the file is missing where the job never began."""
    restart = 0
    while start_note(folder, index, restart + 1).exists():
        restart += 1
    return start_note(folder, index, restart)


def where_it_ran(folder: Path, index: int) -> str:
    """Return the node of the newest start's first rank; empty where it never began, or its note does not say."""
    try:
        return str(files.read_json(newest_start(folder, index)).get("node", ""))
    except (FileNotFoundError, ValueError):
        return ""


def lasted_s(folder: Path, index: int) -> float:
    """Return seconds from the newest start to its noted end, by one clock, the file server's; 0 where either lacks."""
    note = newest_start(folder, index)
    try:
        return launch.exit_note(note).stat().st_mtime - note.stat().st_mtime
    except FileNotFoundError:
        return 0.0
