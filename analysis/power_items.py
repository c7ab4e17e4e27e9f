"""How many seeds and items a downstream difference needs, from a pilot's records of items. Pure, on a study.

A difference to scratch of item i and seed s is m + a_i + b_s + e_is, as in `two_way.py`. The pilot's mean squares,
averaged over its arms, give the three variances (Searle, Casella and McCulloch 1992, ch. 4; below zero: zero), and
these the mean squares to expect of any other number of items and seeds. From there on all is as the interval will be:
its standard error, its degrees of freedom, and that it is never narrower than the paired t over seeds.

More items never make up for seeds that differ: where seeds alone are too few, no number of items is an answer. Each
answer is given twice, as in `power.py`: at the variances, and with each of them at its upper 80 % confidence limit.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from analysis.downstream import differences, unsafe_mark
from analysis.item_records import ALL, Floats
from analysis.power import CAUTION, MOST_SEEDS, power_at
from analysis.quantiles import chi_squared
from analysis.statistics import MIN_SEEDS, POWER, detectable_effect, detectable_over_sd
from analysis.study import Study
from analysis.two_way import LEAST_ITEMS, error_of, mean_squares

MOST_ITEMS = 1_000_000
EFFECTS = (0.01, 0.02, 0.05, 0.1)
"""True differences, in the rung's unit."""
DESIGNS = (3, 5, 10, 20)
"""Numbers of seeds for which the items are told."""


@dataclass(frozen=True, kw_only=True)
class Spread:
    """How much the differences of a task vary on one rung."""

    domain: str
    task: str
    arms: int
    items: int
    seeds: int
    of_items: float
    of_seeds: float
    of_rest: float
    """Variances."""

    def high(self) -> Spread:
        """Return it with each variance at its upper 80 % confidence limit; arms share a baseline, so they add none."""
        def limit(variance: float, df: int) -> float:
            return variance * df / chi_squared(1 - CAUTION, df)

        items, seeds = self.items - 1, self.seeds - 1
        return replace(self, of_items=limit(self.of_items, items), of_seeds=limit(self.of_seeds, seeds),
                       of_rest=limit(self.of_rest, items * seeds))

    def _errors(self, items: int, seeds: int) -> tuple[float, float, int]:
        """Return the sd over seeds on given items, the standard error over both, and that one's df."""
        squares = seeds * self.of_items + self.of_rest, items * self.of_seeds + self.of_rest, self.of_rest
        return math.sqrt(self.of_seeds + self.of_rest / items), *error_of(squares, items, seeds)

    def detectable(self) -> float:
        """Return the difference that the pilot's own numbers find with 80 % power (MDE); NaN below three seeds."""
        sd, error, df = self._errors(self.items, self.seeds)
        if self.seeds < MIN_SEEDS:
            return math.nan
        return max(detectable_effect(sd, self.seeds), detectable_over_sd(df + 1) * math.sqrt(df + 1) * error)

    def power(self, effect: float, items: int, seeds: int) -> float:
        """Return the chance that so many items and seeds find a true difference."""
        sd, error, df = self._errors(items, seeds)
        return min(power_at(effect / sd if sd else math.inf, seeds),
                   power_at(effect / (error * math.sqrt(df + 1)) if error else math.inf, df + 1))


@dataclass(frozen=True, kw_only=True)
class Needs:
    """What one task needs; for each effect, first at the pilot's variances, then at their upper limits.

    None: more than `MOST_SEEDS`, or `MOST_ITEMS`.
    """

    spread: Spread
    detectable: float
    seeds: list[tuple[int | None, int | None]]
    """With the pilot's items."""
    items: dict[int, list[tuple[int | None, int | None]]]
    """Seeds -> items."""
    mark: str = ""
    """`UNSAFE_MARK` where programs of the pilot ran in no sandbox, else empty."""


def needs(study: Study, rung: str, effects: Sequence[float] = EFFECTS, power: float = POWER) -> list[Needs]:
    """Return what each task of each domain needs; none without records of items of two seeds of an arm and scratch."""
    return [replace(_needs(spread, effects, power), mark=unsafe_mark(study, domain, f"{task}.{ALL}.{rung}"))
            for (domain, task), tables in differences(study, rung).items()
            if (spread := spread_of(domain, task, tables)) is not None]


def spread_of(domain: str, task: str, tables: Sequence[Floats]) -> Spread | None:
    """Return the variances of differences (I, S), averaged over arms; None: there are too few of everything.

    Arms with fewer items or seeds than others are left out.
    """
    shapes = [t.shape for t in tables if t.shape[0] >= LEAST_ITEMS and t.shape[1] > 1]
    if not shapes:
        return None
    items, seeds = max(shapes)
    kept = [mean_squares(t) for t in tables if t.shape == (items, seeds)]
    of_items, of_seeds, of_rest = map(float, np.mean(kept, axis=0))
    return Spread(domain=domain, task=task, arms=len(kept), items=items, seeds=seeds, of_rest=of_rest,
                  of_items=max((of_items - of_rest) / seeds, 0.0), of_seeds=max((of_seeds - of_rest) / items, 0.0))


def _needs(spread: Spread, effects: Sequence[float], power: float) -> Needs:
    both = spread, spread.high()

    def seeds(effect: float, of: Spread) -> int | None:
        return fewest(lambda n: of.power(effect, spread.items, n) >= power, MIN_SEEDS, MOST_SEEDS)

    def items(effect: float, of: Spread, count: int) -> int | None:
        return fewest(lambda n: of.power(effect, n, count) >= power, LEAST_ITEMS, MOST_ITEMS)

    counts = sorted({*DESIGNS, *([spread.seeds] if spread.seeds >= MIN_SEEDS else [])})
    return Needs(
        spread=spread, detectable=spread.detectable(),
        seeds=[(seeds(e, both[0]), seeds(e, both[1])) for e in effects],
        items={n: [(items(e, both[0], n), items(e, both[1], n)) for e in effects] for n in counts})


def fewest(enough: Callable[[int], bool], least: int, most: int) -> int | None:
    """Return the smallest number from `least` to `most` that is enough, where all above it are; None: not even `most`.
    """
    if not enough(most):
        return None
    low, high = least - 1, most
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if enough(middle) else (middle, high)
    return high
