"""Deduplicate, then split by file, then take out of the held-out part what training also says.

A search (docs/concepts/search.md) reads no file that a comparison holds out: it splits those that are left. With
`documents.search_share` neither reads a file of the other's. Files are parted after deduplication, so that no paragraph
is in both, and both stop reading where `documents.max_bytes` says for the two together.

Text and 13-grams lie on disk (workloads.data.scratch). In memory stay a byte of each paragraph and 24 of each document,
while masks are made up to 17 and 50 more.

Suffixes: P paragraphs, D documents, G 13-grams, V paragraphs of held-out documents.
"""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from sweeps.errors import UsageError
from sweeps.language.science import TextScience
from workloads.contract import Document
from workloads.data.documents import path_hash
from workloads.data.paragraphs import Batch, Hashes, Mask, Numbers
from workloads.data.scratch import GramFile, Scratch, Spool, parts

NEAR_DUPLICATE = 0.5
"""A paragraph with more than this share of its 13-grams in earlier paragraphs is a near duplicate."""
SALTS = {"comparison": "split", "search": "search"}
"""What the hash that chooses held-out files is salted with."""
MAX_ROUNDS = 20
"""Dropping a paragraph joins its neighbours, which makes new 13-grams: the cleaning repeats until none is above."""

Counts = npt.NDArray[np.int32]


class Shelf:
    """The documents read so far."""

    def __init__(self, scratch: Scratch) -> None:
        """Start empty."""
        self.scratch = scratch
        self.documents = Spool(scratch)
        self.fresh_grams = GramFile(scratch)
        """Of the documents as they read without copies."""
        self.all_grams = GramFile(scratch)
        """Of the documents as they were read."""
        self._batch = Batch()
        self._fresh_P = array("b")
        self._paragraphs_D = array("q")
        self._hash_D = {salt: array("Q") for salt in SALTS.values()}

    def add(self, document: Document, pieces: list[str], fresh: Sequence[bool]) -> None:
        """Put a document of these paragraphs on it; `fresh` says which of them are no copies."""
        self.documents.add(document, "".join(pieces))
        self._batch.add(document, pieces)
        self._fresh_P.extend(fresh)
        self._paragraphs_D.append(len(pieces))
        for salt, hashes in self._hash_D.items():
            hashes.append(int.from_bytes(path_hash(f"{document.source}/{document.path}", salt), "big"))
        if self._batch.full:
            self._count()

    def _count(self) -> None:
        """Keep the 13-grams of what was added since the last time."""
        batch, self._batch = self._batch, self._batch.next()
        fresh_P = np.array(self._fresh_P[batch.span], dtype=np.bool_)
        for file, grams in zip((self.fresh_grams, self.all_grams), batch.grams(fresh_P, np.ones_like(fresh_P)),
                               strict=True):
            file.add(grams)

    def complete(self) -> None:
        """Say that nothing more is added."""
        self._count()

    @property
    def fresh_P(self) -> Mask:
        """False for exact copies of an earlier paragraph."""
        return np.array(self._fresh_P, dtype=np.bool_)

    @property
    def paragraphs_D(self) -> Numbers:
        """Paragraphs of each document."""
        return np.array(self._paragraphs_D, dtype=np.int64)

    def hash_D(self, salt: str) -> Hashes:
        """Return the salted hash of each document's name."""
        return np.array(self._hash_D[salt], dtype=np.uint64)

    def close(self) -> None:
        """Give the space back."""
        for file in (self.documents, self.fresh_grams, self.all_grams):
            file.close()


@dataclass(frozen=True, kw_only=True)
class Split:
    """Which paragraphs are kept, and which documents are held out."""

    kept_P: Mask
    held_out_D: Mask
    overlap_before: float
    """Share of held-out 13-grams found in training when the documents are split as they were read."""
    overlap: float
    """The same share of what is kept."""
    dropped: int
    """Paragraphs dropped as copies, as near duplicates or for overlap."""


def split(shelf: Shelf, science: TextScience) -> Split:
    """Return the split of what is on a shelf.

    Raises:
        UsageError: too few documents for a held-out part.
    """
    shelf.complete()
    paragraphs_D = shelf.paragraphs_D
    kept_P = shelf.fresh_P & ~near_duplicates(shelf)
    asked_D = asked(shelf, kept_P, science)
    kept_P &= np.repeat(asked_D, paragraphs_D)
    overlap_before = _overlap_as_read(shelf, asked_D, science)
    held_out_D = held_out(shelf, kept_P, science)
    overlap = _clean(shelf, kept_P, held_out_D, science)
    held_P = np.repeat(held_out_D, paragraphs_D)
    if not (kept_P & ~held_P).any() or not (kept_P & held_P).any():
        raise UsageError(
            f"{len(paragraphs_D)} documents leave nothing to {'hold out' if (kept_P & ~held_P).any() else 'train on'} "
            "after deduplication; give more text, or change documents.validation_share or documents.search_share"
        )
    return Split(kept_P=kept_P, held_out_D=held_out_D, overlap_before=overlap_before, overlap=overlap,
                 dropped=int(len(kept_P) - kept_P.sum()))


def asked(shelf: Shelf, kept_P: Mask, science: TextScience) -> Mask:
    """Return which documents may be read at all: all, unless a search and a comparison have to be kept apart."""
    if science.search_share:
        mine_D = shelf.hash_D(SALTS["search"]) < np.uint64(int(science.search_share.ratio * 2**64))
        return np.asarray(mine_D if science.split == "search" else ~mine_D)
    if science.split == "search":
        return ~held_out(shelf, kept_P, science.model_copy(update={"split": "comparison"}))
    return np.ones(len(shelf.paragraphs_D), dtype=np.bool_)


