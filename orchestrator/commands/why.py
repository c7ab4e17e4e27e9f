"""Say why a stage or trial will run, was reused, waits, runs, was cancelled, failed or is damaged.

STAGE is a label or the beginning of a fingerprint (at least 4 digits), TRIAL a trial's id. With --sweep FILE the stage
may be one that has never run: then every field is shown in which it differs from the nearest stage in the store.
Reads only; works while a controller runs and on a copy of a store.
"""

from __future__ import annotations

import argparse
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from orchestrator.arguments import (
    add_json,
    add_overrides,
    add_root,
    layout,
    out,
    out_json,
    overrides,
    sweep_name,
    sweep_names,
)
from sweeps.errors import UsageError

if TYPE_CHECKING:
    from orchestrator.targets import Target
    from orchestrator.why import Explainer, Explanation, Sweep
    from sweeps.store.layout import Layout

EXAMPLES = """  orchestrator why nca_45-60-web-s0
  orchestrator why 3fa94c1b
  orchestrator why 'tokenizer 4096' --json
  orchestrator why nca_45-60-web-s7 --sweep sweeps/complexity_by_domain.yaml --seeds 8"""

WIDTH = 80


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the verb's arguments."""
    parser.add_argument("target", metavar="STAGE|TRIAL", help="a fingerprint's beginning, a label, or a trial's id")
    parser.add_argument("--sweep", type=Path, metavar="FILE|NAME",
                        help="look in this sweep; its file is planned anew, so that it need not have run")
    add_overrides(parser)
    add_root(parser)
    add_json(parser)


def run(arguments: argparse.Namespace) -> int:
    """Explain."""
    from orchestrator.targets import find
    from orchestrator.why import Explainer

    store = layout(arguments)
    sweeps, specs, first = _sweeps(arguments, store)
    searched = [s.plan for s in sweeps if s.plan.name == first or not first]
    target = find(store, searched, arguments.target)
    thorough = "" if target.trial else target.stages[0].fingerprint
    explainer = Explainer(store, sweeps, specs, thorough)
    if target.trial:
        _trial(arguments, target, explainer)
    else:
        found = explainer.compared(explainer.explain(target.stages[0]))
        if arguments.json:
            out_json({"target": arguments.target, "stage": asdict(found)})
        else:
            out("\n".join(_full(found)))
    return 0


def _sweeps(arguments: argparse.Namespace, store: Layout) -> tuple[list[Sweep], dict[str, str], str]:
    """Return every sweep (that of the given file first, planned anew), its specs, and the one to look in."""
    from orchestrator.why import read_sweep

    given, names = arguments.sweep, sweep_names(store)
    if given is None or not given.is_file():
        if any((arguments.sets, arguments.scale, arguments.seeds)):
            raise UsageError("--set, --scale and --seeds change a sweep file: give it with --sweep FILE")
        first = sweep_name(store, given) if given else ""
        return [read_sweep(store, name) for name in names], {}, first
    from orchestrator.plan import make_plan
    from orchestrator.targets import Plan

    planned = make_plan(given, overrides(arguments), store.root)
    specs = {key: node.spec.to_text() for key, node in planned.graph.nodes.items()}
    plan = Plan.of(planned.file.model_dump(mode="json"))
    others = [read_sweep(store, name) for name in names if name != plan.name]
    return [read_sweep(store, plan.name, plan, f"orchestrator sweep {given}"), *others], specs, plan.name


def _trial(arguments: argparse.Namespace, target: Target, explainer: Explainer) -> None:
    from orchestrator.chosen import Chosen

    found = [explainer.explain(stage) for stage in target.stages]
    decisive = explainer.compared(explainer.decisive(target.stages))
    sweep = next(s for s in explainer.sweeps if s.plan.name == target.sweep)
    state, note = _trial_state(target.trial, sweep, decisive)
    if arguments.json:
        out_json({"target": arguments.target, "trial": target.trial, "sweep": target.sweep, "state": state,
                  "note": note, "decisive": asdict(decisive), "stages": [asdict(e) for e in found]})
        return
    lines = [f"{target.trial}  (sweep {target.sweep}): {state}", *([f"  {note}"] if note else [])]
    for one in found:
        line = f"  {one.state:<12}{one.label[:34]:<35}{one.reason.splitlines()[0]}"
        lines.append(line if len(line) <= WIDTH else line[: WIDTH - 3] + "...")
    given = dict.fromkeys(Chosen(**c).line() for one in found for c in one.facts.get("chosen", ()))
    lines += [f"  {line}" for line in given if line not in decisive.details]
    out("\n".join([*lines, "", *_full(decisive)]))


def _trial_state(trial: str, sweep: Sweep, decisive: Explanation) -> tuple[str, str]:
    """Return a trial's state and what was asked of it and not applied yet."""
    wish = sweep.asked.get(trial)
    note = f"{wish} was asked and is not yet applied" if wish else ""
    if trial in sweep.state.cancelled and decisive.state not in ("failed", "damaged", "complete"):
        return "cancelled", note or f"take it back: orchestrator retry {trial} --sweep {sweep.plan.name}"
    return decisive.state, note


def _full(found: Explanation) -> list[str]:
    return [f"{found.label}  {found.kind}/{found.fingerprint}", f"  {found.state}: {found.reason}",
            *(f"  {line}" for line in found.details)]
