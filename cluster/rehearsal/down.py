"""Take a rehearsal down: jobs first, daemons in the order in which they depend on each other, then what is left."""

from __future__ import annotations

import signal

from cluster.executors._process import machine
from cluster.rehearsal import daemons, leftovers, places, scratch
from cluster.rehearsal.client import ClientError, ask
from cluster.rehearsal.describe import Rehearsal
from sweeps.errors import EnvironmentError_

PATIENCE_S = 1.5
"""From SIGTERM to SIGKILL for a daemon: nothing of its state is wanted any more."""
JOBS_PATIENCE_S = 3.0
"""How long killed jobs may take to leave; their processes are killed by id after that."""


def down(name: str = "rehearsal", *, keep: bool = False) -> Rehearsal:
    """Kill its jobs, stop its daemons, remove its folder (`keep`: all but the running cluster stays, to be read).

    Raises:
        EnvironmentError_: there is none of that name, or a process survived SIGKILL.
    """
    with places.locked(name, timeout_s=90):
        rehearsal = places.find(name)
        clear(rehearsal, keep=keep)
    return rehearsal


def clear(rehearsal: Rehearsal, *, keep: bool) -> None:
    """Do what `down` does; works on what is half up, half broken, or gone with the machine's last boot."""
    _here(rehearsal)
    _kill_jobs(rehearsal)
    stuck: list[str] = []
    nodes = [daemons.node_daemon(node) for node in rehearsal.nodes]
    for key in (*nodes, daemons.CONTROLLER, daemons.ACCOUNTING):
        _end(rehearsal, key, signal.SIGTERM, stuck)
    left = leftovers.kill(rehearsal)
    for key in (daemons.DATABASE, daemons.MUNGE):
        _end(rehearsal, key, signal.SIGKILL if key == daemons.DATABASE else signal.SIGTERM, stuck)
    stuck += [f"{process.command} (pid {process.pid})" for process in left or leftovers.kill(rehearsal)]
    if stuck:
        raise EnvironmentError_(f"rehearsal {rehearsal.name}: still alive after SIGKILL: {'; '.join(stuck)}; run "
                                f"orchestrator rehearsal down --name {rehearsal.name} again")
    scratch.unmount(rehearsal)
    places.forget(rehearsal, keep=keep)


def _here(rehearsal: Rehearsal) -> None:
    host, boot = machine()
    if rehearsal.host != host and rehearsal.boot != boot:  # its folder is on a disk that machines share
        raise EnvironmentError_(f"rehearsal {rehearsal.name} runs on {rehearsal.host}, this is {host}; run the command "
                                "there")


def _end(rehearsal: Rehearsal, key: str, number: signal.Signals, stuck: list[str]) -> None:
    try:
        daemons.stop(rehearsal, key, number=number, patience_s=PATIENCE_S)
    except EnvironmentError_ as error:
        stuck.append(str(error))


def _kill_jobs(rehearsal: Rehearsal) -> None:
    """Let Slurm kill all jobs, so that slurmd ends every step itself; what it cannot reach is killed by id later."""
    pid = daemons.running(rehearsal, daemons.CONTROLLER)
    if pid is None or daemons.hung(pid):
        return
    try:
        jobs = ask(rehearsal, ["squeue", "-h", "-o", "%A"], timeout_s=5)
        if not jobs:
            return
        ask(rehearsal, ["scancel", "--state=PENDING", f"--user={rehearsal.user}"], timeout_s=5)
        ask(rehearsal, ["scancel", "--full", "--signal=KILL", f"--user={rehearsal.user}"], timeout_s=5)
        ask(rehearsal, ["scancel", f"--user={rehearsal.user}"], timeout_s=5)
    except ClientError:  # a broken cluster is what rehearsals are for
        return
    daemons.until(lambda: _quiet(rehearsal), JOBS_PATIENCE_S)


def _quiet(rehearsal: Rehearsal) -> bool:
    try:
        return not ask(rehearsal, ["squeue", "-h", "-t", "RUNNING,COMPLETING", "-o", "%A"], timeout_s=2)
    except ClientError:
        return True
