"""Deduplicate, then split by file, then take out of the held-out part what training also says.

A search (docs/concepts/search.md) reads no file that a comparison holds out: it splits those that are left. With
`documents.search_share` neither reads a file of the other's. Files are parted after deduplication, so that no paragraph
is in both, and both stop reading where `documents.max_bytes` says for the two together.

Text and 13-grams lie on disk (workloads.data.scratch). In memory stay a byte of each paragraph and 32 of each document,
while masks are made up to 17 and 50 more. What a phase has found lies in `Scratch.arrays` and `counts`, so that it goes
on where a note was written.

Suffixes: P paragraphs, D documents, G 13-grams.
"""

from __future__ import annotations

import itertools
from array import array
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

from sweeps.errors import UsageError
from sweeps.language.science import TextScience
from workloads.data.chunks import Chosen, grams_of
from workloads.data.documents import path_hash
from workloads.data.paragraphs import Hashes, Mask, Numbers, Words
from workloads.data.scratch import DOCUMENTS, POSITION, GramFile, Scratch, Spool, parts
from workloads.data.workers import in_order

NEAR_DUPLICATE = 0.5
"""A paragraph with more than this share of its 13-grams in earlier paragraphs is a near duplicate."""
SALTS = {"comparison": "split", "search": "search"}
"""What the hash that chooses held-out files is salted with."""
MAX_ROUNDS = 20
"""Dropping a paragraph joins its neighbours, which makes new 13-grams: the cleaning repeats until none is above."""

FRESH_GRAMS, ALL_GRAMS = "fresh-grams", "all-grams"
"""Kinds of files (`scratch.DOCUMENTS` is the third)."""

Found = TypeVar("Found")
Counted = list[tuple[npt.NDArray[np.uint32], Numbers]]


class Shelf:
    """The documents read so far."""

    def __init__(self, scratch: Scratch) -> None:
        """Start empty."""
        self.scratch = scratch
        self.documents = Spool(scratch)
        self.fresh_grams = GramFile(scratch, FRESH_GRAMS)
        """Of the documents as they read without copies."""
        self.all_grams = GramFile(scratch, ALL_GRAMS)
        """Of the documents as they were read."""
        self._fresh_P = array("b")
        self._paragraphs_D = array("q")
        self._hash_D = {salt: array("Q") for salt in SALTS.values()}

    def add(self, name: tuple[str, str], fresh: Sequence[bool]) -> None:
        """Put a document of this source and path on it; `fresh`: which of its paragraphs are no copies."""
        self._fresh_P.extend(fresh)
        self._paragraphs_D.append(len(fresh))
        for salt, hashes in self._hash_D.items():
            hashes.append(int.from_bytes(path_hash("/".join(name), salt), "big"))

    def add_text(self, lines: Sequence[bytes], words: Words, taken_D: Mask) -> None:
        """Keep lines and 13-grams of the documents that were put on it last: those that `taken_D` names."""
        self.documents.add(list(itertools.compress(lines, taken_D.tolist())))
        taken_P = np.repeat(taken_D, words.paragraphs_D)
        first = len(self._fresh_P) - int(taken_P.sum())
        number_P = first - 1 + np.cumsum(taken_P)
        fresh_P = taken_P.copy()
        fresh_P[taken_P] = np.array(self._fresh_P[first:], dtype=np.bool_)
        for file, kept_P in ((self.fresh_grams, fresh_P), (self.all_grams, taken_P)):
            grams = words.grams(kept_P)
            file.add(grams.hash_G, number_P[grams.paragraph_G])

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

    def since(self, document: int, paragraph: int) -> dict[str, npt.NDArray[np.generic]]:
        """Return, by name, what is known of the documents and paragraphs from these on."""
        return {"fresh_P": np.array(self._fresh_P[paragraph:], np.int8),
                "paragraphs_D": np.array(self._paragraphs_D[document:], np.int64),
                "size_D": self.documents.sizes(document),
                **{f"{salt}_D": np.array(hashes[document:], np.uint64) for salt, hashes in self._hash_D.items()}}

    def restore(self, known: Mapping[str, npt.NDArray[Any]], paths: Mapping[str, Path]) -> None:
        """Take up sealed files, by their kinds, and what is known of them."""
        self.documents.restore(paths[DOCUMENTS], known["size_D"])
        for file, kind, bounds in ((self.fresh_grams, FRESH_GRAMS, "fresh"), (self.all_grams, ALL_GRAMS, "all")):
            if kind in paths:
                file.restore(paths[kind], known[bounds])
        self._fresh_P.frombytes(known["fresh_P"].tobytes())
        self._paragraphs_D.frombytes(known["paragraphs_D"].tobytes())
        for salt, hashes in self._hash_D.items():
            hashes.frombytes(known[f"{salt}_D"].tobytes())

    def close(self) -> None:
        """Leave the files as they are."""
        self.documents.seal()
        self.fresh_grams.close()
        self.all_grams.close()

    def sizes(self) -> tuple[int, int]:
        """Return how many documents and paragraphs it holds."""
        return len(self._paragraphs_D), len(self._fresh_P)

    def chosen(self, chosen_D: Mask, kept_P: Mask, held_out_D: Mask) -> Iterator[Chosen]:
        """Yield some documents, with what is to be known of them."""
        paragraphs_D = self.paragraphs_D
        first_D = np.cumsum(paragraphs_D) - paragraphs_D
        for lines in self.documents.lines(chosen_D):
            counts = paragraphs_D[lines.number_D]
            number_P = np.repeat(first_D[lines.number_D] - np.cumsum(counts) + counts, counts) + np.arange(counts.sum())
            yield Chosen(lines=lines, kept_P=kept_P[number_P], number_P=number_P, paragraphs_D=counts,
                         held_out_D=held_out_D[lines.number_D])


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
    """Return the split of what is on a shelf, which is sealed.

    Raises:
        UsageError: too few documents for a held-out part.
    """
    paragraphs_D, fresh_P = shelf.paragraphs_D, shelf.fresh_P
    kept_P = fresh_P & ~near_duplicates(shelf)
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


