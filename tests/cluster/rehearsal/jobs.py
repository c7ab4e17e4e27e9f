"""Submitting to a rehearsal and waiting for what should happen."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

from cluster.rehearsal import Rehearsal
from cluster.rehearsal.client import ask

PATIENCE_S = 45.0


def submit(rehearsal: Rehearsal, script: str, *options: str, output: Path | str = "/dev/null") -> str:
    """Submit a shell script; return the job's id."""
    return ask(rehearsal, ["sbatch", "--parsable", f"--output={output}", "--open-mode=append", "--chdir=/", "--mem=100",
                           *options, f"--wrap={script}"])


def state(rehearsal: Rehearsal, job: str) -> tuple[str, str]:
    """Return a job's state and its nodes."""
    word, _, nodes = ask(rehearsal, ["squeue", "-h", "-t", "all", "-j", job, "-o", "%T|%N"]).partition("|")
    return word, nodes


def until(condition: Callable[[], bool], what: str, patience_s: float = PATIENCE_S) -> float:
    """Wait; return the seconds it took."""
    began = time.monotonic()
    while not condition():
        assert time.monotonic() - began < patience_s, f"waited in vain for {what}"
        time.sleep(0.1)
    return time.monotonic() - began


def until_state(rehearsal: Rehearsal, job: str, *words: str, patience_s: float = PATIENCE_S) -> float:
    """Wait for one of these states; return the seconds it took."""
    return until(lambda: state(rehearsal, job)[0] in words, f"job {job} to be {words}", patience_s)


def processes(rehearsal: Rehearsal) -> list[str]:
    """Return every live process whose command line, environment or working directory names the cluster.

    Looks at /proc in its own way, so that what `down` overlooks is seen here.
    """
    found = []
    marks = [str(rehearsal.home).encode(), str(rehearsal.folder).encode()]
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            text = (entry / "cmdline").read_bytes() + (entry / "environ").read_bytes()
            text += str((entry / "cwd").readlink()).encode()
            zombie = " Z " in (entry / "stat").read_text(encoding="utf-8").rpartition(")")[2][:4]
        except OSError:
            continue
        if not zombie and any(mark in text for mark in marks):
            found.append((entry / "cmdline").read_bytes().replace(b"\0", b" ").decode())
    return found
