"""Simulated jobs in processes of their own, as real ones have: `python -m cluster.executors._simulate`.

A worker reads a ticket's path per line of its standard input and answers with how the job ended. It ends when that
closes, so none outlives its controller. A controller that also wrote its jobs' records itself would measure neither.
"""

from __future__ import annotations

import os
import queue
import subprocess
import sys
import weakref
from pathlib import Path


class Workers:
    """A few workers, started when first needed; thread-safe."""

    def __init__(self, count: int) -> None:
        """Have at most `count`, and no more than there are cores."""
        self._idle: queue.SimpleQueue[subprocess.Popen[str] | None] = queue.SimpleQueue()
        for _ in range(min(count, len(os.sched_getaffinity(0)))):
            self._idle.put(None)
        self._started: list[subprocess.Popen[str]] = []
        weakref.finalize(self, _end, self._started)

    def run(self, ticket: Path) -> str:
        """Run a job to its end; return how it ended."""
        worker = self._idle.get() or self._start()
        assert worker.stdin is not None and worker.stdout is not None
        try:
            worker.stdin.write(f"{os.fsencode(ticket).hex()}\n")
            worker.stdin.flush()
            detail = worker.stdout.readline().rstrip("\n")
        except BrokenPipeError:
            detail = ""
        if not detail:
            self._started.remove(worker)
            _end([worker])
            detail = f"killed by signal {-min(worker.returncode, 0)}"
        self._idle.put(worker if worker.returncode is None else None)
        return detail

    def _start(self) -> subprocess.Popen[str]:
        worker = subprocess.Popen([sys.executable, "-P", "-m", __name__], stdin=subprocess.PIPE,
                                  stdout=subprocess.PIPE, text=True, start_new_session=True)
        self._started.append(worker)
        return worker


def _end(workers: list[subprocess.Popen[str]]) -> None:
    for worker in workers:
        worker.kill()
        worker.communicate()


def main() -> None:
    """Serve until standard input closes."""
    from cluster.executors.memory import Process, never

    os.umask(0o077)
    for line in sys.stdin:
        detail = Process(Path(os.fsdecode(bytes.fromhex(line))), never, saves=False).finish()
        sys.stdout.write(f"{detail}\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
