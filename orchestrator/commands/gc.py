"""Show what may be deleted, how much it frees, and what making it again would cost; deletes only with --yes.

Deleted are checkpoints and attempts that nothing needs any more, and what killed programs left behind: nobody has to
make them again. Never touched: what a controller or job may be using, and what a sweep still needs to run.

Two groups are listed with what making them again would cost, and deleted only when asked for by name: stages that no
sweep's last plan names (--orphans; a sweep last run with --set or fewer seeds plans only a part of its grid), and final
checkpoints of finished sweeps (--checkpoints), which a longer budget or a further end would go on from.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

from orchestrator.arguments import add_json, add_root, duration, layout, out, out_json, say, seconds_of, size

if TYPE_CHECKING:
    from orchestrator.housekeeping import Item, Reason, Survey

EXAMPLES = """  orchestrator gc
  orchestrator gc --older-than 7d --yes
  orchestrator gc --orphans --checkpoints --json"""

LISTED = 5
"""Items of a group that are listed, the largest first."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the verb's arguments."""
    parser.add_argument("--yes", action="store_true", help="delete what is listed")
    parser.add_argument("--older-than", type=seconds_of, metavar="AGE", default=0.0,
                        help="only what was not changed for so long: 90 s, 12h, 7d, 4w")
    parser.add_argument("--orphans", action="store_true",
                        help="also the stages that no sweep's last plan names")
    parser.add_argument("--checkpoints", action="store_true",
                        help="also the final checkpoints of sweeps all of whose trials have ended")
    parser.add_argument("--all", action="store_true", help="list every item, not only the largest of each group")
    add_root(parser)
    add_json(parser)


def run(arguments: argparse.Namespace) -> int:
    """List, and delete where asked to."""
    from orchestrator.housekeeping import Reason, Survey, delete
    from orchestrator.leftovers import leftovers

    store = layout(arguments)
    survey = Survey(store)
    now = time.time()
    found = [i for i in (*survey.items(), *leftovers(store, survey)) if now - i.newest >= arguments.older_than]
    kept = _kept(arguments)
    chosen = [i for i in found if i.reason not in kept]
    if not arguments.json:
        out("\n".join(_lines(arguments, survey, found)))
    gone = list(delete(store, survey, chosen)) if arguments.yes else []
    if arguments.json:
        out_json({"root": str(store.root), "deleted": arguments.yes, "items": [_raw(i) for i in chosen],
                  "frees_bytes": sum(i.size_bytes for i in chosen),
                  "final_checkpoints": sum(i.reason is Reason.FINAL for i in found),
                  "orphans": sum(i.reason is Reason.ORPHAN for i in found),
                  "remake_seconds": sum(i.remake_seconds for i in chosen),
                  "remake_tokens": sum(i.remake_tokens for i in chosen),
                  "living_controllers": sorted(survey.use.alive)})
    elif arguments.yes:
        say(f"deleted {len(gone)} items, {size(sum(i.size_bytes for i in gone))} freed")
    return 0


def _kept(arguments: argparse.Namespace) -> set[Reason]:
    """Return the groups that cost something to make again and were not asked for by name."""
    from orchestrator.housekeeping import Reason

    asked = {Reason.ORPHAN: arguments.orphans, Reason.FINAL: arguments.checkpoints}
    return {reason for reason, given in asked.items() if not given}


def _raw(item: Item) -> dict[str, Any]:
    return {**item.__dict__, "path": str(item.path), "reason": item.reason.name.lower()}


def _lines(arguments: argparse.Namespace, survey: Survey, found: Sequence[Item]) -> Iterable[str]:
    from orchestrator.housekeeping import Reason

    kept = _kept(arguments)
    chosen = [i for i in found if i.reason not in kept]
    for reason in Reason:
        group = sorted((i for i in found if i.reason is reason), key=lambda i: (-i.size_bytes, str(i.path)))
        if group:
            yield f"{len(group):>5}  {size(sum(i.size_bytes for i in group)):>8}  {reason}"
            yield f"{'':>17}{_cost(group)}"
        if reason in kept:
            continue
        for item in group if arguments.all else group[:LISTED]:
            yield f"       {size(item.size_bytes):>8}    {item.what}"
        if len(group) > LISTED and not arguments.all:
            yield f"                   and {len(group) - LISTED} more (--all lists them)"
    if survey.use.alive:
        yield f"{', '.join(sorted(survey.use.alive))} is running: its stages, all orphans and final checkpoints stay"
    if not chosen:
        yield "nothing to delete"
    elif not arguments.yes:
        yield f"frees {size(sum(i.size_bytes for i in chosen))} of {len(chosen)} items; nothing was deleted: add --yes"


def _cost(group: Sequence[Item]) -> str:
    seconds, tokens = sum(i.remake_seconds for i in group), sum(i.remake_tokens for i in group)
    if not seconds and not tokens:
        return "nobody needs them again"
    return f"to make them again: {duration(seconds)}, {tokens:,} tokens"
