"""Extend a sweep by seeds: edits `axes.seed` of its file, and says how much more will run.

`+2` adds the next two whole numbers, `5` asks for the seeds 0 to 4, `0,1,7` for exactly these. Seeds are only added,
never removed; comments and layout of the file stay. Nothing is started: run the sweep afterwards.
"""

from __future__ import annotations

import argparse
import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from orchestrator.arguments import add_json, add_root, layout, out, out_json
from sweeps.errors import UsageError
from sweeps.store.layout import Layout

EXAMPLES = """  orchestrator seeds +2 sweeps/complexity_by_domain.yaml
  orchestrator seeds 5 sweeps/smoke.yaml --dry-run
  orchestrator seeds 0,1,7 sweeps/smoke.yaml --json"""


@dataclass(frozen=True, kw_only=True)
class More:
    """What the new seeds add to a plan."""

    trials: int
    stages: int
    to_run: int
    """Of these stages, those that the store does not have yet."""
    tokens: int
    """Training tokens of the stages to run."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the verb's arguments."""
    parser.add_argument("seeds", metavar="+N|N|LIST", help="how many more, how many in all, or which (0,1,7)")
    parser.add_argument("file", type=Path, metavar="FILE", help="sweep file (.yaml)")
    parser.add_argument("--dry-run", action="store_true", help="show it, and leave the file as it is")
    add_root(parser)
    add_json(parser)


def run(arguments: argparse.Namespace) -> int:
    """Edit the file."""
    from sweeps.language.edit import replace_text, with_more_seeds
    from sweeps.language.read import read_text
    from sweeps.language.spec import load_sweep

    file, store = arguments.file, layout(arguments)
    sweep, _ = load_sweep(file)
    old = [int(s) for s in sweep.axes["seed"]]
    added = more_seeds(old, arguments.seeds)
    more, alive = More(trials=0, stages=0, to_run=0, tokens=0), ""
    if added:
        read_text(file)  # its errors are those of a sweep file
        with file.open(encoding="utf-8", newline="") as handle:
            edited = with_more_seeds(handle.read(), added, str(file))
        more, alive = _more(file, store, [*old, *added]), _controller(store, sweep.name)
        if not arguments.dry_run:
            replace_text(file, edited)
    if arguments.json:
        out_json({"file": str(file), "old": old, "new": [*old, *added], "added": added, "controller": alive,
                  "changed": bool(added) and not arguments.dry_run, "more": asdict(more)})
    else:
        out("\n".join(_lines(arguments, old, added, more, alive)))
    return 0


def more_seeds(old: Sequence[int], text: str) -> list[int]:
    """Return the seeds to add.

    Raises:
        UsageError: the text is no number or list of seeds, or it lacks a seed that the sweep has.
    """
    if re.fullmatch(r"\+[0-9]{1,6}", text):
        first = max(old) + 1
        return list(range(first, first + int(text)))
    if re.fullmatch(r"[0-9]{1,6}", text):
        wanted = list(range(int(text)))
    elif re.fullmatch(r"[0-9]+(,[0-9]+)+,?|[0-9]+,", text):
        wanted = list(dict.fromkeys(int(part) for part in text.rstrip(",").split(",")))
    else:
        raise UsageError(f"{text!r}: write how many more (+2), how many in all (5) or which ones (0,1,7)")
    if lost := [s for s in old if s not in wanted]:
        raise UsageError(f"{text!r}: the sweep has the seeds {list(old)}, and {lost} would be removed; seeds are only "
                         "added here. To run fewer, leave the file as it is: orchestrator sweep FILE --seeds N|LIST")
    return [s for s in wanted if s not in old]


def _more(file: Path, store: Layout, seeds: Sequence[int]) -> More:
    from orchestrator.plan import complete, make_plan
    from sweeps.language.spec import Overrides

    before = make_plan(file, Overrides(), store.root)
    after = make_plan(file, Overrides(sets=(f"seed={list(seeds)}",)), store.root)
    new = [node for key, node in after.graph.nodes.items() if key not in before.graph.nodes]
    done = complete(store, new)
    to_run = [n for n in new if n.spec.fingerprint not in done]
    return More(trials=len(after.trials) - len(before.trials), stages=len(new), to_run=len(to_run),
                tokens=sum(n.tokens for n in to_run))


def _controller(store: Layout, name: str) -> str:
    from orchestrator.watch import controller
    from sweeps.store.ledger import fold, read_events

    return controller(fold(read_events(store.sweep(name))))


def _lines(
    arguments: argparse.Namespace, old: Sequence[int], added: Sequence[int], more: More, alive: str
) -> list[str]:
    if not added:
        return [f"{arguments.file}: has the seeds {list(old)} already; nothing to add"]
    lines = [
        f"{arguments.file}:", f"- seed: {list(old)}", f"+ seed: {[*old, *added]}",
        f"{more.trials} trials and {more.stages} stages more; {more.to_run} stages to run, {more.tokens:,} tokens",
    ]
    if arguments.dry_run:
        return [*lines, "nothing was changed (--dry-run)"]
    when = f"{alive} runs it with the old seeds; when that has ended, run it again" if alive else "next"
    return [*lines, f"{when}: orchestrator sweep {arguments.file}  (finished stages are reused)"]
