"""How long analysis takes on a large sweep: half of a trial's rows are evaluations.

    python -m benchmarks.analysis [--json] [--trials 10000] [--rows 200]
    python -m benchmarks.analysis --trials 1000 --profile report    # or again, load: where the time of a step goes

Writes a store as jobs write it, without fsync, into a temporary folder. Each step is then a process of its own, so that
its memory is its own and nothing is remembered but what lies on disk.

    plain, load           seconds without imports: `json.loads` of every line into a frame; the frames, everything kept
    load_speedup          how many times faster the second is
    report, again, same   the same of the whole report: nothing kept; one more trial finished; nothing new
    report_wall, again_wall, same_wall      the whole process, seconds
    report_cpu, again_cpu, same_cpu         its processor time, seconds
    report_peak_mb, again_peak_mb           its largest resident memory
    report_mb             size of report.html
    trials, rows          in the store
"""

from __future__ import annotations

import argparse
import cProfile
import hashlib
import json
import os
import pstats
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import pandas as pd

from benchmarks.report import show
from sweeps.language.manifest import PathStep, PlanFile, PlanTrial
from sweeps.store.files import encode_line, seal
from sweeps.store.layout import Layout

SEEDS, ARMS, END = 5, 20, 1_000_000
LARGE = "large"
SMALLEST = ("--trials", "200", "--rows", "4")


