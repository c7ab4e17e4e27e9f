"""Some documents cut into paragraphs, with the hashes of their 13-grams of words. Everything after reading is a mask.

Suffixes: P paragraphs, W words, G 13-grams. Costs about 12 bytes of memory per byte of text of a batch, 20 MB for the
words' hashes, and 1 s per 4 MB on one core.
"""

from __future__ import annotations

import hashlib
import itertools
import re
from array import array
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from workloads.contract import Document

GRAM_WORDS = 13
"""Length of the n-grams by which text counts as repeated (GPT-3's contamination check, arXiv 2005.14165, app. C)."""
BATCH_CHARS = 1_000_000
"""A batch is full when its text is as long as this."""
WORDS_REMEMBERED = 1 << 17
"""Words whose hash is kept; all are forgotten beyond them. The most frequent ones come back at once."""

_BREAK = re.compile(r"(\n(?:[ \t\f]*\n)+)")
_WORD = re.compile(r"\w+")
_ODD = np.uint64(0x9E3779B97F4A7C15)

Mask = npt.NDArray[np.bool_]
Numbers = npt.NDArray[np.int64]
Hashes = npt.NDArray[np.uint64]


class _Words(dict[str, int]):
    """Word -> 64-bit hash, the same in every process."""

    def __missing__(self, word: str) -> int:
        if len(self) >= WORDS_REMEMBERED:
            self.clear()
        self[word] = found = int.from_bytes(hashlib.blake2b(word.encode(), digest_size=8).digest(), "little")
        return found


_words = _Words()


@dataclass(frozen=True, kw_only=True)
class Grams:
    """The 13-grams of some paragraphs; a gram may reach over several paragraphs of one document."""

    hash_G: Hashes
    """64-bit hash of the words."""
    paragraph_G: Numbers
    """Number of the paragraph in which the gram's middle word lies."""


class Batch:
    """The paragraphs of some documents in a row."""

    def __init__(self, *, first_document: int = 0, first_paragraph: int = 0) -> None:
        """Start empty; say how many documents and paragraphs come before."""
        self.first_document, self.first_paragraph = first_document, first_paragraph
        self.documents: list[Document] = []
        """Without their text, which the paragraphs hold."""
        self.pieces: list[str] = []
        """Text of each paragraph with the blank lines after it."""
        self.paragraphs: list[int] = []
        """How many of them each document has."""
        self.chars = 0
        """Characters of text."""

    @property
    def span(self) -> slice:
        """Its paragraphs among those of all batches."""
        return slice(self.first_paragraph, self.first_paragraph + len(self.pieces))

    def add(self, document: Document, pieces: list[str]) -> None:
        """Add a document of these paragraphs."""
        self.documents.append(Document(source=document.source, path=document.path, text=""))
        self.pieces += pieces
        self.paragraphs.append(len(pieces))
        self.chars += sum(map(len, pieces))

    @property
    def full(self) -> bool:
        """True where the next document belongs to the next batch."""
        return self.chars >= BATCH_CHARS

    def next(self) -> Batch:
        """Return an empty batch that follows this one."""
        return Batch(first_document=self.first_document + len(self.documents), first_paragraph=self.span.stop)

    def grams(self, *kept: Mask) -> Iterator[Grams]:
        """Yield the 13-grams of the documents as they read with only the paragraphs of each mask."""
        word_W, words = array("Q"), []
        for piece in self.pieces:
            found = _WORD.findall(piece.lower())
            word_W.extend(map(_words.__getitem__, found))
            words.append(len(found))
        paragraph_W = np.repeat(np.arange(len(self.pieces), dtype=np.int64), np.array(words, dtype=np.int64))
        document_P = np.repeat(np.arange(len(self.documents)), np.array(self.paragraphs, dtype=np.int64))
        for kept_P in kept:
            yield self._grams(np.array(word_W, dtype=np.uint64), paragraph_W, document_P, kept_P)

    def _grams(self, word_W: Hashes, paragraph_W: Numbers, document_P: Numbers, kept_P: Mask) -> Grams:
        kept_W = kept_P[paragraph_W]
        paragraph_W, word_W = paragraph_W[kept_W], word_W[kept_W]
        count = max(0, len(word_W) - GRAM_WORDS + 1)
        hash_G = np.zeros(count, dtype=np.uint64)
        for offset in range(GRAM_WORDS):
            hash_G = hash_G * _ODD + word_W[offset:offset + count]
        document_W = document_P[paragraph_W]
        whole_G = document_W[:count] == document_W[GRAM_WORDS - 1:GRAM_WORDS - 1 + count]
        middle_G = paragraph_W[GRAM_WORDS // 2:GRAM_WORDS // 2 + count]
        return Grams(hash_G=hash_G[whole_G], paragraph_G=middle_G[whole_G] + self.first_paragraph)

    def texts(self, kept_P: Mask) -> Iterator[tuple[int, Document, str]]:
        """Yield each document, after its number, with its text of only the paragraphs in `kept_P`.

        Documents without any are left out.
        """
        for number, document, text in self.whole(kept_P):
            if text.strip():
                yield number, document, text.strip("\n") + "\n"

    def whole(self, kept_P: Mask | None = None) -> Iterator[tuple[int, Document, str]]:
        """Yield each document, after its number, with the paragraphs in `kept_P` (None: all) joined."""
        first = 0
        for number, (document, count) in enumerate(zip(self.documents, self.paragraphs, strict=True)):
            pieces = self.pieces[first:first + count]
            if kept_P is not None:
                pieces = list(itertools.compress(pieces, kept_P[first:first + count]))
            first += count
            yield self.first_document + number, document, "".join(pieces)


def normalise(text: str) -> str:
    """Return text with newlines as \\n, and without what UTF-8 cannot hold (lone surrogates) or NUL."""
    text = text.replace("\r\n", "\n").replace("\r", "\n").replace("\0", "")
    return text.encode("utf-8", "ignore").decode()


def cut(text: str) -> list[str]:
    """Return the paragraphs of a text, each with the blank lines that follow it; joined they are the text."""
    parts = _BREAK.split(normalise(text))
    pieces = [body + blank for body, blank in zip(parts[::2], [*parts[1::2], ""], strict=True)]
    return [piece for piece in pieces if piece]
