"""Upstream `shuffle_dyck`: k bracket types, each balanced, freely interleaved (Hu et al. 2025). Light: fields only.

A bracket closes any type that is open, each as likely. As published, except at the end: no bracket is opened that
cannot be closed, where the published generator cuts. Entropy of T tokens in nats: at most that of the walk of depths
plus T/2 (log k + log min(k, max_depth)); see `_brackets.entropy`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

from pydantic import Field

from sweeps.language.plugins import Science, Upstream


class ShuffleDyckScience(Science):
    """Fields of k-shuffle Dyck, after Hu et al., "Between Circuits and Chomsky" (arXiv 2502.19249), appendix B."""

    k: Annotated[int, Field(ge=1, le=32_767)] = 64
    """Bracket types; the vocabulary is 2k: i opens, i + k closes. 64 in the paper."""
    p_open: Annotated[float, Field(ge=0, le=1)] = 0.5
    """Probability of opening where both are allowed. 0.5 in the paper."""
    max_depth: Annotated[int, Field(ge=1, le=1_000_000)] = 16
    """Open brackets at most, of all types together. 16 in the paper's listing, 8 in its released code."""


def vocabulary(science: ShuffleDyckScience) -> int:
    """Return the number of token ids."""
    return 2 * science.k


def spell(science: ShuffleDyckScience, tokens: Sequence[int]) -> list[tuple[str, int]]:
    """Return each token as its bracket and type, at the number of brackets of all types that are open around it."""
    found, depth = [], 0
    for token in tokens:
        opens = token < science.k
        depth += opens
        found.append((f"({token}" if opens else f"{token - science.k})", depth))
        depth -= not opens
    return found


PLUGIN = Upstream(
    science=ShuffleDyckScience,
    revision=1,
    implementation="workloads.upstreams._brackets:make_shuffle_dyck",
    vocabulary=vocabulary,
    spell=spell,
)
