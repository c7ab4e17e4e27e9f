"""The pure work on some documents, which worker processes do: everything that no other document decides."""

from __future__ import annotations

import hashlib
import itertools
import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from sweeps.errors import OrchestratorError
from sweeps.store import files
from workloads.contract import Document
from workloads.data.copies import digest
from workloads.data.near_duplicates import sketch_of
from workloads.data.paragraphs import Grams, Hashes, Mask, Numbers, Words, cut, words_of
from workloads.data.scratch import Lines

CHUNK_CHARS = 500_000
"""Text handed to a worker at a time: 0.1 s of work, and 0.4 s where near duplicates are looked for."""


@dataclass(frozen=True, kw_only=True)
class Read:
    """Some documents as they were read."""

    documents: list[Document]
    skipped: list[int]
    """For each: how many files could not be read before it."""


@dataclass(frozen=True, kw_only=True)
class Prepared:
    """Some documents, cut."""

    names: list[tuple[str, str]]
    """Source and path of each."""
    skipped: list[int]
    lines: list[bytes]
    """Of the spool."""
    sizes: list[list[int]]
    """Bytes of each paragraph."""
    digests: list[list[int | None]]
    words: Words
    minima: list[Hashes]
    """Sketches; empty where near duplicates are not looked for."""


def chunks(documents: Iterable[Document], first: int) -> Iterator[Read]:
    """Yield the documents from the number `first` on, CHUNK_CHARS of text at a time.

    Raises:
        OrchestratorError: as `documents`, after what was read before it.
    """
    skipped: Sequence[str] = getattr(documents, "skipped", ())
    found, chars = Read(documents=[], skipped=[]), 0
    source, failed = itertools.islice(documents, first, None), None
    while failed is None:
        try:
            document = next(source, None)
        except OrchestratorError as error:
            document, failed = None, error
        if document is None:
            break
        found.documents.append(document)
        found.skipped.append(len(skipped))
        chars += len(document.text)
        if chars >= CHUNK_CHARS:
            yield found
            found, chars = Read(documents=[], skipped=[]), 0
    if found.documents:
        yield found
    if failed is not None:
        raise failed


def prepare(read: Read, *, near: bool) -> Prepared:
    """Cut documents; `near`: sketch them, too."""
    pieces_D = [cut(document.text) for document in read.documents]
    lines = [json.dumps([document.source, document.path, "".join(pieces)]).encode() + b"\n"
             for document, pieces in zip(read.documents, pieces_D, strict=True)]  # ASCII: paths may be no UTF-8
    return Prepared(
        names=[(document.source, document.path) for document in read.documents], skipped=read.skipped, lines=lines,
        sizes=[[len(piece.encode()) for piece in pieces] for pieces in pieces_D],
        digests=[list(map(digest, pieces)) for pieces in pieces_D], words=words_of(pieces_D),
        minima=[sketch_of(document.text) for document in read.documents] if near else [],
    )


@dataclass(frozen=True, kw_only=True)
class Chosen:
    """Some documents on disk, and which of their paragraphs are kept."""

    lines: Lines
    kept_P: Mask
    number_P: Numbers
    """Of their paragraphs among all."""
    paragraphs_D: Numbers
    held_out_D: Mask

    def pieces(self) -> Iterator[tuple[str, str, list[str]]]:
        """Yield source, path and paragraphs of each."""
        for line in self.lines.read():
            source, path, text = json.loads(line)
            yield source, path, cut(text)


def grams_of(chosen: Chosen) -> Grams:
    """Return the 13-grams of the documents as they read with the kept paragraphs alone."""
    grams = words_of([pieces for _, _, pieces in chosen.pieces()]).grams(chosen.kept_P)
    return Grams(hash_G=grams.hash_G, paragraph_G=chosen.number_P[grams.paragraph_G])


@dataclass(frozen=True, kw_only=True)
class Written:
    """A document as it is left to others."""

    source: str
    held_out: bool
    line: str
    size: int
    """Bytes of its text."""
    stated: bytes
    """What is hashed of it for its source."""


def written(chosen: Chosen) -> list[Written]:
    """Return the documents with their kept paragraphs alone; those without text are left out."""
    found = []
    ends = np.cumsum(chosen.paragraphs_D).tolist()
    for (source, path, pieces), end, held_out in zip(chosen.pieces(), ends, chosen.held_out_D.tolist(), strict=True):
        text = "".join(itertools.compress(pieces, chosen.kept_P[end - len(pieces):end].tolist()))
        if text.strip():
            text = text.strip("\n") + "\n"
            data = text.encode()
            stated = f"{path}\0{hashlib.sha256(data).hexdigest()}\n".encode(errors="surrogateescape")
            found.append(Written(source=source, held_out=held_out, size=len(data), stated=stated,
                                 line=files.to_json({"source": source, "path": path, "text": text}) + "\n"))
    return found
