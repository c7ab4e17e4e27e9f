"""Preempting a job: an urgent job asks for the whole of a node on which it runs, as a large job of a paying group does.

Slurm chooses its victims itself, so all jobs of that node go; the answer names them.
"""

from __future__ import annotations

import re

from cluster.rehearsal import daemons
from cluster.rehearsal.client import ask
from cluster.rehearsal.describe import MAIN, URGENT, Preemption, Rehearsal
from sweeps.errors import EnvironmentError_, UsageError

JOB = re.compile(r"[0-9]+(_[0-9]+)?")
HOLD_S = 5
"""How long the urgent job keeps the node."""
TIMEOUT_S = 90.0
"""Slurm's clock for the grace time ticks about every 30 s, and the job may use all of it."""
NAME = "rehearsal-preemptor"


def preempt(rehearsal: Rehearsal, job: str) -> str:
    """Preempt a running job; return once the urgent job has its node.

    Raises:
        UsageError: the job is no number, or does not run.
        EnvironmentError_: it still ran when the time was over; the urgent job is cancelled.
    """
    node = _node_of(rehearsal, job)
    victims = ask(rehearsal, ["squeue", "-h", "-r", "-t", "RUNNING", "-w", node, "-p", MAIN, "-o", "%i"]).split()
    urgent = ask(rehearsal, [
        "sbatch", "--parsable", f"--job-name={NAME}", f"--partition={URGENT}", f"--nodelist={node}", "--exclusive",
        "--mem=1", "--no-requeue", "--output=/dev/null", "--export=NONE", "--chdir=/", f"--wrap=exec sleep {HOLD_S}"])
    if not daemons.until(lambda: _began(rehearsal, urgent), TIMEOUT_S):
        ask(rehearsal, ["scancel", urgent])
        raise EnvironmentError_(f"job {job} was not preempted within {TIMEOUT_S:.0f} s; the urgent job {urgent} was "
                                f"cancelled; see {rehearsal.logs}/slurmctld.log")
    what = "requeued" if rehearsal.shape.preemption is Preemption.REQUEUE else "cancelled"
    return (f"preempted on {node} by job {urgent}, which leaves after {HOLD_S} s: {', '.join(victims)} "
            f"({what}; a job that was submitted with --no-requeue is cancelled)")


def _node_of(rehearsal: Rehearsal, job: str) -> str:
    if not JOB.fullmatch(job):
        raise UsageError(f"job {job!r}: give a job id such as 12 or 12_3")
    listed = ask(rehearsal, ["squeue", "-h", "-r", "-t", "all", "-o", "%i|%A|%T|%N|%P"]).splitlines()
    rows = [line.split("|") for line in listed]
    for shown, number, state, nodes, partition in rows:
        if job in (shown, number) and state == "RUNNING" and partition == URGENT:
            raise UsageError(f"job {job} is of partition {URGENT}, which nothing preempts")
        if job in (shown, number) and state == "RUNNING":
            return ask(rehearsal, ["scontrol", "show", "hostnames", nodes]).splitlines()[0]
    states = [row[2] for row in rows if job in row[:2]]
    running = [row[0] for row in rows if row[2] == "RUNNING"]
    raise UsageError(f"job {job} does not run ({', '.join(states) or 'not in the queue'}), so it cannot be preempted; "
                     f"running: {', '.join(running) or 'none'}")


def _began(rehearsal: Rehearsal, urgent: str) -> bool:
    states = ask(rehearsal, ["squeue", "-h", "-t", "all", "-j", urgent, "-o", "%T"]).split()
    return bool(states) and states[0] in ("RUNNING", "COMPLETING", "COMPLETED")
