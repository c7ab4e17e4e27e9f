"""Upstream `dyck`: k bracket types, properly nested (Hu et al. 2025). Light: fields only.

A bracket closes the one that was opened last, so that a model needs a stack; `shuffle_dyck` has the same depths and
needs counters only. The walk of depths is the published one (at depth 0 open, at `max_depth` close, else open with
probability `p_open`), except at the end: no bracket is opened that cannot be closed, where the published generator
cuts a longer word. For fair coins, entropy per token: (log k)/2 + (share of free positions) log 2, at most
log(2 sqrt k); exactly `_brackets.entropy`.
"""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from sweeps.language.plugins import Science, Upstream
from workloads.upstreams.shuffle_dyck import spell


class DyckScience(Science):
    """Fields of k-Dyck, after Hu et al., "Between Circuits and Chomsky" (arXiv 2502.19249), and their generator."""

    k: Annotated[int, Field(ge=1, le=32_767)] = 64
    """Bracket types; the vocabulary is 2k: i opens, i + k closes. 64 as in `shuffle_dyck`, so that the two differ in
    nesting alone; 30 where the published generator is called without arguments."""
    p_open: Annotated[float, Field(ge=0, le=1)] = 0.5
    """Probability of opening where both are allowed. 0.5 in the published generator."""
    max_depth: Annotated[int, Field(ge=1, le=1_000_000)] = 16
    """Open brackets at most. 16 in the published generator."""


def vocabulary(science: DyckScience) -> int:
    """Return the number of token ids."""
    return 2 * science.k


PLUGIN = Upstream(
    science=DyckScience,
    revision=1,
    implementation="workloads.upstreams._brackets:make_dyck",
    vocabulary=vocabulary,
    spell=spell,
)
