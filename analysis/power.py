"""How many seeds a claim needs, from a pilot's variance: asked before the seeds are run. Pure, on a study.

The pilot's noise of a loss is that about arm and seed (two-way residuals over all arms of a domain and their common
seeds); a paired difference of two arms has sqrt 2 times it. A pilot of few seeds may be calm by luck, so each answer is
given twice: at its standard deviation, and at the upper 80 % confidence limit of it (Browne 1995).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np

from analysis.claims import contrast
from analysis.quantiles import above, chi_squared
from analysis.simultaneous import critical_max_t, residual_sd
from analysis.statistics import CONFIDENCE, MIN_SEEDS, POWER, t_critical
from analysis.study import Study
from sweeps.language.claim import BASELINE

MOST_SEEDS = 1000
EFFECTS = (0.005, 0.01, 0.02, 0.05)
"""True gains beyond a claim's threshold, nats; 0.01 is one percent of perplexity."""
CAUTION = 0.8


@dataclass(frozen=True, kw_only=True)
class Pilot:
    """The noise of one domain."""

    domain: str
    arms: int
    """Arms that share these seeds, the baselines included."""
    seeds: int
    sd: float
    """Of a paired difference of two arms, nats; NaN without two arms that share two seeds."""
    sd_high: float
    """Its upper 80 % confidence limit."""
    df: int


@dataclass(frozen=True, kw_only=True)
class Requirement:
    """What one claim needs."""

    claim: str
    """Its name; of an arm without a claim the arm's."""
    text: str
    domain: str
    bands: int
    """Bands among which the best is chosen; 1: none is."""
    seeds: tuple[int | None, ...]
    """For each effect, at the pilot's standard deviation; None: more than `MOST_SEEDS`, or there is no pilot."""
    seeds_high: tuple[int | None, ...]
    """At its upper limit."""
    note: str = ""
    """Why there is no answer."""


def pilot(study: Study, domain: str) -> Pilot:
    """Return the noise of a domain over the seeds that its scored arms share; arms of a single seed are left out."""
    cells = [losses for (d, _), losses in study.losses.items() if d == domain and len(losses) > 1]
    seeds = sorted(set.intersection(*(set(c) for c in cells))) if cells else []
    table = np.array([[cell[seed] for seed in seeds] for cell in cells]).reshape(len(cells), len(seeds))
    sd, df = residual_sd(table) if table.size else (math.nan, 0)
    high = sd * math.sqrt(df / chi_squared(1 - CAUTION, df)) if df else math.nan
    return Pilot(domain=domain, arms=len(cells), seeds=len(seeds), sd=math.sqrt(2) * sd, sd_high=math.sqrt(2) * high,
                 df=df)


def requirements(study: Study, effects: Sequence[float] = EFFECTS, power: float = POWER) -> list[Requirement]:
    """Return what each claim of the plan needs; without a claim, what each arm needs to be told from its baseline."""
    plan = study.records.plan
    claims: list[tuple[str, Mapping[str, Any]]] = list(plan.claims.items())
    if not claims:
        claims = [(arm, {"domain": d, "arm": arm, "over": BASELINE, "gain_nats": "> 0"})
                  for d in study.records.domains for arm in study.treated(d)]
    pilots = {d: pilot(study, d) for d in study.records.domains}
    return [_requirement(study, name, fields, pilots.get(str(fields.get("domain"))), effects, power)
            for name, fields in claims]


def _requirement(
    study: Study, name: str, fields: Mapping[str, Any], known: Pilot | None, effects: Sequence[float], power: float
) -> Requirement:
    domain = str(fields.get("domain", ""))
    text = str(fields.get("says") or f"{fields.get('arm')} over {fields.get('over')} in {domain} "
                                     f"{fields.get('gain_nats')}")
    none: tuple[int | None, ...] = (None,) * len(effects)
    arms, _, reason = ([], "", "an order of bands: not planned by effects") if fields.get("band") else contrast(
        study, fields)
    if not reason and (known is None or not known.df):
        reason = "no pilot: it takes two seeds of two arms"
    if reason or known is None:
        return Requirement(claim=name, text=text, domain=domain, bands=0, seeds=none, seeds_high=none, note=reason)
    at, high = (tuple(seeds_needed(e, sd, len(arms), power) for e in effects) for sd in (known.sd, known.sd_high))
    return Requirement(claim=name, text=text, domain=domain, bands=len(arms), seeds=at, seeds_high=high)


def seeds_needed(effect: float, sd: float, bands: int = 1, power: float = POWER) -> int | None:
    """Return the fewest seeds that find an effect with this power; None: more than `MOST_SEEDS`.

    One arm: paired t. The best of several bands: max-t with the variance pooled over them, for the band that has the
    effect.

    Args:
        effect: true gain beyond the claim's threshold, nats, above 0.
        sd: of a paired difference, nats.
        bands: bands among which the best is chosen.
        power: above 0.05 and below 1.
    """
    if power_at(effect / sd if sd else math.inf, MOST_SEEDS, bands) < power:
        return None
    low, high = MIN_SEEDS - 1, MOST_SEEDS  # power(low) is too small or not allowed, power(high) is enough
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if power_at(effect / sd if sd else math.inf, middle, bands) >= power else (
            middle, high)
    return high


@lru_cache(maxsize=4096)
def power_at(effect_over_sd: float, n: int, bands: int = 1) -> float:
    """Return the power of n seeds for an effect in units of the sd of a paired difference (noncentral t)."""
    df = bands * (n - 1)
    critical = t_critical(df) if bands == 1 else critical_max_t(bands, df, CONFIDENCE)
    return above(critical, df, effect_over_sd * math.sqrt(n))
