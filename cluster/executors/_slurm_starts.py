"""What runs inside a Slurm job, and the notes by which the controller knows of it.

Nothing is pickled, and submitit is not imported here: a job's process finds its ticket by its index in the array. That
saves a third of a second of a core in each job, and leaves nothing to do after sbatch, when a controller may have died.
Signals go to `workloads.run`, which checkpoints and leaves; whether the stage is run again is for the reconciler.

Each start of a job leaves two notes beside its logs, so that how it ended is known without Slurm's accounts:
    <index>.<restart>.json        it began: host, Slurm's id
    <index>.<restart>.exit.json   its last act: the exit code
"""

from __future__ import annotations

import os
import socket
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from cluster import launch
from sweeps.errors import StorageError
from sweeps.store import files

RESTART = "SLURM_RESTART_COUNT"
"""How often Slurm requeued this job. It only names notes: it may be wrong where sbatch ran inside another job."""
TICKETS = "tickets.json"
"""In the submission's folder: the path of each job's ticket, by its index."""


def write_tickets(folder: Path, tickets: Sequence[str]) -> None:
    """Write what the jobs of a submission look their ticket up in."""
    files.replace(folder / TICKETS, files.to_json({
        "schema_version": files.SCHEMA_VERSION, "tickets": [str(Path(ticket).absolute()) for ticket in tickets],
    }))


def run(folder: Path) -> int:
    """Run this job's ticket as the main program of this process; return its exit code. Rank 0 leaves the notes."""
    array, index = os.environ["SLURM_ARRAY_JOB_ID"], int(os.environ["SLURM_ARRAY_TASK_ID"])
    ticket = files.read_json(folder / TICKETS)["tickets"][index]
    if os.environ.get("SLURM_PROCID", "0") != "0":
        return launch.run(launch.JOB, ticket)
    note = start_note(folder, index, int(os.environ.get(RESTART, "0")))
    with suppress(StorageError):  # the ticket finds out by itself, and says so
        files.create(note, files.to_json({
            "schema_version": files.SCHEMA_VERSION, "job": f"{array}_{index}", "pid": os.getpid(),
            "host": socket.gethostname(), "node": os.environ.get("SLURMD_NODENAME", ""),
        }))
    process, code = os.getpid(), 1
    try:
        code = launch.run(launch.JOB, ticket)
    finally:
        if os.getpid() == process:  # not in a child that the stage forked
            with suppress(StorageError):  # Slurm has the code too
                launch.leave(note, code=code, detail=f"exit {code}")
    return code


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
    """Return where the newest start of a job is noted; the file is missing where the job never began.

    A start that was killed before it noted anything leaves a gap. The folder is listed: 1.9 ms with
    the 4,000 files of 1,000 jobs.
    """
    entries = os.scandir(folder) if folder.is_dir() else ()
    names = (entry.name.split(".") for entry in entries if entry.name.startswith(f"{index}."))
    starts = (int(parts[1]) for parts in names if len(parts) == 3 and parts[1].isdecimal() and parts[2] == "json")
    return start_note(folder, index, max(starts, default=0))


def where_it_ran(note: Path) -> str:
    """Return the node of a start's first rank; empty where it never began, or its note does not say."""
    try:
        return str(files.read_json(note).get("node", ""))
    except (FileNotFoundError, ValueError):
        return ""


def lasted_s(note: Path) -> float:
    """Return seconds from a start to its noted end, by one clock, the file server's; 0 where either lacks."""
    try:
        return launch.exit_note(note).stat().st_mtime - note.stat().st_mtime
    except FileNotFoundError:
        return 0.0
