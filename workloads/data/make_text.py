"""Stage `text`: a domain's documents to train.jsonl and validation.jsonl, with sources.json saying what they are.

Streams: documents go through memory in batches of a megabyte, text and 13-grams lie in files without a name, five to
six times the text on the disk of the store; whether that fits is seen before it begins. What stays in memory is stated
in `workloads.data.split`, and 4 KB of each document where near duplicates are looked for. For what it costs see
benchmarks/text.py.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import time
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack, closing
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from sweeps.errors import UsageError
from sweeps.language.plugins import Domain
from sweeps.language.science import TextScience
from sweeps.store import files
from sweeps.store.space import see_room_for_stage, writing
from workloads.contract import Document, StageContext, Stopped
from workloads.data.copies import Copies
from workloads.data.identity import check_identity
from workloads.data.near_duplicates import NearDuplicates
from workloads.data.paragraphs import cut
from workloads.data.scratch import Scratch
from workloads.data.split import Shelf, Split, split

TRAIN, VALIDATION, SOURCES = "train.jsonl", "validation.jsonl", "sources.json"
REPORT_SECONDS = 1.0
"""Time between progress rows."""
ROOM = 7.5
"""Bytes on disk while it works for each byte of text: measured 5.1 (code, web) and 6.4 (math), and what it leaves."""
SKIPPED_LISTED = 100
"""Files that could not be read and are named in sources.json; the others are counted."""


def run(context: StageContext) -> Mapping[str, float]:
    """Read, deduplicate and split the domain's documents; return counts, bytes and overlap.

    Raises:
        EnvironmentError_: this machine has other versions of the sources than the plan says.
        UsageError: there is too little text.
        StorageError: there is too little space, said before anything is written.
        Stopped: the job was asked to leave.
    """
    domain = context.plugin("domain")
    assert isinstance(domain, Domain), domain
    science: TextScience = context.science["text"]
    check_identity(domain, context.science["domain"], context.science["identity"])
    documents: Iterable[Document] = domain.load()(context.science["domain"])
    see_space(context, domain, documents)
    near = NearDuplicates(science.near_duplicates.ratio) if science.near_duplicates else None
    scratch = Scratch(folder=context.attempt.folder.path, pause=lambda: leave_if_asked(context))
    with closing(Shelf(scratch)) as shelf:
        collect(shelf, near.fresh(documents) if near else documents, science.max_bytes, context)
        left_out = {"near_duplicates": near.found} if near else {}
        found = split(shelf, science)
        sizes, sources = write(context.attempt.artifacts, shelf, found)
    skipped = list(getattr(documents, "skipped", ()))
    files.create(context.attempt.artifacts / SOURCES, files.to_json({
        "schema_version": files.SCHEMA_VERSION, "domain": domain_key(context), "sources": sources,
        "skipped": len(skipped), "skipped_files": skipped[:SKIPPED_LISTED], "overlap_before": found.overlap_before,
        "overlap": found.overlap, "dropped_paragraphs": found.dropped, **left_out,
        **{name: asdict(size) for name, size in sizes.items()},
    }))
    train, validation = sizes["train"], sizes["validation"]
    return {
        "documents": float(train.documents + validation.documents), "train_bytes": float(train.bytes),
        "validation_bytes": float(validation.bytes), "overlap_before": found.overlap_before,
        "overlap": found.overlap, "dropped_paragraphs": float(found.dropped), "skipped_files": float(len(skipped)),
        **{name: float(count) for name, count in left_out.items()},
    }


def see_space(context: StageContext, domain: Domain, documents: Iterable[Document]) -> None:
    """See that what the stage will write fits on the disk, where it can be told how much text there is.

    Raises:
        StorageError: it does not.
    """
    size = domain.size(context.science["domain"]) if domain.size else None
    known = size.bytes if size else getattr(documents, "text_bytes", 0)
    see_room_for_stage(context.attempt.artifacts, int(ROOM * min(known, context.science["text"].max_bytes)),
                       f"text {domain_key(context)}")


def domain_key(context: StageContext) -> str:
    """Return the key of the domain, as the stage's spec names it; empty where no spec was written."""
    try:
        spec = files.read_json(context.attempt.stage.spec)
    except FileNotFoundError:
        return ""
    return str(spec["sections"]["domain"]["plugin"]).partition(":")[2]


def leave_if_asked(context: StageContext) -> None:
    """Raise `Stopped` where the job was asked to leave."""
    if context.should_stop():
        raise Stopped


def collect(shelf: Shelf, documents: Iterable[Document], max_bytes: int, context: StageContext) -> None:
    """Read whole documents until the next would bring the text without exact copies above `max_bytes`.

    Raises:
        UsageError: not one document was read.
        Stopped: the job was asked to leave.
    """
    copies = Copies()
    total, reported, reason = 0, time.monotonic(), "nothing that it reads is installed here, or all of it is empty"
    for document in documents:
        pieces = cut(document.text)
        fresh = copies.fresh(pieces)
        size = sum(len(piece.encode()) for piece in itertools.compress(pieces, fresh))
        if size > max_bytes - total:
            reason = f"its first document, {document.path}, is larger than text.max_bytes; raise that"
            break
        shelf.add(document, pieces, fresh)
        total += size
        leave_if_asked(context)
        if time.monotonic() - reported > REPORT_SECONDS:
            reported = time.monotonic()
            context.attempt.row(tokens=0, kind="progress", values={"done": float(total), "of": float(max_bytes)})
    if not total:
        raise UsageError(f"the domain gave no text: {reason}")


@dataclass
class Size:
    """How much text there is."""

    documents: int = 0
    bytes: int = 0

    def add(self, size: int) -> None:
        """Count one document of this many bytes."""
        self.documents += 1
        self.bytes += size


def write(folder: Path, shelf: Shelf, found: Split) -> tuple[dict[str, Size], dict[str, dict[str, Any]]]:
    """Write one JSON object {source, path, text} per line and document; return the sizes of the parts, and the sources.

    Of each source are stated the documents used, their bytes, and one SHA-256 over their paths and texts.
    """
    sizes = {"train": Size(), "validation": Size()}
    of_source: defaultdict[str, Size] = defaultdict(Size)
    digests: defaultdict[str, Any] = defaultdict(hashlib.sha256)
    with ExitStack() as stack:
        stack.enter_context(writing(folder))
        outs = {part: stack.enter_context((folder / name).open("w", encoding="utf-8"))
                for part, name in (("train", TRAIN), ("validation", VALIDATION))}
        for batch in shelf.documents.batches():
            for number, document, text in batch.texts(found.kept_P[batch.span]):
                source, path, data = document.source, document.path, text.encode()
                part = "validation" if found.held_out_D[number] else "train"
                outs[part].write(files.to_json({"source": source, "path": path, "text": text}) + "\n")
                digests[source].update(
                    f"{path}\0{hashlib.sha256(data).hexdigest()}\n".encode(errors="surrogateescape"))
                sizes[part].add(len(data))
                of_source[source].add(len(data))
    return sizes, {name: {**asdict(size), "sha256": digests[name].hexdigest()}
                   for name, size in sorted(of_source.items())}


def read_texts(path: Path) -> Iterator[str]:
    """Yield the texts of a file that `write_texts` wrote."""
    with path.open(encoding="utf-8") as lines:
        for line in lines:
            text: str = json.loads(line)["text"]
            yield text
