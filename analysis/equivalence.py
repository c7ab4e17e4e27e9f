"""Whether an effect is too small to matter, so that a null is a finding and not a lack of seeds. Pure.

Two one-sided t tests (TOST; Schuirmann 1987): the effect is within +-margin where both are rejected at 5 %, which is
where the 90 % paired-t interval lies inside. A statement carries its power, the chance to make it when the true effect
is zero; below 0.8 it reads `inconclusive` (protocol, section 6), since a small standard deviation of three seeds may be
luck.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from scipy import special

from analysis.quantiles import chi_density, legendre
from analysis.statistics import CONFIDENCE, FEW_SEEDS, MIN_SEEDS, POWER, paired_t, t_critical, t_interval

PERCENT = 1.0
"""Perplexity gain, in percent, below which an effect is called small."""
_NODES = 200


@dataclass(frozen=True, kw_only=True)
class Equivalence:
    """An effect against a margin. NaN where a value is not defined."""

    margin: float
    """Nats: effects inside +-margin are small."""
    low: float
    """Lower end of the 90 % paired-t interval (1 - 2 x 5 %), nats."""
    high: float
    power: float
    """Chance that this n and standard deviation show an effect of zero to be small."""
    verdict: str
    """`smaller` than the margin, `larger` (the 95 % interval lies beyond it, on one side), `inconclusive`, `not
    tested`."""
    note: str = ""
    """Why it is not tested."""


def margin_of(percent: float = PERCENT) -> float:
    """Return the nats of a perplexity change of `percent`, ln(1 + percent / 100), the stricter of its two sides."""
    return math.log1p(percent / 100)


def equivalence(differences: Sequence[float], margin: float, sd: float = math.nan) -> Equivalence:
    """Return whether the mean of paired differences is within +-margin.

    Args:
        differences: one value per seed, nats.
        margin: nats, above 0.
        sd: standard deviation for the power, from more than these seeds (pooled over arms); NaN: theirs.
    """
    n = len(differences)
    if n < MIN_SEEDS:
        return Equivalence(margin=margin, low=math.nan, high=math.nan, power=math.nan, verdict="not tested",
                           note=FEW_SEEDS)
    wide = paired_t(differences)
    narrow = t_interval(wide.mean, wide.sd, n, 2 * CONFIDENCE - 1)
    spread = max(narrow.sd, sd) if math.isfinite(sd) else narrow.sd
    power = equivalence_power(margin / spread, n) if spread else 1.0
    verdict = "inconclusive"
    if -margin < narrow.low and narrow.high < margin and power >= POWER:
        verdict = "smaller"
    elif wide.low > margin or wide.high < -margin:
        verdict = "larger"
    return Equivalence(margin=margin, low=narrow.low, high=narrow.high, power=power, verdict=verdict)


@lru_cache(maxsize=4096)
def equivalence_power(margin_over_sd: float, n: int, effect_over_sd: float = 0.0) -> float:
    """Return the power of TOST at 5 % for a true effect, all in units of the sd of paired differences.

    P(|mean| + t s / sqrt n < margin) = E_s [Phi((m - d) sqrt n - t s) - Phi((-m - d) sqrt n + t s)]+, with
    df s^2 ~ chi2(df) and t the one-sided 95 % quantile (Phillips 1990); Gauss-Legendre over s where it is positive.
    """
    df, root = n - 1, math.sqrt(n)
    critical = t_critical(df, 2 * CONFIDENCE - 1)
    top = min(margin_over_sd * root / critical, math.sqrt(float(special.chdtri(df, 1e-14)) / df))
    nodes, weights = legendre(_NODES)
    s = (nodes + 1) / 2 * top
    density = chi_density(s * math.sqrt(df), df) * math.sqrt(df)
    inside = (special.ndtr((margin_over_sd - effect_over_sd) * root - critical * s)
              - special.ndtr((-margin_over_sd - effect_over_sd) * root + critical * s))
    return float((weights * density * np.maximum(inside, 0)).sum() * top / 2)
