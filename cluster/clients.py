"""Slurm's client programs: each call has a time-out, and its outcome is data. No answer is never taken for absence.

Queries run in the caller's environment without what would change their output (SLURM_*, SQUEUE_FORMAT, ...); sbatch
runs in an environment of its own, because what it sees is what the job gets. A query that gave no answer is not tried
again until a while has passed, longer each time, with jitter, so that a hundred controllers do not come back at once.
"""

from __future__ import annotations

import os
import random
import re
import signal
import subprocess
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from enum import StrEnum

from sweeps.errors import EnvironmentError_

TIMEOUT_S = 20.0
"""A query's; squeue itself gives up after MessageTimeout, 10 s by default."""
SBATCH_TIMEOUT_S = 60.0
"""sbatch waits and asks again where the controller is busy."""
FIRST_WAIT_S, LONGEST_WAIT_S = 2.0, 120.0
"""Between two tries of a query that gave no answer."""
SLURMS_OWN = re.compile(r"(SLURM|SBATCH|SALLOC|SRUN|SQUEUE|SACCT|SCANCEL|SCONTROL|SINFO)_")
"""Variables that change what clients do; inside a job there are many, and children of sbatch inherit them."""
CONF = "SLURM_CONF"


class Why(StrEnum):
    """Why there is no answer."""

    MISSING = "missing"
    """The program is not installed."""
    TIMEOUT = "time-out"
    FAILED = "failed"
    """It ended with an error."""
    TORN = "torn"
    """Its output cannot be read to the end."""
    WAITING = "waiting"
    """It was not asked: it gave no answer a moment ago."""
    DISABLED = "disabled"
    """The cluster keeps no accounts."""


@dataclass(frozen=True, kw_only=True)
class Answer:
    """What a client printed, having succeeded."""

    text: str


@dataclass(frozen=True, kw_only=True)
class NoAnswer:
    """A client said nothing that could be relied on; whatever was asked for may be so or not."""

    why: Why
    text: str
    """For people, and for telling a refusal from a lost connection: what was run and what it printed."""


def clean(environment: Mapping[str, str], conf: str | None) -> dict[str, str]:
    """Return an environment for queries: the caller's, without Slurm's own variables; C locale."""
    kept = {k: v for k, v in environment.items() if not SLURMS_OWN.match(k)}
    chosen = conf or environment.get(CONF)
    return {**kept, **({CONF: chosen} if chosen else {}), "LC_ALL": "C"}


@dataclass(kw_only=True)
class _Pause:
    """When a query may be asked again."""

    until: float = 0.0
    failures: int = 0


@dataclass(kw_only=True)
class Clients:
    """Runs the clients of one cluster."""

    conf: str | None = None
    """slurm.conf; None: the caller's SLURM_CONF, or Slurm's default place."""
    timeout_s: float = TIMEOUT_S
    sbatch_timeout_s: float = SBATCH_TIMEOUT_S
    clock: Callable[[], float] = time.monotonic
    jitter: Callable[[], float] = random.random
    """Numbers in [0, 1)."""
    calls: Counter[str] = field(default_factory=Counter)
    """How often each program was run."""
    _pauses: dict[str, _Pause] = field(default_factory=dict)

    def query(self, *command: str) -> Answer | NoAnswer:
        """Run a query, unless it gave no answer a short while ago."""
        pause = self._pauses.setdefault(command[0], _Pause())
        now = self.clock()
        if now < pause.until:
            wait_s = pause.until - now
            return NoAnswer(why=Why.WAITING, text=f"{command[0]} gave no answer; it is asked again in {wait_s:.0f} s")
        answer = self.run(command, environment=clean(os.environ, self.conf), timeout_s=self.timeout_s)
        self.judge(command[0], isinstance(answer, Answer))
        return answer

    def judge(self, program: str, good: bool) -> None:
        """Note whether a query's answer was good; `query` does so itself, but cannot see a torn one."""
        pause = self._pauses.setdefault(program, _Pause())
        if good:
            pause.failures, pause.until = 0, 0.0
            return
        wait_s = min(FIRST_WAIT_S * 2**pause.failures, LONGEST_WAIT_S) * (0.5 + self.jitter() / 2)
        pause.failures, pause.until = pause.failures + 1, self.clock() + wait_s

    def resumes_s(self, program: str) -> float:
        """Return the seconds until `query` asks the program again; 0: at once."""
        pause = self._pauses.get(program)
        return max(0.0, pause.until - self.clock()) if pause else 0.0

    def sbatch(self, script: str, environment: Mapping[str, str]) -> Answer | NoAnswer:
        """Submit a script in exactly this environment (and this cluster's SLURM_CONF)."""
        conf = self.conf or os.environ.get(CONF)
        given = {**environment, **({CONF: conf} if conf else {})}
        return self.run(("sbatch", "--parsable", script), environment=given, timeout_s=self.sbatch_timeout_s)

    def scancel(self, *arguments: str) -> Answer | NoAnswer:
        """Cancel or signal jobs."""
        return self.run(("scancel", *arguments), environment=clean(os.environ, self.conf), timeout_s=self.timeout_s)

    def run(self, command: Sequence[str], *, environment: Mapping[str, str], timeout_s: float) -> Answer | NoAnswer:
        """Run a client to its end or to the time-out; kill it, and what it started, then."""
        self.calls[command[0]] += 1
        try:
            child = subprocess.Popen(command, env=dict(environment), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                                     stderr=subprocess.PIPE, start_new_session=True, cwd="/")
        except OSError as error:
            return NoAnswer(why=Why.MISSING, text=f"{command[0]}: {error.strerror}")
        try:
            out, err = child.communicate(timeout=timeout_s)
        except subprocess.TimeoutExpired:
            _kill(child)
            return NoAnswer(why=Why.TIMEOUT, text=f"{_shown(command)}: no answer in {timeout_s:.0f} s")
        printed = err.decode(errors="replace").strip()
        if child.returncode:
            disabled = "accounting storage is disabled" in printed
            return NoAnswer(why=Why.DISABLED if disabled else Why.FAILED,
                            text=f"{_shown(command)}: exit {child.returncode}: {printed or 'it says nothing'}")
        return Answer(text=out.decode(errors="replace"))


def _kill(child: subprocess.Popen[bytes]) -> None:
    """Kill a client's whole process group; leave it behind where even that does not end it (a hung file system)."""
    with suppress(ProcessLookupError):
        os.killpg(child.pid, signal.SIGKILL)
    try:
        child.communicate(timeout=2.0)
    except subprocess.TimeoutExpired:
        child.returncode = -signal.SIGKILL  # keeps Popen from warning that it still runs
        for stream in (child.stdout, child.stderr):
            if stream is not None:
                stream.close()


def _shown(command: Sequence[str]) -> str:
    text = " ".join(command)
    return text if len(text) <= 100 else f"{text[:97]}..."


def needed(answer: Answer | NoAnswer) -> str:
    """Return the text of an answer that there must be.

    Raises:
        EnvironmentError_: there is none.
    """
    if isinstance(answer, NoAnswer):
        raise EnvironmentError_(f"{answer.text}; is this a login node of the cluster, and does `squeue` work here?")
    return answer.text
