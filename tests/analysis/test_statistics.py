"""Paired t, power, proportions."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from analysis.statistics import (
    FEW_SEEDS,
    detectable_effect,
    detectable_over_sd,
    exact_interval,
    paired_t,
    pooled_sd,
    power_of,
)
from tests.analysis.conftest import RELAXED

nats = st.integers(-1000, 1000).map(lambda v: v / 1000)


def test_paired_t_by_hand() -> None:
    """Mean 2, sd 1, n 3: 2 +- 4.3027 / sqrt 3."""
    found = paired_t([1.0, 2.0, 3.0])
    assert (found.mean, found.sd, found.n, found.note) == (2.0, 1.0, 3, "")
    assert found.half == pytest.approx(4.302653 / math.sqrt(3), rel=1e-6)
    assert [paired_t(v).resolved for v in ([1.0, 2.0, 3.0], [1.0, 1.1, 1.2], [-1.0, -1.1, -1.2])] == [0, 1, -1]


@pytest.mark.parametrize("values", [[], [0.1], [0.1, 0.2]])
def test_fewer_than_three_seeds_have_no_interval(values: list[float]) -> None:
    found = paired_t(values)
    assert found.note == FEW_SEEDS and math.isnan(found.low) and found.resolved == 0


@RELAXED
@given(st.lists(nats, min_size=3, max_size=8), nats)
def test_paired_t_moves_with_its_values(values: list[float], shift: float) -> None:
    plain, moved, turned = paired_t(values), paired_t([v + shift for v in values]), paired_t([-v for v in values])
    assert moved.low == pytest.approx(plain.low + shift, abs=1e-9)
    assert (turned.low, turned.high) == pytest.approx((-plain.high, -plain.low))


@RELAXED
@given(st.permutations([0.1, 0.5, -0.2, 0.3]))
def test_the_order_of_seeds_is_nothing(values: list[float]) -> None:
    assert paired_t(values).high == pytest.approx(paired_t([0.1, 0.5, -0.2, 0.3]).high)


def test_interval_agrees_with_scipy() -> None:
    values = [0.05, 0.08, 0.02, 0.06]
    low, high = stats.ttest_1samp(values, 0).confidence_interval()
    assert (paired_t(values).low, paired_t(values).high) == pytest.approx((low, high))


@pytest.mark.parametrize(("n", "effect"), [(3, 3.264), (4, 2.128), (5, 1.682), (10, 0.996), (20, 0.660)])
def test_detectable_effects(n: int, effect: float) -> None:
    """Power tables of the paired t test at 5 % and 80 %."""
    assert detectable_over_sd(n) == pytest.approx(effect, abs=1e-3)
    assert power_of(detectable_over_sd(n), n) == pytest.approx(0.8)


def test_no_effect_is_detectable_below_three_seeds() -> None:
    assert math.isnan(detectable_effect(0.1, 2)) and math.isnan(detectable_effect(math.nan, 5))
    assert power_of(0.0, 3) == pytest.approx(0.05)


def test_power_is_what_a_simulation_sees() -> None:
    draws = np.random.default_rng(0).normal(detectable_over_sd(4), 1.0, (4000, 4))
    t = draws.mean(axis=1) / draws.std(axis=1, ddof=1) * 2
    assert (np.abs(t) > stats.t.ppf(0.975, 3)).mean() == pytest.approx(0.8, abs=0.03)


def test_pooled_sd() -> None:
    assert pooled_sd([[0.0, 2.0], [5.0, 5.0], [1.0]]) == pytest.approx(1.0)
    assert math.isnan(pooled_sd([[1.0]]))


def test_proportions_by_hand() -> None:
    """Zero of 164: below 1.8 %."""
    assert exact_interval(0, 164) == pytest.approx((0.0, 0.0181), abs=1e-4)
    assert exact_interval(164, 164)[1] == 1.0
    assert exact_interval(81, 263) == pytest.approx((0.2527, 0.3676), abs=1e-3)


@RELAXED
@given(st.integers(1, 60).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))))
def test_exact_mirrors_and_holds_the_estimate(counts: tuple[int, int]) -> None:
    hits, n = counts
    low, high = exact_interval(hits, n)
    assert low <= hits / n <= high
    assert exact_interval(n - hits, n) == pytest.approx((1 - high, 1 - low))


@pytest.mark.parametrize("counts", [(0, 0), (3, 2), (-1, 2)])
def test_an_empty_result_is_an_error(counts: tuple[int, int]) -> None:
    with pytest.raises(ValueError, match="no proportion"):
        exact_interval(*counts)
