"""Task `copying`: does the model use its context to copy a string that it has just seen?"""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from sweeps.language.plugins import Science, Task


class CopyingScience(Science):
    """Random strings of distinct tokens, each followed by itself."""

    sequences: Annotated[int, Field(gt=0)] = 64
    """Strings."""
    length: Annotated[int, Field(gt=1)] = 64
    """Tokens of a string; at most half the model's sequence."""


PLUGIN = Task(
    science=CopyingScience, revision=1, implementation="workloads.tasks._copying:measure",
    units={
        "difference": "nats/token", "first_loss": "nats/token", "second_loss": "nats/token",
        "accuracy": "share", "chance": "share",
    },
)
