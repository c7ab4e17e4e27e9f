"""What `cancel` and `retry` have in common: which trials are meant, what asking can change, and what happens next."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from orchestrator.arguments import add_json, add_root, layout, out, out_json, sweep_name, sweep_names
from orchestrator.targets import match_trials, read_plan
from orchestrator.watch import View, look, sweep_file_hint
from sweeps.errors import OrchestratorError, UsageError
from sweeps.store.layout import Layout
from sweeps.store.requests import Wish, ask

LISTED = 6
"""Trials that a message names."""


@dataclass(frozen=True, kw_only=True)
class Asked:
    """What became of a wish for one sweep."""

    sweep: str
    wish: Wish
    trials: tuple[str, ...]
    """Trials for which it was asked now."""
    unchanged: Mapping[str, str]
    """Trial -> why asking would change nothing."""
    controller: str
    """`pid N on HOST`, or empty."""
    request: int | None
    """Number of the request; None: nothing had to be asked."""
    command: str
    """What applies it where no controller is alive."""
    left: str = ""
    """What was done at once, without a controller; empty: nothing."""

    def lines(self) -> list[str]:
        """Return what a person should know."""
        found = []
        if self.trials:
            how = self.left or (
                f"asked {self.controller}: applied within a second while it runs" if self.controller else
                f"no controller is alive: the request is kept, and applied when you run\n  {self.command}")
            found.append(f"{self.sweep}: {self.wish} {_listed(self.trials)}: {how}")
        for reason in dict.fromkeys(self.unchanged.values()):
            trials = [t for t, r in self.unchanged.items() if r == reason]
            found.append(f"{self.sweep}: unchanged: {_listed(trials)}: {reason}")
        return found


def _listed(trials: Sequence[str]) -> str:
    more = f" and {len(trials) - LISTED} more" if len(trials) > LISTED else ""
    return f"{len(trials)} trial{'s' if len(trials) != 1 else ''} ({', '.join(trials[:LISTED])}{more})"


def add_choice(parser: argparse.ArgumentParser) -> None:
    """Add trials, the sweep to look in, the store and `--json`."""
    parser.add_argument("trials", nargs="*", metavar="TRIAL", help="a trial's id, or a pattern such as 'nca_*-s0'")
    parser.add_argument("--sweep", type=Path, metavar="FILE|NAME", help="look in this sweep only")
    add_root(parser)
    add_json(parser)


def named(store: Layout, arguments: argparse.Namespace) -> tuple[View, list[str]]:
    """Return the sweep and its trials that ids and patterns name.

    Raises:
        UsageError: there are none, or they are in several sweeps.
    """
    names = [sweep_name(store, arguments.sweep)] if arguments.sweep else sweep_names(store)
    plan, trials = match_trials([read_plan(store, name) for name in names], arguments.trials)
    return look(store, plan.name), trials


def wish(store: Layout, view: View, wished: Wish, trials: Sequence[str], unchanged: Callable[[str], str],
         file: Path | None = None) -> Asked:
    """Leave a request for the trials that it can change.

    Args:
        store: the store.
        view: the sweep.
        wished: what is asked for.
        trials: for which trials.
        unchanged: a trial's id -> why asking would change nothing, or the empty string.
        file: the sweep file, where it was given.
    """
    reasons = {t: "asked already, not yet applied" if view.asked.get(t) is wished else unchanged(t) for t in trials}
    chosen = [t for t in trials if not reasons[t]]
    name = view.plan.name
    request = ask(store.sweep(name), wished, chosen) if chosen else None
    command = f"orchestrator sweep {file}" if file and file.is_file() else sweep_file_hint(store, name)
    alone = wished is Wish.CANCEL and request is not None and view.state.cluster and not view.controlled
    return Asked(sweep=name, wish=wished, trials=tuple(chosen), unchanged={t: r for t, r in reasons.items() if r},
                 controller=view.controlled, request=request.number if request else None, command=command,
                 left=_alone(store, name, command) if alone else "")


def _alone(store: Layout, name: str, command: str) -> str:
    """Take the place of a controller that is gone; return what was done, in words; empty: a new one does it."""
    from orchestrator.unattended import withdraw  # pydantic: only where jobs live without a controller

    try:
        asked = withdraw(store, name)
    except OrchestratorError as error:
        return f"no controller is alive, and {error}\n  the request is kept, and applied when you run\n  {command}"
    if asked is None:
        return ""
    return f"no controller is alive: done here; {asked} job{'s' if asked != 1 else ''} asked to checkpoint and leave"


def report(arguments: argparse.Namespace, found: Sequence[Asked]) -> int:
    """Print what was asked; return the exit code."""
    if arguments.json:
        requests: list[dict[str, Any]] = [{**a.__dict__, "trials": list(a.trials)} for a in found]
        out_json({"requests": requests})
    else:
        out("\n".join(line for a in found for line in a.lines()) or "nothing to ask for")
    return 0


def either(given: bool, arguments: argparse.Namespace, flag: str) -> None:
    """See that trials or the flag were given, and not both.

    Raises:
        UsageError: both, or neither.
    """
    if given == bool(arguments.trials):
        raise UsageError(f"name trials (ids or patterns such as 'nca_*-s0') or give {flag}"
                         f"{', not both' if given else ''}; `orchestrator status --json` names what there is")


def root_of(arguments: argparse.Namespace) -> Layout:
    """Return the store that was named.

    Raises:
        UsageError: it has no sweep.
    """
    store = layout(arguments)
    if not sweep_names(store):
        raise UsageError(f"{store.root} has no sweep yet; name the right --root, or start one: orchestrator sweep FILE")
    return store
