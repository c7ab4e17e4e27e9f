"""The graph of stages: its nodes, and the stages that make data (text, tokenizer, corpus, rules). Pure."""

from __future__ import annotations

from collections.abc import Set
from dataclasses import dataclass
from typing import Any

from sweeps.language.grid import Trial
from sweeps.language.manifest import PathStep
from sweeps.language.mixture import PART, MixtureScience
from sweeps.language.parts import Part, vocabulary_of
from sweeps.language.plugins import Registries, Upstream
from sweeps.language.presets import SCALES
from sweeps.language.science import BlockScience, IdentityScience, SeedScience
from sweeps.language.stage import Input, Section, StageSpec, section
from sweeps.language.text_size import TextSize


@dataclass(kw_only=True, slots=True)
class Node:
    """A stage in the graph."""

    spec: StageSpec
    label: str
    """For people: `pretrain web nca 45-60 s0 150k`."""
    end_tokens: int = 0
    """Training tokens at its end, within its own run."""
    start_tokens: int = 0
    """Where it continues from when the whole graph runs in order."""
    flops_per_token: float = 0.0
    scoring_flops: float = 0.0
    """Of the forward passes that score a task's items, about; 0: it scores none, or nobody knows yet how many."""
    after: Input | None = None
    """An earlier point on the same trunk: not an input (no part of the identity), but worth waiting for."""
    gate: str | None = None
    """The upstream gate that must say `learned` before it runs (`gate: require`): no part of the identity either."""
    choices: frozenset[str] = frozenset()
    """The stages `select` whose values it was given: no part of the identity, since a value is one whoever chose it."""
    trials: int = 0
    priority: int = 0
    """Position of the first trial that needs it."""
    text: TextSize | None = None
    """The most that a stage `text`, `tokenizer` or `corpus` reads: no part of its identity."""

    @property
    def key(self) -> Input:
        """The stage as other stages name it."""
        return Input(role="", kind=self.spec.kind, fingerprint=self.spec.fingerprint)

    @property
    def tokens(self) -> int:
        """Tokens that it trains on itself."""
        return self.end_tokens - self.start_tokens

    @property
    def work(self) -> float:
        """FLOPs of its training or scoring; 0: other things decide how long it takes."""
        return self.tokens * self.flops_per_token + self.scoring_flops

    @property
    def tokens_alone(self) -> int:
        """Tokens of the run that it is the end of, if that run shared nothing; 0: a trunk point, which ends none."""
        segment = self.spec.sections.get("segment")
        ends = segment is not None and (segment.values["decay_from"], segment.values["horizon_tokens"]) != (None, None)
        return self.end_tokens if ends else 0


@dataclass(kw_only=True)
class Graph:
    """Every stage of a sweep, in an order in which inputs come first, and every trial's path."""

    nodes: dict[str, Node]
    """Fingerprint -> node."""
    paths: dict[str, tuple[PathStep, ...]]
    """Trial id -> its stages."""

    def banks_to_read(self, done: Set[str]) -> set[str]:
        """Return the complete banks of rules that a stage without a result will read.

        Every byte of these is compared before a job is made for what reads them (a second per GB): a byte changed in a
        table is a rule like any other, and a job would find it out hours of queue later.
        """
        waiting = (node for key, node in self.nodes.items() if key not in done)
        return {i.fingerprint for node in waiting for i in node.spec.inputs
                if i.kind == "rules" and i.fingerprint in done}


