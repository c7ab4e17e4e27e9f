"""Convergence measures: the published figures, hand values, and what must not change them."""

from __future__ import annotations

import csv
import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from analysis.convergence import Curve, compare, crossing, gain_percent, speedup_over_targets, targets_between
from tests.analysis.conftest import RELAXED

PUBLISHED = Path(__file__).parent.parent.parent / "analysis" / "published_owt_curves.csv"


def published() -> dict[str, Curve]:
    """Loss curves that arXiv 2603.10055 shows for web text."""
    points: dict[str, list[tuple[float, float]]] = {}
    with PUBLISHED.open(encoding="utf-8", newline="") as handle:
        for row in csv.DictReader(handle):
            points.setdefault(row["upstream"], []).append((float(row["tokens"]), float(row["val_loss"])))
    return {name: Curve.of(found) for name, found in points.items()}


def test_published_nca() -> None:
    curves = published()
    found = compare(curves["scratch"], curves["nca"], 164e6)
    assert f"{found.gain_percent:.3f}" == "5.729"
    assert f"{found.speedup:.4f} {found.speedup_at_end:.4f} {found.charged_speedup:.4f}" == "1.4724 1.4898 1.4336"
    assert found.flat_tail and not found.censored and not found.at_first


def test_published_dyck() -> None:
    curves = published()
    found = compare(curves["scratch"], curves["dyck"], 164e6)
    assert f"{found.gain_percent:.3f} {found.speedup:.4f} {found.speedup_at_end:.4f}" == "2.064 1.2393 1.2539"


def test_published_c4_is_censored() -> None:
    curves = published()
    found = compare(curves["scratch"], curves["c4"], 164e6)
    assert found.censored and f"{found.speedup_bound:.4f}" == "0.9884"
    assert all(math.isnan(v) for v in (found.t_x, found.speedup, found.charged_speedup, found.mrs, found.token_saving))


def test_published_speedup_depends_on_the_target() -> None:
    """At a target 0.003 nats looser than the baseline's final loss the speed-up is 1.385, not 1.49."""
    curves = published()
    ratio = speedup_over_targets(curves["scratch"], curves["nca"], np.array([2.688]))
    assert float(ratio[0]) == pytest.approx(1.385, abs=1e-3)


def test_hand_values() -> None:
    baseline, arm = Curve.of([(100, 3.0), (200, 2.0)]), Curve.of([(100, 2.5), (200, 1.5)])
    found = compare(baseline, arm, 30, 50)
    assert (found.t_b, found.t_own, found.t_x) == (200, 200, 150)
    assert found.gain_nats == 0.5
    assert found.speedup == pytest.approx(200 / 150)
    assert found.charged_speedup == pytest.approx(200 / 180)
    assert found.flop_charged_speedup == 1.0
    assert found.token_saving == pytest.approx(0.1)
    assert found.mrs == pytest.approx(50 / 30)


def test_reached_at_the_first_evaluation_is_a_bound() -> None:
    found = compare(Curve.of([(100, 3.0), (200, 2.0)]), Curve.of([(100, 1.9), (200, 1.0)]), 0)
    assert found.at_first and found.t_x == 100 and math.isnan(found.mrs)


def test_arm_on_a_longer_horizon_is_read_at_t_b() -> None:
    found = compare(Curve.of([(100, 3.0), (200, 2.0)]), Curve.of([(150, 2.4), (250, 2.0)]), 50)
    assert found.loss_arm == pytest.approx(2.2) and found.t_x == 250 and not found.censored


def test_arm_that_ends_before_t_b_has_no_gain() -> None:
    assert math.isnan(compare(Curve.of([(100, 3.0), (200, 2.0)]), Curve.of([(100, 2.9)]), 0).gain_nats)


@pytest.mark.parametrize("points", [[], [(1.0, math.nan)], [(1.0, 2.0), (1.0, 3.0)], [(1.0, math.inf)]])
def test_no_curve(points: list[tuple[float, float]]) -> None:
    with pytest.raises(ValueError, match="finite losses"):
        Curve.of(points)


losses = st.lists(st.integers(1000, 9000), min_size=2, max_size=12).map(lambda v: [x / 1000 for x in v])


@st.composite
def curves(draw: st.DrawFn) -> Curve:
    values = draw(losses)
    steps = draw(st.lists(st.integers(1, 50), min_size=len(values), max_size=len(values)))
    return Curve(np.cumsum(steps).astype(float), np.array(values))


@RELAXED
@given(curves(), curves(), st.integers(1, 1000), st.integers(-500, 500))
def test_unit_of_tokens_and_level_of_loss_change_nothing(a: Curve, b: Curve, scale: int, shift: int) -> None:
    plain = compare(a, b, 7)
    moved = compare(
        Curve(a.tokens * scale, a.losses + shift / 256), Curve(b.tokens * scale, b.losses + shift / 256), 7 * scale
    )
    if not moved.censored and not plain.censored:
        assert moved.charged_speedup == pytest.approx(plain.charged_speedup, rel=1e-6)
        assert moved.token_saving == pytest.approx(plain.token_saving, rel=1e-5, abs=1e-6)


@RELAXED
@given(curves())
def test_a_run_against_itself(curve: Curve) -> None:
    found = compare(curve, curve, 0)
    assert found.gain_nats == 0 and found.speedup == 1 and not found.censored


@RELAXED
@given(curves(), st.integers(0, 10_000), st.integers(0, 10_000))
def test_a_harder_target_is_reached_later(curve: Curve, one: int, other: int) -> None:
    easy, hard = crossing(curve, max(one, other) / 1000), crossing(curve, min(one, other) / 1000)
    if hard is not None:
        assert easy is not None and easy <= hard


@RELAXED
@given(curves(), curves())
def test_speedup_over_targets_is_a_ratio_of_crossings(a: Curve, b: Curve) -> None:
    targets = np.concatenate([targets_between([a, b], 5), a.losses, b.losses - 1 / 512])
    for target, ratio in zip(targets.tolist(), speedup_over_targets(a, b, targets).tolist(), strict=True):
        slow, fast = crossing(a, target), crossing(b, target)
        if slow is None or fast is None or target >= min(a.losses[0], b.losses[0]):
            assert math.isnan(ratio)
        else:
            assert ratio == slow / fast


@RELAXED
@given(curves(), curves())
def test_bound_holds_the_truth(a: Curve, b: Curve) -> None:
    """An arm that goes on and crosses later has a speed-up below the bound of its censored part."""
    found = compare(a, b, 0)
    if found.censored:
        longer = Curve(np.append(b.tokens, b.last + 1), np.append(b.losses, a.losses[-1]))
        assert compare(a, longer, 0).speedup <= found.speedup_bound


def test_gain_percent_is_of_perplexity() -> None:
    assert gain_percent(0.0) == 0
    assert gain_percent(math.log(2)) == pytest.approx(50)


def test_targets_fall_and_are_shared() -> None:
    targets = targets_between(published().values(), 10)
    assert np.all(np.diff(targets) < 0) and len(targets) == 10
    assert not len(targets_between([], 5))
