"""Run trials again that failed or were cancelled; finished stages are reused.

Leaves a request for the sweep's controller, which applies it within a second; where none is alive it is applied when
the sweep is run again. A trial that diverged is a result and is not tried again.
"""

from __future__ import annotations

import argparse
from functools import partial

from orchestrator.arguments import sweep_name, sweep_names
from orchestrator.wishes import add_choice, either, named, report, root_of, wish
from sweeps.store.requests import Wish

EXAMPLES = """  orchestrator retry --failed
  orchestrator retry --failed --sweep complexity_by_domain
  orchestrator retry 'nca_75-100-*'"""

AGAIN = ("failed", "cancelled")
REFUSED = {
    "done": "complete already",
    "damaged": "damaged after it was complete: `orchestrator why` says which folder to remove",
    "diverged": "diverged: a result, which is not tried again",
    "withheld": "withheld: its upstream was not learned (gate: require), or its search goes on without it",
    "running": "neither failed nor cancelled: it runs",
    "waiting": "neither failed nor cancelled: it waits for its turn",
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the verb's arguments."""
    add_choice(parser)
    parser.add_argument("--failed", action="store_true", help="every trial that failed (of all sweeps, or of --sweep)")


def run(arguments: argparse.Namespace) -> int:
    """Ask."""
    from orchestrator.watch import View, look

    either(arguments.failed, arguments, "--failed")
    store = root_of(arguments)
    chosen: list[tuple[View, list[str]]] = []
    if arguments.failed:
        names = [sweep_name(store, arguments.sweep)] if arguments.sweep else sweep_names(store)
        for view in (look(store, name) for name in names):
            if trials := [t for t, state in view.trials.items() if state == "failed"]:
                chosen.append((view, trials))
    else:
        chosen.append(named(store, arguments))

    def unchanged(view: View, trial: str) -> str:
        again = view.trials[trial] in AGAIN or trial in view.asked or trial in view.state.cancelled
        return "" if again else REFUSED[view.trials[trial]]

    return report(arguments, [
        wish(store, view, Wish.RETRY, trials, partial(unchanged, view), arguments.sweep)
        for view, trials in chosen
    ])
