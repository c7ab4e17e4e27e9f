"""What stage `text` keeps on disk while it works: documents, and the hashes of their 13-grams.

Files without a name, in the attempt's folder, so that the system removes them however the job ends. A set of grams is
read in parts, each all that lies in one range of the hash; only one part of it is in memory.

Suffixes: G 13-grams.
"""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import numpy as np
import numpy.typing as npt

from sweeps.store.space import writing
from workloads.contract import Document
from workloads.data.paragraphs import Batch, Grams, Hashes, Numbers, cut

RUN_GRAMS = 2_000_000
"""Grams written at a time, and read at a time where the ranges allow it: 24 MB, and some 150 MB while they are
compared."""
RANGES = 1 << 10
"""Ranges of the hash, told apart by its first bits."""
_SHIFT = np.uint64(64 - 10)

Record = np.dtype([("hash", "<u8"), ("paragraph", "<u4")])
"""A gram on disk: 12 bytes."""


@dataclass(frozen=True, kw_only=True)
class Scratch:
    """Where, and what to ask before each piece of work."""

    folder: Path
    pause: Callable[[], None]
    """Raises where the job was asked to leave."""

    def open(self) -> IO[bytes]:
        """Return a new file without a name."""
        return tempfile.TemporaryFile(dir=self.folder)


class Spool:
    """Documents on disk, read in batches."""

    def __init__(self, scratch: Scratch) -> None:
        """Start empty."""
        self._scratch = scratch
        self._file = scratch.open()

    def add(self, document: Document, text: str) -> None:
        """Append a document with another text than its own."""
        line = json.dumps([document.source, document.path, text])  # ASCII: a path may hold what UTF-8 does not
        with writing(self._scratch.folder):
            self._file.write(line.encode() + b"\n")

    def batches(self) -> Iterator[Batch]:
        """Yield all documents."""
        with writing(self._scratch.folder):
            self._file.seek(0)  # writes what is buffered
        batch = Batch()
        for line in self._file:
            source, path, text = json.loads(line)
            batch.add(Document(source=source, path=path, text=""), cut(text))
            if batch.full:
                self._scratch.pause()
                yield batch
                batch = batch.next()
        if batch.documents:
            yield batch

    def close(self) -> None:
        """Give the space back."""
        self._file.close()


class GramFile:
    """13-grams on disk, in runs ordered by the range of their hash."""

    def __init__(self, scratch: Scratch) -> None:
        """Start empty."""
        self._scratch = scratch
        self._file = scratch.open()
        self._waiting: list[npt.NDArray[np.void]] = []
        self._bounds: list[Numbers] = []
        """Of each run: the record at which each range begins, and the end."""

    def __len__(self) -> int:
        """Grams in it."""
        return int(self.sizes().sum())

    def add(self, grams: Grams) -> None:
        """Append grams, whose paragraphs must not fall."""
        records = np.empty(len(grams.hash_G), Record)
        records["hash"], records["paragraph"] = grams.hash_G, grams.paragraph_G
        self._waiting.append(records)
        if sum(map(len, self._waiting)) >= RUN_GRAMS:
            self._write()

    def _write(self) -> None:
        if not self._waiting:
            return
        records = np.concatenate(self._waiting)
        self._waiting = []
        range_G = (records["hash"] >> _SHIFT).astype(np.uint16)
        order = np.argsort(range_G, kind="stable")  # radix
        before = self._bounds[-1][-1] if self._bounds else 0
        self._bounds.append(before + np.concatenate([[0], np.cumsum(np.bincount(range_G, minlength=RANGES))]))
        with writing(self._scratch.folder):
            self._file.seek(0, os.SEEK_END)
            self._file.write(records[order].tobytes())
            self._file.flush()

    def sizes(self) -> Numbers:
        """Return the grams in each range."""
        self._write()
        return np.asarray(sum((np.diff(b) for b in self._bounds), np.zeros(RANGES, np.int64)))

    def read(self, ranges: range) -> tuple[Hashes, npt.NDArray[np.uint32]]:
        """Return hash and paragraph of the grams in these ranges; those of one hash in the order of their paragraphs.

        Memory: 24 bytes a gram.
        """
        found = []
        for bounds in self._bounds:
            first, end = int(bounds[ranges.start]), int(bounds[ranges.stop])
            self._file.seek(first * Record.itemsize)
            found.append(np.frombuffer(self._file.read((end - first) * Record.itemsize), Record))
        records = np.concatenate(found) if found else np.empty(0, Record)
        return np.ascontiguousarray(records["hash"]), np.ascontiguousarray(records["paragraph"])

    def close(self) -> None:
        """Give the space back."""
        self._file.close()


def parts(scratch: Scratch, *files: GramFile) -> Iterator[range]:
    """Yield neighbouring ranges that hold at most `RUN_GRAMS` grams of all files together, or one range."""
    ends = np.cumsum(sum(file.sizes() for file in files))
    start = 0
    while start < RANGES:
        before = ends[start - 1] if start else 0
        stop = max(start + 1, int(np.searchsorted(ends, before + RUN_GRAMS, side="right")))
        scratch.pause()
        yield range(start, stop)
        start = stop
