"""Run trials no further; their finished stages stay, and so do stages that other trials need.

Leaves a request for the sweep's controller, which applies it within a second. Where none is alive, jobs that live on
a cluster are asked here and now to checkpoint and leave; on this machine it is applied when the sweep is run again.
`orchestrator retry` takes it back.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from orchestrator.arguments import sweep_name
from orchestrator.wishes import add_choice, either, named, report, root_of, wish
from sweeps.store.requests import Wish

EXAMPLES = """  orchestrator cancel nca_45-60-web-s0
  orchestrator cancel 'nca_75-100-*' --sweep complexity_by_domain
  orchestrator cancel --all sweeps/smoke.yaml"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the verb's arguments."""
    add_choice(parser)
    parser.add_argument("--all", type=Path, metavar="FILE|NAME", help="every trial of this sweep that is not done")


def run(arguments: argparse.Namespace) -> int:
    """Ask."""
    from orchestrator.watch import look

    either(arguments.all is not None, arguments, "--all FILE|NAME")
    store = root_of(arguments)
    if arguments.all is not None:
        view = look(store, sweep_name(store, arguments.all))
        trials = [t for t, state in view.trials.items() if state not in ("done", "diverged")]
    else:
        view, trials = named(store, arguments)

    def unchanged(trial: str) -> str:
        if view.trials[trial] in ("done", "diverged"):
            return "complete already, and stays so"
        return "cancelled already" if trial in view.state.cancelled and trial not in view.asked else ""

    return report(arguments, [wish(store, view, Wish.CANCEL, trials, unchanged, arguments.all or arguments.sweep)])