def over_parts(
    scratch: Scratch, phase: str, files: Sequence[GramFile], find: Callable[[range], Found],
    add: Callable[[Found], None],
) -> None:
    """Compute `find` of each part of some files in threads, and `add` it; goes on after what a note counts."""
    counts = scratch.counts
    ranges = parts(files, counts.get(phase, 0))
    with closing(in_order(lambda some: (some, find(some)), ranges, scratch.workers.count)) as found:
        for some, each in found:
            add(each)
            counts[phase] = some.stop
            counts[POSITION] = counts.get(POSITION, 0) + 1
            scratch.pause()


def counted(*paragraphs_G: npt.NDArray[np.uint32]) -> Counted:
    """Return, for each array of grams' paragraphs, every paragraph once, and its grams."""
    return [np.unique(paragraph_G, return_counts=True) for paragraph_G in paragraphs_G]


def add_counts(counts_P: npt.NDArray[np.int32], found: Counted) -> None:
    """Add what `counted` returned to the rows of `counts_P` (np.add.at over the grams takes three times as long)."""
    for count_P, (paragraphs, grams) in zip(counts_P, found, strict=True):
        count_P[paragraphs] += grams.astype(np.int32)


def near_duplicates(shelf: Shelf) -> Mask:
    """Return which paragraphs mostly repeat earlier ones, word for word over 13 words."""
    arrays = shelf.scratch.arrays
    if "repeated_P" in arrays:
        return arrays["repeated_P"]
    all_earlier_P = arrays.setdefault("near", np.zeros((2, int(shelf.paragraphs_D.sum())), np.int32))

    def find(ranges: range) -> Counted:
        hash_G, paragraph_G = shelf.fresh_grams.read(ranges)
        order = np.argsort(hash_G)
        hash_G, paragraph_G = hash_G[order], paragraph_G[order]
        begins = np.flatnonzero(np.concatenate([[True], hash_G[1:] != hash_G[:-1]])[:len(hash_G)])
        firsts = np.minimum.reduceat(paragraph_G, begins) if len(begins) else paragraph_G
        first_G = np.repeat(firsts, np.diff(np.append(begins, len(hash_G))))
        return counted(paragraph_G, paragraph_G[first_G != paragraph_G])

    over_parts(shelf.scratch, "near", [shelf.fresh_grams], find, lambda found: add_counts(all_earlier_P, found))
    repeated_P = np.asarray(all_earlier_P[1] / np.maximum(all_earlier_P[0], 1) > NEAR_DUPLICATE)
    arrays["repeated_P"] = repeated_P
    del arrays["near"]
    return repeated_P


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
    counts = shelf.scratch.counts

    def find(ranges: range) -> tuple[int, int]:
        hash_G, paragraph_G = shelf.all_grams.read(ranges)
        held_G = held_P[paragraph_G]
        seen = np.sort(hash_G[asked_P[paragraph_G] & ~held_G])
        return int(found_in(hash_G[held_G], seen).sum()), int(held_G.sum())

    def add(found: tuple[int, int]) -> None:
        for name, count in zip(("as read: found", "as read: held"), found, strict=True):
            counts[name] = counts.get(name, 0) + count

    over_parts(shelf.scratch, "as read", [shelf.all_grams], find, add)
    return counts["as read: found"] / max(counts["as read: held"], 1)


