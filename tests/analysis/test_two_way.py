"""Intervals over items and seeds: by hand, against the intervals over seeds, and how often they hold the truth."""

from __future__ import annotations

import math
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from analysis.statistics import paired_t, power_of
from analysis.two_way import MIN_ITEMS, standard_error, two_way_t
from tests.analysis.conftest import RELAXED

SEEDS = (3, 4, 5, 10)
Table = npt.NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class World:
    """How differences of an item and a seed come about: standard deviations of items, seeds and the rest."""

    items: float = 0.0
    seeds: float = 0.0
    rest: float = 1.0
    law: Literal["normal", "exponential", "arms", "answers"] = "normal"
    """`arms`: the difference of two exponential ones; `answers`: right minus wrong of two arms, each a coin whose
    chance is the item's, the arm's better by 0.05."""
    count: int = 100
    """Items."""

    def draw(self, seeds: int, rng: np.random.Generator) -> tuple[Table, float]:
        """Return a table (I, S) and the truth that its mean is about."""
        if self.law == "answers":
            chance_IS = rng.beta(0.5, 2.0, (self.count, 1)) * np.ones(seeds)
            scratch_IS, arm_IS = rng.random((2, self.count, seeds))
            return 1.0 * (arm_IS < 0.95 * chance_IS + 0.05) - (scratch_IS < chance_IS), 0.05 * (1 - 0.2)
        noise: Mapping[str, Callable[[tuple[int, int]], Table]] = {
            "normal": rng.standard_normal, "exponential": lambda shape: rng.exponential(1.0, shape) - 1.0,
            "arms": lambda shape: (rng.exponential(1.0, shape) - rng.exponential(1.0, shape)) / math.sqrt(2)}
        draw = noise[self.law]
        return (self.items * draw((self.count, 1)) + self.seeds * draw((1, seeds))
                + self.rest * draw((self.count, seeds))), 0.0


WORLDS: Mapping[str, World] = {
    "items differ": World(items=1.0), "seeds differ": World(seeds=0.3), "both differ": World(items=1.0, seeds=0.1),
    "neither differs": World(), "skewed items": World(items=1.0, law="exponential"),
    "skewed, both differ": World(items=1.0, seeds=0.1, law="exponential"),
    "arms with skewed seeds": World(seeds=0.3, law="arms"),
    "skewed seeds": World(seeds=0.3, law="exponential"), "right and wrong answers": World(law="answers"),
    f"{MIN_ITEMS} skewed items": World(items=1.0, law="exponential", count=MIN_ITEMS),
}
LEAST = {"skewed seeds": 0.89}
"""Of a difference whose seeds are exponential themselves, not by the difference of two arms, no t interval of so few
seeds holds 95 %: the limit of the method, told in docs/statistics.md. All others hold 93 at least."""


def coverage(world: World, seeds: int, runs: int) -> float:
    """Return how often the interval holds the truth."""
    rng = np.random.default_rng([seeds, runs, zlib.crc32(repr(world).encode())])
    drawn = (world.draw(seeds, rng) for _ in range(runs))
    return sum((i := two_way_t(table)).low <= truth <= i.high for table, truth in drawn) / runs


def test_a_table_is_taken_apart_as_by_hand() -> None:
    """Mean squares of a small table, reckoned with the sums of an analysis of variance."""
    table = np.array([[1.0, 2.0, 6.0], [0.0, 4.0, 5.0], [3.0, 3.0, 9.0], [2.0, 1.0, 0.0]])
    rows, columns, grand = table.mean(1), table.mean(0), table.mean()
    of_items, of_seeds = 3 * ((rows - grand)**2).sum() / 3, 4 * ((columns - grand)**2).sum() / 2
    of_rest = (((table - grand)**2).sum() - 3 * of_items - 2 * of_seeds) / 6
    error, df = standard_error(table)
    assert error == pytest.approx(math.sqrt((of_items + of_seeds - of_rest) / 12))
    assert df == int((of_items + of_seeds - of_rest)**2 / (of_items**2 / 3 + of_seeds**2 / 2))


def test_items_that_are_alike_leave_the_paired_t_over_seeds() -> None:
    gains = [0.1, 0.3, 0.25, 0.12]
    alike = two_way_t(np.tile(gains, (50, 1)))
    assert (alike.low, alike.high) == pytest.approx((paired_t(gains).low, paired_t(gains).high))


