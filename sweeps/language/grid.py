"""Spec -> trials; pure. One seed of every cell comes first, so that a thin but complete table appears early."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

from sweeps.errors import nearest
from sweeps.language.plugins import Upstream
from sweeps.language.presets import SCALES
from sweeps.language.resolve import Resolver
from sweeps.language.spec import GRID_AXES
from sweeps.language.units import Amount

SCRATCH = "scratch"
"""Label of the arm without pre-pre-training."""
GATE = "upstream_gate"
"""The task that asks whether an upstream was learned; measured for every upstream."""


@dataclass(frozen=True, kw_only=True)
class Trial:
    """A cell and a seed, with its science."""

    id: str
    arm: str
    upstream: str
    complexity: str
    note: str
    token_budget: str
    requested_upstream_tokens: int
    upstream_tokens: int
    domain: str
    seed: int
    pretrain_tokens: int
    extras: Mapping[str, Any]
    core: Mapping[str, Any]
    """Section -> model."""
    upstream_science: Any
    baseline: str = ""

    @property
    def cell(self) -> str:
        """The trial without its seed."""
        return f"{self.arm} | {self.domain}"


def trials(resolver: Resolver) -> list[Trial]:
    """Return every trial of the sweep, seed-major, each once.

    Raises:
        SweepFileError: with every problem found.
    """
    _check_axes(resolver)
    resolver.raise_problems()
    arms = [arm for arm in (_arm(resolver, values) for values in _combinations(resolver)) if arm is not None]
    resolver.raise_problems()
    found: dict[str, Trial] = {}
    for seed, arm, domain in itertools.product(resolver.sweep.axes["seed"], arms, resolver.sweep.axes["domain"]):
        identity = _safe(f"{arm['arm']}-{domain}-s{seed}")
        if identity not in found:
            found[identity] = Trial(id=identity, domain=str(domain), seed=seed, **arm)
    return _with_baselines(resolver, list(found.values()))


def _check_axes(resolver: Resolver) -> None:
    registries, axes = resolver.registries, resolver.sweep.axes
    for axis, registry in (("upstream", registries.upstreams), ("domain", registries.domains)):
        for value in axes[axis]:
            if str(value) not in registry:
                resolver.problem(f"axes.{axis}", value, f"unknown {axis}; {nearest(str(value), registry)}")
    plugin_axes = {a for u in registries.upstreams.values() for a in u.axes}
    for axis in axes:
        if axis not in GRID_AXES and "." not in axis and axis not in plugin_axes:
            resolver.problem(f"axes.{axis}", None, f"unknown axis; {nearest(axis, [*GRID_AXES, *plugin_axes])} "
                                                   "Any dotted science field may be an axis too.")
    baseline = resolver.sweep.baseline.upstream
    if baseline not in [str(u) for u in axes["upstream"]]:
        resolver.problem("baseline", baseline, f"the baseline must be on the axis upstream: {list(axes['upstream'])}")
    for value in axes.get("token_budget", ()):
        try:
            Amount(value).tokens(reference=1)
        except ValueError as error:
            resolver.problem("axes.token_budget", value, str(error))


def _combinations(resolver: Resolver) -> Iterator[dict[str, Any]]:
    """Yield axis -> value for everything but domain and seed; axes that an upstream lacks are left out."""
    axes = resolver.sweep.axes
    for name in axes["upstream"]:
        plugin = resolver.registries.upstreams[str(name)]
        own = [a for a in axes if a in plugin.axes or _applies(resolver, a, str(name), plugin)]
        if plugin.trains:
            own.append("token_budget")
        values = [axes.get(a, ("1x",)) for a in own]
        for combination in itertools.product(*values):
            yield {"upstream": str(name), **dict(zip(own, combination, strict=True))}


def _applies(resolver: Resolver, axis: str, name: str, plugin: Upstream) -> bool:
    """A dotted axis applies unless it belongs to another upstream, or to a stage that this upstream lacks."""
    if "." not in axis:
        return False
    prefix = axis.partition(".")[0]
    if prefix == "prepretrain":
        return plugin.trains
    return prefix not in resolver.registries.upstreams or prefix in (name, plugin.inherits)


def _arm(resolver: Resolver, arm: Mapping[str, Any]) -> dict[str, Any] | None:
    """Return what the trials of one arm share; None where a problem was noted."""
    name = arm["upstream"]
    plugin = resolver.registries.upstreams[name]
    extras = {a: v for a, v in arm.items() if "." in a}
    core = resolver.core(extras)
    core = {**core, **_plugins(resolver, core, extras)}
    own = {plugin.axes[a]: v for a, v in arm.items() if a in plugin.axes}
    own |= {k.partition(".")[2]: v for k, v in extras.items() if k.partition(".")[0] in (name, plugin.inherits)}
    science = resolver.plugin(name, plugin, own)
    if science is None or any(model is None for model in core.values()) or resolver.problems:
        return None
    sizes = _sizes(resolver, arm, core)
    if sizes is None:
        return None
    requested, realised, pretrain = sizes
    complexity = str(arm.get("complexity", ""))
    label = _label(resolver, arm, complexity, extras)
    return {
        "arm": label, "upstream": name, "complexity": complexity,
        "note": plugin.describe(science) if plugin.describe else "", "token_budget": str(arm.get("token_budget", "")),
        "requested_upstream_tokens": requested, "upstream_tokens": realised, "pretrain_tokens": pretrain,
        "extras": extras, "core": core, "upstream_science": science,
    }


def _plugins(resolver: Resolver, core: Mapping[str, Any], extras: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Return the science of the domains and tasks that an arm uses."""
    if core["tokenizer"] is None or core["evaluate"] is None:
        return {}
    domains = dict.fromkeys([*core["tokenizer"].corpora, *map(str, resolver.sweep.axes["domain"])])
    tasks = dict.fromkeys([*core["evaluate"].tasks, GATE])
    found: dict[str, dict[str, Any]] = {"domains": {}, "tasks": {}}
    for kind, names, registry in (("domains", domains, resolver.registries.domains),
                                  ("tasks", tasks, resolver.registries.tasks)):
        for name in names:
            if name not in registry:
                field = "tokenizer.corpora" if kind == "domains" else "evaluate.tasks"
                resolver.problem(f"fields.{field}", name, f"unknown; {nearest(name, registry)}")
                continue
            own = {k.partition(".")[2]: v for k, v in extras.items() if k.startswith(name + ".")}
            found[kind][name] = resolver.plugin(name, registry[name], own)
    return found


