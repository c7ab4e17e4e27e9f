"""Training sequences by index. Update u reads sequences u B .. u B + B - 1: data order is a pure function of the seed.

Shape suffixes: B sequences, T tokens of a sequence.
"""

from __future__ import annotations

from concurrent.futures import Future, ThreadPoolExecutor
from typing import TYPE_CHECKING, Protocol

import numpy as np
import numpy.typing as npt

from workloads.contract import CorpusReader, Ints, SequenceBatch, SequenceSource

if TYPE_CHECKING:  # torch is not needed to read sequences
    from workloads.training.process import Place

IGNORED = -100
"""Label of a position that is no target (PyTorch's cross_entropy default)."""
WINDOW_SEQUENCES = 64
"""Sequences fetched at a time: generators work on arrays, so fetching each update alone would cost more."""


class Feed(Protocol):
    """Training sequences of one stage."""

    vocabulary: int

    def load(self, index_B: Ints) -> SequenceBatch:
        """Return the sequences with these indices."""
        ...


class UpstreamFeed:
    """Sequences of an upstream's training stream."""

    def __init__(self, source: SequenceSource) -> None:
        """Read from `source`."""
        self.vocabulary = source.vocabulary
        self._source = source

    def load(self, index_B: Ints) -> SequenceBatch:
        """Return the sequences with these indices."""
        return self._source.sequences(index_B)


class CorpusFeed:
    """Sequences of a text corpus; every token but the first of a sequence is a target."""

    def __init__(self, reader: CorpusReader) -> None:
        """Read from `reader`."""
        self.vocabulary = reader.vocabulary
        self._reader = reader

    def load(self, index_B: Ints) -> SequenceBatch:
        """Return the sequences with these indices."""
        return text_batch(self._reader.train(index_B))


def text_batch(tokens_BT: npt.NDArray[np.int32]) -> SequenceBatch:
    """Return text tokens with every position but 0 a target."""
    target_BT = np.ones(tokens_BT.shape, dtype=np.bool_)
    target_BT[:, 0] = False
    return SequenceBatch(tokens_BT=tokens_BT, target_BT=target_BT)


def labels_of(batch: SequenceBatch) -> npt.NDArray[np.int64]:
    """Return (B, T) labels: at position t the token at t + 1 where that is a target, else `IGNORED`."""
    labels_BT = np.full(batch.tokens_BT.shape, IGNORED, dtype=np.int64)
    labels_BT[:, :-1] = np.where(batch.target_BT[:, 1:], batch.tokens_BT[:, 1:], IGNORED)
    return labels_BT


class Window:
    """This rank's share of each update's sequences, fetched a window of updates at a time.

    On a GPU, whose host has a core to spare, a thread fetches the next window while this one is trained on. On a CPU it
    would take turns with the rank's own thread, so there a window is fetched when its first update is asked for.
    """

    def __init__(self, feed: Feed, *, batch: int, last_update: int, place: Place) -> None:
        """`batch` sequences per update over all ranks; updates up to `last_update` (exclusive) are asked for."""
        self._feed = feed
        self._batch = batch
        self._share = batch // place.world
        self._offset = self._share * place.rank
        self._last = last_update
        self._first = 0
        self._loaded: SequenceBatch | None = None
        # one thread: feeds are read by one reader at a time
        self._reader = ThreadPoolExecutor(1, "fetch") if place.device.type != "cpu" else None
        self._coming: tuple[int, Future[SequenceBatch]] | None = None

    def update(self, number: int) -> SequenceBatch:
        """Return this rank's sequences of update `number`, in order of their index."""
        at = (number - self._first) * self._share
        if self._loaded is None or not 0 <= at < len(self._loaded.tokens_BT):
            self._loaded = self._fetch(number)
            self._first = number
            at = 0
        rows = slice(at, at + self._share)
        return SequenceBatch(tokens_BT=self._loaded.tokens_BT[rows], target_BT=self._loaded.target_BT[rows])

    def _fetch(self, number: int) -> SequenceBatch:
        if self._reader is None:
            return self._load(number)
        first, coming = self._coming or (-1, None)
        found = coming.result() if coming and first == number else self._reader.submit(self._load, number).result()
        following = number + len(found.tokens_BT) // self._share
        self._coming = (following, self._reader.submit(self._load, following)) if following < self._last else None
        return found

    def _load(self, number: int) -> SequenceBatch:
        count = max(1, min(WINDOW_SEQUENCES // self._share, self._last - number))
        updates = np.arange(number, number + count, dtype=np.int64)[:, None]
        index = updates * self._batch + self._offset + np.arange(self._share, dtype=np.int64)[None, :]
        return self._feed.load(index.reshape(-1))

    def indices(self, number: int) -> list[tuple[int, ...]]:
        """Return which sequences each rank reads in update `number`, by rank."""
        first = range(number * self._batch, (number + 1) * self._batch, self._share)
        return [tuple(range(at, at + self._share)) for at in first]
