"""Show what is done, running and failed, from the files alone."""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from typing import TYPE_CHECKING

from orchestrator.arguments import add_json, add_root, layout, out, out_json, say, sweep_name, sweep_names

if TYPE_CHECKING:
    from orchestrator.watch import SweepStatus

EXAMPLES = """  orchestrator status
  orchestrator status sweeps/smoke.yaml --watch
  orchestrator status complexity_by_domain --json"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the verb's arguments."""
    parser.add_argument("sweep", nargs="?", type=Path, metavar="FILE", help="sweep file or name (default: all)")
    parser.add_argument("--watch", action="store_true", help="again every two seconds, until Ctrl-C")
    add_root(parser)
    add_json(parser)


def run(arguments: argparse.Namespace) -> int:
    """Print the status."""
    from orchestrator.watch import sweep_status

    store = layout(arguments)
    while True:
        names = [sweep_name(store, arguments.sweep)] if arguments.sweep else sweep_names(store)
        found = [sweep_status(store, name) for name in names]
        if arguments.json:
            out_json({"root": str(store.root), "sweeps": [s.__dict__ for s in found]})
        elif not found:
            say(f"no sweep in {store.root} yet; start one: orchestrator sweep FILE")
        else:
            out("\n\n".join(map(text, found)))
        if not arguments.watch:
            return 0
        time.sleep(2)
        out("")


def text(status: SweepStatus) -> str:
    """Return one sweep's status in 80 columns."""
    controlled = f"controller {status.controlled}" if status.controlled else "no controller alive"
    lines = [f"{status.name}  ({controlled})"]
    if status.question:
        lines.append(f"  {status.question}"[:80])
    lines.append("  trials  " + _counts(status.trials))
    lines.append("  stages  " + _counts(status.stages))
    for running in status.running[:8]:
        speed = running["tokens_per_second"]
        rate = f"  {float(speed):,.0f} tokens/s" if speed is not None else ""
        lines.append(f"  running {str(running['label'])[:44]:<44} {running['tokens']:>9,}{rate}")
    lines += [f"  failed  {f['stage']}: orchestrator logs {f['fingerprint'][:8]}" for f in status.failed[:8]]
    return "\n".join(lines)


def _counts(counts: object) -> str:
    assert isinstance(counts, dict)
    return "  ".join(f"{v} {k}" for k, v in sorted(counts.items())) or "none"