def _sizes(resolver: Resolver, arm: Mapping[str, Any], core: Mapping[str, Any]) -> tuple[int, int, int] | None:
    """Return requested upstream, realised upstream and realised PT tokens, whole updates."""
    scale = SCALES[resolver.sweep.scale]
    model = core["model"]
    if model.width % model.heads:
        resolver.problem("fields.model.heads", model.heads, f"must divide model.width = {model.width}")
        return None
    requested = realised = 0
    if resolver.registries.upstreams[arm["upstream"]].trains:
        requested = Amount(arm["token_budget"]).tokens(reference=scale.upstream_tokens)
        update = core["prepretrain"].batch_sequences * model.sequence_length
        realised = requested // update * update
        if realised == 0:
            resolver.problem("axes.token_budget", arm["token_budget"],
                             f"is {requested} tokens, less than one update of {update}")
    update = core["pretrain"].batch_sequences * model.sequence_length
    try:
        wanted = core["pretrain"].tokens.tokens(reference=scale.pretrain_tokens)
    except ValueError as error:
        resolver.problem("fields.pretrain.tokens", str(core["pretrain"].tokens), str(error))
        return None
    if wanted < update:
        resolver.problem("fields.pretrain.tokens", str(core["pretrain"].tokens),
                         f"is {wanted} tokens, less than one update of {update}")
    return requested, realised, wanted // update * update


def _label(resolver: Resolver, arm: Mapping[str, Any], complexity: str, extras: Mapping[str, Any]) -> str:
    parts = [arm["upstream"] if resolver.registries.upstreams[arm["upstream"]].trains else SCRATCH, complexity]
    if len(resolver.sweep.axes.get("token_budget", ("1x",))) > 1:
        parts.append(str(arm.get("token_budget", "")))
    parts += [f"{a.rpartition('.')[2]}={v}" for a, v in extras.items()]
    return " ".join(p for p in parts if p)


def _safe(text: str) -> str:
    return re.sub(r"[^A-Za-z0-9._=-]+", "_", text)


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
