"""The notes by which an attempt at stage `text` goes on where an earlier one was.

A checkpoint holds no text: text.json names the sealed files of the work folders of this attempt and of those before it,
with their sizes and SHA-256, which are compared before anything of them is believed. They are read where they lie, and
never written again, so nothing that an earlier attempt still does can harm a later one. The store deletes the work
folders once the stage has a result.
"""

from __future__ import annotations

import time
from array import array
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from sweeps.store import files
from sweeps.store.records import Attempt, checkpoints, damage
from sweeps.store.space import writing
from workloads.contract import StageContext, Stopped
from workloads.data.copies import Copies
from workloads.data.near_duplicates import PERMUTATIONS, NearDuplicates
from workloads.data.paragraphs import Hashes
from workloads.data.scratch import POSITION
from workloads.data.split import Shelf

NOTE = "text.json"
"""In a checkpoint: files, and how far the stage is."""
STATE = "state.npz"
"""Kind of the files that hold `Scratch.arrays`."""
KNOWN = "known.npz"
"""Kind of the files that hold what is known of the documents of a segment."""
FOUND, COMPLETE = "near duplicates", "complete"
"""In `Scratch.counts`: documents left out as near duplicates; present once all documents are read."""

Stated = dict[str, Any]
"""Attempt, name, size and SHA-256 of a file."""


@dataclass(kw_only=True)
class Collected:
    """What grows while documents are read."""

    shelf: Shelf
    near: NearDuplicates | None
    copies: Copies = field(default_factory=Copies)
    digests: array[int] = field(default_factory=partial(array, "Q"))
    """Of the paragraphs that were new since the last note."""
    minima: list[Hashes] = field(default_factory=list)
    """Sketches of the documents since then."""

    def forget(self) -> None:
        """Give back the memory that only reading needs."""
        self.near, self.copies = None, Copies()