def near_duplicates(shelf: Shelf) -> Mask:
    """Return which paragraphs mostly repeat earlier ones, word for word over 13 words."""
    paragraphs = int(shelf.paragraphs_D.sum())
    all_P, earlier_P = np.zeros(paragraphs, np.int32), np.zeros(paragraphs, np.int32)
    for ranges in parts(shelf.scratch, shelf.fresh_grams):
        hash_G, paragraph_G = shelf.fresh_grams.read(ranges)
        order = np.argsort(hash_G, kind="stable")
        hash_G, paragraph_G = hash_G[order], paragraph_G[order]
        begins = np.flatnonzero(np.concatenate([[True], hash_G[1:] != hash_G[:-1]])[:len(hash_G)])
        first_G = np.repeat(paragraph_G[begins], np.diff(np.append(begins, len(hash_G))))
        np.add.at(all_P, paragraph_G, 1)
        np.add.at(earlier_P, paragraph_G[first_G != paragraph_G], 1)
    return np.asarray(earlier_P / np.maximum(all_P, 1) > NEAR_DUPLICATE)


def held_out(shelf: Shelf, kept_P: Mask, science: TextScience) -> Mask:
    """Return which documents are held out: the stated share of those with text, at least one."""
    before_P = np.concatenate([[0], np.cumsum(kept_P)])
    ends = np.cumsum(shelf.paragraphs_D)
    alive = np.flatnonzero(before_P[ends] > before_P[ends - shelf.paragraphs_D])
    chosen_D = np.zeros(len(ends), dtype=np.bool_)
    chosen_D[alive[smallest(shelf.hash_D(SALTS[science.split])[alive], science.validation_share.ratio)]] = True
    return chosen_D


def smallest(hash_D: Hashes, share: float) -> Numbers:
    """Return the positions of the held-out documents: those with the smallest salted hashes of their name."""
    order = np.argsort(hash_D, kind="stable")
    return np.asarray(order[:max(1, round(share * len(order)))])


def found_in(hash_G: Hashes, sorted_hashes: Hashes) -> Mask:
    """Return which hashes are among `sorted_hashes` (np.isin of NumPy 2.4 takes 20 times as long)."""
    if not len(sorted_hashes):
        return np.zeros(len(hash_G), dtype=np.bool_)
    place_G = np.minimum(np.searchsorted(sorted_hashes, hash_G), len(sorted_hashes) - 1)
    return np.asarray(sorted_hashes[place_G] == hash_G)


def _overlap_as_read(shelf: Shelf, asked_D: Mask, science: TextScience) -> float:
    """Return the share of held-out 13-grams that occur in training, of the documents as they were read."""
    asked_P = np.repeat(asked_D, shelf.paragraphs_D)
    held_P = np.repeat(held_out(shelf, asked_P, science), shelf.paragraphs_D)
    found = held = 0
    for ranges in parts(shelf.scratch, shelf.all_grams):
        hash_G, paragraph_G = shelf.all_grams.read(ranges)
        held_G = held_P[paragraph_G]
        seen = np.sort(hash_G[asked_P[paragraph_G] & ~held_G])
        found += int(found_in(hash_G[held_G], seen).sum())
        held += int(held_G.sum())
    return found / max(held, 1)


def _clean(shelf: Shelf, kept_P: Mask, held_out_D: Mask, science: TextScience) -> float:
    """Take the held-out paragraphs that training repeats out of `kept_P`; return the overlap of those that stay."""
    held_P = np.repeat(held_out_D, shelf.paragraphs_D)
    with closing(GramFile(shelf.scratch)) as seen, closing(Spool(shelf.scratch)) as held:
        for batch in shelf.documents.batches():
            for grams in batch.grams(kept_P[batch.span] & ~held_P[batch.span]):
                seen.add(grams)
            for number, document, text in batch.whole():
                if held_out_D[number]:
                    held.add(document, text)
        kept_V = kept_P[held_P]
        for rounds in range(MAX_ROUNDS + 1):
            all_V, found_V = _found(shelf.scratch, held, kept_V, seen)
            above_V = kept_V & (found_V / np.maximum(all_V, 1) > science.overlap_limit.ratio)
            if rounds == MAX_ROUNDS or not above_V.any():
                break
            kept_V &= ~above_V
        kept_P[held_P] = kept_V
        return float(found_V.sum() / max(int(all_V.sum()), 1))


def _found(scratch: Scratch, held: Spool, kept_V: Mask, seen: GramFile) -> tuple[Counts, Counts]:
    """Return per held-out paragraph its 13-grams, and those that training has too."""
    all_V, found_V = np.zeros(len(kept_V), np.int32), np.zeros(len(kept_V), np.int32)
    with closing(GramFile(scratch)) as asked:
        for batch in held.batches():
            for grams in batch.grams(kept_V[batch.span]):
                asked.add(grams)
        for ranges in parts(scratch, seen, asked):
            hash_G, paragraph_G = asked.read(ranges)
            found_G = found_in(hash_G, np.sort(seen.read(ranges)[0]))
            np.add.at(all_V, paragraph_G, 1)
            np.add.at(found_V, paragraph_G[found_G], 1)
    return all_V, found_V
