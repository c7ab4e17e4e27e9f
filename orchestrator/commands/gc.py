"""Show what may be deleted, how much it frees, and what making it again would cost; deletes only with --yes.

Listed are checkpoints and attempts that nothing needs any more, stages that no sweep's plan names, and what killed
programs left behind. Never touched: what a controller or job may be using, and what a sweep still needs to run. After
`gc --yes` a rerun of any sweep in the store still reuses every finished stage that its plan names.

Final checkpoints of finished sweeps (--checkpoints) are what a longer budget or a further end would go on from:
without them such an extension trains from an earlier point, or refuses.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

from orchestrator.arguments import add_json, add_root, duration, layout, out, out_json, say, seconds_of, size

if TYPE_CHECKING:
    from orchestrator.housekeeping import Item, Survey

EXAMPLES = """  orchestrator gc
  orchestrator gc --older-than 7d --yes
  orchestrator gc --checkpoints --json"""

LISTED = 5
"""Items of a group that are listed, the largest first."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the verb's arguments."""
    parser.add_argument("--yes", action="store_true", help="delete what is listed")
    parser.add_argument("--older-than", type=seconds_of, metavar="AGE", default=0.0,
                        help="only what was not changed for so long: 90 s, 12h, 7d, 4w")
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
    finals = [i for i in found if i.reason is Reason.FINAL]
    chosen = found if arguments.checkpoints else [i for i in found if i.reason is not Reason.FINAL]
    if not arguments.json:
        out("\n".join(_lines(arguments, survey, found)))
    gone = list(delete(store, survey, chosen)) if arguments.yes else []
    if arguments.json:
        out_json({"root": str(store.root), "deleted": arguments.yes, "items": [_raw(i) for i in chosen],
                  "frees_bytes": sum(i.size_bytes for i in chosen), "final_checkpoints": len(finals),
                  "remake_seconds": sum(i.remake_seconds for i in chosen),
                  "remake_tokens": sum(i.remake_tokens for i in chosen),
                  "living_controllers": sorted(survey.use.alive)})
    elif arguments.yes:
        say(f"deleted {len(gone)} items, {size(sum(i.size_bytes for i in gone))} freed")
    return 0


def _raw(item: Item) -> dict[str, Any]:
    return {**item.__dict__, "path": str(item.path), "reason": item.reason.name.lower()}


def _lines(arguments: argparse.Namespace, survey: Survey, found: Sequence[Item]) -> Iterable[str]:
    from orchestrator.housekeeping import Reason

    chosen = [i for i in found if arguments.checkpoints or i.reason is not Reason.FINAL]
    for reason in Reason:
        group = sorted((i for i in found if i.reason is reason), key=lambda i: (-i.size_bytes, str(i.path)))
        if group:
            yield f"{len(group):>5}  {size(sum(i.size_bytes for i in group)):>8}  {reason}"
            yield f"{'':>17}{_cost(group)}"
        if reason is Reason.FINAL and not arguments.checkpoints:
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
