"""Exact sign flips, equivalence, choosing on half of the seeds, and fits over data."""

from __future__ import annotations

import itertools
import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from analysis.convergence import Curve
from analysis.equivalence import equivalence, equivalence_power, margin_of
from analysis.inference import evidence, scaled
from analysis.load import load
from analysis.scaling import equivalent_data, fit
from analysis.simultaneous import plausible_best, split_selection
from analysis.statistics import FEW_SEEDS, paired_t, sign_flip_p, smallest_p
from analysis.study import Study
from analysis.tables import registry
from tests.analysis.conftest import RELAXED, SweepBuilder

differences = st.lists(st.integers(-1000, 1000).map(lambda v: v / 1000), min_size=1, max_size=9)


# -- sign flips ----------------------------------------------------------------------------------------------------


@RELAXED
@given(differences)
def test_sign_flip_p_counts_every_flip(values: list[float]) -> None:
    far = abs(sum(values)) - 1e-9
    sums = [sum(s * v for s, v in zip(signs, values, strict=True))
            for signs in itertools.product((-1, 1), repeat=len(values))]
    assert sign_flip_p(values) == pytest.approx(sum(abs(s) >= far for s in sums) / len(sums))
    assert smallest_p(len(values)) <= sign_flip_p(values) <= 1


@RELAXED
@given(differences, st.integers(1, 99))
def test_sign_flip_p_knows_no_unit_order_or_direction(values: list[float], scale: int) -> None:
    p = sign_flip_p(values)
    assert p == sign_flip_p([-v * scale for v in reversed(values)])


@pytest.mark.parametrize(("n", "least"), [(1, 1), (3, 0.25), (5, 0.0625), (6, 0.03125), (40, 2.0**-39)])
def test_agreeing_seeds_reach_the_smallest_p_and_no_less(n: int, least: float) -> None:
    assert sign_flip_p([0.1 + i / 100 for i in range(n)]) == smallest_p(n) == least


def test_darwins_peas() -> None:
    """Fisher (1935): 15 pairs, one-sided 863 of 2^15 at or above the sum of 314, so 2 x 863 / 32768 = 0.0527."""
    darwin = [49, -67, 8, 16, 6, 23, 28, 41, 14, 29, 56, 24, 75, 60, -48]
    assert sign_flip_p(darwin) == pytest.approx(2 * 863 / 2**15)


def test_no_p_without_seeds_or_beyond_what_is_counted() -> None:
    assert math.isnan(sign_flip_p([])) and math.isnan(sign_flip_p([0.1] * 41)) and math.isnan(smallest_p(0))


# -- equivalence ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("values", "verdict"), [
    ([0.0001, -0.0002, 0.0001, 0.0], "smaller"), ([0.02, 0.021, 0.0205], "larger"),
    ([-0.02, -0.021, -0.0205], "larger"), ([0.02, -0.02, 0.001], "inconclusive"), ([0.0, 0.0], "not tested"),
])
def test_verdicts_on_a_margin_of_one_percent(values: list[float], verdict: str) -> None:
    found = equivalence(values, margin_of())
    assert found.verdict == verdict and bool(found.note) == (verdict == "not tested")


def test_a_small_effect_without_power_is_inconclusive() -> None:
    """Three seeds agree by luck; the arms' pooled sd says that a null could not have been shown."""
    calm = [0.0001, -0.0001, 0.0002]
    assert equivalence(calm, margin_of()).verdict == "smaller"
    found = equivalence(calm, margin_of(), sd=0.006)
    assert found.verdict == "inconclusive" and found.power < 0.8


@pytest.mark.parametrize(("n", "ratio", "effect"), [(3, 2.0, 0.0), (5, 1.5, 0.0), (10, 1.0, 0.3), (3, 0.5, 0.0)])
def test_equivalence_power_is_what_a_simulation_sees(n: int, ratio: float, effect: float) -> None:
    draws = np.random.default_rng(1).normal(effect, 1, (20_000, n))
    half = stats.t.ppf(0.95, n - 1) * draws.std(axis=1, ddof=1) / math.sqrt(n)
    seen = (np.abs(draws.mean(axis=1)) + half < ratio).mean()
    assert equivalence_power(ratio, n, effect) == pytest.approx(seen, abs=0.012)


