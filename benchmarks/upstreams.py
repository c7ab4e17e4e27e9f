"""How fast each upstream is: `python -m benchmarks.upstreams [NAME ...] [--json] [--repeats 3]`, about half a minute.

Tokens per second of processor time on one thread, at the upstream's default fields and 1,024 tokens a sequence, and the
seconds that opening the source takes (the law of `nca_unigram` is rolled out there). Rule banks are made first and not
counted; `benchmarks.generator` measures them.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from sweeps.language.plugins import Upstream
from workloads.registry import load_registries

LENGTH, SEQUENCES = 1024, 256


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
    upstreams = {k: p for k, p in load_registries().upstreams.items() if p.trains}
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(upstreams)}; default: all")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument("--repeats", type=int, default=3, help="repetitions, of which the median counts (3 at least)")
    arguments = parser.parse_args()
    unknown = sorted(set(arguments.names) - set(upstreams))
    if unknown or arguments.repeats < 3:
        parser.error(f"unknown upstreams: {', '.join(unknown)}" if unknown else "a median needs 3 repeats at least")
    found = {name: measure(upstreams[name], arguments.repeats) for name in arguments.names or upstreams}
    if arguments.json:
        print(json.dumps(found, indent=1))
        return
    for name, figures in found.items():
        print(f"{name:<16} {figures['tokens_per_second']:14,.0f} tokens/s, {figures['seconds_to_open']:.2f} s to open")


if __name__ == "__main__":
    main()
