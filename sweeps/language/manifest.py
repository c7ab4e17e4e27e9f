"""plan.json: what a sweep means, resolved. Written by the controller, read by reports, which never plan again."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any

from pydantic import BeforeValidator

from sweeps.language.asha import Bracket
from sweeps.language.stage import Frozen
from sweeps.store.files import SCHEMA_VERSION


@dataclass(frozen=True, slots=True)
class PathStep:
    """One stage on a trial's path. A plain dataclass: a large grid has hundreds of thousands."""

    role: str
    """`text`, `tokenizer`, `corpus`, `rules`, `body`, `prepretrain`, `gate`, `trunk` (a point of the PT trunk), `end`
    (an annealed PT end), `evaluate` (the final model), `twin` (the untrained twin of the same seed)."""
    kind: str
    fingerprint: str
    tokens: int = 0
    """Training tokens at its end, within its own run (PT or PPT); 0 where it does not train."""


def value_text(value: Any) -> str:
    """Return an axis value as names of arms have it: a list's parts joined by `+`, an empty one as `nothing`."""
    return ("+".join(map(str, value)) or "nothing") if isinstance(value, list | tuple) else str(value)


class PlanTrial(Frozen):
    """A cell of the grid and a seed."""

    id: str
    """Unique, readable, safe as a file name."""
    arm: str
    """What is compared: upstream with its complexity and budget (`nca 45-60`, `scratch`), the same in all domains."""
    cell: str
    """The trial without its seed: arm and domain."""
    upstream: str
    complexity: str = ""
    """Band as written (percent); empty where the upstream has none."""
    note: str = ""
    """The plug-in's own note, for instance the raw band."""
    token_budget: str = ""
    """Budget as written; empty for scratch."""
    upstream_tokens: int = 0
    """Realised upstream tokens (whole updates)."""
    requested_upstream_tokens: int = 0
    brought_flops: float = 0.0
    """Training FLOPs of a body that was trained elsewhere, by its declared tokens; charged as those of a stage are."""
    domain: str
    seed: int
    pretrain_tokens: int
    """PT tokens at the last end."""
    baseline: str = ""
    """Id of the scratch trial of the same domain and seed; its own id for the baseline."""
    fields: dict[str, Any] = {}
    """Values on further axes (for instance `transfer.embedding_init`)."""
    path: tuple[PathStep, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class PlanStage:
    """A stage and how many trials share it. A plain dataclass, for the same reason."""

    kind: str
    fingerprint: str
    label: str
    trials: int
    tokens: int = 0
    """Tokens that the stage itself trains on (from the state it continues)."""
    flops: float = 0.0
    """Its training FLOPs."""
    storage_bytes: int = 0
    choices: tuple[str, ...] = ()
    """The stages `select` whose values it was given: it depends on them, but they are no part of its identity."""


class Departure(Frozen):
    """A science field that is not what the protocol preset says."""

    field: str
    given: Any
    preset: Any
    source: str
    """`file`, `--set`, `scale tiny`, `not yet searched`, or `searched by NAME`."""

    @property
    def text(self) -> str:
        """What is given, for people; of what a search chose, the values alone: `0.008 (15 of the cells), 0.016 (6)`."""
        if not isinstance(self.given, Mapping):
            return str(self.given)
        cells = Counter(map(str, self.given.values())).most_common()
        return ", ".join(f"{value} ({count}{'' if k else ' of the cells'})" for k, (value, count) in enumerate(cells))


class PlanSearch(Frozen):
    """What a search decides (docs/concepts/search.md)."""

    eta: int
    """Of the candidates at a rung, one in `eta` goes on."""
    search_share: str | None = None
    """The share of the text that it reads and its comparisons do not; None: they share what they train on."""
    brackets: tuple[Bracket, ...]
    """One for each cell."""


class PlanChoice(Frozen):
    """What a comparison takes from a search, for one of its cells."""

    cell: str
    values: dict[str, float]
    """Searched field -> chosen value."""
    boundary: tuple[str, ...] = ()
    """Fields whose chosen value lies on the edge of their grid."""
    sweep: str
    """The search."""
    select: str
    """Fingerprint of the stage that holds the choice."""
    search_share: str | None = None
    """As the search states it."""
    seeds: tuple[int, ...] = ()
    """Of the search; empty in plans of an earlier release, which did not state them."""
    runner_up: dict[str, float] = {}
    """The next candidate at the last rung that had several, as `values`; empty where there is none."""
    lead: tuple[float, ...] = ()
    """Its held-out loss there minus that of the choice, seed by seed of the search, nats per token."""


class PlanLog(Frozen):
    """Losses that were measured elsewhere."""

    file: str
    """Where they lay when the sweep was planned, absolute."""
    sha256: str
    """Of the file then."""
    domain: str
    upstream_tokens: int = 0
    """Declared."""


def _of_older(controls: Any) -> Any:
    return controls if isinstance(controls, dict) else dict.fromkeys(controls, "")  # of plans that named them only


class PlanFile(Frozen):
    """plan.json."""

    schema_version: int = SCHEMA_VERSION
    name: str
    question: str
    protocol: str
    scale: str
    overrides: tuple[str, ...] = ()
    departures: tuple[Departure, ...] = ()
    claims: dict[str, dict[str, Any]] = {}
    """Declared before the run: name -> {domain, arm, over, gain_nats}."""
    logs: dict[str, PlanLog] = {}
    """Name -> losses from elsewhere, read when a report is made."""
    gate: str = "report"
    """`require`: no pre-training after an upstream that was not learned, controls apart."""
    controls: Annotated[dict[str, str], BeforeValidator(_of_older)] = {}
    """Upstreams that are controls -> the upstream whose fields they keep (`nca_shuffled`: `nca`), empty: of all. A
    gain that they share is not a gain from structure."""
    search: PlanSearch | None = None
    """Where the sweep is a search."""
    searched: tuple[PlanChoice, ...] = ()
    """Where it takes its learning rates from one."""
    body_parameters: int = 0
    trials: tuple[PlanTrial, ...]
    stages: tuple[PlanStage, ...]
    versions: dict[str, str] = {}
    """Package -> version, and `commit`."""
