"""Fake Slurm clients: small programs on PATH that replay what the real ones printed, hang, fail or are cut off."""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from pathlib import Path

from cluster.clients import Clients
from cluster.executors.slurm import SlurmExecutor
from cluster.job import JobHandle, JobRequest
from cluster.profiles import SlurmProfile
from sweeps.errors import InDoubtError

SCRIPT = """\
#!/bin/sh
here={here}
echo "$*" >> "$here/{program}.calls"
env > "$here/{program}.env"
n=$(wc -l < "$here/{program}.calls")
while [ ! -e "$here/{program}.$n.sh" ]; do n=$((n - 1)); done
. "$here/{program}.$n.sh"
"""
DISABLED = "Slurm accounting storage is disabled"


@dataclass(kw_only=True)
class Clock:
    """A clock that stands still unless it is moved; `sleep` moves it."""

    now: float = 1_000.0

    def __call__(self) -> float:
        """Seconds."""
        return self.now

    def sleep(self, seconds: float) -> None:
        """Let time pass."""
        self.now += seconds


@dataclass(kw_only=True)
class Fakes:
    """A folder of programs."""

    folder: Path

    def says(self, program: str, *answers: str) -> None:
        """Let a program print each answer in turn, the last one for ever."""
        self.does(program, *(f"printf %s {shlex.quote(text)}" for text in answers))

    def fails(self, program: str, printed: str, code: int = 1) -> None:
        """Let a program end with an error."""
        self.does(program, f"echo {shlex.quote(printed)} >&2; exit {code}")

    def does(self, program: str, *actions: str) -> None:
        """Let a program do shell actions in turn, the last one for ever; calls made before are forgotten."""
        self.folder.mkdir(parents=True, exist_ok=True)
        for old in self.folder.glob(f"{program}.*"):
            old.unlink()
        path = self.folder / program
        path.write_text(SCRIPT.format(here=shlex.quote(str(self.folder)), program=program))
        path.chmod(0o755)
        for number, action in enumerate(actions, start=1):
            (self.folder / f"{program}.{number}.sh").write_text(action + "\n")

    def calls(self, program: str) -> list[str]:
        """The arguments of each call."""
        path = self.folder / f"{program}.calls"
        return path.read_text().splitlines() if path.exists() else []

    def environment(self, program: str) -> dict[str, str]:
        """What the last call saw."""
        lines = (self.folder / f"{program}.env").read_text().splitlines()
        return dict(line.split("=", 1) for line in lines if "=" in line)


def queue(*rows: str, reason: str = "None", restarts: int = 0) -> str:
    """What squeue prints for `12_0 RUNNING` and the like."""
    split = (row.split(maxsplit=1) for row in rows)
    return "".join(f"{job}|{state}|{restarts}|{reason}|.\n" for job, state in split)


def cluster(root: Path, clock: Clock, **options: object) -> SlurmExecutor:
    """An executor that sees nothing but the fakes."""
    profile = SlurmProfile.model_validate({"slots": 1000, "interval_s": 5, "time_limit_min": 10, **options})
    clients = Clients(timeout_s=5, sbatch_timeout_s=5, clock=clock, jitter=lambda: 1.0)
    return SlurmExecutor(root / "notes", profile, clients)


def wanted(root: Path, count: int = 1, name: str = "batch-1") -> JobRequest:
    """A request whose tickets nobody reads."""
    tickets = tuple(str(root / f"{i}.ticket.json") for i in range(count))
    return JobRequest(name=name, tickets=tickets, folder=str(root / "jobs" / name))


def found(executor: SlurmExecutor, clock: Clock, *, patience_s: float = 60.0) -> list[JobHandle]:
    """Look for `batch-1` until it is certain what became of it."""
    until = clock.now + patience_s
    while True:
        try:
            return executor.find("batch-1")
        except InDoubtError:
            if clock.now >= until:
                raise
            clock.sleep(1.0)
