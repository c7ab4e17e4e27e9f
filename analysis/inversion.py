"""The interval of a speed-up by test inversion at T_b. Pure.

The interval is the set of s that a paired t test on D_i(s) = L_x,i(T_b / s) - L*_i over seeds does not reject. It needs
no crossing, so censored seeds count, and it covers 95 % at the null too (protocol, section 6). D_i is piecewise linear
in u = 1 / s, so "not rejected" is a quadratic inequality on each piece and the set is exact, not a grid.

What it covers is the speed-up of the piecewise-linear curve. A loss curve is convex, so between distant evaluations the
interpolated loss is too high and the speed-up understated: simulated with noise of 0.003 nats and a true 1.25, six
evaluations from 0.5 to 1.0 of T_b cover 95 %, three (0.5, 0.7, 1.0) about 78 %. The gain at T_b has no such bias.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from analysis.convergence import Curve, Floats
from analysis.statistics import CONFIDENCE, FEW_SEEDS, MIN_SEEDS, t_critical

_TINY = 1e-12


@dataclass(frozen=True, kw_only=True)
class SpeedupInterval:
    """Speed-ups that the data do not reject."""

    low: float
    """NaN: open, the arm's last evaluation T_b / t_end is not rejected and nothing was measured beyond."""
    high: float
    """NaN: open at the arm's first evaluation, T_b / t_first."""
    n: int
    """Seeds."""
    note: str = ""
    """Which side is open and where, or why there is no interval."""


def speedup_interval(
    targets: Sequence[float], t_b: Sequence[float], arms: Sequence[Curve], confidence: float = CONFIDENCE
) -> SpeedupInterval:
    """Return the test-inversion interval of the speed-up.

    Args:
        targets: L* of each seed's baseline, nats.
        t_b: T_b of each seed's baseline, tokens.
        arms: the arm's scored curve of each seed.
        confidence: coverage.
    """
    n = len(arms)
    if n < MIN_SEEDS:
        return SpeedupInterval(low=math.nan, high=math.nan, n=n, note=FEW_SEEDS)
    first = max(c.tokens[0] / t for c, t in zip(arms, t_b, strict=True))
    last = min(c.last / t for c, t in zip(arms, t_b, strict=True))
    if first > last:
        return SpeedupInterval(low=math.nan, high=math.nan, n=n, note="the seeds share no evaluated range")
    inner = np.concatenate([c.tokens / t for c, t in zip(arms, t_b, strict=True)])
    knots = np.unique(np.concatenate([[first, last], inner[(inner > first) & (inner < last)]]))
    values = np.array([
        np.interp(knots * t, c.tokens, c.losses) - target
        for c, t, target in zip(arms, t_b, targets, strict=True)
    ])
    accepted = _accepted(knots, values, t_critical(n - 1, confidence))
    return _as_speedup(accepted, knots, values, n)


def _accepted(knots: Floats, values: Floats, critical: float) -> tuple[Floats, Floats]:
    """Return both ends of the closed intervals of u in which n mean^2 <= critical^2 variance.

    `values` is (seeds, knots). Between two knots the test changes its mind at most twice, so there are three pieces,
    each of which is accepted where its middle is.
    """
    on = knots[_margin(values, critical) <= 0]
    if len(knots) == 1:
        return on, on
    at_a, slope = values[:, :-1], np.diff(values)
    roots = _roots(at_a, slope, critical)
    cuts = np.vstack([np.zeros_like(roots[:1]), roots, np.ones_like(roots[:1])])
    middle = (cuts[:-1] + cuts[1:]) / 2
    inside = _margin(at_a[:, None] + middle * slope[:, None], critical) <= 0
    places = knots[:-1] + cuts * np.diff(knots)
    return np.append(on, places[:-1][inside]), np.append(on, places[1:][inside])


def _margin(differences: Floats, critical: float) -> Floats:
    """n mean^2 - critical^2 variance over the first axis: positive where the paired t test rejects; rounding is no
    evidence."""
    mean = np.maximum(np.abs(differences.mean(axis=0)) - _TINY, 0.0)
    margin: Floats = len(differences) * mean**2 - critical**2 * differences.var(axis=0, ddof=1)
    return margin


def _roots(at_a: Floats, slope: Floats, critical: float) -> Floats:
    """Return where in (0, 1) between two knots the test changes its mind, (2, pieces), in order; 1 where it does not.

    A double root (all seeds alike) is widened by rounding, so that an exact crossing is not lost.
    """
    n, level, rise = len(at_a), at_a.mean(axis=0), slope.mean(axis=0)
    base, turn, factor = at_a - level, slope - rise, critical**2 / (len(at_a) - 1)
    q2 = n * rise**2 - factor * (turn**2).sum(axis=0)
    q1 = 2 * (n * level * rise - factor * (base * turn).sum(axis=0))
    q0 = n * level**2 - factor * (base**2).sum(axis=0)
    straight = np.abs(q2) < _TINY * np.maximum(np.maximum(np.abs(q1), np.abs(q0)), _TINY)
    inside = q1**2 - 4 * q2 * q0
    none = inside < -_TINY * np.maximum(q1**2, np.abs(4 * q2 * q0))
    width = np.sqrt(np.maximum(inside, _TINY * q1**2)) * np.array([[-1.0], [1.0]])
    with np.errstate(divide="ignore", invalid="ignore"):  # of what is not taken
        roots = np.where(straight, -q0 / q1, np.where(none, 1.0, (width - q1) / (2 * q2)))
    return np.sort(np.where((roots > 0) & (roots < 1), roots, 1.0), axis=0)


def _as_speedup(accepted: tuple[Floats, Floats], knots: Floats, values: Floats, n: int) -> SpeedupInterval:
    bounds = {"at_end": 1 / float(knots[-1]), "at_first": 1 / float(knots[0]) if knots[0] else math.inf}
    lows, highs = accepted
    if not len(lows):  # one sign throughout: better than L* from the first evaluation on, or worse up to the last
        if values[:, -1].mean() > 0:
            return SpeedupInterval(
                low=math.nan, high=bounds["at_end"], n=n,
                note=f"below {bounds['at_end']:.4g}, open: L* is never reached",
            )
        return SpeedupInterval(
            low=bounds["at_first"], high=math.nan, n=n,
            note=f"above {bounds['at_first']:.4g}, open: L* is passed before the first evaluation",
        )
    smallest, largest = float(lows.min()), float(highs.max())
    open_low, open_high = largest >= float(knots[-1]), smallest <= float(knots[0])
    notes = [f"open below {bounds['at_end']:.4g}"] * open_low + [f"open above {bounds['at_first']:.4g}"] * open_high
    return SpeedupInterval(
        low=math.nan if open_low else 1 / largest, high=math.nan if open_high else 1 / smallest, n=n,
        note="; ".join(notes),
    )
