"""Task `upstream_gate`: was the upstream learned at all? Tells "not learned" from "does not transfer"."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from sweeps.language.plugins import Science, Task


class UpstreamGateScience(Science):
    """The rule is in `_upstream_gate`."""

    margin: Annotated[float, Field(ge=0)] = 0.05
    """Learned means: below the best guess by more than this, nats per token."""
    smoothing: Annotated[float, Field(gt=0)] = 1.0
    """Added to every token's count in the unigram law."""
    against: tuple[Literal["unigram", "copy", "ngram", "context"], ...] = ("unigram", "copy", "ngram")
    """Guesses that the model must beat; `uniform` always counts, and all are measured. `context` asks more than whether
    anything was learned: counting what followed what in the sequence so far is a part of the rule already."""
    order: Annotated[int, Field(ge=1, le=5)] = 3
    """Tokens of the longest n-gram, the guessed one included."""


PLUGIN = Task(
    science=UpstreamGateScience, revision=2, implementation="workloads.tasks._upstream_gate:measure",
    units={
        "loss": "nats/token", "uniform_loss": "nats/token", "unigram_loss": "nats/token", "copy_loss": "nats/token",
        "ngram_loss": "nats/token", "context_loss": "nats/token", "oracle_loss": "nats/token", "copy_weight": "share",
        "margin": "nats/token", "margin_se": "nats/token", "sequences": "sequences",
        "learned": "1 learned, 0.5 inconclusive, 0 not learned", "frame.": "nats/token", "position.": "nats/token",
    },
)
