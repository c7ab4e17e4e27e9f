"""Spec -> trials; pure. One seed of every cell comes first, so that a thin but complete table appears early."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

from sweeps.errors import nearest
from sweeps.language.checks import (
    EQUAL,
    MAX_BLOCKS,
    amount_of,
    check_amounts,
    check_arms,
    check_axes,
    check_body,
    check_claims,
    check_frames,
    check_generation,
    check_search,
    check_transfer,
    own_axes,
    safe,
    written,
)
from sweeps.language.finetune import finetunings
from sweeps.language.gate import GATE
from sweeps.language.manifest import value_text
from sweeps.language.parts import Part, domains_of, trained, vocabulary_of
from sweeps.language.plugins import ItemTask
from sweeps.language.presets import SCALES, SEARCHED, pretrain_reference
from sweeps.language.resolve import Resolver
from sweeps.language.science import ModelScience
from sweeps.language.units import Amount

SCRATCH = "scratch"
"""Label of the arm without pre-pre-training."""


@dataclass(frozen=True, kw_only=True)
class Trial:
    """A cell and a seed, with its science."""

    id: str
    arm: str
    bare: str = ""
    """The arm without the values that a search chooses."""
    upstream: str
    complexity: str
    note: str
    token_budget: str
    requested_upstream_tokens: int
    upstream_tokens: int
    brought_flops: float = 0.0
    """FLOPs of a body that was trained elsewhere."""
    domain: str
    seed: int
    pretrain_tokens: int
    extras: Mapping[str, Any]
    core: Mapping[str, Any]
    """Section -> model."""
    trained: Part
    """What its pre-pre-training run trains on; scratch's is never looked at."""
    baseline: str = ""
    choice: str = ""
    """Fingerprint of the stage `select` whose values it was given; empty: no search chose them."""

    @property
    def cell(self) -> str:
        """The trial without its seed."""
        return f"{self.arm} | {self.domain}"


def trials(resolver: Resolver) -> list[Trial]:
    """Return every trial of the sweep, seed-major, each once.

    Raises:
        SweepFileError: with every problem found.
    """
    check_search(resolver)
    if not check_axes(resolver):
        resolver.check_all()
        resolver.raise_problems()
    made = [_arm(resolver, values) for values in _combinations(resolver)]
    arms = [arm for arm in made if arm is not None]
    resolver.check_all()
    check_arms(resolver, arms)
    check_claims(resolver, arms, complete=len(arms) == len(made))
    cells = [_cell(resolver, arm, str(d)) for arm, d in itertools.product(arms, resolver.sweep.axes["domain"])]
    resolver.raise_problems()
    found = [Trial(id=safe(f"{cell['arm']}-{cell['domain']}-s{seed}"), seed=seed, **cell)
             for seed, cell in itertools.product(resolver.sweep.axes["seed"], cells)]
    return _with_baselines(resolver, found)


def _cell(resolver: Resolver, arm: Mapping[str, Any], domain: str) -> dict[str, Any]:
    """Return what the trials of an arm share on one domain, which may have fields of pre-training of its own."""
    science = resolver.pretrain(domain, arm["extras"])
    if science is None:
        return {**arm, "domain": domain}
    core = arm["core"]
    if science is not core["pretrain"]:
        core = {**core, "pretrain": science}
        check_amounts(resolver, core, domain)
    tokens = _pretrain_tokens(resolver, arm, core, domain)
    return {**arm, "domain": domain, "core": core, "pretrain_tokens": tokens or 0}


def _combinations(resolver: Resolver) -> Iterator[dict[str, Any]]:
    """Yield axis -> value for everything but domain and seed; axes that an upstream lacks are left out."""
    axes = resolver.sweep.axes
    for name in axes["upstream"]:
        plugin = resolver.registries.upstreams[str(name)]
        own = own_axes(resolver, str(name), plugin)
        values = [axes.get(a, ("1x",)) for a in own]
        for combination in itertools.product(*values):
            yield {"upstream": str(name), **dict(zip(own, combination, strict=True))}


