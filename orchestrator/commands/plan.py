"""Show what a sweep would run, with costs and reasons; changes nothing."""

from __future__ import annotations

import argparse
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from orchestrator.arguments import (
    add_cap,
    add_json,
    add_root,
    add_sweep,
    duration,
    layout,
    out,
    out_json,
    overrides,
    say,
    size,
)

if TYPE_CHECKING:
    from orchestrator.pilots import Search
    from orchestrator.plan import Planned

LISTED = 6
"""Trials that a line names."""
EXAMPLES = """  orchestrator plan sweeps/complexity_by_domain.yaml
  orchestrator plan sweeps/token_budget.yaml --scale 400m --seeds 5 --json
  orchestrator plan sweeps/smoke.yaml --set domain=[web] --set pretrain.lr=1e-3
  orchestrator plan sweeps/complexity_by_domain.yaml --max-gpu-hours 2
  orchestrator plan sweeps/smoke.yaml --cluster gpu --show-sbatch"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the verb's arguments."""
    add_sweep(parser)
    add_cap(parser)
    add_root(parser)
    add_json(parser)
    parser.add_argument("--no-pilot", action="store_true",
                        help="skip the pilot that refuses impossible bands and says what the others accept")
    parser.add_argument("--show-sbatch", action="store_true",
                        help="print the whole script that Slurm would get first, one for each kind of job with "
                        "other resources, and nothing else")


def run(arguments: argparse.Namespace) -> int:
    """Print the plan."""
    from orchestrator.estimate import summary
    from orchestrator.pilots import searches
    from orchestrator.plan import make_plan, run_pilots, stage_states
    from orchestrator.remotes import sources
    from orchestrator.watch import live_stages

    planned = make_plan(arguments.file, overrides(arguments), layout(arguments).root)
    if not arguments.no_pilot:
        run_pilots(planned)
    if arguments.show_sbatch:
        return _show_sbatch(planned, as_json=arguments.json)
    states = stage_states(planned, live_stages(planned.layout))
    found = [] if arguments.no_pilot else searches(planned)
    totals = summary(planned, states, found) | {"elsewhere": [f"{s.key}: {s.named}" for s in sources(planned)]}
    if arguments.json:
        out_json({
            "name": planned.sweep.name, "scale": planned.sweep.scale, "protocol": planned.sweep.protocol,
            "trials": len(planned.trials), **totals,
            "departures": [d.model_dump() for d in planned.file.departures], "rules": [s.as_json() for s in found],
            "stages": [{**asdict(s), "state": states[s.fingerprint].state,
                        "reason": states[s.fingerprint].reason} for s in planned.file.stages],
        })
    else:
        out(_text(planned, states, totals, found, arguments.file))
    return 0


def _show_sbatch(planned: Planned, *, as_json: bool) -> int:
    """Print the script of the first submission, and one of each that will ask for other resources."""
    from cluster.registry import script
    from orchestrator.batch import first, later
    from orchestrator.clusters import batch_size, cluster

    found = cluster(planned.sweep.run)
    request = first(planned, batch_size(planned.sweep.run))
    text = script(found, request) if request else ""
    others = {kinds: script(found, r) for kinds, r in later(planned, request).items()} if request else {}
    if as_json:
        out_json({"name": planned.sweep.name, "cluster": planned.sweep.run.cluster,
                  "submission": request.name if request else None, "script": text,
                  "later": [{"kinds": kinds, "script": script} for kinds, script in others.items()]})
    elif request:
        out("\n".join([text, *(f"# Later, with other resources, for {', '.join(k)}:\n{t}" for k, t in others.items())]))
    else:
        say("nothing would be submitted: every stage is complete in the store")
    return 0


