"""Coverage by simulation: every interval that is shown holds the truth as often as it says, or more.

docs/statistics.md has the table (1,000 experiments a cell, a standard error of 0.7 %); the proof does 10,000.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from tests.analysis.coverage import WORLDS, cases, coverage, of_bands, of_pair

EXACT = ("gain, paired t", "speed-up, test inversion")
"""Intervals that must hold 95 % and no more; all others at least."""
OVER = {("speed-up, test inversion", name) for name in ("censored", "flat tail", "flat tail, null")}
"""An arm that never reaches L*, whose interval is open where nothing was measured; and a tail on which many speed-ups
are true at once. These over-cover."""
SEEDS = (3, 5, 10)
CASES = {name: (draw, world) for name, draw, world in cases()}


def wrong(name: str, held: dict[str, float], slack: float) -> list[str]:
    """Return the intervals that hold the truth too rarely, or where they must not, too often."""
    found = []
    for interval, share in held.items():
        least, most = (0.93, 0.97) if interval in EXACT and (interval, name) not in OVER else (0.93, 1.0)
        if not least - slack <= share <= most + slack:
            found.append(f"{interval} in {name}: {share:.3f}")
    return found


@pytest.mark.parametrize("name", ["six evaluations", "null", "censored"])
def test_three_seeds_cover(name: str) -> None:
    held = coverage(of_pair, WORLDS[name], 3, 300)
    assert not wrong(name, held, 0.025), held


def test_choosing_among_bands_is_paid_for() -> None:
    held = coverage(of_bands, WORLDS["six evaluations"], 6, 300)
    assert not wrong("bands", held, 0.02) and "chosen band, split seeds" in held, held


def marked() -> list[Any]:
    """10,000 experiments are a proof; two cases run with 1,000 in the slow set."""
    proofs = [pytest.param(name, 10_000, 0.005, marks=pytest.mark.proof) for name in CASES]
    return proofs + [pytest.param(name, 1000, 0.015, marks=pytest.mark.slow) for name in ("censored", "four bands")]


@pytest.mark.timeout(1800)
@pytest.mark.parametrize(("name", "runs", "slack"), marked())
def test_coverage(name: str, runs: int, slack: float, tell: Callable[[str], Any]) -> None:
    shares: dict[str, list[str]] = {}
    failed = []
    for n in SEEDS:
        held = coverage(*CASES[name], n, runs)
        failed += [f"{n} seeds: {text}" for text in wrong(name, held, slack)]
        for interval, share in held.items():
            shares.setdefault(interval, []).append(f"{n} seeds {100 * share:.1f} %")
    for interval, texts in shares.items():
        tell(f"{interval}; {name}; {runs} experiments: {', '.join(texts)}")
    assert not failed, failed
