"""Run a sweep; run the same command again to go on after any interruption."""

from __future__ import annotations

import argparse
from dataclasses import replace
from typing import TYPE_CHECKING

from orchestrator.arguments import (
    add_cap,
    add_json,
    add_root,
    add_sweep,
    layout,
    out,
    out_json,
    overrides,
    positive,
    say,
    writable,
)
from orchestrator.notify import HELP as NOTIFY
from orchestrator.notify import URLS, hook_of, notify, summary
from sweeps.errors import OwnedError, UsageError

if TYPE_CHECKING:
    from pathlib import Path

    from orchestrator.plan import Planned

EXAMPLES = """  orchestrator sweep sweeps/smoke.yaml
  orchestrator sweep sweeps/complexity_by_domain.yaml --seeds 5
  orchestrator sweep sweeps/complexity_by_domain.yaml --scale 1m --set domain=[code] --root ~/store
  orchestrator sweep sweeps/complexity_by_domain.yaml --max-gpu-hours 2 --at-cap stop
  orchestrator sweep sweeps/complexity_by_domain.yaml --cluster gpu --controller slurm --notify @hook.txt"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the verb's arguments."""
    add_sweep(parser)
    add_cap(parser)
    add_root(parser)
    add_json(parser)
    parser.add_argument("--slots", type=positive, help="jobs at once on this machine (default: by cores and memory)")
    parser.add_argument("--quiet", action="store_true", help="print failures and the result only")
    parser.add_argument("--takeover", action="store_true", help="fence another controller of this sweep and go on")
    parser.add_argument("--controller", choices=("here", "slurm"), default="here",
                        help="slurm: submit a small job that controls the sweep and requeues itself; returns at once")
    parser.add_argument("--unsafe-exec", action="store_true", help="where no sandbox holds, run programs that models "
                        "write all the same, as you and with your files; their results are marked")
    parser.add_argument("--notify", metavar="CMD|URL|@FILE", help=NOTIFY)


def run(arguments: argparse.Namespace) -> int:
    """Run the sweep, write the report, print the table."""
    from orchestrator.pilots import searches, unsandboxed, warnings
    from orchestrator.plan import make_plan, refuse_blocked, run_pilots
    from orchestrator.session import FAILED, INTERRUPTED, failures, run_sweep

    store = layout(arguments)
    planned = make_plan(arguments.file, overrides(arguments), store.root)
    hook = hook_of(arguments.notify or planned.sweep.run.notify)
    planned = replace(planned, unsafe_exec=arguments.unsafe_exec)
    if arguments.slots is not None:
        planned = planned.with_slots(arguments.slots)
    writable(store.root)
    refuse_blocked(planned)
    run_pilots(planned)
    if arguments.controller == "slurm":
        return _appoint(arguments, planned)
    for warning in () if arguments.quiet else (*warnings(searches(planned)), *unsandboxed(planned)):
        say(f"WARNING {warning}")
    name = planned.sweep.name
    try:
        progress, interrupted = run_sweep(planned, takeover=arguments.takeover, quiet=arguments.quiet or arguments.json)
        if interrupted:
            return INTERRUPTED
        failed = failures(progress)
        page = _report(arguments, planned)
    except OwnedError:
        raise  # it goes on, elsewhere
    except Exception as error:
        notify(hook, summary(store, name, event=getattr(error, "event", "stopped"),
                             exit_code=getattr(error, "exit_code", 1), message=str(error)))
        raise
    for end in failed[:10]:
        say(f"failed: {end.id}: {end.reason}  (orchestrator logs {end.id})")
    if arguments.json:
        out_json({"name": planned.sweep.name, "trials": dict(progress.counts()),
                  "failed": [e.__dict__ for e in failed], "report": str(page)})
    code = FAILED if failed else 0
    notify(hook, summary(store, name, event="finished", exit_code=code))
    return code


def _appoint(arguments: argparse.Namespace, planned: Planned) -> int:
    """Let a Slurm job control the sweep."""
    from orchestrator.appoint import appoint, command

    if arguments.notify and arguments.notify.startswith(URLS):
        raise UsageError("--notify: the job's script would hold the URL, which may hold a token; put it into a file "
                         "and give @FILE")
    arguments.root = planned.layout.root
    found = appoint(planned, command(arguments), takeover=arguments.takeover)
    if arguments.json:
        out_json({"name": found.sweep, "controller": {"job": found.job, "log": str(found.log)}})
    else:
        say("\n".join(found.lines()))
    return 0


def _report(arguments: argparse.Namespace, planned: Planned) -> Path:
    from orchestrator.choices import fold
    from orchestrator.reporting import write_report

    fold(planned)
    page, text = write_report([planned.layout], planned.sweep.name)
    if not arguments.json:
        out(text)
        out(f"\nreport: {page}")
    return page