@RELAXED
@given(st.integers(3, 20), st.floats(1, 5))
def test_more_seeds_or_a_wider_margin_never_lower_the_power(n: int, ratio: float) -> None:
    """From a margin of one standard deviation on; far below, where power is a few percent, more seeds may lower it."""
    power = equivalence_power(ratio, n)
    assert 0 <= power <= min(equivalence_power(ratio, n + 1), equivalence_power(ratio * 1.1, n)) + 1e-6 <= 1 + 2e-6


def test_an_effect_at_the_margin_is_called_small_in_one_of_twenty() -> None:
    assert equivalence_power(3.0, 10, 3.0) == pytest.approx(0.05, abs=1e-3)


def test_margin_of_one_percent() -> None:
    assert margin_of(1) == pytest.approx(0.00995, abs=1e-5)


# -- choosing the best ---------------------------------------------------------------------------------------------


def test_a_split_chooses_on_some_seeds_and_judges_on_the_others() -> None:
    reference = np.full(6, 3.0)
    arms = np.array([[2.0, 2.9, 2.0, 2.8, 2.0, 2.85], [2.5, 1.0, 2.5, 1.0, 2.5, 1.0]])
    found = split_selection(reference, arms)
    assert found is not None and found.chosen == 0 and not set(found.choosing) & set(found.judging)
    assert found.interval == paired_t([3 - 2.9, 3 - 2.8, 3 - 2.85])
    assert split_selection(reference[:5], arms[:, :5]) is None


def test_the_chosen_arms_gain_is_not_biased_by_the_choice() -> None:
    """Eight equal arms, no gain: the best of all seeds looks good, the split one does not."""
    rng, naive, split = np.random.default_rng(2), [], []
    for _ in range(400):
        reference, arms = rng.normal(0, 1, 6), rng.normal(0, 1, (8, 6))
        found = split_selection(reference, arms)
        assert found is not None
        split.append(found.interval.mean)
        naive.append((reference - arms).mean(axis=1).max())
    assert np.mean(naive) > 0.4 and abs(np.mean(split)) < 4 * np.std(split) / math.sqrt(400)


def test_arms_that_nothing_beats_may_be_the_best() -> None:
    rng = np.random.default_rng(0)
    noise = rng.normal(0, 0.001, (3, 4))
    assert plausible_best(np.full(4, 3.0), 3 - np.array([[0.1], [0.1], [0.0]]) + noise) == [0, 1]
    assert plausible_best(np.full(2, 3.0), 3 - noise[:, :2]) == [0, 1, 2], "two seeds rule nothing out"


# -- fits over data ------------------------------------------------------------------------------------------------

ENDS = np.array([0.5, 0.7, 1.0]) * 300_000


def ends(alpha: float, floor: float, drop: float, tokens: np.ndarray = ENDS) -> Curve:
    """Annealed ends on a power law whose drop from its last end to the floor is `drop` nats."""
    return Curve(tokens, floor + drop * (tokens / tokens[-1]) ** -alpha)


@RELAXED
@given(st.floats(0.05, 1.5), st.floats(0.5, 4), st.floats(0.2, 2), st.integers(1, 4))
def test_a_power_law_is_found_again(alpha: float, floor: float, drop: float, seeds: int) -> None:
    law = fit([ends(alpha, floor + i / 50, drop) for i in range(seeds)])
    assert law is not None and law.alpha == pytest.approx(alpha, rel=1e-3)
    assert law.slopes == pytest.approx(np.full(seeds, alpha * drop), rel=1e-3)
    assert law.floor == pytest.approx(floor + (seeds - 1) / 100, abs=0.01)


