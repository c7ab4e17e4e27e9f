"""What a grid is refused for before any of it is made: axes, sizes, arms, claims and layout. Problems are collected."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from typing import Any

from sweeps.errors import nearest
from sweeps.language.claim import BASELINE, BEST, named
from sweeps.language.generation import generation_of
from sweeps.language.plugins import Upstream
from sweeps.language.presets import SCALES, SEARCHED
from sweeps.language.resolve import SHARE, SPLIT, Resolver
from sweeps.language.science import TransferScience
from sweeps.language.spec import GRID_AXES
from sweeps.language.units import Amount

MAX_TRIALS = 100_000
"""Trials of one sweep. Ten thousand are planned in five seconds; a grid ten times that is a slip."""
MAX_BLOCKS = 1_000_000
"""Rule blocks of one arm and seed, each a stage; more is a slip of the budget."""
EMBEDDINGS = ("transfer.embeddings", "transfer.head")
"""The fields that need an upstream with the tokenizer's token ids."""
EQUAL = "pretrain.equal"
"""The field that needs upstream tokens to charge."""
BODY = ("transfer.reinit", "transfer.rescale")
"""The fields that need an upstream whose body is carried over."""
FIRST_SEARCH_SEED = 1_000
"""A search's seeds begin here, so that comparisons, which begin at 0, do not meet them by accident."""
MAX_ID_CHARS = 200
"""A trial's id is a file name, of which file systems take 255 bytes."""


def check_axes(resolver: Resolver) -> bool:
    """Note what is wrong with the axes; return whether arms can be made from them."""
    registries, axes = resolver.registries, resolver.sweep.axes
    sound = True
    for axis, registry in (("upstream", registries.upstreams), ("domain", registries.domains)):
        for place, value in enumerate(axes[axis]):
            if str(value) not in registry:
                resolver.problem(f"axes.{axis}", value, f"unknown {axis}; {nearest(str(value), registry)}",
                                 path=("axes", axis, str(place)))
                sound = False
    plugin_axes = {a for u in registries.upstreams.values() for a in u.axes}
    for axis in axes:
        if axis not in GRID_AXES and "." not in axis and axis not in plugin_axes:
            resolver.problem(f"axes.{axis}", None, f"unknown axis; {nearest(axis, [*GRID_AXES, *plugin_axes])} "
                                                   "Any dotted science field may be an axis too.")
        elif axis not in GRID_AXES and "." not in axis:
            _check_twice(resolver, axis)
    baseline = resolver.sweep.baseline.upstream
    if "baseline" not in resolver.assumed and baseline not in map(str, axes["upstream"]):
        on_axis = nearest(baseline, [str(u) for u in axes["upstream"]])
        resolver.problem("baseline.upstream", baseline, f"the baseline must be on the axis upstream; {on_axis}")
    _check_budgets(resolver)
    return sound and _small_enough(resolver)


def check_search(resolver: Resolver) -> None:
    """Note what a search, or a comparison that names one, may not have (docs/concepts/search.md)."""
    sweep = resolver.sweep
    given = [(section, key) for section, values in (("fields", sweep.fields), ("axes", sweep.axes)) for key in values]
    if sweep.search is not None:
        _check_searching(resolver)
    elif sweep.searched is None:
        return
    else:
        for section, key in given:
            if key in SEARCHED:
                resolver.problem(f"{section}.{key}", None, f"is what the search {sweep.searched!r} chooses (searched); "
                                                           "leave one of them out")
    for section, key in given:
        if key == SPLIT or (key, section) == (SHARE, "axes"):
            resolver.problem(f"{section}.{key}", None, "keeps the text of searches and comparisons apart; leave it out")


