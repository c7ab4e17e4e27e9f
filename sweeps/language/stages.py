"""Trials -> the shared graph of stages; pure.

A training stage *is* the state after a token count of a run, so its identity does not depend on which other budgets or
ends a sweep has. A trunk serves all budgets; each annealed end is a branch of its own.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from sweeps.language.downstream import DownstreamStages
from sweeps.language.gate import FOLLOWING, GATE
from sweeps.language.graph import Graph, data_key
from sweeps.language.grid import Trial
from sweeps.language.ladder import FINETUNE
from sweeps.language.manifest import PathStep
from sweeps.language.mixture import MixtureScience
from sweeps.language.plugins import Registries
from sweeps.language.science import (
    MeasureScience,
    OptimScience,
    RowsScience,
    SegmentScience,
    TransferScience,
    ValidationScience,
)
from sweeps.language.stage import Input, Section, StageSpec, section
from sweeps.language.units import Amount, tokens_text


@dataclass(kw_only=True)
class _Run:
    """A training run: everything but the point reached."""

    kind: str
    sections: dict[str, Section]
    revisions: dict[str, int]
    inputs: tuple[Input, ...]
    label: str
    flops_per_token: float
    points: dict[tuple[int | None, int], dict[int, str]] = field(default_factory=dict)
    """Schedule (horizon and warm-up in tokens) -> its points: tokens -> fingerprint. Those of one schedule continue one
    another; cosines to different horizons share no state."""
    made: dict[int, str] = field(default_factory=dict)
    """id of a segment -> fingerprint of the stage that ends it."""


class GraphBuilder(DownstreamStages):
    """Builds the graph; equal stages are made once."""

    def __init__(self, registries: Registries, scale: str, *, gate_required: bool = False, search: bool = False
                 ) -> None:
        """`scale` decides the size of rule blocks; `gate_required`: what follows an upstream waits for its gate.

        `search`: trials are candidates; nothing but their annealed ends is measured, and lower rungs come first.
        """
        super().__init__(registries, scale)
        self._gate_required = gate_required
        self._search = search
        self._runs: list[_Run] = []

    def build(self, trials: Iterable[Trial]) -> Graph:
        """Return the graph of all trials."""
        for position, trial in enumerate(trials):
            self.graph.paths[trial.id] = path = self._path(trial)
            for fingerprint in {step.fingerprint for step in path}:
                node = self.graph.nodes[fingerprint]
                node.priority = min(node.priority, position) if node.trials else position
                node.trials += 1
                if trial.choice and node.spec.kind == "pretrain":
                    node.choices |= {trial.choice}
        if self._search:
            for path in self.graph.paths.values():
                for rung, stages in enumerate(rungs_of(path)):
                    for fingerprint in stages:
                        self.graph.nodes[fingerprint].priority += rung * len(self.graph.paths)
        self._order_trunks()
        return self.graph

    # -- training ------------------------------------------------------------------------------------------------

    def _optim(self, science: OptimScience) -> Section:
        names = OptimScience.model_fields.keys() - {"warmup", "decay", "horizon"}
        key = ("optim", id(science))
        if key not in self._made:
            self._made[key] = section(OptimScience(**{n: getattr(science, n) for n in names}))
        made: Section = self._made[key]
        return made

    def _common(self, trial: Trial, optim: OptimScience) -> dict[str, Section]:
        return {"model": self._section(trial.core["model"]), "optim": self._optim(optim),
                "engine": self._section(trial.core["engine"]), "seed": self._seed(trial)}

    def _prepretrain_run(self, trial: Trial) -> _Run:
        def make() -> _Run:
            return _Run(
                kind="prepretrain", inputs=corpora, sections={**self._common(trial, trial.core["prepretrain"]), **own},
                label=f"{trial.trained.upstream} {trial.complexity}".strip() + f" s{trial.seed}",
                revisions=self._upstream_revisions("prepretrain", trial.trained),
                flops_per_token=trial.core["model"].flops_per_token(self._vocabulary(trial)),
            )

        own, corpora = self._upstream_sections(trial.trained), self._corpora(trial, "bank")
        key = ("ppt", corpora, *((k, s.identity) for k, s in own.items()), trial.seed,
               *(id(trial.core[s]) for s in ("model", "prepretrain", "engine")))
        return self._tracked(key, make)

    def _tracked(self, key: Any, make: Any) -> _Run:
        if key not in self._made:
            self._made[key] = make()
            self._runs.append(self._made[key])
        run: _Run = self._made[key]
        return run

    def _point(self, run: _Run, segment: SegmentScience, inputs: tuple[Input, ...]) -> str:
        """Return the stage that is `run` after `segment.end_tokens`."""
        made = run.made.get(id(segment))
        if made is not None:
            return made
        spec = StageSpec(kind=run.kind, revisions=run.revisions, inputs=(*run.inputs, *inputs),
                         sections={**run.sections, "segment": self._section(segment)})
        text = tokens_text(segment.end_tokens)
        fingerprint = self._add(
            spec, f"{run.kind} {run.label} {text}{'' if segment.decay_from is None else ' annealed'}",
            end_tokens=segment.end_tokens, start_tokens=segment.decay_from or 0, flops_per_token=run.flops_per_token,
        )
        run.made[id(segment)] = fingerprint
        if segment.decay_from is None:
            run.points.setdefault((segment.horizon_tokens, segment.warmup_tokens), {})[segment.end_tokens] = fingerprint
        return fingerprint

    def _segments(self, optim: OptimScience, end: int, update: int) -> list[SegmentScience]:
        made: list[SegmentScience] = self._once(("segments", id(optim), end, update),
                                                lambda: _segments(optim, end, update))
        return made

    def _prepretrain(self, trial: Trial) -> list[PathStep]:
        """Return the trunk point and the decay branch (WSD), or the one stage (cosine) of the trial's budget."""
        run, optim, model = self._prepretrain_run(trial), trial.core["prepretrain"], trial.core["model"]
        end, per_sequence = trial.upstream_tokens, model.sequence_length
        update = optim.batch_sequences * per_sequence
        steps: list[PathStep] = []
        trunk: tuple[Input, ...] = ()
        for segment in self._segments(optim, end, update):
            first = (segment.decay_from or 0) // per_sequence
            inputs = self._banks(trial, "train", range(first, segment.end_tokens // per_sequence), "bank")
            steps += [PathStep("rules", i.kind, i.fingerprint) for i in inputs]
            fingerprint = self._point(run, segment, (*inputs, *trunk))
            steps.append(PathStep("prepretrain", "prepretrain", fingerprint, segment.end_tokens))
            trunk = (Input("trunk", "prepretrain", fingerprint),)
        return steps

    def _pretrain(self, trial: Trial, body: str | None) -> list[PathStep]:
        """Return the trunk points and the annealed ends, in the order of tokens."""
        core, optim = trial.core, trial.core["pretrain"]
        run = self._pretrain_run(trial, body)
        update = optim.batch_sequences * core["model"].sequence_length
        steps: list[PathStep] = []
        for share in optim.ends:
            end = max(share.of(trial.pretrain_tokens) // update * update, update)
            trunk: tuple[Input, ...] = ()
            for segment in self._segments(optim, end, update):
                annealed = segment.decay_from is not None or segment.horizon_tokens is not None
                fingerprint = self._point(run, segment, trunk)
                steps.append(PathStep("end" if annealed else "trunk", "pretrain", fingerprint, segment.end_tokens))
                trunk = (Input("trunk", "pretrain", fingerprint),)
        return steps

    def _validation(self, trial: Trial) -> Section:
        key = ("validation", trial.pretrain_tokens, *(id(trial.core[s]) for s in ("model", "pretrain", "evaluate")))
        made: Section = self._once(key, lambda: section(_validation(trial)))
        return made

    def _pretrain_run(self, trial: Trial, body: str | None) -> _Run:
        core, plugin = trial.core, self.registries.upstreams.find(trial.upstream)

        def make() -> _Run:
            inputs = [Input("corpus", "corpus", self._corpus(trial, trial.domain))]
            if body is not None:
                inputs.append(Input("norms" if plugin.norms_of else "body", self.graph.nodes[body].spec.kind, body))
            return _Run(
                kind="pretrain", inputs=tuple(inputs), label=f"{trial.domain} {trial.arm} s{trial.seed}",
                revisions=self._revision("pretrain", **(
                    {f"upstream__{trial.upstream}": plugin} if plugin.norms_of else {})),
                sections={**self._common(trial, core["pretrain"]), "transfer": self._section(core["transfer"]),
                          "validation": self._validation(trial)},
                flops_per_token=core["model"].flops_per_token(core["tokenizer"].vocabulary),
            )

        key = ("pt", body, trial.upstream if plugin.norms_of else "", trial.domain, trial.seed, trial.pretrain_tokens,
               *data_key(trial), *(id(core[s]) for s in ("model", "pretrain", "engine", "transfer", "evaluate")))
        return self._tracked(key, make)

    def _finetune(self, trial: Trial, task: str, model: str, asked: str) -> list[PathStep]:
        """Return the training items of a task, apart from those that are `asked`, and what leads to the tuned model."""
        core, tuning = trial.core, trial.core["finetunings"][task]
        recipe = tuning.recipe
        items = self._items(task, tuning.items, (Input("apart", "items", asked),), "training items")
        inputs = (Input("model", "pretrain", model), Input("items", "items", items),
                  Input("tokenizer", "tokenizer", self._tokenizer(trial)))
        length = recipe.sequence_length or core["model"].sequence_length
        shared = recipe.model_copy(update={"updates": 1})
        key = ("ft", inputs, trial.seed, id(core["model"]), id(core["engine"]), shared)
        run = self._tracked(key, lambda: _Run(
            kind="finetune", inputs=inputs, revisions=self._revision("finetune"),
            sections={**self._common(trial, recipe), "rows": section(RowsScience(**{
                name: getattr(recipe, name) for name in RowsScience.model_fields}))},
            label=f"{task} {trial.domain} {trial.arm} s{trial.seed}",
            flops_per_token=core["model"].model_copy(update={"sequence_length": length}).flops_per_token(
                core["tokenizer"].vocabulary)))
        steps, trunk, update = [PathStep("items", "items", items)], tuple[Input, ...](), recipe.batch_sequences * length
        for segment in self._segments(recipe, recipe.updates * update, update):
            fingerprint = self._point(run, segment, trunk)
            steps.append(PathStep(FINETUNE, "finetune", fingerprint, segment.end_tokens))
            trunk = (Input("trunk", "finetune", fingerprint),)
        return steps

    # -- measuring -----------------------------------------------------------------------------------------------

    def _measure(self, trial: Trial, subject: str, inputs: tuple[Input, ...], tasks: Mapping[str, Any],
                 extra: Mapping[str, Section]) -> str:
        measure = trial.core["evaluate"]
        tokens = (measure.gate_tokens if subject == "prepretrained" else measure.end_tokens).tokens()
        plugins = {f"task__{t}": self.registries.tasks.find(t) for t in tasks}
        spec = StageSpec(
            kind="evaluate", revisions=self._revision("evaluate", **plugins), inputs=inputs,
            sections={
                "model": self._section(trial.core["model"]), "engine": self._section(trial.core["engine"]),
                "seed": self._seed(trial),
                "measure": self._once(("measure", subject, tokens), lambda: section(
                    MeasureScience(subject=subject, tokens=tokens))),
                **{f"task.{t}": self._section(science, f"task:{t}") for t, science in tasks.items()}, **extra,
            },
        )
        name = {"pretrained": f"{trial.domain} {trial.arm}", "prepretrained": f"gate {trial.arm}",
                "untrained": "untrained twin"}[subject]
        return self._add(spec, f"evaluate {name} s{trial.seed}")

    def _gate(self, trial: Trial, body: str) -> str:
        def make() -> str:
            length = trial.core["model"].sequence_length
            tokens = trial.core["evaluate"].gate_tokens.tokens()
            measured = trial
            if isinstance(trial.trained.science, MixtureScience):  # judged by the mean of what was trained on
                mean = trial.trained.science.mean(trial.upstream_tokens // length, length)
                measured = replace(trial, trained=replace(trial.trained, science=mean))
            count = -(-tokens // length)
            inputs = (
                Input("model", "prepretrain", body),
                *self._corpora(trial, "bank"), *self._banks(measured, "train", range(0, count), "bank"),
                *self._corpora(trial, "bank_held_out"),
                *self._banks(measured, "held_out", range(0, count), "bank_held_out"),
            )
            tasks = {GATE: trial.core["tasks"][GATE]}
            return self._measure(trial, "prepretrained", inputs, tasks, self._upstream_sections(measured.trained))

        key = ("gate", body, id(trial.core["evaluate"]), id(trial.core["tasks"][GATE]))
        return str(self._once(key, make))

    def _final(self, trial: Trial, subject: str, model: str | None) -> str:
        def make() -> str:
            names = dict.fromkeys([*trial.core["tokenizer"].corpora, trial.domain])
            inputs = tuple(Input(f"corpus:{d}", "corpus", self._corpus(trial, d)) for d in names)
            if model is not None:
                inputs = (Input("model", "pretrain", model), *inputs)
            tasks = {t: trial.core["tasks"][t] for t in trial.core["evaluate"].tasks}
            fresh = section(TransferScience(embedding_init=trial.core["transfer"].embedding_init))
            return self._measure(trial, subject, inputs, tasks, {"transfer": fresh})

        own = "" if trial.domain in trial.core["tokenizer"].corpora else trial.domain
        key = (subject, model, own, trial.seed, *data_key(trial), *map(id, trial.core["tasks"].values()),
               *(id(trial.core[s]) for s in ("model", "engine", "transfer", "evaluate")))
        return str(self._once(key, make))

    def _upstream(self, trial: Trial) -> tuple[list[PathStep], str | None]:
        """Return the steps up to the pre-pre-trained body and its gate, and the body; None where there is none."""
        if self.registries.upstreams.find(trial.upstream).body_tokens is not None:
            body = self._body(trial)
            return [PathStep("body", "body", body)], body
        if not trial.upstream_tokens:
            return [], None
        key = ("upstream", id(self._prepretrain_run(trial)), trial.upstream_tokens, id(trial.core["evaluate"]),
               id(trial.core["tasks"][GATE]))
        made: tuple[list[PathStep], str] = self._once(key, lambda: self._trained(trial))
        return made

    def _trained(self, trial: Trial) -> tuple[list[PathStep], str]:
        steps = self._prepretrain(trial)
        body = steps[-1].fingerprint
        if self._search:
            return steps, body
        gate = self._gate(trial, body)
        steps += [PathStep("rules", "rules", i.fingerprint)
                  for i in self.graph.nodes[gate].spec.inputs if i.kind == "rules"]
        return [*steps, PathStep("gate", "evaluate", gate)], body

    def _path(self, trial: Trial) -> tuple[PathStep, ...]:
        steps, body = self._upstream(trial)
        pretrain = self._pretrain(trial, body)
        if self._search:
            read = [Input("corpus", "corpus", self._corpus(trial, trial.domain)), *self._corpora(trial, "bank")]
            return (*self._data_steps(tuple(dict.fromkeys(i.fingerprint for i in read))), *steps, *pretrain)
        final = self._final(trial, "pretrained", pretrain[-1].fingerprint)
        read = [*self.graph.nodes[final].spec.inputs, *self._corpora(trial, "bank")]
        data = [i for i in dict.fromkeys(read) if i.kind == "corpus"]
        downstream = self._downstream(trial, pretrain[-1].fingerprint, data, self._finetune)
        gate = next((step.fingerprint for step in steps if step.role == "gate"), None)
        if gate and self._gate_required and not self.registries.upstreams.find(trial.upstream).control:
            scored = (step.fingerprint for step in downstream if step.role in FOLLOWING)
            for fingerprint in (*(step.fingerprint for step in pretrain), final, *scored):
                self.graph.nodes[fingerprint].gate = gate
        twin = self._final(trial, "untrained", None)
        made = self._data_steps(tuple(dict.fromkeys(i.fingerprint for i in data)))
        return (*made, *steps, *pretrain, PathStep("twin", "evaluate", twin),
                PathStep("evaluate", "evaluate", final), *downstream)

    def _data_steps(self, corpora: tuple[str, ...]) -> list[PathStep]:
        def make() -> list[PathStep]:
            found: dict[str, PathStep] = {}
            for corpus in corpora:
                for i in self.graph.nodes[corpus].spec.inputs:
                    if i.kind == "tokenizer":
                        for t in self.graph.nodes[i.fingerprint].spec.inputs:
                            found[t.fingerprint] = PathStep("text", "text", t.fingerprint)
                    found[i.fingerprint] = PathStep(i.kind, i.kind, i.fingerprint)
                found[corpus] = PathStep("corpus", "corpus", corpus)
            return list(found.values())

        steps: list[PathStep] = self._once(("data", corpora), make)
        return steps

    def _order_trunks(self) -> None:
        """Let each trunk point come after the one before it, and count only the tokens between them."""
        for points in (points for run in self._runs for points in run.points.values()):
            before: str | None = None
            for _, fingerprint in sorted(points.items()):
                node = self.graph.nodes[fingerprint]
                if before is not None:
                    node.after = self.graph.nodes[before].key
                    node.start_tokens = self.graph.nodes[before].end_tokens
                before = fingerprint


def rungs_of(path: Iterable[PathStep]) -> tuple[tuple[str, ...], ...]:
    """Return a trial's training stages, one group for each annealed end: what leads to it, and itself last."""
    found: list[tuple[str, ...]] = []
    stages: list[str] = []
    for step in path:
        if step.kind in ("prepretrain", "pretrain"):
            stages.append(step.fingerprint)
        if step.role == "end":
            found.append(tuple(stages))
            stages = []
    return tuple(found)


def _segments(optim: OptimScience, end: int, update: int) -> list[SegmentScience]:
    """Return the stages that lead to an end of `end` tokens: trunk and decay branch (WSD), or one (cosine)."""
    def warmup(horizon: int | None) -> int:
        return Amount(optim.warmup).tokens(whole=horizon) // update * update

    if optim.schedule == "cosine":
        horizon = optim.horizon.tokens(whole=end)
        return [SegmentScience(end_tokens=end, horizon_tokens=horizon, warmup_tokens=warmup(horizon))]
    decay = min(max(optim.decay.of(end) // update * update, update), end)
    start, warm = end - decay, warmup(None)
    if start <= 0:
        return [SegmentScience(end_tokens=end, decay_from=0, warmup_tokens=warm)]
    return [SegmentScience(end_tokens=start, warmup_tokens=warm),
            SegmentScience(end_tokens=end, decay_from=start, warmup_tokens=warm)]


def _validation(trial: Trial) -> ValidationScience:
    core = trial.core
    update = core["pretrain"].batch_sequences * core["model"].sequence_length
    every = core["evaluate"].every.tokens(whole=trial.pretrain_tokens)
    return ValidationScience(
        every_tokens=max(every // update, 1) * update, trunk_tokens=core["evaluate"].trunk_tokens.tokens(),
        end_tokens=core["evaluate"].end_tokens.tokens(),
    )