def main() -> None:
    """Print the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument("--trials", type=int, default=10_000)
    parser.add_argument("--rows", type=int, default=200, help="of each trial")
    parser.add_argument("--profile", choices=("report", "again", "load"), help="where the time of a step goes")
    parser.add_argument("--step", nargs=2, metavar=("STEP", "ROOT"), help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.step:
        sys.stdout.write(f"{step(given.step[0], Path(given.step[1]))}\n")
        return
    with tempfile.TemporaryDirectory() as folder:
        if given.profile:
            profile(Path(folder), given.trials, given.rows, given.profile)
        else:
            show(measure(Path(folder), given.trials, given.rows), as_json=given.json)


def measure(root: Path, trials: int, rows: int) -> dict[str, float]:
    """Write a store; return the figures of what is done with it."""
    last = write_store(root, trials, rows)
    plain = run("plain", root)
    found = {"trials": trials, "rows": trials * (rows + 1), "plain": plain["plain"], **run("report", root)}
    found["report_mb"] = (Layout(root).sweep(LARGE).report / "report.html").stat().st_size / 1e6
    last()
    found |= run("report", root, "again")
    same = run("report", root, "same")
    load = run("load", root)["load"]
    return found | {k: v for k, v in same.items() if k != "same_peak_mb"} | {
        "load": load, "load_speedup": plain["plain"] / load}


def profile(root: Path, trials: int, rows: int, name: str) -> None:
    """Print where the time of a step goes."""
    last = write_store(root, trials, rows)
    if name != "report":
        run("report", root)
        last()
    with cProfile.Profile() as found:
        step("report" if name == "again" else name, root)
    pstats.Stats(found).sort_stats("cumulative").print_stats(70)


def run(name: str, root: Path, named: str = "") -> dict[str, float]:
    """Do a step in a process of its own; return its figures."""
    start, named = time.perf_counter(), named or name
    child = subprocess.Popen([sys.executable, "-m", "benchmarks.analysis", "--step", name, str(root)],
                             stdout=subprocess.PIPE, text=True, cwd=Path(__file__).parent.parent)
    assert child.stdout is not None
    said = child.stdout.read()
    _, status, used = os.wait4(child.pid, 0)
    child.returncode = os.waitstatus_to_exitcode(status)
    if child.returncode:
        raise SystemExit(f"{named}: exit code {child.returncode}")
    return {named: float(said), f"{named}_wall": time.perf_counter() - start,
            f"{named}_cpu": used.ru_utime + used.ru_stime, f"{named}_peak_mb": used.ru_maxrss / 1e3}


def step(name: str, root: Path) -> float:
    """Do one step; return its seconds without its imports."""
    from analysis.load import load
    from analysis.tables import registry
    from orchestrator.reporting import write_report

    registry()
    work: dict[str, Callable[[], object]] = {
        "plain": lambda: naive(root), "load": lambda: load(root, LARGE),
        "report": lambda: write_report([Layout(root)], LARGE)}
    start = time.perf_counter()
    work[name]()
    return time.perf_counter() - start


def naive(root: Path) -> pd.DataFrame:
    """Return every row of every file as a frame, the way one would do it without this project."""
    return pd.json_normalize([json.loads(line) for path in root.glob("stages/*/*/attempts/*/metrics.jsonl")
                              for line in path.read_text(encoding="utf-8").splitlines()])


def write_store(root: Path, trials: int, rows: int) -> Callable[[], None]:
    """Write a plan and its records: each trial a trunk with `rows` rows (half of them training) and one end.

    Returns what finishes the last trial.
    """
    layout, planned = Layout(root), []
    for i in range(trials):
        seed, arm, domain = i % SEEDS, i // SEEDS % ARMS, i // (SEEDS * ARMS)
        path = (PathStep(role="trunk", kind="pretrain", fingerprint=f"{i:030x}aa", tokens=END - 10),
                PathStep(role="end", kind="pretrain", fingerprint=f"{i:030x}bb", tokens=END))
        planned.append(PlanTrial(
            id=f"t{i}", arm=f"arm {arm}" if arm else "scratch", cell=f"{arm}|{domain}",
            upstream="nca" if arm else "none", domain=f"d{domain}", seed=seed,
            pretrain_tokens=END, baseline=f"t{i - arm * SEEDS}", path=path,
            upstream_tokens=1000 if arm else 0, complexity=f"{arm}" if arm else "",
        ))
        loss = 4.0 + seed / 50 - arm / 500 + (i * 7919 % 1000) / 1e5
        _stage(layout, path[0], [
            (t * 1000, "validation" if t % 2 else "train", loss + 1 / (t + 1)) for t in range(rows)
        ])
        commit = _stage(layout, path[1], [(END, "end", loss)], path[0], committed=i < trials - 1)
    plan = PlanFile(name=LARGE, question="How long?", protocol="fair", scale="tiny", trials=tuple(planned), stages=())
    folder = layout.sweep(LARGE).plan
    folder.parent.mkdir(parents=True)
    folder.write_text(plan.model_dump_json(), encoding="utf-8")
    return commit


def _stage(
    layout: Layout, step: PathStep, rows: list[tuple[int, str, float]], parent: PathStep | None = None, *,
    committed: bool = True,
) -> Callable[[], None]:
    stage = layout.stage(step.kind, step.fingerprint)
    attempt = stage.attempt(1)
    attempt.path.mkdir(parents=True)
    text = "".join(encode_line(n, {"tokens": t, "kind": k, "values": {"loss": x, "bits_per_byte": x / 2}})
                   for n, (t, k, x) in enumerate(rows))
    attempt.metrics.write_text(text, encoding="utf-8")
    spec = seal({"schema_version": 1, "sections": {"optim": {"values": {"schedule": "wsd", "lr": 4e-3}}}})
    stage.spec.write_text(spec, encoding="utf-8")
    attempt.execution.write_text(seal({"schema_version": 1, "host": "benchmark"}), encoding="utf-8")
    if parent is not None:
        attempt.parent.write_text(seal({"schema_version": 1, "kind": parent.kind, "fingerprint": parent.fingerprint,
                                        "attempt": 1, "tokens": parent.tokens}), encoding="utf-8")
    listed = {"metrics.jsonl": {"size": len(text), "sha256": hashlib.sha256(text.encode()).hexdigest()}}
    result = seal({"schema_version": 1, "attempt": 1, "scores": {}, "files": listed, "status": "done", "seconds": 1.0})

    def commit() -> None:
        stage.result.write_text(result, encoding="utf-8")

    if committed:
        commit()
    return commit


if __name__ == "__main__":
    main()
