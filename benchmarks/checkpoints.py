"""Checkpoints of training: megabytes per second, the time from a kill to the next update, and peak memory.

    python -m benchmarks.checkpoints [--json] [--runs 3] [--scales tiny 10m] [--zero 0 1 2 3]

For each scale and ZeRO stage, `runs` times: a process trains two updates, writes a checkpoint and is killed,
and a second one, started at once, goes on from the checkpoint and is killed after its first update. fp32, one rank on
one thread, one sequence an update: memory is mostly parameters, gradients and Adam's state. With one rank ZeRO has
nothing to share out, so its stages differ by what they keep twice. Medians over runs.

    checkpoint_mb         size of all its files
    write_seconds         from the last update to its commit: written, synced, listed in a manifest
    write_mb_per_second   of that
    load_seconds          from the open files to the engine's state
    load_mb_per_second    of that; the files were just written, so they come from the system's cache
    resume_seconds        from the kill to the end of the first new update: start, imports, checks, load, one update
    imported_mb           resident memory after the imports, before there is a model
    peak_mb               largest resident memory of the first process
    resumed_peak_mb       of the second one
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from contextlib import closing
from pathlib import Path
from typing import Any

from benchmarks.report import show
from sweeps.language.presets import SCALES

SMALLEST = ("--runs", "1", "--scales", "tiny", "--zero", "0")
CHILD = "child"
"""First argument of the processes that train."""
UPDATES = 2
"""Updates before the checkpoint."""


def child(scale: str, zero: int, root: Path) -> None:
    """Train a scale from its beginning or its checkpoint until killed; print what happens, a JSON line each."""
    from benchmarks.stage import NEVER, Context, RandomCorpus, sections, timed, train
    from sweeps.language.stage import Execution
    from sweeps.store import records
    from sweeps.store.layout import Layout
    from workloads.training import checkpoints
    from workloads.watchdog import Pulse

    def tell(what: str, **figures: float) -> None:
        print(json.dumps({"what": what, **figures}), flush=True)

    def saved(seconds: float) -> None:
        folder = records.checkpoints(context.attempt.stage)[0].folder
        tell("saved", seconds=seconds, mb=sum(p.stat().st_size for p in folder.rglob("*") if p.is_file()) / 1e6)

    class Told(Pulse):
        def step(self) -> None:
            super().step()
            tell("update")

    tell("imported", mb=_resident_mb())
    checkpoints.save = timed(checkpoints.save, saved)
    checkpoints.load = timed(checkpoints.load, lambda seconds: tell("loaded", seconds=seconds))
    science = sections(scale, batch_sequences=1, updates=NEVER)
    length = science["model"].sequence_length
    context = Context(Layout(root), "child", science, pulse=Told(), execution=Execution(
        checkpoint_seconds=NEVER, keep_at_tokens=(UPDATES * length,), zero_stage=zero))
    train(context, RandomCorpus(SCALES[scale].vocabulary, length))


def _resident_mb() -> float:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


class Process:
    """A child and what it says."""

    def __init__(self, *arguments: str) -> None:
        """Start it."""
        self._run = subprocess.Popen([sys.executable, "-m", "benchmarks.checkpoints", CHILD, *arguments],
                                     stdout=subprocess.PIPE, text=True)
        self.peak_mb = 0.0

    def until(self, what: str) -> dict[str, float]:
        """Wait until it says so.

        Raises:
            RuntimeError: it ended before.
        """
        assert self._run.stdout is not None
        for line in self._run.stdout:
            if line.startswith('{"what"') and (said := json.loads(line)).pop("what") == what:
                return dict(said)
        raise RuntimeError(f"the process ended before it said {what!r}")

    def close(self) -> None:
        """Kill it; its peak of resident memory is known then."""
        assert self._run.stdout is not None
        self._run.kill()
        _, self._run.returncode, used = os.wait4(self._run.pid, 0)
        self._run.stdout.close()
        self.peak_mb = used.ru_maxrss * 1024 / 1e6


def once(scale: str, zero: int, folder: str) -> dict[str, float]:
    """Return the figures of one kill."""
    with closing(Process(scale, str(zero), folder)) as first:
        imported, saved = first.until("imported"), first.until("saved")
    began = time.monotonic()
    with closing(Process(scale, str(zero), folder)) as second:
        loaded = second.until("loaded")
        second.until("update")
        resumed = time.monotonic() - began
    return {
        "checkpoint_mb": saved["mb"],
        "write_seconds": saved["seconds"], "write_mb_per_second": saved["mb"] / saved["seconds"],
        "load_seconds": loaded["seconds"], "load_mb_per_second": saved["mb"] / loaded["seconds"],
        "resume_seconds": resumed, "imported_mb": imported["mb"],
        "peak_mb": first.peak_mb, "resumed_peak_mb": second.peak_mb,
    }


def measure(scale: str, zero: int, runs: int) -> dict[str, float]:
    """Return the medians of a scale and ZeRO stage."""
    found = []
    for _ in range(runs):
        with tempfile.TemporaryDirectory() as folder:
            found.append(once(scale, zero, folder))
    return {name: statistics.median(one[name] for one in found) for name in found[0]}


def main() -> None:
    """Print the figures."""
    if sys.argv[1:2] == [CHILD]:
        child(sys.argv[2], int(sys.argv[3]), Path(sys.argv[4]))
        return
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--scales", nargs="+", default=["tiny", "10m"], choices=SCALES)
    parser.add_argument("--zero", nargs="+", type=int, default=[0, 1, 2, 3], choices=range(4))
    given = parser.parse_args()
    figures: dict[str, Any] = {
        f"{scale} ZeRO {zero}": measure(scale, zero, given.runs) for scale in given.scales for zero in given.zero}
    show(figures, as_json=given.json)


if __name__ == "__main__":
    main()