def _clean(shelf: Shelf, kept_P: Mask, held_out_D: Mask, science: TextScience) -> float:
    """Take the held-out paragraphs that training repeats out of `kept_P`; return the overlap of those that stay."""
    counts, arrays = shelf.scratch.counts, shelf.scratch.arrays
    if "overlap" in arrays:
        kept_P[:] = arrays["kept_P"]
        return float(arrays["overlap"])
    held_P = np.repeat(held_out_D, shelf.paragraphs_D)
    train = Part(shelf, "train-grams", kept_P & ~held_P)
    kept_P[:] = arrays.setdefault("kept_P", kept_P.copy())
    asked_D = arrays.setdefault("asked_D", held_out_D.copy())
    all_found_P = arrays.setdefault("cleaning", np.zeros((2, len(kept_P)), np.int32))
    try:
        for number in range(counts.setdefault("round", 0), MAX_ROUNDS + 1):
            _count(shelf, train, kept_P & np.repeat(asked_D, shelf.paragraphs_D), all_found_P)
            above_P = held_P & kept_P & (all_found_P[1] / np.maximum(all_found_P[0], 1) > science.overlap_limit.ratio)
            if number == MAX_ROUNDS or not above_P.any():
                break
            kept_P &= ~above_P
            asked_D[:] = any_of(above_P, shelf.paragraphs_D)
            all_found_P[:, np.repeat(asked_D, shelf.paragraphs_D)] = 0
            arrays["kept_P"][:] = kept_P
            counts |= {"round": number + 1, "cleaning": 0}
    finally:
        train.remove()
    arrays["overlap"] = all_found_P[1].sum() / max(int(all_found_P[0].sum()), 1)
    del arrays["asked_D"], arrays["cleaning"]
    return float(arrays["overlap"])


class Part:
    """The 13-grams of some paragraphs: those on the shelf of documents that read as they did, and others made anew."""

    def __init__(self, shelf: Shelf, kind: str, kept_P: Mask) -> None:
        """Make those of the documents of which now other paragraphs are kept."""
        paragraphs_D = shelf.paragraphs_D
        changed_D = any_of(kept_P != shelf.fresh_P, paragraphs_D)
        self.shelf, self.others = shelf, GramFile(shelf.scratch, kind)
        self.as_before_P = kept_P & ~np.repeat(changed_D, paragraphs_D)
        asked_D = changed_D & any_of(kept_P, paragraphs_D)
        chosen = shelf.chosen(asked_D, kept_P, asked_D)
        with ExitStack() as undo:
            undo.callback(self.remove)
            with closing(shelf.scratch.workers.answers(grams_of, chosen)) as made:
                for grams in made:
                    self.others.add(grams.hash_G, grams.paragraph_G)
                    shelf.scratch.pause()
            self.others.seal()
            undo.pop_all()

    def remove(self) -> None:
        """Delete what was made."""
        self.others.remove()


def _count(shelf: Shelf, train: Part, asked_P: Mask, all_found_P: npt.NDArray[np.int32]) -> None:
    """Add the 13-grams of each asked paragraph to the first row, and those that training has to the second."""
    asked = Part(shelf, f"asked-grams-{shelf.scratch.counts['round']}", asked_P)

    def find(ranges: range) -> Counted:
        hash_G, paragraph_G = shelf.fresh_grams.read(ranges)
        seen = np.sort(np.concatenate([hash_G[train.as_before_P[paragraph_G]], train.others.read(ranges)[0]]))
        as_before_G = asked.as_before_P[paragraph_G]
        other_hashes, other_paragraphs = asked.others.read(ranges)
        hash_G = np.concatenate([hash_G[as_before_G], other_hashes])
        paragraph_G = np.concatenate([paragraph_G[as_before_G], other_paragraphs])
        return counted(paragraph_G, paragraph_G[found_in(hash_G, seen)])

    try:
        over_parts(shelf.scratch, "cleaning", [shelf.fresh_grams, train.others, asked.others], find,
                   lambda found: add_counts(all_found_P, found))
    finally:
        asked.remove()


def any_of(mask_P: Mask, paragraphs_D: Numbers) -> Mask:
    """Return of which documents a paragraph is in the mask."""
    before_P = np.concatenate([[0], np.cumsum(mask_P)])
    ends = np.cumsum(paragraphs_D)
    return np.asarray(before_P[ends] > before_P[ends - paragraphs_D])