def _check_searching(resolver: Resolver) -> None:
    sweep, lr = resolver.sweep, SEARCHED[0]
    if lr not in sweep.axes:
        resolver.problem("search", None, f"a search has {lr} among its axes, for instance {lr}: [1e-3, 2e-3, 4e-3]; "
                                         f"{SEARCHED[1]} may be another")
    for place, seed in enumerate(sweep.axes["seed"]):
        if seed < FIRST_SEARCH_SEED:
            resolver.problem("axes.seed", seed, f"seeds of a search begin at {FIRST_SEARCH_SEED:,}: no comparison may "
                                                "see what its learning rate was chosen on",
                             path=("axes", "seed", str(place)))
    for key, given, reason in (
        ("searched", sweep.searched, "a search takes nothing from another one; leave it out"),
        ("claims", sweep.claims, "a search compares no arms; claims belong to the comparison that names it"),
        ("gate", sweep.gate == "require", "a search has no gates; they belong to the comparison that names it"),
    ):
        if given:
            resolver.problem(key, None, reason)


def _check_twice(resolver: Resolver, axis: str) -> None:
    """Refuse an axis of an upstream whose field is set as well: one of the two would be passed over in silence."""
    for name, plugin in resolver.registries.upstreams.items():
        for owner in {name, plugin.inherits} - {""}:
            key = f"{owner}.{plugin.axes[axis]}" if axis in plugin.axes else ""
            for section, values in (("fields", resolver.sweep.fields), ("axes", resolver.sweep.axes)):
                if key in values:
                    resolver.problem(f"{section}.{key}", None, f"is what the axis {axis} sets; give it in one place")


def _check_budgets(resolver: Resolver) -> None:
    seen: dict[int, object] = {}
    reference = SCALES[resolver.sweep.scale].upstream_tokens
    for place, value in enumerate(resolver.sweep.axes.get("token_budget", ())):
        try:
            tokens = Amount(value).tokens(reference=reference)
        except ValueError as error:
            resolver.problem("axes.token_budget", value, str(error), path=("axes", "token_budget", str(place)))
            continue
        if seen.setdefault(tokens, value) is not value and "scale" not in resolver.assumed:
            resolver.problem("axes.token_budget", value, f"is the same budget as {seen[tokens]}: {tokens:,} tokens",
                             path=("axes", "token_budget", str(place)))


def _small_enough(resolver: Resolver) -> bool:
    """Return whether the grid can be made, before it is."""
    axes = resolver.sweep.axes
    cells = 0
    for name in axes["upstream"]:
        plugin = resolver.registries.upstreams.get(str(name))
        own = own_axes(resolver, str(name), plugin) if plugin is not None else []
        cells += math.prod(len(axes.get(a, ("1x",))) for a in own)
    count = cells * len(axes["domain"]) * len(axes["seed"])
    if count > MAX_TRIALS:
        lengths = ", ".join(f"{a} {len(v):,}" for a, v in axes.items())
        resolver.problem("axes", f"{count:,} trials", f"a sweep has at most {MAX_TRIALS:,}; shorten an axis ({lengths})"
                                                      " or split the sweep")
    return count <= MAX_TRIALS


def own_axes(resolver: Resolver, name: str, plugin: Upstream) -> list[str]:
    """Return the axes that an upstream has, domain and seed aside."""
    own = [a for a in resolver.sweep.axes if a in plugin.axes or _applies(resolver, a, name, plugin)]
    return [*own, "token_budget"] if plugin.trains or plugin.lengthens else own


