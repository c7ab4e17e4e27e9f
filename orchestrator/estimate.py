"""What a plan costs: tokens, FLOPs, time, storage, and what sharing saves."""

from __future__ import annotations

import shutil
import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import accumulate
from pathlib import Path
from typing import Any

from orchestrator import texts
from orchestrator.budget import cap_of, rest
from orchestrator.clusters import cluster, slots_of
from orchestrator.costs import seconds_guess, storage_bytes
from orchestrator.memory import without_room
from orchestrator.meter import spent
from orchestrator.packer import Packer, add_measurement, throughput
from orchestrator.pilots import Search, warnings
from orchestrator.plan import Planned, StageState
from sweeps.language.gate import MIN_SEQUENCES
from sweeps.language.graph import Node
from sweeps.language.mixture import MixtureScience
from sweeps.language.presets import SCALES, SEARCH_SEEDS
from sweeps.language.spec import Run
from sweeps.language.units import tokens_text
from sweeps.store.ledger import fold, read_events
from sweeps.store.records import read_result

FEW_UPDATES = 2_000
"""Below this many updates little is learned (docs/protocol.md, section 4)."""
SAMPLE = 50
"""Finished stages of a kind that are read to measure this machine's speed."""


def measured_speed(planned: Planned, states: Mapping[str, StageState]) -> dict[str, tuple[float, float]]:
    """Return kind -> (FLOPs, seconds) of finished stages of this plan that train or score."""
    found: dict[str, tuple[float, float]] = {}
    counts: dict[str, int] = {}
    for key, node in planned.graph.nodes.items():
        kind = node.spec.kind
        if not node.work or states[key].state != "reuse" or counts.get(kind, 0) >= SAMPLE:
            continue
        result = read_result(planned.layout.stage(kind, key))
        if result is not None:
            counts[kind] = counts.get(kind, 0) + 1
            add_measurement(found, node, result)
    return found


def summary(planned: Planned, states: Mapping[str, StageState], found: Sequence[Search] = ()) -> dict[str, Any]:
    """Return the totals that `plan` prints; `found` is what the pilots measured, where they ran."""
    measured = measured_speed(planned, states)
    trained = bool(measured.keys() - {"downstream"})
    scale, nodes = SCALES[planned.sweep.scale], planned.graph.nodes
    speeds = {kind: throughput(measured, kind, planned.execution(kind).ranks * scale.guessed_flops_per_second)
              for kind in {n.spec.kind for n in nodes.values()}}
    seconds = {key: seconds_guess(node, speeds[node.spec.kind], planned.cores) for key, node in nodes.items()}
    seconds |= {key: seconds[key] + more for search in found for key, more in search.stages.items()}
    to_run = [n for k, n in nodes.items() if states[k].state in ("run", "blocked", "live")]
    needs = {n.spec.fingerprint: seconds[n.spec.fingerprint] for n in to_run}
    slots = slots_of(planned.sweep.run)
    unshared = sum(n.tokens_alone * n.trials for n in nodes.values())
    alone = sum(n.trials * (seconds_guess(replace(n, start_tokens=0), speeds[n.spec.kind]) if n.tokens_alone else
                            0.0 if n.tokens else seconds[k]) for k, n in nodes.items())
    return {
        "tokens_to_run": sum(n.tokens for n in to_run),
        "flops_to_run": sum(n.tokens * n.flops_per_token for n in to_run),
        "seconds": max(sum(needs.values()) / slots, longest_chain(nodes, needs)), "slots": slots, "measured": trained,
        "basis": "measured on this machine" if trained else f"guessed at {scale.guess}",
        "storage_bytes": sum(storage_bytes(planned, n) for n in to_run),
        "free_bytes": shutil.disk_usage(_existing(planned.layout.root)).free,
        "tokens_unshared": unshared, "tokens_saved": unshared - sum(n.tokens for n in nodes.values()),
        "seconds_saved": alone - sum(seconds.values()),
        "warnings": [*_warnings(planned), *warnings(found)],
        **_budget(planned, [n.spec.fingerprint for n in to_run], seconds),
    }


def longest_chain(nodes: Mapping[str, Node], seconds: Mapping[str, float]) -> float:
    """Return the seconds of the stages that wait for each other longest: what no number of slots makes shorter.

    Args:
        nodes: of the whole graph.
        seconds: of the stages that are still to run; the others take none.
    """
    ends: dict[str, float] = {}

    def end(key: str) -> float:
        if key not in ends:
            node = nodes[key]
            before = [*node.spec.inputs, *([node.after] if node.after else ())]
            ends[key] = seconds.get(key, 0.0) + max((end(i.fingerprint) for i in before), default=0.0)
        return ends[key]

    return max(map(end, nodes), default=0.0)


def _budget(planned: Planned, to_run: Collection[str], seconds: Mapping[str, float]) -> dict[str, Any]:
    """Return the GPU-hours that were used and that are to come; with a cap, which trials complete within it.

    Stages are taken in the order in which they are submitted, one after another, until one does not fit.
    """
    nodes, name = planned.graph.nodes, planned.sweep.name
    state = fold(read_events(planned.layout.sweep(name)))
    used = spent(planned.layout, name, state, now=time.time())
    needs = {key: rest(planned.execution(nodes[key].spec.kind).ranks * seconds[key], used.get(key, 0.0)) / 3600
             for key in to_run}
    used_h = sum(used.values()) / 3600
    cap = cap_of(planned)
    found = {"gpu_hours": sum(needs.values()), "gpu_hours_used": used_h, "cap": None}
    if cap is None:
        return found
    order = Packer(planned.graph, lambda node: seconds[node.spec.fingerprint]).ready(needs, nodes, nodes)
    within = {key for key, sum_ in zip(order, accumulate(map(needs.__getitem__, order)), strict=True)
              if used_h + sum_ <= cap.gpu_hours}
    cut = {trial for trial, path in planned.graph.paths.items()
           if any(step.fingerprint in needs and step.fingerprint not in within for step in path)}
    trials = [t.id for t in planned.trials]
    return {**found, "cap": {
        "gpu_hours": cap.gpu_hours, "source": cap.source, "at_cap": cap.at_cap,
        "complete": [t for t in trials if t not in cut], "cut": [t for t in trials if t in cut],
    }}


