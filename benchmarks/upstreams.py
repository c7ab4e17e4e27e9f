"""How fast each upstream is; about half a minute.

    python -m benchmarks.upstreams [NAME ...] [--json] [--repeats 3]

Tokens per second of processor time on one thread, at the upstream's default fields and 1,024 tokens a sequence, and the
seconds that opening the source takes (the law of `nca_unigram` is rolled out there). Rule banks are made first and not
counted; `benchmarks.generator` measures them. `text` reads a corpus of random tokens, `mixture` has the parts of its
defaults. `none`, `scratch_longer`, `checkpoint` and `init_rescaled` make no sequences.

    tokens_per_second  of processor time, median
    seconds_to_open    the source, median
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.report import show
from sweeps.language.mixture import MixtureScience
from sweeps.language.plugins import Upstream
from sweeps.store.files import to_json
from workloads.contract import MixturePart, SequenceSource
from workloads.data.corpus import INDEX
from workloads.registry import load_registries

LENGTH, SEQUENCES, VOCABULARY = 1024, 256, 16_384
SMALLEST = ("--repeats", "1")
UPSTREAMS = {k: p for k, p in load_registries().upstreams.items()
             if p.trains and p.implementation and p.norms_of is None}


def corpus(folder: Path) -> list[Path]:
    """Write random tokens as stage `corpus` writes text: twice as many sequences as are read, in two bytes each."""
    index = {"schema_version": 1, "dtype": "uint16", "domain": "random", "vocabulary": VOCABULARY, "token_bytes": []}
    for part in ("train", "validation"):
        tokens = np.random.default_rng(0).integers(0, VOCABULARY, 2 * SEQUENCES * LENGTH, np.uint16)
        tokens.tofile(folder / part)
        index[part] = {"tokens": len(tokens), "shards": [{"file": part, "size": tokens.nbytes, "tokens": len(tokens)}]}
    (folder / INDEX).write_text(to_json(index))
    return [folder]


def banks(plugin: Upstream, science: Any, folder: Path) -> list[Path]:
    """Return the rule bank that the upstream reads, made in `folder`."""
    if plugin.bank is None or plugin.rules_needed is None:
        return []
    plugin.load_bank()(plugin.bank(science), seed=0, stream="train", first=0, folder=folder,
                       count=plugin.rules_needed(science, SEQUENCES), progress=lambda _: False)
    return [folder]


def opener(name: str, folder: Path) -> Callable[[], SequenceSource]:
    """Return what opens the upstream's source; what that reads is made here, in `folder`."""
    plugin, science = UPSTREAMS[name], UPSTREAMS[name].science()
    make = partial(plugin.load(), science, seed=0, stream="train", sequence_length=LENGTH)
    if not isinstance(science, MixtureScience):
        return partial(make, banks=corpus(folder) if plugin.corpus else banks(plugin, science, folder))
    parts = {}
    for part, of in science.parts.items():
        (folder / part).mkdir()
        source = opener(of.upstream, folder / part)()
        parts[part] = MixturePart(source=source, family=of.upstream, vocabulary=source.vocabulary)
    return partial(make, parts=parts)


def measure(name: str, repeats: int) -> dict[str, float]:
    """Return tokens per second and seconds to open."""
    with tempfile.TemporaryDirectory() as folder:
        opened_by = opener(name, Path(folder))
        seconds = []
        for number in range(repeats + 1):
            start = time.process_time()
            source = opened_by()
            opened = time.process_time()
            source.sequences(np.arange(SEQUENCES))
            if number:  # the first compiles
                seconds.append((time.process_time() - opened, opened - start))
    made, opening = (statistics.median(column) for column in zip(*seconds, strict=True))
    return {"tokens_per_second": SEQUENCES * LENGTH / made, "seconds_to_open": opening}


def main() -> None:
    """Print the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(UPSTREAMS)}; default: all")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument("--repeats", type=int, default=3, help="repetitions, of which the median counts")
    arguments = parser.parse_args()
    unknown = sorted(set(arguments.names) - set(UPSTREAMS))
    if unknown:
        parser.error(f"unknown upstreams: {', '.join(unknown)}")
    show({name: measure(name, arguments.repeats) for name in arguments.names or UPSTREAMS},
         as_json=arguments.json)


if __name__ == "__main__":
    main()
