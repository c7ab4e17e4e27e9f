"""Upstream `mixture`: sequences of several upstreams by weights, which may change over the tokens (a curriculum).

Fields only; what a mixture is, is written in `sweeps.language.mixture`. Two bands of `nca` with the schedule
`{0: {easy: 1}, 0.5x: {hard: 1}}` are a curriculum of complexity: they have one alphabet, so the vocabulary stays that
of `nca`, and their banks are those of the plain arms. Tokens of a part: its sequences times their length, exactly.
Entropy rate: that of the parts, by their weights; which part a sequence is of is told by its first tokens.
"""

from __future__ import annotations

from sweeps.language.mixture import MixtureScience, PartScience
from sweeps.language.plugins import Upstream
from sweeps.language.units import tokens_text


class MixtureUpstreamScience(MixtureScience):
    """By default half `nca` and half `shuffle_dyck`."""

    parts: dict[str, PartScience] = {
        "nca": PartScience(upstream="nca"), "shuffle_dyck": PartScience(upstream="shuffle_dyck")}
    """Name -> part; see `MixtureScience`."""


def describe(science: MixtureScience) -> str:
    """Return the schedule: `easy 3 + hard 1`, or `easy; from 150k hard`."""
    laws = {start: " + ".join(f"{part} {weight}" if len(law) > 1 else part for part, weight in law.items())
            for start, law in science.weights.items()}
    return "; ".join(f"from {tokens_text(start)} {law}" if start else law for start, law in laws.items())


PLUGIN = Upstream(
    science=MixtureUpstreamScience,
    revision=1,
    implementation="workloads.upstreams._mixture:make_mixture",
    describe=describe,
)
