"""Writes checkpoints behind a training that goes on: it waits for a copy in host memory, and a thread writes that.

One checkpoint at a time. Each rank's thread writes its own files and takes part in no collective: how far the threads
are travels with the flags that the ranks share after every update, so that all of them go on to the next step at the
same update. Once all have written, rank 0's thread commits (`Attempt.commit_checkpoint`: synced, then the manifest with
the SHA-256 of every file), then deletes older ones. Whatever ends the training before that leaves a checkpoint that
does not count.
"""

from __future__ import annotations

import shutil
import threading
import time
from collections.abc import Collection
from concurrent.futures import Future, ThreadPoolExecutor, wait
from pathlib import Path
from typing import Any, NoReturn

from sweeps.errors import StorageError
from sweeps.language.stage import Execution
from sweeps.store import files, integrity, space
from sweeps.store.records import Attempt
from workloads.training.checkpoints import STATE, Progress, layout_of, prune, rank_state, require_space
from workloads.training.engine import Engine
from workloads.training.snapshots import copied, write
from workloads.watchdog import Pulse

BEAT_SECONDS = 1.0
"""While training waits for the thread: time between two looks at whether it still writes."""


class _AbandonedError(Exception):
    """The thread was told to write no more."""


class Saver:
    """Saves the states of one attempt. Every rank has one, and calls the same methods after the same updates."""

    def __init__(
        self, engine: Engine, attempt: Attempt, execution: Execution, pulse: Pulse, points: Collection[int] = ()
    ) -> None:
        """Prepare.

        Args:
            engine: what is saved.
            attempt: where; rank 0 commits.
            execution: layout, recorded; how many checkpoints are kept; whether training goes on meanwhile.
            pulse: told that a write goes on while training waits for it.
            points: token counts whose checkpoints are kept in any case.
        """
        self._engine = engine
        self._place = engine.place
        self._attempt = attempt
        self._execution = execution
        self._pulse = pulse
        self._points = points
        self._thread = ThreadPoolExecutor(1, "checkpoint")
        self._tasks: list[Future[None]] = []
        self._abandoned = threading.Event()
        self._bytes, self._moved = 0, time.monotonic()
        self._tokens = 0
        self._folder: Path | None = None
        self._committing = False

    @property
    def underway(self) -> bool:
        """True from `save` until the checkpoint is committed; the same on every rank."""
        return self._folder is not None

    def save(self, tokens: int, progress: Progress, *, leaving: bool = False) -> None:
        """Take the state of this update, and begin to write it; none may be underway.

        Args:
            tokens: tokens consumed since the beginning of the run.
            progress: counters and unreported losses.
            leaving: training does not go on: nothing is copied, and the checkpoint is committed on return.

        Raises:
            StorageError: there is no space; this checkpoint does not count, and the older ones are as they were.
        """
        assert self._folder is None
        behind = self._execution.checkpoint_async and not leaving

        def prepare() -> Path:
            require_space(self._attempt.folder.path, self._engine.parameters)
            return self._attempt.checkpoint_folder(tokens)

        folder = self._place.decide(prepare)
        self._folder, self._tokens, self._tasks, self._committing = folder, tokens, [], False
        self._moved = time.monotonic()

        def hand_over(state: Any, path: Path) -> None:
            task = self._thread.submit(self._write, copied(state) if behind else state, path)
            self._tasks.append(task)
            if not behind:
                self._await(task)

        with space.writing(folder):  # DeepSpeed makes folders
            if self._place.first:
                hand_over(self._state(tokens, progress), folder / STATE)
            self._engine.save(folder, hand_over)
            hand_over(rank_state(progress), folder / f"rank_{self._place.rank}.pt")
        if not behind:
            self.flush()

    def _state(self, tokens: int, progress: Progress) -> str:
        return files.to_json({
            "schema_version": files.SCHEMA_VERSION, "tokens": tokens, "updates": progress.updates,
            "loss": progress.loss, "recent": progress.recent, "spikes": progress.spikes,
            "layout": layout_of(self._execution), "relayouts": progress.relayouts,
        })

    def flags(self) -> tuple[bool, bool, bool]:
        """Return whether this rank's thread is at work, has failed, hangs; what `go_on` is given, or-ed."""
        busy = not all(task.done() for task in self._tasks)
        failed = any(task.done() and task.exception() is not None for task in self._tasks)  # after `busy`: one may fail
        return busy, failed, busy and time.monotonic() - self._moved > self._execution.hang_floor_seconds

    def go_on(self, busy: bool, failed: bool, hangs: bool = False) -> None:
        """Go on to the next step once every rank is ready for it: all know alike, since `flags` were or-ed.

        Where a thread hangs, training waits for it: the watchdog then sees a job that makes no step, and ends it.

        Raises:
            StorageError: some rank has found no space; raised on every rank, as by `save`.
        """
        if failed:
            self._fail()
        if hangs:
            self._pulse.slow()
            self.flush()
        if busy or self._folder is None:
            return
        if self._committing:
            self._folder = None
            return
        self._committing = True
        self._moved = time.monotonic()
        self._tasks = [self._thread.submit(self._commit)] if self._place.first else []

    def flush(self) -> None:
        """Wait until no checkpoint is underway; every rank must call it.

        Raises:
            StorageError: as `go_on`.
        """
        while self._folder is not None:
            for task in self._tasks:
                self._await(task)
            busy, failed, _ = self._place.any(*self.flags())
            self.go_on(busy, failed)

    def close(self) -> None:
        """End the thread; what is not committed by then does not count, and is removed."""
        self._abandoned.set()
        self._thread.shutdown()
        self._remove_half()

    def _remove_half(self) -> None:
        """Remove what is not committed: it does not count, and its space may be needed to say what happened."""
        if self._folder is not None and self._place.first and not (self._folder / integrity.MANIFEST).exists():
            shutil.rmtree(self._folder, ignore_errors=True)

    def _await(self, task: Future[None]) -> None:
        """Wait for a task of this rank's thread; a sign of life for each time in which it wrote something."""
        seen = -1
        while wait([task], BEAT_SECONDS).not_done:
            if self._bytes != seen:
                seen = self._bytes
                self._pulse.beat()

    def _write(self, state: Any, path: Path) -> None:
        """In the thread."""
        if isinstance(state, str):
            self._going(len(state))
            path.write_text(state, encoding="utf-8")
        else:
            write(state, path, self._going)
        if not self._place.first:  # rank 0 syncs before it commits, but may sit on another node
            files.sync(path)

    def _going(self, count: int) -> None:
        if self._abandoned.is_set():
            raise _AbandonedError
        self._bytes += count
        self._moved = time.monotonic()

    def _commit(self) -> None:
        """In the thread of rank 0, when every rank has written."""
        self._going(0)
        self._attempt.commit_checkpoint(self._tokens)
        prune(self._attempt, self._execution.keep_checkpoints, self._points)

    def _fail(self) -> NoReturn:
        """Raise what a thread met, on every rank; the half-written checkpoint is removed."""
        assert self._folder is not None
        self._abandoned.set()
        wait(self._tasks)
        errors = [e for task in self._tasks if (e := task.exception()) and not isinstance(e, _AbandonedError)]
        full = space.cause_of(errors[0], self._folder) if errors else None
        told = self._place.gather((full is not None, str(full or repr(errors[0]))) if errors else None)
        self._remove_half()  # no rank writes any more
        if full is not None:
            raise full from errors[0]
        if errors:
            raise errors[0]
        rank, (of_space, text) = next((rank, said) for rank, said in enumerate(told) if said is not None)
        raise StorageError(text) if of_space else RuntimeError(f"rank {rank} could not write a checkpoint: {text}")
