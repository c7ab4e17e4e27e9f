"""Task `upstream_gate`: was the upstream learned at all? Tells "not learned" from "does not transfer"."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from sweeps.language.plugins import Science, Task


class UpstreamGateScience(Science):
    """The rule was written before any result was looked at (see `_upstream_gate`)."""

    margin: Annotated[float, Field(ge=0)] = 0.05
    """Learned means: below the better baseline by more than this, nats per token."""
    smoothing: Annotated[float, Field(gt=0)] = 1.0
    """Added to every token's count in the unigram law."""


PLUGIN = Task(
    science=UpstreamGateScience, revision=1, implementation="workloads.tasks._upstream_gate:measure",
    units={
        "loss": "nats/token", "unigram_loss": "nats/token", "copy_loss": "nats/token", "copy_weight": "share",
        "margin": "nats/token", "learned": "0 or 1", "frame.": "nats/token",
    },
)
