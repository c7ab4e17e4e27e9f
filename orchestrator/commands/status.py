"""Show what is done, running and failed, from the files alone.

Works while a controller runs and on a copy of a store. With --watch on a terminal the picture is redrawn in place,
elsewhere it is printed again (with --json: one document a line); Ctrl-C is its ordinary end (exit code 0).
"""

from __future__ import annotations

import argparse
import os
import shutil
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from orchestrator import health
from orchestrator.arguments import add_json, add_root, layout, out, out_json, say, sweep_name, sweep_names
from sweeps.store.layout import Layout

if TYPE_CHECKING:
    from orchestrator.watch import SweepStatus

EXAMPLES = """  orchestrator status
  orchestrator status sweeps/smoke.yaml --watch
  orchestrator status complexity_by_domain --line
  orchestrator status complexity_by_domain --json"""

INTERVAL_SECONDS = 2.0
LISTED = 8
"""Running and failed stages that are listed."""
STATES = ("failed", "damaged", "diverged", "cancelled", "withheld", "running", "waiting")
"""Of trials, as `--line` names them."""
HOME_AND_CLEAR = "\x1b[H\x1b[J"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the verb's arguments."""
    parser.add_argument("sweep", nargs="?", type=Path, metavar="FILE", help="sweep file or name (default: all)")
    parser.add_argument("--watch", action="store_true", help="again every two seconds, until Ctrl-C")
    parser.add_argument("--line", action="store_true", help="one line a sweep, to be pasted into a chat")
    add_root(parser)
    add_json(parser)


def run(arguments: argparse.Namespace) -> int:
    """Print the status."""
    store = layout(arguments)
    if not arguments.watch:
        _show(arguments, store, _look(arguments, store))
        return 0
    try:
        while True:
            _show(arguments, store, _look(arguments, store))
            time.sleep(INTERVAL_SECONDS)
    except KeyboardInterrupt:
        return 0


def _look(arguments: argparse.Namespace, store: Layout) -> list[SweepStatus]:
    from orchestrator.watch import sweep_status

    names = [sweep_name(store, arguments.sweep)] if arguments.sweep else sweep_names(store)
    return [sweep_status(store, name) for name in names]


def _show(arguments: argparse.Namespace, store: Layout, found: list[SweepStatus]) -> None:
    if arguments.json:
        out_json({"root": str(store.root), "sweeps": [s.__dict__ for s in found]}, one_line=arguments.watch)
        sys.stdout.flush()
        return
    page = "\n".join(map(line, found)) if arguments.line else "\n\n".join(map(text, found))
    if not found:
        say(f"no sweep in {store.root} yet; start one: orchestrator sweep FILE")
    elif not arguments.watch:
        out(page)
    else:
        draw(page)


def draw(page: str) -> None:
    """Show a page that will be shown again: in place of the former on a terminal, after it elsewhere."""
    if redraws():
        width, height = shutil.get_terminal_size()
        lines = [line[: width - 1] for line in page.splitlines()[: height - 1]]
        sys.stdout.write(HOME_AND_CLEAR + "\n".join(lines) + "\n")
    else:
        out(page + "\n")
    sys.stdout.flush()


def redraws() -> bool:
    """True where stdout is a terminal that can be redrawn in place."""
    return sys.stdout.isatty() and os.environ.get("TERM", "dumb") not in ("", "dumb")


def text(status: SweepStatus) -> str:
    """Return one sweep's status in 80 columns."""
    controlled = f"controller {status.controlled}" if status.controlled else "no controller alive"
    lines = [f"{status.name}  ({controlled}){'  SIMULATED' if status.simulated else ''}"]
    if status.question:
        lines.append(f"  {status.question}"[:80])
    lines.append("  trials  " + _counts(status.trials))
    lines.append("  stages  " + _counts(status.stages))
    if budget := status.budget:
        lines.append(f"  budget  {budget['used_gpu_hours']:.3g} of {budget['gpu_hours']:g} GPU-hours used, then "
                     f"{budget['at_cap']} ({budget['source']})")
    if lost := status.lost_tokens:
        times = f"{len(lost)} interruption{'s' if len(lost) > 1 else ''}"
        lines.append(f"  again   {sum(lost):,} tokens trained twice in {times}, at most {max(lost):,} in one")
    if restarts := status.restarts:
        classes = ", ".join(f"{count} {failure}" for failure, count in sorted(restarts["classes"].items()))
        lines.append(f"  restart {restarts['restarts']} of jobs by the cluster itself ({classes}), after "
                     f"{restarts['gpu_hours']:.3g} GPU-hours")
    lines += [f"  asked   {wish} {count} trials, not yet applied" for wish, count in sorted(status.asked.items())]
    for running in status.running[:LISTED]:
        speed = running["tokens_per_second"]
        rate = f"  {float(speed):,.0f} tokens/s" if speed is not None else ""
        lines.append(f"  running {str(running['label'])[:44]:<44} {running['tokens']:>9,}{rate}")
        lines += [f"          {line}" for line in (*health.lines(running), *running["notices"])]
    for kind, speed in status.speed.items():
        if speed["tokens_per_second"] is not None:
            lines.append(f"  speed   {kind}, median of {speed['stages']:,}: {speed['tokens_per_second']:,.0f} tokens/s")
            lines += [f"          {line}" for line in health.lines(speed)]
    lines += [f"  failed  {f['stage'][:31]:<31} {f['class']:<9} orchestrator why {f['fingerprint'][:8]}"
              for f in status.failed[:LISTED]]
    if len(status.failed) > LISTED:
        lines.append(f"          and {len(status.failed) - LISTED} more: orchestrator status --json names them")
    return "\n".join(lines)


def line(status: SweepStatus) -> str:
    """Return one sweep's status as one line without names of hosts or paths, worst news first."""
    total, done = sum(status.trials.values()), status.trials.get("done", 0)
    parts = [f"{done} of {total} trials done"]
    parts += [f"{count} {state}" for state in STATES if (count := status.trials.get(state, 0))]
    stages = sum(status.stages.values())
    parts.append(f"{status.stages.get('done', 0)} of {stages} stages")
    if budget := status.budget:
        parts.append(f"{budget['used_gpu_hours']:.3g} of {budget['gpu_hours']:g} GPU-hours")
    if done < total:
        parts.append("controller alive" if status.controlled else "no controller alive")
    return f"{status.name}{' (SIMULATED)' if status.simulated else ''}: {', '.join(parts)}"


def _counts(counts: Mapping[str, int]) -> str:
    return "  ".join(f"{v} {k}" for k, v in sorted(counts.items())) or "none"
