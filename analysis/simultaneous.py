"""Several arms at once: max-t intervals with the variance pooled over arms and seeds. Pure.

Model: loss of arm k and seed i = arm_k + seed_i + noise with one variance, estimated by the two-way residuals of the
baseline and K arms over n seeds, K (n - 1) degrees of freedom. Differences to one baseline are then equicorrelated by
1/2 (Dunnett 1955): K = 4 and n = 3 give a critical value of 3.02, where Holm over four paired t tests needs 8.9. Pairs
of arms use the studentised range (Tukey).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from scipy import optimize, special, stats

from analysis.convergence import Floats
from analysis.statistics import CONFIDENCE, FEW_SEEDS, MIN_SEEDS, Interval

_NODES = 64


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
        return Family(intervals=plain, critical=math.nan, df=0, sd=math.nan, best=best, best_over_next=lead_only)
    table = np.vstack([reference[None, :], arms])
    residual = table - table.mean(axis=0, keepdims=True) - table.mean(axis=1, keepdims=True) + table.mean()
    df = count * (n - 1)
    sd = math.sqrt(float((residual**2).sum()) / df)
    critical, error = critical_max_t(count, df, confidence), sd * math.sqrt(2 / n)
    return Family(
        intervals=tuple(_interval(float(m), critical * error, n, sd) for m in means), critical=critical, df=df, sd=sd,
        best=best, best_over_next=_interval(lead, critical_range(count, df, confidence) * error, n, sd),
    )


def _interval(mean: float, half: float, n: int, sd: float) -> Interval:
    return Interval(mean=mean, low=mean - half, high=mean + half, n=n, sd=sd)


@lru_cache(maxsize=256)
def critical_max_t(count: int, df: int, confidence: float = CONFIDENCE) -> float:
    """Return c with P(max_k |T_k| <= c) = confidence for `count` t variables equicorrelated by 1/2.

    P = E_s E_z [Phi(sqrt2 c s + z) - Phi(-sqrt2 c s + z)]^count, z ~ N(0, 1), df s^2 ~ chi2(df); Gauss-Hermite in z,
    generalised Gauss-Laguerre in s^2.
    """
    if count == 1:
        return float(stats.t.ppf((1 + confidence) / 2, df))
    x, wx = special.roots_hermitenorm(_NODES)
    y, wy = special.roots_genlaguerre(_NODES, df / 2 - 1)
    z, s = x[:, None], np.sqrt(2 * y / df)[None, :]
    weights = np.outer(wx / wx.sum(), wy / wy.sum())

    def excess(c: float) -> float:
        inside = special.ndtr(math.sqrt(2) * c * s + z) - special.ndtr(-math.sqrt(2) * c * s + z)
        return float((weights * inside**count).sum()) - confidence

    return float(optimize.brentq(excess, 0.5, 200.0, xtol=1e-9))


@lru_cache(maxsize=256)
def critical_range(count: int, df: int, confidence: float = CONFIDENCE) -> float:
    """Return the critical |t| for all pairs of `count` arms (studentised range over sqrt 2); NaN for one arm."""
    if count < 2:
        return math.nan
    return float(stats.studentized_range.ppf(confidence, count, df)) / math.sqrt(2)
