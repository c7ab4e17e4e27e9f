"""The report is rebuilt while a sweep runs: by `orchestrator report` in a process of its own that nobody depends on.

It has the lowest priority, is the first that a machine short of memory ends, and is killed when the sweep ends; whether
it worked is not asked. It rests twenty times as long as it took. Inside a Slurm job none is started: what the
kernel ends there for want of memory would end the job as failed. A person runs `orchestrator report` instead.
"""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from sweeps.store.layout import Layout

EVERY_SECONDS = 600.0
RESTS = 20
"""At least this many times as long as the last report took, so that large sweeps spend no more on it."""


@contextmanager
def rebuilding(layout: Layout, name: str) -> Iterator[None]:
    """Rebuild a sweep's report from time to time while the block runs."""
    if "SLURM_JOB_ID" in os.environ:
        yield
        return
    over = threading.Event()
    thread = threading.Thread(target=_rebuild, args=(command(layout, name), over), name="report", daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def command(layout: Layout, name: str) -> list[str]:
    """Return the command that rebuilds the report."""
    return ["nice", "-n", "19", sys.executable, "-m", "orchestrator", "report", name, "--root", str(layout.root)]


def _rebuild(report: list[str], over: threading.Event) -> None:
    rest = EVERY_SECONDS
    while not over.wait(rest):
        began = time.monotonic()
        with suppress(OSError):  # no room for another process: the next one may have it
            child = subprocess.Popen(report, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                                     stderr=subprocess.DEVNULL)
            try:
                with suppress(OSError):  # it has ended already, or this system has no such file
                    Path(f"/proc/{child.pid}/oom_score_adj").write_text("1000", encoding="ascii")
                while child.poll() is None and not over.wait(0.2):
                    pass
            finally:
                child.kill()
                child.wait()
        rest = max(EVERY_SECONDS, RESTS * (time.monotonic() - began))
