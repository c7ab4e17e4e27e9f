"""What one can break, and how it is put right again. Each action has a time-out and says in a sentence what it did.

To add a fault, add a row to `FAULTS`.
"""

from __future__ import annotations

import signal
from collections.abc import Callable
from dataclasses import dataclass

from cluster.rehearsal import daemons, preempt, scratch
from cluster.rehearsal.client import ClientError, ask
from cluster.rehearsal.describe import Rehearsal
from cluster.rehearsal.look import Health, status
from cluster.rehearsal.up import wait_for, wait_for_node
from sweeps.errors import EnvironmentError_, UsageError, nearest

NODE_BACK_S = 30.0
Action = Callable[[Rehearsal, str], str]


@dataclass(frozen=True, kw_only=True)
class Fault:
    """One thing to break or to put right."""

    name: str
    target: str
    """What it takes: `NODE`, `JOB`, `[NODE]`, `[MB]`; empty: nothing. In brackets: may be left out."""
    summary: str
    action: Action


def breaks(rehearsal: Rehearsal, fault: str, target: str = "") -> str:
    """Break something; return a sentence that says what was done and how to undo it.

    Raises:
        UsageError: there is no such fault, or its target is missing, superfluous or unknown.
        EnvironmentError_: it could not be done.
    """
    found = FAULTS.get(fault)
    if found is None:
        raise UsageError(f"no fault {fault!r}; {nearest(fault, FAULTS)}")
    if target and not found.target:
        raise UsageError(f"fault {fault} takes no argument; given: {target!r}")
    if not target and found.target and not found.target.startswith("["):
        raise UsageError(f"fault {fault} needs a {found.target}: orchestrator rehearsal break {fault} {found.target}")
    if status_is_down(rehearsal):
        raise EnvironmentError_(f"rehearsal {rehearsal.name} is not up; start it: orchestrator rehearsal up --name "
                                f"{rehearsal.name}")
    return found.action(rehearsal, target)


def status_is_down(rehearsal: Rehearsal) -> bool:
    """Tell whether none of its daemons runs."""
    return not any(daemons.running(rehearsal, key) for key in daemons.keys(rehearsal))


def _node(rehearsal: Rehearsal, target: str) -> str:
    return rehearsal.node(target) if target else rehearsal.nodes[0]


def _kill_slurmd(rehearsal: Rehearsal, target: str) -> str:
    node = _node(rehearsal, target)
    pid = daemons.send(rehearsal, daemons.node_daemon(node), signal.SIGKILL)
    return (f"killed slurmd of {node} (pid {pid}); its jobs' processes run on. Slurm notices after "
            f"{rehearsal.shape.slurmd_timeout_s} s or more; `down {node}` tells it now, `start-slurmd {node}` repairs")


def _start_slurmd(rehearsal: Rehearsal, target: str) -> str:
    node = _node(rehearsal, target)
    daemons.start(rehearsal, daemons.node_daemon(node))
    wait_for_node(rehearsal, node, timeout_s=NODE_BACK_S)
    return f"slurmd of {node} runs"


def _controller(number: signal.Signals, said: str) -> Action:
    def act(rehearsal: Rehearsal, _: str) -> str:
        return _end(rehearsal, daemons.CONTROLLER, number) + said
    return act


def _end(rehearsal: Rehearsal, key: str, number: signal.Signals) -> str:
    pid = daemons.running(rehearsal, key)
    if pid is None:
        return f"{key} did not run; "
    daemons.stop(rehearsal, key, number=number, patience_s=15)
    return f"{'killed' if number is signal.SIGKILL else 'stopped'} {key} (pid {pid}); "


def _start(key: str) -> Action:
    def act(rehearsal: Rehearsal, _: str) -> str:
        _accounts(rehearsal, key)
        daemons.start(rehearsal, key)
        wait_for(rehearsal, key)
        return f"{key} runs (pid {daemons.running(rehearsal, key)}) and answers"
    return act


def _restart_controller(rehearsal: Rehearsal, _: str) -> str:
    return _end(rehearsal, daemons.CONTROLLER, signal.SIGTERM) + _start(daemons.CONTROLLER)(rehearsal, "")


def _stop_accounting(rehearsal: Rehearsal, _: str) -> str:
    _accounts(rehearsal, daemons.ACCOUNTING)
    return (_end(rehearsal, daemons.ACCOUNTING, signal.SIGTERM)
            + "sacct fails, jobs run on, the controller keeps their records for later; `start-slurmdbd` repairs it")


def _hang(key: str, said: str) -> Action:
    def act(rehearsal: Rehearsal, _: str) -> str:
        _accounts(rehearsal, key)
        return f"{key} (pid {daemons.send(rehearsal, key, signal.SIGSTOP)}) stands still: {said}"
    return act


def _release(key: str) -> Action:
    def act(rehearsal: Rehearsal, _: str) -> str:
        _accounts(rehearsal, key)
        pid = daemons.send(rehearsal, key, signal.SIGCONT)
        wait_for(rehearsal, key)
        return f"{key} (pid {pid}) goes on and answers"
    return act


def _accounts(rehearsal: Rehearsal, key: str) -> None:
    if key == daemons.ACCOUNTING and not rehearsal.shape.accounting:
        raise UsageError(f"rehearsal {rehearsal.name} was started with --no-accounting: it has no slurmdbd")


