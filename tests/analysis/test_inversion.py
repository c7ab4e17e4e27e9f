"""The interval of the speed-up."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from analysis.convergence import Curve
from analysis.inversion import speedup_interval
from tests.analysis.conftest import RELAXED

TOKENS = np.array([100.0, 140.0, 200.0])


def line(level: float) -> Curve:
    """A curve that falls by 1 nat per 100 tokens and is `level` at 200."""
    return Curve(TOKENS, level + (200 - TOKENS) / 100)


def test_fewer_than_three_seeds() -> None:
    found = speedup_interval([2.0, 2.0], [200, 200], [line(1.9), line(1.8)])
    assert math.isnan(found.low) and "fewer than 3" in found.note


def test_seeds_that_agree_give_a_point() -> None:
    """All curves cross L* = 2 at 150 tokens: speed-up 4/3 exactly."""
    found = speedup_interval([2.0] * 3, [200.0] * 3, [line(1.5)] * 3)
    assert (found.low, found.high) == pytest.approx((4 / 3, 4 / 3), abs=1e-4)


def test_worse_to_the_end_is_open_below() -> None:
    found = speedup_interval([1.0] * 3, [200.0] * 3, [line(2.0), line(2.01), line(2.02)])
    assert math.isnan(found.low) and found.high == 1 and "never reached" in found.note


def test_better_from_the_start_is_open_above() -> None:
    found = speedup_interval([5.0] * 3, [200.0] * 3, [line(2.0), line(2.01), line(2.02)])
    assert math.isnan(found.high) and found.low == 2 and "first evaluation" in found.note


def test_one_censored_seed_still_counts() -> None:
    found = speedup_interval([2.0] * 3, [200.0] * 3, [line(1.9), line(1.8), line(2.05)])
    assert math.isnan(found.low) and "open below 1" in found.note and found.high > 1


def test_seeds_without_a_common_range() -> None:
    arms = [line(2.0), line(2.0), Curve(np.array([300.0]), np.array([1.0]))]
    assert "no evaluated range" in speedup_interval([2.0] * 3, [200.0] * 3, arms).note


@RELAXED
@given(st.lists(st.integers(-60, 60), min_size=9, max_size=9), st.integers(-20, 80))
def test_agrees_with_a_grid_of_t_tests(noise: list[int], gain: int) -> None:
    arms = [
        Curve(TOKENS, line(2.0 - gain / 100).losses + np.array(noise[3 * i : 3 * i + 3]) / 1000) for i in range(3)
    ]
    found = speedup_interval([2.0] * 3, [200.0] * 3, arms)
    kept = []
    for s in np.linspace(1, 2, 41):
        d = [c.at(200 / s) - 2.0 for c in arms]
        spread = float(np.std(d, ddof=1))
        if abs(np.mean(d)) <= (stats.t.ppf(0.975, 2) - 1e-6) * spread / math.sqrt(3) + 1e-13:
            kept.append(float(s))
    if kept:
        assert math.isnan(found.low) or found.low <= kept[0] + 1e-6
        assert math.isnan(found.high) or found.high >= kept[-1] - 1e-6
        assert not (math.isnan(found.low) and kept[0] > 1.03)
        assert not (math.isnan(found.high) and kept[-1] < 1.97)


@RELAXED
@given(st.integers(1, 1000), st.integers(-300, 300))
def test_units_and_levels_change_nothing(scale: int, shift: int) -> None:
    arms = [line(1.5), line(1.6), line(1.45)]
    moved = [Curve(c.tokens * scale, c.losses + shift / 64) for c in arms]
    plain = speedup_interval([2.0] * 3, [200.0] * 3, arms)
    other = speedup_interval([2.0 + shift / 64] * 3, [200.0 * scale] * 3, moved)
    assert (other.low, other.high) == pytest.approx((plain.low, plain.high), rel=1e-6)


@pytest.mark.parametrize("speedup", [1.0, 1.25])
def test_coverage(speedup: float) -> None:
    """95 % also at the null, where first crossings would be biased; open ends count as held."""
    rng, held, runs = np.random.default_rng(3), 0, 800
    tokens = np.array([100.0, 120, 140, 160, 180, 200])
    for _ in range(runs):
        targets, arms = [], []
        for _ in range(3):
            seed = rng.normal(0, 0.02)
            targets.append(4 + seed + rng.normal(0, 0.003))
            arms.append(Curve(tokens, 4 + seed + 0.3 * np.log(200 / speedup / tokens) + rng.normal(0, 0.003, 6)))
        found = speedup_interval(targets, [200.0] * 3, arms)
        held += not (found.low > speedup or found.high < speedup)
    assert held / runs == pytest.approx(0.95, abs=0.025)
