"""Requests of toy jobs, and waiting for executors."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from pathlib import Path

from cluster.job import Executor, JobHandle, JobReport, JobRequest, JobState
from sweeps.errors import InDoubtError
from sweeps.language.stage import StageSpec
from tests.workloads.tickets import make_ticket, write_ticket

PATIENCE_SECONDS = 20.0


def request(root: Path, jobs: Sequence[Sequence[StageSpec]], name: str = "batch-1") -> JobRequest:
    """One job per list of stages, all claimed by the submission."""
    tickets = [
        str(write_ticket(make_ticket(root, stages, submission=name), f"{index}.ticket.json"))
        for index, stages in enumerate(jobs)
    ]
    return JobRequest(name=name, tickets=tuple(tickets), folder=str(root / "jobs" / name))


def processes_of(root: Path) -> list[int]:
    """Return the live processes of jobs whose files lie under `root`."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            words = path.read_bytes()
        except OSError:
            continue
        if b"cluster.launch" in words and str(root).encode() + b"/" in words:
            found.append(int(path.parent.name))
    return found


def until(condition: Callable[[], bool]) -> None:
    """Wait for a condition."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.02)


def ended(executor: Executor, handles: Sequence[JobHandle]) -> list[JobReport]:
    """Wait until all jobs have ended; return the last reports."""
    until(lambda: all(r.state is JobState.ENDED for r in executor.poll(handles)))
    return executor.poll(handles)


def known(executor: Executor, name: str = "batch-1") -> list[JobHandle]:
    """Look for a submission until it is certain what became of it."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while True:
        try:
            return executor.find(name)
        except InDoubtError:
            assert time.monotonic() < deadline, "waited in vain"
            time.sleep(0.2)
