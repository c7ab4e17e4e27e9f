"""Upstream `regular`: strings of a random probabilistic automaton, a new one for every sequence. Light: fields only.

In the manner of in-context language learning (arXiv 2401.12973); the sampling is this project's own, and this is all
of it. An automaton is drawn as follows, every choice independent:

1. n states, uniform between `states_low` and `states_high`. State 0 is the start; every state may end a string.
2. Each state has m edges, uniform between `edges_low` and `edges_high`, with m different symbols (a uniform choice
   without replacement, so the automaton is deterministic), and each edge leads to a uniform one of the n states.
3. Each edge has a whole weight, uniform between 1 and `max_weight`.

A string starts in state 0 and takes one edge, by weight. Then, after every symbol, it ends with probability `p_end`,
or else takes another edge. So no string is empty, and its mean length is 1 / p_end. A sequence is strings of its
automaton, each followed by the delimiter, cut to the length; every token but the first is a target.

Loss floor: with P the transition matrix, h the entropies of the states' edges in nats and H(p) that of a coin, a
string takes N = e_0 (I - (1 - p) P)^-1 edges in each state, of 1/p in all. A reader that knows the automaton loses
(p N h + H(p)) / (1 + p) nats per token; `_regular.entropy_rate` computes it for every automaton.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any

from pydantic import Field, model_validator

from sweeps.language.plugins import Science, Upstream


class RegularScience(Science):
    """Fields of random regular languages."""

    symbols: Annotated[int, Field(ge=2, le=4096)] = 18
    """Alphabet that all automata share; the vocabulary has the delimiter besides."""
    states_low: Annotated[int, Field(ge=1, le=64)] = 4
    """Fewest states of an automaton. Some may not be reachable from the start."""
    states_high: Annotated[int, Field(ge=1, le=64)] = 12
    """Most states."""
    edges_low: Annotated[int, Field(ge=1, le=16)] = 1
    """Fewest symbols that may follow a state."""
    edges_high: Annotated[int, Field(ge=1, le=16)] = 4
    """Most symbols."""
    max_weight: Annotated[int, Field(ge=1, le=65_536)] = 1
    """Largest weight of an edge; at 1 all edges of a state are equally likely."""
    p_end: Annotated[float, Field(ge=1e-6, le=1, allow_inf_nan=False)] = 0.05
    """Probability that a string ends after a symbol; the mean length is 1 / p_end."""

    @model_validator(mode="after")
    def _limits(self) -> RegularScience:
        for what in ("states", "edges"):
            low, high = getattr(self, f"{what}_low"), getattr(self, f"{what}_high")
            if low > high:
                raise ValueError(f"{what}_low {low} is above {what}_high {high}; write the smaller first, or one "
                                 "value twice")
        if self.edges_high > self.symbols:
            raise ValueError(f"edges_high {self.edges_high} is above symbols {self.symbols}; the edges of a state have "
                             "different symbols, so lower it or raise symbols")
        return self


def vocabulary(science: RegularScience) -> int:
    """Return the number of token ids: symbols and the delimiter."""
    return science.symbols + 1


def spell(science: Any, tokens: Sequence[int]) -> list[tuple[str, int]]:
    """Return each symbol at its own level, and the delimiter (`|`) at none."""
    return [("|", -1) if token == science.symbols else (str(token), token) for token in tokens]


PLUGIN = Upstream(
    science=RegularScience,
    revision=1,
    implementation="workloads.upstreams._regular:make_source",
    vocabulary=vocabulary,
    spell=spell,
)
