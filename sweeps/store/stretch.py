"""What an attempt trained, and how much of it the next one trains again.

A job that is asked in time loses nothing: it saves after the update at which it is. One that is killed loses what it
trained since its last checkpoint, which is bounded by `run.checkpoint_every`.
"""

from __future__ import annotations

from dataclasses import dataclass

from sweeps.store.layout import AttemptFolder
from sweeps.store.records import furthest
from sweeps.store.rows import own_rows, read_parent


@dataclass(frozen=True, kw_only=True)
class Stretch:
    """From where to where an attempt came, in tokens since the beginning of the run; all 0 where it trains nothing."""

    began: int
    saved: int
    """At its furthest checkpoint; `began` where it has none."""
    reached: int
    """At its last row or checkpoint: it may have come further by less than the distance of two rows."""

    @property
    def lost(self) -> int:
        """Tokens that are trained again by whoever goes on from it."""
        return self.reached - self.saved


def stretch(attempt: AttemptFolder) -> Stretch:
    """Return what an attempt trained, by its records; reads all of its rows.

    Raises:
        RecordError: its parent.json is damaged, or a newer release wrote its rows.
    """
    parent = read_parent(attempt)
    began = parent.tokens if parent else 0
    saved = max(furthest(attempt) or 0, began)
    return Stretch(began=began, saved=saved, reached=max((saved, *(row.tokens for row in own_rows(attempt)))))
