"""What a plug-in file states about itself. Light: a plug-in's computing code is named by a string.

The folder is the registry: `workloads/upstreams/nca/__init__.py` exports `PLUGIN = Upstream(...)` and its key in
YAML is `nca`. `implementation` is `module:attribute`, imported only inside the job that computes.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

from pydantic import BaseModel, ConfigDict

from sweeps.errors import UsageError, nearest
from sweeps.language.ladder import ANSWERED, LADDER
from sweeps.language.text_size import TextSize


class Science(BaseModel):
    """Base of all science fields: frozen, unknown keys refused, defaults recorded by a test.

    A stage's identity holds only the fields that differ from these defaults, so changing a default means raising the
    plug-in's revision. Its validator is built when the first instance is made: a job uses a few of a hundred models.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", strict=False, defer_build=True)


ASIDE: Mapping[str, Any] = {"aside": True}
"""`json_schema_extra` of a field that says where something lies or by whose leave, never what it is: it crosses to the
job, and does not enter a stage's identity."""

Overrides = Mapping[str, Mapping[str, Any]]
"""preset name -> {dotted field inside this plug-in's science: value}."""


@dataclass(frozen=True, kw_only=True)
class Plugin:
    """What every plug-in states."""

    science: type[Science]
    """Its science fields; the YAML writes them as `<key>.<field>`."""
    revision: int
    """Raised whenever the same fields would give other results."""
    implementation: str = ""
    """`module:attribute` of the code that computes, imported inside the job."""
    protocols: Overrides = field(default_factory=dict)
    """Values that a protocol preset (release, paper, fair) sets."""
    scales: Overrides = field(default_factory=dict)
    """Values that a scale preset sets."""

    def load(self) -> Any:
        """Import and return the implementation. Heavy: only inside a job."""
        return _import(self.implementation)


def _import(implementation: str) -> Any:
    module, _, attribute = implementation.partition(":")
    return getattr(importlib.import_module(module), attribute)


@dataclass(frozen=True, kw_only=True)
class Survey:
    """What an upstream's pilot measured of the random candidates that it chooses rules from."""

    band: str
    """What is accepted, for people: `30-45 % normalized`."""
    low: float
    """Limit of the band in percent of its scale, exclusive; `high` alike."""
    high: float
    unit: float
    """Raw score that is 100 percent of the scale."""
    ceiling: float
    """Mean score of noise, in percent of the scale: a band above it can hardly be met."""
    percents: tuple[float, ...]
    """Score of each candidate, in percent of the scale."""
    accepted: int
    """How many of them lie inside."""
    interval: tuple[float, float]
    """Of the acceptance, 95 %."""
    seconds_per_candidate: float
    """One core's, for making and scoring one; a guess from benchmarks/."""

    @property
    def acceptance(self) -> float:
        """Share of the candidates that is accepted."""
        return self.accepted / len(self.percents)


