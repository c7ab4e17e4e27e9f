"""How long analysis takes on a large sweep: 10,000 trials with 200 rows each, by default.

    python -m benchmarks.analysis [trials] [rows]

Writes a store without fsync into a temporary folder (once), then times loading, tables and the terminal's text.
"""

from __future__ import annotations

import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from analysis.load import load
from analysis.study import Study
from analysis.table import write
from analysis.tables import registry
from analysis.terminal import text_of
from sweeps.language.manifest import PathStep, PlanFile, PlanTrial
from sweeps.store.files import encode_line, to_json
from sweeps.store.layout import Layout

T = TypeVar("T")
SEEDS, ARMS, END = 5, 20, 1_000_000


def main(trials: int = 10_000, rows: int = 200) -> None:
    """Time the parts and say so."""
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        timed("write", lambda: write_store(root, trials, rows))
        records = timed("load", lambda: load(root, "large"))
        study = Study(records)
        timed("pairs", lambda: study.pairs)
        timed("tables", lambda: write(registry(), study, root / "out"))
        timed("terminal", lambda: text_of(study))
        sys.stdout.write(f"{len(records.curves):,} evaluations of {len(records.trials):,} trials\n")


def timed(label: str, work: Callable[[], T]) -> T:
    """Run `work`, say how long it took, return its value."""
    start = time.perf_counter()
    value = work()
    sys.stdout.write(f"{label:10} {time.perf_counter() - start:7.2f} s\n")
    return value


def write_store(root: Path, trials: int, rows: int) -> None:
    """Write a plan and its records: each trial a trunk with `rows` rows (half of them training) and one end."""
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
        _stage(layout, path[1], [(END, "end", loss)])
    plan = PlanFile(name="large", question="How long?", protocol="fair", scale="tiny", trials=tuple(planned), stages=())
    folder = layout.sweep("large").plan
    folder.parent.mkdir(parents=True)
    folder.write_text(plan.model_dump_json(), encoding="utf-8")


def _stage(layout: Layout, step: PathStep, rows: list[tuple[int, str, float]]) -> None:
    stage = layout.stage(step.kind, step.fingerprint)
    stage.attempt(1).path.mkdir(parents=True)
    stage.attempt(1).metrics.write_text("".join(
        encode_line(n, {"tokens": t, "kind": k, "values": {"loss": x, "bits_per_byte": x / 2}})
        for n, (t, k, x) in enumerate(rows)), encoding="utf-8")
    result = {"schema_version": 1, "attempt": 1, "scores": {}, "files": {}, "status": "done", "seconds": 1.0}
    stage.result.write_text(to_json(result), encoding="utf-8")


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
