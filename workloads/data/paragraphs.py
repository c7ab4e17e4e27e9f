"""Documents cut into paragraphs and words, with the hashes of their 13-grams of words.

Suffixes: P paragraphs, W words, G 13-grams, D documents. Costs about 12 bytes of memory per byte of text, 20 MB for the
words' hashes, and 1 s per 4 MB on one core.
"""

from __future__ import annotations

import hashlib
import re
from array import array
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

GRAM_WORDS = 13
"""Length of the n-grams by which text counts as repeated (GPT-3's contamination check, arXiv 2005.14165, app. C)."""
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


@dataclass(frozen=True, kw_only=True)
class Words:
    """The words of some documents."""

    word_W: Hashes
    """Hash of each word."""
    words_P: Numbers
    """Words of each paragraph."""
    paragraphs_D: Numbers
    """Paragraphs of each document."""

    def grams(self, kept_P: Mask) -> Grams:
        """Return the 13-grams of the documents as they read with only some paragraphs, numbered from 0."""
        document_P = np.repeat(np.arange(len(self.paragraphs_D)), self.paragraphs_D)
        kept_W = np.repeat(kept_P, self.words_P)
        word_W = self.word_W[kept_W]
        paragraph_W = np.repeat(np.flatnonzero(kept_P), self.words_P[kept_P])
        count = max(0, len(word_W) - GRAM_WORDS + 1)
        hash_G = np.zeros(count, dtype=np.uint64)
        for offset in range(GRAM_WORDS):
            hash_G *= _ODD
            hash_G += word_W[offset:offset + count]
        document_W = document_P[paragraph_W]
        whole_G = document_W[:count] == document_W[GRAM_WORDS - 1:GRAM_WORDS - 1 + count]
        middle_G = paragraph_W[GRAM_WORDS // 2:GRAM_WORDS // 2 + count]
        return Grams(hash_G=hash_G[whole_G], paragraph_G=middle_G[whole_G])


def words_of(pieces_D: Sequence[Sequence[str]]) -> Words:
    """Return the words of documents, given the paragraphs of each."""
    word_W, words = array("Q"), array("q")
    for pieces in pieces_D:
        for piece in pieces:
            found = _WORD.findall(piece.lower())
            word_W.extend(map(_words.__getitem__, found))
            words.append(len(found))
    return Words(word_W=np.array(word_W, dtype=np.uint64), words_P=np.array(words, dtype=np.int64),
                 paragraphs_D=np.array([len(pieces) for pieces in pieces_D], dtype=np.int64))


def normalise(text: str) -> str:
    """Return text with newlines as \\n, and without what UTF-8 cannot hold (lone surrogates) or NUL."""
    text = text.replace("\r\n", "\n").replace("\r", "\n").replace("\0", "")
    return text.encode("utf-8", "ignore").decode()


def cut(text: str) -> list[str]:
    """Return the paragraphs of a text, each with the blank lines that follow it; joined they are the text."""
    parts = _BREAK.split(normalise(text))
    pieces = [body + blank for body, blank in zip(parts[::2], [*parts[1::2], ""], strict=True)]
    return [piece for piece in pieces if piece]
