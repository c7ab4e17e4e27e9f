"""Paragraphs that repeat an earlier one. Costs 8 bytes of memory per paragraph, and 16 while runs are merged."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

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


class Copies:
    """The paragraphs read so far."""

    def __init__(self) -> None:
        """Start empty."""
        self._seen = Seen()

    def fresh(self, pieces: Sequence[str]) -> list[bool]:
        """Return which paragraphs of the next document are no copies, of earlier ones or of one another.

        None is where a document has nothing but copies and short lines.
        """
        digests = [_digest(piece) for piece in pieces]
        own = [d for d in digests if d is not None]
        known, fresh, new = self._seen.known(own), [], False
        for digest in digests:
            fresh.append(digest is None or digest not in known)
            if digest is not None and digest not in known:
                known.add(digest)
                new = True
        self._seen.add(own)
        return fresh if new else [False] * len(pieces)


def _digest(piece: str) -> int | None:
    """Return 64 bits that equal paragraphs share, whitespace folded; None for a short one."""
    folded = " ".join(piece.split())
    if len(folded) < SHORT_CHARS:
        return None
    return int.from_bytes(hashlib.sha256(folded.encode()).digest()[:8], "little")