def _arm(resolver: Resolver, arm: Mapping[str, Any]) -> dict[str, Any] | None:
    """Return what the trials of one arm share; None where a problem was noted."""
    name = arm["upstream"]
    plugin = resolver.registries.upstreams[name]
    extras = {a: v for a, v in arm.items() if "." in a}
    dotted = {k.partition(".")[2]: k for k in extras if k.partition(".")[0] in (name, plugin.inherits)}
    own = {plugin.axes[a]: v for a, v in arm.items() if a in plugin.axes} | {k: extras[a] for k, a in dotted.items()}
    science = resolver.plugin(name, plugin, own, {plugin.axes[a]: a for a in arm if a in plugin.axes} | dotted)
    part = None if science is None else trained(resolver, name, science)
    core = check_transfer(resolver, name, extras)
    core = {**core, **_plugins(resolver, core, extras, [] if part is None else domains_of(resolver, part))}
    core["finetunings"] = finetunings(resolver, core, extras)
    plugins = [m for s in ("domains", "tasks", "finetunings") for m in core.get(s, {}).values()]
    if part is None or any(model is None for model in (*core.values(), *plugins)):
        return None
    for read in part.streams.values():
        check_frames(resolver, resolver.registries.upstreams[read.upstream], read.science, core)
    check_body(resolver, name, science, core)
    sizes = _sizes(resolver, arm, core, science)
    if sizes is None:
        return None
    requested, realised = sizes
    complexity = str(arm.get("complexity", ""))
    bare = _label(resolver, arm, complexity, {a: v for a, v in extras.items() if a not in SEARCHED})
    made: dict[str, Any] = {
        "arm": _label(resolver, arm, complexity, extras), "bare": bare, "upstream": name, "complexity": complexity,
        "note": plugin.describe(science) if plugin.describe else "", "token_budget": str(arm.get("token_budget", "")),
        "requested_upstream_tokens": requested, "upstream_tokens": realised, "extras": extras, "core": core,
        "trained": part,
    }
    if plugin.body_tokens:
        vocabulary = vocabulary_of(resolver.registries, part, core["tokenizer"].vocabulary)
        made["brought_flops"] = realised * core["model"].flops_per_token(vocabulary)
    tokens = _pretrain_tokens(resolver, made, core)
    return None if tokens is None else {**made, "pretrain_tokens": tokens}


def _plugins(resolver: Resolver, core: Mapping[str, Any], extras: Mapping[str, Any], upstream: list[str]
             ) -> dict[str, dict[str, Any]]:
    """Return the science of the domains and tasks that an arm uses; `upstream`: the domains that its upstream reads."""
    if any(core[section] is None for section in ("tokenizer", "evaluate", "downstream")):
        return {}
    domains = dict.fromkeys([*core["tokenizer"].corpora, *map(str, resolver.sweep.axes["domain"]), *upstream])
    known = resolver.registries.tasks
    scored = {key for key, plugin in known.items() if isinstance(plugin, ItemTask)}
    found: dict[str, dict[str, Any]] = {"domains": {}, "tasks": {}}
    for kind, field, names, registry in (
        ("domains", "tokenizer.corpora", domains, resolver.registries.domains),
        ("tasks", "evaluate.tasks", dict.fromkeys([*core["evaluate"].tasks, GATE]), known),
        ("tasks", "downstream.tasks", dict.fromkeys(core["downstream"].tasks), known),
    ):
        for name in names:
            if name not in registry:
                resolver.problem(f"fields.{field}", name, f"unknown; {nearest(name, registry)}")
            elif kind == "tasks" and (name in scored) != (field == "downstream.tasks"):
                where = "downstream.tasks" if name in scored else "evaluate.tasks"
                resolver.problem(f"fields.{field}", name, f"is a task of {where}; name it there")
            else:
                own = {k.partition(".")[2]: v for k, v in extras.items() if k.startswith(name + ".")}
                found[kind][name] = resolver.plugin(name, registry[name], own)
                check_generation(resolver, name, found[kind][name], core)
    return found


def _sizes(resolver: Resolver, arm: Mapping[str, Any], core: Mapping[str, Any], science: Any
           ) -> tuple[int, int] | None:
    """Return requested and realised upstream tokens: whole updates, or what a body had elsewhere; None: none make."""
    if resolver.assumed & {"scale", "protocol"}:
        return None  # not this file's sizes
    before = len(resolver.problems)
    model = core["model"]
    if model.width % model.heads:
        resolver.problem("fields.model.heads", model.heads, f"must divide model.width = {model.width}")
    elif model.width // model.heads % 2:
        resolver.problem("fields.model.heads", model.heads, f"leaves {model.width // model.heads} channels a head of "
                                                            f"model.width = {model.width}; rotary positions need pairs")
    check_amounts(resolver, core)
    plugin = resolver.registries.upstreams[arm["upstream"]]
    requested = realised = plugin.body_tokens(science) if plugin.body_tokens else 0
    if plugin.trains and "token_budget" in arm:
        requested, realised = _upstream_sizes(resolver, arm, core)
    return None if len(resolver.problems) > before else (requested, realised)


