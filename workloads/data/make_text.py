"""Stage `text`: a domain's documents to train.jsonl and validation.jsonl, with sources.json saying what they are.

Costs 1-4 s per 6 MB on one core (most of it reading the sources), and twelve times the text in memory.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from sweeps.errors import EnvironmentError_, UsageError
from sweeps.language.plugins import Domain
from sweeps.language.science import IdentityScience, TextScience
from sweeps.store import files
from workloads.contract import Document, StageContext, Stopped
from workloads.data.near_duplicates import NearDuplicates
from workloads.data.paragraphs import Collection, Mask
from workloads.data.split import Split, split

TRAIN, VALIDATION, SOURCES = "train.jsonl", "validation.jsonl", "sources.json"
REPORT_SECONDS = 1.0
"""Time between progress rows."""
SKIPPED_LISTED = 100
"""Files that could not be read and are named in sources.json; the others are counted."""


def run(context: StageContext) -> Mapping[str, float]:
    """Read, deduplicate and split the domain's documents; return counts, bytes and overlap.

    Raises:
        EnvironmentError_: this machine has other versions of the sources than the plan says.
        UsageError: there is too little text.
        Stopped: the job was asked to leave.
    """
    domain = context.plugin("domain")
    assert isinstance(domain, Domain), domain
    science: TextScience = context.science["text"]
    check_identity(domain, context)
    documents: Iterable[Document] = domain.load()(context.science["domain"])
    near = NearDuplicates(science.near_duplicates.ratio) if science.near_duplicates else None
    collection = collect(near.fresh(documents) if near else documents, science.max_bytes, context)
    left_out = {"near_duplicates": near.found} if near else {}
    found = split(collection, science)
    sizes = {
        "train": write_texts(context.attempt.artifacts / TRAIN, collection, found.train_P),
        "validation": write_texts(context.attempt.artifacts / VALIDATION, collection, found.validation_P),
    }
    skipped = list(getattr(documents, "skipped", ()))
    files.create(context.attempt.artifacts / SOURCES, files.to_json({
        "schema_version": files.SCHEMA_VERSION, "domain": domain_key(context), "sources": sources(collection, found),
        "skipped": len(skipped), "skipped_files": skipped[:SKIPPED_LISTED], "overlap_before": found.overlap_before,
        "overlap": found.overlap, "dropped_paragraphs": found.dropped, **left_out,
        **{name: {"documents": count, "bytes": size} for name, (count, size) in sizes.items()},
    }))
    return {
        "documents": float(sizes["train"][0] + sizes["validation"][0]), "train_bytes": float(sizes["train"][1]),
        "validation_bytes": float(sizes["validation"][1]), "overlap_before": found.overlap_before,
        "overlap": found.overlap, "dropped_paragraphs": float(found.dropped), "skipped_files": float(len(skipped)),
        **{name: float(count) for name, count in left_out.items()},
    }


def check_identity(domain: Domain, context: StageContext) -> None:
    """Compare what is here with what the plan saw.

    Raises:
        EnvironmentError_: they differ; the message names the first difference.
    """
    identity: IdentityScience = context.science["identity"]
    here = dict(domain.identity(context.science["domain"])) if domain.identity else {}
    for source in sorted(here.keys() | identity.sources.keys()):
        planned, found = identity.sources.get(source), here.get(source)
        if planned != found:
            raise EnvironmentError_(
                f"the plan was made with {source} {planned or '(none)'}, here is {found or '(none)'}; use the same "
                "environment for the controller and the jobs, or plan again"
            )


def domain_key(context: StageContext) -> str:
    """Return the key of the domain, as the stage's spec names it; empty where no spec was written."""
    try:
        spec = files.read_json(context.attempt.stage.spec)
    except FileNotFoundError:
        return ""
    return str(spec["sections"]["domain"]["plugin"]).partition(":")[2]


def collect(documents: Iterable[Document], max_bytes: int, context: StageContext) -> Collection:
    """Read whole documents until the next would bring the text without exact copies above `max_bytes`.

    Raises:
        UsageError: not one document was read.
        Stopped: the job was asked to leave.
    """
    collection = Collection()
    total, reported, reason = 0, time.monotonic(), "nothing that it reads is installed here, or all of it is empty"
    for document in documents:
        size = collection.add(document, max_bytes - total)
        if size < 0:
            reason = f"its first document, {document.path}, is larger than text.max_bytes; raise that"
            break
        total += size
        if context.should_stop():
            raise Stopped
        if time.monotonic() - reported > REPORT_SECONDS:
            reported = time.monotonic()
            context.attempt.row(tokens=0, kind="progress", values={"done": float(total), "of": float(max_bytes)})
    if not total:
        raise UsageError(f"the domain gave no text: {reason}")
    return collection


def write_texts(path: Path, collection: Collection, kept_P: Mask) -> tuple[int, int]:
    """Write one JSON object {source, path, text} per line; return documents and bytes of text."""
    count = size = 0
    with path.open("w", encoding="utf-8") as out:
        for document, text in collection.texts(kept_P):
            out.write(files.to_json({"source": document.source, "path": document.path, "text": text}) + "\n")
            count, size = count + 1, size + len(text.encode())
    return count, size


def read_texts(path: Path) -> Iterator[str]:
    """Yield the texts of a file that `write_texts` wrote."""
    with path.open(encoding="utf-8") as lines:
        for line in lines:
            text: str = json.loads(line)["text"]
            yield text


def sources(collection: Collection, found: Split) -> dict[str, dict[str, Any]]:
    """Return per source the documents used, their bytes, and one SHA-256 over their paths and texts."""
    digests: dict[str, Any] = {}
    counts: dict[str, list[int]] = {}
    for document, text in collection.texts(found.train_P | found.validation_P):
        digest = digests.setdefault(document.source, hashlib.sha256())
        data = text.encode()
        digest.update(f"{document.path}\0{hashlib.sha256(data).hexdigest()}\n".encode(errors="surrogateescape"))
        count = counts.setdefault(document.source, [0, 0])
        count[0] += 1
        count[1] += len(data)
    return {
        name: {"documents": counts[name][0], "bytes": counts[name][1], "sha256": digests[name].hexdigest()}
        for name in sorted(digests)
    }
