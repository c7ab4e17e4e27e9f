"""Run a sweep; run the same command again to go on after any interruption."""

from __future__ import annotations

import argparse

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

EXAMPLES = """  orchestrator sweep sweeps/smoke.yaml
  orchestrator sweep sweeps/complexity_by_domain.yaml --seeds 5
  orchestrator sweep sweeps/complexity_by_domain.yaml --scale 1m --set domain=[code] --root ~/store
  orchestrator sweep sweeps/complexity_by_domain.yaml --max-gpu-hours 2 --at-cap stop"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the verb's arguments."""
    add_sweep(parser)
    add_cap(parser)
    add_root(parser)
    add_json(parser)
    parser.add_argument("--slots", type=positive, help="jobs at once on this machine (default: by cores and memory)")
    parser.add_argument("--quiet", action="store_true", help="print failures and the result only")
    parser.add_argument("--takeover", action="store_true", help="fence another controller of this sweep and go on")


def run(arguments: argparse.Namespace) -> int:
    """Run the sweep, write the report, print the table."""
    from orchestrator.plan import make_plan, refuse_blocked, run_pilots
    from orchestrator.session import failures, report_path, run_sweep

    store = layout(arguments)
    planned = make_plan(arguments.file, overrides(arguments), store.root)
    if arguments.slots is not None:
        planned = planned.with_slots(arguments.slots)
    writable(store.root)
    refuse_blocked(planned)
    run_pilots(planned)
    progress, interrupted = run_sweep(planned, takeover=arguments.takeover, quiet=arguments.quiet or arguments.json)
    if interrupted:
        return 130
    failed = failures(progress)
    _report(arguments, planned.sweep.name)
    for end in failed[:10]:
        say(f"failed: {end.id}: {end.reason}  (orchestrator logs {end.id})")
    if arguments.json:
        out_json({"name": planned.sweep.name, "trials": dict(progress.counts()),
                  "failed": [e.__dict__ for e in failed], "report": str(report_path(planned) / "report.html")})
    return 3 if failed else 0


def _report(arguments: argparse.Namespace, name: str) -> None:
    from orchestrator.reporting import write_report

    store = layout(arguments)
    page, text = write_report(store, name)
    if not arguments.json:
        out(text)
        out(f"\nreport: {page}")
