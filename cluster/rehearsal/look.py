"""What a rehearsal is doing: its daemons from /proc, the rest from Slurm where it answers. Never waits long."""

from __future__ import annotations

import shlex
from collections import Counter
from dataclasses import dataclass
from enum import StrEnum

from cluster.rehearsal import daemons, scratch
from cluster.rehearsal.client import ClientError, ask, refusal
from cluster.rehearsal.describe import MAIN, Rehearsal

TIMEOUT_S = 4.0


class Health(StrEnum):
    """A rehearsal as a whole."""

    UP = "up"
    BROKEN = "broken"
    """Some daemons run and answer, others do not."""
    DOWN = "down"


@dataclass(frozen=True, kw_only=True)
class Daemon:
    """One of its processes."""

    key: str
    state: str
    """`running`, `hangs` (stopped by a signal) or `dead`."""
    pid: int | None
    port: int | None
    """None: it listens on a socket."""


@dataclass(frozen=True, kw_only=True)
class Node:
    """A node as Slurm sees it."""

    name: str
    state: str
    """Slurm's word; a `*` at its end: it does not respond."""
    cpus: str
    """Allocated/idle/other/total."""
    reason: str


@dataclass(frozen=True, kw_only=True)
class Status:
    """Everything about one rehearsal."""

    rehearsal: Rehearsal
    health: Health
    daemons: tuple[Daemon, ...]
    nodes: tuple[Node, ...]
    """Empty: the controller gave no answer."""
    queue: dict[str, int]
    """Slurm's word -> jobs in that state, array tasks one by one; finished ones stay `min_job_age_s` seconds."""
    accounting: str
    """`answers`, `off`, or why it does not answer."""
    scratch: str
    """Free space, or why there is no scratch disk."""
    problems: tuple[str, ...]
    """What did not answer, in words."""

    @property
    def usage(self) -> tuple[str, ...]:
        """Shell lines that make the clients of one's shell use it."""
        return tuple(f"export {k}={shlex.quote(v)}" for k, v in self.rehearsal.environment().items())


def status(rehearsal: Rehearsal) -> Status:
    """Look at a rehearsal; whatever is broken is described, never raised."""
    seen = tuple(_daemon(rehearsal, key) for key in daemons.keys(rehearsal))
    running = [d.state == "running" for d in seen]
    problems = [f"{d.key} {'is dead' if d.state == 'dead' else 'hangs'}" for d in seen if d.state != "running"]
    controller = next(d for d in seen if d.key == daemons.CONTROLLER)
    nodes: tuple[Node, ...] = ()
    queue: dict[str, int] = {}
    if controller.state == "running":
        try:
            nodes, queue = _nodes(rehearsal), _queue(rehearsal)
        except ClientError as error:
            problems.append(str(error))
    problems += [f"node {n.name} is {n.state}" for n in nodes if n.state.rstrip("*") in ("down", "unknown")]
    accounting = _accounting(rehearsal, seen)
    health = Health.DOWN if not any(d.pid for d in seen) else Health.BROKEN
    if all(running) and nodes and accounting in ("answers", "off"):
        health = Health.UP
    return Status(rehearsal=rehearsal, health=health, daemons=seen, nodes=nodes, queue=queue, accounting=accounting,
                  scratch=_scratch(rehearsal), problems=tuple(problems))


def _daemon(rehearsal: Rehearsal, key: str) -> Daemon:
    pid = daemons.running(rehearsal, key)
    state = "dead" if pid is None else ("hangs" if daemons.hung(pid) else "running")
    return Daemon(key=key, state=state, pid=pid, port=rehearsal.ports.get(key))


def _nodes(rehearsal: Rehearsal) -> tuple[Node, ...]:
    lines = ask(rehearsal, ["sinfo", "-h", "-N", "-p", MAIN, "-o", "%N|%T|%C|%E"], timeout_s=TIMEOUT_S).splitlines()
    rows = [line.split("|", 3) for line in lines]
    return tuple(Node(name=r[0], state=r[1], cpus=r[2], reason="" if r[3] == "none" else r[3]) for r in rows)


def _queue(rehearsal: Rehearsal) -> dict[str, int]:
    words = ask(rehearsal, ["squeue", "-h", "-r", "-t", "all", "-o", "%T"], timeout_s=TIMEOUT_S).split()
    return dict(sorted(Counter(words).items()))


def _accounting(rehearsal: Rehearsal, seen: tuple[Daemon, ...]) -> str:
    if not rehearsal.shape.accounting:
        return "off"
    for daemon in seen:
        if daemon.key in (daemons.DATABASE, daemons.ACCOUNTING) and daemon.state != "running":
            return f"{daemon.key} {'is dead' if daemon.state == 'dead' else 'hangs'}"
    return refusal(rehearsal, ["sacctmgr", "-n", "show", "cluster"], timeout_s=TIMEOUT_S) or "answers"


def _scratch(rehearsal: Rehearsal) -> str:
    if not scratch.mounted(rehearsal):
        return "a folder, no disk of its own (mounting was not allowed): it cannot be filled"
    return f"{scratch.free_bytes(rehearsal.scratch) / 1024**2:.1f} of {rehearsal.shape.scratch_mb} MB free"
