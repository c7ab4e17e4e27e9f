"""The test job: submitted as a stage's job is, but for what it runs; watched; cleared away whatever happens.

A job may wait for hours where a cluster is busy. The wait has an end, which the person sets, and is told on the way.
"""

from __future__ import annotations

import json
import os
import secrets
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cluster.clients import Answer, Clients, clean
from cluster.doctor import probe
from cluster.executors import _slurm_script as slurm
from cluster.executors import local
from cluster.job import JobRequest, JobState
from cluster.profiles import SlurmProfile
from cluster.states import read
from sweeps.errors import UsageError
from sweeps.store.layout import Layout

PROBE = "cluster.doctor.probe"
PACKAGES = ("cluster", "sweeps", "workloads")
"""What a stage's job imports of this project."""
TIME_LIMIT_MIN = 10
"""A short job starts sooner."""
VISIBLE_S = 60.0
"""How long a shared filesystem may take to show a new file (NFS keeps names for up to a minute)."""
LATE_S = 2.0
"""The same, where other files of the job were seen."""
LOOK_S, SAY_S = 0.5, 30.0
"""Between two looks at the files; between two messages while nothing changes."""
ENDING_S = 15.0
"""How long a job that has answered may take to end by itself."""
CANCEL_S = 10.0
"""How long a cancelled one may take: its folder is removed then."""
LAST_LINES = 3


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What became of the test job."""

    began: Mapping[str, Any] | None = None
    """What it wrote first, as seen from here; None: it wrote nothing that could be seen."""
    answer: Mapping[str, Any] | None = None
    """What it wrote last."""
    nonce: str = ""
    """What it was to read."""
    state: str = ""
    """Slurm's last word on it, with the reason; empty for a process of this machine."""
    over: bool = False
    """It is known to have ended."""
    refused: str = ""
    """Why it could not be submitted."""
    log: str = ""
    """The last lines of its log."""
    waited_s: float = 0.0
    """From its submission until it began, or until the wait was over."""
    skew_s: tuple[float, float] = (0.0, 0.0)
    """Its clock less this machine's, as a range: when its first file was written is known only so far."""
    job: str = ""
    """Slurm's id."""


@contextmanager
def folder_below(root: Path) -> Iterator[tuple[Path, str]]:
    """Make a folder for a test job below the store, with something for it to read; remove it afterwards."""
    path = Path(tempfile.mkdtemp(prefix=".doctor-", dir=root))
    try:
        nonce = secrets.token_hex(8)
        probe.write(path / probe.ASK, {"nonce": nonce})
        yield path, nonce
    finally:
        shutil.rmtree(path, ignore_errors=True)


def here(layout: Layout, timeout_s: float) -> Outcome:
    """Run the probe as a job of the local executor is run."""
    with folder_below(layout.root) as (folder, nonce):
        request = JobRequest(name=folder.name.lstrip("."), tickets=(), folder=str(folder), environment=_code(folder))
        with (folder / "log").open("w", encoding="utf-8") as log, suppress(subprocess.TimeoutExpired):
            subprocess.run([sys.executable, "-P", "-m", PROBE, str(folder)], cwd=folder, stdout=log, stderr=log,
                           env=local.environment(request, os.environ), timeout=timeout_s, check=False)
        return Outcome(began=_read(folder / probe.BEGAN), answer=_read(folder / probe.ANSWER), nonce=nonce, over=True,
                       log=last_lines(folder))


def _code(folder: Path) -> dict[str, str]:
    """Return variables that lead the job to a copy of what jobs import, as `orchestrator.snapshot` does for stages."""
    here = Path(__file__).resolve().parents[2]
    for name in PACKAGES:
        shutil.copytree(here / name, folder / "code" / name, ignore=shutil.ignore_patterns("__pycache__"))
    return {"PYTHONPATH": os.pathsep.join([str(folder / "code"), *filter(None, [os.environ.get("PYTHONPATH")])])}


def on_a_node(profile: SlurmProfile, clients: Clients, layout: Layout, timeout_s: float,
              say: Callable[[str], None]) -> Outcome:
    """Submit the probe to the cluster and wait for its answer, at most `timeout_s` seconds."""
    limit = min(TIME_LIMIT_MIN, profile.time_limit_min)
    short = profile.model_copy(update={"time_limit_min": limit, "lead_s": min(profile.lead_s, 30), "nodes": 1})
    with folder_below(layout.root) as (folder, nonce):
        request = JobRequest(name=folder.name.lstrip("."), tickets=(str(folder / probe.ASK),), folder=str(folder),
                             environment=_code(folder))
        try:
            text = slurm.script(request, short, module=PROBE)
        except UsageError as error:
            return Outcome(refused=str(error))
        path = folder / "submission.sh"
        path.write_text(text, encoding="utf-8")
        answered = False
        try:
            answer = clients.sbatch(str(path), slurm.environment(request, short, os.environ))
            if not isinstance(answer, Answer):
                return Outcome(refused=answer.text)
            job = answer.text.strip().partition(";")[0]
            outcome = _Wait(clients, folder, job, nonce, say).until(time.monotonic() + timeout_s)
            answered = outcome.answer is not None
            return outcome
        finally:
            if not (answered and _gone(clients, request.name, ENDING_S)):
                _cancel(clients, request.name)


