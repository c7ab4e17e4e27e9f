"""How much sooner an arm gets where the baseline ends. Pure functions of loss curves; protocol, section 6.

L_b(t), L_x(t): validation loss in nats per token against PT tokens t. T_b: the baseline's last evaluation, L* its loss
there. T_own, T_x: the first t with L <= L*, piecewise linear in (t, loss) between evaluations; no smoothing. T_ppt:
upstream tokens. Nothing here is inference: first crossings of noisy curves are biased, so intervals come from
`inversion.py`, which uses T_b only.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
_FAR_BELOW = -700.0
"""Nats; `gain_percent` of less may be beyond what floats hold."""
_UNSOUND = "a curve needs finite losses at distinct token counts, at least one"


@dataclass(frozen=True)
class Curve:
    """Evaluations of one run."""

    tokens: Floats
    """PT tokens, strictly increasing."""
    losses: Floats
    """Nats per token, finite."""

    @classmethod
    def of(cls, points: Iterable[tuple[float, float]]) -> Curve:
        """Return the curve through (tokens, loss) points, in any order.

        Raises:
            ValueError: no point, two at the same token count, or a loss that is not finite.
        """
        ordered = np.array(sorted(points), dtype=np.float64).reshape(-1, 2)
        if not len(ordered):
            raise ValueError(_UNSOUND)
        return cls.cut(ordered[:, 0], ordered[:, 1], np.zeros(1, dtype=np.int64))[0]

    @classmethod
    def cut(cls, tokens: Floats, losses: Floats, first: npt.NDArray[np.int64]) -> list[Curve]:
        """Return the curves that begin at these places of columns in which each is in the order of tokens.

        Raises:
            ValueError: as `of`.
        """
        rising = tokens[1:] > tokens[:-1]
        rising[first[1:] - 1] = True
        if not (np.isfinite(tokens).all() and np.isfinite(losses).all() and rising.all()):
            raise ValueError(_UNSOUND)
        bounds = [*first.tolist(), len(tokens)]
        return [cls(tokens[a:b], losses[a:b]) for a, b in pairwise(bounds)]

    @property
    def last(self) -> float:
        """Tokens of the last evaluation."""
        return float(self.tokens[-1])

    @cached_property
    def least(self) -> float:
        """The lowest loss, nats per token."""
        return float(self.losses.min())

    def at(self, tokens: float) -> float:
        """Loss at `tokens`, piecewise linear; NaN outside the evaluations."""
        if tokens == self.tokens[-1]:  # mostly
            return float(self.losses[-1])
        return float(np.interp(tokens, self.tokens, self.losses, left=math.nan, right=math.nan))


def crossing(curve: Curve, target: float) -> float | None:
    """Return the first t (tokens) with loss <= `target` (nats), None where no evaluation reaches it.

    Already reached at the first evaluation: that evaluation's t, an upper bound of the crossing.
    """
    below = curve.losses <= target
    i = int(below.argmax())  # of the first: of all Falses it is 0 too
    if not below[i]:
        return None
    if i == 0:
        return float(curve.tokens[0])
    t0, t1, l0, l1 = (float(x) for x in (*curve.tokens[i - 1 : i + 1], *curve.losses[i - 1 : i + 1]))
    return t0 + (t1 - t0) * (l0 - target) / (l0 - l1)


class Convergence(NamedTuple):
    """One arm against its baseline, one seed. NaN where a value is not defined."""

    t_b: float
    """T_b, tokens."""
    loss_baseline: float
    """L*, nats per token."""
    loss_arm: float
    """L_x(T_b), nats per token; NaN where the arm has no evaluation at or after T_b. Of an arm that was planned for
    another number of PT tokens: its loss at its own last evaluation."""
    gain_nats: float
    """L* - `loss_arm`; positive: the arm is better."""
    gain_percent: float
    """Perplexity gain 100 (1 - exp(`loss_arm` - L*))."""
    t_own: float
    """T_own, tokens: the baseline's own first crossing of L*."""
    t_x: float
    """T_x, tokens; NaN where censored."""
    censored: bool
    """The arm never reaches L*."""
    flat_tail: bool
    """T_own < T_b: the baseline's tail is flat, so `speedup` and `speedup_at_end` differ."""
    at_first: bool
    """L* is reached at the arm's first evaluation already: T_x is an upper bound, the speed-ups lower bounds."""
    speedup: float
    """T_own / T_x."""
    charged_speedup: float
    """T_own / (T_x + T_ppt)."""
    flop_charged_speedup: float
    """T_own / (T_x + upstream FLOPs / PT FLOPs per token)."""
    token_saving: float
    """1 - (T_x + T_ppt) / T_own."""
    mrs: float
    """Marginal rate of substitution (T_own - T_x) / T_ppt: PT tokens saved per upstream token."""
    speedup_bound: float
    """T_own / (the arm's last t), of a censored arm."""
    speedup_at_end: float
    """T_b / T_x."""
    charged_speedup_at_end: float
    """T_b / (T_x + T_ppt)."""
    token_saving_at_end: float
    """1 - (T_x + T_ppt) / T_b."""
    mrs_at_end: float
    """(T_b - T_x) / T_ppt."""
    speedup_bound_at_end: float
    """T_b / (the arm's last t), of a censored arm."""


