"""The hang watchdog, the job's side: a stage tells that it lives, a process beside it listens (`workloads.listener`).

What counts as a hang: no sign of life for ten median steps, and at least for the floor (`run.hang_floor`). Until a step
was measured, and from `slow` to the next step, six times that: imports, compilation, loading and saving checkpoints
make no steps, and a stage without steps never leaves this state. A sign costs about a microsecond.
"""

from __future__ import annotations

import faulthandler
import json
import mmap
import os
import signal
import struct
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from sweeps.store.files import SCHEMA_VERSION
from workloads import listener
from workloads.listener import DUMP, HEAD, PAGE_BYTES, STEPS

PATIENCE = 6.0
"""Factor of the limit where no steps are made."""
SECONDS = struct.Struct("@d")


class Pulse:
    """A stage's signs of life, in a page of memory that the listener reads."""

    def __init__(self, page: mmap.mmap | bytearray | None = None) -> None:
        """Begin a stage; without a page nobody listens."""
        self._page = bytearray(PAGE_BYTES) if page is None else page
        self._signs = HEAD.unpack_from(self._page)[0]
        self._steps = 0
        self._stepping = False
        self._patience = PATIENCE
        self._last = time.monotonic()
        self.beat()

    def step(self) -> None:
        """One step was made; also ends what `slow` began."""
        now = time.monotonic()
        if self._stepping:  # else imports or a checkpoint would count as a part of the step
            SECONDS.pack_into(self._page, HEAD.size + SECONDS.size * (self._steps % STEPS), now - self._last)
            self._steps += 1
        self._stepping = True
        self._patience = 1.0 if self._steps else PATIENCE
        self._sign(now)

    def beat(self) -> None:
        """Something else went on, such as a batch of an evaluation; no part of the next step."""
        self._sign(time.monotonic())

    def slow(self) -> None:
        """No step is made for a while: more patience until the next one."""
        self._stepping, self._patience = False, PATIENCE
        self.beat()

    def _sign(self, now: float) -> None:
        self._last = now
        self._signs += 1
        HEAD.pack_into(self._page, 0, self._signs, self._steps, self._patience)


@contextmanager
def unwatched(attempt: Path) -> Iterator[Pulse]:
    """Run a stage that nobody watches."""
    yield Pulse()


class Watchdog:
    """The listener of this process and what they share; started with the first stage, so before heavy imports."""

    def __init__(self, *, floor_s: float, rank: int = 0, ranks: int = 1) -> None:
        """Prepare; `floor_s`: shortest silence that is a hang, seconds."""
        self._floor_s = floor_s
        self._place = rank, ranks
        self._listener: subprocess.Popen[bytes] | None = None
        self._shared = os.memfd_create("pulse")
        self._stacks = os.memfd_create("stacks")
        os.truncate(self._shared, PAGE_BYTES)
        self._page = mmap.mmap(self._shared, PAGE_BYTES)

    @contextmanager
    def watch(self, attempt: Path) -> Iterator[Pulse]:
        """Watch a stage whose attempt has this folder."""
        pulse = Pulse(self._page)
        self._tell({"attempt": str(attempt), "floor_s": self._floor_s, "schema_version": SCHEMA_VERSION})
        try:
            yield pulse
        finally:
            self._tell({})

    def close(self) -> None:
        """End the listener."""
        if self._listener is not None:
            self._listener.kill()
            self._listener.communicate()

    def _tell(self, stage: dict[str, object]) -> None:
        if self._listener is None:
            self._listener = self._start()
        assert self._listener.stdin is not None
        with suppress(BrokenPipeError):  # somebody killed it: the stage runs unwatched
            os.write(self._listener.stdin.fileno(), f"{json.dumps(stage)}\n".encode())

    def _start(self) -> subprocess.Popen[bytes]:
        """Start the listener, with every signal held back from its first instruction."""
        faulthandler.register(DUMP, file=self._stacks, all_threads=True)
        before = signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
        try:
            return subprocess.Popen(
                [sys.executable, "-I", "-S", listener.__file__, *map(str, (self._shared, self._stacks, *self._place))],
                stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, pass_fds=(self._shared, self._stacks), cwd="/",
            )
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)