def _existing(path: Path) -> Path:
    while not path.exists():
        path = path.parent
    return path


def _warnings(planned: Planned) -> list[str]:
    """Return what a person should know before paying for it."""
    found = (_too_few_slots(planned.sweep.run), _on_the_edge(planned), _few_seeds(planned), without_room(planned),
             texts.epochs(planned.graph), texts.too_long(planned.graph, planned.sweep.run, planned.cores),
             _few_updates(planned), _schedules(planned), _gates(planned), _phases(planned))
    return [line for lines in found for line in lines]


def _few_updates(planned: Planned) -> Iterator[str]:
    """Yield, in one line, the fewest and most updates of the budgets that have few."""
    few: dict[str, set[int]] = {}
    for trial in planned.trials:
        length = trial.core["model"].sequence_length
        upstream = 0 if trial.brought_flops else trial.upstream_tokens
        for name, tokens in (("prepretrain", upstream), ("pretrain", trial.pretrain_tokens)):
            updates = tokens // (trial.core[name].batch_sequences * length)
            if 0 < updates < FEW_UPDATES:
                few.setdefault(name, set()).add(updates)
    if few:
        text = ", ".join(f"{name} {'-'.join(f'{u:,}' for u in sorted({min(of), max(of)}))}" for name, of in few.items())
        yield f"few updates ({text}): under {FEW_UPDATES:,} teach little"


def _schedules(planned: Planned) -> Iterator[str]:
    """Yield the ends that are hardly annealed, or not at all, and the runs that go on where their rate has ended."""
    found: dict[str, None] = {}
    for node in planned.graph.nodes.values():
        if not node.tokens_alone:
            continue
        segment, kind, end = node.spec.sections["segment"].values, node.spec.kind, node.end_tokens
        warmup, begin, horizon = segment["warmup_tokens"], segment["decay_from"], segment["horizon_tokens"]
        if begin is not None and warmup > begin:
            found[f"{kind}.warmup, {warmup:,} tokens: the decay to {end:,} begins within it"] = None
        if horizon is not None and end > horizon:
            found[f"{kind}.horizon, {horizon:,} tokens: the run of {end:,} goes on beyond it at the last rate"] = None
    yield from found


def _gates(planned: Planned) -> Iterator[str]:
    """Yield that the upstream gate will read too few sequences to decide anything."""
    few = {trial.core["evaluate"].gate_tokens.tokens() // trial.core["model"].sequence_length
           for trial in planned.trials if any(step.role == "gate" for step in planned.graph.paths[trial.id])}
    if few and min(few) < MIN_SEQUENCES:
        then = ", so gate: require withholds all but controls" if planned.sweep.gate == "require" else ""
        yield (f"evaluate.gate_tokens: {max(min(few), 1)} sequences, and from fewer than {MIN_SEQUENCES} the upstream "
               f"gate decides nothing{then}")


def _phases(planned: Planned) -> Iterator[str]:
    """Yield that a curriculum's later law begins where no budget reaches: its arms are no curriculum."""
    longest: dict[tuple[int, ...], int] = {}
    for trial in planned.trials:
        if isinstance(trial.trained.science, MixtureScience):
            starts = tuple(trial.trained.science.weights)
            longest[starts] = max(longest.get(starts, 0), trial.upstream_tokens)
    for starts, tokens in longest.items():
        late = [start for start in starts if start >= tokens]
        if late:
            yield (f"mixture.weights: the law from {tokens_text(late[0])} tokens on is never read; the longest budget "
                   f"has {tokens_text(tokens)}")


def _on_the_edge(planned: Planned) -> Iterator[str]:
    """Yield what a search chose on the edge of its grid."""
    for choice in planned.file.searched:
        for key in choice.boundary:
            yield (f"searched: {key} = {choice.values[key]} of {choice.cell} lies on the edge of the grid of "
                   f"{choice.sweep}; the best may lie beyond: extend that axis there")


def _few_seeds(planned: Planned) -> Iterator[str]:
    """Yield that a search has so few seeds that its choice may be luck."""
    seeds = planned.sweep.axes["seed"]
    if planned.sweep.search and len(seeds) < SEARCH_SEEDS:
        yield (f"search on {len(seeds)} of {SEARCH_SEEDS} seeds: a choice that was luck makes a gain or hides one "
               "(docs/results/lr_search.md)")


def _too_few_slots(run: Run) -> Iterator[str]:
    """Yield that the sweep file, perhaps written for a laptop, leaves most of a cluster idle."""
    offered = cluster(run.model_copy(update={"slots": None})).options.slots
    if run.slots is not None and offered is not None and run.slots < offered:
        yield (f"run.slots: {run.slots} jobs at once, where the cluster profile {Path(run.cluster).name} allows "
               f"{offered}; leave it out, or give --slots")
