"""Several arms at once: max-t intervals with the variance pooled over arms and seeds. Pure.

Model: loss of arm k and seed i = arm_k + seed_i + noise with one variance, estimated by the two-way residuals of the
baseline and K arms over n seeds, K (n - 1) degrees of freedom. Differences to one baseline are then equicorrelated by
1/2 (Dunnett 1955): K = 4 and n = 3 give a critical value of 3.02, where Holm over four paired t tests needs 8.9. Pairs
of arms use the studentised range (Tukey).

From six seeds on, the best arm may instead be chosen on one half of the seeds and judged on the other, which needs no
correction and assumes no common variance (`split_selection`).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from scipy import special

from analysis.convergence import Floats
from analysis.quantiles import deviations, normals, root, student, studentised_range
from analysis.statistics import CONFIDENCE, FEW_SEEDS, MIN_SEEDS, Interval, detectable_shift, paired_t

SPLIT_SEEDS = 2 * MIN_SEEDS
"""Seeds from which half of them can choose and half judge."""


@dataclass(frozen=True, kw_only=True)
class Family:
    """Simultaneous intervals of several arms."""

    intervals: tuple[Interval, ...]
    """One per arm, in the given order; together they hold all true gains with the stated confidence."""
    critical: float
    """Critical value of max |t|."""
    df: int
    """Degrees of freedom of the pooled variance."""
    sd: float
    """Residual standard deviation of one loss, nats."""
    detectable: float
    """Gain of one arm that its interval finds with 80 % power, nats; NaN without intervals."""
    best: int
    """Position of the largest mean gain."""
    best_over_next: Interval
    """The best arm's gain over the second best, Tukey interval over all pairs (so that choosing them is paid for)."""


def family(reference: Floats, arms: Floats, confidence: float = CONFIDENCE) -> Family | None:
    """Return simultaneous intervals of the arms' gains over a reference; None without an arm or a seed.

    Args:
        reference: (n,) losses of the reference at T_b, one per seed, nats.
        arms: (K, n) losses of the arms at T_b, same seeds.
        confidence: joint coverage.
    """
    count, n = arms.shape
    if not count or not n:
        return None
    means = (reference[None, :] - arms).mean(axis=1)
    order = np.argsort(-means, kind="stable")
    best, following = int(order[0]), int(order[min(1, count - 1)])
    lead = float(means[best] - means[following])
    if n < MIN_SEEDS:
        plain = tuple(Interval(mean=float(m), n=n, note=FEW_SEEDS) for m in means)
        lead_only = Interval(mean=lead, n=n, note=FEW_SEEDS)
        return Family(intervals=plain, critical=math.nan, df=0, sd=math.nan, detectable=math.nan, best=best,
                      best_over_next=lead_only)
    sd, df = residual_sd(np.vstack([reference[None, :], arms]))
    critical, error = critical_max_t(count, df, confidence), sd * math.sqrt(2 / n)
    return Family(
        intervals=tuple(_interval(float(m), critical * error, n) for m in means), critical=critical, df=df, sd=sd,
        detectable=detectable_shift(critical, df) * error, best=best,
        best_over_next=_interval(lead, critical_range(count, df, confidence) * error, n),
    )


def residual_sd(table: Floats) -> tuple[float, int]:
    """Return the standard deviation of one loss about arm and seed, and its degrees of freedom; NaN without any.

    Args:
        table: (arms, seeds) losses, the reference among the arms, nats.
    """
    residual = table - table.mean(axis=0, keepdims=True) - table.mean(axis=1, keepdims=True) + table.mean()
    df = (table.shape[0] - 1) * (table.shape[1] - 1)
    return (math.sqrt(float((residual**2).sum()) / df), df) if df > 0 else (math.nan, 0)


def plausible_best(reference: Floats, arms: Floats, confidence: float = CONFIDENCE) -> list[int]:
    """Return the positions of the arms that may be the best: those that no other arm is resolved to beat.

    The set holds the truly best arm with at least the stated confidence (Tukey's intervals over all pairs, which are a
    little wider than Hsu's (1984) one-sided ones). All arms below `MIN_SEEDS` seeds.
    """
    made = family(reference, arms, confidence)
    if made is None or not made.df or len(arms) < 2:
        return list(range(len(arms)))
    reach = critical_range(len(arms), made.df, confidence) * made.sd * math.sqrt(2 / arms.shape[1])
    top = made.intervals[made.best].mean
    return [k for k, interval in enumerate(made.intervals) if top - interval.mean <= reach]


@dataclass(frozen=True, kw_only=True)
class Split:
    """A best arm, chosen on some seeds and judged on the others."""

    chosen: int
    """Position of the largest mean gain over the choosing seeds."""
    interval: Interval
    """Its gain over the reference, paired-t over the judging seeds."""
    choosing: tuple[int, ...]
    """Positions of the choosing seeds."""
    judging: tuple[int, ...]


def split_selection(reference: Floats, arms: Floats, confidence: float = CONFIDENCE) -> Split | None:
    """Return the arm that every other seed chooses and its gain on the rest; None below `SPLIT_SEEDS` seeds.

    The seeds that judge had no part in the choice, so a plain paired-t interval holds the chosen arm's gain; with the
    same seeds for both, the best of four equal arms looks better than it is (Cox 1975, data splitting).

    Args:
        reference: (n,) losses of the reference at T_b, nats, in the order of seeds.
        arms: (K, n) losses of the arms.
        confidence: coverage.
    """
    count, n = arms.shape
    if not count or n < SPLIT_SEEDS:
        return None
    choosing, judging = tuple(range(0, n, 2)), tuple(range(1, n, 2))
    gains = reference[None, :] - arms
    chosen = int(np.argmax(gains[:, choosing].mean(axis=1)))
    return Split(chosen=chosen, interval=paired_t(gains[chosen, judging].tolist(), confidence), choosing=choosing,
                 judging=judging)


def _interval(mean: float, half: float, n: int) -> Interval:
    return Interval(mean=mean, low=mean - half, high=mean + half, n=n)


@lru_cache(maxsize=256)
def critical_max_t(count: int, df: int, confidence: float = CONFIDENCE) -> float:
    """Return c with P(max_k |T_k| <= c) = confidence for `count` t variables equicorrelated by 1/2.

    P = E_s E_z [Phi(sqrt2 c s + z) - Phi(-sqrt2 c s + z)]^count, z ~ N(0, 1), df s^2 ~ chi2(df).
    """
    if count == 1:
        return student((1 + confidence) / 2, df)
    (z, wz), (s, ws) = normals(), deviations(df)

    def excess(c: float) -> float:
        reach = math.sqrt(2) * c * s
        inside = special.ndtr(reach + z[:, None]) - special.ndtr(z[:, None] - reach)
        return float(wz @ inside**count @ ws) - confidence

    return root(excess, 1.0)


@lru_cache(maxsize=256)
def critical_range(count: int, df: int, confidence: float = CONFIDENCE) -> float:
    """Return the critical |t| for all pairs of `count` arms (studentised range over sqrt 2); NaN for one arm."""
    if count < 2:
        return math.nan
    return studentised_range(confidence, count, df) / math.sqrt(2)