def _text(planned: Planned, states: Mapping[str, Any], totals: Mapping[str, Any], found: Sequence[Search],
          file: Path) -> str:
    kinds: dict[str, Counter[str]] = {}
    shared: dict[str, list[int]] = {}
    for stage in planned.file.stages:
        kinds.setdefault(stage.kind, Counter())[states[stage.fingerprint].state] += 1
        shared.setdefault(stage.kind, []).append(stage.trials)
    lines = [
        f"{planned.sweep.name}: {len(planned.trials)} trials, {len(planned.file.stages)} stages "
        f"(scale {planned.sweep.scale}, protocol {planned.sweep.protocol})", "",
        f"{'stage':<13}{'run':>6}{'reuse':>7}{'live':>6}{'blocked':>9}   trials that share one",
    ]
    for kind, counter in kinds.items():
        share = shared[kind]
        text = f"{min(share)}" if min(share) == max(share) else f"{min(share)}-{max(share)}"
        lines.append(f"{kind:<13}{counter['run']:>6}{counter['reuse']:>7}{counter['live']:>6}"
                     f"{counter['blocked']:>9}   {text}")
    lines += [
        "", f"to train  {totals['tokens_to_run']:,} tokens, {totals['flops_to_run']:.3g} FLOPs",
        f"time      about {duration(totals['seconds'])} on {totals['slots']} slots",
        f"speed     {totals['basis']}",
        f"storage   about {size(totals['storage_bytes'])}, {size(totals['free_bytes'])} free at {planned.layout.root}",
        f"sharing   saves {totals['tokens_saved']:,} of {totals['tokens_unshared']:,} tokens "
        f"({100 * totals['tokens_saved'] / max(totals['tokens_unshared'], 1):.0f} %), about "
        f"{duration(totals['seconds_saved'])} of one slot", *_budget(totals),
        *(f"{'' if k else 'rules':<10}{search.line}" for k, search in enumerate(found)),
    ]
    lines += _elsewhere(totals["elsewhere"])
    stopped = Counter((s.state, s.reason) for s in states.values() if s.state in ("blocked", "withheld")
                      and not s.reason.startswith("needs "))  # what only needs another one is in the table
    lines += [f"{state:<10}{number} stages, {reason}" for (state, reason), number in list(stopped.items())[:3]]
    lines += [f"{'':10}and {len(stopped) - 3} more reasons: --json names them"] * (len(stopped) > 3)
    if totals["storage_bytes"] > totals["free_bytes"]:
        lines.append("WARNING   more storage than is free: name another --root")
    for warning in totals["warnings"]:
        lines.append(f"WARNING   {warning}")
    if planned.file.departures:
        lines += ["", f"departures from protocol {planned.sweep.protocol}:"]
        lines += [f"  {d.field} = {d.text} (preset: {d.preset}; {d.source})" for d in planned.file.departures]
    lines += ["", f"next: orchestrator sweep {file}"]
    return "\n".join(lines)


def _elsewhere(named: Sequence[str]) -> Iterator[str]:
    """Yield what is read from elsewhere, and that a plan has not looked there."""
    yield from (f"{'' if k else 'elsewhere':<10}{name}" for k, name in enumerate(named))
    if named:
        yield f"{'':<10}not looked at: `orchestrator prefetch FILE` tells whether they are"
        yield f"{'':<10}there, with these files and columns, and brings them"


def _budget(totals: Mapping[str, Any]) -> Iterator[str]:
    """Yield the GPU-hours, and what a cap leaves of the trials."""
    hours = f"{totals['gpu_hours']:,.0f}" if totals["gpu_hours"] >= 100 else f"{totals['gpu_hours']:.3g}"
    used = f", {totals['gpu_hours_used']:.3g} used" if totals["gpu_hours_used"] else ""
    yield f"budget    about {hours} GPU-hours{used} (without GPUs a rank counts as one)"
    cap = totals["cap"]
    if cap is not None:
        yield (f"cap       {cap['gpu_hours']:g} GPU-hours ({cap['source']}), then {cap['at_cap']}: about "
               f"{len(cap['complete'])} of {len(cap['complete']) + len(cap['cut'])} trials complete")
        for name in ("complete", "cut"):
            more = f" and {len(cap[name]) - LISTED} more" if len(cap[name]) > LISTED else ""
            yield f"{name:<9} {', '.join(cap[name][:LISTED]) or 'none'}{more}"
