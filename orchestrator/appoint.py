"""Hands a sweep to a Slurm job: the job is its owner from the submission on, and runs the controller itself."""

from __future__ import annotations

import argparse
import os
import secrets
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from cluster import controller_job
from cluster.profiles import SlurmProfile, resolved_conf, slurm_profile
from orchestrator.clusters import keep_simulations_apart, profile
from orchestrator.ownership import begin
from orchestrator.plan import Planned
from orchestrator.session import record
from sweeps.errors import UsageError
from sweeps.language.spec import Run
from sweeps.store.owner import Owner, SlurmJob

HERE = ("file", "verb", "controller", "takeover", "json")
"""Arguments that the job's own command does not get, or gets otherwise."""


@dataclass(frozen=True, kw_only=True)
class Appointed:
    """The controller's job."""

    sweep: str
    job: str
    """Slurm's id."""
    log: Path

    def lines(self) -> list[str]:
        """Return what a person should know."""
        return [
            f"Slurm job {self.job} is the controller of sweep {self.sweep!r}: it submits, watches, goes back into the",
            "queue before its own time limit, and ends with the sweep. Nothing depends on this login session.",
            f"  orchestrator attach {self.sweep}\n      watches it; Ctrl-C leaves the sweep alone",
            f"  tail -F {self.log}\n      what it prints",
            f"  orchestrator cancel --all {self.sweep}\n      ends the sweep: its jobs checkpoint and leave",
            f"  scancel {self.job}\n      ends the controller alone: jobs live on, and the same command goes on",
        ]


def command(arguments: argparse.Namespace, without: Collection[str] = HERE) -> tuple[str, ...]:
    """Return the words after `orchestrator` that mean these arguments of `sweep`, without some of them."""
    words = ["sweep", str(arguments.file.absolute())]
    for name, value in vars(arguments).items():
        flag = f"--{'set' if name == 'sets' else name.replace('_', '-')}"
        if name not in without and value is not None and value is not False:
            every = value if isinstance(value, list) else [value]
            words += [flag if one is True else f"{flag}={one}" for one in every]
    return tuple(words)


def appoint(planned: Planned, words: Sequence[str], *, takeover: bool) -> Appointed:
    """Submit the controller's job.

    The term begins before sbatch is called, with the job as its owner: of two who appoint at once one is refused, and
    so is everybody else as long as Slurm has the job.

    Args:
        planned: the sweep.
        words: what the job runs, after `orchestrator`.
        takeover: fence an owner that lives.

    Raises:
        UsageError: the sweep's cluster is no Slurm.
        OwnedError: the sweep has a controller, or one that waits in Slurm's queue.
        EnvironmentError_: Slurm refused the job, or gave no answer.
    """
    slurm = _slurm(planned.sweep.run)
    keep_simulations_apart(planned.sweep.run, planned.layout)
    sweep, folder = planned.sweep.name, planned.layout.sweep(planned.sweep.name)
    job = SlurmJob(name=f"{sweep}-controller-{secrets.token_hex(4)}",
                   conf=resolved_conf(slurm) or os.environ.get("SLURM_CONF", ""))
    request = controller_job.ControllerRequest(name=job.name, command=tuple(words), folder=str(folder.controller),
                                               directory=str(Path.cwd()))
    me = replace(Owner.me(), job=job)
    ledger, _ = begin(folder, takeover=takeover, me=me)
    refused = True
    try:
        record(planned, folder)
        controller_job.script(request, slurm)  # what cannot be used is refused here
        refused = False
        number = controller_job.submit(request, slurm)
        ledger.append("owner", owner=replace(me, job=replace(job, id=number)).fields())
    except controller_job.RefusedError:
        refused = True
        raise
    finally:
        ledger.close(release=refused)
    return Appointed(sweep=sweep, job=number, log=request.log)


def _slurm(run: Run) -> SlurmProfile:
    options = profile(run)
    if options.pop("executor") != "slurm":
        raise UsageError(f"--controller slurm: the cluster {run.cluster!r} is no Slurm; name one with --cluster, or "
                         "leave the flag out")
    return slurm_profile(options, run.cluster)
