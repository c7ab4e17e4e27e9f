"""How long the verbs take: `--help`, `status`, planning a 10,000-trial grid, and an all-reused rerun.

    python -m benchmarks.cli [--json] [--runs 5] [--seeds 477] [--store ROOT]

Each figure is the median of fresh processes. The alternative in the same run is a bare interpreter that imports
pydantic, the least that a verb can cost. `--store` names a store in which sweeps/complexity_by_domain.yaml is complete;
`status_full_s` and `rerun_all_reused_s` are then measured too.

    bare_import_s                   the alternative, seconds
    help_s, status_empty_s          `--help`, and `status` on an empty store
    help_ratio, status_empty_ratio  over the alternative
    plan_s                          planning the sweep as it is shipped: 63 trials
    plan_large_s, plan_large_mb     planning it with `--seeds`: 21 trials a seed, so 10,017; peak memory
    plan_large_trials               how many they are
"""

from __future__ import annotations

import argparse
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from benchmarks.report import show

SWEEP = Path(__file__).parent.parent / "sweeps" / "complexity_by_domain.yaml"
TRIALS_A_SEED = 21
SMALLEST = ("--runs", "1", "--seeds", "4")


def seconds(argv: list[str], runs: int) -> float:
    """Return the median wall seconds of fresh processes."""
    found = []
    for _ in range(runs):
        began = time.perf_counter()
        subprocess.run([sys.executable, *argv], check=True, capture_output=True)
        found.append(time.perf_counter() - began)
    return statistics.median(found)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument("--runs", type=int, default=5, help="of which the median counts")
    parser.add_argument("--seeds", type=int, default=477, help="of the large plan")
    parser.add_argument("--store", type=Path)
    arguments = parser.parse_args()
    verb, runs = ["-m", "orchestrator"], arguments.runs
    with tempfile.TemporaryDirectory() as empty:
        plan = [*verb, "plan", str(SWEEP), "--no-pilot", "--root", empty]
        figures = {
            "bare_import_s": seconds(["-c", "import pydantic"], runs),
            "help_s": seconds([*verb, "--help"], runs),
            "status_empty_s": seconds([*verb, "status", "--root", empty], runs),
            "plan_s": seconds(plan, runs),
            "plan_large_s": seconds([*plan, "--seeds", str(arguments.seeds)], runs),
            "plan_large_mb": resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024,
            "plan_large_trials": arguments.seeds * TRIALS_A_SEED,
        }
    if arguments.store:
        root = ["--root", str(arguments.store)]
        figures["status_full_s"] = seconds([*verb, "status", *root], runs)
        figures["rerun_all_reused_s"] = seconds([*verb, "sweep", str(SWEEP), "--quiet", *root], runs)
    for name in ("help", "status_empty"):
        figures[f"{name}_ratio"] = figures[f"{name}_s"] / figures["bare_import_s"]
    show(figures, as_json=arguments.json)


if __name__ == "__main__":
    main()
