"""Max-t intervals with pooled variance."""

from __future__ import annotations

import math

import numpy as np
import pytest

from analysis.power import power_at
from analysis.simultaneous import critical_max_t, critical_range, family
from analysis.statistics import FEW_SEEDS, t_critical


@pytest.mark.parametrize(("count", "df", "critical"), [
    (2, 10, 2.57), (4, 8, 3.02), (3, 60, 2.41), (9, 20, 2.95), (4, 5, 3.48), (4, 100_000, 2.44)])
def test_critical_values_are_dunnetts(count: int, df: int, critical: float) -> None:
    """Dunnett (1964), two-sided 5 %."""
    assert critical_max_t(count, df) == pytest.approx(critical, abs=0.006)


def test_one_arm_needs_students_t() -> None:
    assert critical_max_t(1, 8) == pytest.approx(t_critical(8))


def test_pairs_need_the_studentised_range() -> None:
    assert critical_range(4, 8) * math.sqrt(2) == pytest.approx(4.529, abs=1e-3)
    assert math.isnan(critical_range(1, 8))


def test_two_way_residuals_by_hand() -> None:
    """Seed effects cancel; residuals of [[0, 1], [0, -1]]-like tables give the pooled variance."""
    reference = np.array([3.0, 4.0, 5.0])
    arms = np.array([[2.9, 3.9, 4.9], [2.5, 3.5, 4.8]])
    found = family(reference, arms)
    assert found is not None and found.df == 4 and found.best == 1
    table = np.vstack([reference, arms])
    residual = table - table.mean(0) - table.mean(1, keepdims=True) + table.mean()
    assert found.sd == pytest.approx(math.sqrt((residual**2).sum() / 4))
    assert found.intervals[0].mean == pytest.approx(0.1)
    assert found.intervals[0].half == pytest.approx(found.critical * found.sd * math.sqrt(2 / 3))
    assert found.best_over_next.mean == pytest.approx(found.intervals[1].mean - found.intervals[0].mean)


@pytest.mark.parametrize(("bands", "seeds"), [(1, 3), (2, 3), (4, 5)])
def test_one_band_is_found_with_80_percent_power_at_the_familys_detectable_gain(bands: int, seeds: int) -> None:
    losses = np.random.default_rng(3).normal(size=(bands + 1, seeds))
    found = family(losses[0], losses[1:])
    assert found is not None
    assert power_at(found.detectable / (math.sqrt(2) * found.sd), seeds, bands) == pytest.approx(0.8, abs=1e-4)
    few = family(losses[0, :2], losses[1:, :2])
    assert few is not None and math.isnan(few.detectable)


def test_the_level_of_a_seed_is_nothing() -> None:
    rng = np.random.default_rng(1)
    reference, arms, level = rng.normal(size=4), rng.normal(size=(3, 4)), rng.normal(size=4)
    plain, moved = family(reference, arms), family(reference + level, arms + level)
    assert plain is not None and moved is not None
    assert [i.low for i in plain.intervals] == pytest.approx([i.low for i in moved.intervals])


def test_two_seeds_have_no_interval() -> None:
    found = family(np.array([1.0, 2.0]), np.array([[0.5, 1.5], [0.9, 1.9]]))
    assert found is not None and found.best == 0
    assert {i.note for i in found.intervals} == {FEW_SEEDS} and found.best_over_next.note == FEW_SEEDS


def test_nothing_to_compare() -> None:
    assert family(np.empty(0), np.empty((2, 0))) is None
    assert family(np.ones(3), np.empty((0, 3))) is None


def test_joint_coverage() -> None:
    """Four arms, three seeds: all four true gains are held in 95 % of sweeps, also where the seeds differ much."""
    rng, gains, held, runs = np.random.default_rng(7), np.array([0.0, 0.02, 0.05, -0.03]), 0, 1000
    for _ in range(runs):
        seeds = rng.normal(0, 0.05, 3)
        found = family(4 + seeds + rng.normal(0, 0.01, 3), 4 + seeds - gains[:, None] + rng.normal(0, 0.01, (4, 3)))
        assert found is not None
        held += all(i.low <= g <= i.high for i, g in zip(found.intervals, gains, strict=True))
    assert held / runs == pytest.approx(0.95, abs=0.02)
