"""Documents cut into paragraphs, with the hashes of their 13-grams of words. Everything after reading is a mask.

Suffixes: P paragraphs, W words, G 13-grams, D documents. Costs about 12 bytes of memory per byte of text, and 1 s per
4 MB on one core.
"""

from __future__ import annotations

import hashlib
import re
from array import array
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from workloads.contract import Document

GRAM_WORDS = 13
"""Length of the n-grams by which text counts as repeated (GPT-3's contamination check, arXiv 2005.14165, app. C)."""
SHORT_CHARS = 40
"""Paragraphs shorter than this (whitespace folded) are never duplicates: `Returns`, `else:`."""

_BREAK = re.compile(r"(\n(?:[ \t\f]*\n)+)")
_WORD = re.compile(r"\w+")
_ODD = np.uint64(0x9E3779B97F4A7C15)

Mask = npt.NDArray[np.bool_]
Numbers = npt.NDArray[np.int64]


@dataclass(frozen=True, kw_only=True)
class Grams:
    """The 13-grams of some paragraphs; a gram may reach over several paragraphs of one document."""

    hash_G: npt.NDArray[np.uint64]
    """64-bit hash of the words."""
    paragraph_G: Numbers
    """Number of the paragraph in which the gram's middle word lies."""

    def found_in(self, sorted_hashes: npt.NDArray[np.uint64]) -> Mask:
        """Return which grams are among `sorted_hashes` (np.isin and np.unique of NumPy 2.4 take 20 times as long)."""
        if not len(sorted_hashes):
            return np.zeros(len(self.hash_G), dtype=np.bool_)
        place_G = np.minimum(np.searchsorted(sorted_hashes, self.hash_G), len(sorted_hashes) - 1)
        return np.asarray(sorted_hashes[place_G] == self.hash_G)

    def share_of(self, flagged_G: Mask, paragraphs: int) -> npt.NDArray[np.float64]:
        """Return per paragraph the share of its grams that are flagged; 0 where it has none."""
        all_P = np.bincount(self.paragraph_G, minlength=paragraphs)
        flagged_P = np.bincount(self.paragraph_G[flagged_G], minlength=paragraphs)
        return np.asarray(flagged_P / np.maximum(all_P, 1), dtype=np.float64)


class Collection:
    """Paragraphs of all documents read so far."""

    def __init__(self) -> None:
        """Start empty."""
        self.documents: list[Document] = []
        """Without their text, which the paragraphs hold."""
        self.pieces: list[str] = []
        """Text of each paragraph with the blank lines after it."""
        self._document_P = array("q")
        self._fresh_P = array("b")
        self._words_P = array("q")
        self._word_W = array("q")
        self._ids: dict[str, int] = {}
        self._seen: set[bytes] = set()

    def add(self, document: Document, limit_bytes: int) -> int:
        """Add a document whole; return the bytes of its paragraphs that are not copies of earlier ones.

        Returns -1, and adds nothing, where that is more than `limit_bytes`.
        """
        pieces = cut(document.text)
        digests = [_digest(piece) for piece in pieces]
        fresh = []
        own: set[bytes] = set()
        for digest in digests:
            fresh.append(digest is None or not (digest in self._seen or digest in own))
            if digest is not None:
                own.add(digest)
        if not any(digest is not None and new for digest, new in zip(digests, fresh, strict=True)):
            fresh = [False] * len(pieces)  # nothing but copies and short lines
        size = sum(len(piece.encode()) for piece, new in zip(pieces, fresh, strict=True) if new)
        if size > limit_bytes:
            return -1
        self._seen |= own
        self._append(document, pieces, fresh)
        return size

    def _append(self, document: Document, pieces: list[str], fresh: list[bool]) -> None:
        number, ids = len(self.documents), self._ids
        self.documents.append(Document(source=document.source, path=document.path, text=""))
        for piece, new in zip(pieces, fresh, strict=True):
            words = _WORD.findall(piece.lower())
            self.pieces.append(piece)
            self._document_P.append(number)
            self._fresh_P.append(new)
            self._words_P.append(len(words))
            self._word_W.extend([ids.setdefault(word, len(ids)) for word in words])

    @property
    def document_P(self) -> Numbers:
        """Number of each paragraph's document."""
        return np.array(self._document_P, dtype=np.int64)

    @property
    def fresh_P(self) -> Mask:
        """False for exact copies of an earlier paragraph."""
        return np.array(self._fresh_P, dtype=np.bool_)

    def grams(self, kept_P: Mask) -> Grams:
        """Return the 13-grams of the documents as they read with only the paragraphs in `kept_P`."""
        paragraph_W = np.repeat(np.arange(len(self.pieces), dtype=np.int64), np.array(self._words_P, dtype=np.int64))
        kept_W = kept_P[paragraph_W]
        paragraph_W = paragraph_W[kept_W]
        word_W = _mix(np.array(self._word_W, dtype=np.uint64)[kept_W])
        count = max(0, len(word_W) - GRAM_WORDS + 1)
        hash_G = np.zeros(count, dtype=np.uint64)
        for offset in range(GRAM_WORDS):
            hash_G = hash_G * _ODD + word_W[offset:offset + count]
        document_W = self.document_P[paragraph_W]
        whole_G = document_W[:count] == document_W[GRAM_WORDS - 1:GRAM_WORDS - 1 + count]
        middle_G = paragraph_W[GRAM_WORDS // 2:GRAM_WORDS // 2 + count]
        return Grams(hash_G=hash_G[whole_G], paragraph_G=middle_G[whole_G])

    def texts(self, kept_P: Mask) -> Iterator[tuple[Document, str]]:
        """Yield each document with its text, of only the paragraphs in `kept_P`; documents without any are left out."""
        kept: dict[int, list[str]] = {}
        for p in np.flatnonzero(kept_P):
            kept.setdefault(self._document_P[p], []).append(self.pieces[p])
        for number, pieces in kept.items():
            text = "".join(pieces).strip("\n")
            if text.strip():
                yield self.documents[number], text + "\n"


def normalise(text: str) -> str:
    """Return text with newlines as \\n, and without what UTF-8 cannot hold (lone surrogates) or NUL."""
    text = text.replace("\r\n", "\n").replace("\r", "\n").replace("\0", "")
    return text.encode("utf-8", "ignore").decode()


def cut(text: str) -> list[str]:
    """Return the paragraphs of a text, each with the blank lines that follow it; joined they are the text."""
    parts = _BREAK.split(normalise(text))
    pieces = [body + blank for body, blank in zip(parts[::2], [*parts[1::2], ""], strict=True)]
    return [piece for piece in pieces if piece]


def _digest(piece: str) -> bytes | None:
    """Return 16 bytes that equal paragraphs share, whitespace folded; None for a short one."""
    folded = " ".join(piece.split())
    return hashlib.sha256(folded.encode()).digest()[:16] if len(folded) >= SHORT_CHARS else None


def _mix(word_W: npt.NDArray[np.uint64]) -> npt.NDArray[np.uint64]:
    """Spread word numbers over 64 bits (splitmix64's finaliser)."""
    mixed = (word_W + np.uint64(1)) * _ODD
    mixed = (mixed ^ (mixed >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return np.asarray(mixed ^ (mixed >> np.uint64(31)), dtype=np.uint64)
