"""A stage's identity and what crosses to the job that runs it."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any, Final, Literal

from pydantic import BaseModel, ConfigDict

from sweeps.language.plugins import ASIDE, Science
from sweeps.language.science import SECTIONS
from sweeps.store.files import SCHEMA_VERSION, to_json
from sweeps.store.layout import FINGERPRINT_CHARS


class Frozen(BaseModel):
    """Base of what crosses a boundary: frozen, unknown keys refused."""

    model_config = ConfigDict(frozen=True, extra="forbid", defer_build=True)


class Written(Frozen):
    """Base of what a person writes: the docstrings of its fields describe them in the schema of sweep files."""

    model_config = ConfigDict(use_attribute_docstrings=True)


class Section(Frozen):
    """Resolved science fields of one section."""

    plugin: str = ""
    """Key of the plug-in that owns the fields, with its family: `upstream:nca`; empty: a section of this project."""
    values: dict[str, Any]
    """Every field, resolved."""
    changed: dict[str, Any]
    """The fields that differ from their defaults; only these enter the identity."""

    @cached_property
    def identity(self) -> str:
        """The section's part of a fingerprint's text; empty where it adds nothing."""
        return ":" + to_json([self.plugin, self.changed]) if self.plugin or self.changed else ""


@dataclass(frozen=True, slots=True)
class Input:
    """A finished stage that this one reads. A plain dataclass: a large grid has hundreds of thousands."""

    role: str
    """What it is to the reader: `tokenizer`, `corpus:web`, `bank`, `body`, `trunk`, `model`."""
    kind: str
    fingerprint: str


@dataclass(frozen=True, kw_only=True)
class StageSpec:
    """A unit of work with one result. Pure data; its fingerprint is its identity. A plain dataclass, as `Input` is."""

    __pydantic_config__ = ConfigDict(extra="forbid")
    kind: str
    revisions: dict[str, int]
    """Revision of the stage kind and of each plug-in: `stage:pretrain`, `upstream:nca`."""
    sections: dict[str, Section]
    inputs: tuple[Input, ...] = ()

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 over kind, revisions, changed science fields and the inputs' fingerprints."""
        lines = [self.kind]
        lines += [f"{k}={revision}" for k, revision in sorted(self.revisions.items())]
        sections = self.sections
        lines += [k + text for k in sorted(sections) if (text := sections[k].identity)]
        lines += [f"{i.role}<{i.kind}/{i.fingerprint}" for i in self.inputs]
        return hashlib.sha256("\n".join(lines).encode()).hexdigest()[:FINGERPRINT_CHARS]

    def to_text(self) -> str:
        """Return the text of spec.json."""
        return to_json({
            "schema_version": SCHEMA_VERSION, "fingerprint": self.fingerprint, "kind": self.kind,
            "revisions": self.revisions, "sections": {k: s.model_dump() for k, s in self.sections.items()},
            "inputs": [asdict(i) for i in self.inputs],
        })

    def science(self, find: Callable[[str], type[Science]]) -> dict[str, Any]:
        """Return section -> validated model; `find` maps `family:key` of a plug-in to its science model."""
        return {
            name: (find(s.plugin) if s.plugin else SECTIONS[name]).model_validate(s.values)
            for name, s in self.sections.items()
        }


def section(model: Science, plugin: str = "") -> Section:
    """Return the section of a science model: every field, and those that differ from the defaults."""
    values = model.model_dump(mode="json")
    aside = {name for name, info in type(model).model_fields.items() if info.json_schema_extra == ASIDE}
    changed = _changed(values, _defaults(type(model)))
    return Section(plugin=plugin, values=values, changed={k: v for k, v in changed.items() if k not in aside})


def _defaults(model: type[BaseModel]) -> dict[str, Any]:
    """Defaults as JSON; a field without a default is left out, so it always counts as changed."""
    partial = {}
    for name, info in model.model_fields.items():
        if not info.is_required():
            partial[name] = info.get_default(call_default_factory=True, validated_data={})
    return dict(model.model_construct(**partial).model_dump(mode="json", include=set(partial)))


def _changed(values: Mapping[str, Any], defaults: Mapping[str, Any]) -> dict[str, Any]:
    changed: dict[str, Any] = {}
    for name, value in values.items():
        default = defaults.get(name, _changed)
        if isinstance(value, dict) and isinstance(default, dict):
            inner = _changed(value, default)
            if inner:
                changed[name] = inner
        elif value != default:
            changed[name] = value
    return changed


AUTO: Final = "auto"
"""`run.micro_batch: auto`: found by a search when a run begins."""
SEARCHED_ON_CPU = 8
"""Sequences beyond which a search on a CPU does not go: there nothing says in time that memory is short."""
Offload = Literal["none", "optimizer", "optimizer+parameters"]
"""What ZeRO keeps in the host's memory."""


class Execution(Frozen):
    """How a stage runs; never part of its identity, recorded with every attempt."""

    checkpoint_seconds: float = 120.0
    """Longest time between checkpoints, unless `checkpoint_share` stretches it."""
    checkpoint_share: float = 0.05
    """Largest share of the wall time that training may stand still for checkpoints, by what the last one took."""
    checkpoint_async: bool = True
    """True: training goes on while a checkpoint is written, from a copy in host memory."""
    keep_checkpoints: int = 2
    """The newest so many checkpoints of a stage stay."""
    keep_at_tokens: tuple[int, ...] = ()
    """Tokens of a run at which a checkpoint is made and stays."""
    ranks: int = 1
    """Processes of one stage."""
    zero_stage: int = 0
    """DeepSpeed ZeRO stage."""
    micro_batch: int | Literal["auto"] | None = None
    """Sequences per forward pass and rank; None: the whole share of the batch; `auto`: the first job of a run searches,
    and those that continue it do as it does."""
    activation_checkpointing: bool = False
    """True: layers are computed again in the backward pass."""
    offload: Offload = "none"
    hang_floor_seconds: float = 600.0
    """Shortest silence of a stage that is taken for a hang (workloads.watchdog)."""
    on_spike: Literal["report", "stop"] = "report"
    """What a loss that jumps does (workloads.training.incidents)."""
    unsafe_exec: bool = False
    """A person has typed `--unsafe-exec`: where no sandbox holds, programs that models write run without one."""

    def sequences(self, share: int) -> int:
        """Return the sequences of a forward pass of a rank with this share; before a search the most on a CPU."""
        if self.micro_batch is None:
            return share
        return min(self.micro_batch if isinstance(self.micro_batch, int) else SEARCHED_ON_CPU, share)


class TicketStage(Frozen):
    """One stage of a ticket."""

    spec: StageSpec
    claim: int
    """Number of the claim under which it was submitted; a higher one in the store means: leave."""
    continues: tuple[Input, ...] = ()
    """Stages whose checkpoints are earlier states of this very run; the furthest one is continued."""


class Ticket(Frozen):
    """The file a job runs: stages one after another."""

    schema_version: int = SCHEMA_VERSION
    root: str
    """The store."""
    sweep: str
    submission: str
    """Unique name of the batch."""
    plugins: tuple[str, ...] = ()
    """Folders and files of the user's own plug-ins."""
    execution: Execution
    stages: tuple[TicketStage, ...]