class DataStages:
    """Makes the stages that hold data; equal stages are made once."""

    def __init__(self, registries: Registries, scale: str) -> None:
        """`scale` decides the size of rule blocks."""
        self.registries = registries
        self.block_rules = SCALES[scale].rules_per_block
        self.graph = Graph(nodes={}, paths={})
        self._made: dict[Any, Any] = {}
        self._sections: dict[tuple[str, int], tuple[Section, Any]] = {}

    # -- small helpers -------------------------------------------------------------------------------------------

    def _section(self, model: Any, plugin: str = "") -> Section:
        """Return the section of a model; the model is kept, so that its id stays its own."""
        key = (plugin, id(model))
        if key not in self._sections:
            self._sections[key] = (section(model, plugin), model)
        return self._sections[key][0]

    def _seed(self, trial: Trial) -> Section:
        made: Section = self._once(("seed", trial.seed), lambda: section(SeedScience(seed=trial.seed)))
        return made

    def _add(self, spec: StageSpec, label: str, **about: Any) -> str:
        fingerprint = spec.fingerprint
        if fingerprint not in self.graph.nodes:
            self.graph.nodes[fingerprint] = Node(spec=spec, label=label, **about)
        return fingerprint

    def _revision(self, kind: str, **plugins: Any) -> dict[str, int]:
        return {f"stage:{kind}": self.registries.stages.find(kind).revision,
                **{k.replace("__", ":"): v.revision for k, v in plugins.items()}}

    def _once(self, key: Any, make: Any) -> Any:
        if key not in self._made:
            self._made[key] = make()
        return self._made[key]

    # -- data ----------------------------------------------------------------------------------------------------

    def _text(self, trial: Trial, domain: str) -> str:
        def make() -> str:
            plugin = self.registries.domains.find(domain)
            science = trial.core["domains"][domain]
            sources = dict(plugin.identity(science)) if plugin.identity else {}
            spec = StageSpec(
                kind="text", revisions=self._revision("text", **{f"domain__{domain}": plugin}),
                sections={"domain": self._section(science, f"domain:{domain}"),
                          "text": self._section(trial.core["text"]),
                          "identity": section(IdentityScience(sources=sources))},
            )
            limit = trial.core["text"].max_bytes
            known = plugin.size(science) if plugin.size else None
            return self._add(spec, f"text {domain}", text=(known or TextSize(bytes=limit)).within(limit))

        return str(self._once(("text", domain, id(trial.core["domains"][domain]), id(trial.core["text"])), make))

    def _kept(self, trial: Trial, text: str) -> TextSize:
        """Return the most that a stage `text` leaves to those who read it."""
        size = self.graph.nodes[text].text
        assert size is not None
        return size.within(int(trial.core["text"].read * size.bytes))

    def _tokenizer(self, trial: Trial) -> str:
        def make() -> str:
            science = trial.core["tokenizer"]
            inputs = tuple(Input(f"text:{d}", "text", self._text(trial, d))
                           for d in science.corpora)
            spec = StageSpec(kind="tokenizer", revisions=self._revision("tokenizer"),
                             sections={"tokenizer": self._section(science)}, inputs=inputs)
            share, limit = trial.core["text"].validation_share.ratio, science.max_bytes
            sizes = [self._kept(trial, i.fingerprint).bytes for i in inputs]
            return self._add(spec, f"tokenizer {science.vocabulary}", text=TextSize(
                bytes=sum(min(limit, size) + min(limit, int(share * size)) for size in sizes)))

        return str(self._once(("tokenizer", *data_key(trial)), make))

    def _corpus(self, trial: Trial, domain: str) -> str:
        def make() -> str:
            inputs = (Input("text", "text", self._text(trial, domain)),
                      Input("tokenizer", "tokenizer", self._tokenizer(trial)))
            spec = StageSpec(kind="corpus", revisions=self._revision("corpus"),
                             sections={"corpus": self._section(trial.core["corpus"])}, inputs=inputs)
            return self._add(spec, f"corpus {domain}", text=self._kept(trial, inputs[0].fingerprint))

        return str(self._once(("corpus", domain, *data_key(trial)), make))

    def _body(self, trial: Trial) -> str:
        """Return the stage that brings a body which was trained elsewhere; the same for every seed and domain."""
        trained, model = trial.trained, trial.core["model"]

        def make() -> str:
            plugin = self.registries.upstreams.find(trained.upstream)
            sources = dict(plugin.identity(trained.science)) if plugin.identity else {}
            spec = StageSpec(
                kind="body", revisions=self._upstream_revisions("body", trained),
                sections={**self._upstream_sections(trained), "model": self._section(model),
                          "identity": section(IdentityScience(sources=sources))},
            )
            return self._add(spec, f"body {trial.arm}")

        return str(self._once(("body", id(trained.science), id(model)), make))

    # -- what an upstream reads ----------------------------------------------------------------------------------

    def _upstream_sections(self, trained: Part) -> dict[str, Section]:
        """Return the section of an upstream and of each of its parts."""
        parts = {PART + k: self._section(p.science, f"upstream:{p.upstream}") for k, p in trained.parts.items()}
        return {"upstream": self._section(trained.science, f"upstream:{trained.upstream}"), **parts}

    def _upstream_revisions(self, kind: str, trained: Part) -> dict[str, int]:
        names = (trained.upstream, *(p.upstream for p in trained.parts.values()))
        return self._revision(kind, **{f"upstream__{n}": self.registries.upstreams.find(n) for n in names})

    def _vocabulary(self, trial: Trial) -> int:
        """Return the token ids of what a trial's upstream makes."""
        return vocabulary_of(self.registries, trial.trained, trial.core["tokenizer"].vocabulary)

    def _corpora(self, trial: Trial, role: str) -> tuple[Input, ...]:
        """Return the corpora that its upstream reads."""
        found = ((name, part, self.registries.upstreams.find(part.upstream).corpus)
                 for name, part in trial.trained.streams.items())
        return tuple(Input(_role(role, name), "corpus", self._corpus(trial, getattr(part.science, field)))
                     for name, part, field in found if field)

    def _banks(self, trial: Trial, stream: str, sequences: range, role: str) -> tuple[Input, ...]:
        """Return the rule blocks that these sequences read."""
        key = ("banks", id(trial.trained.science), stream, sequences, role, trial.seed,
               trial.core["model"].sequence_length)

        def make() -> tuple[Input, ...]:
            whole, length = trial.trained.science, trial.core["model"].sequence_length
            return tuple(i for name, part in trial.trained.streams.items() for i in self._blocks(
                trial, part, stream, _role(role, name),
                whole.reads(name, sequences, length) if isinstance(whole, MixtureScience) else sequences))

        made: tuple[Input, ...] = self._once(key, make)
        return made

    def _blocks(self, trial: Trial, part: Part, stream: str, role: str, sequences: range) -> tuple[Input, ...]:
        plugin = self.registries.upstreams.find(part.upstream)
        if plugin.bank is None or plugin.rules_needed is None or not sequences:
            return ()
        stream = "train" if plugin.training_bank else stream
        needed = plugin.rules_needed(part.science, sequences.stop)
        before = plugin.rules_needed(part.science, sequences.start)
        first = before if (before, needed) == (sequences.start, sequences.stop) else 0  # one rule for each sequence
        size = self.block_rules if stream == "train" else needed
        blocks = range(first // size, -(-needed // size))
        return tuple(Input(role, "rules", self._block(trial, part, plugin, stream, range(b * size, (b + 1) * size)))
                     for b in blocks)

    def _block(self, trial: Trial, part: Part, plugin: Upstream, stream: str, rules: range) -> str:
        bank = self._once(("bank", id(part.science)), lambda: plugin.bank(part.science))  # type: ignore[misc]

        def make() -> str:
            owner = self.registries.upstreams.find(plugin.bank_owner)
            block = self._once(("block", stream, rules), lambda: section(
                BlockScience(stream=stream, first=rules.start, count=len(rules))))
            spec = StageSpec(
                kind="rules", revisions=self._revision("rules", **{f"upstream__{plugin.bank_owner}": owner}),
                sections={"bank": self._section(bank, f"bank:{plugin.bank_owner}"), "block": block,
                          "seed": self._seed(trial)},
            )
            return self._add(spec, f"rules {trial.complexity or part.upstream} {stream} "
                                   f"{rules.start}+{len(rules)} s{trial.seed}")

        return str(self._once(("rules", bank, stream, rules, trial.seed), make))


def data_key(trial: Trial) -> tuple[int, ...]:
    """Return what tells trials apart whose corpora differ."""
    core = trial.core
    return (*(id(core[s]) for s in ("text", "tokenizer", "corpus")), *map(id, core["domains"].values()))


def _role(role: str, part: str) -> str:
    """Return the role of an input that one part reads; a whole upstream has no name and the plain role."""
    return f"{role}.{part}" if part else role
