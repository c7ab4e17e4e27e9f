"""How fast the NCA generator is: `python -m benchmarks.generator [--json] [--repeats 3]`, about half a minute.

Tokens per second (burn-in included) with 1 and 2 threads, the ratio to plain NumPy code for the same work
(`naive_nca.py`) on one thread, and seconds per 1,000 accepted rules in the four raw bands of the paper.
All at the defaults: n = 10, 12 x 12, sequences of 1,024 tokens.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import naive_nca
from workloads.upstreams.nca.backend import fastest
from workloads.upstreams.nca.bank import Search, find_rules
from workloads.upstreams.nca.open_bank import RuleBank
from workloads.upstreams.nca.science import NcaBankScience, NcaScience, bank_fields
from workloads.upstreams.nca.source import NcaSource

LENGTH, SEQUENCES, NAIVE_SEQUENCES, RULES = 1024, 512, 8, 100
BANDS = ("20-30", "30-40", "40-50", "50-100")


def median_seconds(work: Callable[[int], object], repeats: int) -> float:
    """Return the median time of `work(0)`, `work(1)`, ..."""
    times = []
    for number in range(repeats):
        start = time.perf_counter()
        work(number)
        times.append(time.perf_counter() - start)
    return statistics.median(times)


def machine() -> str:
    """Name processor, cores, system and Python."""
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text().splitlines() if cpuinfo.exists() else []
    model = next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), "")
    return f"{model or platform.processor()}, {os.cpu_count()} cores, {platform.system()}, " \
           f"Python {platform.python_version()}, NumPy {np.__version__}"


def source() -> NcaSource:
    """Return sequences of accepted rules, held in memory."""
    science = NcaScience()
    block = find_rules(Search(bank=bank_fields(science), seed=0, stream="train"), 0, SEQUENCES, lambda _: False)
    bank = RuleBank(starts=np.array([0, SEQUENCES]), blocks=(block.rules,))
    return NcaSource(science, bank, seed=0, stream="train", sequence_length=LENGTH)


def tokens_per_second(made: NcaSource, threads: int, repeats: int) -> float:
    """Measure all sequences of `made`."""
    made.threads = threads
    made.sequences(np.arange(64))
    return SEQUENCES * LENGTH / median_seconds(lambda _: made.sequences(np.arange(SEQUENCES)), repeats)


def naive_tokens_per_second(repeats: int) -> float:
    """Measure the plain version."""
    bank = NcaBankScience()

    def work(number: int) -> None:
        for i in range(NAIVE_SEQUENCES):
            naive_nca.sequence(bank, LENGTH, number * NAIVE_SEQUENCES + i)

    return NAIVE_SEQUENCES * LENGTH / median_seconds(work, repeats)


def seconds_per_1000_rules(band: str, repeats: int) -> float:
    """Measure the search for rules of one raw band, one thread."""
    bank = NcaBankScience.model_validate({"complexity": {"band": band, "scale": "raw"}})
    search = Search(bank=bank, seed=0, stream="train")
    return 1000 / RULES * median_seconds(lambda n: find_rules(search, n * RULES, RULES, lambda _: False), repeats)


def measure(repeats: int) -> dict[str, Any]:
    """Return all figures."""
    made = source()
    speed = {str(threads): tokens_per_second(made, threads, repeats) for threads in (1, 2)}
    naive = naive_tokens_per_second(repeats)
    return {
        "machine": machine(), "path": fastest().__name__.rsplit(".", 1)[-1],  # type: ignore[attr-defined]
        "tokens_per_second_by_threads": speed, "naive_numpy_tokens_per_second": naive,
        "ratio_one_thread": speed["1"] / naive,
        "seconds_per_1000_rules_by_raw_band": {band: seconds_per_1000_rules(band, repeats) for band in BANDS},
    }


def main() -> None:
    """Print the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument("--repeats", type=int, default=3, help="repetitions, of which the median counts (3 at least)")
    arguments = parser.parse_args()
    if arguments.repeats < 3:
        parser.error(f"--repeats is {arguments.repeats}; a median needs 3 at least")
    found = measure(arguments.repeats)
    if arguments.json:
        print(json.dumps(found, indent=1))
        return
    print(f"machine              {found['machine']} ({found['path']})")
    for threads, speed in found["tokens_per_second_by_threads"].items():
        print(f"{threads} thread(s)          {speed:12,.0f} tokens/s")
    naive, ratio = found["naive_numpy_tokens_per_second"], found["ratio_one_thread"]
    print(f"plain NumPy          {naive:12,.0f} tokens/s, {ratio:.0f} times slower than one thread")
    for band, seconds in found["seconds_per_1000_rules_by_raw_band"].items():
        print(f"band {band:<8}        {seconds:12.2f} s per 1,000 accepted rules")


if __name__ == "__main__":
    main()