class Notes:
    """Writes the notes of one attempt, and takes up those of earlier ones."""

    def __init__(self, context: StageContext, threads: int) -> None:
        """Make the work folder."""
        self._context, self._threads = context, threads
        self._attempt: Attempt = context.attempt
        self.folder = context.attempt.folder.work
        with writing(self.folder):
            self.folder.mkdir()
        self._files: list[Stated] = []
        self._before: list[Stated] = []
        self._state: list[Stated] = []
        self._saved_at, self._seconds, self._position = time.monotonic(), 0.0, 0
        self._documents = self._paragraphs = 0
        self.collected: Collected | None = None

    @property
    def bytes(self) -> int:
        """Bytes of the sealed files."""
        return sum(stated["size"] for stated in self._files)

    def pause(self) -> None:
        """Write a note now and then, and where the job was asked to leave; then leave.

        Raises:
            Stopped: it was.
        """
        stop, execution = self._context.should_stop(), self._context.execution
        often = max(execution.checkpoint_seconds, self._seconds * (1 / execution.checkpoint_share - 1))
        if stop or time.monotonic() - self._saved_at > often:
            began = time.monotonic()
            self._save()
            self._saved_at = time.monotonic()
            self._seconds = self._saved_at - began
        if stop:
            raise Stopped

    # -- writing -------------------------------------------------------------------------------------------------------

    def _save(self) -> None:
        assert self.collected is not None
        scratch = self.collected.shelf.scratch
        position = scratch.counts.get(POSITION, 0)
        if position <= self._position:
            return
        self.seal(self.collected)
        state = []
        if scratch.arrays:
            state = self._stated([self._write(self.folder / f"{position:015d}.{STATE}", scratch.arrays)])
        self._position = position
        folder = self._attempt.checkpoint_folder(position)
        files.create(folder / NOTE, files.to_json({
            "schema_version": files.SCHEMA_VERSION, "files": self._files, "state": state, "counts": scratch.counts,
            "skipped_files": scratch.skipped_files,
        }))
        files.sync_folder(self.folder)
        self._attempt.commit_checkpoint(position)
        for stated in self._before:
            (self.folder / stated["name"]).unlink()
        self._before, self._state = self._state, state  # should the newest be damaged, there is one before it

    def seal(self, collected: Collected) -> None:
        """End the files of the documents that were read since the last note, and list them; now they can be read."""
        shelf = collected.shelf
        documents = shelf.documents.seal()
        if not documents:
            return
        fresh, fresh_bounds = shelf.fresh_grams.seal()
        everything, all_bounds = shelf.all_grams.seal()
        known = self._write(shelf.scratch.path(KNOWN), {
            **shelf.since(self._documents, self._paragraphs), "fresh": fresh_bounds, "all": all_bounds,
            "digests": np.array(collected.digests, np.uint64),
            "minima": np.array(collected.minima, np.uint64).reshape(-1, PERMUTATIONS),
        })
        self._files += self._stated([*documents, *fresh, *everything, known])
        self._documents, self._paragraphs = shelf.sizes()
        collected.digests, collected.minima = array("Q"), []
        shelf.scratch.segment += 1

    def _write(self, path: Path, arrays: Mapping[str, npt.NDArray[Any]]) -> Path:
        with writing(path):
            np.savez(path, allow_pickle=False, **arrays)
        return path

    def _stated(self, paths: list[Path]) -> list[Stated]:
        """Make files durable, and say what they are."""
        for path in paths:
            files.sync(path)
        with ThreadPoolExecutor(self._threads) as pool:
            return [{"attempt": self._attempt.folder.number, "name": path.name, "size": path.stat().st_size,
                     "sha256": digest} for path, digest in zip(paths, pool.map(files.sha256_file, paths), strict=True)]

    # -- going on ------------------------------------------------------------------------------------------------------

    def resume(self, collected: Collected) -> None:
        """Take up the furthest sound note of earlier attempts; without one, begin anew."""
        self.collected = collected
        sound: dict[tuple[int, str], bool] = {}
        for found in checkpoints(self._attempt.stage):
            if damage(found):
                continue
            note = files.read_json(found.folder / NOTE)
            listed: list[Stated] = [*note["files"], *note["state"]]
            new = [s for s in listed if (s["attempt"], s["name"]) not in sound]
            with ThreadPoolExecutor(self._threads) as pool:
                sound |= zip([(s["attempt"], s["name"]) for s in new], pool.map(self._is, new), strict=True)
            if all(sound[s["attempt"], s["name"]] for s in listed):
                self._attempt.set_parent(found.owner)
                self._restore(collected, note)
                return

    def _is(self, stated: Stated) -> bool:
        path = self._path(stated)
        self._context.should_stop()  # a sign of life
        return path.is_file() and path.stat().st_size == stated["size"] and files.sha256_file(path) == stated["sha256"]

    def _path(self, stated: Stated) -> Path:
        return self._attempt.stage.attempt(stated["attempt"]).work / str(stated["name"])

    def _restore(self, collected: Collected, note: Mapping[str, Any]) -> None:
        shelf, scratch = collected.shelf, collected.shelf.scratch
        scratch.counts |= note["counts"]
        scratch.skipped_files += note["skipped_files"]
        self._files, self._position = list(note["files"]), scratch.counts[POSITION]
        paths: dict[tuple[int, str], dict[str, Path]] = {}
        for stated in self._files:
            segment, _, kind = stated["name"].partition(".")
            paths.setdefault((stated["attempt"], segment), {})[kind] = self._path(stated)
        digests, minima = [], []
        for each in paths.values():
            known = _loaded(each[KNOWN])
            digests.append(known["digests"])
            minima.append(known["minima"])
            shelf.restore(known, each)
        if COMPLETE not in scratch.counts:
            collected.copies.restore(np.concatenate([np.zeros(0, np.uint64), *digests]))
            if collected.near is not None:
                for some in minima:
                    collected.near.restore(some)
                    self._context.should_stop()
                collected.near.found = scratch.counts.get(FOUND, 0)
        for stated in note["state"]:
            scratch.arrays |= _loaded(self._path(stated))
        scratch.segment = len(paths)
        self._documents, self._paragraphs = shelf.sizes()


def _loaded(path: Path) -> dict[str, npt.NDArray[Any]]:
    with np.load(path) as arrays:
        return dict(arrays)
