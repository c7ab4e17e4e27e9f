"""A private, real Slurm on this machine, with faults on demand: rehearse a sweep before it costs a GPU-hour.

`up` starts it in seconds, `status` shows it and how to use it, `break` hurts or repairs it, `down` leaves nothing. It
needs Debian's or Ubuntu's Slurm packages (named where missing), no root, and none of their services. All state lies
in one folder (/tmp/rehearsal-UID/named/NAME unless --folder says otherwise); `down` removes it, scratch included.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from orchestrator.arguments import add_json, out, out_json, say
from sweeps.errors import UsageError

if TYPE_CHECKING:
    from cluster.rehearsal import Rehearsal, Status

EXAMPLES = """  orchestrator rehearsal up
  orchestrator rehearsal up --name two --nodes 4 --cpus 8 --preemption cancel
  orchestrator rehearsal status
  orchestrator rehearsal break --list
  orchestrator rehearsal break kill-slurmd n2
  orchestrator rehearsal down"""

NAME = "rehearsal"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the verb's arguments."""
    below = parser.add_subparsers(dest="action", metavar="up|status|break|down", required=True)
    up = below.add_parser("up", help="start one; one that is up already is shown")
    up.add_argument("--nodes", type=int, default=2, metavar="N", help="nodes (default: 2)")
    up.add_argument("--cpus", type=int, default=2, metavar="N",
                    help="CPUs of a node, whatever the machine has (default: 2)")
    up.add_argument("--no-accounting", action="store_true", help="no slurmdbd: sacct has no answer")
    up.add_argument("--preemption", choices=("requeue", "cancel"), default="requeue",
                    help="what happens to a preempted job (default: requeue)")
    up.add_argument("--no-user-signal", action="store_true",
                    help="a preempted job gets SIGTERM only, not the signal it asked for")
    up.add_argument("--folder", type=Path, metavar="FOLDER", help="all its state (default: a folder in /tmp)")
    status = below.add_parser("status", help="daemons, nodes, queue, ports, and how to use it (default: all of them)")
    breaking = below.add_parser("break", help="break something, or repair it")
    breaking.add_argument("fault", nargs="?", metavar="FAULT", help="see --list")
    breaking.add_argument("target", nargs="?", default="", metavar="NODE|JOB|MB", help="what the fault is about")
    breaking.add_argument("--list", action="store_true", help="explain every fault")
    down = below.add_parser("down", help="kill its jobs, stop it, remove its folder")
    down.add_argument("--keep", action="store_true", help="keep its folder (logs, scratch); the next `up` empties it")
    for one in (up, status, breaking, down):
        one.add_argument("--name", default=None if one is status else NAME, metavar="NAME",
                         help="which rehearsal" + (" (default: all)" if one is status else f" (default: {NAME})"))
        add_json(one)


def run(arguments: argparse.Namespace) -> int:
    """Do it."""
    actions = {"up": _up, "status": _status, "break": _break, "down": _down}
    return actions[arguments.action](arguments)


def _up(arguments: argparse.Namespace) -> int:
    from cluster.rehearsal import Preemption, Shape, status, up

    shape = Shape(nodes=arguments.nodes, cpus=arguments.cpus, accounting=not arguments.no_accounting,
                  preemption=Preemption(arguments.preemption), user_signal=not arguments.no_user_signal)
    began = time.monotonic()
    seen = status(up(arguments.name, shape, folder=arguments.folder and arguments.folder.expanduser()))
    say(f"rehearsal {arguments.name} is up after {time.monotonic() - began:.1f} s")
    if arguments.json:
        out_json(fields(seen))
    else:
        out(text(seen))
    return 0


def _status(arguments: argparse.Namespace) -> int:
    from cluster.rehearsal import find, rehearsals, status

    seen = [status(r) for r in ([find(arguments.name)] if arguments.name else rehearsals())]
    if arguments.json:
        out_json({"rehearsals": [fields(s) for s in seen]})
    elif seen:
        out("\n\n".join(map(text, seen)))
    else:
        say("no rehearsal on this machine; start one: orchestrator rehearsal up")
    return 0


def _break(arguments: argparse.Namespace) -> int:
    from cluster.rehearsal import FAULTS, breaks, find

    if arguments.list:
        if arguments.json:
            out_json({"faults": [{"name": f.name, "target": f.target, "summary": f.summary} for f in FAULTS.values()]})
        else:
            out("\n".join(f"{f'{f.name} {f.target}':<22} {f.summary}" for f in FAULTS.values()))
        return 0
    if not arguments.fault:
        raise UsageError("break what? `orchestrator rehearsal break --list` explains every fault")
    done = breaks(find(arguments.name), arguments.fault, arguments.target)
    if arguments.json:
        out_json({"rehearsal": arguments.name, "fault": arguments.fault, "target": arguments.target, "done": done})
    else:
        out(done)
    return 0


def _down(arguments: argparse.Namespace) -> int:
    from cluster.rehearsal import down

    began = time.monotonic()
    gone: Rehearsal = down(arguments.name, keep=arguments.keep)
    kept = f"; its files stay in {gone.folder}" if arguments.keep else ""
    say(f"rehearsal {arguments.name} is down after {time.monotonic() - began:.1f} s{kept}")
    if arguments.json:
        out_json({"rehearsal": arguments.name, "folder": str(gone.folder), "kept": arguments.keep})
    return 0


def fields(seen: Status) -> dict[str, Any]:
    """Return a rehearsal's status as JSON has it."""
    it = seen.rehearsal
    return {
        "name": it.name, "health": seen.health, "folder": str(it.folder), "environment": it.environment(),
        "slurm": it.version, "accounting": seen.accounting, "preemption": it.shape.preemption,
        "user_signal": it.shape.user_signal, "scratch": {"folder": str(it.scratch), "state": seen.scratch},
        "daemons": [vars(d) for d in seen.daemons], "nodes": [vars(n) for n in seen.nodes], "queue": seen.queue,
        "logs": str(it.logs), "problems": list(seen.problems),
    }


def text(seen: Status) -> str:
    """Return a rehearsal's status for a person."""
    it = seen.rehearsal
    queue = ", ".join(f"{count} {word.lower()}" for word, count in seen.queue.items()) or "empty"
    lines = [f"{it.name}  ({seen.health})  Slurm {it.version}, preemption by {it.shape.preemption}, {it.folder}"]
    lines += [f"  {d.key:<24} {d.state:<8} pid {d.pid or '-':<8} port {d.port or '-'}" for d in seen.daemons]
    lines += [f"  node {n.name:<19} {n.state:<8} CPUs {n.cpus} (allocated/idle/other/all) {n.reason}".rstrip()
              for n in seen.nodes]
    lines += [f"  queue       {queue}", f"  accounting  {seen.accounting}",
              f"  scratch     {it.scratch}: {seen.scratch}",
              f"  logs        {it.logs}"]
    lines += [f"  problem     {problem}" for problem in seen.problems]
    lines += ["  use it in this shell:", *(f"    {line}" for line in seen.usage)]
    return "\n".join(lines)
