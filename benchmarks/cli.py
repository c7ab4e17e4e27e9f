"""How long the verbs take: `--help`, `status`, planning a 10,000-trial grid, and an all-reused rerun.

    python benchmarks/cli.py [--json] [--store ROOT]

Each figure is the median of `RUNS` fresh processes. The alternative in the same run is a bare interpreter that imports
pydantic, the least that a verb can cost. `--store` names a store in which sweeps/complexity_by_domain.yaml is complete.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

RUNS = 5
SWEEP = Path(__file__).parent.parent / "sweeps" / "complexity_by_domain.yaml"
SEEDS_FOR_10_000 = 477


def seconds(argv: list[str], runs: int = RUNS) -> float:
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
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--store", type=Path)
    arguments = parser.parse_args()
    verb = ["-m", "orchestrator"]
    with tempfile.TemporaryDirectory() as empty:
        grid = [*verb, "plan", str(SWEEP), "--seeds", str(SEEDS_FOR_10_000), "--no-pilot", "--root", empty]
        figures = {
            "machine": f"{platform.platform()}, {os.cpu_count()} cores, Python {platform.python_version()}",
            "bare_import_s": seconds(["-c", "import pydantic"]),
            "help_s": seconds([*verb, "--help"]),
            "status_empty_s": seconds([*verb, "status", "--root", empty]),
            "plan_63_trials_s": seconds([*verb, "plan", str(SWEEP), "--no-pilot", "--root", empty]),
            "plan_10017_trials_s": seconds(grid, 3),
            "plan_10017_peak_mb": resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024,
        }
    if arguments.store:
        root = ["--root", str(arguments.store)]
        figures["status_full_s"] = seconds([*verb, "status", *root])
        figures["rerun_all_reused_s"] = seconds([*verb, "sweep", str(SWEEP), "--quiet", *root], 3)
    for name in ("help_s", "status_empty_s"):
        figures[name.replace("_s", "_ratio")] = float(figures[name]) / float(figures["bare_import_s"])  # type: ignore[arg-type]
    if arguments.json:
        print(json.dumps({"schema_version": 1, **figures}, indent=2))
    else:
        for name, value in figures.items():
            print(f"{name:<24}{value if isinstance(value, str) else format(value, '.3f')}")


if __name__ == "__main__":
    main()