def compare(
    baseline: Curve, arm: Curve, upstream_tokens: float, upstream_flop_tokens: float = math.nan, *,
    own_end: bool = False,
) -> Convergence:
    """Return every convergence measure of one arm and seed.

    Args:
        baseline: scored evaluations of scratch.
        arm: scored evaluations of the arm.
        upstream_tokens: T_ppt, tokens.
        upstream_flop_tokens: upstream FLOPs in PT tokens of equal FLOPs.
        own_end: the arm was planned for another number of PT tokens (equal totals, `scratch_longer`), so its loss
            counts at its own last evaluation.
    """
    t_b, target = baseline.last, float(baseline.losses[-1])
    own = crossing(baseline, target)
    assert own is not None, "the last evaluation reaches its own loss"
    found = crossing(arm, target)
    t_x = math.nan if found is None else found
    loss_arm = float(arm.losses[-1]) if own_end else arm.at(t_b)
    return Convergence(
        t_b=t_b, loss_baseline=target, loss_arm=loss_arm, gain_nats=target - loss_arm,
        gain_percent=gain_percent(target - loss_arm), t_own=own, t_x=t_x, censored=found is None,
        flat_tail=own < t_b, at_first=found is not None and found == arm.tokens[0],
        speedup=_ratio(own, t_x), charged_speedup=_ratio(own, t_x + upstream_tokens),
        flop_charged_speedup=_ratio(own, t_x + upstream_flop_tokens),
        token_saving=1 - _ratio(t_x + upstream_tokens, own), mrs=_ratio(own - t_x, upstream_tokens),
        speedup_bound=_ratio(own, arm.last) if found is None else math.nan,
        speedup_at_end=_ratio(t_b, t_x), charged_speedup_at_end=_ratio(t_b, t_x + upstream_tokens),
        token_saving_at_end=1 - _ratio(t_x + upstream_tokens, t_b), mrs_at_end=_ratio(t_b - t_x, upstream_tokens),
        speedup_bound_at_end=_ratio(t_b, arm.last) if found is None else math.nan,
    )


def gain_percent(gain_nats: float) -> float:
    """Perplexity gain in percent, 100 (1 - exp(-gain)), of a loss difference in nats; -inf beyond what floats hold."""
    if gain_nats < _FAR_BELOW:
        with np.errstate(over="ignore"):  # it takes longer than the rest
            return float(-100 * np.expm1(-gain_nats))
    return float(-100 * np.expm1(-gain_nats))


def _ratio(numerator: float, denominator: float) -> float:
    return numerator / denominator if denominator else math.nan  # an evaluation may stand at 0 tokens


def speedup_over_targets(baseline: Curve, arm: Curve, targets: Floats) -> Floats:
    """Return T_b(target) / T_x(target) for each target loss (nats).

    One number at L* mostly reads the learning-rate tail, so the whole curve is shown. NaN where either run does not
    reach the target, or has reached it by its first evaluation (the crossing is then only bounded).
    """
    inside = targets < min(baseline.losses[0], arm.losses[0])
    inside &= targets >= max(baseline.least, arm.least)
    ratios = np.full(len(targets), math.nan)
    ratios[inside] = _crossings(baseline, targets[inside]) / _crossings(arm, targets[inside])
    return ratios


def _crossings(curve: Curve, targets: Floats) -> Floats:
    """Return `crossing` of each target below the curve's first loss that the curve reaches."""
    i = np.searchsorted(-np.minimum.accumulate(curve.losses), -targets)
    t0, t1, l0, l1 = curve.tokens[i - 1], curve.tokens[i], curve.losses[i - 1], curve.losses[i]
    crossed: Floats = t0 + (t1 - t0) * (l0 - targets) / (l0 - l1)
    return crossed


def targets_between(curves: Iterable[Curve], count: int) -> Floats:
    """Return `count` target losses (nats) from the lowest first to the highest lowest loss of the curves, falling."""
    listed = list(curves)
    if not listed:
        return np.empty(0)
    top, bottom = min(float(c.losses[0]) for c in listed), max(c.least for c in listed)
    return np.linspace(top, bottom, count) if top > bottom else np.array([bottom])
