"""L(D) = E + A D^-alpha through annealed ends, and how much more data of the baseline an arm's gain is worth. Pure.

The form is Hoffmann et al.'s (2022, arXiv 2203.15556) at one model size. Each seed has its own E and A (arms of one
seed share text order and initialisation), alpha is theirs together. With d = D / T and z = (d^-alpha - 1) / alpha it is
L = level + slope z: linear given alpha, and L = level - slope ln d at alpha = 0. level is the loss at T, slope =
-dL / d ln D there (nats per e-fold of data), E = level - slope / alpha.
Only annealed ends lie on such a curve: a point of a trunk, or of a cosine before its end, lies above it.
Shapes: A alphas that are tried, E ends of one seed.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from scipy import special

from analysis.convergence import Curve, Floats
from analysis.statistics import CONFIDENCE, FEW_SEEDS, MIN_SEEDS, t_critical

MIN_ENDS = 3
MAX_ALPHA = 2.0
"""Published exponents of data lie between 0.1 and 0.4; a fit that wants more than this has no curve to fit."""
_LOGARITHMIC = 1e-6
"""Stands for alpha = 0."""
_GRID = 401


@dataclass(frozen=True, kw_only=True)
class PowerLaw:
    """A fit to the annealed ends of some seeds. NaN where a value is not defined."""

    at: float
    """T, tokens: the last end."""
    alpha: float
    alpha_low: float
    """Lower end of alpha's 95 % interval (profile F); NaN: open at 0, where the law is logarithmic."""
    alpha_high: float
    """NaN: open at `MAX_ALPHA`."""
    note: str
    """Why alpha has no interval; empty where it has one."""
    levels: Floats
    """(n,) fitted loss at T of each seed, nats."""
    slopes: Floats
    """(n,) -dL / d ln D at T of each seed, nats per e-fold."""
    floor: float
    """E, mean over seeds, nats; NaN at alpha = 0. Far extrapolation: it has no interval that could be believed."""
    sd: float
    """Residual standard deviation of one loss, nats; NaN without a degree of freedom."""
    edges: tuple[tuple[float, Floats], ...]
    """alpha at both ends of its interval (0 and `MAX_ALPHA` where open) and the slopes there; empty without one."""


def fit(curves: Sequence[Curve]) -> PowerLaw | None:
    """Return the fit to one arm's annealed ends; None where a seed has fewer than `MIN_ENDS`, or there is none.

    alpha's interval is {alpha: RSS(alpha) <= RSS_min (1 + F(1, df) / df)} within [0, `MAX_ALPHA`], with df = ends of
    all seeds - 2 seeds - 1. It takes `MIN_SEEDS` seeds: the spread of one seed's ends says nothing of another seed.

    Args:
        curves: annealed ends of each seed, above 0 tokens, with a common last one.
    """
    if not curves or min(len(c.tokens) for c in curves) < MIN_ENDS or len({c.last for c in curves}) > 1:
        return None
    if min(c.tokens[0] for c in curves) <= 0:
        return None
    coarse = np.linspace(_LOGARITHMIC, MAX_ALPHA, _GRID)
    sums = _lines(curves, coarse)[2]
    around = coarse[max(int(np.argmin(sums)) - 1, 0) :][:3]
    fine = np.linspace(around[0], around[-1], _GRID)
    alpha = float(fine[np.argmin(_lines(curves, fine)[2])])
    levels, slopes, (least,) = _lines(curves, np.array([alpha]))
    df = sum(len(c.tokens) for c in curves) - 2 * len(curves) - 1
    few = len(curves) < MIN_SEEDS
    low, high = (math.nan, math.nan) if few else _profile(coarse, sums, alpha, float(least), df)
    edges = np.array([_LOGARITHMIC if math.isnan(low) else low, MAX_ALPHA if math.isnan(high) else high])
    return PowerLaw(
        at=curves[0].last, alpha=alpha, alpha_low=low, alpha_high=high, note=FEW_SEEDS if few else "",
        levels=levels[:, 0], slopes=slopes[:, 0],
        floor=float((levels - slopes / alpha).mean()) if alpha > _LOGARITHMIC else math.nan,
        sd=math.sqrt(float(least) / df) if df > 0 else math.nan,
        edges=() if few else tuple(zip(edges.tolist(), _lines(curves, edges)[1].T, strict=True)),
    )


