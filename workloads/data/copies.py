"""Paragraphs that repeat an earlier one. Costs 8 bytes of memory per paragraph, and 16 while runs are merged."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence

import numpy as np

from workloads.data.paragraphs import Hashes

SHORT_CHARS = 40
"""Paragraphs shorter than this (whitespace folded) are never duplicates: `Returns`, `else:`."""
RECENT = 1 << 16
"""Numbers that are not yet in a sorted run; a set of them takes 5 MB."""


class Seen:
    """A growing set of 64-bit numbers: a small set, and sorted runs, each more than twice as long as the next."""

    def __init__(self) -> None:
        """Start empty."""
        self._recent: set[int] = set()
        self._runs: list[Hashes] = []

    def known(self, numbers: Sequence[int]) -> set[int]:
        """Return those of the numbers that are in the set."""
        found = self._recent.intersection(numbers)
        asked = np.array(numbers, dtype=np.uint64)
        for run in self._runs if numbers else ():
            place = np.minimum(np.searchsorted(run, asked), len(run) - 1)
            found.update(asked[run[place] == asked].tolist())
        return found

    def add(self, numbers: Sequence[int]) -> None:
        """Add numbers."""
        self._recent.update(numbers)
        if len(self._recent) >= RECENT:
            run = np.sort(np.fromiter(self._recent, np.uint64, len(self._recent)))
            while self._runs and len(self._runs[-1]) <= 2 * len(run):
                run = np.sort(np.concatenate([self._runs.pop(), run]), kind="stable")  # merges what is sorted
            self._runs.append(run)
            self._recent = set()

    def restore(self, numbers: Hashes) -> None:
        """Add many numbers to an empty set."""
        assert not self._recent and not self._runs
        self._runs = [np.sort(numbers)] if len(numbers) else []


class Copies:
    """The paragraphs read so far."""

    def __init__(self) -> None:
        """Start empty."""
        self._seen = Seen()
        self._known: set[int] = set()

    def look_up(self, digests: Iterable[int | None]) -> None:
        """Find which paragraphs of the documents that follow were read before; once for many of them is faster."""
        self._known = self._seen.known([d for d in digests if d is not None])

    def fresh(self, digests: Sequence[int | None]) -> tuple[list[bool], list[int]]:
        """Return which paragraphs of the next document that was looked up are no copies, of earlier ones or of one
        another, and the digests that are new.

        None is where a document has nothing but copies and short lines.
        """
        fresh, new = [], []
        for digest in digests:
            fresh.append(digest is None or digest not in self._known)
            if digest is not None and digest not in self._known:
                self._known.add(digest)
                new.append(digest)
        self._seen.add(new)
        return (fresh if new else [False] * len(digests)), new

    def restore(self, digests: Hashes) -> None:
        """Take up the new digests of documents that an earlier attempt has read."""
        self._seen.restore(digests)


def digest(piece: str) -> int | None:
    """Return 64 bits that equal paragraphs share, whitespace folded; None for a short one."""
    folded = " ".join(piece.split())
    if len(folded) < SHORT_CHARS:
        return None
    return int.from_bytes(hashlib.sha256(folded.encode()).digest()[:8], "little")