def check_layout(resolver: Resolver, cores: Sequence[Mapping[str, Any]]) -> None:
    """Note a layout (`run`) that the batches do not divide by, or in which the precision does not exist.

    Args:
        resolver: takes the problems.
        cores: section -> model, of every trial.
    """
    run, scale = resolver.sweep.run, SCALES[resolver.sweep.scale]
    zero = scale.zero_stage if run.zero_stage is None else run.zero_stage
    for core in {id(c["engine"]): c for c in cores}.values():
        if core["engine"].precision == "bf16" and zero == 0:
            resolver.problem("run.zero_stage", zero, "precision bf16 needs ZeRO stage 1, 2 or 3; or set "
                                                     "engine.precision to autocast or fp32")
        if core["engine"].compile and zero == 3:
            resolver.problem("run.zero_stage", zero, "engine.compile needs ZeRO stage 0, 1 or 2 (stage 3 gathers "
                                                     "weights inside what is compiled); or leave it out")
    _check_offload(resolver, zero)
    batches = {stage: [core[stage].batch_sequences for core in cores] for stage in ("prepretrain", "pretrain")}
    batches["finetune"] = [f.recipe.batch_sequences for core in cores for f in core["finetunings"].values()]
    for stage, found in batches.items():
        for batch in dict.fromkeys(found):
            if batch % run.ranks:
                resolver.problem("run.ranks", run.ranks, f"must divide {stage}.batch_sequences = {batch}")
            elif isinstance(run.micro_batch, int) and batch // run.ranks % run.micro_batch:
                resolver.problem("run.micro_batch", run.micro_batch,
                                 f"must divide a rank's share of {stage}.batch_sequences, {batch // run.ranks}")


def _check_offload(resolver: Resolver, zero: int) -> None:
    offload = resolver.sweep.run.offload
    if offload != "none" and zero == 0:
        resolver.problem("run.offload", offload, "needs run.zero_stage 1, 2 or 3, this is 0, which parts nothing")
    elif offload == "optimizer+parameters" and zero != 3:
        resolver.problem("run.offload", offload, f"needs run.zero_stage 3, this is {zero}, which keeps all "
                                                 "parameters on every GPU; or write optimizer")


def check_frames(resolver: Resolver, plugin: Upstream, science: Any, core: Mapping[str, Any]) -> None:
    """Note a sequence of fewer than two frames: nothing in the first is a target, so nothing would be learned."""
    length, frame = core["model"].sequence_length, plugin.frame_tokens(science) if plugin.frame_tokens else 0
    if length < 2 * frame and not resolver.assumed & {"scale", "protocol"}:
        resolver.problem("fields.model.sequence_length", length,
                         f"is less than two frames of {frame} tokens, and the first of them is never a target; write "
                         f"at least {2 * frame}, or make frames smaller (grid, patch)")


def check_body(resolver: Resolver, name: str, science: Any, core: Mapping[str, Any]) -> None:
    """Note why the body that an upstream brings cannot be the model's."""
    plugin = resolver.registries.upstreams[name]
    if plugin.misfits is None or resolver.assumed & {"scale", "protocol"}:
        return
    for reason in plugin.misfits(science, core["model"]):
        resolver.problem("axes.upstream", name, f"{reason}; set model.* and {name}.* to what it is, or give another",
                         path=("axes", "upstream", str([str(u) for u in resolver.sweep.axes["upstream"]].index(name))))


def check_generation(resolver: Resolver, task: str, science: Any, core: Mapping[str, Any]) -> None:
    """Note texts to be written that leave no room for a prompt."""
    asked, model = generation_of(science), core["model"]
    if not asked.samples or model is None or resolver.assumed & {"scale", "protocol"}:
        return
    if asked.max_new_tokens > (most := model.sequence_length - 2):
        resolver.problem(f"fields.{task}.generation.max_new_tokens", asked.max_new_tokens,
                         f"leaves no room for a prompt in sequences of {model.sequence_length} tokens; {most} is the "
                         "most, and less leaves more of the prompt")


