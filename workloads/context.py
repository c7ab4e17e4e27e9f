"""What a running stage sees (`workloads.contract.StageContext`), resolved from its ticket and the registries."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from sweeps.errors import UsageError
from sweeps.language.plugins import Plugin, Registries, Registry, Science, Upstream
from sweeps.language.stage import Execution, Input, StageSpec, Ticket, TicketStage
from sweeps.store.layout import Layout, StageFolder
from sweeps.store.records import Attempt, artifacts_of
from workloads.watchdog import Pulse


class Context:
    """One stage of a ticket while it runs."""

    def __init__(
        self, stage: TicketStage, *, ticket: Ticket, registries: Registries, attempt: Attempt, pulse: Pulse,
        should_stop: Callable[[], bool],
    ) -> None:
        """Validate the stage's science against the installed plug-ins.

        Raises:
            UsageError: a plug-in is unknown, or its revision is not the planned one.
        """
        _check_revisions(stage.spec, registries)
        self._stage = stage
        self._registries = registries
        self._layout = Layout(Path(ticket.root))
        self._execution = ticket.execution
        self._attempt = attempt
        self._should_stop = should_stop
        self._pulse = pulse
        self._science = stage.spec.science(lambda plugin: science_model(registries, plugin))

    @property
    def kind(self) -> str:
        """Stage kind."""
        return self._stage.spec.kind

    @property
    def fingerprint(self) -> str:
        """The stage's identity."""
        return self._stage.spec.fingerprint

    @property
    def science(self) -> Mapping[str, Any]:
        """Section name -> validated science model."""
        return self._science

    @property
    def execution(self) -> Execution:
        """Layout and checkpoint interval."""
        return self._execution

    @property
    def attempt(self) -> Attempt:
        """Rows, checkpoints, artifacts."""
        return self._attempt

    def plugin(self, section: str) -> Plugin:
        """The plug-in descriptor that owns a section."""
        return descriptor(self._registries, self._stage.spec.sections[section].plugin)

    def inputs(self, role: str) -> list[Path]:
        """Artifact folders of the input stages with this role, in order."""
        return [artifacts_of(folder) for folder in self.stages(role)]

    def stages(self, role: str) -> list[StageFolder]:
        """Folders of the input stages with this role, in order."""
        return [self._folder(i) for i in self._stage.spec.inputs if i.role == role]

    def continues(self) -> list[StageFolder]:
        """Stages whose checkpoints are earlier states of this run."""
        return [self._folder(i) for i in self._stage.continues]

    @property
    def pulse(self) -> Pulse:
        """Signs of life."""
        return self._pulse

    def should_stop(self) -> bool:
        """True once the job was asked to leave; asking is a sign of life."""
        self._pulse.beat()
        return self._should_stop()

    def _folder(self, stage: Input) -> StageFolder:
        return self._layout.stage(stage.kind, stage.fingerprint)


def descriptor(registries: Registries, name: str) -> Plugin:
    """Return the plug-in `family:key`; `bank:nca` is the upstream that owns the bank.

    Raises:
        UsageError: the family or the key is unknown.
    """
    family, _, key = name.partition(":")
    families: dict[str, Registry[Any]] = {
        "upstream": registries.upstreams, "bank": registries.upstreams, "domain": registries.domains,
        "task": registries.tasks, "stage": registries.stages,
    }
    found: Plugin = Registry("plug-in family", families).find(family).find(key)  # type: ignore[arg-type]
    return found


def science_model(registries: Registries, name: str) -> type[Science]:
    """Return the science model of the section that plug-in `family:key` owns.

    Raises:
        UsageError: it is unknown, or an upstream without a bank.
    """
    found = descriptor(registries, name)
    if not name.startswith("bank:"):
        return found.science
    if not isinstance(found, Upstream) or found.bank_science is None:
        raise UsageError(f"{name}: the upstream states no bank_science")
    return found.bank_science


def _check_revisions(spec: StageSpec, registries: Registries) -> None:
    for name, planned in spec.revisions.items():
        installed = descriptor(registries, name).revision
        if installed != planned:
            raise UsageError(f"{name} was planned at revision {planned}, this code has {installed}; plan again")
