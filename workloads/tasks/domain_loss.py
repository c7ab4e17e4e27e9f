"""Task `domain_loss`: held-out loss on every domain's corpus, beside what chance and a unigram model get."""

from __future__ import annotations

from sweeps.language.plugins import Science, Task


class DomainLossScience(Science):
    """No fields: how many tokens are read is `evaluate.end_tokens`."""


PLUGIN = Task(
    science=DomainLossScience, revision=2, implementation="workloads.tasks._domain_loss:measure",
    units={".loss": "nats/token", ".bits_per_byte": "bits/byte", ".bits_per_byte.chance": "bits/byte",
           ".bits_per_byte.unigram": "bits/byte"},  # after the name of the domain
)