def check_arms(resolver: Resolver, arms: list[dict[str, Any]]) -> None:
    """See that no two arms are the same experiment or have the same name, and that the name can be a file's."""
    if any(key.startswith("axes") for key, _ in resolver.problems):
        return  # the same fault would be told twice
    experiments: dict[tuple[str, ...], str] = {}
    names: dict[str, str] = {}
    texts: dict[int, str] = {}

    def text(model: Any) -> str:
        if id(model) not in texts:
            texts[id(model)] = repr(model)
        return texts[id(model)]

    tail = max(len(str(d)) for d in resolver.sweep.axes["domain"]) + len(str(max(resolver.sweep.axes["seed"])))
    for arm in arms:
        label = arm["arm"]
        models = [*arm["core"].values()]
        models += [m for s in ("domains", "tasks") for m in arm["core"].get(s, {}).values()]
        science = (arm["upstream"], str(arm["upstream_tokens"]), str(arm["pretrain_tokens"]), text(arm["trained"]),
                   *(text(m) for m in models if not isinstance(m, dict)))
        if science in experiments:
            resolver.problem("axes", label, f"is the same experiment as the arm {experiments[science]!r}; give it once")
        elif safe(label) in names:
            resolver.problem("axes", label, f"has the name of the arm {names[safe(label)]!r}; in the name of a file "
                                            "only letters, digits and . _ - = differ")
        elif len(safe(label)) + tail + len("--s") > MAX_ID_CHARS:
            resolver.problem("axes", label, f"is an arm's name of {len(label)} characters; {MAX_ID_CHARS} is the most "
                                            "for arm, domain and seed")
        experiments.setdefault(science, label)
        names.setdefault(safe(label), label)


def check_claims(resolver: Resolver, arms: list[dict[str, Any]], *, complete: bool) -> None:
    """See that claims name domains and arms of the file; a part of its grid (`--set domain=[web]`) may lack some.

    Args:
        resolver: takes the problems.
        arms: those that could be made.
        complete: whether these are all.
    """
    if any(path[0] == "axes" for path in resolver.source.flags):
        return
    domains = [str(d) for d in resolver.sweep.axes["domain"]]
    bands = [BEST] if any(a["complexity"] for a in arms) else []
    labels = list(dict.fromkeys([*(a["arm"] for a in arms), *(a["upstream"] for a in arms)]))
    for name, claim in resolver.sweep.claims.items():
        found = [(key, f"unknown domain; {nearest(value, domains)}") for key in ("domain", "than")
                 if (value := getattr(claim, key)) not in (domains if key == "domain" else ["", *domains])]
        for key, special in (("arm", bands), ("over", [BASELINE])) if complete else ():
            value = getattr(claim, key)
            message = "" if value in special else _name_problem(key, value, arms)
            found += [(key, f"{message}; {nearest(value, [*labels, *special])}")] if message else []
        for key, message in found:
            resolver.problem(f"claims.{name}.{key}", getattr(claim, key), message,
                             path=("claims", name) if claim.says else ("claims", name, key))


def _name_problem(key: str, value: str, arms: list[dict[str, Any]]) -> str:
    """Return what is wrong with an arm's name in a claim; empty: nothing."""
    found = [a for a in arms if a["arm"] in named(value, arms)]
    if not found:
        return f"unknown {key}"
    budgets = {(a["upstream"], a["token_budget"]) for a in found}
    if len(found) > 1 and key == "arm" and (len(budgets) > 1 or not all(a["complexity"] for a in found)):
        return f"names {len(found)} arms that are no bands of one upstream and budget"
    return ""


def _applies(resolver: Resolver, axis: str, name: str, plugin: Upstream) -> bool:
    """A dotted axis applies unless it belongs to another upstream, or to a stage or weights that this one lacks."""
    if "." not in axis:
        return False
    if axis in EMBEDDINGS:
        return bool(plugin.corpus)
    if axis in BODY:
        return _carries(plugin)
    prefix = axis.partition(".")[0]
    if prefix == "prepretrain" or axis == EQUAL:
        return plugin.trains or (axis == EQUAL and plugin.body_tokens is not None)
    return prefix not in resolver.registries.upstreams or prefix in (name, plugin.inherits)


def _carries(plugin: Upstream) -> bool:
    """Return whether a body that this upstream trained, or brings, is carried over."""
    return plugin.body_tokens is not None or (plugin.trains and plugin.norms_of is None)