def _lines(curves: Sequence[Curve], alphas: Floats) -> tuple[Floats, Floats, Floats]:
    """Return levels and slopes, (n, A), of each seed's least-squares line through (z, loss), and RSS of all, (A,)."""
    levels, slopes, sums = [], [], np.zeros(len(alphas))
    for curve in curves:
        z_AE = np.expm1(-alphas[:, None] * np.log(curve.tokens / curve.last)) / alphas[:, None]
        away_AE, loss_E = z_AE - z_AE.mean(axis=1, keepdims=True), curve.losses - curve.losses.mean()
        slope_A = (away_AE @ loss_E) / (away_AE**2).sum(axis=1)
        sums += ((loss_E - slope_A[:, None] * away_AE) ** 2).sum(axis=1)
        slopes.append(slope_A)
        levels.append(curve.losses.mean() - slope_A * z_AE.mean(axis=1))
    return np.array(levels), np.array(slopes), sums


def _profile(grid: Floats, sums: Floats, alpha: float, least: float, df: int) -> tuple[float, float]:
    if df < 1:
        return math.nan, math.nan
    limit = least * (1 + float(special.fdtri(1, df, CONFIDENCE)) / df)
    kept = np.append(grid[sums <= limit], alpha)  # alpha itself, where the interval is narrower than the grid
    low, high = float(kept.min()), float(kept.max())
    return (low if low > _LOGARITHMIC else math.nan), (high if high < MAX_ALPHA else math.nan)


@dataclass(frozen=True, kw_only=True)
class EquivalentData:
    """How many times the baseline's tokens give the arm's loss. NaN where a value is not defined."""

    ratio: float
    """D / T_b at which the baseline's fit reaches the arm's loss at T_b; above 1: the gain saves data."""
    low: float
    """Lower end of its 95 % interval (Fieller, over alpha's interval)."""
    high: float
    """NaN: open, the gain reaches below the fitted floor, or the slope is not resolved."""
    n: int
    """Seeds."""
    note: str = ""
    """Why an end is open, or why there is no interval."""


def equivalent_data(law: PowerLaw, gains: Sequence[float], confidence: float = CONFIDENCE) -> EquivalentData:
    """Return the equivalent-data gain that gains at T_b imply on the baseline's fit.

    Seed i of the baseline reaches its arm's loss at the z with g_i + slope_i z = 0. For one alpha the interval is the
    set of z that a paired t test on g_i + slope_i z does not reject (Fieller 1954), as d = (1 + alpha z)^(-1 / alpha).
    It is taken at alpha and at both ends of alpha's own interval, and reaches from the lowest to the highest: with
    alpha as if it were known it covered 87-93 %. It holds 1 exactly where the paired-t interval of the gain holds 0.

    Args:
        law: the baseline's fit.
        gains: L* - L_x(T_b) of each seed, in the order of the fit's seeds, nats.
        confidence: coverage.
    """
    g, n = np.asarray(gains, dtype=np.float64), len(gains)
    none = EquivalentData(ratio=math.nan, low=math.nan, high=math.nan, n=n)
    if law.slopes.mean() <= 0:
        return replace(none, note="the baseline does not improve")
    made = replace(none, ratio=_ratio(-float(g.mean() / law.slopes.mean()), law.alpha))
    if n < MIN_SEEDS:
        return replace(made, note=FEW_SEEDS)
    found = [_fieller(g, slopes, alpha, confidence) for alpha, slopes in ((law.alpha, law.slopes), *law.edges)]
    kept = [ends for ends in found if ends is not None]
    if len(kept) < len(found):
        return replace(made, note="the fit's slope is not resolved")
    low = min((low for low, _ in kept if math.isfinite(low)), default=math.nan)
    high = max(high if math.isfinite(high) else math.inf for _, high in kept)
    if math.isinf(high):
        return replace(made, low=low, note="open above: the gain reaches below the fitted floor")
    return replace(made, low=low, high=high)


def _fieller(gains: Floats, slopes: Floats, alpha: float, confidence: float) -> tuple[float, float] | None:
    """Return the interval of d for one alpha, NaN where an end is below the floor; None: the slope is not resolved."""
    factor = t_critical(len(gains) - 1, confidence) ** 2 / len(gains)
    (vg, cov), (_, vs) = np.cov(gains, slopes)
    g, slope = float(gains.mean()), float(slopes.mean())
    a, b, c = slope**2 - factor * float(vs), g * slope - factor * float(cov), g**2 - factor * float(vg)
    if a <= 0 or slope <= 0:
        return None
    width = math.sqrt(max(b * b - a * c, 0.0))
    return _ratio((-b + width) / a, alpha), _ratio((-b - width) / a, alpha)


def _ratio(z: float, alpha: float) -> float:
    """Return d of z, (1 + alpha z)^(-1 / alpha); NaN below the floor."""
    return math.exp(-math.log1p(alpha * z) / alpha) if alpha * z > -1 else math.nan
