"""How fast each upstream is; about half a minute.

    python -m benchmarks.upstreams [NAME ...] [--json] [--repeats 3]

Tokens per second of processor time on one thread, at the upstream's default fields and 1,024 tokens a sequence, and the
seconds that opening the source takes (the law of `nca_unigram` is rolled out there). Rule banks are made first and not
counted; `benchmarks.generator` measures them.

    tokens_per_second  of processor time, median
    seconds_to_open    the source, median
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.report import show
from sweeps.language.plugins import Upstream
from workloads.registry import load_registries

LENGTH, SEQUENCES = 1024, 256
SMALLEST = ("--repeats", "1")


def banks(plugin: Upstream, science: Any, folder: Path) -> list[Path]:
    """Return the rule bank that the upstream reads, made in `folder`."""
    if plugin.bank is None or plugin.rules_needed is None:
        return []
    plugin.load_bank()(plugin.bank(science), seed=0, stream="train", first=0, folder=folder,
                       count=plugin.rules_needed(science, SEQUENCES), progress=lambda _: False)
    return [folder]


def measure(plugin: Upstream, repeats: int) -> dict[str, float]:
    """Return tokens per second and seconds to open."""
    science = plugin.science()
    with tempfile.TemporaryDirectory() as folder:
        rules, make = banks(plugin, science, Path(folder)), plugin.load()
        seconds = []
        for number in range(repeats + 1):
            start = time.process_time()
            source = make(science, seed=0, stream="train", sequence_length=LENGTH, banks=rules)
            opened = time.process_time()
            source.sequences(np.arange(SEQUENCES))
            if number:  # the first compiles
                seconds.append((time.process_time() - opened, opened - start))
    made, opening = (statistics.median(column) for column in zip(*seconds, strict=True))
    return {"tokens_per_second": SEQUENCES * LENGTH / made, "seconds_to_open": opening}


def main() -> None:
    """Print the figures."""
    upstreams = {k: p for k, p in load_registries().upstreams.items()
                 if p.trains and p.vocabulary is not None and p.norms_of is None}  # it makes sequences of its own
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(upstreams)}; default: all")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument("--repeats", type=int, default=3, help="repetitions, of which the median counts")
    arguments = parser.parse_args()
    unknown = sorted(set(arguments.names) - set(upstreams))
    if unknown:
        parser.error(f"unknown upstreams: {', '.join(unknown)}")
    show({name: measure(upstreams[name], arguments.repeats) for name in arguments.names or upstreams},
         as_json=arguments.json)


if __name__ == "__main__":
    main()
