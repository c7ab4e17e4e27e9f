"""What the stages that hold text cost, by its bytes, and whether a plan trains on it more than once.

The size is that of the source where it is known, at most `documents.max_bytes`; else that field alone. Rates, other
work beside: 60 MB of JSON lines split in 23 s (benchmarks/README.md); and on one core of an Intel Xeon, a load of 20, a
tokenizer of 16,384 ids from 6 MB in 3.0 s of processor time, and 14 MB of `web` encoded with it in 3.5 s.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

from cluster.profiles import SlurmProfile
from orchestrator.clusters import cluster
from sweeps.language.graph import Graph, Node
from sweeps.language.science import TextScience
from sweeps.language.spec import Run
from sweeps.language.units import tokens_text

START_S = 1.5
TEXT_RATE, TOKENIZER_RATE, CORPUS_RATE = 2.5e6, 2e6, 4e6
"""Bytes a second that are deduplicated and split; trained on or measured with; encoded."""
NEAR_S = 0.5e-3
"""To look for near duplicates of a document (workloads.data.near_duplicates)."""
ALONE = 0.35
"""Share of stage `text` that stays in one process: 3.8 of 10.5 s of processor time (benchmarks/README.md)."""
TEXT_MB, PARAGRAPH_BYTES, PARAGRAPH, DOCUMENT, SKETCH = 500, 100, 34, 82, 4_000
"""Memory of stage `text` (docs/concepts/data.md): of any text, MB; bytes of text in a paragraph, on the small side (108
to 247 measured); and bytes for each paragraph, for each document, and for each where near duplicates are looked for."""
CORE_MB = 250
"""The same for each core, where there are several: a process of 110 MB, and the hashes that a thread compares."""


def science_of(node: Node) -> TextScience:
    """Return the fields `documents.*` of a stage `text`."""
    return TextScience.model_validate(node.spec.sections["text"].values)


def seconds(node: Node, cores: int) -> float:
    """Return the estimated seconds of a stage `text`, `tokenizer` or `corpus`, on some cores; a tokenizer takes one."""
    assert node.text is not None
    rate = {"text": TEXT_RATE, "tokenizer": TOKENIZER_RATE, "corpus": CORPUS_RATE}[node.spec.kind]
    near = node.spec.kind == "text" and science_of(node).near_duplicates is not None
    on_one = node.text.bytes / rate + near * NEAR_S * node.text.about_documents
    alone = {"text": ALONE, "tokenizer": 1.0, "corpus": 0.0}[node.spec.kind]
    return START_S + on_one * (alone + (1 - alone) / cores)


def storage_bytes(node: Node) -> int:
    """Return the bytes that such a stage leaves: a token takes two, and stands for two or more (2.16 measured)."""
    assert node.text is not None
    if node.spec.kind == "tokenizer":
        return 1_000_000
    return int(science_of(node).read * node.text.bytes) if node.spec.kind == "text" else node.text.bytes


def memory_mb(node: Node, cores: int) -> float:
    """Return the host memory that a stage `text` needs with all its processes."""
    assert node.text is not None
    each = DOCUMENT + (SKETCH if science_of(node).near_duplicates else 0)
    found = PARAGRAPH * node.text.bytes / PARAGRAPH_BYTES + each * node.text.about_documents
    return TEXT_MB + (CORE_MB * cores if cores > 1 else 0) + found / 1e6


def too_long(graph: Graph, run: Run, cores: int) -> Iterator[str]:
    """Yield the stages `text` that take longer than a job may, and so several jobs."""
    options = cluster(run).options
    if not isinstance(options, SlurmProfile):
        return
    limit_s = 60 * options.time_limit_min - options.lead_s
    for node in graph.nodes.values():
        takes = seconds(node, cores) if node.spec.kind == "text" else 0.0
        if takes > limit_s:
            yield (f"{node.label}: about {takes / 3600:.1f} h with cpus_per_task = {cores}, where a job may take "
                   f"{options.time_limit_min} min (time_limit_min): {math.ceil(takes / limit_s)} jobs or more, each of "
                   "which goes on where the one before was; more cpus_per_task make it faster")


def epochs(graph: Graph) -> Iterator[str]:
    """Yield, once for each domain, that training reads its text more than once.

    That is certain where there are more tokens than bytes, since each stands for one at least; where the tokens of the
    source were counted, their number is compared too.
    """
    longest: dict[str, Node] = {}
    for node in graph.nodes.values():
        for read in node.spec.inputs if node.end_tokens else ():
            if read.kind == "corpus" and read.role in ("corpus", "bank"):  # `bank.NAME`: a mixture reads less
                [text] = (i.fingerprint for i in graph.nodes[read.fingerprint].spec.inputs if i.kind == "text")
                longest[text] = max(longest.get(text, node), node, key=lambda n: n.end_tokens)
    for text, node in longest.items():
        message = _more_than_one(graph.nodes[text], node)
        if message:
            yield message


def _more_than_one(text: Node, node: Node) -> str:
    size, science = text.text, science_of(text)
    assert size is not None
    trained = science.read * (1.0 - science.validation_share.ratio)
    least, counted = (node.end_tokens / max(trained * count, 1.0) for count in (size.bytes, size.tokens or math.inf))
    what = f"{text.label}: {node.spec.kind} of {tokens_text(node.end_tokens)} tokens"
    advice = "raise documents.max_bytes" if size.bytes == science.max_bytes else \
        "name a larger domain (openwebtext, open_web_math, codeparrot, c4, your own), or fewer tokens"
    apart = f"{1 - science.read:.0%} of it set apart, " if science.search_share else ""
    if least > 1:
        return (f"{what} reads it {math.floor(10 * least) / 10:,} times at least ({size.bytes / 1e6:,.0f} MB, {apart}"
                f"{science.validation_share} of it held out): {advice}")
    if counted > 1:
        return (f"{what} reads it about {counted:,.2f} times ({tokens_text(size.tokens or 0)} tokens {size.counted}, "
                f"{apart}{science.validation_share} of them held out): {advice}")
    return ""
