"""What durability costs per stage: a claim, a ledger event, an attempt with its result; against one bare fsynced file.

    python benchmarks/records.py [--json] [--stages 300] [--runs 5] [--folder DIR]
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from sweeps.store import claims
from sweeps.store.layout import Layout
from sweeps.store.ledger import begin_term
from sweeps.store.records import open_attempt


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
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--stages", type=int, default=300)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--folder", type=Path, help="on the filesystem in question (default: the temporary folder)")
    arguments = parser.parse_args()
    runs = []
    for _ in range(arguments.runs):
        with tempfile.TemporaryDirectory(dir=arguments.folder) as folder:
            runs.append(once(Path(folder), arguments.stages))
    figures: dict[str, float | str] = {name: statistics.median(r[name] for r in runs) for name in runs[0]}
    figures["claim_over_bare"] = statistics.median(r["claim_ms"] / r["bare_file_ms"] for r in runs)
    figures["machine"] = f"{platform.platform()}, {os.cpu_count()} cores, Python {platform.python_version()}"
    if arguments.json:
        print(json.dumps({"schema_version": 1, **figures}, indent=2))
    else:
        for name, value in figures.items():
            print(f"{name:<24}{value if isinstance(value, str) else format(value, '.3f')}")


if __name__ == "__main__":
    main()