def check_transfer(resolver: Resolver, name: str, extras: Mapping[str, Any]) -> dict[str, Any]:
    """Return the sections of an arm, having seen that what it carries over exists and means the same there.

    Args:
        resolver: takes the problems.
        name: the arm's upstream; where it carries nothing over, what is carried does not move its stages.
        extras: the arm's dotted values.
    """
    core, plugin = resolver.core(extras), resolver.registries.upstreams[name]
    if core["transfer"] is None or core["model"] is None:
        return core
    unused = () if _carries(plugin) else BODY if plugin.trains else (*BODY, *EMBEDDINGS)
    reset = {k: default for k in unused if _transfer(core, k) != (default := _default(k))}
    core = resolver.core({**extras, **reset}) if reset else core
    _check_redrawn(resolver, core)
    _check_head(resolver, core)
    for key in EMBEDDINGS:
        if _transfer(core, key) == "keep" and not plugin.corpus:
            able = [k for k, u in resolver.registries.upstreams.items() if u.corpus]
            resolver.problem(f"fields.{key}", "keep",
                             f"{name} has token ids of its own, so its embeddings mean nothing in text; those of "
                             f"{', '.join(able) or 'no upstream'} can be kept. As an axis, {key}: [reinit, keep], "
                             "it applies to those alone")
    return core


def _default(key: str) -> Any:
    return TransferScience.model_fields[key.rpartition(".")[2]].default


def _transfer(core: Mapping[str, Any], key: str) -> Any:
    return getattr(core["transfer"], key.rpartition(".")[2])


def _check_redrawn(resolver: Resolver, core: Mapping[str, Any]) -> None:
    count = core["model"].layers
    for redrawn in core["transfer"].reinit:
        if redrawn.layers is not None and redrawn.layers.stop > count:
            resolver.problem(_at(resolver, "transfer.reinit"), str(redrawn),
                             f"the model has {count} layers, 0 to {count - 1}")


def _check_head(resolver: Resolver, core: Mapping[str, Any]) -> None:
    transfer = core["transfer"]
    if core["model"].tied and transfer.head not in ("as_embeddings", transfer.embeddings):
        resolver.problem(_at(resolver, "transfer.head"), transfer.head,
                         "the model is tied (model.tied), so its head is its input embedding; leave it out")


def _at(resolver: Resolver, field: str) -> str:
    """Return the key of a field where the sweep gives it: below `axes` or `fields`."""
    return f"{'axes' if field in resolver.sweep.axes else 'fields'}.{field}"


_WHOLES = ("prepretrain.horizon", "pretrain.horizon", "finetune.horizon", "evaluate.every")
"""Amounts that may be a share."""
_ABSOLUTE = ("evaluate.trunk_tokens", "evaluate.end_tokens", "evaluate.gate_tokens")


def written(resolver: Resolver, key: str, domain: str) -> str:
    """Return a field's key as the file has it: a domain's own (`code.pretrain.lr`) where it gives that."""
    own = f"{domain}.{key}"
    return own if own in resolver.sweep.fields else key


def check_amounts(resolver: Resolver, core: Mapping[str, Any], domain: str = "") -> None:
    """See that amounts are not relative to something that does not exist there; `domain` has fields of its own."""
    for key in (*_WHOLES, *_ABSOLUTE, "prepretrain.warmup", "pretrain.warmup", "finetune.warmup"):
        section, _, name = key.partition(".")
        amount = getattr(core[section], name)
        shares = key in _WHOLES or (name == "warmup" and core[section].schedule == "cosine")
        key = written(resolver, key, domain)
        if amount.endswith("%") and name == "warmup" and not shares:
            resolver.problem(f"fields.{key}", str(amount), "with the schedule wsd a warm-up is absolute, such as 10k; "
                                                           "a share needs the schedule cosine")
        else:
            amount_of(resolver, key, amount, whole=100 if shares else None)


def amount_of(resolver: Resolver, key: str, amount: Amount, *, reference: int | None = None,
              whole: int | None = None) -> int | None:
    """Return an amount in tokens; None where that has no meaning, which is noted."""
    try:
        return amount.tokens(reference=reference, whole=whole)
    except ValueError as error:
        resolver.problem(f"fields.{key}", str(amount), str(error))
        return None


def safe(text: str) -> str:
    """Return text as part of a file name."""
    return re.sub(r"[^A-Za-z0-9._=-]+", "_", text)