def _node_state(state: str, said: str) -> Action:
    def act(rehearsal: Rehearsal, target: str) -> str:
        node = rehearsal.node(target)
        ask(rehearsal, ["scontrol", "update", f"nodename={node}", f"state={state}", "reason=rehearsal"])
        return f"{node}: {said.format(node=node)}"
    return act


def _resume(rehearsal: Rehearsal, target: str) -> str:
    """Resume a node; one that is idle already is refused by Slurm, and is what was asked for."""
    node = rehearsal.node(target)

    def out() -> bool:
        return ask(rehearsal, ["sinfo", "-h", "-n", node, "-o", "%T"]).startswith(("drain", "down"))

    if out():
        try:
            ask(rehearsal, ["scontrol", "update", f"nodename={node}", "state=resume"])
        except ClientError:
            if out():  # else its slurmd came back by itself between the two
                raise
    return f"{node} takes jobs again"


def _fill(rehearsal: Rehearsal, target: str) -> str:
    if target and not target.isdigit():
        raise UsageError(f"fill-scratch {target!r}: give the MB to leave free, a whole number such as 2")
    free = scratch.fill(rehearsal, leave_mb=int(target or 0))
    return f"{rehearsal.scratch} has {free} bytes free; `free-scratch` repairs it"


def _free(rehearsal: Rehearsal, _: str) -> str:
    return f"{rehearsal.scratch} has {scratch.empty(rehearsal) / 1024**2:.1f} MB free"


def _repair(rehearsal: Rehearsal, _: str) -> str:
    for key in daemons.keys(rehearsal):
        pid = daemons.running(rehearsal, key)
        if pid is not None and daemons.hung(pid):
            daemons.send(rehearsal, key, signal.SIGCONT)
        if pid is None:
            daemons.start(rehearsal, key)
        if not key.startswith("slurmd."):
            wait_for(rehearsal, key)
    for node in rehearsal.nodes:
        _resume(rehearsal, node)
        _start_slurmd(rehearsal, node)
    scratch.empty(rehearsal)
    after = status(rehearsal)
    if after.health is not Health.UP:
        raise EnvironmentError_(f"rehearsal {rehearsal.name}: still broken: {'; '.join(after.problems)}; take it down")
    return "every daemon runs and answers, every node takes jobs, the scratch disk is empty of ballast"


def _table(*faults: Fault) -> dict[str, Fault]:
    return {fault.name: fault for fault in faults}


FAULTS = _table(
    Fault(name="kill-slurmd", target="[NODE]", action=_kill_slurmd,
          summary="SIGKILL a node's slurmd (default: the first): its jobs run on, and are requeued later as well"),
    Fault(name="start-slurmd", target="[NODE]", action=_start_slurmd, summary="start it again and wait for the node"),
    Fault(name="kill-slurmctld", target="", summary="SIGKILL the controller: no state is saved, clients fail",
          action=_controller(signal.SIGKILL, "sbatch and squeue fail; `start-slurmctld` repairs it")),
    Fault(name="stop-slurmctld", target="", summary="stop the controller: state is saved, clients fail, jobs run on",
          action=_controller(signal.SIGTERM, "sbatch and squeue fail, jobs run on; `start-slurmctld` repairs it")),
    Fault(name="start-slurmctld", target="", action=_start(daemons.CONTROLLER), summary="start it, wait for answers"),
    Fault(name="restart-slurmctld", target="", action=_restart_controller, summary="stop it, then start it"),
    Fault(name="hang-slurmctld", target="", summary="SIGSTOP it: sbatch times out, and may have submitted all the same",
          action=_hang(daemons.CONTROLLER, "sbatch times out and may have submitted; `release-slurmctld` repairs it")),
    Fault(name="release-slurmctld", target="", action=_release(daemons.CONTROLLER), summary="let it go on"),
    Fault(name="stop-slurmdbd", target="", action=_stop_accounting, summary="stop accounting: sacct fails at once"),
    Fault(name="start-slurmdbd", target="", action=_start(daemons.ACCOUNTING), summary="start it and wait for answers"),
    Fault(name="hang-sacct", target="", summary="SIGSTOP slurmdbd: sacct connects and waits, as on an overloaded site",
          action=_hang(daemons.ACCOUNTING, "sacct waits; `release-sacct` repairs it")),
    Fault(name="release-sacct", target="", action=_release(daemons.ACCOUNTING), summary="let it go on"),
    Fault(name="preempt", target="JOB", action=preempt.preempt,
          summary="submit an urgent job that takes the node of JOB; all jobs there are preempted"),
    Fault(name="drain", target="NODE", summary="running jobs finish, no new ones start",
          action=_node_state("drain", "takes no new jobs; `resume {node}` repairs it")),
    Fault(name="down", target="NODE", summary="declare a node dead: its jobs are requeued elsewhere at once",
          action=_node_state("down", "down, its jobs are requeued; `resume {node}` repairs it")),
    Fault(name="resume", target="NODE", action=_resume, summary="undo drain or down"),
    Fault(name="fill-scratch", target="[MB]", action=_fill,
          summary="fill the scratch disk, leaving MB free (default 0); needs a machine that allows mounting one"),
    Fault(name="free-scratch", target="", action=_free, summary="take the ballast away"),
    Fault(name="repair", target="", action=_repair, summary="undo everything above"),
)
