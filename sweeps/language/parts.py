"""What a run trains on: one upstream with its fields, or the parts of a mixture. Problems are collected."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from sweeps.errors import nearest
from sweeps.language.mixture import MixtureScience, PartScience, token_ids
from sweeps.language.plugins import Registries, Upstream
from sweeps.language.resolve import Resolver


@dataclass(frozen=True, kw_only=True)
class Part:
    """An upstream with its fields."""

    upstream: str
    science: Any
    parts: Mapping[str, Part] = field(default_factory=dict)
    """Of a mixture: its parts by name; empty: it is whole."""

    @property
    def streams(self) -> Mapping[str, Part]:
        """What sequences are read from: the parts by name, or the whole without one."""
        return self.parts or {"": self}


def trained(resolver: Resolver, name: str, science: Any) -> Part | None:
    """Return what the run of an arm trains on; None where a problem was noted."""
    plugin = resolver.registries.upstreams[name]
    if plugin.norms_of is not None:
        name, science = plugin.norms_of(science)
        plugin = resolver.registries.upstreams[name]
    if not isinstance(science, MixtureScience):
        return Part(upstream=name, science=science) if _reads_known(resolver, plugin, science, name) else None
    made = {part: _part(resolver, name, part, given) for part, given in science.parts.items()}
    for part in science.unused():
        resolver.problem(f"fields.{name}.weights", None, f"the part {part} is never drawn; give it a weight above 0 "
                                                         "somewhere, or leave it out of parts")
    parts = {part: found for part, found in sorted(made.items()) if found is not None}
    return Part(upstream=name, science=science, parts=parts) if len(parts) == len(made) else None


def _part(resolver: Resolver, mixture: str, name: str, given: PartScience) -> Part | None:
    key, place = given.upstream, f"{mixture}.parts.{name}"
    usable = [k for k, u in resolver.registries.upstreams.items() if _may_be_a_part(u)]
    if key not in usable:
        reason = "cannot be a part: it has no sequences of its own" if key in resolver.registries.upstreams else \
            "unknown upstream"
        resolver.problem_at(f"{place}.upstream", repr(key), f"{reason}; {nearest(key, usable)}")
        return None
    plugin = resolver.registries.upstreams[key]
    science = resolver.plugin(key, plugin, given.fields, place=f"{place}.fields")
    if science is None or not _reads_known(resolver, plugin, science, f"{place}.fields"):
        return None
    return Part(upstream=key, science=science)


def _may_be_a_part(plugin: Upstream) -> bool:
    return plugin.trains and plugin.norms_of is None and not issubclass(plugin.science, MixtureScience)


def _reads_known(resolver: Resolver, plugin: Upstream, science: Any, place: str) -> bool:
    """Return whether the domain whose corpus an upstream reads exists; `place`: the key above its field."""
    domains, key = resolver.registries.domains, f"{place}.{plugin.corpus}"
    if not plugin.corpus or getattr(science, plugin.corpus) in domains:
        return True
    value = getattr(science, plugin.corpus)
    message = f"unknown domain; {nearest(value, domains)}"
    if key in resolver.sweep.axes:
        at = str(resolver.sweep.axes[key].index(value))
        resolver.problem(f"axes.{key}", value, message, path=("axes", key, at))
    else:
        resolver.problem_at(key, repr(value), message)
    return False


def domains_of(resolver: Resolver, part: Part) -> list[str]:
    """Return the domains whose corpora are read."""
    found = [(resolver.registries.upstreams[p.upstream].corpus, p.science) for p in part.streams.values()]
    return list(dict.fromkeys(str(getattr(science, name)) for name, science in found if name))


def vocabulary_of(registries: Registries, trained: Part, tokenizer: int) -> int:
    """Return the token ids of what a run trains on; `tokenizer`: those of text, of which there may turn out fewer."""
    sizes = {}
    for name, part in trained.streams.items():
        plugin = registries.upstreams.find(part.upstream)
        size = plugin.vocabulary(part.science) if plugin.vocabulary else 0
        sizes[name] = (plugin.inherits or part.upstream, tokenizer if plugin.corpus else size)
    return token_ids(sizes)[1]
