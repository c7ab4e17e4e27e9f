"""The real command line with real training, to be disturbed: started, looked at from outside, killed, run again."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cluster.executors._process import start_time
from sweeps.store.files import read_json
from sweeps.store.layout import Layout
from tests.faults.points import ROOT, stages, wrong_after

SWEEP = Path(__file__).parent / "small.yaml"
PATIENCE_SECONDS = 600.0
STARTED: list[tuple[subprocess.Popen[Any], Live]] = []
"""What `end_all` ends, should a test have failed before it did."""


@dataclass(frozen=True, kw_only=True)
class Live:
    """One sweep in one root."""

    root: Path
    file: Path = SWEEP
    flags: tuple[str, ...] = ()
    variables: Mapping[str, str] = field(default_factory=dict)
    prefix: tuple[str, ...] = ()
    """What runs the command, for instance `faketime`."""

    def command(self, *more: str) -> list[str]:
        """Return the command line."""
        return [*self.prefix, sys.executable, "-m", "orchestrator", "sweep", str(self.file), "--root", str(self.root),
                *self.flags, *more]

    def start(self, *more: str) -> subprocess.Popen[str]:
        """Start the command; its output is kept in pipes."""
        process = subprocess.Popen(self.command(*more), cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                                   text=True, env={**os.environ, **self.variables}, start_new_session=True)
        STARTED.append((process, self))
        return process

    def finish(self, *more: str) -> None:
        """Run the command to its end, which must be a good one."""
        done = subprocess.run(self.command(*more), cwd=ROOT, env={**os.environ, **self.variables}, text=True,
                              capture_output=True, timeout=PATIENCE_SECONDS)
        assert done.returncode == 0, done.stderr

    def says(self, verb: str, *more: str) -> str:
        """Run another verb on the store; return what it prints."""
        command = [sys.executable, "-m", "orchestrator", verb, *more, "--root", str(self.root)]
        done = subprocess.run(command, cwd=ROOT, text=True, capture_output=True, timeout=PATIENCE_SECONDS)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def tables(self) -> dict[str, bytes]:
        """Return every table but the costs."""
        folder = next((self.root / "sweeps").iterdir()) / "report" / "tables"
        return {p.name: p.read_bytes() for p in folder.glob("[a-z]*") if p.stem != "cost"}

    def jobs(self) -> list[int]:
        """Return the process ids of the jobs that live."""
        found = []
        for path in Layout(self.root).jobs.glob("*/*.pid.json"):
            raw = read_json(path)
            if start_time(raw["pid"]) == raw["start"]:
                found.append(raw["pid"])
        return found

    def training(self, *, checkpoints: int = 0) -> bool:
        """Tell whether a pre-training stage that is not complete has rows, and this many checkpoints."""
        return any(
            len(list(attempt.glob("checkpoints/*/MANIFEST.json"))) >= checkpoints
            for stage in (self.root / "stages" / "pretrain").glob("*") if not (stage / "result.json").exists()
            for attempt in stage.glob("attempts/*") if rows(attempt / "metrics.jsonl")
        )


def rows(path: Path) -> int:
    """Return how many rows a stage has written: it trains when there is one, after its imports."""
    try:
        return path.read_bytes().count(b"\n")
    except FileNotFoundError:
        return 0


def wait_for(condition: Callable[[], object], watched: subprocess.Popen[str] | None = None) -> None:
    """Wait until a condition holds; `watched` must not end before."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        assert watched is None or watched.poll() is None, f"ended too early: {watched.communicate()}"
        time.sleep(0.02)


def kill(process: subprocess.Popen[str]) -> None:
    """SIGKILL, as the kernel does it when memory runs out."""
    process.send_signal(signal.SIGKILL)
    process.communicate()


def end_all() -> None:
    """Kill what tests have started and not waited for: controllers, and jobs in their stores."""
    while STARTED:
        process, live = STARTED.pop()
        if process.poll() is None:
            process.kill()
        process.communicate()
        for job in live.jobs():
            os.killpg(job, signal.SIGKILL)


def check_same(disturbed: Live, undisturbed: Live, *, interrupted: int) -> None:
    """The tables are the undisturbed run's, every stage has a result, and so many attempts more than stages."""
    assert disturbed.tables() == undisturbed.tables()
    found = stages(disturbed.root)
    assert found.keys() == stages(undisturbed.root).keys()
    assert all(result for _, result in found.values())
    assert sum(attempts - 1 for attempts, _ in found.values()) == interrupted
    assert disturbed.jobs() == []


def check_resumed(disturbed: Live, undisturbed: Live, *, interrupted: int = 0, flags: tuple[str, ...] = ()) -> None:
    """Run the command again; nothing that was complete ran again, and so many stages ran twice."""
    before = stages(disturbed.root)
    disturbed.finish("--quiet", *flags)
    assert wrong_after(before, stages(disturbed.root)) == []
    check_same(disturbed, undisturbed, interrupted=interrupted)
