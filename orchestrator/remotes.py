"""Data that a sweep reads and that lies elsewhere: which, whether it is here yet, and where its jobs find it.

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
from sweeps.language.plugins import Domain
from sweeps.store.layout import Layout

if TYPE_CHECKING:  # NumPy, which planning does without
    from workloads.contract import Remote

CACHE, HOME, OFFLINE = "HF_HUB_CACHE", "HF_HOME", "HF_HUB_OFFLINE"


@dataclass(frozen=True, kw_only=True)
class Source:
    """A domain whose data lies elsewhere, and whose text is not in the store yet."""

    key: str
    """Of the domain."""
    domain: Domain
    science: Any

    @cached_property
    def remote(self) -> Remote:
        """What brings its data here. Heavy."""
        found: Remote = self.domain.load_fetch()(self.science)
        return found

    def read_one(self) -> None:
        """Read the first document, which tells whether the columns are there.

        Raises:
            EnvironmentError_: they are not, or a file is damaged.
        """
        next(iter(self.domain.load()(self.science)), None)


def sources(planned: Planned) -> list[Source]:
    """Return the sources of the stages `text` that are still to run, each once."""
    texts = [n for n in planned.graph.nodes.values() if n.spec.kind == "text"]
    done = complete(planned.layout, texts)
    found = {}
    for node in texts:
        section = node.spec.sections["domain"]
        key = section.plugin.partition(":")[2]
        domain = planned.registries.domains[key]
        if domain.fetch and node.spec.fingerprint not in done:
            found[section.identity] = Source(key=key, domain=domain,
                                             science=domain.science.model_validate(section.values))
    return list(found.values())


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
