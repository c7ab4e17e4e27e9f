"""How fast the NCA generator is: `python -m benchmarks.generator [--json] [--repeats 3]`, one to two minutes.

Both sides in one run: this generator (burn-in included) with 1 and 2 threads at temperatures 1e-4 and 1e-3, and plain
NumPy code for the same work (`naive_nca.py`) on one thread; seconds per 1,000 accepted rules in the four raw bands of
the paper for both, of the naive side from its seconds per candidate and the band's acceptance; the share of the
machine's limit (`roofline.py`); peak memory. All at the defaults: n = 10, 12 x 12, sequences of 1,024 tokens.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import resource
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import naive_nca, roofline
from workloads.upstreams.nca.backend import fastest
from workloads.upstreams.nca.bank import Search, find_rules
from workloads.upstreams.nca.complexity import gzip_lengths
from workloads.upstreams.nca.open_bank import RuleBank
from workloads.upstreams.nca.science import NcaBankScience, NcaScience, bank_fields
from workloads.upstreams.nca.source import NcaSource

LENGTH, SEQUENCES, NAIVE_SEQUENCES, NAIVE_CANDIDATES, RULES = 1024, 1024, 8, 16, 500
BANDS = ("20-30", "30-40", "40-50", "50-100")
TEMPERATURES, THREADS = (1e-4, 1e-3), (1, 2)


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


def source(temperature: float) -> NcaSource:
    """Return sequences of accepted rules, held in memory."""
    science = NcaScience(temperature=temperature)
    block = find_rules(Search(bank=bank_fields(science), seed=0, stream="train"), 0, SEQUENCES, lambda _: False)
    bank = RuleBank(starts=np.array([0, SEQUENCES]), blocks=(block.rules,))
    return NcaSource(science, bank, seed=0, stream="train", sequence_length=LENGTH)


def tokens_per_second(made: NcaSource, threads: int, repeats: int) -> float:
    """Measure all sequences of `made`."""
    made.threads = threads
    made.sequences(np.arange(min(64, SEQUENCES)))
    return SEQUENCES * LENGTH / median_seconds(lambda _: made.sequences(np.arange(SEQUENCES)), repeats)


def naive_tokens_per_second(temperature: float, repeats: int) -> float:
    """Measure the plain version."""
    bank = NcaBankScience(temperature=temperature)

    def work(number: int) -> None:
        for i in range(NAIVE_SEQUENCES):
            naive_nca.sequence(bank, LENGTH, number * NAIVE_SEQUENCES + i)

    return NAIVE_SEQUENCES * LENGTH / median_seconds(work, repeats)


def naive_seconds_per_candidate(repeats: int) -> float:
    """Measure a rule's frames and their compression in the plain version."""
    bank = NcaBankScience()
    period, frames = bank.patches + 2, bank.complexity.frames

    def work(number: int) -> None:
        for i in range(NAIVE_CANDIDATES):
            tokens = naive_nca.sequence(bank, frames * period, number * NAIVE_CANDIDATES + i)
            gzip_lengths(tokens.reshape(1, frames, period)[:, :, 1:-1])

    return median_seconds(work, repeats) / NAIVE_CANDIDATES


def seconds_per_1000_rules(band: str, threads: int, repeats: int) -> float:
    """Measure the search for rules of one raw band."""
    bank = NcaBankScience.model_validate({"complexity": {"band": band, "scale": "raw"}})
    search = Search(bank=bank, seed=0, stream="train", threads=threads)
    return 1000 / RULES * median_seconds(lambda n: find_rules(search, n * RULES, RULES, lambda _: False), repeats)


def candidates_per_rule(band: str) -> float:
    """Return how many candidates the search draws for a rule of one raw band."""
    bank = NcaBankScience.model_validate({"complexity": {"band": band, "scale": "raw"}})
    block = find_rules(Search(bank=bank, seed=0, stream="train"), 0, RULES, lambda _: False)
    return 1 + float(block.candidate_B.mean())


def limit(speed: float, repeats: int) -> dict[str, float] | None:
    """Return the counts of `roofline.py` and which share of the limit `speed` tokens/s on one thread is."""
    bank, peak = NcaBankScience(), roofline.peak(repeats)
    if peak is None:
        return None
    cost = roofline.Cost.of(bank)
    frames = -(-LENGTH // (bank.patches + 2))
    cells = (bank.burn_in + frames - 1) * bank.grid.height * bank.grid.width / LENGTH
    return {
        "cells_per_token": cells, "float_operations_per_cell": cost.float_operations,
        "table_bytes_per_cell": cost.table_bytes, "peak_float_operations_per_second": peak.float_operations_per_second,
        "peak_table_bytes_per_second": peak.table_bytes_per_second, "share": speed * cells * peak.seconds(cost),
    }


def measure(repeats: int) -> dict[str, Any]:
    """Return all figures."""
    speed: dict[str, dict[str, float]] = {}
    for temperature in TEMPERATURES:
        made = source(temperature)
        found = {str(threads): tokens_per_second(made, threads, repeats) for threads in THREADS}
        naive = naive_tokens_per_second(temperature, repeats)
        ratios = {f"ratio_{threads}": found[str(threads)] / naive for threads in THREADS}
        speed[f"{temperature:g}"] = {**found, "naive": naive, **ratios}
    candidate = naive_seconds_per_candidate(repeats)
    return {
        "machine": machine(), "path": fastest().__name__.rsplit(".", 1)[-1],  # type: ignore[attr-defined]
        "tokens_per_second": speed,
        "seconds_per_1000_rules": {
            band: {**{str(n): seconds_per_1000_rules(band, n, repeats) for n in THREADS},
                   "naive": 1000 * candidate * candidates_per_rule(band)} for band in BANDS},
        "limit": limit(speed["0.0001"]["1"], repeats),
        "peak_memory_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
    }


def show(found: dict[str, Any]) -> None:
    """Print the figures for a person."""
    print(f"machine: {found['machine']}; path: {found['path']}; peak memory {found['peak_memory_mb']:.0f} MB")
    for temperature, speed in found["tokens_per_second"].items():
        print(f"tokens/s, T = {temperature:<7}   1 thread {speed['1']:12,.0f} ({speed['ratio_1']:.0f} x naive)   "
              f"2 threads {speed['2']:12,.0f} ({speed['ratio_2']:.0f} x)   naive NumPy {speed['naive']:10,.0f}")
    for band, seconds in found["seconds_per_1000_rules"].items():
        print(f"s per 1,000 rules, raw {band:<7} 1 thread {seconds['1']:7.2f}   2 threads {seconds['2']:7.2f}   "
              f"naive NumPy {seconds['naive']:8.1f}")
    top = found["limit"]
    if top is None:
        print("limit: not measured, there is no C compiler")
        return
    print(f"a cell: {top['float_operations_per_cell']} float operations, {top['table_bytes_per_cell']} bytes of "
          f"tables; one core: {top['peak_float_operations_per_second'] / 1e9:.0f} G operations/s, "
          f"{top['peak_table_bytes_per_second'] / 1e9:.0f} GB/s; share of the limit {100 * top['share']:.0f} %")


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
    else:
        show(found)


if __name__ == "__main__":
    main()
