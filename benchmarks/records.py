"""What durability costs per stage: a claim, a ledger event, an attempt with its result; against one bare fsynced file.

    python -m benchmarks.records [--json] [--stages 300] [--runs 5] [--folder DIR]

Milliseconds of one call, medians over runs.

    bare_file_ms           the alternative: a new file written and synced
    claim_ms               a claim
    ledger_event_ms        an event in the ledger
    attempt_and_result_ms  an attempt with a row and a result
    claim_over_bare        ratio of the first two, within each run
"""

from __future__ import annotations

import argparse
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from benchmarks.report import show
from sweeps.store import claims
from sweeps.store.layout import Layout
from sweeps.store.ledger import begin_term
from sweeps.store.records import open_attempt

SMALLEST = ("--stages", "3", "--runs", "1")


def per_call_ms(action: Callable[[int], object], calls: int) -> float:
    """Return milliseconds of one call."""
    began = time.perf_counter()
    for number in range(calls):
        action(number)
    return (time.perf_counter() - began) / calls * 1e3


def bare(folder: Path) -> Callable[[int], object]:
    """Return the alternative: write one new file and fsync it, nothing else."""
    def action(number: int) -> None:
        with (folder / f"bare-{number}").open("w", encoding="utf-8") as out:
            out.write("x" * 200)
            out.flush()
            os.fsync(out.fileno())

    return action


def once(folder: Path, stages: int) -> dict[str, float]:
    """Measure each kind of record once."""
    layout = Layout(folder)
    ledger, _ = begin_term(layout.sweep("s"))

    def stage(number: int) -> object:
        found = open_attempt(layout.stage("pretrain", f"{number:032x}"), {"host": "h", "pid": 1})
        found.row(tokens=1, kind="end", values={"loss": 1.0})
        found.commit({"loss": 1.0})
        found.close()
        return found

    measured = {
        "bare_file_ms": per_call_ms(bare(folder), stages),
        "claim_ms": per_call_ms(lambda n: claims.take(layout.stage("pretrain", f"{n:032x}"), sweep="s", term=1,
                                                      submission="s-1", after=0), stages),
        "ledger_event_ms": per_call_ms(lambda n: ledger.append("done", fingerprints=[f"{n:032x}"]), stages),
        "attempt_and_result_ms": per_call_ms(stage, stages),
    }
    ledger.close()
    return measured


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument("--stages", type=int, default=300)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--folder", type=Path, help="on the filesystem in question (default: the temporary folder)")
    arguments = parser.parse_args()
    runs = []
    for _ in range(arguments.runs):
        with tempfile.TemporaryDirectory(dir=arguments.folder) as folder:
            runs.append(once(Path(folder), arguments.stages))
    figures = {name: statistics.median(run[name] for run in runs) for name in runs[0]}
    figures["claim_over_bare"] = statistics.median(run["claim_ms"] / run["bare_file_ms"] for run in runs)
    show(figures, as_json=arguments.json)


if __name__ == "__main__":
    main()
