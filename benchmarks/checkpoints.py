"""Checkpoints of training: how long training stands still, megabytes per second, the time from a kill to the next
update, and peak memory.

    python -m benchmarks.checkpoints [--json] [--runs 3] [--scales tiny 10m] [--zero 0 1 2 3]

For each scale and ZeRO stage, `runs` times: a process trains two updates, waits for a checkpoint and is killed,
and a second one, started at once, goes on from the checkpoint and is killed after its first update. Then two more make
five checkpoints each while they train on (`run.checkpoint_async`): one may use all cores, so that writing takes none
of training's, the other a single one, as where every core trains. fp32, one rank on one thread, one sequence an
update: memory is mostly parameters, gradients and Adam's state. With one rank ZeRO has nothing to share out, so its
stages differ by what they keep twice. Medians over runs.

    checkpoint_mb         size of all its files
    write_seconds         training waits: from the last update to its commit: written, synced, listed in a manifest
    write_mb_per_second   of that
    stall_seconds         training goes on: how long it stands still for the copy
    commit_seconds        from the same moment to the commit
    slower_while_writing  an update while a checkpoint is written over one while none is; 1: it costs nothing
    lost_seconds          by which a checkpoint delays training in all: stall, and what the updates beside it take more
    one_core_*            the same four on a single core
    load_seconds          from the open files to the engine's state
    load_mb_per_second    of that; the files were just written, so they come from the system's cache
    resume_seconds        from the kill to the end of the first new update: start, imports, checks, load, one update
    imported_mb           resident memory after the imports, before there is a model
    peak_mb               largest resident memory of the first process
    behind_peak_mb        of the third, which has copied its state
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
from collections.abc import Iterator
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
BETWEEN, CHECKPOINTS = 12, 5
"""Updates from one to the next, and their number, where training goes on."""
MODES = "waiting", "behind", "one_core"
BEHIND = "stall_seconds", "commit_seconds", "slower_while_writing", "lost_seconds"


def child(scale: str, zero: int, root: Path, mode: str) -> None:
    """Train a scale from its beginning or its checkpoint until killed; print what happens, a JSON line each."""
    from benchmarks.stage import NEVER, Context, RandomCorpus, sections, timed, train
    from sweeps.language.stage import Execution
    from sweeps.store import records
    from sweeps.store.layout import Layout
    from workloads.training import checkpoints
    from workloads.training.saving import Saver
    from workloads.watchdog import Pulse

    began = last = time.monotonic()
    writing = False

    def tell(what: str, **figures: float) -> None:
        print(json.dumps({"what": what, **figures}), flush=True)

    def save(self: Saver, *given: Any, **named: Any) -> None:
        nonlocal began, last, writing
        began, writing = time.monotonic(), True
        plain_save(self, *given, **named)
        last = time.monotonic()
        tell("stalled", seconds=last - began)

    def go_on(self: Saver, busy: bool, failed: bool, hangs: bool = False) -> None:
        nonlocal last, writing
        plain_go_on(self, busy, failed, hangs)
        if writing and not self.underway:
            writing, seconds = False, time.monotonic() - began
            folder = records.checkpoints(context.attempt.stage)[0].folder
            tell("saved", seconds=seconds, mb=sum(p.stat().st_size for p in folder.rglob("*") if p.is_file()) / 1e6)
            last = time.monotonic()

    class Told(Pulse):
        def step(self) -> None:
            nonlocal last
            super().step()
            now = time.monotonic()
            tell("update", seconds=now - last, writing=writing)
            last = now

    tell("imported", mb=_resident_mb())
    plain_save, plain_go_on = Saver.save, Saver.go_on
    Saver.save, Saver.go_on = save, go_on  # type: ignore[method-assign]
    checkpoints.load = timed(checkpoints.load, lambda seconds: tell("loaded", seconds=seconds))
    science = sections(scale, batch_sequences=1, updates=NEVER)
    length = science["model"].sequence_length
    points = [UPDATES] if mode == "waiting" else [(1 + n) * BETWEEN for n in range(CHECKPOINTS)]
    if mode == "one_core":
        os.sched_setaffinity(0, [min(os.sched_getaffinity(0))])
    context = Context(Layout(root), "child", science, pulse=Told(), execution=Execution(
        checkpoint_seconds=NEVER, keep_at_tokens=tuple(n * length for n in points), zero_stage=zero,
        checkpoint_async=mode != "waiting"))
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

    def said(self) -> Iterator[tuple[str, dict[str, float]]]:
        """Yield what it says, as it says it."""
        assert self._run.stdout is not None
        for line in self._run.stdout:
            if line.startswith('{"what"'):
                said = json.loads(line)
                yield said.pop("what"), said

    def until(self, what: str) -> dict[str, float]:
        """Wait until it says so.

        Raises:
            RuntimeError: it ended before.
        """
        for name, figures in self.said():
            if name == what:
                return figures
        raise RuntimeError(f"the process ended before it said {what!r}")

    def close(self) -> None:
        """Kill it; its peak of resident memory is known then."""
        assert self._run.stdout is not None
        self._run.kill()
        _, self._run.returncode, used = os.wait4(self._run.pid, 0)
        self._run.stdout.close()
        self.peak_mb = used.ru_maxrss * 1024 / 1e6


def behind(scale: str, zero: int, folder: str, mode: str) -> dict[str, float]:
    """Return the figures of a process that trains on while it writes."""
    found: dict[str, list[float]] = {"stalled": [], "saved": [], "writing": [], "plain": []}
    with closing(Process(scale, str(zero), folder, mode)) as process:
        for name, figures in process.said():
            kind = name if name != "update" else "writing" if figures["writing"] else "plain"
            if kind in found:
                found[kind].append(figures["seconds"])
            if len(found["saved"]) == CHECKPOINTS:
                break
    stall, commit, writing, plain = (statistics.median(found[k]) for k in found)
    slowed = statistics.fmean(found["writing"]) / plain - 1
    return {"stall_seconds": stall, "commit_seconds": commit, "slower_while_writing": writing / plain,
            "lost_seconds": stall + slowed * plain * len(found["writing"]) / CHECKPOINTS, "peak_mb": process.peak_mb}


def once(scale: str, zero: int, folder: str) -> dict[str, float]:
    """Return the figures of one kill, and of training on."""
    own = str(zero), str(Path(folder) / "waiting"), "waiting"
    with closing(Process(scale, *own)) as first:
        imported, saved = first.until("imported"), first.until("saved")
    began = time.monotonic()
    with closing(Process(scale, *own)) as second:
        loaded = second.until("loaded")
        second.until("update")
        resumed = time.monotonic() - began
    free, one_core = (behind(scale, zero, str(Path(folder) / mode), mode) for mode in MODES[1:])
    return {
        "checkpoint_mb": saved["mb"],
        "write_seconds": saved["seconds"], "write_mb_per_second": saved["mb"] / saved["seconds"],
        **{name: free[name] for name in BEHIND}, **{f"one_core_{name}": one_core[name] for name in BEHIND},
        "load_seconds": loaded["seconds"], "load_mb_per_second": saved["mb"] / loaded["seconds"],
        "resume_seconds": resumed, "imported_mb": imported["mb"],
        "peak_mb": first.peak_mb, "behind_peak_mb": free["peak_mb"], "resumed_peak_mb": second.peak_mb,
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
        child(sys.argv[2], int(sys.argv[3]), Path(sys.argv[4]), sys.argv[5])
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
