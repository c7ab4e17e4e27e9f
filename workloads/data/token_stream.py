"""The tokens of a text file in order, encoded by several threads, cut into blocks of equal length.

A place in the stream names the token after which everything is still to be done, so that a stage goes on there. Memory
holds one block and a few batches of documents.
"""

from __future__ import annotations

import json
from collections.abc import Generator, Iterable, Iterator
from contextlib import closing
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy.typing as npt

from sweeps.errors import RecordError
from workloads.data.encoder import Encoder, Ids
from workloads.data.workers import in_order

BATCH_BYTES = 1 << 18
"""Text handed to a thread at a time: some 0.05 s of work, so that handing over costs nothing and little waits."""


@dataclass(frozen=True, kw_only=True)
class Place:
    """A token of a text file's stream, and what lies before it."""

    offset: int = 0
    """Byte at which the line of its document begins."""
    skip: int = 0
    """Tokens of that document before it."""
    documents: int = 0
    """Documents before its own."""
    bytes: int = 0
    """Bytes of their text."""


@dataclass(frozen=True, kw_only=True)
class Encoded:
    """A document as tokens, its end among them."""

    ids: Ids
    line_bytes: int
    """Length of its line in the file."""
    text_bytes: int
    """Bytes of its text."""


def encoded_lines(source: Path, encoder: Encoder, *, start: Place, threads: int) -> Generator[Encoded]:
    """Yield the documents of a file of stage `text` in order, from the document of `start` on.

    Raises:
        RecordError: tokens do not stand for as many bytes as the text has.
    """
    encode = partial(_encode, encoder=encoder, source=source)
    with closing(in_order(encode, _batches(source, start.offset), threads)) as encoded:
        for some in encoded:
            yield from some


def blocks(
    documents: Iterable[Encoded], block: npt.NDArray[Any], start: Place
) -> Iterator[tuple[int, Place]]:
    """Fill `block` again and again; yield how many of its tokens count (all but at the end), and the place after them.

    Yields 0 after each document, so that who reads can leave there.

    Args:
        documents: from the document of `start` on.
        block: copy or write it before going on.
        start: the first token to be taken.
    """
    place, filled = start, 0
    for document in documents:
        taken = place.skip
        after = Place(offset=place.offset + document.line_bytes, documents=place.documents + 1,
                      bytes=place.bytes + document.text_bytes)
        while taken < len(document.ids):
            piece = document.ids[taken:taken + len(block) - filled]
            block[filled:filled + len(piece)] = piece
            filled, taken = filled + len(piece), taken + len(piece)
            if filled == len(block):
                yield filled, after if taken == len(document.ids) else replace(place, skip=taken)
                filled = 0
        place = after
        yield 0, place
    if filled:
        yield filled, place


def _batches(source: Path, offset: int) -> Iterator[list[bytes]]:
    """Yield lines from byte `offset` on, about BATCH_BYTES at a time."""
    batch: list[bytes] = []
    size = 0
    with source.open("rb") as lines:
        lines.seek(offset)
        for line in lines:
            batch.append(line)
            size += len(line)
            if size >= BATCH_BYTES:
                yield batch
                batch, size = [], 0
    if batch:
        yield batch


def _encode(lines: list[bytes], encoder: Encoder, source: Path) -> list[Encoded]:
    """Encode the documents of some lines, and see that no byte was lost."""
    found = []
    for line in lines:
        text: str = json.loads(line)["text"]
        ids, size = encoder.document(text), len(text.encode())
        if int(encoder.bytes_V[ids].sum()) != size:
            raise RecordError(f"{source}: the tokenizer's tokens of a document stand for another number of bytes than "
                              f"its {size}; bits per byte would be wrong: remove the tokenizer stage to make it again")
        found.append(Encoded(ids=ids, line_bytes=len(line), text_bytes=size))
    return found