@dataclass(frozen=True, kw_only=True)
class Upstream(Plugin):
    """Something to pre-pre-train on. `implementation` has the signature of `workloads.contract.MakeSource`."""

    axes: Mapping[str, str] = field(default_factory=dict)
    """Grid axis -> the science field that it sets, for instance `{"complexity": "complexity.band"}`."""
    trains: bool = True
    """False for scratch: no pre-pre-training stage and no token budget."""
    body_tokens: Callable[[Any], int] | None = None
    """science -> tokens that the body which it brings was trained on elsewhere, charged in comparisons; it trains
    nothing here. Its `implementation`: (science, `ModelScience`) -> (fp32 weights by Hugging Face name, text of
    config.json), called by a stage `body`. None: it brings none."""
    misfits: Callable[[Any, Any], list[str]] | None = None
    """(science, `ModelScience`) -> why that body cannot be this model's, as far as it can be told here; light."""
    identity: Callable[[Any], Mapping[str, str | None]] | None = None
    """science -> {source: revision or SHA-256} of that body; enters the identity of the stage `body`."""
    fetch: str = ""
    """`module:attribute`, as a domain's: what brings that body here beforehand."""
    lengthens: bool = False
    """True: what does not train spends its token budget on the domain, as so much more pre-training."""
    control: bool = False
    """True for a control (`nca_shuffled`): a gain that it shares is not a gain from its relative's structure."""
    inherits: str = ""
    """Another upstream whose fields (`nca.*`) apply to this one too, before its own."""
    vocabulary: Callable[[Any], int] | None = None
    """science -> number of token ids; None: those of its parts (a mixture), or the tokenizer's (`corpus`)."""
    corpus: str = ""
    """Its field that names the domain whose corpus it reads (`domain` of `text`): the source is then given that corpus
    in the place of banks, its vocabulary is the tokenizer's, and its embeddings may be kept (`transfer.embeddings`)."""
    norms_of: Callable[[Any], tuple[str, Science]] | None = None
    """science -> upstream and fields of the run whose body only gives norms (`init_rescaled`): that run's stages are
    shared with the arm that transfers it, and pre-training begins from scratch rescaled. None: it transfers its own."""
    bank: Callable[[Any], Science] | None = None
    """science -> the fields that decide its rule bank (stage `rules`, computed by `bank_owner`); None: no bank."""
    bank_science: type[Science] | None = None
    """Model of what `bank` returns; stated by the upstream that owns the bank."""
    bank_owner: str = ""
    """Key of the upstream whose `bank_implementation` makes the bank (so that relatives share banks)."""
    bank_implementation: str = ""
    """`module:attribute`, signature of `workloads.contract.MakeBank`."""
    training_bank: bool = False
    """True: the held-out stream reads the training stream's rules too, for what must have the same rule or law."""
    rules_needed: Callable[[Any, int], int] | None = None
    """(science, sequences) -> how many rules of the bank the first `sequences` sequences read."""
    describe: Callable[[Any], str] | None = None
    """science -> a short note for tables, for instance the raw band behind a normalized one: `raw 30-40 %`."""
    pilot: Callable[[Any], list[str]] | None = None
    """science -> reasons why no data can be made with it (impossible band); NumPy and zlib only, under 2 s."""
    survey: Callable[[Any], Survey] | None = None
    """science -> what its pilot measured, for plans and pictures; stated by upstreams with a bank, as light."""
    frame_tokens: Callable[[Any], int] | None = None
    """science -> tokens of a frame, where sequences are frames of which the first is no target."""
    frames_implementation: str = ""
    """`module:attribute`, signature of `workloads.contract.Frames`: what `show upstream` draws; empty: no picture."""
    spell: Callable[[Any, Sequence[int]], list[tuple[str, int]]] | None = None
    """(science, tokens of a sequence from its start) -> each token's text and level (depth of a bracket, kind of a
    symbol; -1: none), by which `show upstream` colours it; None: plain numbers."""

    def load_fetch(self) -> Any:
        """Import and return what brings its body here. Heavy."""
        return _import(self.fetch)

    def load_bank(self) -> Any:
        """Import and return the bank's implementation. Heavy: only inside a job."""
        return _import(self.bank_implementation)

    def load_frames(self) -> Any:
        """Import and return what turns tokens into frames. Heavy."""
        return _import(self.frames_implementation)


@dataclass(frozen=True, kw_only=True)
class Domain(Plugin):
    """A kind of text to pre-train on. `implementation`: science -> iterator of `workloads.contract.Document`."""

    identity: Callable[[Any], Mapping[str, str | None]] | None = None
    """science -> {source: version or SHA-256, None where it is not installed}; enters the stage's identity."""
    fetch: str = ""
    """`module:attribute`: science -> `workloads.contract.Remote`, what is brought here beforehand (`orchestrator
    prefetch`); empty: all is here."""
    size: Callable[[Any], TextSize | None] | None = None
    """science -> how much text its source holds at most, for plans; light. None, or where it returns None: unknown."""

    def load_fetch(self) -> Any:
        """Import and return what brings its data here. Heavy."""
        return _import(self.fetch)


@dataclass(frozen=True, kw_only=True)
class Task(Plugin):
    """A measurement of a trained model. `implementation`: signature of `workloads.contract.Measure`."""

    units: Mapping[str, str] = field(default_factory=dict)
    """Score name -> unit, for instance `{"loss": "nats/token"}`; a name may be a prefix that ends in `.`."""


