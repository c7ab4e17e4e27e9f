"""How fast the NCA generator is.

    python -m benchmarks.generator [--json] [--repeats 3] [--sequences 1024] [--rules 500]

Both sides in one run: this generator (burn-in included) with 1 and 2 threads at temperatures 1e-4 and 1e-3, and plain
NumPy code for the same work (`naive_nca.py`) on one thread; seconds per 1,000 accepted rules in the four raw bands of
the paper for both, of the naive side from its seconds per candidate and the band's acceptance; the share of the
machine's limit (`roofline.py`; left out where there is no C compiler). All at the defaults: n = 10, 12 x 12, sequences
of 1,024 tokens. One to two minutes.

    path                              the implementation that was measured
    threads_1, threads_2, naive       tokens/s, or seconds per 1,000 accepted rules
    ratio_1, ratio_2                  tokens/s over the naive code's
    cells_per_token                   burn-in included
    float_operations_per_cell, table_bytes_per_cell    counted
    peak_float_operations_per_second, peak_table_bytes_per_second    of one core, measured
    share                             of that limit which one thread reaches at 1e-4
    peak_memory_mb                    of this process
"""

from __future__ import annotations

import argparse
import resource
import statistics
import time
from collections.abc import Callable
from typing import Any

import numpy as np

from benchmarks import naive_nca, roofline
from benchmarks.report import show
from workloads.upstreams.nca.backend import fastest
from workloads.upstreams.nca.bank import Search, find_rules
from workloads.upstreams.nca.complexity import gzip_lengths
from workloads.upstreams.nca.open_bank import RuleBank
from workloads.upstreams.nca.science import NcaBankScience, NcaScience, bank_fields
from workloads.upstreams.nca.source import NcaSource

LENGTH, NAIVE_SEQUENCES, NAIVE_CANDIDATES = 1024, 8, 16
BANDS = ("20-30", "30-40", "40-50", "50-100")
TEMPERATURES, THREADS = (1e-4, 1e-3), (1, 2)
SMALLEST = ("--repeats", "1", "--sequences", "8", "--rules", "2")


def median_seconds(work: Callable[[int], object], repeats: int) -> float:
    """Return the median time of `work(0)`, `work(1)`, ..."""
    times = []
    for number in range(repeats):
        start = time.perf_counter()
        work(number)
        times.append(time.perf_counter() - start)
    return statistics.median(times)


def source(temperature: float, sequences: int) -> NcaSource:
    """Return sequences of accepted rules, held in memory."""
    science = NcaScience(temperature=temperature)
    block = find_rules(Search(bank=bank_fields(science), seed=0, stream="train"), 0, sequences, lambda _: False)
    bank = RuleBank(starts=np.array([0, sequences]), blocks=(block.rules,))
    return NcaSource(science, bank, seed=0, stream="train", sequence_length=LENGTH)


def tokens_per_second(made: NcaSource, sequences: int, threads: int, repeats: int) -> float:
    """Measure the sequences of `made`."""
    made.threads = threads
    made.sequences(np.arange(min(64, sequences)))
    return sequences * LENGTH / median_seconds(lambda _: made.sequences(np.arange(sequences)), repeats)


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


def seconds_per_1000_rules(band: str, rules: int, threads: int, repeats: int) -> float:
    """Measure the search for rules of one raw band."""
    bank = NcaBankScience.model_validate({"complexity": {"band": band, "scale": "raw"}})
    search = Search(bank=bank, seed=0, stream="train", threads=threads)
    return 1000 / rules * median_seconds(lambda n: find_rules(search, n * rules, rules, lambda _: False), repeats)


def candidates_per_rule(band: str, rules: int) -> float:
    """Return how many candidates the search draws for a rule of one raw band."""
    bank = NcaBankScience.model_validate({"complexity": {"band": band, "scale": "raw"}})
    block = find_rules(Search(bank=bank, seed=0, stream="train"), 0, rules, lambda _: False)
    return 1 + float(block.candidate_B.mean())


def limit(speed: float, repeats: int) -> dict[str, float]:
    """Return the counts of `roofline.py` and which share of the limit `speed` tokens/s on one thread is."""
    bank, peak = NcaBankScience(), roofline.peak(repeats)
    if peak is None:
        return {}
    cost = roofline.Cost.of(bank)
    frames = -(-LENGTH // (bank.patches + 2))
    cells = (bank.burn_in + frames - 1) * bank.grid.height * bank.grid.width / LENGTH
    return {
        "cells_per_token": cells, "float_operations_per_cell": cost.float_operations,
        "table_bytes_per_cell": cost.table_bytes, "peak_float_operations_per_second": peak.float_operations_per_second,
        "peak_table_bytes_per_second": peak.table_bytes_per_second, "share": speed * cells * peak.seconds(cost),
    }


def measure(repeats: int, sequences: int, rules: int) -> dict[str, Any]:
    """Return all figures."""
    speed: dict[str, dict[str, float]] = {}
    for temperature in TEMPERATURES:
        made = source(temperature, sequences)
        found = {n: tokens_per_second(made, sequences, n, repeats) for n in THREADS}
        naive = naive_tokens_per_second(temperature, repeats)
        speed[f"T = {temperature:g}"] = {"naive": naive} | {f"threads_{n}": v for n, v in found.items()} | {
            f"ratio_{n}": v / naive for n, v in found.items()}
    candidate = naive_seconds_per_candidate(repeats)
    return {
        "path": fastest().__name__.rsplit(".", 1)[-1],  # type: ignore[attr-defined]
        "tokens_per_second": speed,
        "seconds_per_1000_rules": {
            band: {f"threads_{n}": seconds_per_1000_rules(band, rules, n, repeats) for n in THREADS} | {
                "naive": 1000 * candidate * candidates_per_rule(band, rules)} for band in BANDS},
        "limit": limit(speed["T = 0.0001"]["threads_1"], repeats),
        "peak_memory_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
    }


def main() -> None:
    """Print the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument("--repeats", type=int, default=3, help="repetitions, of which the median counts")
    parser.add_argument("--sequences", type=int, default=1_024, help="of 1,024 tokens")
    parser.add_argument("--rules", type=int, default=500, help="accepted ones of each band")
    given = parser.parse_args()
    show(measure(given.repeats, given.sequences, given.rules), as_json=given.json)


if __name__ == "__main__":
    main()
