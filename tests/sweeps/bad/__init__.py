"""Sweep files that must be refused, as tables: what is changed in a good file, and what a person is told."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

GOOD = """\
schema_version: 1
name: base
question: What?
scale: tiny
protocol: fair
baseline: {upstream: none}
axes:
  upstream: [none, nca]
  complexity: [30-45, 60-75]
  token_budget: [1x]
  domain: [web, code]
  seed: [0, 1]
fields:
  pretrain.lr: 5e-4
claims:
  helps: {domain: web, arm: best_band, gain_nats: "> 0"}
run: {cluster: local}
"""
"""A sweep file without a fault."""


@dataclass(frozen=True)
class Want:
    """One problem that must be reported."""

    key: str
    """Dotted key."""
    given: str = ""
    """The value as it is repeated; empty: none is."""
    says: Sequence[str] = ()
    """Parts of the message: what is allowed, what is nearest."""
    line: int | None = 0
    """Lines after the first changed one; None: no line (the file cannot be read, or the key is missing)."""
    where: str = ""
    """The place where it is not the sweep file: a flag."""


@dataclass(frozen=True)
class Bad:
    """A file with a fault."""

    name: str
    old: str
    """A part of `GOOD`; empty: the whole file."""
    new: str
    wants: Sequence[Want]
    flags: Sequence[str] = field(default=())
    """Further arguments of the command."""

    @property
    def text(self) -> str:
        """The file."""
        assert self.old in GOOD, self.name
        return GOOD.replace(self.old, self.new, 1) if self.old else self.new

    @property
    def first_line(self) -> int:
        """The line of the change, from 1."""
        return GOOD[:GOOD.index(self.old)].count("\n") + 1 if self.old else 1


def one(name: str, old: str, new: str, key: str, given: str, *says: str, line: int | None = 0) -> Bad:
    """Return a file with one fault."""
    return Bad(name, old, new, [Want(key, given, says, line)])
