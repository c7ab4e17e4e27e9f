"""Data and bodies that a sweep reads and that lie elsewhere: which, whether it is here yet, and where its jobs find it.

The cache is `$HF_HUB_CACHE`, else `$HF_HOME/hub`, else `<root>/huggingface/hub`: shared as the store is.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from orchestrator.plan import Planned, complete
from sweeps.errors import UsageError
from sweeps.language.plugins import Domain, ItemTask, Upstream
from sweeps.language.science import ModelScience
from sweeps.store.layout import Layout
from workloads.data.rows import RowsScience

if TYPE_CHECKING:  # NumPy, which planning does without
    from workloads.contract import Remote

READERS = {"text": "domain", "body": "upstream", "items": "task."}
"""Kinds of stages that read outside data -> how the name of the section begins that says which."""
CACHE, HOME, OFFLINE = "HF_HUB_CACHE", "HF_HOME", "HF_HUB_OFFLINE"


@dataclass(frozen=True, kw_only=True)
class Asked:
    """The items of a published task, in the words that pin them: `TASK.count` and `TASK.sha256`."""

    task: str
    items: int
    sha256: str


@dataclass(frozen=True, kw_only=True)
class Source:
    """A domain, an upstream or a downstream task whose data lies elsewhere, and is not in the store yet."""

    key: str
    """Of the plug-in."""
    plugin: Domain | Upstream | ItemTask
    science: Any
    model: ModelScience | None = None
    """Whose body an upstream brings."""

    @property
    def named(self) -> str:
        """What the sweep says that it is, `someone/data@35a59fb025bc`: nobody has been asked whether that exists."""
        identity = self.plugin.identity(self.science) if self.plugin.identity else {}
        return ", ".join(f"{name}@{version[:12]}" if version else name for name, version in identity.items())

    @property
    def elsewhere(self) -> bool:
        """Whether its data is brought here."""
        return bool(self.plugin.fetch) and (not isinstance(self.plugin, ItemTask) or self.plugin.elsewhere is None
                                            or self.plugin.elsewhere(self.science))

    @cached_property
    def remote(self) -> Remote:
        """What brings its data here. Heavy."""
        found: Remote = self.plugin.load_fetch()(self.science)
        return found

    def read_one(self) -> Asked | None:
        """Read a first row of every file, or all items, which tells whether the columns are there; see whether a body
        fits. Return what a task asks, None of a domain or an upstream.

        Raises:
            EnvironmentError_: they are not, or a file is damaged.
            UsageError: the body does not fit, or the items are not the task's.
        """
        if isinstance(self.plugin, ItemTask):
            from workloads.downstream.items import digest

            items = list(self.plugin.load()(self.science))
            return Asked(task=self.key, items=len(items), sha256=digest(items))
        if isinstance(self.plugin, Domain):
            found = self.plugin.load()(self.science)
            if hasattr(found, "read_one"):  # rows of files
                found.read_one()
            else:
                next(iter(found), None)
            return None
        wrong = self.plugin.misfits(self.science, self.model) if self.plugin.misfits else []
        if wrong:
            raise UsageError(f"{self.key} cannot be the body: {'; '.join(wrong)}")
        return None


def sources(planned: Planned) -> list[Source]:
    """Return the sources elsewhere of the stages `text`, `body` and `items` that are still to run, each once."""
    return [s for s in _read(planned) if s.elsewhere]


def local_files(planned: Planned) -> list[Source]:
    """Return the domains and tasks that read files which lie here, of stages that are still to run, each once."""
    return [s for s in _read(planned) if (s.plugin.fetch and not s.elsewhere if isinstance(s.plugin, ItemTask)
                                          else not s.plugin.fetch and isinstance(s.science, RowsScience))]


def _read(planned: Planned) -> list[Source]:
    readers = [n for n in planned.graph.nodes.values() if n.spec.kind in READERS]
    done = complete(planned.layout, readers)
    found = {}
    for node in readers:
        section = next(s for name, s in node.spec.sections.items() if name.startswith(READERS[node.spec.kind]))
        plugin = _plugin(planned, section.plugin)
        if plugin is None or node.spec.fingerprint in done:
            continue
        model = node.spec.sections.get("model")
        found[section.identity] = Source(
            key=section.plugin.partition(":")[2], plugin=plugin, science=plugin.science.model_validate(section.values),
            model=ModelScience.model_validate(model.values) if model else None)
    return list(found.values())


def _plugin(planned: Planned, name: str) -> Domain | Upstream | ItemTask | None:
    """Return the plug-in that reads outside data; None: a task without items."""
    family, _, key = name.partition(":")
    registries = planned.registries
    known: dict[str, Mapping[str, Any]] = {"domain": registries.domains, "upstream": registries.upstreams,
                                           "task": registries.tasks}
    plugin = known[family][key]
    return plugin if isinstance(plugin, Domain | Upstream | ItemTask) else None


def cache(layout: Layout, environment: Mapping[str, str]) -> Path:
    """Return the folder of the Hub's cache."""
    if environment.get(CACHE):
        return Path(environment[CACHE]).expanduser().resolve()
    home = environment.get(HOME)
    return (Path(home).expanduser().resolve() if home else layout.root / "huggingface") / "hub"


def job_environment(planned: Planned) -> dict[str, str]:
    """Return what the jobs' environment needs so that they find the data; without a network, once all of it is here."""
    needed = sources(planned)
    if not needed:
        return {}
    os.environ[CACHE] = str(cache(planned.layout, os.environ))
    here = all(source.remote.complete for source in needed)
    return {CACHE: os.environ[CACHE], **({OFFLINE: "1"} if here else {})}
