"""The Slurm job in which a controller runs: its script (pure), its submission, and whether it lives.

It is a plain batch job without srun: a shell that starts `orchestrator sweep` and hands signals on. The signal that
comes some minutes before the time limit makes the controller leave in order; then the job goes back into the queue
under its own name and id. SIGTERM (scancel, preemption) makes it leave too, but whether the job runs again is then for
Slurm to say: a job that somebody cancelled is not to come back. After node loss Slurm requeues it (`--requeue`).
"""

from __future__ import annotations

import os
import shlex
import sys
from collections.abc import Iterator
from pathlib import Path

from cluster.clients import Clients, NoAnswer
from cluster.executors import _slurm_queue as ask
from cluster.executors._slurm_script import UNFIT, check, environment, prepared
from cluster.executors.slurm import job_number, refused
from cluster.job import JobRequest, JobState
from cluster.profiles import SlurmProfile, resolved_conf
from sweeps.errors import EnvironmentError_, UsageError
from sweeps.language.stage import Frozen
from sweeps.store.owner import JOB_VARIABLE, Owner, Standing

LOOK_TIMEOUT_S = 5.0
"""A look at the queue; a person waits for it."""
OWN_WORDS = 6
"""Exit codes up to here are how a sweep ends. Above, the controller left as asked (130), or died of being asked."""
AGAIN_S = 5
"""Between two tries to requeue: the daemon may be away."""


class RefusedError(EnvironmentError_):
    """Slurm refused the job: nothing was submitted, for certain."""


class ControllerRequest(Frozen):
    """What is submitted, in full."""

    name: str
    """Unique name of the job."""
    command: tuple[str, ...]
    """Words after `orchestrator`."""
    folder: str
    """Where script and log go."""
    directory: str
    """Where the command runs: names of files in it may be relative."""

    @property
    def script(self) -> Path:
        """The script's file."""
        return Path(self.folder) / f"{self.name}.sh"

    @property
    def log(self) -> Path:
        """What the controller prints, of all its starts."""
        return Path(self.folder) / f"{self.name}.log"


def script(request: ControllerRequest, profile: SlurmProfile) -> str:
    """Return the script of a request.

    Raises:
        UsageError: a name in it cannot be used.
    """
    job = JobRequest(name=request.name, tickets=(), folder=request.folder)
    check(job)
    if UNFIT.search(request.directory):
        raise UsageError(f"current folder {request.directory!r}: a name with '%', a backslash or a control character "
                         "cannot be used on Slurm; run the command from another folder")
    lines = prepared(job, _of_job(profile))
    words = (sys.executable, "-P", "-u", "-m", "orchestrator", *request.command)
    return "\n".join(["#!/bin/bash", *_options(request, profile), "", *lines, "", *_body(request.name, words)]) + "\n"


def _of_job(profile: SlurmProfile) -> SlurmProfile:
    """Return the profile of the controller's job: it needs no scratch, and finds a rehearsal where the shell does."""
    names = profile.environment
    if profile.rehearsal is not None:
        from cluster.rehearsal.places import VARIABLE  # a tenth of a second that other clusters need not pay

        names = (*names, VARIABLE)
    return profile.model_copy(update={"scratch": None, "environment": names})


def _options(request: ControllerRequest, profile: SlurmProfile) -> Iterator[str]:
    wanted = profile.controller
    options = {
        "account": profile.account, "chdir": request.directory, "cpus-per-task": wanted.cpus, "export": "ALL",
        "job-name": request.name, "mem": f"{wanted.memory_mb}M", "nodes": 1, "ntasks": 1, "open-mode": "append",
        "output": str(request.log), "partition": wanted.partition or profile.partition,
        "qos": wanted.qos or profile.qos, "signal": f"B:USR2@{wanted.lead_s}", "time": wanted.time_limit_min,
    }
    yield from (f"#SBATCH --{key}={shlex.quote(str(value))}" for key, value in options.items() if value is not None)
    yield "#SBATCH --requeue"


def _body(name: str, words: tuple[str, ...]) -> Iterator[str]:
    yield f"export {JOB_VARIABLE}={shlex.quote(name)}"
    yield "again="  # `$!` is the controller, from the very moment at which it begins
    yield "trap 'again=1; kill -TERM \"$!\" 2>/dev/null || true' USR2  # the time limit is near"
    yield "trap 'kill -TERM \"$!\" 2>/dev/null || true' TERM"
    yield f"{shlex.join(words)} &"
    yield "code=0; wait \"$!\" || code=$?"
    yield "while kill -0 \"$!\" 2>/dev/null; do  # a signal ends a wait"
    yield "    code=0; wait \"$!\" || code=$?"
    yield "done"
    yield f'if [ -n "$again" ] && [ "$code" -gt {OWN_WORDS} ]; then'
    yield f'    until scontrol requeue "$SLURM_JOB_ID"; do sleep {AGAIN_S}; done'
    yield "fi"
    yield 'exit "$code"'


def submit(request: ControllerRequest, profile: SlurmProfile) -> str:
    """Submit it; return Slurm's id of the job.

    Raises:
        UsageError: a name in the request cannot be used.
        RefusedError: Slurm refused it.
        EnvironmentError_: sbatch gave no answer; it may have been submitted all the same.
    """
    text = script(request, profile)
    request.script.parent.mkdir(parents=True, exist_ok=True)
    request.script.write_text(text, encoding="utf-8")
    clients = Clients(conf=resolved_conf(profile), timeout_s=profile.timeout_s)
    job = JobRequest(name=request.name, tickets=(), folder=request.folder)
    answer = clients.sbatch(str(request.script), environment(job, _of_job(profile), os.environ))
    number = job_number(answer)
    if number is not None:
        return number
    said = answer.text if isinstance(answer, NoAnswer) else f"sbatch printed {answer.text!r}"
    if refused(answer):
        raise RefusedError(f"Slurm refused the controller's job: {said}; see {request.script} and the key `controller` "
                           "of the cluster profile")
    raise EnvironmentError_(f"{said}; the controller's job may have been submitted all the same: `squeue -n "
                            f"{request.name}` tells, and `orchestrator status`")


def standing(owner: Owner) -> Standing:
    """Return whether a controller's job lives, by Slurm's queue, and what it does, in words."""
    assert owner.job is not None
    job = owner.job
    found = ask.of_name(Clients(conf=job.conf or None, timeout_s=LOOK_TIMEOUT_S), job.name)
    if isinstance(found, NoAnswer):
        return owner.alive() or None, f"{owner.text()} (Slurm does not say whether it lives: {found.text})"
    for number, row in found.items():
        if row.reading.state is not JobState.ENDED:
            waits = "" if row.detail in ("", "None") else f", {row.detail}"
            return True, f"Slurm job {number} ({row.reading.word}{waits})"
    if not job.id and owner.alive():
        return True, f"{owner.text()} (being submitted)"
    return False, f"{owner.text()} (squeue does not have it any more)"