class _Wait:
    """Looks at a test job's files and its state."""

    def __init__(self, clients: Clients, folder: Path, job: str, nonce: str, say: Callable[[str], None]) -> None:
        self._clients, self._folder, self._job, self._nonce, self._say = clients, folder, job, nonce, say
        self._start = self._said = time.monotonic()
        self._asked = float("-inf")
        self._state, self._over, self._over_at = "", False, 0.0

    def until(self, deadline: float) -> Outcome:
        """Return what became of it, at the deadline at the latest."""
        began, skew, waited = None, (0.0, 0.0), 0.0
        before = submitted = time.time()
        self._say(f"test job {self._job} is submitted; waiting for a compute node")
        while True:
            now = time.time()
            answer = _read(self._folder / probe.ANSWER)
            if began is None:
                began = _read(self._folder / probe.BEGAN)
                waited = time.monotonic() - self._start
                if began is not None:
                    written = max(submitted, before - VISIBLE_S)  # at the earliest, by this machine's clock
                    skew = float(began["clock"]) - time.time(), float(began["clock"]) - written
                    self._say(f"test job {self._job} runs on {began['host']}; it imports what stages import")
            before = now
            if answer is not None or self._gave_up() or time.monotonic() > deadline:
                return Outcome(began=began, answer=answer, nonce=self._nonce, state=self._state, over=self._over,
                               log=last_lines(self._folder), waited_s=waited, skew_s=skew, job=self._job)
            self._ask()
            time.sleep(LOOK_S)

    def _ask(self) -> None:
        """Ask Slurm now and then; a job in which nothing changes is told of now and then too."""
        now = time.monotonic()
        if now - self._asked >= min(5.0, 1.0 + (now - self._start) / 10):
            self._asked = now
            answer = self._clients.run(("squeue", "-h", "-t", "all", "-j", self._job, "-o", "%T|%r"), timeout_s=10.0,
                                       environment=clean(os.environ, self._clients.conf))
            word, _, reason = answer.text.strip().partition("\n")[0].partition("|") if isinstance(answer, Answer) else (
                "", "", "")
            if word:
                state = word if reason in ("", "None") else f"{word} ({reason})"
                if state != self._state or now - self._said > SAY_S:
                    self._say(f"test job {self._job}: {state}, {now - self._start:.0f} s")
                    self._said = now
                self._state = state
                if read(word).state is JobState.ENDED and not self._over:
                    self._over, self._over_at = True, now

    def _gave_up(self) -> bool:
        """Tell whether the job has ended so long ago that nothing more will be seen of it."""
        if not self._over:
            return False
        shows = bool(last_lines(self._folder)) or (self._folder / probe.BEGAN).exists()
        return time.monotonic() - self._over_at > (LATE_S if shows else VISIBLE_S)


def _cancel(clients: Clients, name: str) -> None:
    """Take the test job off the cluster: by name, as sbatch may have submitted it without saying its id.

    One that comes into the queue even later ends at once: its folder is gone.
    """
    clients.scancel(f"--name={name}", "--quiet")
    _gone(clients, name, CANCEL_S)


def _gone(clients: Clients, name: str, patience_s: float) -> bool:
    """Wait until no job of this name is left; False: Slurm does not say so in time."""
    deadline = time.monotonic() + patience_s
    while True:
        left = clients.run(("squeue", "-h", "-n", name, "-o", "%T"), environment=clean(os.environ, clients.conf),
                           timeout_s=10.0)
        if isinstance(left, Answer) and not left.text.strip():
            return True
        if time.monotonic() > deadline or not isinstance(left, Answer):
            return False
        time.sleep(LOOK_S)


def _read(path: Path) -> dict[str, Any] | None:
    try:
        value: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        return value
    except (OSError, ValueError):
        return None


def last_lines(folder: Path) -> str:
    """Return the end of what a test job printed."""
    texts = [path.read_text(encoding="utf-8", errors="replace") for path in sorted(folder.glob("*log*"))]
    lines = [line.strip() for text in texts for line in text.splitlines() if line.strip()]
    return " / ".join(lines[-LAST_LINES:])