def test_alpha_has_no_interval_below_three_seeds(tmp_path: Path) -> None:
    """The spread of one seed's ends says nothing of another seed."""
    six = np.linspace(0.5, 1.0, 6) * 300_000
    law = fit([ends(0.3, 2.5, 1.0, six)] * 2)
    assert law is not None and law.alpha == pytest.approx(0.3, rel=1e-3)
    assert math.isnan(law.alpha_low) and math.isnan(law.alpha_high) and law.note == FEW_SEEDS and law.edges == ()
    table = registry()["scaling"].build(Study(load(SweepBuilder(tmp_path, seeds=2, domains=("web",)).build(), "demo")))
    assert len(table) == 5 and table[["alpha_low", "alpha_high", "data_low"]].isna().all(axis=None)
    assert set(table["alpha_note"]) == {FEW_SEEDS} and table["alpha"].notna().all()


@RELAXED
@given(st.floats(0.1, 1.5), st.floats(0.6, 1.8), st.integers(1, 1000))
def test_equivalent_data_is_where_the_baseline_has_the_arms_loss(alpha: float, ratio: float, scale: int) -> None:
    """Also in other units of tokens, and at another level of loss."""
    curves = [ends(alpha, 2.0 + i / 9, 1.0 + i / 50) for i in range(3)]
    gains = [float(c.losses[-1] - (2.0 + i / 9 + (1.0 + i / 50) * ratio**-alpha)) for i, c in enumerate(curves)]
    law = fit([Curve(c.tokens * scale, c.losses + 1) for c in curves])
    assert law is not None
    found = equivalent_data(law, gains)
    assert found.ratio == pytest.approx(ratio, rel=2e-3) and found.low <= found.ratio * 1.001
    assert found.high >= found.ratio * 0.999


def test_equivalent_data_holds_one_exactly_where_the_gain_holds_zero() -> None:
    rng = np.random.default_rng(4)
    law = fit([ends(0.3, 2.5 + rng.normal(0, 0.02), 1.0) for _ in range(4)])
    assert law is not None
    for _ in range(50):
        gains = rng.normal(0.01, 0.008, 4).tolist()
        data, gain = equivalent_data(law, gains), paired_t(gains)
        assert (data.low > 1, data.high < 1) == (gain.low > 0, gain.high < 0)


def test_a_gain_below_the_floor_is_open_above() -> None:
    law = fit([ends(1.0, 3.0, 0.1 + i / 1000) for i in range(3)])
    assert law is not None
    found = equivalent_data(law, [0.2, 0.21, 0.2])
    assert math.isnan(found.ratio) and math.isnan(found.high) and "below the fitted floor" in found.note
    assert "fewer than 3" in equivalent_data(law, [0.01, 0.02]).note


def test_no_fit_without_three_ends_or_a_common_last_one() -> None:
    assert fit([]) is None and fit([Curve(ENDS[1:], np.array([3.0, 2.9]))]) is None
    assert fit([ends(0.3, 2, 1), ends(0.3, 2, 1, ENDS * 2)]) is None
    rising = fit([Curve(ENDS, np.array([2.0, 2.1, 2.3])) for _ in range(3)])
    assert rising is not None and "does not improve" in equivalent_data(rising, [0.1, 0.1, 0.2]).note


# -- on a sweep ----------------------------------------------------------------------------------------------------


def test_evidence_of_a_sweep(demo_study: Study) -> None:
    found = {e.arm: e for e in evidence(demo_study, "web")}
    nca = found["nca 60-75"]
    assert nca.gain == demo_study.effect("web", "nca 60-75") and nca.p == nca.least_p == 0.25
    assert nca.small.verdict == "larger" and nca.small.margin == margin_of()


def test_fits_of_a_sweep_hold_what_its_records_were_made_from(demo_study: Study) -> None:
    """The synthetic loss is 3.9 + 300 / sqrt(D)."""
    found = {s.arm: s for s in scaled(demo_study, "web")}
    law, data = found["scratch"].law, found["nca 30-45"].data
    low = 0 if math.isnan(law.alpha_low) else law.alpha_low
    assert found["scratch"].data is None and low < 0.5 < (2 if math.isnan(law.alpha_high) else law.alpha_high)
    assert data is not None and data.n == 3 and 1 < data.low < data.ratio