@dataclass(frozen=True, kw_only=True)
class ItemTask(Task):
    """A downstream task: items with known answers. `implementation`: signature of `workloads.contract.MakeItems`.

    Its scores are the rungs of `sweeps.language.ladder`, so it states no units of its own.
    """

    rungs: tuple[str, ...] = ANSWERED
    """The rungs that say something about it."""
    judge: str = ""
    """`module:attribute`: (what a model has written, the right answer) -> whether it is right. Empty: what it writes
    is a program, which the item's tests judge in a sandbox. For tasks with a field `generation`."""
    stops: tuple[str, ...] = ()
    """Texts before which what a model writes ends, where there is a judge; the end of a document always ends it."""
    count: Callable[[Any], int | None] = lambda science: None
    """science -> how many items it asks, None where that is not known before they are made; for estimates alone."""
    identity: Callable[[Any], Mapping[str, str | None]] | None = None
    """science -> {source: version or SHA-256, None where it is not here}; None: it reads no outside data."""
    fetch: str = ""
    """`module:attribute`, as a domain's."""
    elsewhere: Callable[[Any], bool] | None = None
    """science -> whether its data is what `fetch` brings."""
    training: Callable[[Any, Any], Any] | None = None
    """(science, `FinetuneScience`) -> the science of its training items, none of which it asks; raises ValueError, with
    what to do, where these fields leave none. None: it has no training items."""
    recipes: Overrides = field(default_factory=dict)
    """Values of `finetune.*` that a scale or protocol preset sets for this task; what a sweep file gives is above."""

    def __post_init__(self) -> None:
        """Refuse what is no rung.

        Raises:
            ValueError: a rung is unknown.
        """
        for rung in self.rungs:
            if rung not in LADDER:
                raise ValueError(f"{rung!r} is no rung; {nearest(rung, LADDER)}")

    def load_fetch(self) -> Any:
        """Import and return what brings its data here. Heavy."""
        return _import(self.fetch)

    def load_judge(self) -> Any:
        """Import and return its judge; None where it has none. Heavy: only inside a job."""
        return _import(self.judge) if self.judge else None


@dataclass(frozen=True, kw_only=True)
class StageKind(Plugin):
    """A kind of stage. `implementation`: `workloads.contract.RunStage`."""

    distributed: bool = False
    """True: `run.ranks` processes work on it together. Other kinds always run in one process, whatever `run` says."""


P = TypeVar("P", bound=Plugin)


class Registry(Mapping[str, P], Generic[P]):
    """key -> plug-in, each loaded when it is first asked for; a look-up error lists the known keys and the nearest."""

    def __init__(self, what: str, plugins: Mapping[str, P | Callable[[], P]]) -> None:
        """`what` names the kind in messages, for instance `upstream`; `plugins` has each, or what loads it."""
        self.what = what
        self._plugins = dict(plugins)

    def __getitem__(self, key: str) -> P:
        """Return the plug-in `key`."""
        found = self._plugins[key]
        if callable(found):
            self._plugins[key] = found = found()
        return found

    def __iter__(self) -> Iterator[str]:
        """Iterate over the keys; loads nothing."""
        return iter(self._plugins)

    def __len__(self) -> int:
        """Return how many there are."""
        return len(self._plugins)

    def __contains__(self, key: object) -> bool:
        """Tell whether there is such a key; loads nothing."""
        return key in self._plugins

    def find(self, key: str) -> P:
        """Return the plug-in `key`.

        Raises:
            UsageError: it is unknown; the message lists the known ones and the nearest.
        """
        if key not in self:
            raise UsageError(f"unknown {self.what} {key!r}; {nearest(key, self)}")
        return self[key]


@dataclass(frozen=True, kw_only=True)
class Registries:
    """All plug-ins that a sweep may name."""

    upstreams: Registry[Upstream]
    domains: Registry[Domain]
    tasks: Registry[Task]
    stages: Registry[StageKind]