def _pretrain_tokens(resolver: Resolver, arm: Mapping[str, Any], core: Mapping[str, Any], domain: str = ""
                     ) -> int | None:
    """Return an arm's PT tokens on a domain, whole updates; None where a problem was noted."""
    science, sweep = core["pretrain"], resolver.sweep
    update = science.batch_sequences * core["model"].sequence_length
    key = written(resolver, "pretrain.tokens", domain)
    reference = pretrain_reference(sweep.scale, sweep.protocol, domain)
    tokens = amount_of(resolver, key, science.tokens, reference=reference)
    if tokens is None:
        return None
    whole = tokens // update * update  # what scratch has
    charge = _charge(resolver, arm, core)
    if whole - charge < update:
        less = f" less the {charge} that {EQUAL} = {science.equal} charges {arm['arm']}" if charge else ""
        resolver.problem(f"fields.{key}", str(science.tokens),
                         f"is {tokens} tokens{less}, less than one update of {update}")
        return None
    return int((whole - charge) // update * update)


def _charge(resolver: Resolver, arm: Mapping[str, Any], core: Mapping[str, Any]) -> int:
    """Return how many PT tokens an arm has less than scratch, for its upstream (`pretrain.equal`); below 0: more."""
    if resolver.registries.upstreams[arm["upstream"]].lengthens:
        return -_requested(resolver, arm)
    equal, upstream = core["pretrain"].equal, int(arm["upstream_tokens"])
    if equal == "pretrain_tokens" or not upstream:
        return 0
    if equal == "total_tokens":
        return upstream
    model: ModelScience = core["model"]
    text = core["tokenizer"].vocabulary
    own = vocabulary_of(resolver.registries, arm["trained"], text)
    return math.ceil(upstream * model.flops_per_token(own) / model.flops_per_token(text))


def _requested(resolver: Resolver, arm: Mapping[str, Any]) -> int:
    """Return the tokens of an arm's budget; 0 where that is no amount, which is noted with the axis."""
    try:
        return Amount(arm["token_budget"]).tokens(reference=SCALES[resolver.sweep.scale].upstream_tokens)
    except ValueError:
        return 0


def _upstream_sizes(resolver: Resolver, arm: Mapping[str, Any], core: Mapping[str, Any]) -> tuple[int, int]:
    scale, length = SCALES[resolver.sweep.scale], core["model"].sequence_length
    requested = _requested(resolver, arm)
    if not requested:
        return 0, 0
    update = core["prepretrain"].batch_sequences * length
    realised = requested // update * update
    if realised == 0:
        resolver.problem("axes.token_budget", arm["token_budget"],
                         f"is {requested} tokens, less than one update of {update}")
    elif realised // length // scale.rules_per_block > MAX_BLOCKS:
        resolver.problem("axes.token_budget", arm["token_budget"],
                         f"is {requested:,} tokens; at scale {resolver.sweep.scale} the most is "
                         f"{MAX_BLOCKS * scale.rules_per_block * length:,}")
    return requested, realised


def _label(resolver: Resolver, arm: Mapping[str, Any], complexity: str, extras: Mapping[str, Any]) -> str:
    plugin = resolver.registries.upstreams[arm["upstream"]]
    scratch = not (plugin.trains or plugin.lengthens or plugin.body_tokens)
    parts = [SCRATCH if scratch else arm["upstream"], complexity]
    if len(resolver.sweep.axes.get("token_budget", ("1x",))) > 1:
        parts.append(str(arm.get("token_budget", "")))
    parts += [f"{a.rpartition('.')[2]}={value_text(v)}" for a, v in extras.items()]
    return " ".join(p for p in parts if p)


def _with_baselines(resolver: Resolver, found: list[Trial]) -> list[Trial]:
    """Name each trial's baseline: same domain and seed, and equal on the further axes that the baseline has."""
    baseline = resolver.sweep.baseline.upstream
    by_place: dict[tuple[str, int], list[Trial]] = {}
    for trial in found:
        if trial.upstream == baseline:
            by_place.setdefault((trial.domain, trial.seed), []).append(trial)
    paired = []
    for trial in found:
        match = next((b for b in by_place.get((trial.domain, trial.seed), [])
                      if all(trial.extras.get(k) == v for k, v in b.extras.items())), None)
        paired.append(trial if match is None else replace(trial, baseline=match.id))
    return paired
