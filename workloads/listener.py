"""Listens to one rank of a job and ends it once it hangs: `python -I -S listener.py PAGE STACKS RANK RANKS`, its child.

A process of its own, because a thread stops with its process and waits with it for the interpreter lock. It imports
nothing of this project, so it starts in milliseconds and holds 10 MB. PAGE and STACKS are inherited descriptors: what
`workloads.watchdog` writes on every step, and where the rank's faulthandler leaves its stacks. Standard input brings a
JSON line for each stage that begins, `{}` where it is over; it closes when the rank is gone.

A hang: the stacks go into the job's log, the reason into the attempt's failure.json, and the rank is stopped. A tenth
of the limit and two looks later, in which the listeners of the other ranks have found the same, it is killed. Signals
to the job's group are not for this process: it is started with all of them held back.
"""

from __future__ import annotations

import json
import mmap
import os
import select
import signal
import struct
import sys
import time
from contextlib import suppress
from typing import Any

STEPS = 64
"""Steps whose median counts."""
HEAD = struct.Struct("@QQd")
"""The page begins with: signs of life, steps, patience (factor of the limit)."""
RING = struct.Struct(f"@{STEPS}d")
"""Then: seconds of the last steps."""
PAGE_BYTES = HEAD.size + RING.size
MEDIANS = 10.0
"""Median steps without a sign of life before a stage hangs, where that is longer than the floor."""
TICK_S = 1.0
"""Longest time between two looks at the page."""
DUMP_S = 3.0
"""Longest wait for the stacks: a process that waits for a disk answers no signal."""
DUMP = signal.SIGUSR1
STATES = {"R": "computing", "S": "waiting", "D": "waiting for a disk", "T": "stopped", "t": "stopped by a debugger"}
"""Words for the states of /proc/PID/stat."""


def median_step(page: mmap.mmap | bytes, steps: int) -> float:
    """Return the median of the last steps in seconds; 0: there is none."""
    recent = sorted(RING.unpack_from(page, HEAD.size)[:steps])
    return float(recent[len(recent) // 2]) if recent else 0.0


class Silence:
    """How long there has been no sign of life, as far as it was watched.

    Only time that this process saw pass counts: after both were suspended together nothing seems to hang.
    """

    def __init__(self, now: float) -> None:
        """Begin."""
        self._signs = -1
        self._looked = now
        self.seconds = 0.0

    def look(self, signs: int, now: float, tick_s: float) -> None:
        """Note a look at the page, `tick_s` seconds after the one before unless something held this process up."""
        seen, self._looked = min(now - self._looked, 2 * tick_s), now
        self.seconds = self.seconds + seen if signs == self._signs else 0.0
        self._signs = signs


class Listener:
    """Watches the stages of one rank, one after another."""

    def __init__(self, page: mmap.mmap, stacks: int, rank: int, ranks: int) -> None:
        """Watch nothing yet."""
        self.page = page
        self.stacks = stacks
        self.rank = rank
        self.ranks = ranks
        self.parent = os.getppid()
        self.stage: dict[str, Any] = {}
        self._text = b""

    def run(self) -> None:
        """Listen until the rank is gone, or has hung."""
        silence, tick_s = Silence(time.monotonic()), TICK_S
        while os.getppid() == self.parent:
            if select.select([0], [], [], tick_s)[0]:
                if not self._read():
                    return
                silence = Silence(time.monotonic())
            if not self.stage:
                tick_s = TICK_S
                continue
            signs, steps, patience = HEAD.unpack_from(self.page)
            median_s = median_step(self.page, steps)
            limit_s = max(MEDIANS * median_s, self.stage["floor_s"]) * patience
            silence.look(signs, time.monotonic(), tick_s)
            if silence.seconds > limit_s:
                self._end(silence.seconds, limit_s, median_s)
                return
            tick_s = min(TICK_S, limit_s / 10)

    def _read(self) -> bool:
        """Take the newest line about a stage; False where the rank is gone."""
        data = os.read(0, 65_536)
        *lines, self._text = (self._text + data).split(b"\n")
        if lines:
            self.stage = json.loads(lines[-1])
        return bool(data)

    def _end(self, silent_s: float, limit_s: float, median_s: float) -> None:
        """Say what hangs and where, then kill it."""
        usual = f"its median step takes {median_s:.3g} s" if median_s else "it had made no step"
        message = (f"rank {self.rank} of {self.ranks} showed no sign of life for {silent_s:.1f} s (limit {limit_s:.1f} "
                   f"s, {usual}); its process was {self._state()}")
        stacks = self._dump()
        with suppress(OSError):  # a log on a full disk
            os.write(2, f"hang: {message}\n{stacks}\n".encode(errors="backslashreplace"))
        with suppress(OSError):
            self._note(message, stacks.splitlines())
        if self.ranks > 1:  # the others made their last step within one step of this one
            time.sleep(limit_s / 10 + 2 * TICK_S)
        self._kill()

    def _signal(self, number: signal.Signals) -> None:
        if os.getppid() == self.parent:  # else it is gone, and its id may be another's
            os.kill(self.parent, number)

    def _kill(self) -> None:
        """Kill the rank, with what it started where it leads a process group; this process belongs to that."""
        if os.getppid() == self.parent == os.getpgid(self.parent):
            os.killpg(self.parent, signal.SIGKILL)
        self._signal(signal.SIGKILL)

    def _state(self) -> str:
        with open(f"/proc/{self.parent}/stat", encoding="utf-8", errors="replace") as stat:  # noqa: PTH123 - light
            word = stat.read().rpartition(")")[2].split()[0]
        return STATES.get(word, word)

    def _dump(self) -> str:
        """Return the rank's stacks; a stopped process is continued for it."""
        self._signal(DUMP)
        self._signal(signal.SIGCONT)
        size, until = -1, time.monotonic() + DUMP_S
        while (now := os.fstat(self.stacks).st_size) != size or not now:
            if time.monotonic() > until:
                break
            size = now
            time.sleep(0.1)
        self._signal(signal.SIGSTOP)  # the signal may have woken it: it is not to go on
        found = os.pread(self.stacks, now, 0).decode(errors="backslashreplace")
        return found or f"no stacks: the process did not answer in {DUMP_S:.0f} s"

    def _note(self, message: str, stacks: list[str]) -> None:
        """Leave failure.json in the attempt; where another rank's is there already, failure.RANK.json."""
        text = json.dumps({
            "class": "HangError", "message": message, "traceback": stacks, "schema_version":
            self.stage["schema_version"], "time": time.strftime("%Y-%m-%dT%H:%M:%S+00:00", time.gmtime()),
        }, sort_keys=True)
        attempt = str(self.stage["attempt"])
        temporary = os.path.join(attempt, f".failure.json.hang{self.rank:04d}")  # noqa: PTH118 - light
        handle = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666)
        try:
            os.write(handle, text.encode())
            os.fsync(handle)
            os.close(handle)
            for name in ("failure.json", f"failure.{self.rank}.json"):
                with suppress(FileExistsError):
                    os.link(temporary, os.path.join(attempt, name))  # noqa: PTH118
                    return
        finally:
            os.unlink(temporary)  # noqa: PTH108


def main() -> None:
    """Listen to the parent."""
    page, stacks, rank, ranks = map(int, sys.argv[1:])
    Listener(mmap.mmap(page, PAGE_BYTES, access=mmap.ACCESS_READ), stacks, rank, ranks).run()
    os._exit(0)


if __name__ == "__main__":
    main()
