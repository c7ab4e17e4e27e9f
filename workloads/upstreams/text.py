"""Upstream `text`: the text of any domain, as the tokenizer writes it (protocol section 3). Light: fields only.

The natural-language upstream of arXiv 2603.10055 (there C4). It reads the domain's `corpus`, made with the tokenizer
that all domains of a sweep share, so its embeddings mean what they mean in pre-training and may be kept: the axis
`transfer.embeddings: [reinit, keep]` shows both. Every token but a sequence's first is a target; a sequence is
`model.sequence_length` consecutive tokens, and may hold ends of documents. Entropy rate: unknown.
"""

from __future__ import annotations

from sweeps.language.plugins import Science, Upstream


class TextUpstreamScience(Science):
    """Which text."""

    domain: str = "web"
    """The domain whose training text is read, in an order of its own: equal to no order of pre-training. Where the arm
    pre-trains on the same domain, these documents are seen again there. The gate reads the domain's held-out text."""


def describe(science: TextUpstreamScience) -> str:
    """Return the domain."""
    return science.domain


PLUGIN = Upstream(
    science=TextUpstreamScience,
    revision=1,
    implementation="workloads.upstreams._text:make_source",
    corpus="domain",
    describe=describe,
)
