"""What stage `text` keeps on disk while it works: documents, and the hashes of their 13-grams.

Files that only grow, in the work folder of the attempt. A sealed file is never written again, so that a later attempt
reads it where it lies; what follows goes into another one. A set of grams is read in parts, each all that lies in one
range of the hash; only a few parts of it are in memory.

Suffixes: G 13-grams, D documents, R runs.
"""

from __future__ import annotations

from array import array
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, wait
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import IO, Any

import numpy as np
import numpy.typing as npt

from sweeps.store.space import writing
from workloads.data.paragraphs import Hashes, Mask, Numbers
from workloads.data.workers import Workers

RUN_GRAMS = 2_000_000
"""Grams written at a time, and read at a time where the ranges allow it: 24 MB, and some 150 MB while they are
compared."""
RANGES = 1 << 10
"""Ranges of the hash, told apart by its first bits."""
CHUNK_BYTES = 1 << 20
"""Documents that are handed to a worker at a time: some 0.2 s of work."""
DOCUMENTS = "documents"
"""Kind of the files of a spool."""
POSITION = "position"
"""In `Scratch.counts`: how far the stage has come, in documents taken and then parts of later phases; never falls."""
_SHIFT = np.uint64(64 - 10)

Record = np.dtype([("hash", "<u8"), ("paragraph", "<u4")])
"""A gram on disk: 12 bytes."""


@dataclass(kw_only=True)
class Scratch:
    """Where the files lie, who helps, and what the phases have found so far."""

    folder: Path
    pause: Callable[[], None]
    """Called where everything here is consistent: may write a note, and raises where the job was asked to leave."""
    workers: Workers = field(default_factory=Workers)
    segment: int = 0
    """Number in the names of files that are begun now."""
    arrays: dict[str, npt.NDArray[Any]] = field(default_factory=dict)
    """By name, what has been found of paragraphs or documents; a note holds all of it."""
    counts: dict[str, int] = field(default_factory=dict)
    """Numbers of the same kind."""
    skipped_files: list[str] = field(default_factory=list)
    """Once all documents are read: what could not be read, and why."""

    def path(self, kind: str) -> Path:
        """Return where a new file of this kind is to lie."""
        return self.folder / f"{self.segment:05d}.{kind}"


class Growing:
    """A file that is appended to until it is sealed, and then another."""

    def __init__(self, scratch: Scratch, kind: str) -> None:
        """Make nothing yet."""
        self._scratch, self._kind = scratch, kind
        self._file: IO[bytes] | None = None

    def append(self, data: bytes | memoryview[int]) -> Path:
        """Append; return the file."""
        with writing(self._scratch.folder):
            if self._file is None:
                self._file = self._scratch.path(self._kind).open("xb")
            self._file.write(data)
        return Path(self._file.name)

    def seal(self) -> list[Path]:
        """End the file that is open; return it, or nothing."""
        if self._file is None:
            return []
        with writing(self._scratch.folder):
            self._file.close()
        found, self._file = [Path(self._file.name)], None
        return found


@dataclass(frozen=True, kw_only=True)
class Lines:
    """Some documents of a file, one JSON array [source, path, text] a line."""

    path: Path
    offset_D: Numbers
    size_D: Numbers
    number_D: Numbers
    """Of each among all documents."""

    def read(self) -> Iterator[bytes]:
        """Yield the lines."""
        with self.path.open("rb") as file:
            for offset, size in zip(self.offset_D.tolist(), self.size_D.tolist(), strict=True):
                file.seek(offset)
                yield file.read(size)


class Spool:
    """Documents on disk."""

    def __init__(self, scratch: Scratch) -> None:
        """Start empty."""
        self._growing = Growing(scratch, DOCUMENTS)
        self._files: list[tuple[Path, int]] = []
        """Each file, and the number of its first document."""
        self._sizes = array("q")

    def add(self, lines: Sequence[bytes]) -> None:
        """Append the lines of some documents."""
        if not lines:
            return
        path = self._growing.append(b"".join(lines))
        if not self._files or self._files[-1][0] != path:
            self._files.append((path, len(self._sizes)))
        self._sizes.extend(map(len, lines))

    def seal(self) -> list[Path]:
        """End the open file; return it."""
        return self._growing.seal()

    def restore(self, path: Path, sizes: Numbers) -> None:
        """Take up a sealed file with lines of these sizes."""
        self._files.append((path, len(self._sizes)))
        self._sizes.frombytes(sizes.tobytes())

    def sizes(self, first: int) -> Numbers:
        """Return the bytes of the lines from the document `first` on."""
        return np.array(self._sizes[first:], dtype=np.int64)

    def lines(self, chosen_D: Mask) -> Iterator[Lines]:
        """Yield the chosen documents, about CHUNK_BYTES at a time."""
        size_D = self.sizes(0)
        for (path, first), (_, end) in zip(self._files, [*self._files[1:], (None, len(size_D))], strict=True):
            ends = np.cumsum(size_D[first:end])
            offsets = ends - size_D[first:end]
            chosen = np.flatnonzero(chosen_D[first:end])
            chunk = np.cumsum(size_D[first:end][chosen]) // CHUNK_BYTES
            for some in np.split(chosen, np.flatnonzero(np.diff(chunk)) + 1):
                if len(some):
                    yield Lines(path=path, offset_D=offsets[some], size_D=size_D[first:end][some],
                                number_D=some + first)


