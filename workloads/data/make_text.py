"""Stage `text`: a domain's documents to train.jsonl and validation.jsonl, with sources.json saying what they are.

Streams: documents go through memory in chunks of half a megabyte, text and 13-grams lie in the attempt's work folder,
ROOM times the text on the disk of the store; whether that fits is seen before it begins. What stays in memory is stated
in `workloads.data.split`, and 4 KB of each document where near duplicates are looked for. The pure work is done by as
many processes and threads as the job has cores; order and content of everything are the same for any number of them.
A stopped or killed stage goes on from its last note (workloads.data.notes). For what it costs see benchmarks/text.py.
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
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from sweeps.errors import UsageError
from sweeps.language.plugins import Domain
from sweeps.language.science import TextScience
from sweeps.store import files
from sweeps.store.space import see_room_for_stage, writing
from workloads.contract import Document, StageContext
from workloads.data.chunks import Prepared, chunks, prepare, written
from workloads.data.identity import check_identity
from workloads.data.near_duplicates import NearDuplicates
from workloads.data.notes import COMPLETE, FOUND, Collected, Notes
from workloads.data.scratch import POSITION, Scratch
from workloads.data.split import Shelf, Split, any_of, split
from workloads.data.workers import Workers
from workloads.ranks import cores

BYTES = "bytes"
"""In `Scratch.counts`: bytes of text without exact copies."""
TRAIN, VALIDATION, SOURCES = "train.jsonl", "validation.jsonl", "sources.json"
REPORT_SECONDS = 1.0
"""Time between progress rows."""
ROOM = 6.5
"""Bytes on disk while it works for each byte of text: measured 3.7 (code) to 4.8 (random words), what it leaves, and
13-grams that are made anew."""
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
    notes = Notes(context, cores())
    with (closing(Workers(cores())) as workers,
          closing(Shelf(Scratch(folder=notes.folder, pause=notes.pause, workers=workers))) as shelf):
        collected = Collected(
            shelf=shelf, near=NearDuplicates(science.near_duplicates.ratio) if science.near_duplicates else None)
        notes.resume(collected)
        see_space(context, domain, documents, notes.bytes)
        collect(collected, documents, science.max_bytes, context)
        notes.seal(collected)
        collected.forget()
        found = split(shelf, science)
        sizes, sources = write(context.attempt.artifacts, shelf, found)
    skipped, counts = shelf.scratch.skipped_files, shelf.scratch.counts
    left_out = {"near_duplicates": counts[FOUND]} if science.near_duplicates else {}
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


def see_space(context: StageContext, domain: Domain, documents: Iterable[Document], written: int) -> None:
    """See that what the stage will write fits on the disk, where it can be told how much text there is.

    `written`: bytes that earlier attempts have.

    Raises:
        StorageError: it does not.
    """
    size = domain.size(context.science["domain"]) if domain.size else None
    known = size.bytes if size else getattr(documents, "text_bytes", 0)
    needed = int(ROOM * min(known, context.science["text"].max_bytes))
    see_room_for_stage(context.attempt.artifacts, max(0, needed - written), f"text {domain_key(context)}")


def domain_key(context: StageContext) -> str:
    """Return the key of the domain, as the stage's spec names it; empty where no spec was written."""
    try:
        spec = files.read_json(context.attempt.stage.spec)
    except FileNotFoundError:
        return ""
    return str(spec["sections"]["domain"]["plugin"]).partition(":")[2]


def collect(collected: Collected, documents: Iterable[Document], max_bytes: int, context: StageContext) -> None:
    """Read whole documents until the next would bring the text without exact copies above `max_bytes`.

    Raises:
        UsageError: not one document was read.
        Stopped: the job was asked to leave.
    """
    scratch = collected.shelf.scratch
    counts, reported = scratch.counts, time.monotonic()
    if COMPLETE in counts:
        return
    skipped, too_large = None, None
    read = chunks(documents, counts.get(POSITION, 0))
    prepared = scratch.workers.answers(partial(prepare, near=collected.near is not None), read)
    with closing(prepared):
        for chunk in prepared:
            over = take(collected, chunk, max_bytes)
            if over is not None:
                skipped, too_large = chunk.skipped[over], chunk.names[over][1]
                break
            counts[POSITION] = counts.get(POSITION, 0) + len(chunk.names)
            scratch.pause()
            if time.monotonic() - reported > REPORT_SECONDS:
                reported = time.monotonic()
                context.attempt.row(tokens=0, kind="progress", values={
                    "done": float(counts[BYTES]), "of": float(max_bytes)})
    if not counts.get(BYTES):
        reason = "nothing that it reads is installed here, or all of it is empty"
        if too_large:
            reason = f"its first document, {too_large}, is larger than documents.max_bytes; raise that"
        raise UsageError(f"the domain gave no text: {reason}")
    scratch.skipped_files += list(getattr(documents, "skipped", ()))[:skipped]
    counts |= {COMPLETE: 1, POSITION: counts.get(POSITION, 0) + 1}


def take(collected: Collected, chunk: Prepared, max_bytes: int) -> int | None:
    """Put documents on the shelf that are no near duplicates; return the number in the chunk of the first that would
    bring the text above `max_bytes`, None where none would."""
    shelf, counts, near = collected.shelf, collected.shelf.scratch.counts, collected.near
    taken_D, over = np.zeros(len(chunk.names), dtype=np.bool_), None
    collected.copies.look_up(itertools.chain.from_iterable(chunk.digests))
    for number, digests in enumerate(chunk.digests):
        if near is not None and not near.fresh(chunk.minima[number]):
            continue
        fresh, new = collected.copies.fresh(digests)
        size = sum(itertools.compress(chunk.sizes[number], fresh))
        if size > max_bytes - counts.get(BYTES, 0):
            over = number
            break
        shelf.add(chunk.names[number], fresh)
        counts[BYTES] = counts.get(BYTES, 0) + size
        taken_D[number] = True
        collected.digests.extend(new)
        if near is not None:
            collected.minima.append(chunk.minima[number])
    if near is not None:
        counts[FOUND] = near.found
    shelf.add_text(chunk.lines, chunk.words, taken_D)
    return over


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
        chosen = shelf.chosen(any_of(found.kept_P, shelf.paragraphs_D), found.kept_P, found.held_out_D)
        for some in stack.enter_context(closing(shelf.scratch.workers.answers(written, chosen))):
            for document in some:
                part = "validation" if document.held_out else "train"
                outs[part].write(document.line)
                digests[document.source].update(document.stated)
                sizes[part].add(document.size)
                of_source[document.source].add(document.size)
            shelf.scratch.pause()
    return sizes, {name: {**asdict(size), "sha256": digests[name].hexdigest()}
                   for name, size in sorted(of_source.items())}


def read_texts(path: Path) -> Iterator[str]:
    """Yield the texts of a file that `write` wrote."""
    with path.open(encoding="utf-8") as lines:
        for line in lines:
            text: str = json.loads(line)["text"]
            yield text
