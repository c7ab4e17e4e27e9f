"""What the benchmarks share: the machine's name, medians of ratios, and how figures are printed."""

from __future__ import annotations

import json
import os
import platform
import statistics
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any


def machine() -> str:
    """Name processor, cores, system and Python."""
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text().splitlines() if cpuinfo.exists() else []
    model = next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), "")
    return f"{model or platform.processor()}, {os.cpu_count()} cores, {platform.platform()}, " \
           f"Python {platform.python_version()}"


def ratio(ours: Sequence[float], theirs: Sequence[float]) -> float:
    """Return the median ratio of what was measured in turns."""
    return statistics.median(a / b for a, b in zip(ours, theirs, strict=True))


def tell(what: str) -> None:
    """Say at once, beside the figures, how far a long measurement is."""
    print(what, file=sys.stderr, flush=True)


def show(figures: Mapping[str, Any], *, as_json: bool) -> None:
    """Print figures and the machine: one JSON object, or a line for each."""
    found = {"machine": machine(), **figures}
    if as_json:
        print(json.dumps(found, indent=1))
        return
    for name, value in flat(found):
        print(f"{name:<48} {value:,.4g}" if isinstance(value, float) else f"{name:<48} {value}")


def flat(figures: Mapping[str, Any], above: str = "") -> Iterator[tuple[str, Any]]:
    """Yield each figure with its dotted name."""
    for name, value in figures.items():
        if isinstance(value, Mapping):
            yield from flat(value, f"{above}{name}.")
        else:
            yield f"{above}{name}", value