class GramFile:
    """13-grams on disk, in runs ordered by the range of their hash."""

    def __init__(self, scratch: Scratch, kind: str) -> None:
        """Start empty."""
        self._growing, self._workers = Growing(scratch, kind), scratch.workers
        self._writing: Future[None] | None = None
        self._waiting: list[tuple[Hashes, Numbers]] = []
        self._runs: list[tuple[Path, Numbers]] = []
        """File of each run, and the record at which each range begins, and the end."""
        self._records = 0
        """In the file that is open."""

    def __len__(self) -> int:
        """Grams in it."""
        return int(self.sizes().sum())

    def add(self, hash_G: Hashes, paragraph_G: Numbers) -> None:
        """Append grams."""
        self._waiting.append((hash_G, paragraph_G))
        if sum(len(hashes) for hashes, _ in self._waiting) >= RUN_GRAMS:
            self._write()

    def _write(self) -> None:
        """Begin to write what waits, once what was begun before is written."""
        self._settle()
        waiting, self._waiting = self._waiting, []
        if any(len(hashes) for hashes, _ in waiting):
            self._writing = self._workers.beside(partial(self._write_run, waiting))

    def _settle(self) -> None:
        writing, self._writing = self._writing, None
        if writing is not None:
            writing.result()

    def _write_run(self, waiting: Sequence[tuple[Hashes, Numbers]]) -> None:
        hash_G, paragraph_G = map(np.concatenate, zip(*waiting, strict=True))
        range_G = (hash_G >> _SHIFT).astype(np.uint16)
        order = np.argsort(range_G, kind="stable")  # radix
        ends = np.cumsum(np.bincount(range_G, minlength=RANGES))
        records = np.empty(len(order), Record)
        records["hash"], records["paragraph"] = hash_G[order], paragraph_G[order]  # half the time of records[order]
        path = self._growing.append(records.data)
        self._runs.append((path, self._records + np.concatenate([[0], ends])))
        self._records += len(records)

    def seal(self) -> tuple[list[Path], npt.NDArray[np.int64]]:
        """Write what waits and end the open file; return it, and the bounds (R, RANGES + 1) of its runs."""
        self._write()
        self._settle()
        found = self._growing.seal()
        self._records = 0
        bounds = [b for path, b in self._runs if path in found]
        return found, np.array(bounds, np.int64).reshape(-1, RANGES + 1)

    def restore(self, path: Path, bounds: npt.NDArray[np.int64]) -> None:
        """Take up a sealed file with runs of these bounds."""
        self._runs += [(path, b) for b in bounds]

    def sizes(self) -> Numbers:
        """Return the sealed grams in each range."""
        return np.asarray(sum((np.diff(b) for _, b in self._runs), np.zeros(RANGES, np.int64)))

    def read(self, ranges: range) -> tuple[Hashes, npt.NDArray[np.uint32]]:
        """Return hash and paragraph of the sealed grams in these ranges, in no order.

        Memory: 24 bytes a gram.
        """
        bounds = [(path, int(b[ranges.start]), int(b[ranges.stop])) for path, b in self._runs]
        hash_G = np.empty(sum(end - first for _, first, end in bounds), np.uint64)
        paragraph_G, filled = np.empty(len(hash_G), np.uint32), 0
        for path, first, end in bounds:
            records = np.fromfile(path, Record, count=end - first, offset=first * Record.itemsize)
            assert len(records) == end - first, path
            hash_G[filled:filled + len(records)], paragraph_G[filled:filled + len(records)] = (
                records["hash"], records["paragraph"])
            filled += len(records)
        return hash_G, paragraph_G

    def close(self) -> None:
        """Leave the file that is open as it is, once nobody writes it."""
        if self._writing is not None:
            wait([self._writing])
        self._growing.seal()

    def remove(self) -> None:
        """Delete its files."""
        self.close()
        for path in {path for path, _ in self._runs}:
            path.unlink()


def parts(files: Sequence[GramFile], first: int = 0) -> Iterator[range]:
    """Yield neighbouring ranges, from `first` on, that hold at most `RUN_GRAMS` grams of all files, or one range."""
    ends = np.cumsum(sum(file.sizes() for file in files))
    start = first
    while start < RANGES:
        before = ends[start - 1] if start else 0
        stop = max(start + 1, int(np.searchsorted(ends, before + RUN_GRAMS, side="right")))
        yield range(start, stop)
        start = stop