def test_seeds_that_are_alike_leave_the_spread_of_items() -> None:
    """Then it is the t interval of one sample of items."""
    items = np.random.default_rng(0).normal(0.2, 1.0, 150)
    found, plain = two_way_t(np.tile(items[:, None], (1, 5))), paired_t(items.tolist())
    assert (found.low, found.high) == pytest.approx((plain.low, plain.high), rel=1e-3)


tables = arrays.arrays(np.float64, st.tuples(st.integers(1, 12), st.integers(3, 6)), elements=st.floats(-10, 10))


@given(tables)
@RELAXED
def test_it_is_never_narrower_than_over_seeds_and_lies_about_the_mean(table: Table) -> None:
    found, seeds = two_way_t(table), paired_t(table.mean(axis=0).tolist())
    assert found.mean == pytest.approx(float(table.mean()), abs=1e-12)
    assert found.low <= seeds.low + 1e-9 and found.high >= seeds.high - 1e-9
    assert found.items == len(table) and found.n == table.shape[1]


@given(tables, st.floats(-5, 5), st.floats(0.1, 10), st.randoms(use_true_random=False))
@RELAXED
def test_it_moves_with_shift_scale_and_no_order(table: Table, shift: float, scale: float, rng: Any) -> None:
    assume(float(np.ptp(table)) > 1e-3)
    order = rng.sample(range(len(table)), len(table))
    found, moved = two_way_t(table), two_way_t(shift + scale * table[order])
    assert moved.mean == pytest.approx(shift + scale * found.mean, abs=1e-9)
    assert moved.half == pytest.approx(scale * found.half, rel=1e-6, abs=1e-7)
    assert moved.detectable == pytest.approx(scale * found.detectable, rel=1e-6, abs=1e-7)


@pytest.mark.parametrize(("shape", "over"), [
    ((100, 2), "fewer than 3 seeds"), ((1, 3), "seeds"), ((100, 3), "items, seeds"),
    ((MIN_ITEMS - 1, 3), f"items, seeds; fewer than {MIN_ITEMS} items"), ((1, 0), "fewer than 3 seeds")])
def test_it_says_what_it_speaks_of_and_where_there_is_too_little(shape: tuple[int, int], over: str) -> None:
    found = two_way_t(np.random.default_rng(0).normal(size=shape))
    assert found.over == over and (found.note == "") is (shape[1] >= 3) is math.isfinite(found.low)


def test_a_detectable_difference_is_found_four_times_in_five() -> None:
    """Simulated: 400 experiments with a true difference of the detectable size of the world."""
    rng, world = np.random.default_rng(5), World(items=1.0, rest=0.5)
    sizes = [two_way_t(world.draw(5, rng)[0]).detectable for _ in range(50)]
    effect = float(np.median(sizes))
    found = sum(two_way_t(world.draw(5, rng)[0] + effect).resolved == 1 for _ in range(400)) / 400
    assert 0.72 < found < 0.88
    error = math.sqrt(1.0 / 100 + 0.25 / 500)
    assert effect / error == pytest.approx(2.85, abs=0.25) and power_of(2.85 / 10, 100) == pytest.approx(0.8, abs=0.02)


@pytest.mark.parametrize("seeds", [3, 10])
@pytest.mark.parametrize("name", ["both differ", "skewed items"])
def test_few_experiments_cover(name: str, seeds: int) -> None:
    assert coverage(WORLDS[name], seeds, 300) >= 0.93 - 0.025


@pytest.mark.timeout(1800)
@pytest.mark.parametrize(("runs", "slack"), [
    pytest.param(1000, 0.015, marks=pytest.mark.slow), pytest.param(10_000, 0.005, marks=pytest.mark.proof)])
@pytest.mark.parametrize("name", WORLDS)
def test_coverage(name: str, runs: int, slack: float, tell: Callable[[str], Any]) -> None:
    held = {seeds: coverage(WORLDS[name], seeds, runs) for seeds in SEEDS}
    texts = (f"{seeds} seeds {100 * share:.1f} %" for seeds, share in held.items())
    tell(f"two-way t; {name}; {runs} experiments: {', '.join(texts)}")
    assert min(held.values()) >= LEAST.get(name, 0.93) - slack, held
