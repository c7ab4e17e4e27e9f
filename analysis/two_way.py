"""Inference over items and seeds together: what other items and other seeds would give. Pure.

A table y_is has one row for each item and one column for each seed, of scores or of paired differences on the same
items. Items and seeds are both drawn from many: y_is = m + a_i + b_s + e_is. With the mean squares A of items, B of
seeds and E of the rest, (A + B - E) / (I S) estimates the variance of the grand mean (Searle, Casella and McCulloch
1992, ch. 4), with Satterthwaite's degrees of freedom (1946). That estimate may be too small by chance, or negative: A
alone is taken where it is larger. And the interval is never narrower than the paired t over seeds on these very items,
since who speaks of all items also speaks of these.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from analysis.statistics import (
    CONFIDENCE,
    MIN_SEEDS,
    Interval,
    detectable_effect,
    detectable_over_sd,
    paired_t,
    t_critical,
)

LEAST_ITEMS = 3
"""Items below which nothing is said of other items."""
MIN_ITEMS = 30
"""Items below which the interval may cover less than it says (docs/statistics.md)."""
MOST_DF = 200
"""Degrees of freedom are rounded down to a whole number up to this one: beyond, t changes by less than 1 %."""


@dataclass(frozen=True, kw_only=True)
class TwoWay(Interval):
    """A mean over items and seeds; `n` and `sd` are of the seeds."""

    items: int
    """Items; fewer than three are taken as given, and the interval is over seeds alone."""
    detectable: float = math.nan
    """Effect that these items and seeds find with 80 % power (MDE)."""

    @property
    def over(self) -> str:
        """What the interval speaks of, and whether there is too little of it."""
        if self.n < MIN_SEEDS:
            return f"fewer than {MIN_SEEDS} seeds"
        if self.note:
            return self.note
        if self.items < LEAST_ITEMS:
            return "seeds"
        return "items, seeds" if self.items >= MIN_ITEMS else f"items, seeds; fewer than {MIN_ITEMS} items"


def two_way_t(table_IS: npt.ArrayLike, confidence: float = CONFIDENCE) -> TwoWay:
    """Return the mean of a table of finite values and its interval over items and seeds.

    Args:
        table_IS: (I, S), a row for each item, a column for each seed. Means over items, taken as given: one row.
        confidence: coverage of the interval.
    """
    values_IS = np.asarray(table_IS, dtype=np.float64)
    items, seeds = values_IS.shape
    over_seeds = paired_t(values_IS.mean(axis=0).tolist(), confidence)
    half, detectable = over_seeds.half, detectable_effect(over_seeds.sd, seeds)
    if items >= LEAST_ITEMS and seeds >= MIN_SEEDS:
        error, df = standard_error(values_IS)
        half = max(half, t_critical(df, confidence) * error)
        detectable = max(detectable, detectable_over_sd(df + 1) * math.sqrt(df + 1) * error)
    return TwoWay(mean=over_seeds.mean, low=over_seeds.mean - half, high=over_seeds.mean + half, n=over_seeds.n,
                  sd=over_seeds.sd, note=over_seeds.note, items=items, detectable=detectable)


def standard_error(values_IS: npt.NDArray[np.float64]) -> tuple[float, int]:
    """Return the standard error of a table's mean over items and seeds, and its degrees of freedom; I, S > 1."""
    return error_of(mean_squares(values_IS), *values_IS.shape)


def mean_squares(values_IS: npt.NDArray[np.float64]) -> tuple[float, float, float]:
    """Return the mean squares of items, of seeds and of the rest; I, S > 1."""
    items, seeds = values_IS.shape
    by_item_I, by_seed_S = values_IS.mean(axis=1), values_IS.mean(axis=0)
    rest_IS = values_IS - by_item_I[:, None] - by_seed_S + values_IS.mean()
    of_items, of_seeds = seeds * float(by_item_I.var(ddof=1)), items * float(by_seed_S.var(ddof=1))
    return of_items, of_seeds, float((rest_IS**2).sum()) / ((items - 1) * (seeds - 1))


def error_of(squares: tuple[float, float, float], items: int, seeds: int) -> tuple[float, int]:
    """Return the standard error of a mean with these mean squares, and its degrees of freedom."""
    of_items, of_seeds, of_rest = squares
    total = max(of_items, of_items + of_seeds - of_rest)
    spread = of_items**2 / (items - 1) + of_seeds**2 / (seeds - 1)
    least = min(items, seeds) - 1
    df = int(min(max(total**2 / spread, least), MOST_DF)) if spread else least
    return math.sqrt(total / (items * seeds)), df
