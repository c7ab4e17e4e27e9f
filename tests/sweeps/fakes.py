"""A small set of plug-ins, so that the language is tested without importing any real one."""

from __future__ import annotations

from typing import Any

from sweeps.language.plugins import Domain, Registries, Registry, Science, StageKind, Task, Upstream


class Complexity(Science):
    """Nested fields, as NCA has them."""

    band: str = "60-75"
    scale: str = "normalized"


class Rules(Science):
    """Upstream with a bank."""

    n: int = 4
    complexity: Complexity = Complexity()


class Bank(Science):
    """What decides the rules."""

    band: str


class Empty(Science):
    """No fields."""


def registries(**extra: Any) -> Registries:
    """Return fake registries; `extra` adds domains."""
    rules: dict[str, Any] = {
        "science": Rules, "revision": 1, "vocabulary": lambda s: s.n**4 + 2,
        "bank": lambda s: Bank(band=s.complexity.band), "bank_owner": "nca", "rules_needed": lambda s, count: count,
    }
    return Registries(
        upstreams=Registry("upstream", {
            "none": Upstream(science=Empty, revision=1, trains=False),
            "nca": Upstream(**rules, axes={"complexity": "complexity.band"}),
            "nca_shuffled": Upstream(**rules, inherits="nca"),
            "shuffle_dyck": Upstream(science=Empty, revision=1, vocabulary=lambda s: 128),
        }),
        domains=Registry("domain", {
            **{name: Domain(science=Empty, revision=1, identity=lambda s: {"python": "3.11"})
               for name in ("web", "math", "code")}, **extra,
        }),
        tasks=Registry("task", {name: Task(science=Empty, revision=1)
                                for name in ("domain_loss", "copying", "upstream_gate")}),
        stages=Registry("stage", {name: StageKind(science=Empty, revision=1) for name in (
            "text", "tokenizer", "corpus", "rules", "prepretrain", "pretrain", "evaluate")}),
    )
